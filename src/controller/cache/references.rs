//! An index of the Secrets that integrations reference.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::controller::cache::state::lock;

/// A Secret: its namespace and its name.
pub type SecretRef = (String, String);

pub(crate) type NamespaceAndUid = (String, String);

/// The Secrets that integrations reference, with their versions.
#[derive(Debug, Default)]
pub struct SecretReferences {
    inner: Mutex<ReferenceIndex>,
}

#[derive(Debug, Default)]
struct ReferenceIndex {
    by_secret: HashMap<SecretRef, ReferencedSecret>,
    /// The Secrets that an integration (namespace and name) references.
    by_integration: HashMap<(String, String), HashSet<String>>,
    /// The existing integrations, by namespace and uid.
    uids: HashSet<NamespaceAndUid>,
}

#[derive(Debug, Default)]
struct ReferencedSecret {
    version: Option<u64>,
    dependents: Vec<String>,
}

impl SecretReferences {
    /// Records which Secrets an integration references; an empty set if it was deleted.
    pub fn set_references(&self, namespace: &str, integration: &str, names: HashSet<String>) {
        let mut inner = lock(&self.inner);
        let key = (namespace.to_owned(), integration.to_owned());
        let before = inner.by_integration.remove(&key).unwrap_or_default();
        for name in before.difference(&names) {
            let secret = (namespace.to_owned(), name.clone());
            if let Some(referenced) = inner.by_secret.get_mut(&secret) {
                referenced.dependents.retain(|dependent| dependent != integration);
                if referenced.dependents.is_empty() {
                    inner.by_secret.remove(&secret);
                }
            }
        }
        for name in names.difference(&before) {
            let referenced = inner.by_secret.entry((namespace.to_owned(), name.clone())).or_default();
            referenced.dependents.push(integration.to_owned());
        }
        if !names.is_empty() {
            inner.by_integration.insert(key, names);
        }
    }

    /// Adds an integration.
    pub fn begin(&self, namespace: &str, uid: &str) {
        lock(&self.inner).uids.insert((namespace.to_owned(), uid.to_owned()));
    }

    /// Removes an integration.
    pub fn end(&self, namespace: &str, uid: &str) {
        lock(&self.inner).uids.remove(&(namespace.to_owned(), uid.to_owned()));
    }

    /// Whether an integration with this uid exists in a namespace. The check is needed because users who may label a
    /// Secret can write any uid.
    #[must_use]
    pub fn has(&self, namespace: &str, uid: &str) -> bool {
        lock(&self.inner).uids.contains(&(namespace.to_owned(), uid.to_owned()))
    }

    /// Records the version of a Secret (`None` if it is unknown), and returns the integrations that reference it.
    pub fn record_version(&self, secret: &SecretRef, version: Option<u64>) -> Vec<String> {
        lock(&self.inner).by_secret.get_mut(secret).map_or_else(Vec::new, |referenced| {
            referenced.version = version.max(version.and(referenced.version));
            referenced.dependents.clone()
        })
    }

    /// The integrations that reference a Secret.
    #[must_use]
    pub fn dependents(&self, secret: &SecretRef) -> Vec<String> {
        lock(&self.inner).by_secret.get(secret).map_or_else(Vec::new, |referenced| referenced.dependents.clone())
    }

    /// Records the version of a Secret that was read.
    pub fn record_read(&self, secret: &SecretRef, version: u64) {
        if let Some(referenced) = lock(&self.inner).by_secret.get_mut(secret) {
            referenced.version = referenced.version.max(Some(version));
        }
    }

    /// The version of a Secret, if it is known.
    #[must_use]
    pub fn version(&self, secret: &SecretRef) -> Option<u64> {
        lock(&self.inner).by_secret.get(secret)?.version
    }

    /// All Secrets that are referenced in a namespace; `None`: in all namespaces.
    #[must_use]
    pub fn all(&self, namespace: Option<&str>) -> HashSet<SecretRef> {
        let inner = lock(&self.inner);
        inner.by_secret.keys().filter(|(ns, _)| namespace.is_none_or(|wanted| wanted == ns)).cloned().collect()
    }
}
