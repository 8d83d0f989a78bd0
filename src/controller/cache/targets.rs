//! Snapshots of target Secrets, bounded by namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;

use crate::controller::cache::lock::lock;
use crate::controller::cache::references::NamespaceAndUid;
use crate::controller::memory::MemoryBound;
use crate::target::snapshot::TargetSnapshot;

/// The maximum number of cached Secrets of one integration: its target, and previous ones that will be deleted.
const MAX_TARGETS_PER_INTEGRATION: usize = 8;

/// The Secrets that the operator has written, by the uid of their integration.
#[derive(Debug)]
pub struct TargetCache {
    inner: Mutex<TargetCacheInner>,
}

#[derive(Debug)]
struct TargetCacheInner {
    bound: MemoryBound,
    /// By namespace and uid, because users who may label a Secret can write the uid of an integration in another
    /// namespace.
    by_integration: HashMap<NamespaceAndUid, Vec<Arc<TargetSnapshot>>>,
    /// The memory use of the Secrets of each namespace, in bytes.
    weights: HashMap<String, usize>,
}

impl TargetCacheInner {
    /// Whether there is room for a Secret of this weight that replaces one of weight `before` (0: none).
    fn has_room(&self, namespace: &str, before: usize, weight: usize) -> bool {
        let own = self.weights.get(namespace).copied().unwrap_or_default();
        let total: usize = self.weights.values().sum();
        let MemoryBound { namespace, total: all } = self.bound;
        weight <= before || own - before + weight <= namespace && total - before + weight <= all
    }

    fn upsert(&mut self, snapshot: TargetSnapshot) {
        let key = (snapshot.namespace.clone(), snapshot.integration_uid.clone());
        let own = self.by_integration.get(&key).map_or(&[][..], Vec::as_slice);
        let position = own.iter().position(|known| known.name == snapshot.name);
        let known = position.and_then(|position| own.get(position));
        // A version that cannot be compared counts as newer.
        let is_known = snapshot.version != 0
            && known.is_some_and(|known| {
                known.version > snapshot.version || known.version == snapshot.version && !known.is_unread()
            });
        if is_known || position.is_none() && own.len() >= MAX_TARGETS_PER_INTEGRATION {
            return;
        }
        let (before, weight) = (known.map_or(0, |known| known.weight()), snapshot.weight());
        let has_room = self.has_room(&key.0, before, weight);
        if known.is_none() && !has_room {
            return;
        }
        let spent = self.weights.entry(key.0.clone()).or_default();
        *spent = *spent - before + if has_room { weight } else { 0 };
        let own = self.by_integration.entry(key.clone()).or_default();
        match position {
            // The cached snapshot is outdated.
            Some(position) if !has_room => {
                own.swap_remove(position);
            }
            Some(position) => own[position] = Arc::new(snapshot),
            None => own.push(Arc::new(snapshot)),
        }
        self.tidy(&key);
    }

    fn remove_snapshot(&mut self, gone: &TargetSnapshot) {
        let key = (gone.namespace.clone(), gone.integration_uid.clone());
        let Some(own) = self.by_integration.get_mut(&key) else { return };
        let freed: usize = own.iter().filter(|known| known.uid == gone.uid).map(|known| known.weight()).sum();
        own.retain(|known| known.uid != gone.uid);
        if let Some(spent) = self.weights.get_mut(&key.0) {
            *spent -= freed;
        }
        self.tidy(&key);
    }

    /// Drops an empty entry.
    fn tidy(&mut self, key: &NamespaceAndUid) {
        if self.by_integration.get(key).is_some_and(Vec::is_empty) {
            self.by_integration.remove(key);
        }
        if self.weights.get(&key.0) == Some(&0) {
            self.weights.remove(&key.0);
        }
    }
}

impl TargetCache {
    /// No Secrets yet.
    #[must_use]
    pub fn new(bound: MemoryBound) -> Self {
        let inner = TargetCacheInner { bound, by_integration: HashMap::new(), weights: HashMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    /// All Secrets of an integration.
    #[must_use]
    pub fn for_integration(&self, namespace: &str, integration_uid: &str) -> Vec<Arc<TargetSnapshot>> {
        let key = (namespace.to_owned(), integration_uid.to_owned());
        lock(&self.inner).by_integration.get(&key).cloned().unwrap_or_default()
    }

    /// The integration (name and uid) that has used the initial refresh token with this fingerprint, and received another
    /// one for it: another one of the same namespace.
    #[must_use]
    pub fn spent_by(&self, namespace: &str, integration_uid: &str, fingerprint: &str) -> Option<(String, String)> {
        let inner = lock(&self.inner);
        let others = inner.by_integration.iter().filter(|((own, uid), _)| own == namespace && uid != integration_uid);
        others
            .flat_map(|(_, snapshots)| snapshots)
            .filter(|other| other.has_rotated)
            .filter(|other| other.provenance.refresh_token_hash.as_deref() == Some(fingerprint))
            .find_map(|other| Some((other.owner_name()?, other.owner.as_ref()?.1.clone())))
    }

    /// The cached Secrets for which this is true.
    #[must_use]
    pub fn find(&self, is_wanted: impl Fn(&TargetSnapshot) -> bool) -> Vec<Arc<TargetSnapshot>> {
        let inner = lock(&self.inner);
        inner.by_integration.values().flatten().filter(|snapshot| is_wanted(snapshot)).cloned().collect()
    }

    /// Caches a Secret, unless this version or a newer one is already cached, or there is no room for it.
    pub fn upsert(&self, snapshot: TargetSnapshot) {
        lock(&self.inner).upsert(snapshot);
    }

    /// Removes a deleted Secret.
    pub fn remove(&self, gone: &TargetSnapshot) {
        lock(&self.inner).remove_snapshot(gone);
    }

    /// Removes all Secrets of a deleted integration.
    pub fn forget_integration(&self, namespace: &str, integration_uid: &str) {
        let mut inner = lock(&self.inner);
        let own = inner.by_integration.get(&(namespace.to_owned(), integration_uid.to_owned())).cloned();
        own.into_iter().flatten().for_each(|snapshot| inner.remove_snapshot(&snapshot));
    }

    /// Shifts the times of all tokens after the wall clock was set back (`by` is negative): by the new clock, they
    /// expire earlier than recorded.
    pub fn shift_times(&self, by: SignedDuration) {
        for snapshot in lock(&self.inner).by_integration.values_mut().flatten() {
            Arc::make_mut(snapshot).shift(by);
        }
    }

    /// All cached Secrets of a namespace by uid; `None`: of all namespaces.
    fn by_uid(&self, namespace: Option<&str>) -> HashMap<String, Arc<TargetSnapshot>> {
        let inner = lock(&self.inner);
        let in_scope = inner
            .by_integration
            .values()
            .flatten()
            .filter(|snapshot| namespace.is_none_or(|ns| ns == snapshot.namespace));
        in_scope.map(|snapshot| (snapshot.uid.clone(), Arc::clone(snapshot))).collect()
    }
}

/// A list of target Secrets that is being received: cached Secrets that it does not contain were deleted.
#[derive(Debug)]
pub struct Relist {
    unseen: HashMap<String, Arc<TargetSnapshot>>,
}

impl Relist {
    /// Starts with all cached Secrets; those that the operator writes from now on are not affected.
    #[must_use]
    pub fn begin(targets: &TargetCache, namespace: Option<&str>) -> Self {
        Self { unseen: targets.by_uid(namespace) }
    }

    /// Records that the list contains this Secret.
    pub fn seen(&mut self, snapshot: &TargetSnapshot) {
        self.unseen.remove(&snapshot.uid);
    }

    /// Removes the Secrets that the list does not contain, and returns them.
    pub fn finish(self, targets: &TargetCache) -> Vec<Arc<TargetSnapshot>> {
        let gone: Vec<_> = self.unseen.into_values().collect();
        for snapshot in &gone {
            targets.remove(snapshot);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use serde_json::json;

    use crate::controller::cache::references::SecretReferences;
    use crate::target::content::Provenance;

    use super::*;
    use crate::controller::memory::DEFAULT_LIMIT;

    const BOUND: MemoryBound = MemoryBound::of_targets(DEFAULT_LIMIT, true);

    fn snapshot(namespace: &str, name: &str, integration: &str, text: usize) -> TargetSnapshot {
        let long = "x".repeat(text);
        let meta = serde_json::from_value(json!({
            "namespace": namespace, "name": name, "uid": format!("uid-of-{name}"), "resourceVersion": "7",
            "labels": {"oauth.evolutionx.io/integration-uid": integration},
            "annotations": {
                "oauth.evolutionx.io/adopt-by": long, "oauth.evolutionx.io/retained-by": long,
                "oauth.evolutionx.io/spec-hash": long, "oauth.evolutionx.io/credentials-hash": long,
            },
            "ownerReferences": [{"apiVersion": "a", "kind": "OAuthIntegration", "controller": true, "name": long, "uid": long}],
        }));
        TargetSnapshot::read(&meta.expect("metadata"), None)
    }

    #[test]
    fn labels_and_annotations_of_a_secret_do_not_fill_the_memory() {
        let forged = snapshot("one", "forged", "uid", 26 << 10);
        assert!(forged.weight() < BASE + 200, "{}", forged.weight());
        assert_eq!((forged.adopt_by, forged.owner, forged.retained_by.as_str()), (None, None, ""));

        let targets = TargetCache::new(BOUND);
        let weight = snapshot("one", "it", "uid", 1 << 10).weight();
        for number in 0..20_000 {
            targets.upsert(snapshot("one", &format!("it-{number}"), &format!("uid-{}", number / 10), 1 << 10));
        }
        let known = targets.by_uid(Some("one"));
        let max_by_count = 20_000 / 10 * MAX_TARGETS_PER_INTEGRATION;
        assert!(known.len() <= max_by_count && known.len() * weight <= BOUND.namespace + weight * 8, "{}", known.len());
        // Another namespace has room.
        targets.upsert(snapshot("two", "it", "uid", 100));
        assert_eq!(targets.for_integration("two", "uid").len(), 1);
        // A Secret that grows beyond the limit is removed instead of keeping the outdated snapshot.
        let first = known.values().min_by(|one, other| one.name.cmp(&other.name)).expect("some");
        let mut newer = TargetSnapshot::clone(first);
        newer.version += 1;
        newer.provenance.binding = "x".repeat(BOUND.namespace);
        targets.upsert(newer);
        assert_eq!(targets.by_uid(Some("one")).len(), known.len() - 1);
        // Everything can be removed.
        for snapshot in known.values() {
            targets.remove(snapshot);
        }
        targets.forget_integration("two", "uid");
        let inner = lock(&targets.inner);
        assert!(inner.weights.is_empty() && inner.by_integration.is_empty());
    }

    #[test]
    fn a_version_that_is_not_a_number_counts_as_newer() {
        let targets = TargetCache::new(BOUND);
        let mut opaque = snapshot("one", "it", "uid", 1);
        opaque.version = 0;
        targets.upsert(opaque.clone());
        opaque.provenance.binding = "changed".to_owned();
        targets.upsert(opaque);
        assert_eq!(targets.for_integration("one", "uid")[0].provenance.binding, "changed");
    }

    fn version(number: u64) -> TargetSnapshot {
        let provenance = Provenance { binding: format!("of {number}"), ..snapshot("one", "it", "uid", 1).provenance };
        TargetSnapshot { version: number, provenance, ..snapshot("one", "it", "uid", 1) }
    }

    #[test]
    fn an_older_watch_event_does_not_replace_the_result_of_a_write() {
        let targets = TargetCache::new(BOUND);
        targets.upsert(version(8));
        targets.upsert(version(7));
        assert_eq!(targets.for_integration("one", "uid")[0].provenance.binding, "of 8");
        targets.upsert(version(9));
        assert_eq!(targets.for_integration("one", "uid")[0].provenance.binding, "of 9");
    }

    #[test]
    fn a_list_removes_only_the_missing_secrets_of_its_own_namespace() {
        let targets = TargetCache::new(BOUND);
        for (namespace, name) in [("one", "listed"), ("one", "deleted"), ("two", "elsewhere")] {
            targets.upsert(snapshot(namespace, name, name, 1));
        }
        let mut relist = Relist::begin(&targets, Some("one"));
        relist.seen(&snapshot("one", "listed", "listed", 1));
        // Written by the operator while the list was being received.
        targets.upsert(snapshot("one", "written", "written", 1));
        let gone: Vec<String> = relist.finish(&targets).iter().map(|snapshot| snapshot.name.clone()).collect();
        assert_eq!(gone, ["deleted"]);
        let remaining = |namespace: &str, uid: &str| targets.for_integration(namespace, uid).len();
        let counts = [("one", "listed"), ("one", "deleted"), ("one", "written"), ("two", "elsewhere")];
        assert_eq!(counts.map(|(namespace, uid)| remaining(namespace, uid)), [1, 0, 1, 1]);
    }

    const BASE: usize = 1 << 10;

    #[test]
    fn only_existing_integrations_have_secrets() {
        let secret_references = SecretReferences::default();
        secret_references.begin("one", "uid");
        assert!(
            secret_references.has("one", "uid")
                && !secret_references.has("two", "uid")
                && !secret_references.has("one", "another")
        );
        secret_references.end("one", "uid");
        assert!(!secret_references.has("one", "uid"));
    }
}
