//! Where the tokens go: `OAuthIntegration.spec.target`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::response::{default_access_token, default_refresh_token};
use super::rules;

/// The Secret that the tokens are written into.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::TYPE_STAYS).message("target.type of an existing Secret cannot be changed: give target.secretName a new name together with the new type")
)]
pub struct Target {
    /// Name of the Secret to write, in the integration's own namespace. Default: the integration's name. A
    /// Secret of that name which this integration did not make is never touched. Changed: the new Secret is
    /// written first, then the old one is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::SECRET_NAME).message("target.secretName must be a name for a Secret: small letters, digits, '-' and '.'"))]
    pub secret_name: Option<String>,
    /// Which value is written under which key.
    #[serde(default)]
    pub keys: TargetKeys,
    /// Type of the Secret, such as `Opaque` (default) or `kubernetes.io/basic-auth`. It cannot be changed
    /// without a new `secretName`.
    #[serde(default = "default_type", rename = "type")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::SECRET_TYPE).message("target.type must not be a type that grants rights in the cluster (service account or bootstrap tokens): use Opaque or a type of your own"))]
    pub type_: String,
    /// What becomes of the Secret when the integration is deleted. `Delete` (the default): it goes along. `Retain`: it stays,
    /// and an integration of the same name that is made later takes it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Labels that are put on the Secret and kept there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::labels")]
    #[x_kube(
        validation = Rule::new(rules::NOT_RESERVED).message("target.labels must not set app.kubernetes.io/managed-by or anything under oauth.evolutionx.io/: the operator finds its Secrets by these"),
        validation = Rule::new(rules::NOT_STEERING).message("target.labels must not set keys by which other controllers are steered, such as argocd.argoproj.io/secret-type: use keys of your own (app.kubernetes.io/ is fine)"),
        validation = Rule::new(rules::LABELS).message("target.labels must be valid labels: a key such as example.com/team, a value of at most 63 letters, digits, '-', '_' and '.'")
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations that are put on the Secret and kept there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::annotations")]
    #[x_kube(
        validation = Rule::new(rules::NOT_RESERVED).message("target.annotations must not set anything under oauth.evolutionx.io/: the operator keeps its memory there"),
        validation = Rule::new(rules::NOT_STEERING).message("target.annotations must not set keys by which other controllers are steered, such as reflector.v1.k8s.emberstack.com/reflection-allowed: use keys of your own"),
        validation = Rule::new(rules::ANNOTATIONS).message("target.annotations must have valid keys, such as example.com/team")
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            secret_name: None,
            keys: TargetKeys::default(),
            type_: default_type(),
            deletion_policy: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

fn default_type() -> String {
    "Opaque".into()
}

/// What becomes of a Secret when its integration is deleted.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// It goes along.
    Delete,
    /// It stays.
    Retain,
}

/// The keys of the target Secret. What has no key is not written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::DISTINCT_KEYS).message("target.keys must be distinct: two values cannot stand under one key")
)]
pub struct TargetKeys {
    /// Key of the access token. Default: `access_token`.
    #[serde(default = "default_access_token")]
    #[schemars(schema_with = "rules::secret_key")]
    pub access_token: String,
    /// Key of the refresh token, where there is one. Default: `refresh_token`.
    #[serde(default = "default_refresh_token")]
    #[schemars(schema_with = "rules::secret_key")]
    pub refresh_token: String,
    /// Key of the token type that the endpoint told, such as `Bearer`. Optional: not written without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub token_type: Option<String>,
    /// Key of the moment at which the access token ends, RFC 3339 in UTC. Optional: not written without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub expires_at: Option<String>,
    /// Key of the scope that the endpoint granted (or, where it told none, the one asked for). Optional: not
    /// written without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub scope: Option<String>,
    /// Key of the private key of `spec.dpop`, PKCS#8 as PEM, which the workload needs to prove that the token is its own.
    /// Default, with `spec.dpop`: `dpop_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub dpop_key: Option<String>,
}

impl Default for TargetKeys {
    fn default() -> Self {
        Self {
            access_token: default_access_token(),
            refresh_token: default_refresh_token(),
            token_type: None,
            expires_at: None,
            scope: None,
            dpop_key: None,
        }
    }
}
