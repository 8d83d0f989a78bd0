//! The API that people write: `OAuthIntegration`, its spec and its status. No client, no logic.
//!
//! The text of each field is what `kubectl explain` prints. What can be checked without a cluster is
//! checked by the API server itself, with the bounds and CEL rules that stand beside the fields, so that
//! a bad object is refused by `kubectl apply` with a sentence that says what to change.

mod client_authentication;
mod connection;
mod grants;
mod reason;
mod renewal;
mod revocation;
mod rules;
mod status;
mod target;

use std::collections::BTreeMap;

use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use client_authentication::{
    ClientAssertion, ClientAuthentication, ClientAuthenticationMethod, ServiceAccountToken, SigningAlgorithm,
};
pub use connection::{CaBundle, CaBundleKind, Connection};
pub use grants::{Assertion, AssertionPlace, SubjectTokenSource, TokenExchange};
pub use reason::{Class, Reason};
pub use renewal::{Fallback, FallbackGrant, Refresh, Renewal, Strategy};
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

/// The grant, by its name in the request where it has one.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// RFC 6749, section 4.4: client id and secret.
    ClientCredentials,
    /// A log-in endpoint that takes user name and password; not RFC 6749.
    UserPassword,
    /// RFC 6749, section 6: a refresh token.
    RefreshToken,
    /// RFC 6749, section 4.3: user name and password, with the client.
    Password,
    /// RFC 7523, section 2.1: a signed assertion.
    JwtBearer,
    /// RFC 8693: another token in exchange.
    TokenExchange,
}

impl GrantType {
    /// The word in the spec, in metrics and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::UserPassword => "user_password",
            Self::RefreshToken => "refresh_token",
            Self::Password => "password",
            Self::JwtBearer => "jwt_bearer",
            Self::TokenExchange => "token_exchange",
        }
    }

    /// The value of `grant_type` in the request.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            _ => self.as_str(),
        }
    }
}

/// Tokens that are bound to a key (RFC 9449).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Dpop {
    /// How proofs are signed. Default, and the only one: `ES256`.
    #[serde(default)]
    pub algorithm: DpopAlgorithm,
}

/// How a DPoP proof is signed.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DpopAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    ES256,
}

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

/// The resource that a token is for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.values)").message("resource must have either value or values: give one resource as value, several as values"))]
pub struct Resource {
    /// Body member that carries the value: `resource` (RFC 8707), `audience`, or any other name that the
    /// endpoint asks for.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(rules::RESOURCE_KEY).message("resource.key must not be a member that the grant itself fills: use resource, audience or the name that the endpoint documents"))]
    pub key: String,
    /// The resource, sent as it is. Example: `https://www.resource.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub value: Option<String>,
    /// Several resources (RFC 8707, section 2): in a form the member is sent once for each, in JSON it is a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 2048)))]
    pub values: Vec<String>,
}

/// How the token request is written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Body format: `json` (`application/json`, the default) or `form` (`application/x-www-form-urlencoded`,
    /// what RFC 6749 asks for; Keycloak, Entra ID, Okta and most others take only this one).
    #[serde(default)]
    pub format: Format,
    /// Extra members of the body, by name. A value given here wins over the one that the grant would send; an
    /// empty one takes the member out. Never a credential: this text is readable by all who may read the
    /// integration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::parameters")]
    pub parameters: BTreeMap<String, String>,
    /// Other names for members of the body, such as `{username: email, password: pass}`, for log-ins of one's own making.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::body_keys")]
    #[x_kube(
        validation = Rule::new(rules::BODY_KEYS).message("request.bodyKeys must rename members that the request holds, such as username, password, client_id or scope"),
        validation = Rule::new(rules::BODY_KEYS_DISTINCT).message("request.bodyKeys must give each member another name")
    )]
    pub body_keys: BTreeMap<String, String>,
    /// How the scope is sent in JSON: `text` (the default), names with a blank between them, or `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_format: Option<ScopeFormat>,
    /// Extra headers, by name. Never a credential, and none that the request needs for itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::headers")]
    #[x_kube(
        validation = Rule::new(rules::HEADER_NAMES).message("request.headers must not set Authorization, Proxy-Authorization, Cookie, Host, Content-Type, Content-Length, Transfer-Encoding, Connection or DPoP: credentials belong in the credentials Secret, the content type follows request.format"),
        validation = Rule::new(rules::HEADER_TEXT).message("request.headers must hold header names (letters, digits and '-') with printable values, without line breaks")
    )]
    pub headers: BTreeMap<String, String>,
    /// How long one request may take from connecting to the last byte, such as `10s`; 1s to 60s. Default: 10s.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::TIMEOUT).message("request.timeout must be a duration from 1s to 60s, such as 10s"))]
    pub timeout: Duration,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            format: Format::Json,
            parameters: BTreeMap::new(),
            body_keys: BTreeMap::new(),
            scope_format: None,
            headers: BTreeMap::new(),
            timeout: default_timeout(),
        }
    }
}

fn default_timeout() -> Duration {
    std::time::Duration::from_secs(10).into()
}

/// The format of the request's body.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// How a scope is sent in JSON.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum ScopeFormat {
    /// Names with a blank between them (RFC 6749, section 3.3).
    Text,
    /// A list of names.
    List,
}

/// JSONata expressions over the body of the response: JSON, or a form as GitHub sends it. `$status` is bound to the status
/// code, `$headers` to an object with the headers, their names in small letters.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Where the access token stands; must yield a non-empty string. Default: `access_token`. Example for a
    /// custom body: `data.session.jwt`.
    #[serde(default = "default_access_token")]
    #[schemars(length(min = 1, max = 4096))]
    pub access_token: String,
    /// Where the refresh token stands; may yield nothing. Default: `refresh_token`.
    #[serde(default = "default_refresh_token")]
    #[schemars(length(min = 1, max = 4096))]
    pub refresh_token: String,
    /// Where the life of the access token stands, in seconds; may yield nothing. Default: `expires_in`. Example
    /// for minutes: `data.ttl * 60`.
    #[serde(default = "default_expires_in")]
    #[schemars(length(min = 1, max = 4096))]
    pub expires_in: String,
    /// Where the end of the access token stands, for servers that tell no `expires_in`: RFC 3339, or seconds or milliseconds
    /// since 1970. Optional. Example: `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub expires_at: Option<String>,
    /// Whether the answer is a success, for servers that answer 200 with an error inside: what yields false, 0, an empty
    /// value or nothing is taken for a refusal. Optional. Example: `ok` or `status = 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub success: Option<String>,
    /// More values for the target Secret, by key: an expression for each. Text is written as it is, numbers and booleans as
    /// JSON writes them, objects and lists as JSON text; what yields nothing is not written. Example:
    /// `{instance_url: instance_url}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::extra")]
    #[x_kube(validation = Rule::new(rules::EXTRA_NAMES).message("response.extra must have keys that a Secret can have: letters, digits, '-', '_' and '.'"))]
    pub extra: BTreeMap<String, String>,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            access_token: default_access_token(),
            refresh_token: default_refresh_token(),
            expires_in: default_expires_in(),
            expires_at: None,
            success: None,
            extra: BTreeMap::new(),
        }
    }
}

fn default_access_token() -> String {
    "access_token".into()
}

fn default_refresh_token() -> String {
    "refresh_token".into()
}

fn default_expires_in() -> String {
    "expires_in".into()
}
