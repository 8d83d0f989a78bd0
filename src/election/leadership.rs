//! Tracks whether this process may act, and for how long this is certain.
//!
//! One of several replicas holds the lease and acts; the others keep their caches synced. The holder counts the lease
//! from the time *before* its renewal was sent, by the monotonic clock or the wall clock, whichever has advanced
//! further; the others count from the time *after* they observed the renewal. Therefore, when another replica takes
//! over the lease, its previous holder already considers it expired, even if that process was frozen, suspended or
//! disconnected in the meantime.
//!
//! The fence: a token request is sent only if the lease outlives the request's timeout and the write that follows. If
//! the remaining lease is too short, a longer one is requested first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::clock::Stopwatch;

/// Duration of the lease after its last renewal. A killed leader is replaced within 15 s: this duration, plus up to
/// one second until the others have observed its last renewal.
pub const LEASE_DURATION: Duration = Duration::from_secs(14);
/// Interval between renewals by the holder.
pub const RENEW_INTERVAL: Duration = Duration::from_millis(1500);
/// The part of the lease that is reserved for writing the response of a request.
pub const WRITE_RESERVE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
enum LeaseState {
    /// There is no election, so this process always acts.
    NoElection,
    /// Another process holds the lease, or none does.
    Standby,
    /// This process holds the lease.
    Leader {
        /// The time just before the lease was acquired or renewed.
        since: Stopwatch,
        /// The duration of the lease since then.
        length: Duration,
        /// The duration of the call that acquired or renewed it.
        cost: Duration,
    },
}

impl LeaseState {
    /// The remaining time of the lease; zero if it is not held.
    fn left(&self) -> Duration {
        match self {
            Self::NoElection => Duration::MAX,
            Self::Standby => Duration::ZERO,
            Self::Leader { since, length, cost: _ } => length.saturating_sub(since.elapsed()),
        }
    }
}

/// Whether this process may act.
#[derive(Debug)]
pub struct Leadership {
    state: watch::Sender<LeaseState>,
    /// The lease time that each request in flight needs.
    needs: Mutex<Vec<Duration>>,
    /// How often this process has become the leader, and has stopped being it.
    transitions: [AtomicU64; 2],
}

impl Leadership {
    /// For a single process without election.
    #[must_use]
    pub fn without_election() -> Self {
        Self::new(LeaseState::NoElection)
    }

    /// For one of several replicas; it does not lead yet.
    #[must_use]
    pub fn standby() -> Self {
        Self::new(LeaseState::Standby)
    }

    fn new(state: LeaseState) -> Self {
        Self { state: watch::Sender::new(state), needs: Mutex::default(), transitions: Default::default() }
    }

    /// Whether this process may act right now.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        !self.state.borrow().left().is_zero()
    }

    /// The remaining time of the lease; zero if it is not held.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.state.borrow().left()
    }

    /// Counts a transition, for the metrics.
    pub fn record_transition(&self, is_leader: bool) {
        self.transitions[usize::from(!is_leader)].fetch_add(1, Ordering::Relaxed);
    }

    /// How often this process has become the leader, and has stopped being it.
    #[must_use]
    pub fn transitions(&self) -> (u64, u64) {
        let [acquired, lost] = &self.transitions;
        (acquired.load(Ordering::Relaxed), lost.load(Ordering::Relaxed))
    }

    /// When the lease was last acquired or renewed, as the time since the Unix epoch; `None` if it is not held.
    #[must_use]
    pub fn renewed_at(&self) -> Option<Duration> {
        match *self.state.borrow() {
            LeaseState::Leader { since, .. } => since.wall.duration_since(SystemTime::UNIX_EPOCH).ok(),
            LeaseState::NoElection | LeaseState::Standby => None,
        }
    }

    /// Records that the lease was acquired or renewed by a call that started at `since`. Returns whether there was a
    /// gap, however short, in which the lease was not held: integrations that were reconciled in it must be
    /// reconciled again.
    pub fn renewed(&self, since: Stopwatch, length: Duration) -> bool {
        let mut gained = false;
        self.state.send_modify(|state| {
            gained = state.left().is_zero();
            *state = LeaseState::Leader { since, length, cost: since.elapsed() };
        });
        gained
    }

    /// Records that the lease was released, or that another replica holds it.
    pub fn lost(&self) {
        self.state.send_replace(LeaseState::Standby);
    }

    /// The lease duration that the next renewal must request.
    #[must_use]
    pub fn required_lease_duration(&self) -> Duration {
        let cost = match *self.state.borrow() {
            LeaseState::Leader { cost, .. } => cost,
            LeaseState::NoElection | LeaseState::Standby => Duration::ZERO,
        };
        let need = self.needs().iter().max().copied().unwrap_or_default();
        LEASE_DURATION.max(need + cost + RENEW_INTERVAL)
    }

    /// Waits until the lease outlives a request with this timeout and the write of its response; `None` if this
    /// process is not the leader. While the fence exists, renewals keep the lease long enough.
    pub async fn fence(&self, timeout: Duration) -> Option<Fence<'_>> {
        let need = timeout + WRITE_RESERVE;
        let fence = Fence { leadership: self, need };
        self.needs().push(need);
        let mut state = self.state.subscribe();
        loop {
            let left = state.borrow_and_update().left();
            match left {
                none if none.is_zero() => return None,
                enough if enough >= need => return Some(fence),
                // The next renewal extends the lease.
                some => {
                    let _ = tokio::time::timeout(some, state.changed()).await;
                }
            }
        }
    }

    fn needs(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Proof that the lease outlives a request; dropped after the request and its write.
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

    fn stopwatch_started_ago(passed: Duration) -> Stopwatch {
        let now = Stopwatch::now();
        Stopwatch { monotonic: now.monotonic.checked_sub(passed).unwrap_or(now.monotonic), wall: now.wall - passed }
    }

    #[test]
    fn a_lease_expires_by_the_clock_that_has_advanced_further() {
        let leadership = Leadership::standby();
        assert!(!leadership.is_leader());
        assert!(leadership.renewed(stopwatch_started_ago(Duration::from_secs(1)), LEASE_DURATION), "gained");
        assert!(leadership.is_leader());
        assert!(!leadership.renewed(stopwatch_started_ago(LEASE_DURATION), LEASE_DURATION), "held all the time");
        assert!(!leadership.is_leader(), "it has expired by both clocks");
        assert!(leadership.renewed(Stopwatch::now(), LEASE_DURATION), "it had expired before the renewal");
        let now = Stopwatch::now();
        leadership.renewed(Stopwatch { wall: now.wall - LEASE_DURATION, ..now }, LEASE_DURATION);
        assert!(!leadership.is_leader(), "the machine was suspended: only the wall clock advanced");
        leadership.renewed(
            Stopwatch { wall: now.wall + LEASE_DURATION, ..stopwatch_started_ago(LEASE_DURATION) },
            LEASE_DURATION,
        );
        assert!(!leadership.is_leader(), "the wall clock was set back");
        leadership.renewed(Stopwatch { wall: now.wall + LEASE_DURATION, ..now }, LEASE_DURATION);
        assert!(leadership.is_leader(), "a wall clock that was set back does not shorten the lease");
    }

    #[tokio::test]
    async fn a_request_waits_for_a_lease_that_outlives_it() {
        let leadership = Leadership::standby();
        assert!(leadership.fence(Duration::from_secs(1)).await.is_none(), "a standby replica sends nothing");
        leadership.renewed(Stopwatch::now(), LEASE_DURATION);
        assert!(leadership.fence(Duration::from_secs(10)).await.is_some());
        assert_eq!(leadership.required_lease_duration(), LEASE_DURATION, "no request is in flight");

        let long = leadership.fence(Duration::from_mins(1));
        tokio::pin!(long);
        tokio::select! {
            biased;
            _ = &mut long => panic!("the lease does not outlive a request of 60 s"),
            () = std::future::ready(()) => {}
        }
        assert!(
            leadership.required_lease_duration() >= Duration::from_mins(1) + WRITE_RESERVE,
            "a longer lease is requested: {:?}",
            leadership.required_lease_duration()
        );
        leadership.renewed(Stopwatch::now(), leadership.required_lease_duration());
        let fence = long.await;
        assert!(fence.is_some());
        drop(fence);
        assert_eq!(leadership.required_lease_duration(), LEASE_DURATION);
    }

    #[tokio::test]
    async fn a_waiting_request_is_abandoned_when_the_lease_is_lost() {
        let leadership = Leadership::standby();
        leadership.renewed(stopwatch_started_ago(Duration::from_secs(9)), LEASE_DURATION);
        let waits = leadership.fence(Duration::from_secs(10));
        tokio::pin!(waits);
        tokio::select! {
            biased;
            _ = &mut waits => panic!("5 s do not outlive 10 s"),
            () = std::future::ready(()) => {}
        }
        leadership.lost();
        assert!(waits.await.is_none());
        assert_eq!(leadership.required_lease_duration(), LEASE_DURATION);
    }
}
