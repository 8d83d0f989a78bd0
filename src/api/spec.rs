//! The API that users write: `OAuthIntegration`, its spec and its status. Contains neither a client nor logic.
//!
//! `kubectl explain` prints the doc comment of each field. What can be checked without a cluster is checked by the
//! API server, with the bounds and CEL rules next to the fields, so that `kubectl apply` rejects an invalid object
//! with a message that says what to change.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::client_authentication::{ClientAuthentication, ServiceAccountToken};
use crate::api::connection::Connection;
use crate::api::credentials::Credentials;
use crate::api::duration::Duration;
use crate::api::grant::{Assertion, Dpop, GrantType, TokenExchange};
use crate::api::renewal::Renewal;
use crate::api::request::{Request, Resource};
use crate::api::response::Response;
use crate::api::revocation::Revocation;
use crate::api::status::OAuthIntegrationStatus;
use crate::api::target::Target;
use crate::api::validation;

/// Which token to request from which endpoint with which credentials, and where to store it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "oauth.evolutionx.io",
    version = "v1alpha1",
    kind = "OAuthIntegration",
    plural = "oauthintegrations",
    shortname = "oai",
    category = "oauth",
    namespaced,
    status = "OAuthIntegrationStatus",
    derive = "PartialEq",
    doc = "Keeps the OAuth 2.0 tokens of one system fresh in a Secret: runs the configured grant with the referenced credentials, writes the tokens into the target Secret and renews them before they expire.",
    validation = Rule::new(validation::TARGET_IS_NOT_CREDENTIALS)
        .message("spec.target.secretName (default: the integration's name) must differ from spec.credentials.secretName: name another target Secret")
        .field_path(".spec.target"),
    validation = Rule::new(validation::REFRESH_TOKEN_SECRET_IS_ANOTHER)
        .message("spec.target.refreshTokenSecretName must differ from spec.target.secretName (default: the integration's name) and from spec.credentials.secretName: name another Secret")
        .field_path(".spec.target"),
    validation = Rule::new(validation::REFRESH_TOKEN_SECRET_STAYS)
        .message("a Secret cannot become the target after it was spec.target.refreshTokenSecretName, or the other way around, in one step: name another Secret")
        .field_path(".spec.target"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Grant", type_ = "string", json_path = ".spec.grantType"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Renews", type_ = "string", json_path = ".status.renewAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.secretName", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.tokenEndpoint", priority = 1),
    printcolumn(name = "Retry", type_ = "string", json_path = ".status.lastFailure.retryAt", priority = 1)
)]
#[x_kube(
    validation = Rule::new("!has(self.renewBefore) || !has(self.tokenLife) || duration(self.renewBefore) < duration(self.tokenLife)")
        .message("renewBefore must be shorter than tokenLife: lower renewBefore or raise tokenLife")
        .field_path(".renewBefore"),
    validation = Rule::new("!has(self.renewal) || !has(self.renewal.fallback) || self.grantType == 'refresh_token'")
        .message("renewal.fallback applies only to grantType refresh_token: remove it, or change grantType")
        .field_path(".renewal"),
    validation = Rule::new("!has(self.renewal) || !has(self.renewal.refresh) || self.grantType != 'refresh_token'")
        .message("renewal.refresh does not apply to grantType refresh_token, whose own request is the refresh request: remove it")
        .field_path(".renewal"),
    validation = Rule::new("has(self.tokenEndpoint) || has(self.issuer) || has(self.protectedResource) || self.grantType == 'self_signed_jwt'")
        .message("tokenEndpoint, issuer or protectedResource is required: set the URL of the token endpoint, the issuer whose metadata contains it, or the protected resource whose metadata names the issuer"),
    validation = Rule::new("!has(self.protectedResource) || !has(self.tokenEndpoint)")
        .message("protectedResource does not apply with tokenEndpoint: remove one of them")
        .field_path(".protectedResource"),
    validation = Rule::new(validation::REFRESH_NEEDS_ISSUER)
        .message("issuer is required if protectedResource is set and refresh tokens are sent (grantType refresh_token or renewal.strategy refresh_token): set it to the authorization server that issues them, because they are sent to no other one")
        .field_path(".protectedResource"),
    validation = Rule::new("has(self.credentials) || !has(self.connection) || !has(self.connection.clientCertificate) || !self.connection.clientCertificate")
        .message("connection.clientCertificate needs credentials: set credentials.secretName"),
    validation = Rule::new(validation::CREDENTIALS_NEEDED_BY_REQUEST)
        .message("request.parametersFrom and request.headersFrom need credentials: set credentials.secretName"),
    validation = Rule::new(validation::NO_SECRETS_IN_QUERY)
        .message("request.method GET would send a secret in the URL, which servers and proxies log: use POST or clientAuthentication.method client_secret_basic, or, if the server accepts nothing else, set request.secretsInQuery: true")
        .field_path(".request"),
    validation = Rule::new(validation::CREDENTIALS_NEEDED)
        .message("credentials is required: set credentials.secretName. It may be omitted only if clientAuthentication.method is service_account_token or none and the grant sends no other secret (client_credentials, token_exchange of a ServiceAccount token, or a token of another integration)"),
    validation = Rule::new(validation::TOKEN_OF_ANOTHER)
        .message("tokenExchange.subjectTokenFrom applies only to grantType token_exchange, and assertion.from only to jwt_bearer, not to a fallback: remove it, or change grantType"),
    validation = Rule::new("!has(self.assertion) || self.grantType in ['jwt_bearer', 'self_signed_jwt'] || (has(self.renewal) && has(self.renewal.fallback) && self.renewal.fallback.grantType == 'jwt_bearer')")
        .message("assertion applies only to grantType jwt_bearer and self_signed_jwt: remove it, or change grantType")
        .field_path(".assertion"),
    validation = Rule::new(validation::SELF_SIGNED)
        .message("grantType self_signed_jwt sends no request: remove tokenEndpoint, issuer, protectedResource, clientAuthentication, serviceAccountToken, connection, dpop, resource, scope, revocation, assertion.place and assertion.from"),
    validation = Rule::new("!has(self.assertion) || !has(self.assertion.algorithm) || self.grantType == 'self_signed_jwt' || !(self.assertion.algorithm in ['HS256', 'HS384', 'HS512'])")
        .message("assertion.algorithm must be one with a private key, such as RS256: HS256, HS384 and HS512 apply only to grantType self_signed_jwt"),
    validation = Rule::new("!has(self.tokenExchange) || self.grantType == 'token_exchange' || (has(self.renewal) && has(self.renewal.fallback) && self.renewal.fallback.grantType == 'token_exchange')")
        .message("tokenExchange applies only to grantType token_exchange: remove it, or change grantType")
        .field_path(".tokenExchange"),
    validation = Rule::new(validation::SERVICE_ACCOUNT_TOKEN_GIVEN)
        .message("serviceAccountToken is required if clientAuthentication.method is service_account_token or tokenExchange.subjectTokenSource is ServiceAccount, and not allowed otherwise"),
    validation = Rule::new("!has(self.clientAuthentication) || self.grantType != 'user_password'")
        .message("clientAuthentication is not sent by grantType user_password: remove it, or use grantType password")
        .field_path(".clientAuthentication"),
    validation = Rule::new("!has(self.request) || !has(self.request.scopeFormat) || self.request.scopeFormat != 'list' || (has(self.request.format) ? self.request.format == 'json' : !(has(self.issuer) || has(self.protectedResource)))")
        .message("request.scopeFormat list applies only to JSON bodies: remove it, or set request.format to json")
        .field_path(".request"),
    validation = Rule::new("!has(self.revocation) || has(self.revocation.endpoint) || has(self.issuer)")
        .message("revocation.endpoint is required unless issuer is set, whose metadata then provides it")
        .field_path(".revocation"),
    validation = Rule::new(validation::REVOCATION_ORIGIN)
        .message("revocation.endpoint must have the origin (scheme, host and port) of tokenEndpoint or issuer unless credentials is set: only the owner of the credentials can allow another origin")
        .field_path(".revocation"),
    validation = Rule::new("!has(self.revocation) || !has(self.revocation.onDeletion) || !self.revocation.onDeletion || !has(self.target) || !has(self.target.deletionPolicy) || self.target.deletionPolicy != 'Retain'")
        .message("target.deletionPolicy Retain conflicts with revocation.onDeletion, which revokes the tokens that are retained: remove one of them")
        .field_path(".revocation")
)]
pub struct OAuthIntegrationSpec {
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

    /// The grant, which determines the body of the request. Required. Example: `client_credentials`.
    /// `client_credentials` (RFC 6749, section 4.4) sends client ID and secret. `user_password` is for a custom login
    /// endpoint outside of RFC 6749: it sends only username and password. `refresh_token` (RFC 6749, section 6) sends
    /// client ID, client secret and the refresh token. `password` (RFC 6749, section 4.3) sends client ID, client
    /// secret, username and password. `jwt_bearer` (RFC 7523, section 2.1) sends an assertion that is signed with a
    /// private key, see `assertion`. `token_exchange` (RFC 8693) sends another token, see `tokenExchange`. `self_signed_jwt`
    /// sends nothing: the token is a JWT that is signed with a private key (or, with HS256, HS384 or HS512, with the client
    /// secret), see `assertion`.
    pub grant_type: GrantType,

    /// Client ID (RFC 6749, section 2.2), if it is not stored in the credentials Secret. It is not secret. Default:
    /// the value in the credentials Secret. Example: `erp-client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub client_id: Option<String>,

    /// Client authentication. Default: `client_secret_post`, id and secret in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<ClientAuthentication>,

    /// The assertion of `grantType: jwt_bearer`. Default: issued by the client ID for the token endpoint, or for
    /// the issuer if `issuer` or `protectedResource` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Assertion>,

    /// The tokens of `grantType: token_exchange`. Default: the access token under `credentials.keys.subjectToken` is
    /// exchanged for a token whose type the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<TokenExchange>,

    /// A token of a ServiceAccount that is used instead of a stored secret. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<ServiceAccountToken>,

    /// Binds the tokens to a key, so that they cannot be used without it (DPoP, RFC 9449). The operator generates the
    /// key and writes it into the target Secret, next to the tokens. Default: tokens are not bound. Example: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop: Option<Dpop>,

    /// Connection settings for the endpoints: custom CA, proxy. Default: the settings of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,

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
    pub request: Request,

    /// Location of the values in the response, as JSONata expressions over its body. Default: the parameters of RFC
    /// 6749, section 5.1.
    #[serde(default)]
    pub response: Response,

    /// How a token is renewed, and what happens if that fails. Default: the grant is run again, and retried.
    #[serde(default)]
    pub renewal: Renewal,

    /// Revocation of tokens that are no longer used (RFC 7009). Default: tokens are not revoked and stay valid until
    /// they expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,

    /// The Secret that the tokens are written into. Default: one with the integration's name.
    #[serde(default)]
    pub target: Target,

    /// Whether to stop all requests and writes; the Secret stays as it is. Default: false. Example: `true`.
    #[serde(default)]
    pub suspend: bool,
}
