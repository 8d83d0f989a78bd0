//! Giving tokens back: `revocation`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Format, rules};

/// Giving tokens back that are not used any more (RFC 7009). A revocation that fails is told in the log and the metrics, and
/// holds nothing up.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// URL of the revocation endpoint. Default: the one in the metadata of `spec.issuer`, which must be given then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::ENDPOINT).message("revocation.endpoint must be an absolute http or https URL without user name, password, fragment or blanks, such as https://login.example.com/oauth/revoke"))]
    pub endpoint: Option<String>,
    /// Body format: `form` (the default, and what RFC 7009 says) or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How long after a renewal the old access token is revoked, such as `5m`, so that all workloads have the new one by
    /// then; 1s to 24h. What waits is in memory only, and not revoked where the operator ends before. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::REVOKE_AFTER).message("revocation.afterRenewal must be a duration from 1s to 24h, such as 5m"))]
    pub after_renewal: Option<Duration>,
    /// Whether the refresh token and the access token are revoked when the integration is deleted. The deletion waits for that
    /// for at most 20 s while an operator runs (some more where very many are deleted at once). Not together with
    /// `target.deletionPolicy: Retain`. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_deletion: bool,
}
