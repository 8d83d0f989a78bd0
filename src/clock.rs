//! Detects steps of the wall clock relative to the monotonic clock.
//!
//! The expiry of tokens is measured by the wall clock, timers by the monotonic clock. They diverge if the wall clock
//! is set, or if the machine is suspended: then only the wall clock advances.

use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};

/// How often the clocks are compared.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A smaller difference comes from gradual clock correction, which does not affect the expiry of tokens.
const STEP_THRESHOLD: SignedDuration = SignedDuration::from_millis(750);

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    wall: Timestamp,
    monotonic: Instant,
}

impl ClockReading {
    fn now() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    /// How much further the wall clock has advanced than the monotonic one.
    fn step_since(self, later: Self) -> SignedDuration {
        let wall = later.wall.duration_since(self.wall);
        let monotonic = SignedDuration::try_from(later.monotonic.duration_since(self.monotonic)).unwrap_or_default();
        wall.saturating_sub(monotonic)
    }
}

/// Calls `on_step` for each step of the wall clock, forward or back, until dropped.
pub async fn watch_for_steps(on_step: impl Fn(SignedDuration)) {
    let mut known = ClockReading::now();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let now = ClockReading::now();
        let step = known.step_since(now);
        // Each reading is compared with the previous one, so that gradual corrections do not add up to a step.
        known = now;
        if step.abs() >= STEP_THRESHOLD {
            on_step(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_difference_between_the_clocks() {
        let before = ClockReading::now();
        let after = |wall: i64, monotonic: u64| ClockReading {
            wall: before.wall + SignedDuration::from_secs(wall),
            monotonic: before.monotonic + Duration::from_secs(monotonic),
        };
        assert_eq!(before.step_since(after(1, 1)), SignedDuration::ZERO);
        assert_eq!(
            before.step_since(after(3_601, 1)),
            SignedDuration::from_hours(1),
            "set forward, or the machine was suspended"
        );
        assert_eq!(before.step_since(after(-3_599, 1)), -SignedDuration::from_hours(1), "set back");
        assert_eq!(before.step_since(after(20, 20)), SignedDuration::ZERO, "process frozen: both clocks advanced");
    }
}

/// The wall clock, in whole milliseconds: no reader needs a finer resolution.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// An instant on both clocks. The elapsed time is that of the clock that has advanced further: the monotonic clock
/// may stop while the machine is suspended, and the wall clock may be set back.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    pub(crate) monotonic: Instant,
    pub(crate) wall: SystemTime,
}

impl Stopwatch {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The elapsed time; never less than the actual time.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}
