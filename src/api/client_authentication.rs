//! Client authentication: `clientAuthentication`, `serviceAccountToken`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::Duration;
use crate::api::signed_jwt::SignedJwt;
use crate::api::validation;

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

    /// The assertion of `client_secret_jwt` and `private_key_jwt`. Default: the defaults of its fields. Example:
    /// `{audience: "https://login.example.com"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<SignedJwt>,
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
