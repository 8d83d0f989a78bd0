//! Whether this process may act, and for how long that is certain.
//!
//! Of several replicas one holds the lease and acts; the others keep their watches warm. The holder counts the lease from
//! the moment *before* its renewal was sent, by a clock that nobody can set and by the wall clock, whichever has moved on
//! further; the others count from the moment *after* they saw the renewal. So when another takes the lease over, its former
//! holder has stopped believing in it, also when it was frozen, suspended or cut off meanwhile.
//!
//! The fence: a token request is sent only when the lease outlives the request's time-out and the write that follows. One
//! that needs more than the lease has asks for a longer lease first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

/// How long a lease is held after its last renewal. A killed leader is replaced within 15 s: this, and the second that passes
/// at most until the others have seen its last renewal.
pub const LEASE: Duration = Duration::from_secs(14);
/// How often the holder renews it.
pub const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// The part of the lease that is kept for the write of what a request brings.
pub const WRITE: Duration = Duration::from_secs(2);

/// A moment by two clocks. What has passed since is what the faster of them says: the monotonic clock may stand still while
/// the machine is suspended, and the wall clock may be set back.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// What has passed since, at most.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// There is no election: this process acts on its own.
    Alone,
    /// Another holds the lease, or nobody does.
    Standby,
    /// This process holds the lease.
    Holding {
        /// The moment before it was taken or renewed.
        since: Moment,
        /// For how long from then on.
        length: Duration,
        /// What the call cost of it.
        cost: Duration,
    },
}

impl Standing {
    /// How much of the lease is left; nothing where it is not held.
    fn left(&self) -> Duration {
        match self {
            Self::Alone => Duration::MAX,
            Self::Standby => Duration::ZERO,
            Self::Holding { since, length, cost: _ } => length.saturating_sub(since.passed()),
        }
    }
}

/// Whether this process may act.
#[derive(Debug)]
pub struct Leadership {
    standing: watch::Sender<Standing>,
    /// What the requests under way need of the lease.
    needs: Mutex<Vec<Duration>>,
}

impl Leadership {
    /// For a process that is alone.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Standing::Alone)
    }

    /// For one of several; it does not lead yet.
    #[must_use]
    pub fn standby() -> Self {
        Self::new(Standing::Standby)
    }

    fn new(standing: Standing) -> Self {
        Self { standing: watch::Sender::new(standing), needs: Mutex::default() }
    }

    /// Whether this process may act right now.
    #[must_use]
    pub fn leads(&self) -> bool {
        !self.standing.borrow().left().is_zero()
    }

    /// How much of the lease is left; nothing where it is not held.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.standing.borrow().left()
    }

    /// The lease was taken or renewed by a call that was begun at that moment. Returns whether it was not held right before,
    /// be it for an instant: who looked then has done nothing, and has to look again.
    pub fn holds(&self, since: Moment, length: Duration) -> bool {
        let mut gained = false;
        self.standing.send_modify(|standing| {
            gained = standing.left().is_zero();
            *standing = Standing::Holding { since, length, cost: since.passed() };
        });
        gained
    }

    /// The lease was given up, or another has it.
    pub fn lost(&self) {
        self.standing.send_replace(Standing::Standby);
    }

    /// How long a lease the next renewal has to ask for.
    #[must_use]
    pub fn wanted(&self) -> Duration {
        let cost = match *self.standing.borrow() {
            Standing::Holding { cost, .. } => cost,
            Standing::Alone | Standing::Standby => Duration::ZERO,
        };
        let need = self.needs().iter().max().copied().unwrap_or_default();
        LEASE.max(need + cost + RENEW_EVERY)
    }

    /// Waits until the lease outlives a request of this time-out and the write of its answer; `None` where this process does
    /// not lead. The lease is kept long enough while the fence is there.
    pub async fn fence(&self, timeout: Duration) -> Option<Fence<'_>> {
        let need = timeout + WRITE;
        let fence = Fence { leadership: self, need };
        self.needs().push(need);
        let mut standing = self.standing.subscribe();
        loop {
            let left = standing.borrow_and_update().left();
            match left {
                none if none.is_zero() => return None,
                enough if enough >= need => return Some(fence),
                // The next renewal brings more.
                some => {
                    let _ = tokio::time::timeout(some, standing.changed()).await;
                }
            }
        }
    }

    fn needs(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the lease outlives a request. Dropped: the request and its write are over.
#[derive(Debug)]
pub struct Fence<'a> {
    leadership: &'a Leadership,
    need: Duration,
}

impl Drop for Fence<'_> {
    fn drop(&mut self) {
        let mut needs = self.leadership.needs();
        if let Some(index) = needs.iter().position(|need| *need == self.need) {
            needs.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(passed: Duration) -> Moment {
        let now = Moment::now();
        Moment { monotonic: now.monotonic.checked_sub(passed).unwrap_or(now.monotonic), wall: now.wall - passed }
    }

    #[test]
    fn a_lease_ends_by_the_clock_that_has_moved_on_further() {
        let leadership = Leadership::standby();
        assert!(!leadership.leads());
        assert!(leadership.holds(ago(Duration::from_secs(1)), LEASE), "gained");
        assert!(leadership.leads());
        assert!(!leadership.holds(ago(LEASE), LEASE), "held all the time");
        assert!(!leadership.leads(), "by both clocks");
        assert!(leadership.holds(Moment::now(), LEASE), "it had run out before it was renewed");
        let now = Moment::now();
        leadership.holds(Moment { wall: now.wall - LEASE, ..now }, LEASE);
        assert!(!leadership.leads(), "the machine was suspended: only the wall clock went on");
        leadership.holds(Moment { wall: now.wall + LEASE, ..ago(LEASE) }, LEASE);
        assert!(!leadership.leads(), "the wall clock was set back");
        leadership.holds(Moment { wall: now.wall + LEASE, ..now }, LEASE);
        assert!(leadership.leads(), "a wall clock that was set back takes nothing away");
    }

    #[tokio::test]
    async fn a_request_waits_for_a_lease_that_outlives_it() {
        let leadership = Leadership::standby();
        assert!(leadership.fence(Duration::from_secs(1)).await.is_none(), "a standby sends nothing");
        leadership.holds(Moment::now(), LEASE);
        assert!(leadership.fence(Duration::from_secs(10)).await.is_some());
        assert_eq!(leadership.wanted(), LEASE, "nothing is under way any more");

        let long = leadership.fence(Duration::from_mins(1));
        tokio::pin!(long);
        tokio::select! {
            biased;
            _ = &mut long => panic!("the lease does not outlive a request of 60 s"),
            () = std::future::ready(()) => {}
        }
        assert!(
            leadership.wanted() >= Duration::from_mins(1) + WRITE,
            "a longer one is asked for: {:?}",
            leadership.wanted()
        );
        leadership.holds(Moment::now(), leadership.wanted());
        let fence = long.await;
        assert!(fence.is_some());
        drop(fence);
        assert_eq!(leadership.wanted(), LEASE);
    }

    #[tokio::test]
    async fn a_request_that_waits_is_given_up_with_the_lease() {
        let leadership = Leadership::standby();
        leadership.holds(ago(Duration::from_secs(9)), LEASE);
        let waits = leadership.fence(Duration::from_secs(10));
        tokio::pin!(waits);
        tokio::select! {
            biased;
            _ = &mut waits => panic!("5 s do not outlive 10 s"),
            () = std::future::ready(()) => {}
        }
        leadership.lost();
        assert!(waits.await.is_none());
        assert_eq!(leadership.wanted(), LEASE);
    }
}
