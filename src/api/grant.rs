//! The grant: `grantType`, and the settings of some grants: `assertion`, `tokenExchange`, `dpop`.

use kube::KubeSchema;
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::signed_jwt::SignedJwt;
use crate::api::{beside, validation};

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
    /// No request: the token is a JWT that is signed here (RFC 7519).
    SelfSignedJwt,
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
            Self::SelfSignedJwt => "self_signed_jwt",
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

/// The assertion of `grantType: jwt_bearer` (RFC 7523, section 2.1), or the token of `grantType: self_signed_jwt`. Signed with
/// `credentials.keys.privateKey`.
#[derive(KubeSchema, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(validation::ASSERTION_FROM)
        .message("assertion.from is sent as it is: remove the fields of a signed assertion, such as issuer, audience and claims")
)]
pub struct Assertion {
    /// Where the assertion is sent. `Body` (the default): as the parameter `assertion`, together with `grant_type`.
    /// `AuthorizationHeader`: as `Authorization: Bearer …`, without these two parameters, which GitHub Apps require
    /// for installation tokens.
    #[serde(default, skip_serializing_if = "AssertionLocation::is_body")]
    pub place: AssertionLocation,
    /// A token of another integration that is sent as the assertion, instead of one that is signed here: on behalf of
    /// its user (Entra ID), for identity chaining, or, in the Authorization header, as the bearer token of this request.
    /// Its own credentials must allow this endpoint. Default: none. Example: `{integration: federated}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<TokenFrom>,
    /// The JWT.
    #[serde(flatten)]
    pub jwt: SignedJwt,
}

/// A token of another integration of the same namespace, which is the input of this one. When it is renewed, so is the
/// token of this integration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct TokenFrom {
    /// Name of the other OAuthIntegration. Required. Example: `federated`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(validation::SECRET_NAME).message("integration must be the name of an OAuthIntegration: lowercase letters, digits, '-' and '.'"))]
    pub integration: String,
    /// Which of its tokens: `access_token` (the default), `refresh_token`, or `id_token`, which it must store with
    /// `target.data: {id_token: response.id_token}`. Example: `id_token`.
    #[serde(default, skip_serializing_if = "TokenValue::is_access_token")]
    pub value: TokenValue,
}

/// A token of another integration.
#[expect(clippy::enum_variant_names, reason = "the names of the parameters of token responses")]
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum TokenValue {
    /// The access token.
    #[default]
    AccessToken,
    /// The refresh token.
    RefreshToken,
    /// The ID token (OpenID Connect Core 1.0, section 2).
    IdToken,
}

impl TokenValue {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
    fn is_access_token(&self) -> bool {
        *self == Self::AccessToken
    }

    /// Its name in the spec, and in token responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::IdToken => "id_token",
        }
    }

    /// Its type (RFC 8693, section 3).
    #[must_use]
    pub const fn token_type(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::RefreshToken => "urn:ietf:params:oauth:token-type:refresh_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
        }
    }
}

impl<'de> Deserialize<'de> for Assertion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = Own::default();
        let jwt = beside::deserialize(deserializer, &mut own)?;
        Ok(Self { place: own.place, from: own.from, jwt })
    }
}

/// The members of an assertion other than those of the JWT.
#[derive(Default)]
struct Own {
    place: AssertionLocation,
    from: Option<TokenFrom>,
}

impl<'de> beside::Own<'de> for Own {
    fn read<A: MapAccess<'de>>(&mut self, member: &str, map: &mut A) -> Result<bool, A::Error> {
        match member {
            "place" => self.place = map.next_value()?,
            "from" => self.from = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
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
    pub(crate) fn is_body(&self) -> bool {
        *self == Self::Body
    }
}

/// The tokens of `grantType: token_exchange` (RFC 8693).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.subjectTokenFrom) || self.subjectTokenSource != 'ServiceAccount'")
        .message("tokenExchange.subjectTokenFrom and subjectTokenSource ServiceAccount exclude each other: remove one of them")
)]
pub struct TokenExchange {
    /// The source of the subject token: `Secret` (the default), which is `credentials.keys.subjectToken`, or
    /// `ServiceAccount`, which is `spec.serviceAccountToken`.
    #[serde(default)]
    pub subject_token_source: SubjectTokenSource,
    /// A token of another integration that is the subject token. Its own credentials must allow this endpoint. Default:
    /// none. Example: `{integration: login, value: id_token}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_token_from: Option<TokenFrom>,
    /// Type of the subject token (RFC 8693, section 3). Default: `urn:ietf:params:oauth:token-type:access_token`,
    /// `urn:ietf:params:oauth:token-type:jwt` for a ServiceAccount token, or that of `subjectTokenFrom.value`. Example:
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
