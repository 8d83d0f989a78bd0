//! The part of a response that may affect public values. Pure.
//!
//! The success of a request and the lifetime of a token are shown in statuses, events and metrics. Expressions
//! determine them, but their author is not necessarily allowed to read the token: a lifetime computed from the
//! characters of the token would reveal them. Therefore `success`, `expiresIn` and `expiresAt` see a response without
//! possible secrets: only numbers, dates and words.

#![deny(clippy::disallowed_methods)]

use jiff::Timestamp;
use jsonata_core::value::JValue;
use serde_json::Value;

use crate::oauth::expression::document::{form, parse};
use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::jsonata::Bindings;

/// Replaces possible secrets, so that `$exists(access_token)` is still true.
pub const HIDDEN: &str = "hidden";

/// Parts of the names of secrets.
const SECRET_NAMES: [&str; 12] = [
    "token",
    "secret",
    "password",
    "passwd",
    "assertion",
    "jwt",
    "apikey",
    "credential",
    "cookie",
    "authorization",
    "session",
    "ticket",
];
/// Parts of names that describe a property of a secret.
const ABOUT: [&str; 8] = ["expir", "type", "ttl", "life", "issued", "valid", "status", "timeout"];
/// The maximum length of a public text, in bytes; dates and lists of directives are shorter.
const MAX_TEXT: usize = 64;
/// The maximum length of a member's name that is kept, in bytes.
const MAX_NAME: usize = 64;
/// The maximum number of words in a text.
const WORDS: usize = 8;
/// The maximum length of a word, in bytes.
const MAX_WORD: usize = 16;
/// The maximum number of digits of a number: Unix time in milliseconds has 13.
const DIGITS: usize = 14;
/// The maximum length of a word of letters and digits, such as `15m` and `E0001`. A text may contain one such word.
const MAX_MIXED: usize = 8;

/// A response as seen by expressions.
#[derive(Debug)]
pub struct View {
    /// The parsed body; `null` if it cannot be parsed.
    pub body: JValue,
    /// Names of headers in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The text of the body.
    pub text: String,
}

impl View {
    /// The whole response.
    #[must_use]
    pub fn whole(body: &str, headers: &[(String, String)]) -> Self {
        let parsed = parse(body.as_bytes()).unwrap_or(JValue::Null);
        Self { body: parsed, headers: headers.to_vec(), text: body.to_owned() }
    }

    /// The response without possible secrets.
    #[must_use]
    pub fn public(body: &str, headers: &[(String, String)]) -> Self {
        let hidden = |(name, value): &(String, String)| {
            let value = if is_public(name, value) { value } else { HIDDEN };
            (name.clone(), value.to_owned())
        };
        let text = match serde_json::from_str(body).ok().or_else(|| form(body.trim())) {
            Some(mut parsed) => {
                hide(&mut parsed);
                parsed.to_string()
            }
            None if is_public("", body) => body.to_owned(),
            None => HIDDEN.to_owned(),
        };
        let parsed = JValue::from_json_str(&text).unwrap_or(JValue::Null);
        Self { body: parsed, headers: headers.iter().map(hidden).collect(), text }
    }

    /// The view of expressions whose input is an object, of which the parsed body is the member `response`.
    ///
    /// # Errors
    ///
    /// When the input is not JSON.
    pub fn within(self, input: &str) -> Result<Self, ExpressionError> {
        let mut input = JValue::from_json_str(input).map_err(|_| ExpressionError::NotJson)?;
        let members = input.as_object_mut().ok_or(ExpressionError::NotJson)?;
        if !self.body.is_null() {
            members.insert("response".to_owned(), self.body);
        }
        Ok(Self { body: input, ..self })
    }

    /// The variables that expressions may use in addition to the body.
    #[must_use]
    pub fn bindings(&self, status: u16) -> Bindings<'_> {
        Bindings { status, headers: &self.headers, body: &self.text }
    }
}

/// Replaces possible secrets in a response body.
pub fn hide(body: &mut Value) {
    hide_below("", body);
}

fn hide_below(name: &str, value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| name.len() <= MAX_NAME);
            members.iter_mut().for_each(|(name, value)| hide_below(name, value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_below(name, item)),
        Value::String(text) if !is_public(name, text) => *value = HIDDEN.into(),
        Value::Number(number) if !is_public(name, &number.to_string()) => *value = HIDDEN.into(),
        _ => {}
    }
}

/// Whether a text cannot be a secret. `name` is that of its member or header.
#[must_use]
pub fn is_public(name: &str, text: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&SECRET_NAMES) && !has(&ABOUT) {
        return false;
    }
    is_harmless(text)
}

/// Whether a text is a number, a date, or a few words. Secrets that a server generates at random have none of these
/// forms.
fn is_harmless(text: &str) -> bool {
    if text.len() > MAX_TEXT {
        return false;
    }
    let words = || text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_plain = |word: &str| {
        (word.len() <= MAX_WORD && word.chars().all(char::is_alphabetic))
            || (word.len() <= DIGITS && word.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mixed: Vec<&str> = words().filter(|word| !is_plain(word)).collect();
    let is_few = words().count() <= WORDS && mixed.len() <= 1 && mixed.iter().all(|word| word.len() <= MAX_MIXED);
    is_few || text.trim().parse::<Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_a_lifetime_are_kept() {
        let body = json!({
            "expires_in": 3600, "ttl": "15m", "text": "3600", "milliseconds": 1_893_456_000_000_i64, "fraction": 3600.5,
            "expires_at": "2030-01-01T00:00:00.123456789+01:00", "expires": "01/02/2030 10:30", "ok": true, "errors": [], "none": null,
            "result": "SUCCESS", "code": "E0001", "message": "the request was accepted", "token_type": "Bearer",
            "access_token_expires_in": "3600", "token": {"expires_at": "2030-01-01T00:00:00Z"}, "status": 0,
            "date": "Wed, 25 Nov 2026 16:03:09 GMT", "cache-control": "private, max-age=600",
        });
        let mut hidden = body.clone();
        hide(&mut hidden);
        assert_eq!(hidden, body);
    }

    #[test]
    fn values_that_may_be_secret_are_hidden() {
        let tokens = [
            "ya29.a0AfH6SMBx-1234567890abcdefghijklmnop",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "123e4567-e89b-12d3-a456-426614174000",
            "d41d8cd98f00b204e9800998ecf8427e",
            "gho_16C7e42F292c6912E7710c838347Ae178B4a",
            "00D50000000IZ3Z!AQ0AQDpEDKYsn7ioKug2aSmgCjgrPjG9eRLza8jXWoW7uA90V39rvQaIy1FGxjFHN1ZtusBGljncdEi8eRiuk",
            "12345678901234567890",
            "KANARIENVOGELKANARIENVOGEL",
            "AbCdEfGh-1234-a1b2-c3d4",
        ];
        for token in tokens {
            // Even under a neutral name, and inside lists and objects.
            let mut body = json!({"x": token, "list": [{"y": token}], "expires_in": token, token: 1});
            hide(&mut body);
            let text = body.to_string();
            assert!(!text.contains(token) || token.len() <= MAX_NAME && text.matches(token).count() == 1, "{text}");
            assert_eq!((&body["x"], &body["list"][0]["y"]), (&json!(HIDDEN), &json!(HIDDEN)), "{token}");
        }
    }

    #[test]
    fn even_a_word_is_hidden_under_the_name_of_a_secret() {
        for name in [
            "access_token",
            "refreshToken",
            "id-token",
            "client_secret",
            "Password",
            "x-subject-token",
            "set-cookie",
            "sessionId",
        ] {
            for value in [json!("word"), json!("1234"), json!(1234), json!(["word"])] {
                let mut body = json!({name: value});
                hide(&mut body);
                let hidden = if value.is_array() { json!([HIDDEN]) } else { json!(HIDDEN) };
                assert_eq!(body[name], hidden, "{name}");
            }
        }
    }
}
