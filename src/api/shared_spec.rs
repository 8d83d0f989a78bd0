//! The fields that an `OAuthIntegration` shares with an `OAuthProvider` and a `ClusterOAuthProvider`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::client_authentication::{ClientAuthentication, ServiceAccountToken};
use crate::api::connection::Connection;
use crate::api::credentials::Credentials;
use crate::api::duration::Duration;
use crate::api::grant::{Assertion, Dpop};
use crate::api::renewal::Renewal;
use crate::api::request::{Request, Resource};
use crate::api::response::Response;
use crate::api::revocation::Revocation;
use crate::api::sparse::Sparse;
use crate::api::validation;

/// How to reach a server, who the client is, and what is requested by default. An integration has these fields itself,
/// or a provider has them for many integrations.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.renewBefore) || !has(self.tokenLife) || duration(self.renewBefore) < duration(self.tokenLife)")
        .message("renewBefore must be shorter than tokenLife: lower renewBefore or raise tokenLife")
        .field_path(".renewBefore"),
    validation = Rule::new("!has(self.protectedResource) || !has(self.tokenEndpoint)")
        .message("protectedResource does not apply with tokenEndpoint: remove one of them")
        .field_path(".protectedResource"),
    validation = Rule::new("has(self.credentials) || !has(self.connection) || !has(self.connection.clientCertificate) || !self.connection.clientCertificate")
        .message("connection.clientCertificate needs credentials: set credentials.secretName"),
    validation = Rule::new(validation::CREDENTIALS_NEEDED_BY_REQUEST)
        .message("request.parametersFrom and request.headersFrom need credentials: set credentials.secretName"),
    validation = Rule::new("!has(self.request) || !has(self.request.scopeFormat) || self.request.scopeFormat != 'list' || (has(self.request.format) ? self.request.format == 'json' : !(has(self.issuer) || has(self.protectedResource)))")
        .message("request.scopeFormat list applies only to JSON bodies: remove it, or set request.format to json")
        .field_path(".request")
)]
pub struct SharedSpec {
    /// URL of the token endpoint (RFC 6749, section 3.2), which receives the request (by default as POST). Absolute, http or
    /// https, without username, password or fragment. Default: the one in the metadata of `issuer`, or of the issuer that
    /// `protectedResource` names. Example: `https://login.example.com/oauth/token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("tokenEndpoint must be an absolute http or https URL without username, password, fragment or whitespace, such as https://login.example.com/oauth/token"))]
    pub token_endpoint: Option<String>,

    /// The issuer, whose metadata (OpenID Connect Discovery 1.0, RFC 8414) contains the endpoints: its
    /// `/.well-known/openid-configuration`, or `/.well-known/oauth-authorization-server`, must name exactly this
    /// issuer. The metadata is read once an hour. Optional if `tokenEndpoint` or `protectedResource` is set. Example:
    /// `https://login.example.com/realms/erp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("issuer must be an absolute http or https URL without username, password, fragment or whitespace, such as https://login.example.com"))]
    pub issuer: Option<String>,

    /// The protected resource that the token is for, whose metadata (RFC 9728) names its authorization server: the
    /// document below `/.well-known/oauth-protected-resource` of its host must be for exactly this URL. The metadata of
    /// that server then contains the endpoints, as with `issuer`. If `issuer` is also set, it must be one of the servers
    /// that the resource names. Without `issuer`, the resource server chooses where credentials are sent: then all of
    /// them must have the annotation `oauth.evolutionx.io/allowed-endpoints`. Defaults from the metadata: `resource` is
    /// this URL, and `scope` is all of `scopes_supported`. A FHIR server without this metadata is asked for its
    /// `.well-known/smart-configuration`. Not together with `tokenEndpoint`. Example: `https://mcp.example.com/mcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("protectedResource must be an absolute http or https URL without username, password, fragment or whitespace, such as https://mcp.example.com/mcp"))]
    pub protected_resource: Option<String>,

    /// Client ID (RFC 6749, section 2.2), if it is not stored in the credentials Secret. It is not secret. Default:
    /// the value in the credentials Secret. Example: `erp-client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub client_id: Option<String>,

    /// Client authentication. Default: `client_secret_post`, id and secret in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<Box<ClientAuthentication>>,

    /// The assertion of `grantType: jwt_bearer`. Default: issued by the client ID for the token endpoint, or for
    /// the issuer if `issuer` or `protectedResource` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Box<Assertion>>,

    /// A token of a ServiceAccount that is used instead of a stored secret. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<Box<ServiceAccountToken>>,

    /// Binds the tokens to a key, so that they cannot be used without it (DPoP, RFC 9449). The operator generates the
    /// key and writes it into the target Secret, next to the tokens. Default: tokens are not bound. Example: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop: Option<Dpop>,

    /// Connection settings for the endpoints: custom CA, proxy. Default: the settings of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Box<Connection>>,

    /// Maximum time for which an access token is used, from 5s to 8760h. It can only shorten the actual lifetime: a
    /// longer value is ignored and reported in an event. Default: the lifetime from the response
    /// (`response.expiresIn`), from `exp` if the token is a JWT, else 5m. Example: `1h30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::TOKEN_LIFETIME).message("tokenLife must be a duration from 5s to 8760h, such as 90s or 1h30m"))]
    #[serde(rename = "tokenLife")]
    pub token_lifetime: Option<Duration>,

    /// How long before its expiry a token is renewed; at least 1s and shorter than `tokenLife`. Default: a third of
    /// the lifetime. A jitter is also subtracted, see `renewal.jitter`. Example: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::RENEW_BEFORE).message("renewBefore must be a duration from 1s to 8760h, such as 30s or 10m"))]
    pub renew_before: Option<Duration>,

    /// The Secret with the values that are sent or used for signing: client ID and secret, username and password,
    /// first refresh token, private key, certificate. Optional only if no secret is stored (`serviceAccountToken`, or
    /// `clientAuthentication.method: none` with `client_credentials`). Example: `{secretName: erp-credentials}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,

    /// The resource that the token is for, and the body parameter that carries it. Default: `protectedResource` if its
    /// metadata names the authorization server, else not sent.
    /// Example: `{key: audience, value: "https://api.example.com"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,

    /// Scope of the access token (RFC 6749, section 3.3): space-separated names, sent unchanged. Default:
    /// `scopes_supported` of `protectedResource`, else not sent. Example: `customer order add.order`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub scope: Option<String>,

    /// Format of the token request. Default: a form with `issuer` or `protectedResource`, else a JSON body, without extra parameters or headers,
    /// and a timeout of 10s.
    #[serde(default)]
    pub request: Sparse<Request>,

    /// Location of the values in the response, as JSONata expressions over its body. Default: the parameters of RFC
    /// 6749, section 5.1.
    #[serde(default)]
    pub response: Sparse<Response>,

    /// How a token is renewed, and what happens if that fails. Default: the grant is run again, and retried.
    #[serde(default)]
    pub renewal: Sparse<Renewal>,

    /// Revocation of tokens that are no longer used (RFC 7009). Default: tokens are not revoked and stay valid until
    /// they expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Box<Revocation>>,
}
