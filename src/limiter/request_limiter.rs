//! The limiter that all requests pass through: the state, the clock, and the callback that wakes waiters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::limiter::state::{Acquired, Decision, LimiterState};
use crate::limiter::types::{Delay, HostKey, HostOutcome, LimiterStats, Limits, Waiter};

/// Whether a request may be sent.
#[derive(Debug)]
pub enum Admission {
    /// It may be sent now.
    Granted(Permit),
    /// The waiter is queued, and woken when there is a permit for it.
    Queued(Delay),
}

/// Requeues an integration.
pub type WakeFn = Box<dyn Fn(&Waiter) + Send + Sync>;

/// The limiter in front of all token endpoints. It never blocks: a waiter is queued without a task and woken when
/// there is a permit, which is reserved so that a later arrival cannot take it.
pub struct RequestLimiter {
    state: Mutex<LimiterState>,
    /// The next deadline may have changed.
    changed: Notify,
    wake: WakeFn,
}

impl std::fmt::Debug for RequestLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestLimiter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The permit to send one request. If it is dropped without an outcome, the state of the host is not affected.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<RequestLimiter>,
    host: HostKey,
    waiter: Waiter,
    completed: bool,
}

impl Permit {
    /// Completes the request.
    pub fn complete(mut self, outcome: HostOutcome) {
        self.completed = true;
        self.limiter.complete(&self.host, &self.waiter, Some(outcome));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.completed {
            self.limiter.complete(&self.host, &self.waiter, None);
        }
    }
}

impl RequestLimiter {
    /// A limiter with all permits free. `wake` is called for each waiter for which a permit is reserved.
    #[must_use]
    pub fn new(limits: Limits, wake: WakeFn) -> Self {
        Self { state: Mutex::new(LimiterState::new(limits)), changed: Notify::new(), wake }
    }

    /// Requests a permit. `expires` is the expiry of the token to renew, or the current time if there is none.
    pub fn acquire(self: &Arc<Self>, waiter: &Waiter, host: &HostKey, expires: Timestamp) -> Admission {
        let Acquired { decision, woken } = self.state().acquire(waiter, host, expires, Instant::now());
        self.wake_all(&woken);
        match decision {
            Decision::Granted => {
                let (limiter, host, waiter) = (Arc::clone(self), host.clone(), waiter.clone());
                Admission::Granted(Permit { limiter, host, waiter, completed: false })
            }
            Decision::Queued(delay) => {
                self.changed.notify_one();
                Admission::Queued(delay)
            }
        }
    }

    /// Records that an integration no longer wants to send a request.
    pub fn cancel(&self, uid: &str) {
        let woken = self.state().cancel(uid, Instant::now());
        self.wake_all(&woken);
    }

    /// Drops all state of a deleted integration.
    pub fn forget(&self, uid: &str, namespace: &str) {
        let woken = self.state().forget(uid, namespace, Instant::now());
        self.wake_all(&woken);
    }

    /// Whether the host at which this integration failed has recovered: its circuit was open, and it has responded
    /// since.
    #[must_use]
    pub fn has_recovered(&self, uid: &str) -> bool {
        self.state().has_recovered(uid)
    }

    /// Whether an integration is queued, or was woken and has not requested a permit yet.
    #[must_use]
    pub fn is_waiting(&self, uid: &str) -> bool {
        self.state().is_waiting(uid)
    }

    fn complete(&self, host: &HostKey, waiter: &Waiter, outcome: Option<HostOutcome>) {
        let mut state = self.state();
        let woken = state.complete(host, waiter, outcome, Instant::now(), Timestamp::now());
        let busy = state.is_busy();
        drop(state);
        self.wake_all(&woken);
        if busy {
            self.changed.notify_one();
        }
    }

    /// Wakes the waiters that become ready as time passes: probes, paced requests, and the next waiter after an
    /// expired reservation.
    pub async fn run(&self) {
        loop {
            let (woken, next) = self.state().tick(Instant::now());
            self.wake_all(&woken);
            match next {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next.into(), self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The state as numbers.
    #[must_use]
    pub fn stats(&self) -> LimiterStats {
        self.state().stats()
    }

    fn wake_all(&self, woken: &[Waiter]) {
        for waiter in woken {
            (self.wake)(waiter);
        }
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
