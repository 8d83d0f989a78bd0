//! Ten renewals with refresh tokens that can be used once: none is lost or used twice. Those of Keycloak and Django OAuth
//! Toolkit are in [`crate::rotation`].

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_support::World;
use test_support::hydra::Hydra;
use test_support::oidc_provider::{OidcProvider, secret};
use test_support::zitadel::{self, Zitadel};

use super::{Case, case, create, server, target};

/// The number of renewals after the first token, each with a different refresh token.
const RENEWALS: usize = 10;

/// Creates the integration, and renews its token as often as [`RENEWALS`] says.
async fn rotate(world: &World, case: &Case) {
    create(world, case).await;
    world.ready(case.name).await;
    let first = case.credentials["refresh_token"].clone();
    let mut seen = BTreeSet::from([first.clone()]);
    let mut last = first;
    for number in 0..=RENEWALS {
        let known = if number == 0 { String::new() } else { last };
        last = world.wait_for_change(&target(case.name), "refresh_token", &known).await;
        assert!(seen.insert(last.clone()), "a refresh token was issued twice");
        // A lifetime of minutes is not waited for.
        let now = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": number.to_string()}}});
        world.change(case.name, &now).await;
    }
    let (all, succeeded) = world.operator.token_requests();
    assert!(succeeded >= 11.0, "one issue and ten renewals");
    assert_eq!(all, succeeded, "a request failed");
}

fn refresh(method: &str) -> Value {
    json!({"grantType": "refresh_token", "clientAuthentication": {"method": method}})
}

#[tokio::test]
async fn hydra() {
    let world = World::new("hydra-rotation").await;
    let first = Hydra::shared().first_refresh_token("rotating");
    let credentials = [("client_id", "rotating"), ("client_secret", "rotating-secret"), ("refresh_token", &first)];
    rotate(&world, &case("it", &server::hydra(), &credentials, refresh("client_secret_post"))).await;
}

#[tokio::test]
async fn zitadel() {
    let world = World::new("zitadel-rotation").await;
    let first = Zitadel::shared().log_in().refresh;
    let credentials = [("client_id", "web"), ("client_secret", zitadel::SECRET), ("refresh_token", &first)];
    rotate(&world, &case("it", &server::zitadel(), &credentials, refresh("client_secret_basic"))).await;
}

#[tokio::test]
async fn oidc_provider() {
    let world = World::new("provider-rotation").await;
    let server = server::oidc_provider(&world).await;
    let (first, secret) = (OidcProvider::shared().first_refresh_token(), secret("rotating"));
    let credentials = [("client_id", "rotating"), ("client_secret", &secret), ("refresh_token", &first)];
    rotate(&world, &case("it", &server, &credentials, refresh("client_secret_basic"))).await;
}
