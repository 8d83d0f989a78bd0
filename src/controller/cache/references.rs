//! An index of the Secrets that integrations and providers reference.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::provider::{ProviderKind, ProviderRef};
use crate::controller::cache::lock::lock;
use crate::spec::expiry::DeclaredExpiry;
use crate::target::annotations;

/// A Secret: its namespace and its name.
pub type SecretRef = (String, String);

/// The beginning of the name under which the tokens of an integration are referenced, which no Secret can have.
const TOKENS_OF: &str = "oauthintegration/";

/// The reference to the tokens of an integration, whatever its target Secret is.
#[must_use]
pub fn tokens_of(integration: &str) -> String {
    format!("{TOKENS_OF}{integration}")
}

/// The name under which a provider references its Secret, which no integration can have.
#[must_use]
pub fn provider(reference: &ProviderRef) -> String {
    format!("{}/{}", reference.kind.as_str(), reference.name)
}

/// The provider that references a Secret under this name.
#[must_use]
pub fn as_provider(dependent: &str) -> Option<ProviderRef> {
    let (kind, name) = dependent.split_once('/')?;
    let kind = [ProviderKind::Namespaced, ProviderKind::Cluster].into_iter().find(|known| known.as_str() == kind)?;
    Some(ProviderRef { kind, name: name.to_owned() })
}

/// An object other than a Secret that a provider names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedKind {
    /// With a CA bundle.
    ConfigMap,
    /// Whose token is used.
    ServiceAccount,
}

/// The name under which a provider references such an object, which no Secret can have.
#[must_use]
pub fn named(kind: NamedKind, name: &str) -> String {
    match kind {
        NamedKind::ConfigMap => format!("configmap/{name}"),
        NamedKind::ServiceAccount => format!("serviceaccount/{name}"),
    }
}

fn is_secret(name: &str) -> bool {
    !name.contains('/')
}

pub(crate) type NamespaceAndUid = (String, String);

/// What is known about a Secret without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// Its version.
    pub version: u64,
    /// What its annotation says about the expiry of the credentials in it. Users can write any text there, so only the
    /// parsed time is kept.
    pub expiry: DeclaredExpiry,
}

impl SecretFacts {
    /// The facts in the metadata of a Secret.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self { version: annotations::version(meta), expiry: DeclaredExpiry::of(meta) }
    }
}

/// The Secrets that integrations reference, with their versions.
#[derive(Debug, Default)]
pub struct SecretReferences {
    inner: Mutex<ReferenceIndex>,
}

#[derive(Debug, Default)]
struct ReferenceIndex {
    by_secret: HashMap<SecretRef, ReferencedSecret>,
    /// The Secrets that an integration (namespace and name) references.
    by_integration: HashMap<(String, String), Box<[String]>>,
    /// The existing integrations, by namespace and uid.
    uids: HashSet<NamespaceAndUid>,
}

#[derive(Debug, Default)]
struct ReferencedSecret {
    facts: Option<SecretFacts>,
    /// Whether its deletion will be reported to its dependents.
    is_deletion_pending: bool,
    dependents: Vec<String>,
}

impl SecretReferences {
    /// Records which Secrets an integration references; an empty set if it was deleted.
    pub fn set_references(&self, namespace: &str, integration: &str, names: HashSet<String>) {
        let mut inner = lock(&self.inner);
        let key = (namespace.to_owned(), integration.to_owned());
        let before = inner.by_integration.remove(&key).unwrap_or_default();
        for name in before.iter().filter(|name| !names.contains(*name)) {
            let secret = (namespace.to_owned(), name.clone());
            if let Some(referenced) = inner.by_secret.get_mut(&secret) {
                referenced.dependents.retain(|dependent| dependent != integration);
                if referenced.dependents.is_empty() {
                    inner.by_secret.remove(&secret);
                }
            }
        }
        for name in names.iter().filter(|name| !before.contains(name)) {
            let referenced = inner.by_secret.entry((namespace.to_owned(), name.clone())).or_default();
            // Most Secrets are referenced once.
            if referenced.dependents.is_empty() {
                referenced.dependents.reserve_exact(1);
            }
            referenced.dependents.push(integration.to_owned());
        }
        if !names.is_empty() {
            inner.by_integration.insert(key, names.into_iter().collect());
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

    /// Records what a watch says about a Secret (`None` if it is gone), and returns the integrations that reference it.
    pub fn record_watched(&self, secret: &SecretRef, facts: Option<SecretFacts>) -> Vec<String> {
        lock(&self.inner).by_secret.get_mut(secret).map_or_else(Vec::new, |referenced| {
            referenced.facts = facts.map(|facts| newest(referenced.facts, facts));
            referenced.dependents.clone()
        })
    }

    /// Records that a Secret was deleted. `true` if the caller must call [`SecretReferences::end_deletion`] later;
    /// `false` if no integration references the Secret, or if a previous caller has not done so yet: a Secret that is
    /// created and deleted in a loop causes one report at a time.
    #[must_use]
    pub fn record_deletion(&self, secret: &SecretRef) -> bool {
        lock(&self.inner).by_secret.get_mut(secret).is_some_and(|referenced| {
            referenced.facts = None;
            !std::mem::replace(&mut referenced.is_deletion_pending, true)
        })
    }

    /// Ends a recorded deletion, and returns the integrations that reference the Secret now.
    #[must_use]
    pub fn end_deletion(&self, secret: &SecretRef) -> Vec<String> {
        lock(&self.inner).by_secret.get_mut(secret).map_or_else(Vec::new, |referenced| {
            referenced.is_deletion_pending = false;
            referenced.dependents.clone()
        })
    }

    /// Records a Secret that was read.
    pub fn record_read(&self, secret: &SecretRef, facts: SecretFacts) {
        if let Some(referenced) = lock(&self.inner).by_secret.get_mut(secret) {
            referenced.facts = Some(newest(referenced.facts, facts));
        }
    }

    /// What is known about a Secret.
    #[must_use]
    pub fn facts(&self, secret: &SecretRef) -> Option<SecretFacts> {
        lock(&self.inner).by_secret.get(secret)?.facts
    }

    /// The integrations that reference something.
    #[must_use]
    pub fn dependents(&self, referenced: &SecretRef) -> Vec<String> {
        lock(&self.inner).by_secret.get(referenced).map_or_else(Vec::new, |referenced| referenced.dependents.clone())
    }

    /// All Secrets that are referenced in a namespace; `None`: in all namespaces.
    #[must_use]
    pub fn all(&self, namespace: Option<&str>) -> HashSet<SecretRef> {
        let inner = lock(&self.inner);
        let is_wanted = |(ns, name): &&SecretRef| namespace.is_none_or(|wanted| wanted == ns) && is_secret(name);
        inner.by_secret.keys().filter(is_wanted).cloned().collect()
    }
}

/// A watch may be behind a read.
fn newest(known: Option<SecretFacts>, found: SecretFacts) -> SecretFacts {
    known.filter(|known| known.version > found.version).unwrap_or(found)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn facts(version: u64) -> SecretFacts {
        let expiry = Timestamp::from_second(i64::try_from(version).unwrap_or_default());
        SecretFacts { version, expiry: expiry.map_or(DeclaredExpiry::Invalid, DeclaredExpiry::At) }
    }

    #[test]
    fn the_newest_version_counts_with_its_expiry_whether_it_was_read_or_watched() {
        let (references, secret) = (SecretReferences::default(), ("a".to_owned(), "credentials".to_owned()));
        references.record_read(&secret, facts(1));
        assert_eq!(references.facts(&secret), None, "nothing references it, so nothing is kept");
        references.set_references("a", "erp", HashSet::from(["credentials".to_owned()]));
        references.record_read(&secret, facts(2));
        assert_eq!(references.record_watched(&secret, Some(facts(1))), ["erp"]);
        assert_eq!(references.facts(&secret), Some(facts(2)), "the watch is behind");
        references.record_watched(&secret, Some(facts(3)));
        references.record_read(&secret, facts(2));
        assert_eq!(references.facts(&secret), Some(facts(3)));
        let without = SecretFacts { version: 4, expiry: DeclaredExpiry::None };
        references.record_watched(&secret, Some(without));
        assert_eq!(references.facts(&secret), Some(without), "the annotation was removed");
        references.record_watched(&secret, None);
        assert_eq!(references.facts(&secret), None);
    }

    #[test]
    fn a_secret_has_one_pending_deletion_at_a_time() {
        let (references, secret) = (SecretReferences::default(), ("a".to_owned(), "credentials".to_owned()));
        assert!(!references.record_deletion(&secret), "nothing references it");
        references.set_references("a", "erp", HashSet::from(["credentials".to_owned()]));
        references.record_watched(&secret, Some(facts(1)));
        assert!(references.record_deletion(&secret));
        assert_eq!(references.facts(&secret), None);
        references.record_watched(&secret, Some(facts(2)));
        assert!(!references.record_deletion(&secret), "created and deleted again");
        assert_eq!(references.facts(&secret), None);
        assert_eq!(references.end_deletion(&secret), ["erp"]);
        assert!(references.record_deletion(&secret), "the next deletion");
    }
}
