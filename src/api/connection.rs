//! HTTP connection settings: `connection`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::{schema, validation};

/// Connection settings for the endpoints of one integration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The CA certificates to trust, as PEM, instead of those of Mozilla and of the operator's system. Default: those
    /// of Mozilla and of the operator's system. Example: `{name: corporate-ca}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Whether the client certificate under `credentials.keys.tlsCertificate` and `tlsKey` is presented to the endpoints,
    /// whatever the client authentication method is: many gateways and open banking require both. With
    /// `tls_client_auth` it always is. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub client_certificate: bool,
    /// URL of the HTTP proxy to use, without username and password. Default: as in the operator's environment
    /// (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`). Example: `http://proxy.example.com:3128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("connection.proxy must be an absolute http or https URL without username, password, fragment or whitespace, such as http://proxy.example.com:3128"))]
    pub proxy: Option<String>,
}

/// Reference to CA certificates in the integration's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// `ConfigMap` or `Secret`. Default: `ConfigMap`.
    #[serde(default)]
    pub kind: CaBundleKind,
    /// Name of the ConfigMap or Secret. Required. Example: `corporate-ca`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(validation::SECRET_NAME).message("connection.caBundle.name must be the name of a ConfigMap or a Secret: lowercase letters, digits, '-' and '.'"))]
    pub name: String,
    /// Key of the certificates (PEM). Default: `ca.crt`.
    #[serde(default = "default_ca_key")]
    #[schemars(schema_with = "schema::secret_key")]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

/// The kind of object that holds certificates.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaBundleKind {
    /// A ConfigMap.
    #[default]
    ConfigMap,
    /// A Secret.
    Secret,
}
