//! Guarantee: if two integrations have the same initial refresh token, and the server replaces refresh tokens, only one
//! of them sends it. The server would take the second use for a theft, and revoke the tokens of both.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use test_support::endpoint::{Endpoint, PASSWORD, Reply, RotatingTokenServer, canary};
use test_support::keycloak::Keycloak;
use test_support::messages::assert_recorded;
use test_support::world::{SHORT_TIMEOUT, rotating};
use test_support::{World, eventually};

/// Waits until one of two integrations is ready and the other one is not; returns their names in this order.
async fn one_of_two(world: &World) -> [&'static str; 2] {
    eventually("one is ready, and the other one reports why", SHORT_TIMEOUT, async || {
        let mut reasons = Vec::new();
        for name in ["first", "second"] {
            reasons.push(world.get(name).await.status.and_then(|status| status.reason).unwrap_or_default());
        }
        match [reasons[0].as_str(), reasons[1].as_str()] {
            ["TokenValid", "RefreshTokenShared"] => Ok(["first", "second"]),
            ["RefreshTokenShared", "TokenValid"] => Ok(["second", "first"]),
            _ => Err(format!("{reasons:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_shared_token_is_sent_once_to_a_server_that_replaces_it() {
    let keycloak = Keycloak::shared();
    let world = World::new("shared-rotating").await;
    let first = keycloak.first_refresh_token();
    // In two Secrets, as two teams would have it.
    let mut spec = rotating(&keycloak.token_endpoint(), "first-credentials");
    spec["request"] = json!({"format": "form"});
    for name in ["first", "second"] {
        let values = [("client_id", "rotating"), ("client_secret", "rotating-secret"), ("refresh_token", &first)];
        world.secret(&format!("{name}-credentials"), &values).await;
        spec["credentials"]["secretName"] = json!(format!("{name}-credentials"));
        // At the same time: both are reconciled before one has a token.
        world.integration(name, &spec).await;
    }
    let [winner, other] = one_of_two(&world).await;
    let stalled = world.condition(other, "Stalled", "True", "RefreshTokenShared").await;
    assert!(stalled.message.contains(&format!("OAuthIntegration {winner} has used")), "{}", stalled.message);
    assert!(stalled.message.contains(&format!("Secret {other}-credentials")), "{}", stalled.message);
    world.event(other, "RefreshTokenShared").await;
    let told = world.event(winner, "RefreshTokenShared").await;
    assert!(told.note.as_deref().is_some_and(|note| note.contains(other)), "{told:?}");
    // The family is not revoked: the chain continues.
    let mut last = world.value(winner, "refresh_token").await;
    for _ in 0..2 {
        last = world.wait_for_change(winner, "refresh_token", &last).await;
    }
    // With a token of its own, the other one works as well.
    world.secret(&format!("{other}-credentials"), &[("refresh_token", &keycloak.first_refresh_token())]).await;
    world.ready(other).await;
    let (all, succeeded) = world.operator.token_requests();
    assert_eq!(all, succeeded, "no request was rejected");
}

#[tokio::test]
async fn a_token_that_the_server_does_not_replace_can_be_shared() {
    let endpoint = Endpoint::start(|_| {
        Reply::json(200, &json!({"access_token": format!("token-{}", canary()), "expires_in": 3600}))
    });
    let world = World::new("shared-constant").await;
    let first = format!("initial-{}", canary());
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &first)]).await;
    for number in 0..5 {
        world.integration(&format!("it-{number}"), &rotating(&endpoint.url(), "credentials")).await;
    }
    for number in 0..5 {
        world.ready(&format!("it-{number}")).await;
    }
    let sent: Vec<_> = endpoint.requests().iter().map(|request| request.parameter("refresh_token")).collect();
    assert_eq!(sent, vec![first; 5]);
}

/// An operator, and a strict server whose responses are delayed.
async fn strict_server(name: &str, delay: Duration) -> (World, Arc<RotatingTokenServer>, Endpoint) {
    let server = RotatingTokenServer::new(3600);
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| {
        std::thread::sleep(delay);
        responding.reply(request)
    });
    (World::new(name).await, server, endpoint)
}

/// The response is delayed until the other integration has been reconciled.
#[tokio::test]
async fn a_shared_token_is_not_sent_while_the_response_to_another_integration_is_pending() {
    let (world, server, endpoint) = strict_server("shared-pending", Duration::from_secs(3)).await;
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &server.first())]).await;
    for name in ["first", "second"] {
        world.integration(name, &rotating(&endpoint.url(), "credentials")).await;
    }
    let [winner, _] = one_of_two(&world).await;
    assert_eq!(endpoint.count(), 1, "the token was sent once");
    assert!(server.is_current(&world.value(winner, "refresh_token").await), "the family is not revoked");
}

#[tokio::test]
async fn with_a_fallback_a_shared_token_is_not_needed() {
    let (world, server, endpoint) = strict_server("shared-fallback", Duration::ZERO).await;
    let first = server.first();
    let values =
        [("client_id", "the-client"), ("refresh_token", first.as_str()), ("username", "ada"), ("password", PASSWORD)];
    world.secret("credentials", &values).await;
    let mut spec = rotating(&endpoint.url(), "credentials");
    spec["renewal"] = json!({"fallback": {"grantType": "user_password"}});
    for name in ["first", "second"] {
        world.integration(name, &spec).await;
        world.condition(name, "Ready", "True", "TokenValid").await;
    }
    assert_eq!((server.renewed(), server.logins()), (1, 1));
    assert!(server.is_current(&world.value("first", "refresh_token").await), "the family is not revoked");
}

#[tokio::test]
async fn a_target_of_another_integration_is_named() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("same-target").await;
    world.credentials().await;
    let spec = test_support::world::client_credentials(&endpoint.url());
    world.integration("erp", &spec).await;
    world.ready("erp").await;
    let mut other = spec.clone();
    other["target"] = json!({"secretName": "erp"});
    world.integration("orders", &other).await;
    let stalled = world.condition("orders", "Stalled", "True", "TargetConflict").await;
    assert_recorded("TargetConflict", "the same target in two integrations", &stalled.message);
}
