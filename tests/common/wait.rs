//! Waiting for conditions: never for a time that should be enough.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` returns `Ok`; panics with its last words after `within`.
pub async fn eventually<T, F>(what: &str, within: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "{what}: not within {within:?}; last: {why}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
