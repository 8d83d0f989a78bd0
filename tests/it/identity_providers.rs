//! The assumptions of the tests about the real identity providers: the bodies that they accept, the requests that they
//! reject, and that a refresh token can be used once.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::django::Django;
use test_support::http::{post_form, post_json};
use test_support::keycloak::Keycloak;

type Response = (u16, Value);

fn parsed((status, body): (u16, String)) -> Response {
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} without JSON: {body:?}")))
}

fn form(url: &str, members: &[(&str, &str)]) -> Response {
    parsed(post_form(url, members))
}

fn json(url: &str, members: &[(&str, &str)]) -> Response {
    let object: serde_json::Map<_, _> = members.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    parsed(post_json(url, &object.into()))
}

fn assert_refused(response: &Response, status: u16, error: &str) {
    assert_eq!((response.0, &response.1["error"]), (status, &json!(error)), "{response:?}");
}

/// The token and its lifetime.
fn token(response: &Response) -> (&str, u64) {
    assert_eq!(response.0, 200, "{response:?}");
    assert_eq!(response.1["token_type"], "Bearer");
    let token = response.1["access_token"].as_str().unwrap_or_else(|| panic!("no token: {response:?}"));
    (token, response.1["expires_in"].as_u64().unwrap_or_else(|| panic!("no lifetime: {response:?}")))
}

fn client_credentials<'a>(client: &'a str, secret: &'a str) -> [(&'a str, &'a str); 3] {
    [("grant_type", "client_credentials"), ("client_id", client), ("client_secret", secret)]
}

fn refresh(token: &str) -> [(&str, &str); 4] {
    [
        ("grant_type", "refresh_token"),
        ("client_id", "rotating"),
        ("client_secret", "rotating-secret"),
        ("refresh_token", token),
    ]
}

/// Uses a refresh token of client `rotating` and returns its successor.
fn renewed(first: &str, post: impl Fn(&[(&str, &str)]) -> Response) -> String {
    let response = post(&refresh(first));
    token(&response);
    let second = response.1["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {response:?}"));
    assert_ne!(second, first);
    second.to_owned()
}

#[test]
fn keycloak_issues_a_token_for_a_form() {
    let endpoint = Keycloak::shared().token_endpoint();
    for (client, secret, lifetime) in [("service", "service-secret", 60), ("service-short", "service-short-secret", 10)]
    {
        let response = form(&endpoint, &client_credentials(client, secret));
        // Keycloak returns the remaining lifetime in whole seconds, and the second may have changed since it issued the
        // token.
        let reported = token(&response).1;
        assert!((lifetime - 1..=lifetime).contains(&reported), "{client}: {reported}");
        assert_eq!(response.1.get("refresh_token"), None, "{client}");
    }
}

#[test]
fn keycloak_rejects_json() {
    let response = json(&Keycloak::shared().token_endpoint(), &client_credentials("service", "service-secret"));
    assert_refused(&response, 400, "invalid_request");
}

#[test]
fn keycloak_rejects_a_wrong_secret() {
    let response = form(&Keycloak::shared().token_endpoint(), &client_credentials("service", "another"));
    assert_refused(&response, 401, "unauthorized_client");
}

#[test]
fn keycloak_rejects_a_used_refresh_token_and_its_whole_session() {
    let keycloak = Keycloak::shared();
    let post = |members: &[(&str, &str)]| form(&keycloak.token_endpoint(), members);
    let first = keycloak.first_refresh_token();
    let second = renewed(&first, post);
    assert_refused(&post(&refresh(&first)), 400, "invalid_grant");
    assert_refused(&post(&refresh(&second)), 400, "invalid_grant");
    // Another session is not affected.
    renewed(&keycloak.first_refresh_token(), post);
}

#[test]
fn keycloak_rejects_the_refresh_token_before_the_previous_one() {
    let keycloak = Keycloak::shared();
    let post = |members: &[(&str, &str)]| form(&keycloak.token_endpoint(), members);
    let first = keycloak.first_refresh_token();
    // Keycloak compares the age of tokens in whole seconds: of the tokens from the same second, it accepts all except
    // the last one that was used.
    std::thread::sleep(Duration::from_secs(1));
    let second = renewed(&first, post);
    renewed(&second, post);
    assert_refused(&post(&refresh(&first)), 400, "invalid_grant");
}

#[test]
fn django_issues_a_token_for_json() {
    let response = json(&Django::shared().token_endpoint(), &client_credentials("service", "service-secret"));
    assert_eq!(token(&response).1, 10);
    assert_eq!(response.1["scope"], "customer order add.order read");
}

#[test]
fn django_grants_the_requested_scopes() {
    let mut members = client_credentials("service", "service-secret").to_vec();
    members.push(("scope", "customer order add.order"));
    let response = json(&Django::shared().token_endpoint(), &members);
    token(&response);
    assert_eq!(response.1["scope"], "customer order add.order");
}

#[test]
fn django_rejects_a_form() {
    let response = form(&Django::shared().token_endpoint(), &client_credentials("service", "service-secret"));
    assert_refused(&response, 400, "unsupported_grant_type");
}

#[test]
fn django_rejects_a_wrong_secret() {
    let response = json(&Django::shared().token_endpoint(), &client_credentials("service", "another"));
    assert_refused(&response, 401, "invalid_client");
}

#[test]
fn django_rejects_a_used_refresh_token_and_its_whole_family() {
    let django = Django::shared();
    let post = |members: &[(&str, &str)]| json(&django.token_endpoint(), members);
    let first = django.first_refresh_token();
    let second = renewed(&first, post);
    let third = renewed(&second, post);
    assert_refused(&post(&refresh(&first)), 400, "invalid_grant");
    assert_refused(&post(&refresh(&third)), 400, "invalid_grant");
    // Another family is not affected.
    renewed(&django.first_refresh_token(), post);
}

#[test]
fn a_separate_django_has_the_configured_lifetime() {
    let django = Django::start(3600);
    let response = json(&django.token_endpoint(), &client_credentials("service", "service-secret"));
    assert_eq!(token(&response).1, 3600);
}

#[test]
fn django_responds_to_concurrent_requests() {
    let endpoint = Django::shared().token_endpoint();
    let token_request = || json(&endpoint, &client_credentials("service", "service-secret"));
    std::thread::scope(|scope| {
        let responses: Vec<_> = (0..32).map(|_| scope.spawn(token_request)).collect();
        for response in responses {
            token(&response.join().expect("a response"));
        }
    });
}
