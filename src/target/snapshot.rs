//! The snapshot of a target Secret.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::api::names::{MANAGER, RENEW_REQUESTED_AT};
use crate::oauth::lifetime::TokenTimes;
use crate::target::annotations::{
    ACCESS_TOKEN_HASH, ADOPT_BY, BINDING_HASH, CLIENT_SECRET, CREDENTIALS_HASH, CREDENTIALS_NAME, CREDENTIALS_VERSION,
    INTEGRATION_UID, MANAGED_BY, NEXT, REFRESH_TOKEN_HASH, REFRESH_TOKEN_ROTATED, REFRESH_TOKEN_SECRET, RETAINED_BY,
    RETAINED_FOR, SPEC_HASH, TEMPLATE_HASH, annotation, label, times, version,
};
use crate::target::content::Provenance;
use crate::target::integrity::{Integrity, integrity};
use crate::target::looks::{ANNOTATION, DATA, LABEL, Looks};
use crate::target::template::{DataExpression, SecretTemplate};
use crate::target::version::ContentVersion;

/// The state of a Secret that the operator has written: everything that decisions need, without secret values.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate observation, and all combinations are possible")]
pub struct TargetSnapshot {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, the precondition of every later write.
    pub uid: String,
    /// Its version, which is guaranteed to be a number and comparable since Kubernetes 1.35; 0 if it is not a number.
    pub version: u64,
    /// Whether it has the operator's label.
    pub managed: bool,
    /// The integration's uid, from the label.
    pub integration_uid: String,
    /// The integration's name and uid, from the owner reference; or from label and annotation if the Secret stays
    /// when its integration is deleted.
    pub owner: Option<(String, String)>,
    /// Whether it has no owner reference, so that it stays when its integration is deleted.
    pub retained: bool,
    /// The uid of the integration that requested retention; only relevant for a retained Secret.
    pub retained_by: String,
    /// The name of the integration that the owner of the Secret hands it over to.
    pub adopt_by: Option<Box<str>>,
    /// When its token was requested, when it expires and when it is renewed; `None` if the annotations are missing.
    pub times: Option<TokenTimes>,
    /// The inputs that produced its token.
    pub provenance: Provenance,
    /// Fingerprint of its template.
    pub template_hash: String,
    /// Whether the server has replaced the initial refresh token.
    pub has_rotated: bool,
    /// The name of the Secret that holds the refresh token, if it is not this one and there is a refresh token; its own
    /// name if it is that Secret.
    pub refresh_token_secret: Option<String>,
    /// The version of what workloads read in it; `None` if it has no access token.
    pub content: Option<ContentVersion>,
    /// Whether its data is unchanged.
    pub integrity: Integrity,
    /// Whether the operator still owns fields through its create call: an apply does not remove fields that were set
    /// only by a create.
    pub has_update_managed_fields: bool,
    /// Its labels and annotations other than the operator's own.
    pub looks: Looks,
    /// The keys of `spec.target.data`, with the expressions that produced their values.
    pub data: Looks,
}

/// The maximum stored length of an annotation; a longer one was not written by the operator.
const MAX_TEXT: usize = 1 << 10;
/// The maximum length of an object name.
const MAX_NAME: usize = 253;
/// The maximum length of a uid; those of the API server have 36 bytes.
const MAX_UID: usize = 64;
/// The fixed memory use of a snapshot: the struct itself, the allocations of its strings, and its entry in a map.
const BASE_WEIGHT: usize = 1 << 10;

impl TargetSnapshot {
    /// The snapshot of a Secret.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let none = BTreeMap::new();
        Self::read(&secret.metadata, Some(secret.data.as_ref().unwrap_or(&none)))
    }

    /// The snapshot of a Secret whose data has possibly not been read (`None`).
    #[must_use]
    pub fn read(meta: &ObjectMeta, data: Option<&BTreeMap<String, ByteString>>) -> Self {
        let optional = |name: &str| {
            let text = annotation(meta, name).filter(|text| text.len() <= MAX_TEXT);
            text.map(ToOwned::to_owned)
        };
        let text = |name: &str| optional(name).unwrap_or_default();
        let provenance = Provenance {
            spec_hash: text(SPEC_HASH),
            credentials_hash: text(CREDENTIALS_HASH),
            credentials_name: text(CREDENTIALS_NAME),
            credentials_version: text(CREDENTIALS_VERSION),
            binding: text(BINDING_HASH),
            access_token_hash: optional(ACCESS_TOKEN_HASH),
            refresh_token_hash: optional(REFRESH_TOKEN_HASH),
            uses_next_secret: annotation(meta, CLIENT_SECRET) == Some(NEXT),
            renew_requested_at: optional(RENEW_REQUESTED_AT),
        };
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: version(meta),
            managed: label(meta, MANAGED_BY) == Some(MANAGER),
            integration_uid: label(meta, INTEGRATION_UID).unwrap_or_default().to_owned(),
            owner: owner(meta),
            retained: is_retained(meta),
            // Earlier releases did not write this annotation; the Secret has then not been taken over yet.
            retained_by: annotation(meta, RETAINED_BY)
                .or(label(meta, INTEGRATION_UID))
                .filter(|uid| uid.len() <= MAX_UID)
                .unwrap_or_default()
                .to_owned(),
            adopt_by: annotation(meta, ADOPT_BY).filter(|name| name.len() <= MAX_NAME).map(Into::into),
            times: times(meta),
            provenance,
            template_hash: text(TEMPLATE_HASH),
            has_rotated: annotation(meta, REFRESH_TOKEN_ROTATED) == Some("true"),
            refresh_token_secret: annotation(meta, REFRESH_TOKEN_SECRET)
                .filter(|name| name.len() <= MAX_NAME)
                .map(ToOwned::to_owned),
            content: ContentVersion::of(meta),
            integrity: integrity(meta, data),
            has_update_managed_fields: has_update_managed_fields(meta),
            looks: Looks::of(meta),
            data: Looks::of_data(meta),
        }
    }

    /// Approximate memory use, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let Provenance {
            spec_hash,
            credentials_hash,
            credentials_name,
            credentials_version,
            binding,
            access_token_hash,
            refresh_token_hash,
            uses_next_secret: _,
            renew_requested_at,
        } = &self.provenance;
        let provenance = [spec_hash, credentials_hash, credentials_name, credentials_version, binding];
        let own =
            [&self.namespace, &self.name, &self.uid, &self.integration_uid, &self.retained_by, &self.template_hash];
        let owner = self.owner.iter().flat_map(|(name, uid)| [name, uid]);
        let optional = [access_token_hash, refresh_token_hash, renew_requested_at, &self.refresh_token_secret]
            .into_iter()
            .flatten();

        let content = self.content.iter().map(|content| &content.hash);
        let texts = provenance.into_iter().chain(own).chain(owner).chain(optional).chain(content);
        let texts: usize = texts.map(String::len).chain(self.adopt_by.iter().map(|name| name.len())).sum();
        BASE_WEIGHT + texts + (self.looks.0.len() + self.data.0.len()) * size_of::<u64>()
    }

    /// Whether the operator has not written it.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        !self.managed
    }

    /// Whether the integration with this uid owns the Secret.
    #[must_use]
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.owner.as_ref().is_some_and(|(_, owner)| owner == uid)
    }

    /// The name of the integration that owns it, if it can be the name of one: others may write the Secret as well.
    #[must_use]
    pub fn owner_name(&self) -> Option<String> {
        let is_name = |name: &&String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        self.owner.as_ref().map(|(name, _)| name).filter(is_name).cloned()
    }

    /// Whether it is a Secret for a refresh token, and not a target.
    #[must_use]
    pub fn is_for_refresh_token(&self) -> bool {
        self.refresh_token_secret.as_ref() == Some(&self.name)
    }

    /// The name of the other Secret that holds the refresh token.
    #[must_use]
    pub fn refresh_token_elsewhere(&self) -> Option<&String> {
        self.refresh_token_secret.as_ref().filter(|name| **name != self.name)
    }

    /// Whether its data is known to be modified.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.integrity == Integrity::Changed
    }

    /// Whether its data has not been read in this version.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.integrity == Integrity::Unread
    }

    /// Whether it was retained for an integration with this name, regardless of the uid.
    #[must_use]
    pub fn is_retained_for(&self, name: &str) -> bool {
        self.retained && self.owner.as_ref().is_some_and(|(owner, _)| owner == name)
    }

    /// Whether another integration requested its retention, and its owner has not handed it over to this one.
    #[must_use]
    pub fn is_retained_by_another(&self, name: &str, uid: &str) -> bool {
        self.retained && self.retained_by != uid && self.adopt_by.as_deref() != Some(name)
    }

    /// Shifts the times of its token after the clock was set.
    pub fn shift(&mut self, by: SignedDuration) {
        let moved = |at: Timestamp| at.checked_add(by).unwrap_or(at);
        self.times = self.times.map(|times| TokenTimes {
            issued_at: moved(times.issued_at),
            expires_at: moved(times.expires_at),
            renew_at: moved(times.renew_at),
            refresh_token_expires_at: times.refresh_token_expires_at.map(moved),
            ..times
        });
    }

    /// The expressions of a template whose results are not stored.
    pub fn missing_data<'a>(&self, template: &'a SecretTemplate) -> impl Iterator<Item = &'a DataExpression> {
        let is_stored = |(key, data): &(&String, &DataExpression)| self.data.contains(DATA, (key, &data.fingerprint));
        template.data.iter().filter(move |entry| !is_stored(entry)).map(|(_, data)| data)
    }

    /// Whether exactly the results of the expressions of a template are stored.
    #[must_use]
    pub fn has_template_data(&self, template: &SecretTemplate) -> bool {
        self.data.0.len() == template.data.len() && self.missing_data(template).next().is_none()
    }

    /// Whether the labels and annotations of a template are present.
    #[must_use]
    pub fn has_template_metadata(&self, template: &SecretTemplate) -> bool {
        template.labels.iter().all(|label| self.looks.contains(LABEL, label))
            && template.annotations.iter().all(|annotation| self.looks.contains(ANNOTATION, annotation))
    }
}

/// A Secret with any owner reference is not retained, regardless of the annotation.
fn is_retained(meta: &ObjectMeta) -> bool {
    meta.owner_references.as_ref().is_none_or(Vec::is_empty) && retained_for(meta).is_some()
}

/// The integration that a Secret is retained for; `None` for a copy.
fn retained_for(meta: &ObjectMeta) -> Option<&str> {
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    let own = annotation(meta, RETAINED_FOR)?;
    own.strip_prefix(namespace)?.strip_prefix('/')?.strip_prefix(name)?.strip_prefix('/')
}

fn owner(meta: &ObjectMeta) -> Option<(String, String)> {
    if is_retained(meta) {
        let (name, uid) = (retained_for(meta)?, label(meta, INTEGRATION_UID)?);
        let is_bounded = name.len() <= MAX_NAME && uid.len() <= MAX_UID;
        return is_bounded.then(|| (name.to_owned(), uid.to_owned()));
    }
    let owners = meta.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.kind == "OAuthIntegration" && owner.controller == Some(true))
        .map(|owner| (owner.name.clone(), owner.uid.clone()))
        .next()
        .filter(|(name, uid)| name.len() <= MAX_NAME && uid.len() <= MAX_UID)
}

fn has_update_managed_fields(meta: &ObjectMeta) -> bool {
    let own = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Update")
    };
    meta.managed_fields.iter().flatten().any(|entry| own(&entry))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    /// There is one for each integration.
    #[test]
    fn a_snapshot_is_small() {
        const ARC: usize = 2 * size_of::<usize>();
        let size = size_of::<TargetSnapshot>();
        assert!(size <= 640 - ARC, "{size} bytes: the allocation of a snapshot is in the next size class");
    }

    fn snapshot(name: &str, retained_for: &str, owners: &serde_json::Value) -> TargetSnapshot {
        let meta = serde_json::from_value(json!({
            "namespace": "ns", "name": name, "uid": "secret-uid", "resourceVersion": "7",
            "labels": {INTEGRATION_UID: "uid"}, "annotations": {RETAINED_FOR: retained_for}, "ownerReferences": owners,
        }));
        TargetSnapshot::read(&meta.expect("metadata"), None)
    }

    #[test]
    fn a_retained_secret_belongs_to_the_integration_that_its_annotation_names() {
        let snapshot = snapshot("tokens", "ns/tokens/it", &json!([]));
        assert!(snapshot.retained && snapshot.is_retained_for("it") && !snapshot.is_retained_for("another"));
        assert_eq!(snapshot.owner, Some(("it".to_owned(), "uid".to_owned())));
    }

    #[test]
    fn a_copy_and_a_secret_with_another_owner_are_not_retained() {
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "pod", "uid": "pod-uid", "controller": true}]);
        let cases = [
            ("a copy under another name", snapshot("copy", "ns/tokens/it", &json!([]))),
            ("a copy in another namespace", snapshot("tokens", "other/tokens/it", &json!([]))),
            ("an owner reference of any kind", snapshot("tokens", "ns/tokens/it", &owner)),
        ];
        for (case, snapshot) in cases {
            assert!(!snapshot.retained && !snapshot.is_retained_for("it"), "{case}");
            assert_eq!(snapshot.owner, None, "{case}");
        }
    }

    #[test]
    fn only_its_owner_hands_a_retained_secret_over() {
        let snapshot =
            TargetSnapshot { retained_by: "uid".to_owned(), ..snapshot("tokens", "ns/tokens/it", &json!([])) };
        assert!(!snapshot.is_retained_by_another("it", "uid"), "its own decision");
        assert!(snapshot.is_retained_by_another("it", "new-uid"), "a new integration of the same name");
        let handed_over = TargetSnapshot { adopt_by: Some("it".into()), ..snapshot };
        assert!(!handed_over.is_retained_by_another("it", "new-uid"));
    }
}
