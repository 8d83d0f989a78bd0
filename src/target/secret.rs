//! Builds the target Secret: its data, and the annotations with the operator's state. Pure.
//!
//! After a restart, the operator reads its state from these annotations instead of requesting new tokens.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::api::names::{MANAGER, RENEW_REQUESTED_AT};
use crate::api::target::TargetKeys;
use crate::fingerprint;
use crate::oauth::lifetime::TokenTimes;
use crate::target::annotations::{
    ACCESS_TOKEN_HASH, BINDING_HASH, CERTIFICATE_EXPIRES_AT, CLIENT_SECRET, CONTENT_CHANGED_AT, CONTENT_HASH,
    CREDENTIALS_HASH, CREDENTIALS_NAME, CREDENTIALS_VERSION, DATA_HASH, EXPIRES_AT, INTEGRATION_UID, ISSUED_AT, KEYS,
    LIFETIME_WARNING, MANAGED_BY, NEXT, PREVIOUS_EXPIRES_AT, REFRESH_TOKEN_AT, REFRESH_TOKEN_EXPIRES_AT,
    REFRESH_TOKEN_HASH, REFRESH_TOKEN_ROTATED, REFRESH_TOKEN_SECRET, RENEW_AT, RETAINED_BY, RETAINED_FOR, SESSION_ENDS,
    SPEC_HASH, TEMPLATE_HASH, WrittenKeys,
};
use crate::target::content::{DataValue, Provenance, TargetContent};
use crate::target::integrity::data_hash;
use crate::target::snapshot::TargetSnapshot;
use crate::target::template::SecretTemplate;
use crate::target::types;
use crate::target::version::ContentVersion;

/// The uid of the integration that requested retention of a Secret; `None` if the Secret is deleted with its
/// integration. If an integration has taken over a Secret that another one retained, the Secret stays, unless its
/// owner has handed it over ([`ADOPT_BY`]).
#[must_use]
pub fn retained_by(
    known: Option<&TargetSnapshot>,
    owner: &OwnerReference,
    template: &SecretTemplate,
) -> Option<String> {
    match known.filter(|known| known.is_retained_by_another(&owner.name, &owner.uid)) {
        Some(known) => Some(known.retained_by.clone()),
        None => template.retained.then(|| owner.uid.clone()),
    }
}

/// The target to write at `now` in place of the known one; the write is rejected unless the live Secret still has the known
/// uid.
#[must_use]
pub fn build_secret(
    namespace: &str,
    owner: &OwnerReference,
    known: Option<&TargetSnapshot>,
    template: &SecretTemplate,
    content: &TargetContent,
    now: Timestamp,
) -> Secret {
    match &template.refresh_token_secret {
        None => build(namespace, owner, known, template, content, content, now),
        Some(_) => build(namespace, owner, known, template, content, &content.without_refresh_token(), now),
    }
}

/// The Secret for the refresh token, if it is not in the target. Also without a refresh token, so that one that is no
/// longer valid is removed.
#[must_use]
pub fn build_refresh_token_secret(
    namespace: &str,
    owner: &OwnerReference,
    known: Option<&TargetSnapshot>,
    template: &SecretTemplate,
    content: &TargetContent,
    now: Timestamp,
) -> Option<Secret> {
    let template = template.for_refresh_token()?;
    Some(build(namespace, owner, known, &template, content, &content.only_refresh_token(), now))
}

/// A Secret with a part of the content.
fn build(
    namespace: &str,
    owner: &OwnerReference,
    known: Option<&TargetSnapshot>,
    template: &SecretTemplate,
    whole: &TargetContent,
    content: &TargetContent,
    now: Timestamp,
) -> Secret {
    let fingerprints =
        content.data.iter().map(|(key, DataValue { fingerprint, value: _ })| (key.clone(), fingerprint.clone()));
    let written = WrittenKeys { keys: template.keys.clone(), data: fingerprints.collect() };
    let data = data(template, content);
    let mut labels = template.labels.clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(INTEGRATION_UID.to_owned(), owner.uid.clone());
    let mut annotations = template.annotations.clone();
    annotations.extend(bookkeeping_annotations(template, content, &written, &data));
    let is_or_has = |name: &String| *name == template.secret_name || whole.refresh_token.is_some();
    if let Some(name) = template.refresh_token_secret.clone().filter(is_or_has) {
        annotations.insert(REFRESH_TOKEN_SECRET.to_owned(), name);
    }
    if is_rotated(whole) {
        annotations.insert(REFRESH_TOKEN_ROTATED.to_owned(), "true".to_owned());
    }
    if content.access_token.is_some() {
        // An earlier release did not record since when the content is the same.
        let is_recorded = known.is_none_or(|known| known.content.is_some());
        let now = if is_recorded { now } else { content.times.issued_at };
        let known = known.and_then(|known| known.content.as_ref());
        let ContentVersion { hash, changed_at } = ContentVersion::next(known, &template.keys, &data, now);
        annotations.insert(CONTENT_HASH.to_owned(), hash);
        annotations.insert(CONTENT_CHANGED_AT.to_owned(), changed_at.to_string());
    }
    let retained_by = retained_by(known, owner, template);
    let is_owned = retained_by.is_none();
    if let Some(uid) = retained_by {
        annotations.insert(RETAINED_FOR.to_owned(), retained_for(namespace, &template.secret_name, &owner.name));
        annotations.insert(RETAINED_BY.to_owned(), uid);
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(template.secret_name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: known.map(|known| known.uid.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: is_owned.then(|| vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some(template.type_.clone()),
        data: Some(data),
        ..Secret::default()
    }
}

fn retained_for(namespace: &str, secret: &str, integration: &str) -> String {
    format!("{namespace}/{secret}/{integration}")
}

pub(crate) fn data(template: &SecretTemplate, content: &TargetContent) -> BTreeMap<String, ByteString> {
    let TargetKeys { access_token, refresh_token, token_type, expires_at, scope, previous_access_token, dpop_key } =
        &template.keys;
    let expiry = content.times.expires_at.to_string();
    let own = [
        (Some(access_token), content.access_token.as_ref().map(ExposeSecret::expose_secret)),
        (Some(refresh_token), content.refresh_token.as_ref().map(ExposeSecret::expose_secret)),
        (token_type.as_ref(), content.token_type.as_deref()),
        (expires_at.as_ref(), Some(expiry.as_str())),
        (scope.as_ref(), content.scope.as_deref()),
        (previous_access_token.as_ref(), content.previous.as_ref().map(|previous| previous.token.expose_secret())),
        (dpop_key.as_ref(), content.dpop_key.as_ref().map(ExposeSecret::expose_secret)),
    ];
    let more = content.data.iter();
    let more = more.map(|(key, data)| (Some(key), data.value.as_ref().map(ExposeSecret::expose_secret)));
    let values = more.chain(own).filter_map(|(key, value)| Some((key?.clone(), value?)));
    let mut data: BTreeMap<String, ByteString> =
        values.map(|(key, value)| (key, ByteString(value.as_bytes().to_vec()))).collect();
    // The API server rejects a Secret without the keys of its type, which could be the only copy of a refresh token.
    for (key, placeholder) in types::required_keys(&template.type_) {
        if !data.contains_key(*key) && template.has_key(key) {
            data.insert((*key).to_owned(), ByteString(placeholder.as_bytes().to_vec()));
        }
    }
    data
}

/// Whether the refresh token is not the initial one.
fn is_rotated(content: &TargetContent) -> bool {
    let initial = content.provenance.refresh_token_hash.as_ref();
    initial
        .zip(content.refresh_token.as_ref())
        .is_some_and(|(initial, token)| !fingerprint::matches(initial, &[token.expose_secret()]))
}

fn bookkeeping_annotations(
    template: &SecretTemplate,
    content: &TargetContent,
    written: &WrittenKeys,
    data: &BTreeMap<String, ByteString>,
) -> BTreeMap<String, String> {
    let TokenTimes {
        issued_at,
        expires_at,
        renew_at,
        refresh_token_expires_at,
        certificate_expires_at,
        session_ends,
        warning,
    } = content.times;
    let Provenance {
        spec_hash,
        credentials_hash,
        credentials_name,
        credentials_version,
        binding,
        access_token_hash,
        refresh_token_hash,
        uses_next_secret,
        renew_requested_at,
    } = &content.provenance;
    let always = [
        (ISSUED_AT, issued_at.to_string()),
        (EXPIRES_AT, expires_at.to_string()),
        (RENEW_AT, renew_at.to_string()),
        (SPEC_HASH, spec_hash.clone()),
        (TEMPLATE_HASH, template.hash.clone()),
        (CREDENTIALS_HASH, credentials_hash.clone()),
        (CREDENTIALS_NAME, credentials_name.clone()),
        (CREDENTIALS_VERSION, credentials_version.clone()),
        (BINDING_HASH, binding.clone()),
        (DATA_HASH, data_hash(written, data)),
        (KEYS, json!(written).to_string()),
    ];
    let sometimes = [
        (REFRESH_TOKEN_EXPIRES_AT, refresh_token_expires_at.map(|at| at.to_string())),
        (CERTIFICATE_EXPIRES_AT, certificate_expires_at.map(|at| at.to_string())),
        (SESSION_ENDS, session_ends.then(|| "true".to_owned())),
        (LIFETIME_WARNING, warning.map(|warning| warning.as_str().to_owned())),
        (ACCESS_TOKEN_HASH, access_token_hash.clone()),
        (REFRESH_TOKEN_HASH, refresh_token_hash.clone()),
        (REFRESH_TOKEN_AT, content.refresh_token.as_ref().and(content.refresh_token_at).map(|at| at.to_string())),
        (PREVIOUS_EXPIRES_AT, content.previous.as_ref().map(|previous| previous.expires_at.to_string())),
        (CLIENT_SECRET, uses_next_secret.then(|| NEXT.to_owned())),
        (RENEW_REQUESTED_AT, renew_requested_at.clone()),
    ];
    always
        .into_iter()
        .chain(sometimes.into_iter().filter_map(|(name, value)| Some((name, value?))))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
