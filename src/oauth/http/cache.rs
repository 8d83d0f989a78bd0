//! A cache that namespaces share without affecting each other.
//!
//! The number of entries is bounded per namespace: a namespace that exceeds its bound evicts one of its own entries.
//! If the total bound is exceeded, the namespace with the most entries loses one.

#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The bounds of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The maximum number of entries of one namespace.
    pub(crate) per_namespace: usize,
    /// The maximum number of entries of all namespaces together.
    pub(crate) total: usize,
    /// How long an entry is valid after it was written.
    pub(crate) ttl: Duration,
}

/// Values by namespace and key. Clones share them.
#[derive(Debug)]
pub(crate) struct NamespacedCache<K, V> {
    bounds: Bounds,
    entries: Arc<Mutex<Namespaces<K, V>>>,
}

type Namespaces<K, V> = HashMap<String, HashMap<K, Entry<V>>>;

#[derive(Debug)]
struct Entry<V> {
    value: V,
    written: Instant,
    used: Instant,
}

impl<K, V> Clone for NamespacedCache<K, V> {
    fn clone(&self) -> Self {
        Self { bounds: self.bounds, entries: Arc::clone(&self.entries) }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> NamespacedCache<K, V> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, entries: Arc::default() }
    }

    /// The value of a key, unless it has expired.
    pub(crate) fn get(&self, namespace: &str, key: &K, now: Instant) -> Option<V> {
        let mut namespaces = self.lock();
        // Also here, so that entries that are no longer requested are removed.
        remove_expired(&mut namespaces, self.bounds.ttl, now);
        let entry = namespaces.get_mut(namespace)?.get_mut(key)?;
        entry.used = now;
        Some(entry.value.clone())
    }

    /// Caches a value, and removes entries that are expired or exceed a bound.
    pub(crate) fn insert(&self, namespace: &str, key: K, value: V, now: Instant) {
        let Bounds { per_namespace, total, ttl } = self.bounds;
        let mut namespaces = self.lock();
        remove_expired(&mut namespaces, ttl, now);
        let own = namespaces.entry(namespace.to_owned()).or_default();
        own.insert(key, Entry { value, written: now, used: now });
        if own.len() > per_namespace {
            evict_least_recently_used(own);
        }
        if namespaces.values().map(HashMap::len).sum::<usize>() > total
            && let Some(largest) = namespaces.values_mut().max_by_key(|own| own.len())
        {
            evict_least_recently_used(largest);
        }
    }

    pub(crate) fn remove(&self, namespace: &str, key: &K) {
        let mut namespaces = self.lock();
        if let Some(own) = namespaces.get_mut(namespace) {
            own.remove(key);
            if own.is_empty() {
                namespaces.remove(namespace);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Namespaces<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_expired<K, V>(namespaces: &mut Namespaces<K, V>, ttl: Duration, now: Instant) {
    namespaces.retain(|_, own| {
        own.retain(|_, entry| now.duration_since(entry.written) < ttl);
        !own.is_empty()
    });
}

fn evict_least_recently_used<K: Eq + Hash + Clone, V>(own: &mut HashMap<K, Entry<V>>) {
    let oldest = own.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        own.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { per_namespace: 3, total: 5, ttl: Duration::from_mins(1) };

    fn cache() -> (NamespacedCache<u32, u32>, impl Fn(u64) -> Instant) {
        #[expect(clippy::disallowed_methods, reason = "the origin of a time line that the test advances itself")]
        let start = Instant::now();
        (NamespacedCache::new(BOUNDS), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_namespace_that_exceeds_its_bound_evicts_only_its_own_entries() {
        let (cache, at) = cache();
        cache.insert("bob", 1, 1, at(0));
        for key in 0..100 {
            cache.insert("mallory", key, key, at(1));
        }
        assert_eq!(cache.get("bob", &1, at(2)), Some(1));
        assert_eq!(cache.lock()["mallory"].len(), BOUNDS.per_namespace);
    }

    #[test]
    fn the_total_is_bounded_at_the_expense_of_the_largest_namespace() {
        let (cache, at) = cache();
        for key in 0..3 {
            cache.insert("mallory", key, key, at(u64::from(key)));
        }
        for tenant in ["a", "b", "c"] {
            cache.insert(tenant, 1, 1, at(3));
        }
        assert_eq!(cache.lock().values().map(HashMap::len).sum::<usize>(), BOUNDS.total);
        assert_eq!(cache.get("mallory", &0, at(4)), None, "the least recently used entry");
        assert!(["a", "b", "c"].iter().all(|tenant| cache.get(tenant, &1, at(4)) == Some(1)));
    }

    #[test]
    fn the_same_key_in_another_namespace_is_another_entry() {
        let (cache, at) = cache();
        cache.insert("mallory", 1, 666, at(0));
        assert_eq!(cache.get("bob", &1, at(0)), None);
        cache.insert("bob", 1, 1, at(0));
        cache.remove("mallory", &1);
        assert_eq!(cache.get("bob", &1, at(0)), Some(1));
    }

    #[test]
    fn entries_expire() {
        let (cache, at) = cache();
        cache.insert("bob", 1, 1, at(0));
        assert_eq!(cache.get("bob", &1, at(59)), Some(1));
        assert_eq!(cache.get("bob", &1, at(60)), None);
        assert!(!cache.lock().contains_key("bob"), "expired entries are removed");
    }
}
