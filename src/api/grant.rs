//! The grant: `grantType`, and the settings of some grants: `assertion`, `tokenExchange`, `dpop`.

use std::fmt;

use kube::KubeSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::signed_jwt::SignedJwt;

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

/// The assertion of `grantType: jwt_bearer` (RFC 7523, section 2.1), signed with `credentials.keys.privateKey`.
#[derive(KubeSchema, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// Where the assertion is sent. `Body` (the default): as the parameter `assertion`, together with `grant_type`.
    /// `AuthorizationHeader`: as `Authorization: Bearer …`, without these two parameters, which GitHub Apps require
    /// for installation tokens.
    #[serde(default, skip_serializing_if = "AssertionLocation::is_body")]
    pub place: AssertionLocation,
    /// The JWT.
    #[serde(flatten)]
    pub jwt: SignedJwt,
}

/// Not derived: with `flatten`, serde drops unknown fields silently and loses the path of an error, and both are shown to
/// users.
impl<'de> Deserialize<'de> for Assertion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut place = None;
        let jwt = deserializer.deserialize_map(AssertionVisitor(&mut place))?;
        Ok(Self { place: place.unwrap_or_default(), jwt })
    }
}

/// Reads a JWT from a map, and `place` from the same map.
struct AssertionVisitor<'a>(&'a mut Option<AssertionLocation>);

impl<'de> Visitor<'de> for AssertionVisitor<'_> {
    type Value = SignedJwt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an assertion")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SignedJwt, A::Error> {
        SignedJwt::deserialize(MapAccessDeserializer::new(WithoutPlace { map, place: self.0 }))
    }
}

/// The members of a map other than `place`.
struct WithoutPlace<'a, A> {
    map: A,
    place: &'a mut Option<AssertionLocation>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutPlace<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "place" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            *self.place = Some(self.map.next_value()?);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
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
