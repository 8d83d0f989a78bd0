//! Tokens of a target are sent only to the server that issued them.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use test_support::endpoint::{Reply, RotatingTokenServer};
use test_support::world::{SHORT_TIMEOUT, World, client_credentials, rotating};
use test_support::{Endpoint, eventually};

use super::{COLLECTED, spec, without_credentials};

/// A server that issues and revokes tokens; it accepts all requests, so that it also serves as the attacker's server.
fn honest() -> Endpoint {
    Endpoint::start(|request| match request.path.as_str() {
        "/revoke" => Reply::text(200, ""),
        _ => {
            let number = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_nanos();
            Reply::json(
                200,
                &json!({"access_token": format!("kanarie-at-{number}"), "refresh_token": format!("kanarie-rt-{number}"),
                        "expires_in": 3600}),
            )
        }
    })
}

/// Everything that a server received.
fn received(endpoint: &Endpoint) -> String {
    endpoint.requests().into_iter().map(|request| request.body + &format!("{:?}", request.headers)).collect()
}

fn renew_now() -> Value {
    let now = format!("{:?}", std::time::Instant::now());
    json!({"oauth.evolutionx.io/renew-requested-at": now})
}

/// Without a policy and without pins, the author of an integration can have credentials sent anywhere, but never tokens
/// that are already stored.
#[tokio::test]
async fn valid_tokens_are_sent_only_to_their_issuer() {
    let (server, evil) = (honest(), honest());
    let world = World::new("valid-tokens").await;
    world.credentials().await;
    let revoke = |endpoint: &Endpoint| json!({"endpoint": format!("http://{}/revoke", endpoint.address()), "afterRenewal": "1s"});

    // The revocation endpoint of an integration without credentials.
    world.integration("anonymous", &without_credentials(&server.url())).await;
    world.ready("anonymous").await;
    let rejected = world
        .integrations()
        .patch("anonymous", &PatchParams::default(), &Patch::Merge(&json!({"spec": {"revocation": revoke(&evil)}})))
        .await;
    let why = rejected.expect_err("another origin").to_string();
    assert!(why.contains("revocation.endpoint must have the origin"), "{why}");

    // The same with credentials without allowed endpoints.
    world.integration("revoking", &client_credentials(&server.url())).await;
    world.ready("revoking").await;
    let old = world.value("revoking", "access_token").await;
    world
        .change("revoking", &json!({"metadata": {"annotations": renew_now()}, "spec": {"revocation": revoke(&evil)}}))
        .await;
    world.wait_for_change("revoking", "access_token", &old).await;
    eventually("the rejection is logged", SHORT_TIMEOUT, async || {
        let logs = world.operator.logs();
        if logs.contains("the superseded token is not revoked: the origin of spec.revocation.endpoint differs") {
            Ok(())
        } else {
            Err(logs)
        }
    })
    .await;
    assert_eq!(evil.count(), 0, "{}", received(&evil));

    // The proxy on the way to an endpoint without TLS.
    let mut spec = client_credentials(&server.url());
    spec["revocation"] = revoke(&server);
    world.integration("proxied", &spec).await;
    world.ready("proxied").await;
    let old = world.value("proxied", "access_token").await;
    let proxy = json!({"proxy": format!("http://{}", evil.address())});
    world.change("proxied", &json!({"metadata": {"annotations": renew_now()}, "spec": {"connection": proxy}})).await;
    let new = world.wait_for_change("proxied", "access_token", &old).await;
    // A token obtained through the proxy is revoked through the proxy: once that has happened, the delay of the
    // previous token has long passed.
    world.change("proxied", &json!({"metadata": {"annotations": renew_now()}})).await;
    eventually("the next one is revoked", SHORT_TIMEOUT, async || {
        if received(&evil).contains(&new) { Ok(()) } else { Err(received(&evil)) }
    })
    .await;
    assert!(!received(&evil).contains(&old), "a valid token was sent through another proxy");

    // The endpoint of the refresh.
    let thief = honest();
    world.integration("refreshing", &client_credentials(&server.url())).await;
    world.ready("refreshing").await;
    let (old, stored) =
        (world.value("refreshing", "access_token").await, world.value("refreshing", "refresh_token").await);
    assert!(stored.starts_with("kanarie-rt-"), "{stored}");
    let renewal = json!({"strategy": "refresh_token", "refresh": {"tokenEndpoint": thief.url()}});
    world.change("refreshing", &json!({"metadata": {"annotations": renew_now()}, "spec": {"renewal": renewal}})).await;
    world.wait_for_change("refreshing", "access_token", &old).await;
    assert!(!received(&thief).contains(&stored), "a stored refresh token was sent elsewhere");
}

/// Tokens that are revoked on deletion are bound to their issuer too.
#[tokio::test]
async fn a_deletion_sends_valid_tokens_only_to_their_issuer() {
    let (server, evil) = (honest(), honest());
    let world = World::new("deleted-elsewhere").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&server.url())).await;
    world.ready("it").await;
    let at_evil = json!({"endpoint": format!("http://{}/revoke", evil.address()), "onDeletion": true});
    world.change("it", &json!({"spec": {"revocation": at_evil.clone()}})).await;
    eventually("the deletion waits for the operator", SHORT_TIMEOUT, async || {
        let finalizers = world.get("it").await.finalizers().to_vec();
        if finalizers.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    world.delete("it").await;
    let event = world.event("it", "RevocationFailed").await;
    assert!(
        event.note.as_deref().is_some_and(|note| note.contains("differs from that of the token endpoint")),
        "{event:?}"
    );
    assert_eq!(evil.count(), 0, "{}", received(&evil));
    // The owner of the credentials can allow it.
    world.pin("credentials", &format!("http://{} http://{}", server.address(), evil.address())).await;
    let mut allowed = client_credentials(&server.url());
    allowed["revocation"] = at_evil;
    world.integration("allowed", &allowed).await;
    world.ready("allowed").await;
    world.delete("allowed").await;
    world.event("allowed", "Revoked").await;
    assert!(evil.count() > 0, "an allowed revocation is sent");
}

/// A harmless change does not break a chain of refresh tokens, and a refresh token is never sent to an endpoint that
/// did not issue it.
#[tokio::test]
async fn a_chain_of_refresh_tokens_stays_at_its_issuer_and_is_not_lost() {
    let server = RotatingTokenServer::new(3600);
    let first = server.first();
    let at = |server: &std::sync::Arc<RotatingTokenServer>| {
        let responding = std::sync::Arc::clone(server);
        Endpoint::start(move |request| responding.reply(request))
    };
    let (home, moved, thief) = (at(&server), at(&server), Endpoint::start(|_| Reply::token(60)));
    let world = World::new("chain").await;
    world.secret("owner", &[("client_id", "c"), ("client_secret", "kanarie-secret"), ("refresh_token", &first)]).await;
    world.integration("it", &rotating(&home.url(), "owner")).await;
    world.ready("it").await;
    let elsewhere = [
        json!({"tokenEndpoint": thief.url()}),
        json!({"tokenEndpoint": home.url(), "connection": {"proxy": format!("http://{}", thief.address())}, "scope": "x"}),
    ];
    for change in elsewhere {
        let stored = world.value("it", "refresh_token").await;
        world.change("it", &json!({"spec": change})).await;
        let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
        assert!(stalled.message.contains("is not sent anywhere else"), "{}", stalled.message);
        assert_eq!(thief.count(), 0, "{}", received(&thief));
        assert_eq!(world.value("it", "refresh_token").await, stored, "it is kept");
        world.change("it", &json!({"spec": {"tokenEndpoint": home.url(), "connection": null, "scope": null}})).await;
        world.ready("it").await;
    }
    // Another path at the same server, other scopes, and another revocation endpoint are harmless.
    let token = world.value("it", "access_token").await;
    let revocation = json!({"endpoint": format!("http://{}/revoke", home.address()), "onDeletion": true});
    let harmless = json!({"tokenEndpoint": format!("http://{}/v2/token", home.address()), "scope": "more", "revocation": revocation});
    world.change("it", &json!({"spec": harmless})).await;
    world.wait_for_change("it", "access_token", &token).await;
    // The server moves, and the owner of the credentials allows the new one.
    let token = world.value("it", "access_token").await;
    world.change("it", &json!({"spec": {"tokenEndpoint": moved.url()}})).await;
    world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    world.pin("owner", &moved.url()).await;
    world.wait_for_change("it", "access_token", &token).await;
    world.ready("it").await;
    assert!(server.reused().is_empty(), "no refresh token was sent twice");
    assert!(server.is_current(&world.value("it", "refresh_token").await));
    assert_eq!(thief.count(), 0);
}

/// Waits until the garbage collector, which discovers new kinds of owners late, has deleted the dependents of an
/// integration.
async fn collected(world: &World, name: &str) {
    eventually(&format!("Secret {name} is deleted"), COLLECTED, async || match world.values(name).await {
        None => Ok(()),
        Some(_) => Err("it still exists".to_owned()),
    })
    .await;
}

#[tokio::test]
async fn a_retained_secret_is_taken_over_only_with_the_same_credentials_or_its_owners_consent() {
    let (server, evil) = (honest(), honest());
    let world = World::new("retained-by").await;
    world.credentials().await;
    world.secret("mallorys", &[("client_id", "m"), ("client_secret", "kanarie-mallory")]).await;
    world.integration("it", &spec(&server.url(), &json!({"deletionPolicy": "Retain"}))).await;
    world.ready("it").await;
    let kept = world.secrets().get("it").await.expect("the target");
    world.delete("it").await;

    let mut with_others = client_credentials(&evil.url());
    with_others["credentials"] = json!({"secretName": "mallorys"});
    for attempt in [without_credentials(&evil.url()), without_credentials(&server.url()), with_others.clone()] {
        world.integration("it", &attempt).await;
        let stalled = world.condition("it", "Stalled", "True", "TargetConflict").await;
        assert!(stalled.message.contains("adopt-by"), "{}", stalled.message);
        world.delete("it").await;
    }
    let secret = world.secrets().get("it").await.expect("it is kept");
    assert_eq!((secret.uid(), secret.data.clone()), (kept.uid(), kept.data.clone()));

    // With the same credentials it is taken over, but it is not deleted with the new integration.
    world.integration("it", &client_credentials(&server.url())).await;
    world.ready("it").await;
    let secret = world.secrets().get("it").await.expect("the target");
    assert_eq!((secret.uid(), secret.data.clone()), (kept.uid(), kept.data.clone()), "with its token");
    assert!(secret.owner_references().is_empty());
    world.change("it", &json!({"spec": {"target": {"secretName": "other"}}})).await;
    eventually("the other target exists", SHORT_TIMEOUT, async || {
        world.values("other").await.map(|_| ()).ok_or_else(String::new)
    })
    .await;
    world.integration("control", &client_credentials(&server.url())).await;
    world.ready("control").await;
    world.delete("it").await;
    world.delete("control").await;
    collected(&world, "control").await;
    assert_eq!(world.secrets().get("it").await.expect("it is kept").uid(), kept.uid());

    // The owner hands it over, even to other credentials; then the integration owns it like any other target.
    world.integration("it", &with_others).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    let adopt = json!({"metadata": {"annotations": {"oauth.evolutionx.io/adopt-by": "it"}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&adopt)).await.expect("the annotation is set");
    world.ready("it").await;
    let secret = world.secrets().get("it").await.expect("the target");
    assert_eq!((secret.uid(), secret.owner_references().len()), (kept.uid(), 1));
    world.delete("it").await;
    collected(&world, "it").await;
}
