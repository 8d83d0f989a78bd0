//! The target Secret as data: what is written into it, and what is remembered of it. Pure.
//!
//! Its annotations are the operator's memory: a restart reads them and asks no endpoint for anything.

#![deny(clippy::disallowed_methods)]

mod facts;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::api::{MANAGER, OAuthIntegrationSpec, TargetKeys};
use crate::fingerprint;
use crate::oauth::life::Times;

pub use facts::{Facts, Fields};

/// Label that marks what the operator writes; its value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the uid of the integration, by which its Secrets are found.
pub const INTEGRATION_UID: &str = "oauth.evolutionx.io/integration-uid";
/// What every annotation and label of the operator's own begins with.
const OWN_PREFIX: &str = "oauth.evolutionx.io/";
const ISSUED_AT: &str = "oauth.evolutionx.io/issued-at";
const EXPIRES_AT: &str = "oauth.evolutionx.io/expires-at";
const RENEW_AT: &str = "oauth.evolutionx.io/renew-at";
const SPEC_HASH: &str = "oauth.evolutionx.io/spec-hash";
const SHAPE_HASH: &str = "oauth.evolutionx.io/shape-hash";
const CREDENTIALS_HASH: &str = "oauth.evolutionx.io/credentials-hash";
const CREDENTIALS_VERSION: &str = "oauth.evolutionx.io/credentials-version";
const REFRESH_TOKEN_HASH: &str = "oauth.evolutionx.io/first-refresh-token-hash";
const DATA_HASH: &str = "oauth.evolutionx.io/data-hash";
/// Annotation with the keys under which the values were written, as JSON.
pub const KEYS: &str = "oauth.evolutionx.io/keys";
/// The value of the request for a renewal that was last followed.
const RENEW_REQUESTED_AT: &str = crate::api::RENEW_REQUESTED_AT;

/// Characters of a token that is only tried; those of large identity providers have about as many.
const PLACEHOLDER_LENGTH: usize = 1_500;

/// What a target Secret looks like, beside its tokens.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Name of the Secret.
    pub secret_name: String,
    /// Which value stands under which key.
    pub keys: TargetKeys,
    /// Type of the Secret.
    pub type_: String,
    /// Labels that people want on it.
    pub labels: BTreeMap<String, String>,
    /// Annotations that people want on it.
    pub annotations: BTreeMap<String, String>,
    /// Fingerprint of all that can change without a new token.
    pub hash: String,
}

impl Shape {
    /// The shape that a spec asks for.
    #[must_use]
    pub fn new(integration: &str, spec: &OAuthIntegrationSpec) -> Self {
        let target = &spec.target;
        Self {
            secret_name: target.secret_name.clone().unwrap_or_else(|| integration.to_owned()),
            keys: target.keys.clone(),
            type_: target.type_.clone(),
            labels: target.labels.clone(),
            annotations: target.annotations.clone(),
            hash: fingerprint::plain(&json!({
                "labels": target.labels,
                "annotations": target.annotations,
                "renewBefore": spec.renew_before,
            })),
        }
    }
}

/// Tokens, and what is remembered with them.
#[derive(Clone, Debug)]
pub struct Content {
    /// The access token; missing where all that could be kept of an answer is its refresh token.
    pub access_token: Option<SecretString>,
    /// The refresh token, where there is one.
    pub refresh_token: Option<SecretString>,
    /// `token_type`, as told.
    pub token_type: Option<String>,
    /// `scope`, as told or asked for.
    pub scope: Option<String>,
    /// When it was asked for, ends and is renewed.
    pub times: Times,
    /// What produced it.
    pub origin: Origin,
}

impl Content {
    /// As large as what is to be expected, and worth nothing: to try whether it could be written.
    #[must_use]
    pub fn placeholder(now: Timestamp) -> Self {
        let token = || Some(SecretString::from("x".repeat(PLACEHOLDER_LENGTH)));
        let times = Times { issued_at: now, expires_at: now, renew_at: now };
        Self {
            access_token: token(),
            refresh_token: token(),
            token_type: None,
            scope: None,
            times,
            origin: Origin::default(),
        }
    }
}

/// What produced a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Fingerprint of the spec.
    pub spec_hash: String,
    /// Salted fingerprint of the credentials.
    pub credentials_hash: String,
    /// Version of the credentials Secret, which tells without a look into it that nothing changed.
    pub credentials_version: String,
    /// Salted fingerprint of the refresh token that stood in the credentials Secret.
    pub refresh_token_hash: Option<String>,
    /// The request for a renewal that was followed.
    pub renew_requested_at: Option<String>,
}

/// The Secret to write. With `uid`, the write is refused unless the live Secret still has it.
#[must_use]
pub fn secret(namespace: &str, owner: &OwnerReference, uid: Option<&str>, shape: &Shape, content: &Content) -> Secret {
    let data = data(&shape.keys, content);
    let mut labels = shape.labels.clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(INTEGRATION_UID.to_owned(), owner.uid.clone());
    let mut annotations = shape.annotations.clone();
    annotations.extend(memory(shape, content, &data));
    Secret {
        metadata: ObjectMeta {
            name: Some(shape.secret_name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: uid.map(ToOwned::to_owned),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some(shape.type_.clone()),
        data: Some(data),
        ..Secret::default()
    }
}

fn data(keys: &TargetKeys, content: &Content) -> BTreeMap<String, ByteString> {
    let TargetKeys { access_token, refresh_token, token_type, expires_at, scope } = keys;
    let ends = content.times.expires_at.to_string();
    [
        (Some(access_token), content.access_token.as_ref().map(ExposeSecret::expose_secret)),
        (Some(refresh_token), content.refresh_token.as_ref().map(ExposeSecret::expose_secret)),
        (token_type.as_ref(), content.token_type.as_deref()),
        (expires_at.as_ref(), Some(ends.as_str())),
        (scope.as_ref(), content.scope.as_deref()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key?.clone(), ByteString(value?.as_bytes().to_vec()))))
    .collect()
}

fn memory(shape: &Shape, content: &Content, data: &BTreeMap<String, ByteString>) -> BTreeMap<String, String> {
    let Times { issued_at, expires_at, renew_at } = content.times;
    let Origin { spec_hash, credentials_hash, credentials_version, refresh_token_hash, renew_requested_at } =
        &content.origin;
    let always = [
        (ISSUED_AT, issued_at.to_string()),
        (EXPIRES_AT, expires_at.to_string()),
        (RENEW_AT, renew_at.to_string()),
        (SPEC_HASH, spec_hash.clone()),
        (SHAPE_HASH, shape.hash.clone()),
        (CREDENTIALS_HASH, credentials_hash.clone()),
        (CREDENTIALS_VERSION, credentials_version.clone()),
        (DATA_HASH, fingerprint::salted(&parts(data.iter()))),
        (KEYS, json!(shape.keys).to_string()),
    ];
    let sometimes = [(REFRESH_TOKEN_HASH, refresh_token_hash), (RENEW_REQUESTED_AT, renew_requested_at)];
    always
        .into_iter()
        .chain(sometimes.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The content of a Secret that the operator has written, read back by the keys under which it was written.
/// `None` where it does not tell the times.
#[must_use]
pub fn content(secret: &Secret) -> Option<Content> {
    let keys = keys(&secret.metadata)?;
    let value = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
    };
    Some(Content {
        access_token: value(&keys.access_token).map(SecretString::from),
        refresh_token: value(&keys.refresh_token).map(SecretString::from),
        token_type: keys.token_type.as_deref().and_then(value),
        scope: keys.scope.as_deref().and_then(value),
        times: times(&secret.metadata)?,
        origin: Facts::of(secret).origin,
    })
}

/// The refresh token of a Secret that the operator has written, also where the rest of it was lost; `fallback` is its key
/// where the annotations no longer tell.
#[must_use]
pub fn refresh_token(secret: &Secret, fallback: &str) -> Option<SecretString> {
    let key = keys(&secret.metadata).map_or_else(|| fallback.to_owned(), |keys| keys.refresh_token);
    let bytes = &secret.data.as_ref()?.get(&key)?.0;
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty()).map(SecretString::from)
}

fn keys(meta: &ObjectMeta) -> Option<TargetKeys> {
    serde_json::from_str(annotation(meta, KEYS)?).ok()
}

/// Whether what stands under the operator's keys is what it wrote. Keys that others add are theirs.
fn intact(secret: &Secret) -> bool {
    let (Some(keys), Some(hash)) = (keys(&secret.metadata), annotation(&secret.metadata, DATA_HASH)) else {
        return false;
    };
    let own = [
        Some(&keys.access_token),
        Some(&keys.refresh_token),
        keys.token_type.as_ref(),
        keys.expires_at.as_ref(),
        keys.scope.as_ref(),
    ];
    let data = secret.data.iter().flatten().filter(|(key, _)| own.contains(&Some(key)));
    fingerprint::matches(hash, &parts(data))
}

/// Keys and values as text. What is not UTF-8 was not written by the operator, and any other text shows that.
fn parts<'a>(data: impl Iterator<Item = (&'a String, &'a ByteString)>) -> Vec<&'a str> {
    data.flat_map(|(key, value)| [key.as_str(), std::str::from_utf8(&value.0).unwrap_or("\u{fffd}")]).collect()
}

fn times(meta: &ObjectMeta) -> Option<Times> {
    let time = |name| annotation(meta, name)?.parse::<Timestamp>().ok();
    Some(Times { issued_at: time(ISSUED_AT)?, expires_at: time(EXPIRES_AT)?, renew_at: time(RENEW_AT)? })
}

/// The version of an object, as a number.
#[must_use]
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}
