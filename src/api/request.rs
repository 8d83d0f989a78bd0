//! How a token request is written: `resource`, `request`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, rules};

/// The resource that a token is for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.values)").message("resource must have either value or values: give one resource as value, several as values"))]
pub struct Resource {
    /// Body member that carries the value: `resource` (RFC 8707), `audience`, or any other name that the
    /// endpoint asks for.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(rules::RESOURCE_KEY).message("resource.key must not be a member that the grant itself fills: use resource, audience or the name that the endpoint documents"))]
    pub key: String,
    /// The resource, sent as it is. Example: `https://www.resource.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub value: Option<String>,
    /// Several resources (RFC 8707, section 2): in a form the member is sent once for each, in JSON it is a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 2048)))]
    pub values: Vec<String>,
}

/// How the token request is written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Body format: `json` (`application/json`, the default) or `form` (`application/x-www-form-urlencoded`,
    /// what RFC 6749 asks for; Keycloak, Entra ID, Okta and most others take only this one).
    #[serde(default)]
    pub format: Format,
    /// Extra members of the body, by name. A value given here wins over the one that the grant would send; an
    /// empty one takes the member out. Never a credential: this text is readable by all who may read the
    /// integration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::parameters")]
    pub parameters: BTreeMap<String, String>,
    /// Other names for members of the body, such as `{username: email, password: pass}`, for log-ins of one's own making.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::body_keys")]
    #[x_kube(
        validation = Rule::new(rules::BODY_KEYS).message("request.bodyKeys must rename members that the request holds, such as username, password, client_id or scope"),
        validation = Rule::new(rules::BODY_KEYS_DISTINCT).message("request.bodyKeys must give each member another name")
    )]
    pub body_keys: BTreeMap<String, String>,
    /// How the scope is sent in JSON: `text` (the default), names with a blank between them, or `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_format: Option<ScopeFormat>,
    /// Extra headers, by name. Never a credential, and none that the request needs for itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::headers")]
    #[x_kube(
        validation = Rule::new(rules::HEADER_NAMES).message("request.headers must not set Authorization, Proxy-Authorization, Cookie, Host, Content-Type, Content-Length, Transfer-Encoding, Connection or DPoP: credentials belong in the credentials Secret, the content type follows request.format"),
        validation = Rule::new(rules::HEADER_TEXT).message("request.headers must hold header names (letters, digits and '-') with printable values, without line breaks")
    )]
    pub headers: BTreeMap<String, String>,
    /// How long one request may take from connecting to the last byte, such as `10s`; 1s to 60s. Default: 10s.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::TIMEOUT).message("request.timeout must be a duration from 1s to 60s, such as 10s"))]
    pub timeout: Duration,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            format: Format::Json,
            parameters: BTreeMap::new(),
            body_keys: BTreeMap::new(),
            scope_format: None,
            headers: BTreeMap::new(),
            timeout: default_timeout(),
        }
    }
}

fn default_timeout() -> Duration {
    std::time::Duration::from_secs(10).into()
}

/// The format of the request's body.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// How a scope is sent in JSON.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum ScopeFormat {
    /// Names with a blank between them (RFC 6749, section 3.3).
    Text,
    /// A list of names.
    List,
}
