//! A semaphore that is fair by namespace: the namespace with the lowest usage goes first, no matter how much the
//! others have queued.
//!
//! Start-time fair queueing: each namespace has a virtual time, which grows by the duration of its turns. The waiting
//! namespace with the minimum virtual time is next. A namespace that was idle starts at the virtual time of the most
//! recent turn, so that turns cannot be saved up, and only recent use counts. Within a namespace, waiters are served
//! in order of arrival.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Turns, granted to namespaces. Clones share them.
#[derive(Clone, Debug)]
pub struct FairQueue {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// The maximum number of concurrent turns of a namespace.
    per_namespace: usize,
    /// The virtual time at which the most recent turn began.
    now: Duration,
    namespaces: HashMap<String, Namespace>,
}

/// A namespace that waits, has a turn, or had one recently.
#[derive(Debug, Default)]
struct Namespace {
    /// Its virtual time: the start of its next turn.
    time: Duration,
    active: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A turn. It ends when it is dropped, and its duration is then charged to the namespace.
#[derive(Debug)]
pub struct Turn {
    queue: FairQueue,
    namespace: String,
    begun: Instant,
}

impl FairQueue {
    /// A queue with these maximum numbers of concurrent turns, in total and per namespace.
    #[must_use]
    pub fn new(total: usize, per_namespace: usize) -> Self {
        let state = State { free: total, per_namespace, now: Duration::ZERO, namespaces: HashMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a turn; `None` after the timeout.
    pub async fn turn(&self, namespace: &str, timeout: Duration) -> Option<Turn> {
        let (sender, mut receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            let now = state.now;
            let entry = state.namespaces.entry(namespace.to_owned()).or_default();
            if entry.active == 0 && entry.waiting.is_empty() {
                entry.time = entry.time.max(now);
            }
            entry.waiting.push_back(sender);
        }
        self.hand_out();
        tokio::time::timeout(timeout, &mut receiver).await.ok()?.ok()
    }

    /// How many waiters of a namespace are queued or have a turn.
    #[cfg(test)]
    #[must_use]
    pub fn pending(&self, namespace: &str) -> usize {
        let state = self.lock();
        state
            .namespaces
            .get(namespace)
            .map_or(0, |entry| entry.active + entry.waiting.iter().filter(|waiting| !waiting.is_closed()).count())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(&self) {
        // A turn whose receiver is gone is dropped, which takes the lock; it must therefore not be dropped while the
        // lock is held here.
        while let Some((waiting, turn)) = self.next() {
            drop(waiting.send(turn));
        }
    }

    fn next(&self) -> Option<(oneshot::Sender<Turn>, Turn)> {
        let mut state = self.lock();
        let State { free, per_namespace, now, namespaces } = &mut *state;
        if *free == 0 {
            return None;
        }
        for entry in namespaces.values_mut() {
            entry.waiting.retain(|waiting| !waiting.is_closed());
        }
        let may_go = |entry: &Namespace| entry.active < *per_namespace && !entry.waiting.is_empty();
        let (name, entry) =
            namespaces.iter_mut().filter(|(_, entry)| may_go(entry)).min_by_key(|(_, entry)| entry.time)?;
        let waiting = entry.waiting.pop_front()?;
        entry.active += 1;
        *free -= 1;
        *now = (*now).max(entry.time);
        Some((waiting, Turn { queue: self.clone(), namespace: name.clone(), begun: Instant::now() }))
    }
}

impl Turn {
    /// How long it has lasted.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.queue.lock();
            state.free += 1;
            let lasted = self.begun.elapsed();
            if let Some(entry) = state.namespaces.get_mut(&self.namespace) {
                entry.active -= 1;
                entry.time += lasted;
            }
            // An idle namespace without a remaining charge is equivalent to a new one.
            let now = state.now;
            state.namespaces.retain(|_, entry| entry.active > 0 || !entry.waiting.is_empty() || entry.time > now);
        }
        self.queue.hand_out();
    }
}

#[cfg(test)]
mod tests {
    // A hanging test counts as failed.
    #![allow(clippy::expect_used, clippy::panic)]

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const COST: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_request_does_not_wait_for_a_hundred_requests_of_another_namespace() {
        let queue = FairQueue::new(1, 1);
        let first = queue.turn("mallory", LONG).await.expect("a turn");
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let turn = queue.turn("mallory", LONG).await;
                    tokio::time::sleep(COST).await;
                    drop(turn);
                })
            })
            .collect();
        while queue.pending("mallory") < 101 {
            tokio::task::yield_now().await;
        }
        let mut bob = std::pin::pin!(queue.turn("bob", LONG));
        assert!(futures::poll!(bob.as_mut()).is_pending(), "there is only one turn");
        drop(first);
        let turn = bob.await.expect("a turn");
        assert_eq!(queue.pending("mallory"), 100, "bob has the next turn");
        drop(turn);
        for waiting in crowd {
            waiting.await.expect("a finished task");
        }
        assert_eq!(queue.pending("mallory"), 0);
        assert_eq!(queue.lock().free, 1);
    }

    #[tokio::test]
    async fn a_namespace_with_high_usage_queues_behind_one_with_low_usage() {
        let queue = FairQueue::new(1, 1);
        let holder = queue.turn("holder", LONG).await.expect("a turn");
        // Both are queued at the same time, the expensive one first.
        let mut order = Vec::new();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        for (name, cost) in [("expensive", COST), ("cheap", Duration::ZERO)] {
            for _ in 0..3 {
                let (queue, sender) = (queue.clone(), sender.clone());
                tokio::spawn(async move {
                    let turn = queue.turn(name, LONG).await;
                    let _ = sender.send(name);
                    tokio::time::sleep(cost).await;
                    drop(turn);
                });
            }
            while queue.pending(name) < 3 {
                tokio::task::yield_now().await;
            }
        }
        drop((holder, sender));
        while let Some(name) = receiver.recv().await {
            order.push(name);
        }
        let last_cheap = order.iter().rposition(|name| *name == "cheap").expect("served");
        assert!(last_cheap <= 3, "the cheap ones wait for no more than one expensive one: {order:?}");
    }

    #[tokio::test]
    async fn a_cancelled_waiter_leaves_the_queue() {
        let queue = FairQueue::new(1, 1);
        let first = queue.turn("a", LONG).await.expect("a turn");
        assert!(queue.turn("a", Duration::ZERO).await.is_none());
        assert!(queue.turn("b", Duration::ZERO).await.is_none());
        assert_eq!((queue.pending("a"), queue.pending("b")), (1, 0));
        drop(first);
        assert!(queue.turn("b", Duration::from_secs(1)).await.is_some());
        assert!(queue.lock().namespaces.values().all(|entry| entry.active == 0 && entry.waiting.is_empty()));
        assert_eq!(queue.lock().free, 1);
    }

    #[tokio::test]
    async fn one_namespace_never_has_all_turns() {
        let queue = FairQueue::new(2, 1);
        let _one = queue.turn("mallory", LONG).await.expect("a turn");
        assert!(queue.turn("mallory", Duration::ZERO).await.is_none());
        assert!(queue.turn("bob", Duration::ZERO).await.is_some());
    }
}
