//! Named points at which a test can crash the process; compiled only with the feature `failpoints`.

/// A failpoint with this name. Without the feature, it expands to nothing.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;

/// Aborts the process, as if by a signal, when it first reaches the failpoint named in `OAUTH_OPERATOR_FAILPOINT`.
#[cfg(feature = "failpoints")]
pub fn arm() {
    if let Ok(name) = std::env::var("OAUTH_OPERATOR_FAILPOINT")
        && let Err(problem) = fail::cfg_callback(name, || std::process::abort())
    {
        tracing::error!(problem, "failed to arm the failpoint");
    }
}
