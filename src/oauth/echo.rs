//! Responses that repeat the credentials of the client. Pure.
//!
//! With `target.data`, the author of an integration chooses which parts of a response are written into the target. Who
//! uses a provider must not see the credentials of its client, even if the server returns them.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::oauth::body::Parameter;

/// Values that are not those of the client: values of the spec, and what belongs to the user.
const OTHERS: [&str; 13] = [
    "client_id",
    "grant_type",
    "scope",
    "resource",
    "audience",
    "client_assertion_type",
    "subject_token_type",
    "actor_token_type",
    "requested_token_type",
    "refresh_token",
    "username",
    "subject_token",
    "actor_token",
];
/// A shorter value occurs by chance, in bytes.
const MIN_LENGTH: usize = 4;

/// Whether a response contains a value that authenticates the client, as it is, in a JSON string, or in base64.
pub(crate) fn repeats_client(body: &[u8], sent: &[Parameter]) -> bool {
    let secrets: Vec<&str> = sent
        .iter()
        .filter(|(name, _)| !OTHERS.contains(&name.as_str()))
        .map(|(_, value)| value.expose_secret().trim())
        .filter(|value| value.len() >= MIN_LENGTH)
        .collect();
    let text = String::from_utf8_lossy(body);
    repeats(&text, &secrets) || serde_json::from_slice(body).is_ok_and(|body| any_text(&body, &secrets))
}

/// In JSON, a character may be escaped.
fn any_text(value: &Value, secrets: &[&str]) -> bool {
    match value {
        Value::String(text) => repeats(text, secrets),
        Value::Array(items) => items.iter().any(|item| any_text(item, secrets)),
        Value::Object(members) => {
            members.iter().any(|(name, value)| repeats(name, secrets) || any_text(value, secrets))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn repeats(text: &str, secrets: &[&str]) -> bool {
    let encoded = |secret: &str| [STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|engine| engine.encode(secret));
    secrets.iter().any(|secret| text.contains(secret) || encoded(secret).iter().any(|secret| text.contains(secret)))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn credentials_of_the_client_are_found_and_those_of_the_user_are_not() {
        let sent: Vec<Parameter> = [
            ("client_id", "erp-client"),
            ("client_secret", "s3cret\"with-quotes"),
            ("refresh_token", "the-refresh-token"),
            ("value", "gateway-key"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
        .collect();
        let finds = |body: &str| repeats_client(body.as_bytes(), &sent);
        assert!(finds(r#"{"debug": {"sent": ["s3cret\"with-quotes"]}}"#), "escaped");
        assert!(finds("client_secret=s3cret\"with-quotes"), "plain text");
        assert!(finds(r#"{"auth": "Z2F0ZXdheS1rZXk="}"#), "base64");
        assert!(finds(r#"{"gateway-key": 1}"#), "a name");
        assert!(finds(r#"{"a": "\u0067ateway-key"}"#), "an escaped character");
        assert!(!finds(
            r#"{"access_token": "token", "refresh_token": "the-refresh-token", "client_id": "erp-client"}"#
        ));
    }
}
