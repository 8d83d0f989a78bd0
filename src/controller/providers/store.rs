//! The providers, the labels of namespaces on which their rules depend, and the integrations that use them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::api::connection::CaBundleKind;
use crate::api::provider::{ProviderKind, ProviderRef};
use crate::controller::cache::lock::lock;
use crate::spec::provider::Provider;

/// The maximum memory for the providers of one namespace, in bytes.
const SHARE: usize = 1 << 20;
/// The same for those of all namespaces together. Cluster-scoped ones are not limited: administrators write them.
const TOTAL: usize = 16 << 20;
/// The fixed memory use of a provider, in bytes: its metadata, and its place in the queue of checks.
const BASE: usize = 2 << 10;
/// The memory use of one that is refused, in bytes: its name and the message.
const REFUSED: usize = 512;
/// What refused ones may take in addition to each of the two bounds.
const FOR_REFUSED: (usize, usize) = (64 << 10, 1 << 20);

/// A provider: its kind, its namespace (empty if it is cluster-scoped), and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderKey {
    /// Its kind.
    pub kind: ProviderKind,
    /// Its namespace; empty if it is cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ProviderKey {
    /// The provider that an integration in `namespace` refers to.
    #[must_use]
    pub fn of(reference: &ProviderRef, namespace: &str) -> Self {
        let namespace = match reference.kind {
            ProviderKind::Namespaced => namespace.to_owned(),
            ProviderKind::Cluster => String::new(),
        };
        Self { kind: reference.kind, namespace, name: reference.name.clone() }
    }

    /// The reference to it.
    #[must_use]
    pub fn reference(&self) -> ProviderRef {
        ProviderRef { kind: self.kind, name: self.name.clone() }
    }
}

/// An integration: its namespace and its name.
pub type User = (String, String);

/// A watched provider.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its uid.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its parsed spec, or why it cannot be used.
    pub provider: Result<Arc<Provider>, String>,
    /// The length of its spec as JSON, in bytes.
    pub length: usize,
}

/// A watched provider with its memory use.
#[derive(Clone, Debug)]
struct Known {
    watched: Watched,
    /// In bytes.
    size: usize,
    /// The fingerprint of what it names besides its Secret (see `spec::credentials_version`); `None` if it is not known.
    trust: Option<String>,
}

/// The providers, by kind, namespace and name.
#[derive(Debug, Default)]
pub struct Providers {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<ProviderKey, Known>,
    /// The memory for those of each namespace.
    sizes: HashMap<String, usize>,
    users: HashMap<ProviderKey, BTreeSet<User>>,
    /// The provider of each integration that has one.
    of_user: HashMap<User, ProviderKey>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    /// Why the providers of a kind are not known.
    unavailable: BTreeMap<ProviderKind, String>,
}

impl Providers {
    /// Records which provider an integration uses; `None` if it uses none, or was deleted. Returns the providers whose
    /// number of integrations changed.
    pub fn set_user(&self, user: User, provider: Option<ProviderKey>) -> Vec<ProviderKey> {
        let mut inner = lock(&self.inner);
        let before = match &provider {
            Some(provider) => inner.of_user.insert(user.clone(), provider.clone()),
            None => inner.of_user.remove(&user),
        };
        if before == provider {
            return Vec::new();
        }
        if let Some(before) = &before
            && let Some(users) = inner.users.get_mut(before)
        {
            users.remove(&user);
            if users.is_empty() {
                inner.users.remove(before);
            }
        }
        if let Some(provider) = &provider {
            inner.users.entry(provider.clone()).or_default().insert(user);
        }
        before.into_iter().chain(provider).collect()
    }

    /// The integrations that use a provider.
    #[must_use]
    pub fn users(&self, provider: &ProviderKey) -> Vec<User> {
        lock(&self.inner).users_of(provider)
    }

    /// How many integrations use a provider.
    #[must_use]
    pub fn count(&self, provider: &ProviderKey) -> usize {
        lock(&self.inner).users.get(provider).map_or(0, BTreeSet::len)
    }

    /// Records a provider, and returns the integrations for which it changes something. One beyond the share of its
    /// namespace is recorded as invalid; if there is no room even for that, it does not exist. An admitted one stays
    /// admitted unless it grows.
    pub fn upsert(&self, key: &ProviderKey, mut watched: Watched) -> Vec<User> {
        let mut inner = lock(&self.inner);
        let before = inner.remove(key);
        let names = |watched: &Watched| watched.provider.as_ref().is_ok_and(|provider| names_others(provider));
        if names(&watched) || before.as_ref().is_some_and(|before| names(&before.watched)) {
            self.changed.notify_waiters();
        }
        let before = before.filter(|before| before.watched.uid == watched.uid);
        let mut size = BASE + watched.length * 3 / 2;
        if key.kind == ProviderKind::Namespaced {
            let own = inner.sizes.get(&key.namespace).copied().unwrap_or_default();
            let total: usize = inner.sizes.values().sum();
            let stays = before.as_ref().is_some_and(|before| before.size >= size);
            if !stays && (own + size > SHARE || total + size > TOTAL) {
                size = REFUSED;
                watched.provider = Err(refusal());
                if own + size > SHARE + FOR_REFUSED.0 || total + size > TOTAL + FOR_REFUSED.1 {
                    return inner.users_of(key);
                }
            }
            *inner.sizes.entry(key.namespace.clone()).or_default() += size;
        }
        let is_same = |before: &Known| before.watched.generation == watched.generation;
        let trust = before.as_ref().filter(|before| is_same(before)).and_then(|before| before.trust.clone());
        inner.known.insert(key.clone(), Known { watched, size, trust });
        inner.users_of(key)
    }

    /// Removes a provider, and returns the integrations that use it.
    pub fn remove(&self, key: &ProviderKey) -> Vec<User> {
        let mut inner = lock(&self.inner);
        inner.remove(key);
        self.changed.notify_waiters();
        inner.users_of(key)
    }

    /// The providers of a kind that are known, in one namespace or in all.
    #[must_use]
    pub fn all(&self, kind: ProviderKind, namespace: Option<&str>) -> Vec<ProviderKey> {
        let is_wanted = |key: &&ProviderKey| key.kind == kind && namespace.is_none_or(|wanted| key.namespace == wanted);
        lock(&self.inner).known.keys().filter(is_wanted).cloned().collect()
    }

    /// A provider; `None` if it does not exist.
    #[must_use]
    pub fn get(&self, key: &ProviderKey) -> Option<Watched> {
        lock(&self.inner).known.get(key).map(|known| known.watched.clone())
    }

    /// Records the trust of a provider that was checked in this state; `None` if it could not be determined. Returns the
    /// integrations for which it is new.
    pub fn set_trust(&self, key: &ProviderKey, checked: &Watched, trust: Option<String>) -> Vec<User> {
        let mut inner = lock(&self.inner);
        let is_current =
            |known: &&mut Known| (&known.watched.uid, known.watched.generation) == (&checked.uid, checked.generation);
        let Some(known) = inner.known.get_mut(key).filter(is_current) else { return Vec::new() };
        let is_new = trust.is_some() && known.trust != trust;
        known.trust = trust;
        if is_new { inner.users_of(key) } else { Vec::new() }
    }

    /// The trust of a provider; `None` if it is not known.
    #[must_use]
    pub fn trust(&self, key: &ProviderKey) -> Option<String> {
        lock(&self.inner).known.get(key)?.trust.clone()
    }

    /// Forgets the trust of all providers: while another replica led, it was not checked.
    pub fn forget_trust(&self) {
        lock(&self.inner).known.values_mut().for_each(|known| known.trust = None);
    }

    /// Waits until there are valid providers that are wanted, or until there are none.
    pub async fn wait_until(&self, there_are: bool, is_wanted: impl Fn(&ProviderKey, &Provider) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.matching(&is_wanted).is_empty() != there_are {
                return;
            }
            changed.await;
        }
    }

    /// The valid providers that are wanted.
    #[must_use]
    pub fn matching(&self, is_wanted: impl Fn(&ProviderKey, &Provider) -> bool) -> Vec<ProviderKey> {
        let inner = lock(&self.inner);
        let is_wanted = |key: &ProviderKey, known: &Known| {
            known.watched.provider.as_ref().is_ok_and(|provider| is_wanted(key, provider))
        };
        inner.known.iter().filter(|(key, known)| is_wanted(key, known)).map(|(key, _)| key.clone()).collect()
    }

    /// Records whether the providers of a kind can be watched, and if not, why.
    pub fn set_unavailable(&self, kind: ProviderKind, why: Option<String>) {
        let mut inner = lock(&self.inner);
        match why {
            Some(why) => inner.unavailable.insert(kind, why),
            None => inner.unavailable.remove(&kind),
        };
    }

    /// Why the providers of a kind are not known.
    #[must_use]
    pub fn unavailable(&self, kind: ProviderKind) -> Option<String> {
        lock(&self.inner).unavailable.get(&kind).cloned()
    }

    /// Records the labels of a namespace (`None` if it is gone), and returns the integrations in it that use a provider
    /// with a selector.
    pub fn set_namespace(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> Vec<User> {
        let mut inner = lock(&self.inner);
        if inner.namespaces.get(name) == labels {
            return Vec::new();
        }
        match labels {
            Some(labels) => inner.namespaces.insert(name.to_owned(), labels.clone()),
            None => inner.namespaces.remove(name),
        };
        let selects = |key: &ProviderKey| {
            let provider = inner.known.get(key).and_then(|known| known.watched.provider.as_ref().ok());
            provider.is_some_and(|provider| provider.allow.has_selector())
        };
        let concerned = inner.of_user.iter().filter(|((namespace, _), key)| namespace == name && selects(key));
        concerned.map(|(user, _)| user.clone()).collect()
    }

    /// Forgets the labels of all namespaces, which may have changed unnoticed.
    pub fn forget_namespaces(&self) {
        lock(&self.inner).namespaces.clear();
    }

    /// The names of all known namespaces.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        lock(&self.inner).namespaces.keys().cloned().collect()
    }

    /// The labels of a namespace; `None` if they are not known.
    #[must_use]
    pub fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        lock(&self.inner).namespaces.get(namespace).cloned()
    }
}

impl Inner {
    fn remove(&mut self, key: &ProviderKey) -> Option<Known> {
        let before = self.known.remove(key)?;
        if let Some(size) = self.sizes.get_mut(&key.namespace) {
            *size -= before.size;
            if *size == 0 {
                self.sizes.remove(&key.namespace);
            }
        }
        Some(before)
    }

    fn users_of(&self, key: &ProviderKey) -> Vec<User> {
        self.users.get(key).into_iter().flatten().cloned().collect()
    }
}

/// Whether a provider names objects other than Secrets.
fn names_others(provider: &Provider) -> bool {
    let bundle = provider.spec.connection.as_ref().and_then(|connection| connection.ca_bundle.as_ref());
    bundle.is_some_and(|bundle| bundle.kind == CaBundleKind::ConfigMap) || provider.spec.service_account_token.is_some()
}

/// The message of a refusal. It contains no changing numbers, so that it is reported only once.
fn refusal() -> String {
    format!(
        "the OAuthProviders of this namespace take more than {} MiB of memory, or those of all namespaces more than {} MiB: delete some, and change this one",
        SHARE >> 20,
        TOTAL >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, number: usize) -> ProviderKey {
        ProviderKey { kind: ProviderKind::Namespaced, namespace: namespace.to_owned(), name: format!("p{number}") }
    }

    fn watched(length: usize) -> Watched {
        Watched { uid: "uid".to_owned(), generation: 1, provider: Err("only its length counts".to_owned()), length }
    }

    fn is_refused(providers: &Providers, key: &ProviderKey) -> bool {
        providers.get(key).is_some_and(|known| known.provider.is_err_and(|why| why.contains("take more than")))
    }

    #[test]
    fn the_providers_of_a_namespace_are_bounded_in_size_and_number() {
        let providers = Providers::default();
        for number in 0..100_000 {
            providers.upsert(&key("mallory", number), watched(10));
        }
        let all = providers.all(ProviderKind::Namespaced, Some("mallory"));
        assert!(all.len() < 2_100, "{} are kept", all.len());
        assert!(!is_refused(&providers, &key("mallory", 0)) && is_refused(&providers, &key("mallory", 600)));
        assert_eq!(providers.get(&key("mallory", 99_999)).map(|known| known.uid), None, "no room even for its name");
        // Others are not affected, and nothing is displaced.
        providers.upsert(&key("bob", 0), watched(100 << 10));
        assert!(!is_refused(&providers, &key("bob", 0)));
        providers.upsert(&key("mallory", 0), watched(10));
        assert!(!is_refused(&providers, &key("mallory", 0)), "an unchanged one stays");
        providers.upsert(&key("mallory", 0), watched(4 << 10));
        assert!(is_refused(&providers, &key("mallory", 0)), "it has grown");
        for one in &all {
            providers.remove(one);
        }
        providers.upsert(&key("mallory", 0), watched(4 << 10));
        assert!(!is_refused(&providers, &key("mallory", 0)));
        assert_eq!(lock(&providers.inner).sizes.len(), 2);
    }

    #[test]
    fn cluster_scoped_providers_are_not_limited_by_those_of_namespaces() {
        let providers = Providers::default();
        for namespace in 0..200 {
            for number in 0..10 {
                providers.upsert(&key(&format!("ns{namespace}"), number), watched(60 << 10));
            }
        }
        assert!(is_refused(&providers, &key("ns199", 0)));
        let cluster = ProviderKey { kind: ProviderKind::Cluster, namespace: String::new(), name: "erp".to_owned() };
        providers.upsert(&cluster, watched(200 << 10));
        assert!(!is_refused(&providers, &cluster));
    }

    #[test]
    fn integrations_are_counted_for_the_provider_that_they_name_now() {
        let (providers, one, other) = (Providers::default(), key("a", 1), key("a", 2));
        let user = || ("a".to_owned(), "it".to_owned());
        assert_eq!(providers.set_user(user(), Some(one.clone())), std::slice::from_ref(&one));
        assert_eq!(providers.set_user(user(), Some(one.clone())), []);
        assert_eq!(providers.set_user(user(), Some(other.clone())), [one.clone(), other.clone()]);
        assert_eq!((providers.count(&one), providers.count(&other)), (0, 1));
        assert_eq!(providers.set_user(user(), None), std::slice::from_ref(&other));
        assert!(lock(&providers.inner).users.is_empty() && lock(&providers.inner).of_user.is_empty());
    }
}
