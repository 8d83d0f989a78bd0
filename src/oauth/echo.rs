//! Responses that repeat the credentials of the client. Pure.
//!
//! With `target.data`, the author of an integration chooses which parts of a response are written into the target. Who
//! uses a provider must not see the credentials of its client, even if the server returns them.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::oauth::body::Parameter;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::request::{Grant, TokenRequest};
use crate::oauth::response::raw::HttpResponse;
use crate::oauth::sent_values::sensitive_parts;

/// What is derived from the credentials of the client for one request.
const DERIVED: [&str; 2] = ["authorization", "client_assertion"];
/// A shorter value occurs by chance, in bytes.
const MIN_LENGTH: usize = 6;

/// Whether a response contains a value that authenticates the client: as it is, in a JSON string, in base64 or in a form.
pub(crate) fn repeats_client(
    response: &HttpResponse,
    request: &TokenRequest,
    credentials: &Credentials,
    sent: &[Parameter],
) -> bool {
    // Values of the user, and the client ID, are in the same Secret if the provider names their keys.
    let is_harmless = |credential: Credential| credential.belongs_to_user() || credential == Credential::ClientId;
    let harmless: Vec<&str> = credentials
        .iter()
        .filter(|(credential, _)| is_harmless(*credential) || credentials.chained == Some(*credential))
        .map(|(_, value)| value.expose_secret())
        .collect();
    let values = credentials.iter().filter(|(credential, _)| !is_harmless(*credential)).map(|(_, value)| value.clone());
    let others = credentials.others.values().flat_map(|value| sensitive_parts(value.expose_secret()));
    let signs = matches!(&request.grant, Grant::JwtBearer(assertion) if assertion.from.is_none());
    // Under a name of the spec, the name does not say what a value is.
    let is_derived = |(name, value): &&Parameter| {
        DERIVED.contains(&name.as_str())
            || (signs && name == Credential::Assertion.key())
            || (name == "value" && is_jwt(value.expose_secret()))
    };
    let derived = sent.iter().filter(is_derived).map(|(_, value)| value.clone());
    let all: Vec<SecretString> = values.chain(others.map(|(_, value)| value)).chain(derived).collect();
    let secrets: Vec<Zeroizing<String>> = all
        .iter()
        .map(ExposeSecret::expose_secret)
        .filter(|value| !harmless.contains(value))
        .map(str::trim)
        .filter(|value| value.len() >= MIN_LENGTH)
        .flat_map(forms)
        .map(Zeroizing::new)
        .collect();
    let is_in_headers =
        response.headers.iter().any(|(name, value)| repeats(name, &secrets) || repeats(value, &secrets));
    let body = String::from_utf8_lossy(&response.body);
    is_in_headers
        || repeats(&body, &secrets)
        || serde_json::from_slice(&response.body).is_ok_and(|body| any_text(&body, &secrets))
}

/// Whether a value has the form of a signed JWT (RFC 7515).
fn is_jwt(value: &str) -> bool {
    value.starts_with("ey") && value.split('.').count() == 3
}

/// In JSON, a character may be escaped.
fn any_text(value: &Value, secrets: &[Zeroizing<String>]) -> bool {
    match value {
        Value::String(text) => repeats(text, secrets),
        Value::Array(items) => items.iter().any(|item| any_text(item, secrets)),
        Value::Object(members) => {
            members.iter().any(|(name, value)| repeats(name, secrets) || any_text(value, secrets))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A secret as it may stand in a response.
fn forms(secret: &str) -> [String; 4] {
    let form = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    [secret.to_owned(), STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret), form]
}

fn repeats(text: &str, secrets: &[Zeroizing<String>]) -> bool {
    secrets.iter().any(|secret| text.contains(secret.as_str()))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::validated::ValidatedSpec;

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
        credentials.others.insert("id".to_owned(), "erp-client".into());
        let spec = json!({"tokenEndpoint": "https://login.example.com", "grantType": "jwt_bearer", "credentials": {"secretName": "c"}});
        let spec = serde_json::from_value(spec).expect("a spec");
        let request = ValidatedSpec::parse("it", &spec).expect("a valid spec").token_request;
        let sent: Vec<Parameter> = vec![
            ("scope".to_owned(), "orders.read".into()),
            ("value".to_owned(), "the-refresh-token".into()),
            ("client_assertion".to_owned(), "ey.ey.signature".into()),
            ("assertion".to_owned(), "ey.ey.of-the-grant".into()),
            ("value".to_owned(), "ey.ey.under-another-name".into()),
        ];
        let finds = |headers: &[(&str, &str)], body: &str| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let response = HttpResponse { status: 200, headers, body: body.as_bytes().to_vec().into() };
            repeats_client(&response, &request, &credentials, &sent)
        };
        assert!(finds(&[], r#"{"debug": {"sent": ["s3cret\"with-quotes"]}}"#), "escaped");
        assert!(finds(&[], "client_secret=s3cret\"with-quotes"), "plain text");
        assert!(finds(&[], r#"{"auth": "Z2F0ZXdheS1rZXk="}"#), "base64");
        assert!(finds(&[], r#"{"gateway-key": 1}"#), "a name");
        assert!(finds(&[], r#"{"a": "\u0067ateway-key"}"#), "an escaped character");
        assert!(finds(&[], r#"{"a": "ey.ey.signature"}"#), "what the client has signed");
        assert!(finds(&[], "assertion=ey.ey.of-the-grant") && finds(&[], "ey.ey.under-another-name"), "the same");
        assert!(finds(&[], "client_secret=s3cret%22with-quotes"), "a form");
        assert!(finds(&[("x-debug", "key gateway-key")], "{}"), "a header");
        let usual = r#"{"access_token": "token", "refresh_token": "the-refresh-token", "client_id": "erp-client", "scope": "orders.read", "user": "robot-user"}"#;
        assert!(!finds(&[("content-type", "application/json")], usual));
    }
}
