//! Translates the HTTP request of a generator into the fields of a spec.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use url::Url;

use crate::api::duration::Duration;
use crate::api::headers;
use crate::cli::import::eso::Webhook;
use crate::cli::import::json_path::quoted;
use crate::cli::import::template::{Piece, literal, parse};

/// The maximum of `request.timeout`, in seconds.
const MAX_TIMEOUT: u64 = 60;
/// Parts of the names of credentials, whose values are never printed.
const SECRETS: [&str; 14] = [
    "secret",
    "passw",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "assertion",
    "auth",
    "credential",
    "signature",
];
/// The names of credentials that are parts of other words.
const SECRET_NAMES: [&str; 7] = ["pass", "pin", "code", "sig", "key", "otp", "jwt"];

/// The translated request.
#[derive(Debug, Default)]
pub(crate) struct Translated {
    /// Fields of the spec.
    pub(crate) spec: Map<String, Value>,
    /// The credentials Secret; `None` if the request needs none.
    pub(crate) secret: Option<String>,
    /// What to check.
    pub(crate) notes: Vec<String>,
}

/// Translates a request.
///
/// # Errors
///
/// Why that is impossible.
pub(crate) fn translate(webhook: &Webhook, default_secret: &str) -> Result<Translated, String> {
    let first = webhook.secrets.first().map(|secret| secret.secret_ref.name.clone());
    let mut request = Request {
        secrets: webhook.secrets.iter().map(|secret| (secret.name.clone(), secret.secret_ref.name.clone())).collect(),
        secret: first.unwrap_or_else(|| default_secret.to_owned()),
        ..Request::default()
    };
    request.url_and_body(webhook)?;
    let keys = std::mem::take(&mut request.keys);
    if request.uses_secret {
        let mut credentials = json!({"secretName": request.secret});
        if !keys.is_empty() {
            credentials["keys"] = json!(keys);
        }
        request.spec.insert("credentials".to_owned(), credentials);
    }
    if !request.fields.is_empty() {
        request.spec.insert("request".to_owned(), json!(request.fields));
    }
    let Request { spec, secret, uses_secret, notes, .. } = request;
    Ok(Translated { spec, secret: uses_secret.then_some(secret), notes })
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Member {
    Literal(Value),
    /// A key of the credentials Secret.
    Secret(String),
}

pub(crate) type Members = Vec<(String, Member)>;

/// A request that is being translated.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The Secrets, by their names in templates.
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) secret: String,
    pub(crate) uses_secret: bool,
    /// The Secret of each key that is used.
    holders: BTreeMap<String, String>,
    pub(crate) keys: Map<String, Value>,
    /// The field `request` of the spec.
    pub(crate) fields: Map<String, Value>,
    pub(crate) spec: Map<String, Value>,
    pub(crate) notes: Vec<String>,
    /// The keys of client ID and client secret in an Authorization header.
    pub(crate) basic: Option<(String, String)>,
}

impl Request {
    fn url_and_body(&mut self, webhook: &Webhook) -> Result<(), String> {
        if webhook.auth.is_some() {
            return Err("NTLM is not supported".to_owned());
        }
        let content_type = self.headers(&webhook.headers)?;
        let body = parse(&webhook.body).map_err(|why| format!("its body: {why}"))?;
        let (endpoint, query) = endpoint(&webhook.url)?;
        match (webhook.method.as_str(), body.is_empty()) {
            ("" | "GET", true) => {
                self.fields.insert("method".to_owned(), json!("GET"));
                self.spec.insert("tokenEndpoint".to_owned(), json!(endpoint));
                let members =
                    self.form(&parse(&query)?)?.ok_or("a parameter of its URL is text together with a value")?;
                self.members(members);
                let client = self.spec.get("clientAuthentication").and_then(|client| client["method"].as_str());
                let is_plain = self.spec["grantType"] == "client_credentials" && client.is_some();
                if self.fields.contains_key("parametersFrom") || !is_plain {
                    self.fields.insert("secretsInQuery".to_owned(), json!(true));
                    self.note("the request has secrets in its URL, which servers and proxies log: use POST if the server accepts it");
                }
            }
            ("POST", _) => {
                let query_literal =
                    literal(&parse(&query)?).ok_or("a POST request with values of a Secret in its URL")?;
                if url::form_urlencoded::parse(query_literal.as_bytes()).any(|(name, _)| is_secret(&name)) {
                    return Err("its URL contains a credential in plain text".to_owned());
                }
                let separator = if query_literal.is_empty() { "" } else { "?" };
                self.spec.insert("tokenEndpoint".to_owned(), json!(format!("{endpoint}{separator}{query_literal}")));
                self.body(&body, content_type.as_deref())?;
            }
            ("" | "GET", false) => return Err("a GET request with a body".to_owned()),
            _ => return Err("only the methods GET and POST are supported".to_owned()),
        }
        if let Some(timeout) = &webhook.timeout {
            let seconds = timeout.parse::<Duration>().map(std::time::Duration::from).map(|timeout| timeout.as_secs());
            let is_allowed = seconds.is_ok_and(|seconds| (1..=MAX_TIMEOUT).contains(&seconds));
            if is_allowed {
                self.fields.insert("timeout".to_owned(), json!(timeout));
            } else {
                self.note(&format!(
                    "the timeout {timeout} is not from 1s to {MAX_TIMEOUT}s: request.timeout has its default"
                ));
            }
        }
        Ok(())
    }

    /// Translates the headers, and returns the content type.
    fn headers(&mut self, all: &BTreeMap<String, String>) -> Result<Option<String>, String> {
        let (mut content_type, mut plain, mut secret) = (None, Map::new(), Map::new());
        for (name, template) in all {
            let lower = name.to_ascii_lowercase();
            let pieces = parse(template).map_err(|why| format!("its header {name}: {why}"))?;
            match (lower.as_str(), pieces.as_slice()) {
                ("content-type", [Piece::Text(text)]) => content_type = Some(text.clone()),
                ("authorization", [Piece::Text(scheme), Piece::Basic(id, password)]) if scheme.trim() == "Basic" => {
                    self.basic = Some((self.key(id)?, self.key(password)?));
                }
                (_, [Piece::Text(text)]) if !headers::is_reserved(&lower) && !is_secret(&lower) => {
                    plain.insert(name.clone(), json!(text));
                }
                _ if lower != "authorization" && headers::is_reserved(&lower) => {
                    self.note(&format!("the header {name} is not sent: the operator does not allow it"));
                }
                (_, [Piece::Value(path)]) => drop(secret.insert(name.clone(), json!({"key": self.key(path)?}))),
                _ => {
                    self.uses_secret = true;
                    let key = lower.replace('-', "_");
                    self.note(&format!(
                        "store the whole value of the header {name} in Secret {} under the key {key}",
                        self.secret
                    ));
                    secret.insert(name.clone(), json!({"key": key}));
                }
            }
        }
        for (field, headers) in [("headers", plain), ("headersFrom", secret)] {
            if !headers.is_empty() {
                self.fields.insert(field.to_owned(), json!(headers));
            }
        }
        Ok(content_type)
    }

    /// The key of a value in the credentials Secret.
    pub(crate) fn key(&mut self, path: &[String]) -> Result<String, String> {
        let [name, key] = path else { return Err(format!(".{} is no value of a Secret", path.join("."))) };
        let secret =
            self.secrets.get(name).cloned().ok_or_else(|| format!("there is no Secret {name} in its secrets"))?;
        quoted(key).ok_or_else(|| format!("the key {key} of Secret {secret}"))?;
        let other = self.holders.insert(key.clone(), secret.clone()).filter(|other| *other != secret);
        if let Some(other) = other {
            return Err(format!(
                "Secret {other} and Secret {secret} both have the key {key}: copy the values into one Secret, under different keys"
            ));
        }
        if secret != self.secret {
            self.note(&format!(
                "copy the key {key} of Secret {secret} into Secret {}: an integration has one Secret",
                self.secret
            ));
        }
        self.uses_secret = true;
        Ok(key.clone())
    }

    pub(crate) fn set_key(&mut self, field: &str, standard: &str, key: &str) {
        self.uses_secret = true;
        if key != standard {
            self.keys.insert(field.to_owned(), json!(key));
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.to_owned());
        }
    }
}

/// The URL without its query, and the query. Only the query may contain values.
fn endpoint(template: &str) -> Result<(String, String), String> {
    let (endpoint, query) = template.split_once('?').unwrap_or((template, ""));
    let text = literal(&parse(endpoint).map_err(|why| format!("its URL: {why}"))?);
    let text = text.ok_or("its URL contains values before the query: write one integration for each")?;
    let url = Url::parse(&text).map_err(|_| "its URL cannot be parsed")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its URL contains a username or a password".to_owned());
    }
    Ok((text, query.to_owned()))
}

/// Whether the name is that of a credential.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_type = name.ends_with("_type") || name.ends_with("-type");
    let is_part = || SECRETS.iter().any(|part| name.contains(part));
    !is_type && (headers::carries_credential(&name) || is_part() || SECRET_NAMES.contains(&name.as_str()))
}
