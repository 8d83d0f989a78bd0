//! Revokes tokens that are no longer used (RFC 7009): bounded per namespace and in total, and fair between namespaces.
//!
//! The queue is only in memory and is lost when the process exits; the tokens then stay valid until they expire. For
//! the same reason an entry may be dropped if its namespace has too many, and is dropped when its integration is
//! deleted.

pub(crate) mod deletions;
pub(crate) mod job;
pub(crate) mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::api::reason::Reason;
use crate::controller::metrics::counters::RevocationCounter;
use crate::controller::revoker::deletions::{DeletionPermit, Deletions, WakeFn};
use crate::controller::revoker::job::RevocationJob;
use crate::controller::revoker::queue::{Bounds, Item, Next, Queue};
use crate::oauth::client::Client;
use crate::oauth::error::RequestError;
use crate::spec::advice;

/// The bounds of revocations after a renewal. They are not urgent, so renewals take precedence.
const BOUNDS: Bounds = Bounds {
    per_namespace: 64,
    total: 1_024,
    bytes_per_namespace: 1 << 20,
    bytes_total: 8 << 20,
    in_flight_per_namespace: 1,
    in_flight: 16,
};
/// The timeout of one revocation after a renewal: an endpoint that does not respond occupies a slot only for a short
/// time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a namespace may log another line.
pub type MayLog = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Revokes tokens, now or later. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Revoker {
    http: Client,
    queue: Arc<Mutex<Queue<RevocationJob>>>,
    changed: Arc<Notify>,
    deletions: Deletions,
    counter: RevocationCounter,
}

impl Revoker {
    /// A revoker that uses this client. `wake` is called for a deletion that may try again.
    #[must_use]
    pub fn new(http: Client, counter: RevocationCounter, wake: WakeFn) -> Self {
        Self {
            http,
            queue: Arc::new(Mutex::new(Queue::new(BOUNDS))),
            changed: Arc::default(),
            deletions: Deletions::new(wake),
            counter,
        }
    }

    /// A permit to revoke all tokens of a deleted integration; `None` if the maximum is in flight. An integration
    /// without a permit is woken when one is free.
    #[must_use]
    pub fn try_acquire_deletion(&self, namespace: &str, name: &str) -> Option<DeletionPermit> {
        self.deletions.try_acquire(namespace, name)
    }

    /// Revokes a token.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] without secrets.
    pub async fn revoke(&self, job: &RevocationJob) -> Result<(), RequestError> {
        let outcome =
            self.http.revoke(&job.token_request, &job.credentials, &job.revocation).await.map_err(advice::explain);
        self.counter.count(outcome.as_ref().err());
        outcome
    }

    /// Revokes a token after a delay, unless the integration is deleted by then or its namespace has too many queued
    /// revocations.
    pub fn revoke_after(&self, after: Duration, job: RevocationJob) {
        let (namespace, due) = (job.namespace.clone(), Instant::now() + after);
        let item = Item { uid: job.uid.clone(), due, bytes: job.bytes(), work: job };
        let dropped = self.change(|queue| queue.push(&namespace, item));
        self.counter.dropped("limit", dropped);
        if dropped > 0 {
            debug!(%namespace, dropped, "too many revocations are queued: the oldest were dropped, and their tokens stay valid until they expire");
        }
    }

    /// Drops the queued revocations of a deleted integration.
    pub fn forget(&self, namespace: &str, uid: &str) {
        let dropped = self.change(|queue| queue.forget(namespace, uid));
        self.counter.dropped("deleted", dropped);
    }

    /// Revokes tokens when they are due, forever. Failures are logged if `may_log` allows it.
    pub async fn run(&self, may_log: MayLog) {
        loop {
            let next = self.change_quietly(|queue| queue.next(Instant::now()));
            match next {
                Next::Start(namespace, job) => self.start(namespace, job, Arc::clone(&may_log)),
                Next::At(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Next::Idle => self.changed.notified().await,
            }
        }
    }

    fn start(&self, namespace: String, job: RevocationJob, may_log: MayLog) {
        let running = Running { revoker: self.clone(), namespace };
        tokio::spawn(async move {
            let revoked = tokio::time::timeout(TIMEOUT, running.revoker.revoke(&job)).await;
            let late = || {
                let failure = RequestError::new(Reason::RequestTimedOut, format!("it took longer than {TIMEOUT:?}"));
                running.revoker.counter.count(Some(&failure));
                failure
            };
            let (namespace, name) = (&job.namespace, &job.name);
            match revoked.unwrap_or_else(|_| Err(late())) {
                Ok(()) => debug!(namespace, name, "revoked the superseded token"),
                Err(_) if !may_log(namespace) => {}
                Err(failure) => warn!(
                    namespace,
                    name,
                    reason = %failure.reason,
                    "failed to revoke the superseded token: {}",
                    failure.message
                ),
            }
        });
    }

    fn change<R>(&self, change: impl FnOnce(&mut Queue<RevocationJob>) -> R) -> R {
        let result = self.change_quietly(change);
        self.changed.notify_one();
        result
    }

    fn change_quietly<R>(&self, change: impl FnOnce(&mut Queue<RevocationJob>) -> R) -> R {
        let mut queue: MutexGuard<'_, _> = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut queue);
        self.counter.waiting(queue.len());
        result
    }
}

/// A revocation in flight. Dropping it frees its slot, even after a panic.
struct Running {
    revoker: Revoker,
    namespace: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.revoker.change(|queue| queue.finished(&self.namespace));
    }
}
