//! Specs as data, for the tests that need no server.

use oauth_operator::api::OAuthIntegrationSpec;
use oauth_operator::validated::Validated;
use serde_json::{Value, json};

/// A spec that can work; what is left out of it is filled in.
pub fn validated(mut spec: Value) -> Validated {
    let defaults = json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    });
    for (name, value) in defaults.as_object().expect("an object") {
        spec.as_object_mut().expect("an object").entry(name).or_insert_with(|| value.clone());
    }
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    Validated::parse("it", &spec).expect("a spec that can work")
}
