//! Providers: one description of a server for many integrations.

#![allow(clippy::duplicated_attributes, reason = "each column of `kubectl get` is one")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::grant::GrantType;
use crate::api::shared_spec::SharedSpec;
use crate::api::{beside, schema, validation};

/// A server and the client that the operator is at it, for the integrations of one namespace.
#[derive(CustomResource, KubeSchema, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "oauth.evolutionx.io",
    version = "v1alpha1",
    kind = "OAuthProvider",
    plural = "oauthproviders",
    shortname = "oap",
    category = "oauth",
    namespaced,
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "Describes a token endpoint and the client that requests tokens there, for the OAuthIntegrations of its namespace.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Integrations", type_ = "integer", json_path = ".status.integrations"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuer", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.tokenEndpoint", priority = 1)
)]
#[x_kube(
    validation = Rule::new("has(self.tokenEndpoint) || has(self.issuer) || has(self.protectedResource)")
        .message("tokenEndpoint, issuer or protectedResource is required: set the URL of the token endpoint, the issuer whose metadata contains it, or the protected resource whose metadata names the issuer"),
    validation = Rule::new("!has(self.revocation) || has(self.revocation.endpoint) || has(self.issuer)")
        .message("revocation.endpoint is required unless issuer is set, whose metadata then provides it")
        .field_path(".revocation"),
    validation = Rule::new("has(self.serviceAccountToken) == (has(self.clientAuthentication) && self.clientAuthentication.method == 'service_account_token')")
        .message("serviceAccountToken is required if clientAuthentication.method is service_account_token, and not allowed otherwise"),
    validation = Rule::new("has(self.credentials) || (has(self.clientAuthentication) && self.clientAuthentication.method in ['service_account_token', 'none'])")
        .message("credentials is required: set credentials.secretName. It may be omitted only if clientAuthentication.method is service_account_token or none"),
    validation = Rule::new("!has(self.assertion) || !has(self.assertion.from)")
        .message("assertion.from names an integration, which only an integration can do: remove it")
        .field_path(".assertion")
)]
pub struct OAuthProviderSpec {
    /// How to reach the server, and who the client is.
    #[serde(flatten)]
    pub shared: SharedSpec,
}

impl<'de> Deserialize<'de> for OAuthProviderSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SharedSpec::deserialize(deserializer).map(|shared| Self { shared })
    }
}

/// A server and the client that the operator is at it, for the integrations of all namespaces that `allow` names.
#[derive(CustomResource, KubeSchema, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "oauth.evolutionx.io",
    version = "v1alpha1",
    kind = "ClusterOAuthProvider",
    plural = "clusteroauthproviders",
    shortname = "coap",
    category = "oauth",
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "Describes a token endpoint and the client that requests tokens there, for the OAuthIntegrations of all namespaces that it allows. Secrets, ConfigMaps and ServiceAccounts that it names are in the namespace of the operator.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Integrations", type_ = "integer", json_path = ".status.integrations"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuer", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.tokenEndpoint", priority = 1)
)]
pub struct ClusterOAuthProviderSpec {
    /// Who may use the provider, and for what. The rules are additive, as in RBAC: something is allowed if one of them
    /// allows it. Default: nobody may use it. Example: `[{namespaces: {names: [billing]}, scopes: [orders.read]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub allow: Vec<AllowRule>,

    /// The same fields as those of a provider for one namespace.
    #[serde(flatten)]
    pub provider: OAuthProviderSpec,
}

impl<'de> Deserialize<'de> for ClusterOAuthProviderSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut allow = Allow::default();
        let provider = beside::deserialize(deserializer, &mut allow)?;
        Ok(Self { allow: allow.0, provider })
    }
}

/// The members that only a cluster-scoped provider has.
#[derive(Default)]
struct Allow(Vec<AllowRule>);

impl<'de> beside::Own<'de> for Allow {
    fn read<A: MapAccess<'de>>(&mut self, member: &str, map: &mut A) -> Result<bool, A::Error> {
        let is_own = member == "allow";
        if is_own {
            self.0 = map.next_value()?;
        }
        Ok(is_own)
    }
}

/// A reference to a provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ProviderRef {
    /// Kind of the provider: `OAuthProvider` (the default), which is in the namespace of the integration, or
    /// `ClusterOAuthProvider`.
    #[serde(default)]
    pub kind: ProviderKind,
    /// Name of the provider. Required. Example: `erp`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(validation::SECRET_NAME).message("providerRef.name must be the name of a provider: lowercase letters, digits, '-' and '.'"))]
    pub name: String,
}

impl std::fmt::Display for ProviderRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// The kind of a provider.
#[derive(
    Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
pub enum ProviderKind {
    /// In the namespace of the integration.
    #[default]
    #[serde(rename = "OAuthProvider")]
    Namespaced,
    /// For all namespaces that it allows.
    #[serde(rename = "ClusterOAuthProvider")]
    Cluster,
}

impl ProviderKind {
    /// The kind in manifests, messages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaced => "OAuthProvider",
            Self::Cluster => "ClusterOAuthProvider",
        }
    }
}

/// What some namespaces may request from a provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowRule {
    /// The namespaces whose integrations this rule is for: those with one of the `names`, and those whose labels match
    /// `selector`. Required; `{}` is all namespaces. Example: `{names: [billing]}`.
    pub namespaces: AllowedNamespaces,
    /// The grants that are allowed, also as a fallback; `refresh_token` is also needed for `renewal.strategy:
    /// refresh_token`. Default: any. Example: `[client_credentials]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub grant_types: Option<Vec<GrantType>>,
    /// The scopes that are allowed: each name in the scope of a request must be one of these, and the request must have
    /// a scope, because many servers grant everything to one without. `["*"]`: any scope, or none. Default: only the
    /// scope of the provider itself, which an integration without a scope has. Example: `[orders.read, orders.write]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024), regex(pattern = r"^\S+$")))]
    pub scopes: Option<Vec<String>>,
    /// The resources that are allowed, in the same way. Example: `["https://api.example.com"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 2048)))]
    pub resources: Option<Vec<String>>,
    /// The subjects of assertions (`assertion.subject`: on whose behalf a token is requested) that are allowed, in the
    /// same way. The subject of a token that somebody else has issued (`assertion.from`, `grantType: token_exchange`) is
    /// not known, and needs `["*"]`, or a provider and a rule that name none. Example: `["billing@example.com"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 2048)))]
    pub subjects: Option<Vec<String>>,
}

/// Namespaces by name and by label. Without both: all namespaces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Names of namespaces. Example: `[billing]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// A selector for the labels of namespaces. Who may label a namespace decides whether it is selected. Example:
    /// `{matchLabels: {erp: "true"}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// What the operator observed about a provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The `metadata.generation` that this status refers to. Example: `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is True while everything that the provider names exists and is usable: its Secret with the keys that the
    /// client needs, its CA bundle, and the metadata of its issuer. It does not say whether the server accepts the client,
    /// which only a token request shows.
    /// `Reconciling` and `Stalled` are present only while they are True: the next check may find that it can be used, or
    /// someone must change something.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many integrations name the provider. Example: `12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrations: Option<i64>,
}
