//! What the tests take for granted about the real identity providers: which bodies they take, what they refuse, and that
//! a refresh token can be used once.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::django::Django;
use common::http::{post_form, post_json};
use common::keycloak::Keycloak;
use serde_json::{Value, json};

type Answer = (u16, Value);

fn parsed((status, body): (u16, String)) -> Answer {
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} without JSON: {body:?}")))
}

fn form(url: &str, members: &[(&str, &str)]) -> Answer {
    parsed(post_form(url, members))
}

fn json(url: &str, members: &[(&str, &str)]) -> Answer {
    let object: serde_json::Map<_, _> = members.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    parsed(post_json(url, &object.into()))
}

fn assert_refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.0, &answer.1["error"]), (status, &json!(error)), "{answer:?}");
}

/// The token and its life.
fn token(answer: &Answer) -> (&str, u64) {
    assert_eq!(answer.0, 200, "{answer:?}");
    assert_eq!(answer.1["token_type"], "Bearer");
    let token = answer.1["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer:?}"));
    (token, answer.1["expires_in"].as_u64().unwrap_or_else(|| panic!("no life: {answer:?}")))
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
fn renewed(first: &str, post: impl Fn(&[(&str, &str)]) -> Answer) -> String {
    let answer = post(&refresh(first));
    token(&answer);
    let second = answer.1["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {answer:?}"));
    assert_ne!(second, first);
    second.to_owned()
}

#[test]
fn keycloak_gives_a_token_for_a_form() {
    let endpoint = Keycloak::shared().token_endpoint();
    for (client, secret, life) in [("service", "service-secret", 60), ("service-short", "service-short-secret", 10)] {
        let answer = form(&endpoint, &client_credentials(client, secret));
        // Keycloak tells what is left when it answers, in whole seconds, and the second may have changed since it issued.
        let told = token(&answer).1;
        assert!((life - 1..=life).contains(&told), "{client}: {told}");
        assert_eq!(answer.1.get("refresh_token"), None, "{client}");
    }
}

#[test]
fn keycloak_refuses_json() {
    let answer = json(&Keycloak::shared().token_endpoint(), &client_credentials("service", "service-secret"));
    assert_refused(&answer, 400, "invalid_request");
}

#[test]
fn keycloak_refuses_a_wrong_secret() {
    let answer = form(&Keycloak::shared().token_endpoint(), &client_credentials("service", "another"));
    assert_refused(&answer, 401, "unauthorized_client");
}

#[test]
fn keycloak_refuses_a_used_refresh_token_and_all_of_its_session() {
    let keycloak = Keycloak::shared();
    let post = |members: &[(&str, &str)]| form(&keycloak.token_endpoint(), members);
    let first = keycloak.first_refresh_token();
    let second = renewed(&first, post);
    assert_refused(&post(&refresh(&first)), 400, "invalid_grant");
    assert_refused(&post(&refresh(&second)), 400, "invalid_grant");
    // Another session is not touched.
    renewed(&keycloak.first_refresh_token(), post);
}

#[test]
fn keycloak_refuses_a_refresh_token_that_is_two_behind() {
    let keycloak = Keycloak::shared();
    let post = |members: &[(&str, &str)]| form(&keycloak.token_endpoint(), members);
    let first = keycloak.first_refresh_token();
    // Keycloak tells old from new by whole seconds: of tokens from the same second it takes any but the one used last.
    std::thread::sleep(Duration::from_secs(1));
    let second = renewed(&first, post);
    renewed(&second, post);
    assert_refused(&post(&refresh(&first)), 400, "invalid_grant");
}

#[test]
fn django_gives_a_token_for_json() {
    let answer = json(&Django::shared().token_endpoint(), &client_credentials("service", "service-secret"));
    assert_eq!(token(&answer).1, 10);
    assert_eq!(answer.1["scope"], "customer order add.order read");
}

#[test]
fn django_gives_the_scopes_that_are_asked_for() {
    let mut members = client_credentials("service", "service-secret").to_vec();
    members.push(("scope", "customer order add.order"));
    let answer = json(&Django::shared().token_endpoint(), &members);
    token(&answer);
    assert_eq!(answer.1["scope"], "customer order add.order");
}

#[test]
fn django_refuses_a_form() {
    let answer = form(&Django::shared().token_endpoint(), &client_credentials("service", "service-secret"));
    assert_refused(&answer, 400, "unsupported_grant_type");
}

#[test]
fn django_refuses_a_wrong_secret() {
    let answer = json(&Django::shared().token_endpoint(), &client_credentials("service", "another"));
    assert_refused(&answer, 401, "invalid_client");
}

#[test]
fn django_refuses_a_used_refresh_token_and_all_of_its_family() {
    let django = Django::shared();
    let post = |members: &[(&str, &str)]| json(&django.token_endpoint(), members);
    let first = django.first_refresh_token();
    let second = renewed(&first, post);
    let third = renewed(&second, post);
    assert_refused(&post(&refresh(&first)), 400, "invalid_grant");
    assert_refused(&post(&refresh(&third)), 400, "invalid_grant");
    // Another family is not touched.
    renewed(&django.first_refresh_token(), post);
}

#[test]
fn django_started_alone_gives_the_life_that_was_asked_for() {
    let django = Django::start(3600);
    let answer = json(&django.token_endpoint(), &client_credentials("service", "service-secret"));
    assert_eq!(token(&answer).1, 3600);
}

#[test]
fn django_answers_many_at_once() {
    let endpoint = Django::shared().token_endpoint();
    let ask = || json(&endpoint, &client_credentials("service", "service-secret"));
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..32).map(|_| scope.spawn(ask)).collect();
        for answer in asked {
            token(&answer.join().expect("an answer"));
        }
    });
}
