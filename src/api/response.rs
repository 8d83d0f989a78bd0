//! Where the values stand in an answer: `response`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

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

pub(super) fn default_access_token() -> String {
    "access_token".into()
}

pub(super) fn default_refresh_token() -> String {
    "refresh_token".into()
}

fn default_expires_in() -> String {
    "expires_in".into()
}
