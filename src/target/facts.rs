//! What is remembered of a target Secret.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::{
    CREDENTIALS_HASH, CREDENTIALS_NAME, CREDENTIALS_VERSION, INTEGRATION_UID, KEYS, MANAGED_BY, OWN_PREFIX, Origin,
    REFRESH_TOKEN_HASH, RENEW_REQUESTED_AT, RETAINED_FOR, SHAPE_HASH, SPEC_HASH, Shape, WrittenKeys, annotation,
    intact, label, times, version,
};
use crate::api::{MANAGER, TargetKeys};
use crate::oauth::life::Times;

/// What is remembered of a Secret that the operator has written: enough to decide, and nothing secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, the precondition of every later write.
    pub uid: String,
    /// Its version; a number since Kubernetes 1.35 says that it may be compared.
    pub version: u64,
    /// The integration's uid, as the label tells.
    pub integration_uid: String,
    /// The integration's name and uid, as the owner reference tells; or, where it stays when its integration goes, as label
    /// and annotation do.
    pub owner: Option<(String, String)>,
    /// Whether it has no owner, so that it stays when its integration goes.
    pub retained: bool,
    /// When its token was asked for, ends and is renewed; `None` where the annotations do not tell.
    pub times: Option<Times>,
    /// What produced its token.
    pub origin: Origin,
    /// Fingerprint of its shape.
    pub shape_hash: String,
    /// Whether its data are those that were written.
    pub intact: bool,
    /// Whether it still counts as made by a create, whose fields no apply can take away.
    pub created: bool,
    /// Which fields it has.
    pub fields: Fields,
    /// Labels that are not the operator's own.
    pub labels: BTreeMap<String, String>,
    /// Annotations that are not the operator's own.
    pub annotations: BTreeMap<String, String>,
}

impl Facts {
    /// What is remembered of a Secret.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let meta = &secret.metadata;
        let text = |name: &str| annotation(meta, name).unwrap_or_default().to_owned();
        let origin = Origin {
            spec_hash: text(SPEC_HASH),
            credentials_hash: text(CREDENTIALS_HASH),
            credentials_name: text(CREDENTIALS_NAME),
            credentials_version: text(CREDENTIALS_VERSION),
            refresh_token_hash: annotation(meta, REFRESH_TOKEN_HASH).map(ToOwned::to_owned),
            renew_requested_at: annotation(meta, RENEW_REQUESTED_AT).map(ToOwned::to_owned),
        };
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: version(meta),
            integration_uid: label(meta, INTEGRATION_UID).unwrap_or_default().to_owned(),
            owner: owner(meta),
            retained: is_retained(meta),
            times: times(meta),
            origin,
            shape_hash: text(SHAPE_HASH),
            intact: intact(secret),
            created: created(meta),
            fields: Fields::of(secret),
            labels: foreign(meta.labels.as_ref()),
            annotations: foreign(meta.annotations.as_ref()),
        }
    }

    /// Whether the integration with this uid made the Secret.
    #[must_use]
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.owner.as_ref().is_some_and(|(_, owner)| owner == uid)
    }

    /// Whether it was kept for an integration of this name, whatever its uid, when that was deleted.
    #[must_use]
    pub fn is_retained_for(&self, name: &str) -> bool {
        self.retained && self.owner.as_ref().is_some_and(|(owner, _)| owner == name)
    }

    /// Moves the times of its token, whose clock was set.
    pub fn shift(&mut self, by: SignedDuration) {
        let moved = |at: Timestamp| at.checked_add(by).unwrap_or(at);
        self.times = self.times.map(|Times { issued_at, expires_at, renew_at }| Times {
            issued_at: moved(issued_at),
            expires_at: moved(expires_at),
            renew_at: moved(renew_at),
        });
    }

    /// Whether the labels and annotations that a shape asks for are there.
    #[must_use]
    pub fn wears(&self, shape: &Shape) -> bool {
        let holds = |have: &BTreeMap<String, String>, want: &BTreeMap<String, String>| {
            want.iter().all(|(name, value)| have.get(name) == Some(value))
        };
        holds(&self.labels, &shape.labels) && holds(&self.annotations, &shape.annotations)
    }
}

/// With an owner of whatever kind it is not kept, whatever the annotation says.
fn is_retained(meta: &ObjectMeta) -> bool {
    meta.owner_references.as_ref().is_none_or(Vec::is_empty) && retained_for(meta).is_some()
}

/// The integration that a Secret is kept for; `None` for a copy.
fn retained_for(meta: &ObjectMeta) -> Option<&str> {
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    let own = annotation(meta, RETAINED_FOR)?;
    own.strip_prefix(namespace)?.strip_prefix('/')?.strip_prefix(name)?.strip_prefix('/')
}

fn owner(meta: &ObjectMeta) -> Option<(String, String)> {
    if is_retained(meta) {
        return Some((retained_for(meta)?.to_owned(), label(meta, INTEGRATION_UID)?.to_owned()));
    }
    let owners = meta.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.kind == "OAuthIntegration" && owner.controller == Some(true))
        .map(|owner| (owner.name.clone(), owner.uid.clone()))
        .next()
}

fn created(meta: &ObjectMeta) -> bool {
    let own = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Update")
    };
    meta.managed_fields.iter().flatten().any(|entry| own(&entry))
}

/// Which fields of the operator's own a Secret has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Fingerprint of the names that are always there: of the keys, and of the labels and annotations that people want.
    names: u64,
    /// Those that are there only sometimes, a bit for each.
    present: u16,
}

impl Fields {
    /// Those of a Secret that is there, or is to be written.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let meta = &secret.metadata;
        let mut names = DefaultHasher::new();
        (annotation(meta, KEYS), annotation(meta, SHAPE_HASH)).hash(&mut names);
        let data = |key: &String| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
        let values = WrittenKeys::of(meta).map_or([false; 6], |written| {
            let TargetKeys { access_token, refresh_token, token_type, expires_at, scope, dpop_key } = &written.keys;
            let optional = |key: &Option<String>| key.as_ref().is_some_and(data);
            let [told, ends, scope, key] = [token_type, expires_at, scope, dpop_key].map(optional);
            [data(access_token), data(refresh_token), told, ends, scope, key]
        });
        // The owner, too, is there only where the Secret is not kept when its integration goes; the annotation is there then.
        let owned = meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
        let memory =
            [REFRESH_TOKEN_HASH, RENEW_REQUESTED_AT, RETAINED_FOR].map(|name| annotation(meta, name).is_some());
        let present =
            values.into_iter().chain(memory).chain([owned]).fold(0, |bits, is_there| bits << 1 | u16::from(is_there));
        Self { names: names.finish(), present }
    }

    /// Whether one of them is not there in the other.
    #[must_use]
    pub fn lose_any_to(self, other: Self) -> bool {
        self.names != other.names || self.present & !other.present != 0
    }
}

fn foreign(map: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    map.into_iter()
        .flatten()
        .filter(|(name, _)| !name.starts_with(OWN_PREFIX) && *name != MANAGED_BY)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
