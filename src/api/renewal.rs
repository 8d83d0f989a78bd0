//! Renewal and its fallback: `spec.renewal`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::duration::Duration;
use crate::api::grant::GrantType;
use crate::api::request::Format;
use crate::api::sparse::{SharedDefault, shared_default};
use crate::api::{schema, validation};

/// How a token is renewed, and what happens if that fails.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.refresh) || (has(self.strategy) && self.strategy == 'refresh_token')")
        .message("renewal.refresh applies only to renewal.strategy refresh_token: remove it, or set strategy")
)]
pub struct Renewal {
    /// How a token is renewed. `grant` (the default): the grant is run again. `refresh_token`: the refresh token that
    /// the grant returned is used (RFC 6749, section 6); the grant is run again if there is none, or if the server
    /// rejects it with any error. With `grantType: refresh_token` both are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RenewalStrategy>,

    /// The maximum by which a renewal is earlier than it must be, so that many tokens are not renewed at the same time.
    /// `0s` switches this off, for servers that accept a renewal only shortly before a token expires. Default: a tenth
    /// of the lifetime, after the first and unscheduled requests a third; with `renewBefore`, a tenth of that. Example:
    /// `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::JITTER).message("renewal.jitter must be a duration from 0s to 8760h, such as 0s or 5m"))]
    pub jitter: Option<Duration>,

    /// How the refresh request differs from the grant request, with `strategy: refresh_token`. Default: only as
    /// specified in RFC 6749, section 6. Example: `{format: form}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshRequest>,

    /// The grant to use if the refresh token is rejected with `invalid_grant` (RFC 6749, section 5.2), or if there is
    /// none: it has expired, was revoked, or was spent by a request whose response was lost. Requested once for each
    /// attempt, and reported in a Warning event `FallbackUsed`. Only with `grantType: refresh_token`. Default: no
    /// fallback; a user must put a new refresh token into the credentials Secret, and the operator uses it at once.
    /// Example: `{grantType: client_credentials}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

shared_default!(Renewal);

/// How a token is renewed. `grant` (the default): the grant is run again. `refresh_token`: the refresh token that the
/// grant returned is used (RFC 6749, section 6); the grant is run again if there is none, or if the server rejects it
/// with any error. With `grantType: refresh_token` both are the same.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum RenewalStrategy {
    /// The grant is run again.
    Grant,
    /// The refresh token that the grant returned is used.
    RefreshToken,
}

/// How a refresh request differs from the grant request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefreshRequest {
    /// URL of the refresh endpoint. Default: `spec.tokenEndpoint`, or that of the issuer. Example:
    /// `https://login.example.com/refresh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("renewal.refresh.tokenEndpoint must be an absolute http or https URL without username, password, fragment or whitespace, such as https://login.example.com/refresh"))]
    pub token_endpoint: Option<String>,
    /// Body format: `json` or `form`. Default: `spec.request.format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Extra body parameters, in place of `spec.request.parameters`. Default: `spec.request.parameters`. Example:
    /// `{tenant: erp}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub parameters: Option<BTreeMap<String, Value>>,
    /// Other names for body parameters, in place of `spec.request.parameterNames`. Default:
    /// `spec.request.parameterNames`. Example: `{refresh_token: refreshToken}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::parameter_names")]
    pub parameter_names: Option<BTreeMap<String, String>>,
}

/// Another grant that returns a token and a new refresh token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// The grant to use instead: `user_password` or `password`, with username and password from the credentials
    /// Secret, `client_credentials`, `jwt_bearer` or `token_exchange`. Everything else (resource, scope, request,
    /// response) is the same as for the refresh token. Required. Example: `client_credentials`.
    pub grant_type: FallbackGrant,
    /// URL to send the fallback request to, if it differs. Default: `spec.tokenEndpoint`. Example:
    /// `https://login.example.com/login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(validation::ENDPOINT).message("renewal.fallback.tokenEndpoint must be an absolute http or https URL without username, password, fragment or whitespace, such as https://login.example.com/login"))]
    pub token_endpoint: Option<String>,
}

/// A grant that does not require a refresh token.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum FallbackGrant {
    /// A custom login endpoint that takes username and password.
    UserPassword,
    /// RFC 6749, section 4.4: client ID and secret.
    ClientCredentials,
    /// RFC 6749, section 4.3: username and password, with client authentication.
    Password,
    /// RFC 7523: a signed assertion, see `spec.assertion`.
    JwtBearer,
    /// RFC 8693: another token is exchanged, see `spec.tokenExchange`.
    TokenExchange,
}

impl From<FallbackGrant> for GrantType {
    fn from(grant: FallbackGrant) -> Self {
        match grant {
            FallbackGrant::UserPassword => Self::UserPassword,
            FallbackGrant::ClientCredentials => Self::ClientCredentials,
            FallbackGrant::Password => Self::Password,
            FallbackGrant::JwtBearer => Self::JwtBearer,
            FallbackGrant::TokenExchange => Self::TokenExchange,
        }
    }
}
