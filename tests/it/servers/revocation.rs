//! The tokens of a deleted integration are revoked. Those of Keycloak are in [`crate::authentication`].

use serde_json::json;
use test_support::World;
use test_support::django::Django;
use test_support::hydra::Hydra;
use test_support::oidc_provider::{OidcProvider, secret};
use test_support::zitadel::{self, Zitadel};

use super::{Case, case, create, server, target};

/// Creates the integration, waits for its token, deletes it, and returns the token, which must be active until then.
async fn deleted(world: &World, case: &Case, is_active: impl Fn(&str) -> bool) -> String {
    create(world, case).await;
    world.ready(case.name).await;
    let token = world.value(&target(case.name), "access_token").await;
    assert!(is_active(&token), "the token is active");
    world.delete(case.name).await;
    world.event(case.name, "Revoked").await;
    token
}

#[tokio::test]
async fn hydra() {
    let (world, hydra) = (World::new("hydra-revocation").await, Hydra::shared());
    let credentials = [("client_id", "basic"), ("client_secret", "basic-secret")];
    let more = json!({
        "clientAuthentication": {"method": "client_secret_basic"}, "revocation": {"onDeletion": true},
    });
    let case = case("it", &server::hydra(), &credentials, more);
    let token = deleted(&world, &case, |token| hydra.is_active(token)).await;
    assert!(!hydra.is_active(&token), "the token is revoked");
}

#[tokio::test]
async fn oidc_provider() {
    let (world, provider) = (World::new("provider-revocation").await, OidcProvider::shared());
    let (server, secret) = (server::oidc_provider(&world).await, secret("plain"));
    let credentials = [("client_id", "plain"), ("client_secret", secret.as_str())];
    let more = json!({
        "clientAuthentication": {"method": "client_secret_basic"}, "revocation": {"onDeletion": true},
    });
    let token = deleted(&world, &case("it", &server, &credentials, more), |token| provider.is_active(token)).await;
    assert!(!provider.is_active(&token), "the token is revoked");
}

#[tokio::test]
async fn zitadel() {
    let (world, zitadel) = (World::new("zitadel-revocation").await, Zitadel::shared());
    let first = zitadel.log_in().refresh;
    let credentials = [("client_id", "web"), ("client_secret", zitadel::SECRET), ("refresh_token", &first)];
    let more = json!({
        "grantType": "refresh_token", "clientAuthentication": {"method": "client_secret_basic"},
        "revocation": {"onDeletion": true},
    });
    let case = case("it", &server::zitadel(), &credentials, more);
    let token = deleted(&world, &case, |token| zitadel.is_active(token)).await;
    assert!(!zitadel.is_active(&token), "the token is revoked");
}

#[tokio::test]
async fn django() {
    let (world, django) = (World::new("django-revocation").await, Django::start(3600));
    let first = django.first_refresh_token();
    let credentials = [("client_id", "rotating"), ("client_secret", "rotating-secret"), ("refresh_token", &first)];
    let more = json!({
        "grantType": "refresh_token",
        "revocation": {"onDeletion": true, "endpoint": django.revocation_endpoint(), "format": "json"},
    });
    let server = json!({"tokenEndpoint": django.token_endpoint()});
    let case = case("it", &server, &credentials, more);
    let token = deleted(&world, &case, |token| django.is_active(token)).await;
    assert!(!django.is_active(&token), "the token is revoked");
}
