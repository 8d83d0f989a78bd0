//! The providers, the labels of namespaces on which their rules depend, and the integrations that use them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use crate::api::provider::{ProviderKind, ProviderRef};
use crate::controller::cache::lock::lock;
use crate::spec::provider::Provider;

/// The maximum memory for the providers of one namespace, in bytes of JSON.
const SHARE: usize = 1 << 20;
/// The same for those of all namespaces together. Cluster-scoped ones are not limited: administrators write them.
const TOTAL: usize = 8 << 20;

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
    /// Its parsed spec, or why it cannot be used.
    pub provider: Result<Arc<Provider>, String>,
    /// Its length as JSON, in bytes.
    pub size: usize,
}

/// The providers, by kind, namespace and name.
#[derive(Debug, Default)]
pub struct Providers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<ProviderKey, Watched>,
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
        lock(&self.inner).users.get(provider).into_iter().flatten().cloned().collect()
    }

    /// How many integrations use a provider.
    #[must_use]
    pub fn count(&self, provider: &ProviderKey) -> usize {
        lock(&self.inner).users.get(provider).map_or(0, BTreeSet::len)
    }

    /// Records a provider, and returns the integrations for which it changes something.
    pub fn upsert(&self, key: &ProviderKey, mut watched: Watched) -> Vec<User> {
        let mut inner = lock(&self.inner);
        inner.remove(key);
        if key.kind == ProviderKind::Namespaced {
            let own = inner.sizes.get(&key.namespace).copied().unwrap_or_default();
            let total: usize = inner.sizes.values().sum();
            if own + watched.size > SHARE || total + watched.size > TOTAL {
                watched.provider = Err(format!(
                    "the OAuthProviders of this namespace take more than {} MiB, or those of all namespaces more than {} MiB: delete some, and change this one",
                    SHARE >> 20,
                    TOTAL >> 20
                ));
                watched.size = 0;
            }
            *inner.sizes.entry(key.namespace.clone()).or_default() += watched.size;
        }
        inner.known.insert(key.clone(), watched);
        inner.users.get(key).into_iter().flatten().cloned().collect()
    }

    /// Removes a provider, and returns the integrations that use it.
    pub fn remove(&self, key: &ProviderKey) -> Vec<User> {
        let mut inner = lock(&self.inner);
        inner.remove(key);
        inner.users.get(key).into_iter().flatten().cloned().collect()
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
        lock(&self.inner).known.get(key).cloned()
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
            let provider = inner.known.get(key).and_then(|watched| watched.provider.as_ref().ok());
            provider.is_some_and(|provider| provider.allow.has_selector())
        };
        let concerned = inner.of_user.iter().filter(|((namespace, _), key)| namespace == name && selects(key));
        concerned.map(|(user, _)| user.clone()).collect()
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
    fn remove(&mut self, key: &ProviderKey) {
        let Some(before) = self.known.remove(key) else { return };
        if let Some(size) = self.sizes.get_mut(&key.namespace) {
            *size -= before.size;
            if *size == 0 {
                self.sizes.remove(&key.namespace);
            }
        }
    }
}
