//! Specs as data, for tests without a server.

use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::client::Client;
use oauth_operator::oauth::credentials::Credentials;
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::request::TokenRequest;
use oauth_operator::oauth::response::token::TokenResponse;
use oauth_operator::spec::advice::explain;
use oauth_operator::spec::validated::ValidatedSpec;
use serde_json::{Value, json};

/// A valid spec; missing fields are filled in.
pub fn validated(mut spec: Value) -> ValidatedSpec {
    let defaults = json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    });
    for (name, value) in defaults.as_object().expect("an object") {
        spec.as_object_mut().expect("an object").entry(name).or_insert_with(|| value.clone());
    }
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    ValidatedSpec::parse("it", &spec).expect("a valid spec")
}

/// Requests a token: sends the request and reads the response.
pub async fn request_token(
    client: &Client,
    request: &TokenRequest,
    credentials: &Credentials,
) -> Result<TokenResponse, RequestError> {
    let received = client.send(request, credentials).await.map_err(explain)?;
    client.read(request, credentials, received).await.map_err(explain)
}

/// Sets the members of `change` in a JSON value. Unlike in a merge patch (RFC 7386), null is set, and removes nothing.
pub fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, change) => into.clone_from(change),
    }
}
