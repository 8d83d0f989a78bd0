//! Whether the wall clock runs as the monotonic one does.
//!
//! Tokens live by the wall clock, timers by the monotonic one. They part when somebody sets the wall clock, or when the
//! machine is suspended, during which only the wall clock goes on.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(1);
/// What is less than this is a clock that is being corrected slowly, and no token ends by it.
const STEP: SignedDuration = SignedDuration::from_millis(750);

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall: Timestamp,
    monotonic: Instant,
}

impl Clocks {
    fn now() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    /// How much further the wall clock has gone than the monotonic one.
    fn step_to(self, later: Self) -> SignedDuration {
        let wall = later.wall.duration_since(self.wall);
        let monotonic = SignedDuration::try_from(later.monotonic.duration_since(self.monotonic)).unwrap_or_default();
        wall.saturating_sub(monotonic)
    }
}

/// Tells of each step of the wall clock, forward or back, until dropped.
pub async fn watch(stepped: impl Fn(SignedDuration)) {
    let mut known = Clocks::now();
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Clocks::now();
        let step = known.step_to(now);
        // Slow corrections do not add up to a step: the comparison begins anew each time.
        known = now;
        if step.abs() >= STEP {
            stepped(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_the_clocks_differ_by() {
        let before = Clocks::now();
        let after = |wall: i64, monotonic: u64| Clocks {
            wall: before.wall + SignedDuration::from_secs(wall),
            monotonic: before.monotonic + Duration::from_secs(monotonic),
        };
        assert_eq!(before.step_to(after(1, 1)), SignedDuration::ZERO);
        assert_eq!(before.step_to(after(3_601, 1)), SignedDuration::from_hours(1), "forward, or suspended");
        assert_eq!(before.step_to(after(-3_599, 1)), -SignedDuration::from_hours(1), "back");
        assert_eq!(before.step_to(after(20, 20)), SignedDuration::ZERO, "frozen: both went on");
    }
}
