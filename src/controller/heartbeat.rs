//! Shows whether the main loop makes progress: the loop reports it, and other threads read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the main loop reports that it is alive, unless it is busy.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// A main loop without a heartbeat for this time is considered stuck: `/healthz` fails, and the lease is no longer
/// renewed. Much longer than any work that a tenant can cause, and than the graceful shutdown of 25 s.
pub const STALL_LIMIT: Duration = Duration::from_mins(1);

/// The last heartbeat of the main loop.
#[derive(Debug)]
pub struct Heartbeat {
    start: Instant,
    /// Milliseconds from `start`.
    last: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Heartbeat {
    /// Records that the main loop is alive.
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Only the value matters, not the order of other writes.
        self.last.store(now, Ordering::Relaxed);
    }

    /// The time since the last heartbeat, or since the start.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Whether there was no heartbeat for too long.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.silent_for() >= STALL_LIMIT
    }

    /// Records heartbeats as long as it is polled. Never completes.
    pub async fn keep(&self) {
        loop {
            self.beat();
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_beat() {
        let start = Instant::now().checked_sub(STALL_LIMIT * 2).expect("the machine runs for longer");
        let heartbeat = Heartbeat { start, last: AtomicU64::new(0) };
        assert!(heartbeat.is_stalled(), "no heartbeat yet");
        heartbeat.beat();
        assert!(!heartbeat.is_stalled());
        assert!(heartbeat.silent_for() < Duration::from_secs(30));
    }
}
