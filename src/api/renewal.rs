//! What is done when renewing goes wrong: `spec.renewal`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// What is done when renewing goes wrong.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// What is asked where the refresh token is refused with `invalid_grant` (RFC 6749, section 5.2), or where there is
    /// none: it has ended, was revoked, or was spent by a request whose answer was lost. Asked once for each attempt, and
    /// told in a Warning event `FellBack`. Only with `grantType: refresh_token`. Default: nothing; people have to put a new
    /// refresh token into the credentials Secret, which is followed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// Another way to a token, and to a new refresh token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// The grant that is used instead: `user_password`, with user name and password from the credentials Secret, or
    /// `client_credentials`. Everything else (resource, scope, request, response) is as for the refresh token.
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
}
