//! Permits for deletions that revoke tokens: bounded, and fair between namespaces.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The maximum number of deletions in flight: lower than the number of concurrent reconciliations, so that renewals
/// continue.
const MAX_IN_FLIGHT: usize = 32;
/// The maximum in one namespace.
const MAX_IN_FLIGHT_PER_NAMESPACE: usize = 8;
/// The maximum number of integrations of one namespace that are woken when a permit is free; the others are requeued
/// by their timers.
const MAX_WAITING_PER_NAMESPACE: usize = 256;

/// Called with namespace and name of the integration that may try again.
pub type WakeFn = Box<dyn Fn(&str, &str) + Send + Sync>;

/// Permits for deletions. Clones share them.
#[derive(Clone)]
pub struct Deletions {
    lanes: Arc<Mutex<Lanes>>,
    wake: Arc<WakeFn>,
}

impl std::fmt::Debug for Deletions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deletions").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Lanes {
    by_namespace: BTreeMap<String, Lane>,
    /// The namespace that was woken last.
    last: String,
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight: usize,
    waiting: VecDeque<String>,
}

/// A permit for one deletion, returned when it is dropped.
#[derive(Debug)]
pub struct DeletionPermit {
    deletions: Deletions,
    namespace: String,
}

impl Deletions {
    /// A set of permits, all of them free.
    #[must_use]
    pub fn new(wake: WakeFn) -> Self {
        Self { lanes: Arc::default(), wake: Arc::new(wake) }
    }

    /// A permit; `None` if the maximum is in flight. In that case, the integration is woken when a permit is free.
    #[must_use]
    pub fn try_acquire(&self, namespace: &str, name: &str) -> Option<DeletionPermit> {
        let mut lanes = self.lock();
        let is_free = lanes.in_flight < MAX_IN_FLIGHT;
        let lane = lanes.by_namespace.entry(namespace.to_owned()).or_default();
        if is_free && lane.in_flight < MAX_IN_FLIGHT_PER_NAMESPACE {
            lane.in_flight += 1;
            lane.waiting.retain(|waiting| waiting != name);
            lanes.in_flight += 1;
            return Some(DeletionPermit { deletions: self.clone(), namespace: namespace.to_owned() });
        }
        let is_known = lane.waiting.iter().any(|waiting| waiting == name);
        if !is_known && lane.waiting.len() < MAX_WAITING_PER_NAMESPACE {
            lane.waiting.push_back(name.to_owned());
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn free(&mut self, namespace: &str) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(lane) = self.by_namespace.get_mut(namespace) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
    }

    /// The integration to wake next: namespaces take turns.
    fn next(&mut self) -> Option<(String, String)> {
        let after = (Bound::Excluded(self.last.clone()), Bound::Unbounded);
        let mut lanes = self.by_namespace.range(after).chain(self.by_namespace.range(..=self.last.clone()));
        let may = |lane: &Lane| lane.in_flight < MAX_IN_FLIGHT_PER_NAMESPACE && !lane.waiting.is_empty();
        let namespace = lanes.find(|(_, lane)| may(lane)).map(|(namespace, _)| namespace.clone());
        let woken = namespace.and_then(|namespace| {
            let name = self.by_namespace.get_mut(&namespace)?.waiting.pop_front()?;
            Some((namespace, name))
        });
        if let Some((namespace, _)) = &woken {
            self.last.clone_from(namespace);
        }
        self.by_namespace.retain(|_, lane| lane.in_flight > 0 || !lane.waiting.is_empty());
        woken
    }
}

impl Drop for DeletionPermit {
    fn drop(&mut self) {
        let woken = {
            let mut lanes = self.deletions.lock();
            lanes.free(&self.namespace);
            lanes.next()
        };
        if let Some((namespace, name)) = woken {
            (self.deletions.wake)(&namespace, &name);
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_per_namespace_and_waiters_are_woken() {
        let woken: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&woken);
        let note = move |namespace: &str, name: &str| {
            log.lock().expect("one thread").push(format!("{namespace}/{name}"));
        };
        let deletions = Deletions::new(Box::new(note));
        let mut many: Vec<DeletionPermit> =
            (0..20).filter_map(|number| deletions.try_acquire("a", &format!("a{number}"))).collect();
        assert_eq!(many.len(), MAX_IN_FLIGHT_PER_NAMESPACE);
        let _other = deletions.try_acquire("b", "b0").expect("a permit for another namespace");
        many.pop();
        assert_eq!(*woken.lock().expect("one thread"), ["a/a8"]);
        many.clear();
        assert_eq!(woken.lock().expect("one thread").len(), 8, "each free permit wakes one integration");
    }
}
