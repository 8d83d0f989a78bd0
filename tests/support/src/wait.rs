//! Waiting for conditions, never for a fixed time.

use std::time::{Duration, Instant};

/// The polling interval.
const PAUSE: Duration = Duration::from_millis(50);

/// Polls `check` until it returns `Ok`; panics with its last error after `within`.
pub async fn eventually<T, F>(what: &str, within: Duration, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "{what}: not within {within:?}; last: {why}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
