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
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::api::{DeletionPolicy, MANAGER, OAuthIntegrationSpec, TargetKeys};
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
/// Annotation with the name of the credentials Secret by which the tokens were had.
const CREDENTIALS_NAME: &str = "oauth.evolutionx.io/credentials-name";
const CREDENTIALS_VERSION: &str = "oauth.evolutionx.io/credentials-version";
const REFRESH_TOKEN_HASH: &str = "oauth.evolutionx.io/first-refresh-token-hash";
const DATA_HASH: &str = "oauth.evolutionx.io/data-hash";
/// Annotation with the keys under which the values were written, as JSON.
pub const KEYS: &str = "oauth.evolutionx.io/keys";
/// Whose Secret it is where it has no owner, so that it stays when the integration goes: `namespace/Secret/integration`. A copy under
/// another name, or in another namespace, is nobody's.
const RETAINED_FOR: &str = "oauth.evolutionx.io/retained-for";
/// Key of the private key of `spec.dpop`, where the spec names none.
const DPOP_KEY: &str = "dpop_key";
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
    /// Whether it stays when its integration goes.
    pub retained: bool,
    /// Fingerprint of all that can change without a new token.
    pub hash: String,
}

impl Shape {
    /// The shape that a spec asks for.
    #[must_use]
    pub fn new(integration: &str, spec: &OAuthIntegrationSpec) -> Self {
        let target = &spec.target;
        let mut keys = target.keys.clone();
        if spec.dpop.is_some() {
            keys.dpop_key.get_or_insert_with(|| DPOP_KEY.to_owned());
        } else {
            keys.dpop_key = None;
        }
        let retained = target.deletion_policy == Some(DeletionPolicy::Retain);
        let mut looks = json!({
            "labels": target.labels,
            "annotations": target.annotations,
            "renewBefore": spec.renew_before,
        });
        if retained {
            looks["retained"] = json!(true);
        }
        Self {
            secret_name: target.secret_name.clone().unwrap_or_else(|| integration.to_owned()),
            keys,
            type_: target.type_.clone(),
            labels: target.labels.clone(),
            annotations: target.annotations.clone(),
            retained,
            hash: fingerprint::plain(&looks),
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
    /// More values of the answer, by their key.
    pub extra: BTreeMap<String, SecretString>,
    /// The private key that the tokens are bound to, PKCS#8 as PEM (RFC 9449).
    pub dpop_key: Option<SecretString>,
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
            extra: BTreeMap::new(),
            dpop_key: None,
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
    /// Name of the credentials Secret, or where the tokens came from where there is none. A refresh token goes on only with
    /// these: who may name other credentials need not be allowed to read what the target holds.
    pub credentials_name: String,
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
    let written = WrittenKeys { keys: shape.keys.clone(), extra: content.extra.keys().cloned().collect() };
    let data = data(&shape.keys, content);
    let mut labels = shape.labels.clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(INTEGRATION_UID.to_owned(), owner.uid.clone());
    let mut annotations = shape.annotations.clone();
    annotations.extend(memory(shape, content, &written, &data));
    if shape.retained {
        annotations.insert(RETAINED_FOR.to_owned(), retained_for(namespace, &shape.secret_name, &owner.name));
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(shape.secret_name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: uid.map(ToOwned::to_owned),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: (!shape.retained).then(|| vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some(shape.type_.clone()),
        data: Some(data),
        ..Secret::default()
    }
}

fn retained_for(namespace: &str, secret: &str, integration: &str) -> String {
    format!("{namespace}/{secret}/{integration}")
}

fn data(keys: &TargetKeys, content: &Content) -> BTreeMap<String, ByteString> {
    let TargetKeys { access_token, refresh_token, token_type, expires_at, scope, dpop_key } = keys;
    let ends = content.times.expires_at.to_string();
    let own = [
        (Some(access_token), content.access_token.as_ref().map(ExposeSecret::expose_secret)),
        (Some(refresh_token), content.refresh_token.as_ref().map(ExposeSecret::expose_secret)),
        (token_type.as_ref(), content.token_type.as_deref()),
        (expires_at.as_ref(), Some(ends.as_str())),
        (scope.as_ref(), content.scope.as_deref()),
        (dpop_key.as_ref(), content.dpop_key.as_ref().map(ExposeSecret::expose_secret)),
    ];
    let extra = content.extra.iter().map(|(key, value)| (Some(key), Some(value.expose_secret())));
    extra.chain(own).filter_map(|(key, value)| Some((key?.clone(), ByteString(value?.as_bytes().to_vec())))).collect()
}

/// The keys under which values were written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrittenKeys {
    /// Those of `spec.target.keys`.
    #[serde(flatten)]
    pub keys: TargetKeys,
    /// Those of `spec.response.extra` that yielded something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<String>,
}

impl WrittenKeys {
    /// The keys of a Secret that the operator has written.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        serde_json::from_str(annotation(meta, KEYS)?).ok()
    }

    /// All of them, also those of values that are not there.
    fn all(&self) -> impl Iterator<Item = &String> {
        let TargetKeys { access_token, refresh_token, token_type, expires_at, scope, dpop_key } = &self.keys;
        let optional = [token_type, expires_at, scope, dpop_key].into_iter().flatten();
        [access_token, refresh_token].into_iter().chain(optional).chain(&self.extra)
    }
}

fn memory(
    shape: &Shape,
    content: &Content,
    written: &WrittenKeys,
    data: &BTreeMap<String, ByteString>,
) -> BTreeMap<String, String> {
    let Times { issued_at, expires_at, renew_at } = content.times;
    let Origin {
        spec_hash,
        credentials_hash,
        credentials_name,
        credentials_version,
        refresh_token_hash,
        renew_requested_at,
    } = &content.origin;
    let always = [
        (ISSUED_AT, issued_at.to_string()),
        (EXPIRES_AT, expires_at.to_string()),
        (RENEW_AT, renew_at.to_string()),
        (SPEC_HASH, spec_hash.clone()),
        (SHAPE_HASH, shape.hash.clone()),
        (CREDENTIALS_HASH, credentials_hash.clone()),
        (CREDENTIALS_NAME, credentials_name.clone()),
        (CREDENTIALS_VERSION, credentials_version.clone()),
        (DATA_HASH, fingerprint::salted(&parts(data.iter()))),
        (KEYS, json!(written).to_string()),
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
    let WrittenKeys { keys, extra } = WrittenKeys::of(&secret.metadata)?;
    let value = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
    };
    Some(Content {
        access_token: value(&keys.access_token).map(SecretString::from),
        refresh_token: value(&keys.refresh_token).map(SecretString::from),
        token_type: keys.token_type.as_deref().and_then(value),
        scope: keys.scope.as_deref().and_then(value),
        extra: extra.into_iter().filter_map(|key| Some((key.clone(), value(&key)?.into()))).collect(),
        dpop_key: keys.dpop_key.as_deref().and_then(value).map(SecretString::from),
        times: times(&secret.metadata)?,
        origin: Facts::of(secret).origin,
    })
}

/// A value of a Secret that the operator has written, also where the rest of it was lost: `key` picks its key of those under
/// which values were written, or of `fallback` where the annotations no longer tell.
#[must_use]
pub fn value(
    secret: &Secret,
    fallback: &TargetKeys,
    key: impl FnOnce(&TargetKeys) -> Option<String>,
) -> Option<SecretString> {
    let written = WrittenKeys::of(&secret.metadata);
    let key = key(written.as_ref().map_or(fallback, |written| &written.keys))?;
    let bytes = &secret.data.as_ref()?.get(&key)?.0;
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty()).map(SecretString::from)
}

/// Whether what stands under the operator's keys is what it wrote. Keys that others add are theirs.
fn intact(secret: &Secret) -> bool {
    let (Some(written), Some(hash)) = (WrittenKeys::of(&secret.metadata), annotation(&secret.metadata, DATA_HASH))
    else {
        return false;
    };
    let data = secret.data.iter().flatten().filter(|(key, _)| written.all().any(|own| own == *key));
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
