//! The API that users write: `OAuthIntegration`, its spec and its status. Contains neither a client nor logic.
//!
//! `kubectl explain` prints the doc comment of each field. What can be checked without a cluster is checked by the
//! API server, with the bounds and CEL rules next to the fields, so that `kubectl apply` rejects an invalid object
//! with a message that says what to change.

use kube::{CustomResource, KubeSchema};
use serde::de::{Error, MapAccess};
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::grant::{GrantType, TokenExchange};
use crate::api::provider::ProviderRef;
use crate::api::shared_spec::SharedSpec;
use crate::api::status::OAuthIntegrationStatus;
use crate::api::target::Target;
use crate::api::{beside, validation};

/// Which token to request from which endpoint with which credentials, and where to store it.
#[derive(CustomResource, KubeSchema, Serialize, Clone, Debug, PartialEq)]
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
    validation = Rule::new("!has(self.renewal) || !has(self.renewal.fallback) || self.grantType == 'refresh_token'")
        .message("renewal.fallback applies only to grantType refresh_token: remove it, or change grantType")
        .field_path(".renewal"),
    validation = Rule::new("!has(self.renewal) || !has(self.renewal.refresh) || self.grantType != 'refresh_token'")
        .message("renewal.refresh does not apply to grantType refresh_token, whose own request is the refresh request: remove it")
        .field_path(".renewal"),
    validation = Rule::new("has(self.providerRef) || has(self.tokenEndpoint) || has(self.issuer) || has(self.protectedResource) || self.grantType == 'self_signed_jwt'")
        .message("tokenEndpoint, issuer, protectedResource or providerRef is required: set the URL of the token endpoint, the issuer whose metadata contains it, the protected resource whose metadata names the issuer, or the provider that describes them"),
    validation = Rule::new(validation::REFRESH_NEEDS_ISSUER)
        .message("issuer is required if protectedResource is set and refresh tokens are sent (grantType refresh_token or renewal.strategy refresh_token): set it to the authorization server that issues them, because they are sent to no other one")
        .field_path(".protectedResource"),
    validation = Rule::new(validation::NO_SECRETS_IN_QUERY)
        .message("request.method GET would send a secret in the URL, which servers and proxies log: use POST or clientAuthentication.method client_secret_basic, or, if the server accepts nothing else, set request.secretsInQuery: true")
        .field_path(".request"),
    validation = Rule::new(validation::CREDENTIALS_NEEDED)
        .message("credentials is required: set credentials.secretName. It may be omitted only if clientAuthentication.method is service_account_token or none and the grant sends no other secret (client_credentials, token_exchange of a ServiceAccount token, or a token of another integration)"),
    validation = Rule::new(validation::PROVIDER_FIELDS)
        .message("with providerRef, the provider says where requests are sent and as whom: remove tokenEndpoint, issuer, protectedResource, clientId, clientAuthentication, connection, dpop, revocation.endpoint, revocation.format, renewal.refresh and renewal.fallback.tokenEndpoint"),
    validation = Rule::new(validation::PROVIDER_REQUEST)
        .message("with providerRef, the provider says how requests and responses look: remove request and response"),
    validation = Rule::new(validation::PROVIDER_CREDENTIALS)
        .message("with providerRef, credentials has only what belongs to a user: remove all of credentials.keys except username, password, refreshToken, subjectToken and actorToken")
        .field_path(".credentials"),
    validation = Rule::new(validation::PROVIDER_ASSERTION)
        .message("with providerRef, the provider signs assertions: remove all of assertion except subject and from, and do not use grantType self_signed_jwt"),
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
    validation = Rule::new("!has(self.revocation) || has(self.revocation.endpoint) || has(self.issuer) || has(self.providerRef)")
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
    /// The grant, which determines the body of the request. Required. Example: `client_credentials`.
    /// `client_credentials` (RFC 6749, section 4.4) sends client ID and secret. `user_password` is for a custom login
    /// endpoint outside of RFC 6749: it sends only username and password. `refresh_token` (RFC 6749, section 6) sends
    /// client ID, client secret and the refresh token. `password` (RFC 6749, section 4.3) sends client ID, client
    /// secret, username and password. `jwt_bearer` (RFC 7523, section 2.1) sends an assertion that is signed with a
    /// private key, see `assertion`. `token_exchange` (RFC 8693) sends another token, see `tokenExchange`. `self_signed_jwt`
    /// sends nothing: the token is a JWT that is signed with a private key (or, with HS256, HS384 or HS512, with the client
    /// secret), see `assertion`.
    pub grant_type: GrantType,

    /// The provider that says where tokens are requested, and as which client. With it, the integration has none of
    /// `tokenEndpoint`, `issuer`, `protectedResource`, `clientId`, `clientAuthentication`, `connection`, `request`,
    /// `response`, `dpop` and `revocation.endpoint`, and in `credentials` only what belongs to a user and not to the
    /// client. Its own `scope`, `resource`, `tokenLife`, `renewBefore`, `renewal` and `revocation` take the place of
    /// those of the provider. Default: none. Example: `{kind: ClusterOAuthProvider, name: erp}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<ProviderRef>,

    /// The tokens of `grantType: token_exchange`. Default: the access token under `credentials.keys.subjectToken` is
    /// exchanged for a token whose type the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<Box<TokenExchange>>,

    /// The Secret that the tokens are written into. Default: one with the integration's name.
    #[serde(default)]
    pub target: Target,

    /// Whether to stop all requests and writes; the Secret stays as it is. Default: false. Example: `true`.
    #[serde(default)]
    pub suspend: bool,

    /// How to reach the server, and who the client is.
    #[serde(flatten)]
    pub shared: SharedSpec,
}

impl<'de> Deserialize<'de> for OAuthIntegrationSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = Own::default();
        let shared = beside::deserialize(deserializer, &mut own)?;
        let Own { grant_type, provider_ref, token_exchange, target, suspend } = own;
        let grant_type = grant_type.ok_or_else(|| D::Error::missing_field("grantType"))?;
        Ok(Self { grant_type, provider_ref, token_exchange, target, suspend, shared })
    }
}

/// The members of a spec that it does not share with providers.
#[derive(Default)]
struct Own {
    grant_type: Option<GrantType>,
    provider_ref: Option<ProviderRef>,
    token_exchange: Option<Box<TokenExchange>>,
    target: Target,
    suspend: bool,
}

impl<'de> beside::Own<'de> for Own {
    fn read<A: MapAccess<'de>>(&mut self, member: &str, map: &mut A) -> Result<bool, A::Error> {
        match member {
            "grantType" => self.grant_type = Some(map.next_value()?),
            "providerRef" => self.provider_ref = map.next_value()?,
            "tokenExchange" => self.token_exchange = map.next_value()?,
            "target" => self.target = map.next_value()?,
            "suspend" => self.suspend = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
