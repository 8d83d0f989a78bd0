//! What the operator reports: `OAuthIntegration.status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw and did. A report for people; nothing but `lastFailure` is read back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OAuthIntegrationStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is always there: True for as long as the target Secret holds an unexpired token for the current
    /// spec. `Reconciling` and `Stalled` are there only while they are True: work is under way or will be
    /// retried; nothing will happen until somebody changes something.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Name of the Secret that holds the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// When the token was asked for: the moment before the request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When the access token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the token will be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Time>,
    /// The failure that is being retried; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
}

/// A failed attempt. It survives a restart, and with it the waiting time before the next one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// When it failed.
    pub time: Time,
    /// Why, in one word: one of the documented reasons.
    pub reason: String,
    /// Why, in a sentence that says what to change.
    pub message: String,
    /// How many attempts in a row have failed.
    pub attempts: i32,
    /// When the next attempt is made, unless spec or credentials change before.
    pub retry_at: Time,
    /// Fingerprint of what was tried: generation of the spec, version of the credentials Secret, and the
    /// `renew-requested-at` annotation. When one of them changes, the next attempt is made at once.
    pub inputs: String,
}
