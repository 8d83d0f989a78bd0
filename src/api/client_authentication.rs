//! Client authentication: `clientAuthentication`, `serviceAccountToken`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::duration::Duration;
use crate::api::{schema, validation};

/// Client authentication.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.assertion) || self.method in ['client_secret_jwt', 'private_key_jwt']")
        .message("clientAuthentication.assertion applies only to the methods client_secret_jwt and private_key_jwt: remove it, or change method"),
    validation = Rule::new("!has(self.assertion) || !has(self.assertion.algorithm) || (self.method == 'client_secret_jwt') == (self.assertion.algorithm in ['HS256', 'HS384', 'HS512'])")
        .message("clientAuthentication.assertion.algorithm must be HS256, HS384 or HS512 with client_secret_jwt, and another one with private_key_jwt"),
    validation = Rule::new("!has(self.basicEncoding) || self.method == 'client_secret_basic'")
        .message("clientAuthentication.basicEncoding applies only to client_secret_basic: remove it, or change method")
)]
pub struct ClientAuthentication {
    /// The method, by its name in OpenID Connect (section 9 of Core) and in the server's metadata
    /// (`token_endpoint_auth_methods_supported`). `client_secret_post` (the default) sends id and secret in the body;
    /// `client_secret_basic` sends them in the Authorization header, encoded according to RFC 6749, section 2.3.1;
    /// `client_secret_jwt` and `private_key_jwt` send a signed assertion (RFC 7523, section 2.2);
    /// `tls_client_auth` (RFC 8705, section 2.1) uses a client certificate; `service_account_token` sends a token of
    /// `spec.serviceAccountToken` as the assertion; `none` is for public clients.
    #[serde(default)]
    pub method: ClientAuthenticationMethod,

    /// How `client_secret_basic` encodes id and secret before they are joined. `form` (the default) form-encodes both
    /// (RFC 6749, section 2.3.1); `raw` does not, as in HTTP Basic for users (RFC 7617), which many servers expect.
    /// The difference matters only if one of them contains characters other than letters, digits, `-`, `_`, `.` and
    /// `*`. Example: `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_encoding: Option<BasicEncoding>,

    /// The assertion of `client_secret_jwt` and `private_key_jwt`. Default: the defaults of its fields. Example: `{audience: "https://login.example.com"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<ClientAssertion>,
}

/// How id and secret are encoded in the Authorization header: `form` (the default) or `raw`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum BasicEncoding {
    /// Form-encoded (RFC 6749, section 2.3.1).
    Form,
    /// As they are (RFC 7617).
    Raw,
}

/// A client authentication method.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthenticationMethod {
    /// Id and secret in the body (RFC 6749, section 2.3.1).
    #[default]
    ClientSecretPost,
    /// Id and secret in the Authorization header (RFC 6749, section 2.3.1).
    ClientSecretBasic,
    /// An assertion signed with the client secret (RFC 7523, section 2.2).
    ClientSecretJwt,
    /// An assertion signed with a private key (RFC 7523, section 2.2).
    PrivateKeyJwt,
    /// A client certificate (RFC 8705, section 2.1).
    TlsClientAuth,
    /// A Kubernetes ServiceAccount token as the assertion.
    ServiceAccountToken,
    /// Only the client ID, if there is one.
    None,
}

impl ClientAuthenticationMethod {
    /// The name in the spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::ServiceAccountToken => "service_account_token",
            Self::None => "none",
        }
    }

    /// Whether the client sends an assertion (RFC 7521, section 4.2).
    #[must_use]
    pub const fn sends_assertion(self) -> bool {
        matches!(self, Self::ClientSecretJwt | Self::PrivateKeyJwt | Self::ServiceAccountToken)
    }
}

/// The client assertion.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClientAssertion {
    /// `aud`: the intended audience. Default: the issuer if `spec.issuer` is set or
    /// `spec.protectedResource` names one, else the token endpoint. Example: `https://login.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// `alg`: the signature algorithm. Default: RS256, ES256, ES384 or EdDSA, depending on the type of the key; HS256
    /// with `client_secret_jwt`. Example: `PS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`: the id of the key at the server. Optional: not sent if unset. Example: `key-2026`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// `typ`: the type of the JWT. Default: `JWT`. Example: `client-authentication+jwt`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: Option<String>,
    /// `iss`: the issuer. Default: the client ID. Example: `https://app.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// `sub`: the subject. Default: the client ID. Example: `client-1234`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub subject: Option<String>,
    /// Additional claims, by name, with any JSON value; up to 16 KiB, nested up to 8 levels deep. They are not secret:
    /// never put a credential here. Default: none. Example: `{scope: ["rest_webservices"]}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub claims: Map<String, Value>,
    /// `x5t#S256`: whether to send the SHA-256 thumbprint of the certificate under `credentials.keys.tlsCertificate`,
    /// which Entra ID uses to find the key. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_thumbprint: bool,
    /// Lifetime of the assertion, from 10s to 1h. Default: `60s`. Example: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::ASSERTION_LIFETIME).message("clientAuthentication.assertion.lifetime must be a duration from 10s to 1h, such as 60s"))]
    pub lifetime: Option<Duration>,
    /// How far `iat` is in the past, up to 5m: servers whose clocks are behind reject a later one. `exp` stays the same, so
    /// that the time between both is longer. Default: `0s`. Example: `60s`, as GitHub recommends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::ISSUED_AT_SKEW).message("clientAuthentication.assertion.issuedAtSkew must be a duration up to 5m, such as 60s"))]
    pub issued_at_skew: Option<Duration>,
}

/// The JWS signature algorithm, `alg` (RFC 7518, section 3.1; RFC 8037). Default: RS256, ES256, ES384 or EdDSA,
/// depending on the type of the key; HS256 with a secret. Example: `PS256`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSA with PKCS#1 v1.5 and SHA-256.
    RS256,
    /// RSA with PKCS#1 v1.5 and SHA-384.
    RS384,
    /// RSA with PKCS#1 v1.5 and SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

impl SigningAlgorithm {
    /// Whether it signs with a secret, and not with a private key.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// A token of a ServiceAccount in the integration's namespace. The operator requests it from the API server
/// (TokenRequest) before each token request. It is used if `clientAuthentication.method` is `service_account_token`
/// or `tokenExchange.subjectTokenSource` is `ServiceAccount`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// Name of the ServiceAccount. Required. Example: `erp-client`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(validation::SECRET_NAME).message("serviceAccountToken.serviceAccountName must be the name of a ServiceAccount: lowercase letters, digits, '-' and '.'"))]
    pub service_account_name: String,
    /// `aud` of the token: the audience that the receiving server requires, for instance the issuer for Keycloak. It
    /// must not be an audience of the cluster's own API server. Required. Example for Entra ID:
    /// `api://AzureADTokenExchange`.
    #[schemars(length(min = 1, max = 2048))]
    pub audience: String,
    /// Lifetime of the token, from 10m (the minimum in Kubernetes) to 1h. Default: `10m`. Example: `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::SERVICE_ACCOUNT_TOKEN_LIFETIME).message("serviceAccountToken.lifetime must be a duration from 10m to 1h"))]
    pub lifetime: Option<Duration>,
}
