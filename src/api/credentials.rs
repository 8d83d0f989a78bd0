//! Where the credentials stand: `credentials`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// The Secret with the credentials, and the keys in it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Name of the Secret with the credentials, always in the integration's own namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::SECRET_NAME).message("credentials.secretName must be the name of a Secret: small letters, digits, '-' and '.'"))]
    pub secret_name: String,

    /// Which key of the Secret holds which value. Only the keys that the grant needs have to be there.
    #[serde(default)]
    pub keys: CredentialKeys,
}

/// The keys of the credentials Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialKeys {
    /// Key of the client id. Default: `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub client_id: Option<String>,
    /// Key of the client secret. Default: `client_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub client_secret: Option<String>,
    /// Key of the user name. Default: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub username: Option<String>,
    /// Key of the password. Default: `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub password: Option<String>,
    /// Key of the first refresh token. Default: `refresh_token`. It is sent once; afterwards the one in the
    /// target Secret is, until the value here is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub refresh_token: Option<String>,
    /// Key of the private key that signs assertions: PEM, PKCS#8, PKCS#1 (RSA) or SEC1 (EC), without a password. Default:
    /// `private_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub private_key: Option<String>,
    /// Key of the client certificate and those that issued it, PEM. Default: `tls.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub tls_certificate: Option<String>,
    /// Key of the client certificate's private key, PEM. Default: `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub tls_key: Option<String>,
    /// Key of the token that is exchanged. Default: `subject_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub subject_token: Option<String>,
    /// Key of the token of who acts (RFC 8693, section 2.1). Default: `actor_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::secret_key")]
    pub actor_token: Option<String>,
}
