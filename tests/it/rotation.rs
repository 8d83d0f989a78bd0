//! Guarantee: with real identity providers that forbid the reuse of refresh tokens, a refresh token is never lost or
//! used twice.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::django::Django;
use test_support::keycloak::Keycloak;
use test_support::world::client_credentials;
use test_support::{World, eventually};

/// The minimum number of renewals, each with a different refresh token.
const RENEWALS: usize = 10;

async fn rotate(world: &World, endpoint: &str, first: &str, request: Value) {
    world
        .secret(
            "credentials",
            &[("client_id", "rotating"), ("client_secret", "rotating-secret"), ("refresh_token", first)],
        )
        .await;
    let mut spec = client_credentials(endpoint);
    spec["grantType"] = json!("refresh_token");
    spec["request"] = request;
    world.integration("it", &spec).await;
    let mut seen = vec![first.to_owned()];
    for number in 0..=RENEWALS {
        let last = seen.last().expect("the first").clone();
        let next = world.wait_for_change("it", "refresh_token", if number == 0 { "" } else { &last }).await;
        assert!(!seen.contains(&next), "a refresh token was issued twice");
        seen.push(next);
    }
    world.ready("it").await;
    let requests = |outcome: &str| world.operator.sum("oauth_operator_token_requests_total", outcome);
    assert!(requests("outcome=\"Success\"") >= 11.0, "one issue and ten renewals");
    assert_eq!(requests(""), requests("outcome=\"Success\""), "a request failed");
}

async fn issue(world: &World, endpoint: &str, client: &str, secret: &str, request: Value) {
    world.secret("credentials", &[("client_id", client), ("client_secret", secret)]).await;
    let mut spec = client_credentials(endpoint);
    spec["request"] = request;
    world.integration("it", &spec).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.wait_for_change("it", "access_token", &first).await;
    world.ready("it").await;
}

#[tokio::test]
async fn django_rotates_through_ten_renewals() {
    let django = Django::shared();
    let world = World::new("django-rotation").await;
    rotate(&world, &django.token_endpoint(), &django.first_refresh_token(), json!({})).await;
}

#[tokio::test]
async fn keycloak_rotates_through_ten_renewals() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-rotation").await;
    let first = keycloak.first_refresh_token();
    rotate(&world, &keycloak.token_endpoint(), &first, json!({"format": "form"})).await;
}

#[tokio::test]
async fn django_issues_and_renews_with_client_credentials() {
    let world = World::new("django").await;
    issue(&world, &Django::shared().token_endpoint(), "service", "service-secret", json!({})).await;
}

#[tokio::test]
async fn keycloak_issues_and_renews_with_client_credentials() {
    let world = World::new("keycloak").await;
    let endpoint = Keycloak::shared().token_endpoint();
    issue(&world, &endpoint, "service-short", "service-short-secret", json!({"format": "form"})).await;
}

#[tokio::test]
async fn the_lifetime_of_a_jwt_is_read_if_the_response_has_none() {
    let world = World::new("jwt").await;
    world.secret("credentials", &[("client_id", "service"), ("client_secret", "service-secret")]).await;
    let mut spec = client_credentials(&Keycloak::shared().token_endpoint());
    spec["request"] = json!({"format": "form"});
    spec["response"] = json!({"expiresIn": "no_such_member"});
    world.integration("it", &spec).await;
    let status = world.ready("it").await.status.expect("a status");
    let lifetime = status
        .expires_at
        .expect("an expiry time")
        .0
        .duration_since(status.issued_at.expect("an issue time").0)
        .as_secs();
    assert!((58..=61).contains(&lifetime), "Keycloak's tokens for this client have a lifetime of 60 s: {lifetime} s");
}

#[tokio::test]
async fn the_wrong_request_format_is_reported() {
    let world = World::new("formats").await;
    world.secret("credentials", &[("client_id", "service"), ("client_secret", "service-secret")]).await;
    let keycloak = client_credentials(&Keycloak::shared().token_endpoint());
    world.integration("json-to-keycloak", &keycloak).await;
    let mut django = client_credentials(&Django::shared().token_endpoint());
    django["request"] = json!({"format": "form"});
    world.integration("form-to-django", &django).await;
    for (name, format) in [("json-to-keycloak", "form"), ("form-to-django", "json")] {
        let ready = world.condition(name, "Ready", "False", "RequestRejected").await;
        assert!(ready.message.contains(&format!("spec.request.format: {format}")), "{}", ready.message);
        world.change(name, &json!({"spec": {"request": {"format": format}}})).await;
        world.ready(name).await;
    }
}

#[tokio::test]
async fn a_wrong_secret_is_reported_and_its_fix_takes_effect_at_once() {
    let world = World::new("wrong-secret").await;
    world.secret("credentials", &[("client_id", "service"), ("client_secret", "wrong-canary")]).await;
    world.integration("it", &client_credentials(&Django::shared().token_endpoint())).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("invalid_client") && ready.message.contains("client secret"), "{}", ready.message);
    world.secret("credentials", &[("client_id", "service"), ("client_secret", "service-secret")]).await;
    world.ready("it").await;
    let text = world.observable_output().await;
    assert!(!text.contains("wrong-canary") && !text.contains("service-secret"), "a secret is visible");
    eventually("the failure is cleared", Duration::from_secs(10), async || {
        match world.get("it").await.status.and_then(|status| status.last_failure) {
            None => Ok(()),
            Some(last) => Err(last.message),
        }
    })
    .await;
}
