//! Places at which a process can be made to die, compiled only for tests (feature `failpoints`).

/// A place, by its name. Without the feature it is nothing at all.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;

/// Lets the process die, as by a signal, when it first comes by the place that `OAUTH_OPERATOR_FAILPOINT` names.
#[cfg(feature = "failpoints")]
pub fn arm() {
    if let Ok(name) = std::env::var("OAUTH_OPERATOR_FAILPOINT")
        && let Err(problem) = fail::cfg_callback(name, || std::process::abort())
    {
        tracing::error!(problem, "the failpoint cannot be armed");
    }
}
