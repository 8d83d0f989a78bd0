//! What is asked for: `grantType`, and what some grants need beside the credentials: `assertion`, `tokenExchange`, `dpop`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Duration, SigningAlgorithm, rules};

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

/// The assertion of `grantType: jwt_bearer` (RFC 7523, section 2.1), signed with `credentials.keys.privateKey`. `iat`, `exp`
/// and a fresh `jti` are always in it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// `iss`: who says so. Default: the client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// `sub`: for whom the token is asked. Optional: not sent without it, as GitHub and Google want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub subject: Option<String>,
    /// `aud`: who is to believe it. Default: the issuer where `spec.issuer` is given, else the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// Other claims, by name, with any JSON value, such as `{scope: "https://www.googleapis.com/auth/drive"}`. Never a
    /// credential.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "rules::any_object")]
    pub claims: Map<String, Value>,
    /// Where it goes: `Body` (the default), as the member `assertion` beside `grant_type`, or `AuthorizationHeader`, as
    /// `Authorization: Bearer …` with neither of them, as GitHub Apps ask for installation tokens.
    #[serde(default, skip_serializing_if = "AssertionPlace::is_body")]
    pub place: AssertionPlace,
    /// `alg`: how it is signed. Default: RS256, ES256 or EdDSA, as the key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`: by which name the server knows the key. Optional: not sent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// How long it may be used, such as `60s`; 10s to 1h. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::ASSERTION_LIFE).message("assertion.lifetime must be a duration from 10s to 1h, such as 60s"))]
    pub lifetime: Option<Duration>,
}

/// Where an assertion goes.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AssertionPlace {
    /// The body of the request.
    #[default]
    Body,
    /// The Authorization header.
    AuthorizationHeader,
}

impl AssertionPlace {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_body(&self) -> bool {
        *self == Self::Body
    }
}

/// What `grantType: token_exchange` (RFC 8693) exchanges for what.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchange {
    /// Where the subject token comes from: `Secret` (the default), which is `credentials.keys.subjectToken`, or
    /// `ServiceAccount`, which is `spec.serviceAccountToken`.
    #[serde(default)]
    pub subject_token_source: SubjectTokenSource,
    /// What the subject token is (RFC 8693, section 3). Default: `urn:ietf:params:oauth:token-type:access_token`, and
    /// `urn:ietf:params:oauth:token-type:jwt` for a ServiceAccount's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject_token_type: Option<String>,
    /// What the token under `credentials.keys.actorToken` is. Optional: without it no actor token is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub actor_token_type: Option<String>,
    /// What is wanted in exchange. Optional: without it the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub requested_token_type: Option<String>,
}

/// Where a subject token comes from.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubjectTokenSource {
    /// The credentials Secret.
    #[default]
    Secret,
    /// The API server, for `spec.serviceAccountToken`.
    ServiceAccount,
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
