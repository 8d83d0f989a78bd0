//! The way to the endpoint: `connection`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// The way to the endpoints of one integration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The certificates, as PEM, of the authorities that are trusted, instead of those of Mozilla and of the operator's
    /// own system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// HTTP proxy to go through, such as `http://proxy.example.com:3128`, without user name and password. Default: what
    /// the operator's environment says (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::ENDPOINT).message("connection.proxy must be an absolute http or https URL without user name, password, fragment or blanks, such as http://proxy.example.com:3128"))]
    pub proxy: Option<String>,
}

/// Where certificates stand, in the integration's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// `ConfigMap` or `Secret`. Default: `ConfigMap`.
    #[serde(default)]
    pub kind: CaBundleKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::SECRET_NAME).message("connection.caBundle.name must be the name of a ConfigMap or a Secret: small letters, digits, '-' and '.'"))]
    pub name: String,
    /// Its key that holds the PEM text. Default: `ca.crt`.
    #[serde(default = "default_ca_key")]
    #[schemars(schema_with = "rules::secret_key")]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

/// What holds certificates.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaBundleKind {
    /// A ConfigMap.
    #[default]
    ConfigMap,
    /// A Secret.
    Secret,
}
