//! The workloads that have opted in to restarts, bounded by namespace.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controller::cache::lock::lock;
use crate::decision::restarts::{HASH, OptIn};
use crate::target::annotations;

/// The maximum memory for the workloads of one namespace, in bytes: about 1,500 of them. Others are not restarted.
const MAX_NAMESPACE_WEIGHT: usize = 1 << 20;
/// The maximum for all namespaces together.
const MAX_TOTAL_WEIGHT: usize = 8 << 20;
/// The fixed memory use of a workload, in bytes.
const BASE_WEIGHT: usize = 512;
/// The memory use of one name with its hash, in addition to their text.
const ENTRY_WEIGHT: usize = 64;

/// The kind of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

impl WorkloadKind {
    /// The name of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// What is known about a workload that has opted in.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its uid, a precondition of its restart.
    pub uid: String,
    /// Its version, the other one.
    pub version: String,
    /// When it was created.
    pub created: Timestamp,
    /// What its annotations say, or which of them to correct.
    pub opt_in: Result<OptIn, String>,
    /// When it was seen first.
    pub seen: Instant,
}

impl Workload {
    /// A reference for events.
    #[must_use]
    pub fn reference(&self, id: &WorkloadId) -> ObjectReference {
        ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some(id.kind.as_str().to_owned()),
            namespace: Some(id.namespace.clone()),
            name: Some(id.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    fn weight(&self, id: &WorkloadId) -> usize {
        // With the record of a restart, so that a workload that is kept stays after its first one.
        let entries = self
            .opt_in
            .iter()
            .flat_map(|opt_in| opt_in.secrets.iter().flat_map(|name| [name.len(), name.len() + HASH]));
        BASE_WEIGHT + id.namespace.len() + id.name.len() + entries.map(|text| ENTRY_WEIGHT + text).sum::<usize>()
    }

    /// The Secrets, and the interval by which their renewals are timed.
    fn demands(&self) -> Option<(&BTreeSet<String>, SignedDuration)> {
        self.opt_in.as_ref().ok().map(|opt_in| (&opt_in.secrets, opt_in.interval))
    }
}

/// All workloads that have opted in.
#[derive(Debug, Default)]
pub struct Workloads {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    namespaces: HashMap<String, Namespace>,
    total: usize,
}

#[derive(Debug, Default)]
struct Namespace {
    workloads: HashMap<(WorkloadKind, String), Arc<Workload>>,
    weight: usize,
}

impl Workloads {
    /// Records a workload, and returns the Secrets whose renewals have to be timed again. One that has not opted in, or
    /// for which there is no room, is not kept.
    pub fn upsert(&self, id: &WorkloadId, meta: &ObjectMeta) -> BTreeSet<String> {
        let mut inner = lock(&self.inner);
        let known = inner.get(id);
        let uid = meta.uid.clone().unwrap_or_default();
        let same = known.as_ref().filter(|known| known.uid == uid);
        let is_older = |known: &Arc<Workload>| {
            let version = annotations::version(meta);
            version != 0 && known.version.parse().is_ok_and(|known: u64| known > version)
        };
        if same.is_some_and(is_older) {
            return BTreeSet::new();
        }
        let seen = same.map_or_else(Instant::now, |known| known.seen);
        let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |created| created.0);
        let opt_in = OptIn::of(meta).filter(|_| meta.deletion_timestamp.is_none());
        let version = meta.resource_version.clone().unwrap_or_default();
        let workload = opt_in.map(|opt_in| Arc::new(Workload { uid, version, created, opt_in, seen }));
        inner.remove(id);
        let added = workload.filter(|workload| inner.insert(id, workload));
        changed(known.as_deref(), added.as_deref())
    }

    /// Records the metadata of a workload after a restart, unless it was deleted, replaced or has opted out meanwhile.
    pub fn refresh(&self, id: &WorkloadId, meta: &ObjectMeta) {
        let is_known = self.current(id).is_some_and(|known| Some(&known.uid) == meta.uid.as_ref());
        if is_known {
            self.upsert(id, meta);
        }
    }

    /// What is known about a workload.
    #[must_use]
    pub fn current(&self, id: &WorkloadId) -> Option<Arc<Workload>> {
        lock(&self.inner).get(id)
    }

    /// Removes a workload, and returns the Secrets whose renewals have to be timed again.
    pub fn remove(&self, id: &WorkloadId) -> BTreeSet<String> {
        let gone = lock(&self.inner).remove(id);
        changed(gone.as_deref(), None)
    }

    /// All workloads.
    #[must_use]
    pub fn all(&self) -> Vec<(WorkloadId, Arc<Workload>)> {
        let inner = lock(&self.inner);
        let with_id = |namespace: &String, (kind, name): &(WorkloadKind, String)| WorkloadId {
            namespace: namespace.clone(),
            kind: *kind,
            name: name.clone(),
        };
        let namespaces = inner.namespaces.iter();
        namespaces
            .flat_map(|(name, own)| own.workloads.iter().map(move |(key, it)| (with_id(name, key), Arc::clone(it))))
            .collect()
    }

    /// The workloads of one kind in a namespace; `None`: in all namespaces.
    #[must_use]
    pub fn of_kind(&self, kind: WorkloadKind, scope: Option<&str>) -> HashSet<WorkloadId> {
        let in_scope = |id: &WorkloadId| id.kind == kind && scope.is_none_or(|scope| scope == id.namespace);
        self.all().into_iter().map(|(id, _)| id).filter(in_scope).collect()
    }

    /// The longest interval between two restarts of a workload that reads a Secret.
    #[must_use]
    pub fn longest_interval(&self, namespace: &str, secret: &str) -> Option<SignedDuration> {
        let inner = lock(&self.inner);
        let own = inner.namespaces.get(namespace)?.workloads.values();
        own.filter_map(|workload| workload.demands())
            .filter(|(secrets, _)| secrets.contains(secret))
            .map(|(_, interval)| interval)
            .max()
    }
}

impl Inner {
    fn get(&self, id: &WorkloadId) -> Option<Arc<Workload>> {
        self.namespaces.get(&id.namespace)?.workloads.get(&(id.kind, id.name.clone())).cloned()
    }

    fn remove(&mut self, id: &WorkloadId) -> Option<Arc<Workload>> {
        let own = self.namespaces.get_mut(&id.namespace)?;
        let gone = own.workloads.remove(&(id.kind, id.name.clone()))?;
        let weight = gone.weight(id);
        own.weight -= weight;
        self.total -= weight;
        if own.workloads.is_empty() {
            self.namespaces.remove(&id.namespace);
        }
        Some(gone)
    }

    /// Whether there was room.
    fn insert(&mut self, id: &WorkloadId, workload: &Arc<Workload>) -> bool {
        let weight = workload.weight(id);
        let spent = self.namespaces.get(&id.namespace).map_or(0, |own| own.weight);
        if spent + weight > MAX_NAMESPACE_WEIGHT || self.total + weight > MAX_TOTAL_WEIGHT {
            return false;
        }
        let own = self.namespaces.entry(id.namespace.clone()).or_default();
        own.workloads.insert((id.kind, id.name.clone()), Arc::clone(workload));
        own.weight += weight;
        self.total += weight;
        true
    }
}

/// The Secrets whose renewals have to be timed again.
fn changed(before: Option<&Workload>, after: Option<&Workload>) -> BTreeSet<String> {
    let (before, after) = (before.and_then(Workload::demands), after.and_then(Workload::demands));
    if before == after {
        return BTreeSet::new();
    }
    before.into_iter().chain(after).flat_map(|(secrets, _)| secrets.iter().cloned()).collect()
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(namespace: &str, name: &str) -> WorkloadId {
        WorkloadId { namespace: namespace.to_owned(), kind: WorkloadKind::Deployment, name: name.to_owned() }
    }

    fn meta(version: u32, secrets: &str, every: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "uid": "uid", "resourceVersion": version.to_string(),
            "annotations": {
                "oauth.evolutionx.io/restart-on-renewal": secrets, "oauth.evolutionx.io/restart-at-most-every": every,
            },
        }))
        .expect("metadata")
    }

    #[test]
    fn the_longest_interval_follows_the_workloads() {
        let workloads = Workloads::default();
        let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(workloads.upsert(&id("ns", "one"), &meta(1, "a,b", "30m")), both);
        assert_eq!(workloads.upsert(&id("ns", "one"), &meta(2, "b,a", "30m")), BTreeSet::new(), "the same demands");
        workloads.upsert(&id("ns", "two"), &meta(3, "a", "1h"));
        let longest = |secret| workloads.longest_interval("ns", secret).map(|interval| interval.as_mins());
        assert_eq!((longest("a"), longest("b"), longest("c")), (Some(60), Some(30), None));
        assert_eq!(workloads.longest_interval("other", "a"), None, "of another namespace");
        workloads.upsert(&id("ns", "two"), &meta(2, "a", "2h"));
        assert_eq!(longest("a"), Some(60), "an older version");
        assert_eq!(workloads.remove(&id("ns", "two")), BTreeSet::from(["a".to_owned()]));
        assert_eq!(longest("a"), Some(30));
        let none = ObjectMeta { annotations: None, ..meta(9, "", "") };
        assert_eq!(workloads.upsert(&id("ns", "one"), &none), both, "opted out");
        let inner = lock(&workloads.inner);
        assert!(inner.namespaces.is_empty() && inner.total == 0);
    }

    #[test]
    fn the_workloads_of_one_namespace_do_not_fill_the_memory() {
        let workloads = Workloads::default();
        for number in 0..3_000 {
            workloads.upsert(&id("one", &format!("it-{number}")), &meta(1, "orders-token", "30m"));
        }
        let own = workloads.all().len();
        assert!((1_000..2_900).contains(&own), "{own}");
        workloads.upsert(&id("two", "it"), &meta(1, "orders-token", "30m"));
        assert!(workloads.longest_interval("two", "orders-token").is_some(), "another namespace has room");
    }
}
