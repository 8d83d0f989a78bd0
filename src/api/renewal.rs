//! What is done when renewing goes wrong: `spec.renewal`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Format, GrantType, rules};

/// How a token is renewed, and what is done when that goes wrong.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.refresh) || (has(self.strategy) && self.strategy == 'refresh_token')")
        .message("renewal.refresh is for renewal.strategy refresh_token: take it out, or set strategy")
)]
pub struct Renewal {
    /// How a token is renewed. `grant` (the default): the grant is run again. `refresh_token`: the refresh token that the
    /// grant brought is used (RFC 6749, section 6), and the grant is run again where there is none, or where it is refused
    /// with `invalid_grant`. With `grantType: refresh_token` both are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,

    /// How the refresh request differs from the grant's, with `strategy: refresh_token`. Default: in nothing but what RFC
    /// 6749, section 6, says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,

    /// What is asked where the refresh token is refused with `invalid_grant` (RFC 6749, section 5.2), or where there is
    /// none: it has ended, was revoked, or was spent by a request whose answer was lost. Asked once for each attempt, and
    /// told in a Warning event `FellBack`. Only with `grantType: refresh_token`. Default: nothing; people have to put a new
    /// refresh token into the credentials Secret, which is followed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// How a token is renewed.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The grant is run again.
    Grant,
    /// By the refresh token that the grant brought.
    RefreshToken,
}

/// How a refresh request differs from the grant's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// URL that it is sent to. Default: `spec.tokenEndpoint`, or the issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::ENDPOINT).message("renewal.refresh.tokenEndpoint must be an absolute http or https URL without user name, password, fragment or blanks, such as https://login.example.com/refresh"))]
    pub token_endpoint: Option<String>,
    /// Body format. Default: `spec.request.format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Extra members of the body, as `spec.request.parameters`, which they replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::parameters")]
    pub parameters: Option<BTreeMap<String, String>>,
    /// Other names for members of the body, as `spec.request.bodyKeys`, which they replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::body_keys")]
    pub body_keys: Option<BTreeMap<String, String>>,
}

/// Another way to a token, and to a new refresh token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// The grant that is used instead: `user_password` or `password`, with user name and password from the credentials
    /// Secret, `client_credentials`, `jwt_bearer` or `token_exchange`. Everything else (resource, scope, request, response) is as for the refresh token.
    pub grant_type: FallbackGrant,
    /// URL that the fallback is sent to, where it is another one, such as `https://login.example.com/login`. Default:
    /// `spec.tokenEndpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new(rules::ENDPOINT).message("renewal.fallback.tokenEndpoint must be an absolute http or https URL without user name, password, fragment or blanks, such as https://login.example.com/login"))]
    pub token_endpoint: Option<String>,
}

/// A grant that needs no refresh token.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum FallbackGrant {
    /// A log-in endpoint that takes user name and password.
    UserPassword,
    /// RFC 6749, section 4.4: client id and secret.
    ClientCredentials,
    /// RFC 6749, section 4.3: user name and password, with the client.
    Password,
    /// RFC 7523: a signed assertion, as `spec.assertion` says.
    JwtBearer,
    /// RFC 8693: another token in exchange, as `spec.tokenExchange` says.
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
