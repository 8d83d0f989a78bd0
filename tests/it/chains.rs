//! Guarantee: the token of one integration can be the input of another one. Both stay in step, a missing input is
//! reported, and the token is sent only where the owner of its credentials allows it.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, canary};
use test_support::keycloak::Keycloak;
use test_support::messages::assert_recorded;
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{World, eventually};

/// Issues different tokens each time.
fn issuing() -> Endpoint {
    let issued = AtomicUsize::new(0);
    Endpoint::start(move |_| {
        let number = issued.fetch_add(1, Ordering::Relaxed);
        let token = |kind: &str| format!("{kind}-{number}-{}", canary());
        Reply::json(
            200,
            &json!({"access_token": token("access"), "id_token": token("identity"), "refresh_token": token("refresh"), "expires_in": 3600}),
        )
    })
}

/// An integration that needs the access token of `first`, as its bearer token.
fn bearer_of_first(endpoint: &Endpoint) -> Value {
    json!({
        "tokenEndpoint": endpoint.url(), "grantType": "jwt_bearer",
        "assertion": {"from": {"integration": "first"}, "place": "AuthorizationHeader"},
        "request": {"parameters": {"scope": ["orders"], "lifetime": "3600s"}},
    })
}

async fn claims(world: &World, name: &str) -> Value {
    let token = world.value(name, "access_token").await;
    let payload = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[tokio::test]
async fn keycloak_exchanges_the_token_of_another_integration() {
    let keycloak = Keycloak::shared();
    let world = World::new("chain-keycloak").await;
    let client = [("client_id", "exchange"), ("client_secret", "exchange-secret")];
    for name in ["user", "exchange"] {
        world.secret(name, &client).await;
        world.secret(name, &[("username", "ada"), ("password", "ada-password")]).await;
    }
    world.pin("user", &format!("{} {}", keycloak.issuer(), keycloak.token_endpoint())).await;
    let user = json!({
        "issuer": keycloak.issuer(), "grantType": "password", "scope": "openid", "credentials": {"secretName": "user"},
    });
    let exchange = json!({
        "issuer": keycloak.issuer(), "grantType": "token_exchange", "credentials": {"secretName": "exchange"},
        "tokenExchange": {"subjectTokenFrom": {"integration": "first"}},
    });
    // The dependent integration exists first.
    world.integration("second", &exchange).await;
    let missing = world.condition("second", "Stalled", "True", "DependencyMissing").await;
    assert_recorded("DependencyMissing", "an integration that does not exist, whose token is needed", &missing.message);
    world.integration("first", &user).await;
    world.ready("second").await;
    let (first, second) = (claims(&world, "first").await, claims(&world, "second").await);
    assert_eq!((&second["azp"], &second["sub"]), (&json!("exchange"), &first["sub"]), "for the same user");
    assert_ne!(first["jti"], second["jti"]);
}

#[tokio::test]
async fn a_dependent_token_is_renewed_with_its_input() {
    let (source, endpoint) = (issuing(), issuing());
    let world = World::new("chain-renewed").await;
    world.credentials().await;
    world.pin("credentials", &format!("{} {}", source.url(), endpoint.url())).await;
    world.integration("first", &client_credentials(&source.url())).await;
    world.integration("second", &bearer_of_first(&endpoint)).await;
    world.ready("second").await;
    let input = world.value("first", "access_token").await;
    let request = endpoint.requests().remove(0);
    assert_eq!(request.headers["authorization"], format!("Bearer {input}"));
    assert_eq!(request.json(), json!({"scope": ["orders"], "lifetime": "3600s"}));
    for round in 1..3 {
        let before = world.value("second", "access_token").await;
        let now = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": format!("{round}")}}});
        world.change("first", &now).await;
        world.wait_for_change("second", "access_token", &before).await;
        let input = world.value("first", "access_token").await;
        assert_eq!(endpoint.requests()[round].headers["authorization"], format!("Bearer {input}"));
    }
    assert_eq!((source.count(), endpoint.count()), (3, 3), "one request for each change");
    // A Secret that is written again with the same token is no reason to request another one.
    world.change("first", &json!({"spec": {"renewBefore": "10m"}})).await;
    world.event("first", "TargetUpdated").await;
    world.secret("credentials", &[("unrelated", "unrelated-value")]).await;
    world.ready("second").await;
    assert_eq!((source.count(), endpoint.count()), (3, 3));
}

#[tokio::test]
async fn other_tokens_of_an_integration_can_be_the_input() {
    let (source, endpoint) = (issuing(), issuing());
    let world = World::new("chain-values").await;
    world.credentials().await;
    world.pin("credentials", &format!("{} {}", source.url(), endpoint.url())).await;
    let exchange = |value: &str| {
        json!({
            "tokenEndpoint": endpoint.url(), "grantType": "token_exchange", "clientAuthentication": {"method": "none"},
            "tokenExchange": {"subjectTokenFrom": {"integration": "first", "value": value}},
        })
    };
    world.integration("first", &client_credentials(&source.url())).await;
    world.integration("by-refresh-token", &exchange("refresh_token")).await;
    world.ready("by-refresh-token").await;
    let request = endpoint.requests().remove(0);
    assert_eq!(request.parameter("subject_token"), world.value("first", "refresh_token").await);
    assert_eq!(request.parameter("subject_token_type"), "urn:ietf:params:oauth:token-type:refresh_token");
    world.integration("by-id-token", &exchange("id_token")).await;
    let missing = world.condition("by-id-token", "Stalled", "True", "DependencyMissing").await;
    assert_recorded("DependencyMissing", "an ID token that the other integration does not store", &missing.message);
    world.change("first", &json!({"spec": {"target": {"data": {"id_token": "response.id_token"}}}})).await;
    world.ready("by-id-token").await;
    // The other one is renewed as well, because the refresh token has changed.
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    let requests = endpoint.requests();
    let request = requests.iter().find(|request| request.parameter("subject_token_type") == id_token);
    let sent = request.expect("a request").parameter("subject_token");
    assert_eq!(sent, world.value("first", "id_token").await);
}

#[tokio::test]
async fn a_cycle_sends_nothing() {
    let endpoint = issuing();
    let world = World::new("chain-cycle").await;
    world.credentials().await;
    let of = |name: &str| {
        let mut spec = client_credentials(&endpoint.url());
        spec["grantType"] = json!("token_exchange");
        spec["tokenExchange"] = json!({"subjectTokenFrom": {"integration": name}});
        spec
    };
    world.integration("a", &of("b")).await;
    world.integration("b", &of("a")).await;
    for (name, chain) in [("a", "a → b → a"), ("b", "b → a → b")] {
        let stalled = world.condition(name, "Stalled", "True", "DependencyCycle").await;
        assert!(stalled.message.contains(chain), "{}", stalled.message);
    }
    assert_eq!(endpoint.count(), 0);
    // Once the cycle is broken, both get their tokens.
    world.pin("credentials", &endpoint.url()).await;
    let plain = json!({"spec": {"grantType": "client_credentials", "tokenExchange": null}});
    world.change("b", &plain).await;
    world.ready("a").await;
}

/// An author of integrations who may not read Secrets must not have a token sent to their own server.
#[tokio::test]
async fn a_token_is_sent_only_where_the_owner_of_its_credentials_allows() {
    let (source, thief) = (issuing(), issuing());
    let world = World::new("chain-thief").await;
    world.credentials().await;
    world.integration("first", &client_credentials(&source.url())).await;
    world.ready("first").await;
    // Without the annotation, although it is not required here.
    world.integration("stolen", &bearer_of_first(&thief)).await;
    let denied = world.condition("stolen", "Ready", "False", "EndpointNotAllowed").await;
    assert!(denied.message.contains("Secret credentials of OAuthIntegration first has none"), "{}", denied.message);
    // With an annotation for the endpoint of the first one only.
    world.pin("credentials", &source.url()).await;
    eventually("the annotation is named", SHORT_TIMEOUT, async || {
        let message = world.condition("stolen", "Ready", "False", "EndpointNotAllowed").await.message;
        if message.contains("may be sent only to") { Ok(()) } else { Err(message) }
    })
    .await;
    // Other credentials with another annotation do not help: the stored token was obtained with the first ones.
    world.secret("own", &[("client_id", "thief"), ("client_secret", "kanarie-secret-of-thief")]).await;
    world.pin("own", &format!("{} {}", source.url(), thief.url())).await;
    source.respond(|_| Reply::NoResponse);
    world.change("first", &json!({"spec": {"credentials": {"secretName": "own"}}})).await;
    world.change("stolen", &json!({"spec": {"scope": "orders"}})).await;
    let missing = world.condition("stolen", "Stalled", "True", "DependencyMissing").await;
    assert!(missing.message.contains("has no token for its current spec"), "{}", missing.message);
    assert_eq!(thief.count(), 0);
}

/// A tenant's own integration in between does not hide the owner of the token at its beginning.
#[tokio::test]
async fn the_owners_of_all_links_of_a_chain_must_allow_the_endpoint() {
    let (source, exchange, thief) = (issuing(), issuing(), issuing());
    let world = World::new("chain-links").await;
    world.credentials().await;
    world.pin("credentials", &format!("{} {}", source.url(), exchange.url())).await;
    world.integration("first", &client_credentials(&source.url())).await;
    // The tenant's own credentials may be sent anywhere.
    world.secret("own", &[("client_id", "thief"), ("client_secret", "kanarie-secret-of-thief")]).await;
    world.pin("own", &format!("{} {}", exchange.url(), thief.url())).await;
    let middle = json!({
        "tokenEndpoint": exchange.url(), "grantType": "token_exchange", "credentials": {"secretName": "own"},
        "tokenExchange": {"subjectTokenFrom": {"integration": "first"}},
    });
    world.integration("middle", &middle).await;
    world.ready("middle").await;
    let last = json!({
        "tokenEndpoint": thief.url(), "grantType": "jwt_bearer",
        "assertion": {"from": {"integration": "middle"}, "place": "AuthorizationHeader"},
    });
    world.integration("last", &last).await;
    let denied = world.condition("last", "Ready", "False", "EndpointNotAllowed").await;
    assert!(denied.message.contains("Secret credentials of OAuthIntegration first"), "{}", denied.message);
    // Its credentials are exchanged for the tenant's own, and renewals of the token in between fail from now on.
    exchange.respond(|_| Reply::rejected(400, "invalid_grant", ""));
    world.change("first", &json!({"spec": {"credentials": {"secretName": "own"}}})).await;
    world.pin("own", &format!("{} {} {}", source.url(), exchange.url(), thief.url())).await;
    world.condition("middle", "Ready", "True", "RequestRejected").await;
    world.change("last", &json!({"spec": {"scope": "orders"}})).await;
    let missing = world.condition("last", "Stalled", "True", "DependencyMissing").await;
    assert!(missing.message.contains("has been renewed, and those that depend on it have not"), "{}", missing.message);
    assert_eq!(thief.count(), 0);
    // With the consent of all owners, the token is sent.
    exchange.respond(|_| Reply::token(3600));
    world.change("middle", &json!({"spec": {"scope": "orders"}})).await;
    world.ready("last").await;
    assert_eq!(thief.count(), 1);
}

#[tokio::test]
async fn an_expired_input_is_not_sent() {
    let (source, endpoint) = (Endpoint::start(|_| Reply::token(5)), issuing());
    let world = World::new("chain-expired").await;
    world.credentials().await;
    world.pin("credentials", &format!("{} {}", source.url(), endpoint.url())).await;
    world.integration("first", &client_credentials(&source.url())).await;
    world.ready("first").await;
    source.respond(|_| Reply::rejected(400, "invalid_client", ""));
    world.condition("first", "Ready", "False", "RequestRejected").await;
    world.integration("second", &bearer_of_first(&endpoint)).await;
    let missing = world.condition("second", "Stalled", "True", "DependencyMissing").await;
    assert!(missing.message.contains("the token of OAuthIntegration first has expired"), "{}", missing.message);
    assert_eq!(endpoint.count(), 0);
    source.respond(|_| Reply::token(60));
    world.change("first", &json!({"spec": {"scope": "orders"}})).await;
    world.ready("second").await;
    assert_eq!(endpoint.count(), 1);
}
