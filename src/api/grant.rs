//! The grant: `grantType`, and the settings of some grants: `assertion`, `tokenExchange`, `dpop`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::client_authentication::SigningAlgorithm;
use crate::api::duration::Duration;
use crate::api::{schema, validation};

/// The grant, named as in the `grant_type` parameter of the request, where there is one.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// RFC 6749, section 4.4: client ID and secret.
    ClientCredentials,
    /// A custom login endpoint that takes username and password; not part of RFC 6749.
    UserPassword,
    /// RFC 6749, section 6: a refresh token.
    RefreshToken,
    /// RFC 6749, section 4.3: username and password, with client authentication.
    Password,
    /// RFC 7523, section 2.1: a signed assertion.
    JwtBearer,
    /// RFC 8693: another token is exchanged.
    TokenExchange,
}

impl GrantType {
    /// The name in the spec, in metrics and in logs.
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

/// The assertion of `grantType: jwt_bearer` (RFC 7523, section 2.1), signed with `credentials.keys.privateKey`. It
/// always contains `iat`, `exp` and a unique `jti`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// `iss`: the issuer of the assertion. Default: the client ID. Example: `123456`, the id of a GitHub App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// `sub`: the subject for whom the token is requested. Optional: not sent if unset. GitHub Apps need none.
    /// Example: `user@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub subject: Option<String>,
    /// `aud`: the intended audience. Default: the issuer if `spec.issuer` is set or
    /// `spec.protectedResource` names one, else the token endpoint. Example: `https://login.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// Additional claims, by name, with any JSON value; up to 16 KiB, nested up to 8 levels deep. They are not
    /// secret: never put a credential here. Default: none. Example: `{scope:
    /// "https://www.googleapis.com/auth/drive"}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub claims: Map<String, Value>,
    /// Where the assertion is sent. `Body` (the default): as the parameter `assertion`, together with `grant_type`.
    /// `AuthorizationHeader`: as `Authorization: Bearer …`, without these two parameters, which GitHub Apps require
    /// for installation tokens.
    #[serde(default, skip_serializing_if = "AssertionLocation::is_body")]
    pub place: AssertionLocation,
    /// `alg`: the signature algorithm, not HS256, HS384 or HS512. Default: RS256, ES256, ES384 or EdDSA, depending on the
    /// type of the key. Example: `PS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`: the id of the key at the server. Optional: not sent if unset. Example: `key-2026`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// Lifetime of the assertion, from 10s to 1h. Default: `60s`. Example: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::ASSERTION_LIFETIME).message("assertion.lifetime must be a duration from 10s to 1h, such as 60s"))]
    pub lifetime: Option<Duration>,
    /// `typ`: the type of the JWT. Default: `JWT`. Example: `at+jwt`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: Option<String>,
    /// How far `iat` is in the past, up to 5m: servers whose clocks are behind reject a later one. `exp` stays the same, so
    /// that the time between both is longer. Default: `0s`. Example: `60s`, as GitHub recommends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::ISSUED_AT_SKEW).message("assertion.issuedAtSkew must be a duration up to 5m, such as 60s"))]
    pub issued_at_skew: Option<Duration>,
}

/// Where an assertion is sent.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AssertionLocation {
    /// The body of the request.
    #[default]
    Body,
    /// The Authorization header.
    AuthorizationHeader,
}

impl AssertionLocation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
    fn is_body(&self) -> bool {
        *self == Self::Body
    }
}

/// The tokens of `grantType: token_exchange` (RFC 8693).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchange {
    /// The source of the subject token: `Secret` (the default), which is `credentials.keys.subjectToken`, or
    /// `ServiceAccount`, which is `spec.serviceAccountToken`.
    #[serde(default)]
    pub subject_token_source: SubjectTokenSource,
    /// Type of the subject token (RFC 8693, section 3). Default: `urn:ietf:params:oauth:token-type:access_token`, or
    /// `urn:ietf:params:oauth:token-type:jwt` for a ServiceAccount token. Example:
    /// `urn:ietf:params:oauth:token-type:id_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject_token_type: Option<String>,
    /// Type of the actor token under `credentials.keys.actorToken` (RFC 8693, section 3). Optional: if unset, no
    /// actor token is sent. Example: `urn:ietf:params:oauth:token-type:access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub actor_token_type: Option<String>,
    /// Type of the requested token (RFC 8693, section 3). Optional: if unset, the server chooses. Example:
    /// `urn:ietf:params:oauth:token-type:access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub requested_token_type: Option<String>,
}

/// The source of a subject token.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubjectTokenSource {
    /// The credentials Secret.
    #[default]
    Secret,
    /// The API server (TokenRequest), see `spec.serviceAccountToken`.
    ServiceAccount,
}

/// Sender-constrained tokens (DPoP, RFC 9449).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Dpop {
    /// Signature algorithm of the proofs. `ES256` is the default and the only value.
    #[serde(default)]
    pub algorithm: DpopAlgorithm,
}

/// The signature algorithm of a DPoP proof.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DpopAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    ES256,
}
