//! The location of values in a response: `response`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::sparse::{SharedDefault, shared_default};

/// JSONata expressions over the body of the response, which is JSON or form-encoded (as returned by GitHub).
/// `$status` is bound to the status code, `$headers` to an object with the headers, whose names are in lower case, and
/// `$body` to the text of the body, for bodies of other formats.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The access token; must evaluate to a non-empty string. Default: `access_token`. Example for a custom body:
    /// `data.session.jwt`.
    #[serde(default = "default_access_token")]
    #[schemars(length(min = 1, max = 4096))]
    pub access_token: String,
    /// The refresh token; may evaluate to nothing. Default: `refresh_token`. Example: `data.session.refresh`.
    #[serde(default = "default_refresh_token")]
    #[schemars(length(min = 1, max = 4096))]
    pub refresh_token: String,
    /// The lifetime of the access token in seconds; may evaluate to nothing. Default: `expires_in`. Example for a
    /// lifetime in minutes: `data.ttl * 60`. Like `expiresAt` and `success`, this expression sees numbers, dates and
    /// short words, but no tokens.
    #[serde(default = "default_expires_in")]
    #[schemars(length(min = 1, max = 4096))]
    pub expires_in: String,
    /// The expiry of the access token, for servers that return no `expires_in`: RFC 3339, or Unix time in seconds or
    /// milliseconds. Optional: not evaluated if unset. Example: `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub expires_at: Option<String>,
    /// The lifetime of the refresh token in seconds; may evaluate to nothing. The token is renewed before its refresh
    /// token expires. Default: `refresh_expires_in`, `refresh_token_expires_in` or `x_refresh_token_expires_in`.
    /// Example: `data.session.refreshTtl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub refresh_token_expires_in: Option<String>,
    /// The expiry of the refresh token, in the formats of `expiresAt`. Optional: not evaluated if unset. Example:
    /// `refresh_token_expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub refresh_token_expires_at: Option<String>,
    /// Whether the response is a success, for servers that return 200 with an error in the body: a result of false,
    /// 0, an empty value or nothing counts as a rejection. If the status is 5xx, only a result of false does: the
    /// request is then not repeated soon, for servers that return 500 for a wrong password. Optional: if unset, the
    /// status code decides. Example: `ok` or `status = 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub success: Option<String>,
    /// Whether a rejection means that the refresh token is no longer valid, as `invalid_grant` does, for servers that
    /// say it in other words: `renewal.fallback` is used then. Sees the response without possible secrets. Optional.
    /// Example: `error = 'bad_refresh_token'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub invalid_grant: Option<String>,
    /// Where the server's own message about an error is: a path of names, in which an array stands for its first
    /// item. Optional: if unset, the usual places are tried. Example: `fault.reasons.text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,15}$")
    )]
    pub error: Option<String>,
}

shared_default!(Response);

impl Default for Response {
    fn default() -> Self {
        Self {
            access_token: default_access_token(),
            refresh_token: default_refresh_token(),
            expires_in: default_expires_in(),
            expires_at: None,
            refresh_token_expires_in: None,
            refresh_token_expires_at: None,
            success: None,
            invalid_grant: None,
            error: None,
        }
    }
}

pub(crate) fn default_access_token() -> String {
    "access_token".into()
}

pub(crate) fn default_refresh_token() -> String {
    "refresh_token".into()
}

fn default_expires_in() -> String {
    "expires_in".into()
}
