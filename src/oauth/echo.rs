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
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::response::raw::HttpResponse;
use crate::oauth::sent_values::sensitive_parts;

/// What is derived from the credentials of the client for one request.
const DERIVED: [&str; 2] = ["authorization", "client_assertion"];
/// A shorter value occurs by chance, in bytes.
const MIN_LENGTH: usize = 6;

/// Whether a response contains a value that authenticates the client, as it is, in a JSON string, or in base64.
pub(crate) fn repeats_client(response: &HttpResponse, credentials: &Credentials, sent: &[Parameter]) -> bool {
    let values = credentials
        .iter()
        .filter(|(credential, _)| !credential.belongs_to_user() && *credential != Credential::ClientId)
        .map(|(_, value)| value.clone());
    let others = credentials.others.values().flat_map(|value| sensitive_parts(value.expose_secret()));
    let derived = sent.iter().filter(|(name, _)| DERIVED.contains(&name.as_str()));
    let all: Vec<_> =
        values.chain(others.map(|(_, value)| value)).chain(derived.map(|(_, value)| value.clone())).collect();
    let secrets: Vec<&str> =
        all.iter().map(|value| value.expose_secret().trim()).filter(|value| value.len() >= MIN_LENGTH).collect();
    let is_in_headers =
        response.headers.iter().any(|(name, value)| repeats(name, &secrets) || repeats(value, &secrets));
    let body = String::from_utf8_lossy(&response.body);
    is_in_headers
        || repeats(&body, &secrets)
        || serde_json::from_slice(&response.body).is_ok_and(|body| any_text(&body, &secrets))
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
        let values = [
            (Credential::ClientId, "erp-client"),
            (Credential::ClientSecret, "s3cret\"with-quotes"),
            (Credential::RefreshToken, "the-refresh-token"),
            (Credential::Username, "robot-user"),
        ];
        let mut credentials: Credentials =
            values.into_iter().map(|(credential, value)| (credential, SecretString::from(value))).collect();
        credentials.others.insert("key".to_owned(), "gateway-key".into());
        let sent: Vec<Parameter> = vec![
            ("scope".to_owned(), "orders.read".into()),
            ("value".to_owned(), "the-refresh-token".into()),
            ("client_assertion".to_owned(), "ey.ey.signature".into()),
        ];
        let finds = |headers: &[(&str, &str)], body: &str| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let response = HttpResponse { status: 200, headers, body: body.as_bytes().to_vec().into() };
            repeats_client(&response, &credentials, &sent)
        };
        assert!(finds(&[], r#"{"debug": {"sent": ["s3cret\"with-quotes"]}}"#), "escaped");
        assert!(finds(&[], "client_secret=s3cret\"with-quotes"), "plain text");
        assert!(finds(&[], r#"{"auth": "Z2F0ZXdheS1rZXk="}"#), "base64");
        assert!(finds(&[], r#"{"gateway-key": 1}"#), "a name");
        assert!(finds(&[], r#"{"a": "\u0067ateway-key"}"#), "an escaped character");
        assert!(finds(&[], r#"{"a": "ey.ey.signature"}"#), "what the client has signed");
        assert!(finds(&[("x-debug", "key gateway-key")], "{}"), "a header");
        let usual = r#"{"access_token": "token", "refresh_token": "the-refresh-token", "client_id": "erp-client", "scope": "orders.read", "user": "robot-user"}"#;
        assert!(!finds(&[("content-type", "application/json")], usual));
    }
}
