//! The target Secret: `OAuthIntegration.spec.target`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::response::{default_access_token, default_refresh_token};
use crate::api::sparse::{SharedDefault, Sparse, shared_default};
use crate::api::{schema, validation};

/// The Secret that the tokens are written into.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(validation::DATA_NOT_TOKENS).message("target.data must not use a key of target.keys: two values cannot be stored under one key").field_path(".data"),
    validation = Rule::new(validation::TYPE_IMMUTABLE).message("target.type of an existing Secret cannot be changed: change target.secretName together with the type")
)]
pub struct Target {
    /// Name of the Secret to write, in the integration's namespace. An existing Secret of that name that is not owned
    /// by this integration is never modified, unless its owner sets the annotation `oauth.evolutionx.io/adopt-by` to the
    /// integration's name: then it is taken over with its tokens. When the name changes, the new Secret is written first, then the old
    /// one is deleted. Default: the integration's name. Example: `erp-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(validation::SECRET_NAME).message("target.secretName must be a valid name for a Secret: lowercase letters, digits, '-' and '.'"),
        validation = Rule::new(validation::NAME_NOT_RESERVED).message("target.secretName must not begin with sh.helm.release.v1. or bootstrap-token-: these prefixes are reserved for Helm and Kubernetes")
    )]
    pub secret_name: Option<String>,
    /// Name of another Secret for the refresh token, in the integration's namespace, so that workloads that mount the
    /// target do not get it. The operator owns it like the target, and writes it first. It has type `Opaque` and none of
    /// the labels and annotations of the target. Optional: if unset, the refresh token is in the target, under
    /// `keys.refreshToken`. When this changes, the refresh token moves without a token request. Example:
    /// `erp-refresh-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(validation::SECRET_NAME).message("target.refreshTokenSecretName must be a valid name for a Secret: lowercase letters, digits, '-' and '.'"),
        validation = Rule::new(validation::NAME_NOT_RESERVED).message("target.refreshTokenSecretName must not begin with sh.helm.release.v1. or bootstrap-token-: these prefixes are reserved for Helm and Kubernetes")
    )]
    pub refresh_token_secret_name: Option<String>,
    /// The key of each value. Default: the defaults of its fields.
    #[serde(default)]
    pub keys: Sparse<TargetKeys>,
    /// More keys of the Secret: a JSONata expression for each. Its input has `access_token`, `refresh_token`,
    /// `token_type`, `scope`, `issued_at` and `expires_at` (RFC 3339), `previous_access_token`, `integration` (`name` and
    /// `namespace`), and `response`, the parsed body of the response that brought the token; `$status`, `$headers` and
    /// `$body` are bound as in `response`. Strings are written unchanged, numbers and booleans as in JSON, objects and
    /// lists as JSON text; a key whose expression evaluates to nothing is not written. A value of the response that a
    /// refresh does not repeat is kept. After a change, the Secret is written again without a token request if the new
    /// expressions do not need the response. Default: none. Example: `{authorization: '"Bearer " & access_token'}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::data")]
    #[x_kube(validation = Rule::new(validation::DATA_NAMES).message("target.data must use valid keys of a Secret: letters, digits, '-', '_' and '.'"))]
    pub data: BTreeMap<String, String>,
    /// Type of the Secret: `Opaque` (default), `kubernetes.io/basic-auth`, `kubernetes.io/tls`,
    /// `kubernetes.io/dockerconfigjson`, `kubernetes.io/ssh-auth`, or one that the administrator has added
    /// (`--allow-target-type`). It can only be changed together with `secretName`.
    #[serde(default = "default_type", rename = "type")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(validation::SECRET_TYPE).message("target.type must not be a type that grants permissions in the cluster (service account tokens, bootstrap tokens, Helm releases): use Opaque"))]
    pub type_: String,
    /// What happens to the Secret when the integration is deleted. `Delete` (the default): the Secret is also
    /// deleted. `Retain`: the Secret stays, and an integration of the same name that is created later takes it over
    /// if it has the same credentials, or if the Secret has the annotation `oauth.evolutionx.io/adopt-by` with the
    /// integration's name. Without that annotation, a Secret that was taken over stays when its new integration is
    /// deleted, whatever the policy of that integration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Labels to set on the Secret and to keep there: `app.kubernetes.io/name`, `app.kubernetes.io/component`,
    /// `app.kubernetes.io/version`, and those that the administrator has added (`--allow-target-metadata`), since
    /// labels control other controllers. Default: none. Example: `{app.kubernetes.io/component: erp}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(
        validation = Rule::new(validation::NO_RESERVED_PREFIX).message("target.labels must not set app.kubernetes.io/managed-by or anything under oauth.evolutionx.io/: the operator finds its Secrets by these keys"),
        validation = Rule::new(validation::LABELS).message("target.labels must be valid labels: a key such as example.com/team, a value of at most 63 letters, digits, '-', '_' and '.'")
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations to set on the Secret and to keep there. The same keys are allowed as for labels. Default: none.
    /// Example: `{app.kubernetes.io/version: "2"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(
        validation = Rule::new(validation::NO_RESERVED_PREFIX).message("target.annotations must not set anything under oauth.evolutionx.io/: they are reserved for the operator"),
        validation = Rule::new(validation::ANNOTATIONS).message("target.annotations must have valid keys, such as example.com/team")
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            secret_name: None,
            refresh_token_secret_name: None,
            keys: Sparse::default(),
            data: BTreeMap::new(),
            type_: default_type(),
            deletion_policy: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// The type of a Secret if the spec names none.
pub(crate) fn default_type() -> String {
    "Opaque".into()
}

/// What happens to the Secret when the integration is deleted. `Delete` (the default): the Secret is also deleted.
/// `Retain`: the Secret stays, and an integration of the same name that is created later takes it over if it has the
/// same credentials, or if the Secret has the annotation `oauth.evolutionx.io/adopt-by` with the integration's name.
/// Without that annotation, a Secret that was taken over stays when its new integration is deleted, whatever the
/// policy of that integration.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// It is also deleted.
    Delete,
    /// It stays.
    Retain,
}

/// The keys of the target Secret. A value without a key is not written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(validation::DISTINCT_KEYS).message("target.keys must be distinct: two values cannot be stored under one key")
)]
pub struct TargetKeys {
    /// Key of the access token. Default: `access_token`.
    #[serde(default = "default_access_token")]
    #[schemars(schema_with = "schema::secret_key")]
    pub access_token: String,
    /// Key of the refresh token, if there is one, in the target or in the Secret of `refreshTokenSecretName`. Default:
    /// `refresh_token`.
    #[serde(default = "default_refresh_token")]
    #[schemars(schema_with = "schema::secret_key")]
    pub refresh_token: String,
    /// Key of the token type that the endpoint returned, such as `Bearer`. Optional: not written if unset. Example:
    /// `token_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub token_type: Option<String>,
    /// Key of the expiry of the access token, RFC 3339 in UTC. Optional: not written if unset. Example: `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub expires_at: Option<String>,
    /// Key of the scope that the endpoint granted (or, if it returned none, the requested one). Optional: not written
    /// if unset. Example: `scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub scope: Option<String>,
    /// Key of the access token before the current one, which is kept until it has expired and removed by the renewal
    /// after that, so that a pod that has just read it can still use it. Renewals then read the Secret. Optional: not
    /// written if unset. Example: `previous_access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub previous_access_token: Option<String>,
    /// Key of the private key of `spec.dpop`, PKCS#8 as PEM, which the workload needs for its DPoP proofs. Default,
    /// with `spec.dpop`: `dpop_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub dpop_key: Option<String>,
}

shared_default!(TargetKeys);

impl Default for TargetKeys {
    fn default() -> Self {
        Self {
            access_token: default_access_token(),
            refresh_token: default_refresh_token(),
            token_type: None,
            expires_at: None,
            scope: None,
            previous_access_token: None,
            dpop_key: None,
        }
    }
}
