//! The token request as data: bodies, lifetimes, redaction, responses, expressions. No server, no clock.

mod decode;
mod durations;
mod egress;
mod endpoints;
mod expressions;
mod lifetime;
mod redaction;
mod request_bodies;
mod response;
mod times;

use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::body::Parameter;
use oauth_operator::oauth::request::TokenRequest;
use oauth_operator::oauth::response::evaluation::EvaluatedExpressions;
use oauth_operator::oauth::response::parse;
use oauth_operator::oauth::response::raw::HttpResponse;
use oauth_operator::spec::advice::explain;
use oauth_operator::spec::validated::ValidatedSpec;
use secrecy::SecretString;
use serde_json::{Value, json};
use test_support::spec::validated;

/// 2026-01-01T00:00:00Z, the current time in all tests.
const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// The request of a spec; missing fields are filled in.
fn request_of(spec: Value) -> TokenRequest {
    validated(spec).token_request
}

fn members(values: &[(&str, &str)]) -> Vec<Parameter> {
    values.iter().map(|(name, value)| ((*name).to_owned(), SecretString::from(*value))).collect()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[test]
fn a_rejection_names_the_credentials_of_the_grant() {
    for (grant, error, hint) in [
        ("client_credentials", "invalid_client", "client ID and client secret"),
        ("user_password", "invalid_client", "username and password"),
        ("refresh_token", "invalid_client", "client ID and client secret"),
        ("refresh_token", "invalid_grant", "put a new one into the credentials Secret"),
    ] {
        let spec: OAuthIntegrationSpec = serde_json::from_value(json!({
            "tokenEndpoint": "https://login.example.com/token",
            "grantType": grant,
            "credentials": {"secretName": "credentials"},
        }))
        .expect("a spec");
        let token_request = ValidatedSpec::parse("it", &spec).expect("a valid spec").token_request;
        let raw = HttpResponse {
            status: 400,
            headers: vec![],
            body: json!({"error": error}).to_string().into_bytes().into(),
        };
        let evaluated = EvaluatedExpressions::in_this_process(&raw, &token_request.expressions);
        let rejected = parse::parse_token_response(&raw, &token_request, &[], Timestamp::UNIX_EPOCH, &evaluated);
        let failure = explain(rejected.expect_err("a rejection"));
        assert!(failure.message.contains(hint), "{grant}, {error}: {}", failure.message);
    }
}
