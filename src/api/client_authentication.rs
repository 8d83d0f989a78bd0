//! Who asks, and how that is shown: `clientAuthentication`, `serviceAccountToken`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, rules};

/// How the client shows who it is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.assertion) || self.method in ['client_secret_jwt', 'private_key_jwt']")
        .message("clientAuthentication.assertion is for the methods client_secret_jwt and private_key_jwt: take it out, or change method"),
    validation = Rule::new("self.method != 'client_secret_jwt' || !has(self.assertion) || !has(self.assertion.algorithm)")
        .message("clientAuthentication.assertion.algorithm is for private_key_jwt: client_secret_jwt signs by HS256")
)]
pub struct ClientAuthentication {
    /// The method, by its name in OpenID Connect (section 9 of Core) and in the server's metadata as
    /// `token_endpoint_auth_methods_supported`. `client_secret_post` (the default) sends id and secret in the body;
    /// `client_secret_basic` in the Authorization header, encoded as RFC 6749, section 2.3.1 says;
    /// `client_secret_jwt` (HS256) and `private_key_jwt` send a signed assertion (RFC 7523, section 2.2);
    /// `tls_client_auth` (RFC 8705, section 2.1) shows a certificate; `service_account_token` sends a token of
    /// `spec.serviceAccountToken` as the assertion; `none` is for public clients.
    #[serde(default)]
    pub method: ClientAuthenticationMethod,

    /// The assertion of `client_secret_jwt` and `private_key_jwt`. Issuer and subject are the client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<ClientAssertion>,
}

/// A way in which a client shows who it is.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthenticationMethod {
    /// Id and secret in the body (RFC 6749, section 2.3.1).
    #[default]
    ClientSecretPost,
    /// Id and secret in the Authorization header (RFC 6749, section 2.3.1).
    ClientSecretBasic,
    /// An assertion that is signed with the client secret (RFC 7523, section 2.2).
    ClientSecretJwt,
    /// An assertion that is signed with a private key (RFC 7523, section 2.2).
    PrivateKeyJwt,
    /// A certificate (RFC 8705, section 2.1).
    TlsClientAuth,
    /// A Kubernetes ServiceAccount token as the assertion.
    ServiceAccountToken,
    /// Nothing but the client id, where there is one.
    None,
}

impl ClientAuthenticationMethod {
    /// The word in the spec.
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
}

/// How a client assertion is made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClientAssertion {
    /// `aud`: for whom it is made. Default: the issuer where `spec.issuer` is given, else the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// `alg`: how it is signed. Default: RS256, ES256 or EdDSA, as the key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`: by which name the server knows the key. Optional: not sent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// `x5t#S256`: send the SHA-256 thumbprint of the certificate under `credentials.keys.tlsCertificate`, by which
    /// Entra ID finds the key. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_thumbprint: bool,
    /// How long it may be used, such as `60s`; 10s to 1h. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::ASSERTION_LIFE).message("clientAuthentication.assertion.lifetime must be a duration from 10s to 1h, such as 60s"))]
    pub lifetime: Option<Duration>,
}

/// How a JWT is signed (RFC 7518, section 3.1; RFC 8037).
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSA with PKCS#1 v1.5 and SHA-256.
    RS256,
    /// RSA-PSS with SHA-256.
    PS256,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// A token of a ServiceAccount of the integration's own namespace, which the operator asks the API server for before each
/// request (TokenRequest). It is used where `clientAuthentication.method` is `service_account_token` or
/// `tokenExchange.subjectTokenSource` is `ServiceAccount`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// Name of the ServiceAccount.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(rules::SECRET_NAME).message("serviceAccountToken.serviceAccountName must be the name of a ServiceAccount: small letters, digits, '-' and '.'"))]
    pub service_account_name: String,
    /// `aud` of the token: what the server that takes it asks for, such as `api://AzureADTokenExchange` for Entra ID or
    /// the issuer for Keycloak. Never an audience of the cluster's own API server.
    #[schemars(length(min = 1, max = 2048))]
    pub audience: String,
    /// How long the token lives, such as `10m`, which is the shortest that Kubernetes gives; up to 1h. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::SERVICE_ACCOUNT_TOKEN_LIFE).message("serviceAccountToken.lifetime must be a duration from 10m to 1h"))]
    pub lifetime: Option<Duration>,
}
