//! The endpoint of a spec, or what names it.

use std::time::Duration;

use oauth_operator::api::request::Format;
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::request::TokenRequest;
use oauth_operator::spec::validated::ValidatedSpec;
use serde_json::{Value, json};

const RESOURCE: &str = "https://mcp.example.com/mcp";
const ISSUER: &str = "https://login.example.com/realms/a";
const ENDPOINT: &str = "https://login.example.com/token";

fn parse(changes: Value) -> Result<ValidatedSpec, String> {
    let mut spec = json!({"grantType": "client_credentials", "credentials": {"secretName": "credentials"}});
    for (field, value) in changes.as_object().expect("an object") {
        spec[field] = value.clone();
    }
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    ValidatedSpec::parse("it", &spec)
}

fn request(changes: Value) -> TokenRequest {
    parse(changes).expect("a valid spec").token_request
}

#[test]
fn an_attempt_has_time_for_each_document_that_names_the_endpoint() {
    // Each with the timeout of 10 s, for the token request too.
    let cases = [
        (json!({"tokenEndpoint": ENDPOINT}), 10),
        (json!({"tokenEndpoint": ENDPOINT, "issuer": ISSUER}), 10),
        (json!({"issuer": ISSUER}), 20),
        (json!({"protectedResource": RESOURCE}), 30),
        (json!({"protectedResource": RESOURCE, "issuer": ISSUER}), 30),
        (json!({"protectedResource": RESOURCE, "dpop": {}}), 40),
    ];
    for (changes, seconds) in cases {
        assert_eq!(request(changes.clone()).max_duration(), Duration::from_secs(seconds), "{changes}");
    }
}

#[test]
fn requests_to_a_resource_without_issuer_share_the_limits_of_its_host() {
    let cases = [
        (json!({"tokenEndpoint": ENDPOINT, "issuer": ISSUER}), "https://login.example.com"),
        (json!({"issuer": ISSUER}), "https://login.example.com"),
        (json!({"protectedResource": RESOURCE, "issuer": ISSUER}), "https://login.example.com"),
        (json!({"protectedResource": RESOURCE}), "https://mcp.example.com"),
    ];
    for (changes, origin) in cases {
        let spec = parse(changes.clone()).expect("a valid spec");
        assert_eq!(spec.token_request.endpoint.origin(), origin, "{changes}");
        assert!(spec.host_key("one").is_some(), "{changes}");
    }
    let anonymous = json!({
        "protectedResource": RESOURCE, "credentials": null, "clientAuthentication": {"method": "none"},
    });
    assert_eq!(parse(anonymous).expect("a valid spec").credentials_name, "https://mcp.example.com");
}

#[test]
fn a_resource_makes_requests_forms() {
    assert_eq!(request(json!({"protectedResource": RESOURCE})).format, Format::Form);
    assert_eq!(request(json!({"protectedResource": RESOURCE, "request": {"format": "json"}})).format, Format::Json);
}

#[test]
fn what_cannot_be_combined_names_the_field_to_change() {
    let refresh = json!({"protectedResource": RESOURCE, "grantType": "refresh_token"});
    let strategy =
        json!({"protectedResource": RESOURCE, "grantType": "password", "renewal": {"strategy": "refresh_token"}});
    let cases = [
        (json!({}), "spec.tokenEndpoint, spec.issuer or spec.protectedResource must be set"),
        (json!({"protectedResource": RESOURCE, "tokenEndpoint": ENDPOINT}), "remove one of them"),
        (json!({"protectedResource": "urn:example:mcp"}), "spec.protectedResource has the scheme urn"),
        (json!({"protectedResource": RESOURCE, "revocation": {"onDeletion": true}}), "unless spec.issuer is set"),
        (refresh, "needs spec.issuer"),
        (strategy, "needs spec.issuer"),
    ];
    for (changes, message) in cases {
        let error = parse(changes.clone()).expect_err("an error");
        assert!(error.contains(message), "{changes}: {error}");
    }
}

#[test]
fn an_endpoint_of_the_spec_needs_no_metadata() {
    let spec = json!({
        "protectedResource": RESOURCE, "issuer": ISSUER, "grantType": "password",
        "renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": ENDPOINT}},
    });
    let refresh = request(spec);
    assert_eq!(refresh.endpoint.url.as_ref().map(url::Url::as_str), Some(ENDPOINT));
    assert_eq!((refresh.endpoint.resource, refresh.endpoint.audience.as_str()), (None, ISSUER));
}
