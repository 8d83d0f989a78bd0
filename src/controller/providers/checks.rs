//! The queue of providers whose status is to be checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::provider::ProviderKind;
use crate::api::reason::Reason;
use crate::controller::cache::lock::lock;
use crate::controller::providers::store::ProviderKey;

/// The time between a change and the check, in which more may change.
const DELAY: Duration = Duration::from_secs(1);
/// The minimum interval between two checks of one provider.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two checks of a provider that can be used.
pub(crate) const INTERVAL: Duration = Duration::from_hours(1);
/// How many of all namespaces are checked at once; one of each. Cluster-scoped ones are not delayed by those.
const AT_ONCE: usize = 16;
/// How many cluster-scoped ones are checked at once.
const CLUSTER_AT_ONCE: usize = 8;

/// The providers that are to be checked.
#[derive(Debug, Default)]
pub struct ProviderChecks {
    due: Mutex<BTreeMap<ProviderKey, Due>>,
    /// When a provider of each namespace was checked last, for those that have any.
    served: Mutex<HashMap<String, Instant>>,
    changed: Notify,
}

/// When a provider is checked.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Not before.
    earliest: Instant,
    in_flight: bool,
    /// Whether the provider was deleted during its check.
    is_gone: bool,
    /// Fingerprint of what was written last.
    written: Option<u64>,
    /// What the last check has found.
    result: Option<CheckResult>,
}

/// What a check has found about a provider, for metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckResult {
    /// The reason of its condition `Ready`.
    pub(crate) reason: Reason,
    /// When its credentials expire, if this is known.
    pub(crate) credentials_expire_at: Option<Timestamp>,
}

impl ProviderChecks {
    /// Requests a check.
    pub fn request(&self, key: &ProviderKey) {
        self.request_at(key, Instant::now());
    }

    fn request_at(&self, key: &ProviderKey, now: Instant) {
        let mut all = lock(&self.due);
        let fresh =
            Due { at: now + INTERVAL, earliest: now, in_flight: false, is_gone: false, written: None, result: None };
        let due = all.entry(key.clone()).or_insert(fresh);
        due.is_gone = false;
        due.at = due.at.min((now + DELAY).max(due.earliest));
        drop(all);
        self.changed.notify_one();
    }

    /// Forgets what was found and written: another replica may have written since.
    pub fn forget_written(&self) {
        lock(&self.due).values_mut().for_each(|due| (due.written, due.result) = (None, None));
    }

    /// Forgets a provider that is gone. A check in flight counts until it ends.
    pub fn forget(&self, key: &ProviderKey) {
        let mut all = lock(&self.due);
        match all.get_mut(key) {
            Some(due) if due.in_flight => due.is_gone = true,
            _ => drop(all.remove(key)),
        }
    }

    /// Records what a check has found.
    pub(crate) fn set_result(&self, key: &ProviderKey, result: CheckResult) {
        if let Some(due) = lock(&self.due).get_mut(key) {
            due.result = Some(result);
        }
    }

    /// What the last check of each provider has found.
    pub(crate) fn results(&self) -> Vec<(ProviderKey, CheckResult)> {
        lock(&self.due).iter().filter_map(|(key, due)| Some((key.clone(), due.result?))).collect()
    }

    /// Whether this was written last.
    pub(crate) fn is_written(&self, key: &ProviderKey, fingerprint: u64) -> bool {
        lock(&self.due).get(key).is_some_and(|due| due.written == Some(fingerprint))
    }

    /// Records what was written.
    pub(crate) fn set_written(&self, key: &ProviderKey, fingerprint: u64) {
        if let Some(due) = lock(&self.due).get_mut(key) {
            due.written = Some(fingerprint);
        }
    }

    /// The providers to check now, and when the next one is due. Namespaces take turns; within one, the provider that has
    /// waited longest is first.
    pub(crate) fn take_due(&self, now: Instant) -> (Vec<ProviderKey>, Option<Instant>) {
        let mut all = lock(&self.due);
        let mut in_flight: HashMap<String, usize> = HashMap::new();
        for (key, _) in all.iter().filter(|(_, due)| due.in_flight) {
            *in_flight.entry(key.namespace.clone()).or_default() += 1;
        }
        let is_due = |due: &Due| !due.in_flight && due.at <= now;
        let mut served = lock(&self.served);
        let mut waiting: Vec<(Option<Instant>, Instant, ProviderKey)> = all
            .iter()
            .filter(|(_, due)| is_due(due))
            .map(|(key, due)| (served.get(&key.namespace).copied(), due.at, key.clone()))
            .collect();
        waiting.sort_unstable();
        let mut taken = Vec::new();
        for (_, _, key) in waiting {
            let own = in_flight.get(&key.namespace).copied().unwrap_or_default();
            let is_cluster = key.kind == ProviderKind::Cluster;
            let of_namespaces: usize =
                in_flight.iter().filter(|(name, _)| !name.is_empty()).map(|(_, count)| *count).sum();
            let has_room = if is_cluster { own < CLUSTER_AT_ONCE } else { own == 0 && of_namespaces < AT_ONCE };
            if let (true, Some(due)) = (has_room, all.get_mut(&key)) {
                *due = Due { at: now + INTERVAL, earliest: now + MIN_INTERVAL, in_flight: true, ..*due };
                *in_flight.entry(key.namespace.clone()).or_default() += 1;
                served.insert(key.namespace.clone(), now);
                taken.push(key);
            }
        }
        let existing: BTreeSet<&str> = all.keys().map(|key| key.namespace.as_str()).collect();
        served.retain(|namespace, _| existing.contains(namespace.as_str()));
        // Those that are due and have no room wait for the end of another one.
        let next = all.values().filter(|due| !due.in_flight && due.at > now).map(|due| due.at).min();
        (taken, next)
    }

    /// Records the end of a check; `None`: the provider is gone.
    pub(crate) fn end(&self, key: &ProviderKey, next: Option<Instant>) {
        let mut all = lock(&self.due);
        match (next, all.get_mut(key)) {
            (Some(next), Some(due)) if !due.is_gone => {
                due.in_flight = false;
                due.at = due.at.min(next).max(due.earliest);
            }
            _ => drop(all.remove(key)),
        }
        drop(all);
        self.changed.notify_one();
    }

    /// Waits until something may be due.
    pub(crate) async fn wait(&self, next: Option<Instant>) {
        let changed = self.changed.notified();
        match next {
            Some(next) => drop(tokio::time::timeout_at(next, changed).await),
            None => changed.await,
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn key(kind: ProviderKind, namespace: &str, number: usize) -> ProviderKey {
        ProviderKey { kind, namespace: namespace.to_owned(), name: format!("p{number}") }
    }

    #[test]
    fn namespaces_take_turns_and_cluster_scoped_providers_do_not_wait_for_them() {
        let (checks, begin) = (ProviderChecks::default(), Instant::now());
        for namespace in 0..30 {
            for number in 0..10 {
                checks.request_at(&key(ProviderKind::Namespaced, &format!("ns{namespace:02}"), number), begin);
            }
        }
        let cluster = key(ProviderKind::Cluster, "", 0);
        checks.request_at(&cluster, begin);
        assert_eq!(checks.take_due(begin).0, [], "more may change within a second");
        let now = begin + DELAY;
        let (taken, next) = checks.take_due(now);
        assert_eq!(taken.len(), AT_ONCE + 1);
        assert_eq!(next, None, "everything else waits for the end of one of these");
        assert!(taken.contains(&cluster));
        let namespaces: std::collections::BTreeSet<_> = taken.iter().map(|key| &key.namespace).collect();
        assert_eq!(namespaces.len(), taken.len(), "one of each");
        assert_eq!(checks.take_due(now).0, []);
        // The next turn is that of a namespace that had none yet.
        let done = taken.iter().find(|key| key.kind == ProviderKind::Namespaced).expect("one");
        checks.end(done, Some(now + INTERVAL));
        let (again, _) = checks.take_due(now);
        assert!(again.len() == 1 && !taken.contains(&again[0]) && again[0].namespace != done.namespace, "{again:?}");
        // A request during a check leads to another one, not before the minimum interval.
        checks.request_at(&cluster, now);
        checks.end(&cluster, Some(now + INTERVAL));
        assert!(!checks.take_due(now + DELAY).0.contains(&cluster));
        assert!(checks.take_due(now + MIN_INTERVAL).0.contains(&cluster));
        checks.end(&cluster, None);
        assert!(!lock(&checks.due).contains_key(&cluster));
    }
}
