//! Translates the body of a generator: JSON, a form, or any text.

use serde_json::{Value, json};

use crate::cli::import::json_path::quoted;
use crate::cli::import::request::{Member, Members, Request, is_secret};
use crate::cli::import::template::Piece;

/// Why a body is not translated.
const PLAIN: &str =
    "its body contains a credential in plain text: put it into a Secret, and let the generator refer to that";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// Enclose the key of a value in a text; both are private characters of Unicode.
const MARKS: [char; 2] = ['\u{e000}', '\u{e001}'];

impl Request {
    pub(crate) fn body(&mut self, body: &[Piece], content_type: Option<&str>) -> Result<(), String> {
        let media_type = content_type.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
        let has_json = media_type.ends_with("json") || content_type.is_none() && starts_with(body, "{");
        let has_form = media_type == FORM || content_type.is_none() && !starts_with(body, "<");
        let mut default = JSON;
        if has_json && let Some(value) = self.json(body)? {
            match json_members(&value) {
                Some(members) => self.members(members),
                None if has_plain_credential(&value) => return Err(PLAIN.to_owned()),
                None => self.expression(&jsonata(&value)),
            }
        } else if has_form && let Some(members) = self.form(body)? {
            self.fields.insert("format".to_owned(), json!("form"));
            default = FORM;
            self.members(members);
            if content_type.is_none() && !body.is_empty() {
                self.note(
                    "the request has a Content-Type now, application/x-www-form-urlencoded, and its values are encoded",
                );
            }
        } else {
            let marked = self.marked(body, false)?;
            if is_plain_credential_in(&marked) {
                return Err(PLAIN.to_owned());
            }
            let text = jsonata(&Value::String(marked));
            self.expression(&text);
            self.note("the body is built as it was, from text: write it with the fields of the grant if you can");
        }
        if let Some(text) = content_type.filter(|text| *text != default) {
            self.fields.insert("contentType".to_owned(), json!(text));
        }
        Ok(())
    }

    /// Any body: none of the parameters of a grant is sent.
    fn expression(&mut self, text: &str) {
        self.members(Vec::new());
        self.fields.remove("parameters");
        self.fields.remove("format");
        self.fields.insert("body".to_owned(), json!(text));
    }

    /// A form or a query; `None` if a value is text together with a value of a Secret.
    pub(crate) fn form(&mut self, pieces: &[Piece]) -> Result<Option<Members>, String> {
        let marked = self.marked(pieces, false)?;
        let mut members: Members = Vec::new();
        for pair in marked.trim().split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = url::form_urlencoded::parse(pair.as_bytes()).into_owned().next() else {
                continue;
            };
            if name.contains(MARKS) || value.contains(MARKS) && only_key(&value).is_none() {
                return Ok(None);
            }
            if members.iter().any(|(known, _)| *known == name) {
                return Err(format!("the parameter {name} is there more than once"));
            }
            members.push((name, only_key(&value).map_or_else(|| Member::Literal(json!(value)), Member::Secret)));
        }
        Ok(Some(members))
    }

    /// A JSON body, with marks in place of values; `None` if it is no JSON.
    fn json(&mut self, pieces: &[Piece]) -> Result<Option<Value>, String> {
        let marked = self.marked(pieces, true)?;
        Ok(serde_json::from_str(&marked).ok())
    }

    /// The text of a template with marked keys in place of values; in JSON, a value outside quotes gets quotes.
    fn marked(&mut self, pieces: &[Piece], is_json: bool) -> Result<String, String> {
        let mut marked = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => marked.push_str(text),
                Piece::Value(path) => {
                    let key = self.key(path)?;
                    let mark = format!("{}{key}{}", MARKS[0], MARKS[1]);
                    let is_quoted = marked.replace("\\\"", "").matches('"').count() % 2 == 1;
                    let quote = if is_json && !is_quoted { "\"" } else { "" };
                    marked.extend([quote, &mark, quote]);
                }
                Piece::Basic(..) => return Err("a value of HTTP Basic outside the header Authorization".to_owned()),
            }
        }
        Ok(marked)
    }
}

/// Whether a JSON body has a literal under the name of a credential.
fn has_plain_credential(body: &Value) -> bool {
    match body {
        Value::Object(members) => members.iter().any(|(name, value)| {
            let is_literal = match value {
                Value::String(text) => !text.is_empty() && !text.contains(MARKS),
                Value::Number(_) => true,
                _ => false,
            };
            is_literal && is_secret(name) || has_plain_credential(value)
        }),
        Value::Array(items) => items.iter().any(has_plain_credential),
        _ => false,
    }
}

/// Whether a text may have a literal after the name of a credential, such as `<password>literal`.
fn is_plain_credential_in(text: &str) -> bool {
    let is_name = |sign: char| sign.is_ascii_alphanumeric() || "_-".contains(sign);
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let word = &rest[start..];
        let end = word.find(|sign| !is_name(sign)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        let value = after.trim_start_matches(|sign: char| ">=:\"'".contains(sign) || sign.is_whitespace());
        let is_assigned = value.len() < after.len() && value.starts_with(|sign: char| sign.is_alphanumeric());
        if is_secret(name) && is_assigned {
            return true;
        }
        rest = after;
    }
    false
}

/// The members of an object; `None` if a value of a Secret is anywhere else than as a member of it.
fn json_members(body: &Value) -> Option<Members> {
    let members = body.as_object()?.iter().map(|(name, value)| match value {
        Value::String(text) if only_key(text).is_some() => {
            only_key(text).map(|key| (name.clone(), Member::Secret(key)))
        }
        value if name.contains(MARKS) || value.to_string().contains(MARKS) => None,
        value => Some((name.clone(), Member::Literal(value.clone()))),
    });
    members.collect()
}

/// The JSONata expression for a body with marks.
fn jsonata(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(MARKS) => {
            let parts = text.split(MARKS).enumerate().filter(|(_, part)| !part.is_empty());
            // Every other part is a key.
            let parts = parts.map(|(number, part)| match (number % 2, quoted(part)) {
                (1, Some(key)) => format!("$credentials.{key}"),
                _ => json!(part).to_string(),
            });
            parts.collect::<Vec<_>>().join(" & ")
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(jsonata).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{}: {}", json!(name), jsonata(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// The key that a text with marks consists of.
fn only_key(text: &str) -> Option<String> {
    let key = text.strip_prefix(MARKS[0])?.strip_suffix(MARKS[1])?;
    (!key.contains(MARKS)).then(|| key.to_owned())
}

fn starts_with(pieces: &[Piece], text: &str) -> bool {
    matches!(pieces.first(), Some(Piece::Text(first)) if first.trim_start().starts_with(text))
}
