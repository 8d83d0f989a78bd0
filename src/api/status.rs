//! What the operator reports: `OAuthIntegration.status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator last observed and did. For users; the operator itself reads back only `lastFailure`, and from the
/// condition `Ready` what it has reported about the expiry of credentials.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OAuthIntegrationStatus {
    /// The `metadata.generation` that this status refers to. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is always present: True while the target Secret holds an unexpired token for the current spec.
    /// `Reconciling` and `Stalled` are present only while they are True: `Reconciling` means that work is in progress
    /// or will be retried; `Stalled` means that nothing will happen until a user changes something.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Status of the condition `Ready`, for `--field-selector status.ready=False`. Example: `True`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Reason of the condition `Ready`, for `--field-selector status.reason=RequestRejected`. Example: `TokenValid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Name of the Secret that holds the tokens. Example: `erp-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The Secret that a service binding projects into workloads: an integration is a provisioned service of
    /// https://servicebinding.io. Present while the target Secret exists; if `target.secretName` changes, the name of the
    /// Secret before until the new one is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// When the token was requested: the time just before the request was sent, RFC 3339; for the token of a Secret that
    /// was taken over, the time of that. Example: `2026-11-25T10:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When the access token expires, RFC 3339. Example: `2026-11-25T11:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the token will be renewed, RFC 3339. Example: `2026-11-25T10:40:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Time>,
    /// When the refresh token expires, if the endpoint says so, RFC 3339. Example: `2026-12-25T10:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token_expires_at: Option<Time>,
    /// When the credentials expire at the provider, RFC 3339: by the annotation
    /// `oauth.evolutionx.io/credentials-expire-at` of the credentials Secret, or by the client certificate with which the
    /// token was requested; the earlier one if both are known. Example: `2027-03-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_expire_at: Option<Time>,
    /// The value of the annotation `oauth.evolutionx.io/renew-requested-at` for which the current token was requested:
    /// once it is the latest value, a forced renewal, also with new credentials, has succeeded. Example:
    /// `2026-11-25T10:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub last_handled_renew_request: Option<String>,
    /// When a new token was last written, RFC 3339. Example: `2026-11-25T10:00:01Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_renewal_time: Option<Time>,
    /// Number of tokens that were written. Example: `42`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewals: Option<i64>,
    /// The failure that is being retried; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Box<LastFailure>>,
}

/// The Secret of a provisioned service (Service Binding Specification for Kubernetes 1.1).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Name of the Secret, in the integration's namespace. Example: `erp-token`.
    pub name: String,
}

/// A failed attempt. It survives restarts, as does the delay before the next attempt.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// When the attempt failed, RFC 3339. Example: `2026-11-25T10:40:00Z`.
    pub time: Time,
    /// The reason, one of the documented names. Example: `RequestRejected`.
    pub reason: String,
    /// The failure, and what to change.
    pub message: String,
    /// Number of consecutive failed attempts. Example: `2`.
    pub attempts: i32,
    /// When the next attempt is made, unless spec or credentials change earlier, RFC 3339. Example:
    /// `2026-11-25T10:42:00Z`.
    pub retry_at: Time,
    /// Hash of the inputs of the attempt: generation of the spec, version of the credentials Secret, the
    /// `renew-requested-at` annotation, and the settings of the operator that restrict where requests may be sent. When
    /// one of them changes, the next attempt is made at once.
    pub inputs_hash: String,
}
