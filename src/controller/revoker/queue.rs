//! A queue of delayed work: bounded per namespace, and fair between namespaces. Pure: the time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Instant;

/// Bounds of a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The maximum number of queued items of one namespace.
    pub per_namespace: usize,
    /// The maximum number of queued items in total.
    pub total: usize,
    /// The maximum size of the queued items of one namespace, in bytes.
    pub bytes_per_namespace: usize,
    /// The maximum size of all queued items, in bytes.
    pub bytes_total: usize,
    /// The maximum number of items of one namespace in flight.
    pub in_flight_per_namespace: usize,
    /// The maximum number of items in flight.
    pub in_flight: usize,
}

/// A queued item.
#[derive(Debug)]
pub struct Item<T> {
    /// The uid of the integration.
    pub uid: String,
    /// When it may start.
    pub due: Instant,
    /// Approximate memory use.
    pub bytes: usize,
    /// The work.
    pub work: T,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Start this item of this namespace; [`Queue::finished`] must follow.
    Start(String, T),
    /// Wait until then.
    At(Instant),
    /// Wait until an item is added or has finished.
    Idle,
}

/// Items by namespace.
#[derive(Debug)]
pub struct Queue<T> {
    bounds: Bounds,
    namespaces: BTreeMap<String, Lane<T>>,
    /// The namespace that was served last; the next one in order is served next.
    last: String,
    in_flight: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<Item<T>>,
    bytes: usize,
    in_flight: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, in_flight: 0 }
    }
}

impl<T> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, namespaces: BTreeMap::new(), last: String::new(), in_flight: 0 }
    }

    /// Adds an item, and returns how many were dropped to make room: the oldest of the same namespace if it has too
    /// many, otherwise the oldest of the namespace that uses the most memory.
    pub fn push(&mut self, namespace: &str, item: Item<T>) -> usize {
        let bounds = self.bounds;
        if item.bytes > bounds.bytes_per_namespace {
            return 1;
        }
        let lane = self.namespaces.entry(namespace.to_owned()).or_default();
        lane.bytes += item.bytes;
        lane.waiting.push_back(item);
        let mut dropped = 0;
        while lane.waiting.len() > bounds.per_namespace || lane.bytes > bounds.bytes_per_namespace {
            lane.drop_oldest();
            dropped += 1;
        }
        while self.len() > bounds.total || self.bytes() > bounds.bytes_total {
            let Some(heaviest) = self.namespaces.values_mut().max_by_key(|lane| lane.bytes) else { break };
            heaviest.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Drops all queued items of an integration, and returns their number.
    pub fn forget(&mut self, namespace: &str, uid: &str) -> usize {
        let Some(lane) = self.namespaces.get_mut(namespace) else { return 0 };
        let before = lane.waiting.len();
        lane.waiting.retain(|item| item.uid != uid);
        lane.bytes = lane.waiting.iter().map(|item| item.bytes).sum();
        let gone = before - lane.waiting.len();
        self.tidy(namespace);
        gone
    }

    /// The next item that may start: round-robin over the namespaces, and by due time within each.
    pub fn next(&mut self, now: Instant) -> Next<T> {
        if self.in_flight >= self.bounds.in_flight {
            return Next::Idle;
        }
        let after = (Bound::Excluded(self.last.clone()), Bound::Unbounded);
        let names = self.namespaces.range(after).chain(self.namespaces.range(..=self.last.clone()));
        let candidates = names.filter(|(_, lane)| lane.in_flight < self.bounds.in_flight_per_namespace);
        let mut soonest: Option<Instant> = None;
        let mut found = None;
        for (name, lane) in candidates {
            let Some((index, due)) = lane.first_due() else { continue };
            if due <= now {
                found = Some((name.clone(), index));
                break;
            }
            soonest = Some(soonest.map_or(due, |known| known.min(due)));
        }
        match found {
            Some((name, index)) => self.start(name, index),
            None => soonest.map_or(Next::Idle, Next::At),
        }
    }

    fn start(&mut self, name: String, index: usize) -> Next<T> {
        let item = self.namespaces.get_mut(&name).and_then(|lane| {
            let item = lane.waiting.remove(index)?;
            lane.bytes -= item.bytes;
            lane.in_flight += 1;
            Some(item)
        });
        let Some(item) = item else { return Next::Idle };
        self.in_flight += 1;
        self.last.clone_from(&name);
        Next::Start(name, item.work)
    }

    /// Records that an item of this namespace has finished.
    pub fn finished(&mut self, namespace: &str) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(lane) = self.namespaces.get_mut(namespace) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        self.tidy(namespace);
    }

    /// The number of queued items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.namespaces.values().map(|lane| lane.waiting.len()).sum()
    }

    /// Whether the queue is empty.
    #[cfg(test)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> usize {
        self.namespaces.values().map(|lane| lane.bytes).sum()
    }

    /// Drops a namespace without items.
    fn tidy(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(|lane| lane.waiting.is_empty() && lane.in_flight == 0) {
            self.namespaces.remove(namespace);
        }
    }
}

impl<T> Lane<T> {
    fn drop_oldest(&mut self) {
        if let Some(item) = self.waiting.pop_front() {
            self.bytes -= item.bytes;
        }
    }

    fn first_due(&self) -> Option<(usize, Instant)> {
        self.waiting.iter().enumerate().map(|(index, item)| (index, item.due)).min_by_key(|(_, due)| *due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        per_namespace: 3,
        total: 5,
        bytes_per_namespace: 1_000,
        bytes_total: 1_500,
        in_flight_per_namespace: 1,
        in_flight: 2,
    };

    fn item(uid: &str, due: Instant, work: &'static str) -> Item<&'static str> {
        Item { uid: uid.to_owned(), due, bytes: 100, work }
    }

    #[test]
    fn a_full_namespace_drops_its_oldest_item() {
        let now = Instant::now();
        let mut queue = Queue::new(BOUNDS);
        let dropped: usize = ["1", "2", "3", "4"].map(|work| queue.push("a", item("u", now, work))).iter().sum();
        assert_eq!((dropped, queue.len()), (1, 3));
        assert_eq!(queue.next(now), Next::Start("a".to_owned(), "2"));
        assert_eq!(queue.push("a", Item { bytes: 1_001, ..item("u", now, "large") }), 1, "by bytes");
        assert_eq!(queue.push("a", Item { bytes: 1_000, ..item("u", now, "5") }), 2, "by bytes");
    }

    #[test]
    fn if_the_total_is_exceeded_the_largest_namespace_drops_an_item() {
        let now = Instant::now();
        let mut queue = Queue::new(BOUNDS);
        for work in ["1", "2", "3"] {
            queue.push("a", item("u", now, work));
        }
        queue.push("b", item("v", now, "b1"));
        queue.push("c", item("w", now, "c1"));
        assert_eq!(queue.push("d", item("x", now, "d1")), 1);
        assert_eq!(
            queue.next(now),
            Next::Start("a".to_owned(), "2"),
            "the oldest item of the largest namespace was dropped"
        );
    }

    #[test]
    fn namespaces_take_turns_and_a_silent_endpoint_delays_only_its_own_namespace() {
        let now = Instant::now();
        let mut queue = Queue::new(BOUNDS);
        for work in ["a1", "a2", "a3"] {
            queue.push("a", item("u", now, work));
        }
        queue.push("b", item("v", now, "b1"));
        queue.push("b", item("v", now, "b2"));
        assert_eq!(queue.next(now), Next::Start("a".to_owned(), "a1"));
        assert_eq!(queue.next(now), Next::Start("b".to_owned(), "b1"));
        assert_eq!(queue.next(now), Next::Idle, "the maximum is in flight");
        queue.finished("b");
        assert_eq!(queue.next(now), Next::Start("b".to_owned(), "b2"), "the first item of a is still in flight");
        queue.finished("a");
        queue.finished("b");
        assert_eq!(queue.next(now), Next::Start("a".to_owned(), "a2"));
    }

    #[test]
    fn items_start_when_due_and_those_of_deleted_integrations_are_dropped() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut queue = Queue::new(BOUNDS);
        queue.push("a", item("u", later, "later"));
        queue.push("a", item("v", now, "now"));
        assert_eq!(queue.next(now), Next::Start("a".to_owned(), "now"));
        queue.finished("a");
        assert_eq!(queue.next(now), Next::At(later));
        assert_eq!(queue.forget("a", "u"), 1);
        assert!(queue.is_empty() && queue.namespaces.is_empty() && queue.bytes() == 0);
        assert_eq!(queue.next(later), Next::Idle);
    }
}
