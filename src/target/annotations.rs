//! The labels and annotations of a target Secret, in which the operator stores its state. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::api::names::MANAGER;
use crate::api::reason::Reason;
use crate::api::target::TargetKeys;
use crate::oauth::lifetime::TokenTimes;

/// Label of everything that the operator writes; its value is [`crate::api::names::MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the uid of the integration, by which its Secrets are selected.
pub const INTEGRATION_UID: &str = "oauth.evolutionx.io/integration-uid";
/// Prefix of all annotations and labels of the operator.
pub(crate) const OWN_PREFIX: &str = "oauth.evolutionx.io/";
pub(crate) const ISSUED_AT: &str = "oauth.evolutionx.io/issued-at";
pub(crate) const EXPIRES_AT: &str = "oauth.evolutionx.io/expires-at";
pub(crate) const RENEW_AT: &str = "oauth.evolutionx.io/renew-at";
pub(crate) const REFRESH_TOKEN_EXPIRES_AT: &str = "oauth.evolutionx.io/refresh-token-expires-at";
pub(crate) const CERTIFICATE_EXPIRES_AT: &str = "oauth.evolutionx.io/certificate-expires-at";
/// Annotation `true` if renewals with the refresh token no longer extend anything.
pub(crate) const SESSION_ENDS: &str = "oauth.evolutionx.io/session-ends";
/// Annotation with the reason of a warning about the lifetime.
pub(crate) const LIFETIME_WARNING: &str = "oauth.evolutionx.io/lifetime-warning";
pub(crate) const ACCESS_TOKEN_HASH: &str = "oauth.evolutionx.io/access-token-hash";
pub(crate) const SPEC_HASH: &str = "oauth.evolutionx.io/spec-hash";
pub(crate) const TEMPLATE_HASH: &str = "oauth.evolutionx.io/template-hash";
pub(crate) const CREDENTIALS_HASH: &str = "oauth.evolutionx.io/credentials-hash";
/// Annotation with the name of the credentials Secret with which the tokens were obtained.
pub(crate) const CREDENTIALS_NAME: &str = "oauth.evolutionx.io/credentials-source";
pub(crate) const CREDENTIALS_VERSION: &str = "oauth.evolutionx.io/credentials-version";
/// Annotation with the fingerprint of the endpoints to which the stored tokens may be sent.
pub(crate) const BINDING_HASH: &str = "oauth.evolutionx.io/binding-hash";
pub(crate) const REFRESH_TOKEN_HASH: &str = "oauth.evolutionx.io/initial-refresh-token-hash";
/// Annotation `true` if the server has replaced the initial refresh token, which must not be used again.
pub(crate) const REFRESH_TOKEN_ROTATED: &str = "oauth.evolutionx.io/refresh-token-rotated";
/// Annotation `next` if the client authenticates with the next client secret.
pub(crate) const CLIENT_SECRET: &str = "oauth.evolutionx.io/client-secret";
/// The value of that annotation.
pub(crate) const NEXT: &str = "next";
/// Annotation with the expiry of the access token before the current one.
pub(crate) const PREVIOUS_EXPIRES_AT: &str = "oauth.evolutionx.io/previous-expires-at";
/// Annotation with the name of the Secret that holds the refresh token, if it is not the target: on the target, and on
/// that Secret itself.
pub(crate) const REFRESH_TOKEN_SECRET: &str = "oauth.evolutionx.io/refresh-token-secret";
/// Annotation with the time at which the refresh token was received, if that was later than the access token.
pub(crate) const REFRESH_TOKEN_AT: &str = "oauth.evolutionx.io/refresh-token-at";
pub(crate) const DATA_HASH: &str = "oauth.evolutionx.io/data-hash";
/// Annotation with a salted fingerprint of what workloads read, which stays the same as long as that does.
pub const CONTENT_HASH: &str = "oauth.evolutionx.io/content-hash";
/// Annotation with the time since when it is the same.
pub const CONTENT_CHANGED_AT: &str = "oauth.evolutionx.io/content-changed-at";
/// Annotation with the keys under which the values were written, as JSON.
pub const KEYS: &str = "oauth.evolutionx.io/keys";
/// Annotation with the identity of a Secret that has no owner reference and stays when its integration is deleted:
/// `namespace/Secret/integration`. A copy under another name or in another namespace is not owned by any integration.
pub(crate) const RETAINED_FOR: &str = "oauth.evolutionx.io/retained-for";
/// A second annotation on such a Secret: the uid of the integration that requested retention. If another integration
/// takes the Secret over, the deletion of that integration does not delete the Secret.
pub(crate) const RETAINED_BY: &str = "oauth.evolutionx.io/retained-by";
/// Annotation with which the owner of a Secret hands it over to the integration with this name.
pub const ADOPT_BY: &str = "oauth.evolutionx.io/adopt-by";

/// Whether a Secret has the operator's label, by which the watch selects.
#[must_use]
pub fn has_managed_by_label(secret: &Secret) -> bool {
    secret.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// The keys under which values were written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrittenKeys {
    /// The keys of `spec.target.keys`.
    #[serde(flatten)]
    pub keys: TargetKeys,
    /// The keys of `spec.target.data`, and the fingerprints of their expressions, also of those without a value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

impl WrittenKeys {
    /// The keys of a Secret that the operator has written.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        serde_json::from_str(annotation(meta, KEYS)?).ok()
    }

    /// All keys, including those of missing values.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        Self::of_tokens(&self.keys).chain(self.data.keys())
    }

    /// The keys of tokens and their properties.
    pub(crate) fn of_tokens(keys: &TargetKeys) -> impl Iterator<Item = &String> {
        let TargetKeys { access_token, refresh_token, token_type, expires_at, scope, previous_access_token, dpop_key } =
            keys;
        let optional = [token_type, expires_at, scope, previous_access_token, dpop_key].into_iter().flatten();
        [access_token, refresh_token].into_iter().chain(optional)
    }
}

pub(crate) fn times(meta: &ObjectMeta) -> Option<TokenTimes> {
    let time = |name| annotation(meta, name)?.parse::<Timestamp>().ok();
    Some(TokenTimes {
        refresh_token_expires_at: time(REFRESH_TOKEN_EXPIRES_AT),
        certificate_expires_at: time(CERTIFICATE_EXPIRES_AT),
        session_ends: annotation(meta, SESSION_ENDS) == Some("true"),
        warning: annotation(meta, LIFETIME_WARNING).and_then(Reason::parse),
        ..TokenTimes::new(time(ISSUED_AT)?, time(EXPIRES_AT)?, time(RENEW_AT)?)
    })
}

/// The version of an object, as a number; 0 if it is not a number, and therefore cannot be compared: before
/// Kubernetes 1.35, the API allows opaque versions.
#[must_use]
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}
