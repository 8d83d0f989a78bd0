//! The token request: `resource`, `request`.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::duration::Duration;
use crate::api::sparse::{SharedDefault, shared_default};
use crate::api::{headers, schema, validation};

/// The resource that a token is for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.values)").message("resource must have either value or values: use value for one resource, values for several"))]
pub struct Resource {
    /// Body parameter that carries the value: `resource` (RFC 8707), `audience`, or any other name that the endpoint
    /// requires. Default: `resource`. Example: `audience`.
    #[serde(default = "default_resource_key")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(validation::RESOURCE_KEY).message("resource.key must not be a parameter that the grant itself sets: use resource, audience or the name that the endpoint documents"))]
    pub key: String,
    /// The resource, sent unchanged. Example: `https://www.resource.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub value: Option<String>,
    /// Several resources (RFC 8707, section 2): in a form the parameter is repeated for each, in JSON it is an array.
    /// Example: `["https://a.example.com", "https://b.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 2048)))]
    pub values: Vec<String>,
}

/// Format of the token request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.headers) || !has(self.headersFrom) || self.headersFrom.all(name, !self.headers.exists(other, other.lowerAscii() == name.lowerAscii()))")
        .message("request.headers and request.headersFrom must not contain the same name: remove it from one of them"),
    validation = Rule::new("!has(self.method) || self.method != 'GET' || (!has(self.format) && !has(self.contentType) && !has(self.body))")
        .message("request.format, contentType and body do not apply to method GET, which has no body: remove them"),
    validation = Rule::new("!has(self.body) || !has(self.format) || self.format == 'json'")
        .message("request.body is built from JSON: remove format, or set it to json"),
    validation = Rule::new("!has(self.secretsInQuery) || !self.secretsInQuery || (has(self.method) && self.method == 'GET')")
        .message("request.secretsInQuery applies only to method GET: remove it, or change method")
)]
pub struct Request {
    /// HTTP method. With `GET`, the parameters are sent in the query of the URL. Only for servers that accept nothing
    /// else: servers and proxies log URLs. Default: `POST`. Example: `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Whether secrets may be sent in the query of the URL, which servers and proxies log. `method: GET` requires it,
    /// unless the request sends no secret as a parameter. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets_in_query: bool,
    /// Body format. Default: `form` if `issuer` or `protectedResource` is set, otherwise `json`. Example: `form`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// `Content-Type` of the request, for servers that require a media type of their own or a parameter. The body stays in
    /// the format of `format`. Default: `application/json` or `application/x-www-form-urlencoded`. Example:
    /// `application/json; charset=UTF-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 128))]
    #[x_kube(validation = Rule::new(validation::CONTENT_TYPE).message("request.contentType must be a media type, such as application/json; charset=UTF-8"))]
    pub content_type: Option<String>,
    /// Parameters that are added to the query of the token endpoint, by name. Never put a credential here: anyone who can
    /// read the integration can read it, and servers log URLs. Default: none. Example: `{api-version: "2"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::query")]
    pub query: BTreeMap<String, String>,
    /// Extra body parameters, by name, with any JSON value; up to 64 KiB, nested up to 8 levels deep. In a form, a list
    /// or an object is sent as JSON text, as RFC 9396 requires for `authorization_details`. A value set here overrides
    /// the one that the grant would send; an empty text removes the parameter. Never put a credential here: anyone who
    /// can read the integration can read it. Default: none. Example: `{tenant: erp, permissions: {contents: read}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub parameters: BTreeMap<String, Value>,
    /// Body parameters whose values are in the credentials Secret, by name. They take the place of parameters that the
    /// grant would send. Default: none. Example: `{account_id: {key: account_id}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameters_from")]
    pub parameters_from: BTreeMap<String, SecretKey>,
    /// JSONata expression that builds the whole body, for endpoints whose JSON is nested: the last resort. `$members`
    /// is the JSON object that would have been sent otherwise, `$credentials` has a member for each key of the
    /// credentials Secret, and `$grant` is the grant. An object or a list is sent as JSON; a text is sent as it is (see
    /// `contentType`). Texts of `$members` and `$credentials` can be placed anywhere, but not read or changed: the
    /// expression sees placeholders, which are replaced afterwards. Evaluated in the sandbox; at most 16 texts are
    /// placed, and the rest has at most 256 KiB. It also applies to refreshes and fallbacks. Default: the parameters as a JSON object. Example: `{"auth": {"identity": $members}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub body: Option<String>,
    /// Other names for body parameters, for custom login endpoints. Default: the standard names. Example: `{username:
    /// email, password: pass}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::parameter_names")]
    #[x_kube(
        validation = Rule::new(validation::PARAMETER_NAMES).message("request.parameterNames may only rename parameters that the request contains, such as username, password, client_id or scope"),
        validation = Rule::new(validation::PARAMETER_NAMES_DISTINCT).message("request.parameterNames must give each parameter a distinct name")
    )]
    pub parameter_names: BTreeMap<String, String>,
    /// How the scope is sent in JSON: `text` (the default) is one string with space-separated names, `list` is an
    /// array of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_format: Option<ScopeFormat>,
    /// Extra headers, by name. Not allowed: credentials, headers that the request sets itself, and headers that make
    /// a gateway assume another path or client (`X-Original-URL`, `X-Forwarded-For`). If the credentials may be sent
    /// only below a path, only a few headers are sent at all, such as `Accept` and `User-Agent`. They are
    /// also sent when metadata is read, except `Accept`. At most 8 KiB in total. Default: none. Example: `{Accept: application/json}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::headers")]
    #[x_kube(
        validation = Rule::new(headers::RULE).message(headers::MESSAGE),
        validation = Rule::new(validation::HEADERS_SIZE).message("request.headers must not exceed 8 KiB in total (names and values)"),
        validation = Rule::new(validation::HEADER_TEXT).message("request.headers must contain header names (letters, digits and '-') and printable values without line breaks")
    )]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are in the credentials Secret, by name, such as the key of an API gateway or a whole
    /// `Authorization` header. Not allowed: headers that the request sets itself, and headers that make a gateway
    /// assume another path or client. If the credentials may be sent only below a path, `Authorization` and the
    /// headers that are allowed in `headers` are sent. Default: none. Example: `{X-Api-Key: {key: api_key}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::headers_from")]
    #[x_kube(
        validation = Rule::new(headers::SECRET_RULE).message(headers::SECRET_MESSAGE),
        validation = Rule::new(validation::HEADER_NAMES).message("request.headersFrom must contain header names (letters, digits and '-')")
    )]
    pub headers_from: BTreeMap<String, SecretKey>,
    /// Timeout of one request, from connecting to the last byte of the response, from 1s to 60s. Default: `10s`.
    /// Example: `30s`.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::TIMEOUT).message("request.timeout must be a duration from 1s to 60s, such as 10s"))]
    pub timeout: Duration,
}

shared_default!(Request);

impl Default for Request {
    fn default() -> Self {
        Self {
            method: None,
            secrets_in_query: false,
            format: None,
            content_type: None,
            body: None,
            query: BTreeMap::new(),
            parameters: BTreeMap::new(),
            parameters_from: BTreeMap::new(),
            parameter_names: BTreeMap::new(),
            scope_format: None,
            headers: BTreeMap::new(),
            headers_from: BTreeMap::new(),
            timeout: default_timeout(),
        }
    }
}

/// The parameter of RFC 8707.
pub(crate) const DEFAULT_RESOURCE_KEY: &str = "resource";

fn default_resource_key() -> String {
    DEFAULT_RESOURCE_KEY.to_owned()
}

fn default_timeout() -> Duration {
    std::time::Duration::from_secs(10).into()
}

/// A value of the credentials Secret.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// Its key in the credentials Secret.
    pub key: String,
}

/// The HTTP method of a token request.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// The parameters are in the body.
    #[default]
    Post,
    /// The parameters are in the query.
    Get,
}

/// Body format: `json` (`application/json`) or `form` (`application/x-www-form-urlencoded`, as RFC 6749 requires;
/// Keycloak, Entra ID, Okta and most others accept only this one). Default of token requests: `form` if `issuer` or `protectedResource` is set, because a server with metadata
/// follows the RFC, otherwise `json`. Default of refresh requests: that of token requests. Default of revocation requests: `form`
/// (RFC 7009).
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// How the scope is sent in JSON: `text` (the default) is one string with space-separated names, `list` is an array
/// of names.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum ScopeFormat {
    /// Space-separated names (RFC 6749, section 3.3).
    Text,
    /// An array of names.
    List,
}
