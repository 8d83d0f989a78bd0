//! The API that people write: `OAuthIntegration`, its spec and its status. No client, no logic.
//!
//! The text of each field is what `kubectl explain` prints. What can be checked without a cluster is
//! checked by the API server itself, with the bounds and CEL rules that stand beside the fields, so that
//! a bad object is refused by `kubectl apply` with a sentence that says what to change.

mod client_authentication;
mod connection;
mod credentials;
mod duration;
mod grants;
mod reason;
mod renewal;
mod request;
mod response;
mod revocation;
mod rules;
mod status;
mod target;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use client_authentication::{
    ClientAssertion, ClientAuthentication, ClientAuthenticationMethod, ServiceAccountToken, SigningAlgorithm,
};
pub use connection::{CaBundle, CaBundleKind, Connection};
pub use credentials::{CredentialKeys, Credentials};
pub use duration::Duration;
pub use grants::{Assertion, AssertionPlace, Dpop, DpopAlgorithm, GrantType, SubjectTokenSource, TokenExchange};
pub use reason::{Class, Reason};
pub use renewal::{Fallback, FallbackGrant, Refresh, Renewal, Strategy};
pub use request::{Format, Request, Resource, ScopeFormat};
pub use response::Response;
pub use revocation::Revocation;
pub use rules::{crd, print_crd};
pub use status::{LastFailure, OAuthIntegrationStatus};
pub use target::{DeletionPolicy, Target, TargetKeys};

/// The API group, also the prefix of every annotation.
pub const GROUP: &str = "oauth.evolutionx.io";
/// Annotation on an integration: a new value asks for a renewal now.
pub const RENEW_REQUESTED_AT: &str = "oauth.evolutionx.io/renew-requested-at";
/// Finalizer of an integration whose tokens are given back when it is deleted.
pub const FINALIZER: &str = "oauth.evolutionx.io/revocation";
/// The field manager of every server-side apply, and the value of the `managed-by` label.
pub const MANAGER: &str = "oauth-operator";

/// What to ask of which endpoint, with which credentials, and where to put the tokens.
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
    doc = "Keeps the OAuth 2.0 tokens of one system fresh in a Secret: runs the configured grant with the referenced credentials, writes the tokens into the target Secret and renews them before their life ends.",
    validation = Rule::new(rules::TARGET_IS_NOT_CREDENTIALS)
        .message("spec.target.secretName (default: the integration's name) must differ from spec.credentials.secretName: name another target Secret")
        .field_path(".spec.target"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Grant", type_ = "string", json_path = ".spec.grantType"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Renews", type_ = "string", json_path = ".status.renewAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.secretName", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.tokenEndpoint", priority = 1)
)]
#[x_kube(
    validation = Rule::new("!has(self.renewBefore) || !has(self.tokenLife) || duration(self.renewBefore) < duration(self.tokenLife)")
        .message("renewBefore must be shorter than tokenLife: lower renewBefore or raise tokenLife")
        .field_path(".renewBefore"),
    validation = Rule::new("!has(self.renewal) || !has(self.renewal.fallback) || self.grantType == 'refresh_token'")
        .message("renewal.fallback is for grantType refresh_token: take it out, or change grantType")
        .field_path(".renewal"),
    validation = Rule::new("!has(self.renewal) || !has(self.renewal.refresh) || self.grantType != 'refresh_token'")
        .message("renewal.refresh is not for grantType refresh_token, whose own request is the refresh: take it out")
        .field_path(".renewal"),
    validation = Rule::new("has(self.tokenEndpoint) || has(self.issuer)")
        .message("tokenEndpoint or issuer must be given: write the URL of the token endpoint, or the issuer whose metadata tells it"),
    validation = Rule::new(rules::CREDENTIALS_NEEDED)
        .message("credentials must be given: only clients with method service_account_token or none can do without, with grants that send nothing else that is secret"),
    validation = Rule::new("!has(self.assertion) || self.grantType == 'jwt_bearer' || (has(self.renewal) && has(self.renewal.fallback) && self.renewal.fallback.grantType == 'jwt_bearer')")
        .message("assertion is for grantType jwt_bearer: take it out, or change grantType")
        .field_path(".assertion"),
    validation = Rule::new("!has(self.tokenExchange) || self.grantType == 'token_exchange' || (has(self.renewal) && has(self.renewal.fallback) && self.renewal.fallback.grantType == 'token_exchange')")
        .message("tokenExchange is for grantType token_exchange: take it out, or change grantType")
        .field_path(".tokenExchange"),
    validation = Rule::new(rules::SERVICE_ACCOUNT_TOKEN_GIVEN)
        .message("serviceAccountToken must be given where clientAuthentication.method is service_account_token or tokenExchange.subjectTokenSource is ServiceAccount, and only there"),
    validation = Rule::new("!has(self.clientAuthentication) || self.grantType != 'user_password'")
        .message("clientAuthentication is not sent by grantType user_password: take it out, or use grantType password")
        .field_path(".clientAuthentication"),
    validation = Rule::new("!has(self.request) || !has(self.request.scopeFormat) || self.request.scopeFormat != 'list' || !has(self.request.format) || self.request.format == 'json'")
        .message("request.scopeFormat list is for JSON bodies: take it out, or set request.format to json")
        .field_path(".request"),
    validation = Rule::new("!has(self.revocation) || has(self.revocation.endpoint) || has(self.issuer)")
        .message("revocation.endpoint must be given where there is no issuer whose metadata tells it")
        .field_path(".revocation"),
    validation = Rule::new("!has(self.revocation) || !has(self.revocation.onDeletion) || !self.revocation.onDeletion || !has(self.target) || !has(self.target.deletionPolicy) || self.target.deletionPolicy != 'Retain'")
        .message("target.deletionPolicy Retain keeps what revocation.onDeletion makes worthless: take one of them out")
        .field_path(".revocation"),
    validation = Rule::new(rules::EXTRA_NOT_TOKENS)
        .message("response.extra must not use a key of target.keys: two values cannot stand under one key")
        .field_path(".response")
)]
pub struct OAuthIntegrationSpec {
    /// URL of the token endpoint (RFC 6749, section 3.2), to which the request is sent by POST. Absolute,
    /// http or https, without user name, password or fragment. Example:
    /// `https://login.example.com/oauth/token`. Default: the one in the metadata of `issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::ENDPOINT).message("tokenEndpoint must be an absolute http or https URL without user name, password, fragment or blanks, such as https://login.example.com/oauth/token"))]
    pub token_endpoint: Option<String>,

    /// The issuer, whose metadata (OpenID Connect Discovery 1.0, RFC 8414) tells the endpoints: its
    /// `/.well-known/openid-configuration`, or `/.well-known/oauth-authorization-server`, must name this very issuer. Read
    /// once an hour. Example: `https://login.example.com/realms/erp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::ENDPOINT).message("issuer must be an absolute http or https URL without user name, password, fragment or blanks, such as https://login.example.com"))]
    pub issuer: Option<String>,

    /// What is asked for, and with it the body of the request. `client_credentials` (RFC 6749, section 4.4)
    /// sends client id and secret. `user_password` is a log-in endpoint rather than RFC 6749: it sends user
    /// name and password and nothing else. `refresh_token` (RFC 6749, section 6) sends client id, client
    /// secret and the refresh token. `password` (RFC 6749, section 4.3) sends client id, client secret, user name
    /// and password. `jwt_bearer` (RFC 7523, section 2.1) sends an assertion that is signed with a private key, see
    /// `assertion`. `token_exchange` (RFC 8693) sends another token, see `tokenExchange`.
    pub grant_type: GrantType,

    /// Client id (RFC 6749, section 2.2), where it does not stand in the credentials Secret. It is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub client_id: Option<String>,

    /// How the client shows who it is. Default: `client_secret_post`, id and secret in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<ClientAuthentication>,

    /// The assertion of `grantType: jwt_bearer`. Default: issued by the client id for the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Assertion>,

    /// What `grantType: token_exchange` exchanges for what. Default: the access token under
    /// `credentials.keys.subjectToken`, for what the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<TokenExchange>,

    /// A token of a ServiceAccount that takes the place of a stored secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<ServiceAccountToken>,

    /// Binds the tokens to a key, so that nobody can use them without it (DPoP, RFC 9449). The key is made by the operator
    /// and written into the target Secret, beside the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop: Option<Dpop>,

    /// The way to the endpoints: trusted authorities, proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,

    /// How long an access token is used at most, such as `90s` or `1h30m`; 5s to 8760h. At most the real
    /// life: a longer value is used nowhere and told in an event. Optional: without it the life is taken from
    /// the response (`response.expiresIn`), from `exp` where the token is a JWT, and else as 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::TOKEN_LIFE).message("tokenLife must be a duration from 5s to 8760h, such as 90s or 1h30m"))]
    pub token_life: Option<Duration>,

    /// How long before its end a token is renewed, such as `10m`; at least 1s and shorter than `tokenLife`.
    /// Default: a third of the life. A jitter of up to a tenth of the life (a third after the first issue and
    /// after renewals out of turn, such as those after an outage) is taken off as well, so that many
    /// tokens of one age are not renewed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::RENEW_BEFORE).message("renewBefore must be a duration from 1s to 8760h, such as 30s or 10m"))]
    pub renew_before: Option<Duration>,

    /// The Secret that holds what is sent or signed with: client id and secret, user name and password, first refresh
    /// token, private key, certificate. Optional only where nothing secret is stored (`serviceAccountToken`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,

    /// The resource that the token is for, and the body member that names it. Optional: without it no such
    /// member is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,

    /// Scope of the access token (RFC 6749, section 3.3): names with a blank between them, sent as they are.
    /// Optional: without it no scope is sent. Example: `customer order add.order`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub scope: Option<String>,

    /// How the request is written. Default: a JSON body, nothing added, a time-out of 10s.
    #[serde(default)]
    pub request: Request,

    /// Where the values stand in the response, as JSONata expressions over its body. Default: the members of
    /// RFC 6749, section 5.1.
    #[serde(default)]
    pub response: Response,

    /// How a token is renewed, and what is done when that goes wrong. Default: the grant is run again, and tried again.
    #[serde(default)]
    pub renewal: Renewal,

    /// Giving tokens back that are not used any more. Default: they are left to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,

    /// The Secret that the tokens are written into. Default: one with the integration's name.
    #[serde(default)]
    pub target: Target,

    /// True stops all requests and writes; the Secret stays as it is. Default: false.
    #[serde(default)]
    pub suspend: bool,
}
