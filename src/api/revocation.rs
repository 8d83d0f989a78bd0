//! Token revocation: `revocation`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::Duration;
use crate::api::request::Format;
use crate::api::validation;

/// Revocation of tokens that are no longer used (RFC 7009). A failed revocation is reported in the log and the
/// metrics, and delays nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// URL of the revocation endpoint. It must have the origin (scheme, host and port) of `spec.tokenEndpoint` or
    /// `spec.issuer`, or the owner of the credentials must allow it (annotation
    /// `oauth.evolutionx.io/allowed-endpoints`). Default: the one in the metadata of `spec.issuer`, which is then
    /// required. Example: `https://login.example.com/oauth/revoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("revocation.endpoint must be an absolute http or https URL without username, password, fragment or whitespace, such as https://login.example.com/oauth/revoke"))]
    pub endpoint: Option<String>,
    /// Body format: `form` (the default, as in RFC 7009) or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How long after a renewal the old access token is revoked, so that all workloads have the new one by then; 1s
    /// to 24h. Pending revocations are held in memory only, and are lost if the operator exits first. Default: never.
    /// Example: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::REVOKE_AFTER).message("revocation.afterRenewal must be a duration from 1s to 24h, such as 5m"))]
    pub after_renewal: Option<Duration>,
    /// Whether the refresh token and the access token are revoked when the integration is deleted. While an operator
    /// runs, the revocation delays the deletion by up to 20 s; if very many integrations are deleted at once, it
    /// waits in a queue for up to a minute and is then skipped. Cannot be combined with `target.deletionPolicy:
    /// Retain`. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_deletion: bool,
}
