//! The reference to the credentials: `credentials`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::sparse::{SharedDefault, Sparse, shared_default};
use crate::api::{schema, validation};

/// The Secret with the credentials, and its keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Name of the Secret with the credentials, always in the integration's namespace. Required. Example:
    /// `erp-credentials`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(validation::SECRET_NAME).message("credentials.secretName must be the name of a Secret: lowercase letters, digits, '-' and '.'"))]
    pub secret_name: String,

    /// The key of each value in the Secret. Only the keys that the grant needs must exist. Default: the defaults of
    /// its fields.
    #[serde(default)]
    pub keys: Sparse<CredentialKeys>,
}

/// The keys of the credentials Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialKeys {
    /// Key of the client ID. Default: `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub client_id: Option<String>,
    /// Key of the client secret. Default: `client_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub client_secret: Option<String>,
    /// Key of the client secret that will replace the current one. Optional: it is read if it exists. If the server
    /// rejects the client with the current secret, the request is sent once more with this one, and if that succeeds, it
    /// is used from then on, with a Warning event `NextClientSecretUsed`: client secrets can be rotated without a gap.
    /// Default: `client_secret_next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub next_client_secret: Option<String>,
    /// Key of the username. Default: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub username: Option<String>,
    /// Key of the password. Default: `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub password: Option<String>,
    /// Key of the first refresh token. Default: `refresh_token`. It is sent once; afterwards the refresh token in the
    /// target Secret is sent, until the value under this key changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub refresh_token: Option<String>,
    /// Key of the private key that signs assertions: PEM of PKCS#8, PKCS#1 (RSA) or SEC1 (EC); encrypted PKCS#8;
    /// PKCS#12 (.p12, .pfx); a JWK; or the JSON file of a Google service account. Default: `private_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub private_key: Option<String>,
    /// Key of the passphrase of encrypted private keys and PKCS#12 files under `privateKey`, `tlsKey` and
    /// `tlsCertificate`. Optional: read if it exists; a PKCS#12 file without it has an empty passphrase. Default:
    /// `private_key_passphrase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub private_key_passphrase: Option<String>,
    /// Key of the client certificate and its chain: PEM, or PKCS#12 (.p12, .pfx), for which `tlsKey` may be the same key.
    /// Default: `tls.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub tls_certificate: Option<String>,
    /// Key of the client certificate's private key: PEM, encrypted PKCS#8, or PKCS#12 (.p12, .pfx). Default: `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub tls_key: Option<String>,
    /// Key of the token to exchange (subject token). Default: `subject_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub subject_token: Option<String>,
    /// Key of the actor token (RFC 8693, section 2.1). Default: `actor_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_key")]
    pub actor_token: Option<String>,
}

shared_default!(CredentialKeys);
