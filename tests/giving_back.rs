//! The promise: what is not needed any more is given back or kept as the spec says, and a deletion is never held up for long.

mod common;

use std::time::{Duration, Instant};

use common::endpoint::{Endpoint, Reply};
use common::world::{SOON, client_credentials, uid};
use common::{World, eventually};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// An endpoint that gives tokens, and answers what is given back as is said.
fn endpoint(revocation: Reply) -> Endpoint {
    Endpoint::start(move |request| match request.path.as_str() {
        "/token" => Reply::token(3600),
        _ => revocation.clone(),
    })
}

fn revoking(endpoint: &Endpoint, more: Value) -> Value {
    let mut spec = client_credentials(&endpoint.url());
    spec["revocation"] = more;
    spec["revocation"]["endpoint"] = json!(format!("http://{}/revoke", endpoint.address()));
    spec
}

/// Waits until a Secret has gone along with its integration.
async fn gone(world: &World, name: &str) {
    eventually(&format!("Secret {name} goes along"), SOON, async || match world.values(name).await {
        None => Ok(()),
        Some(_) => Err("it is there".to_owned()),
    })
    .await;
}

#[tokio::test]
async fn a_deletion_is_held_up_for_a_bounded_time_only() {
    let silent = endpoint(Reply::Never);
    let refusing = endpoint(Reply::refused(503, "temporarily_unavailable", "later"));
    let world = World::new("held-up").await;
    world.credentials().await;
    let mut spec = revoking(&silent, json!({"onDeletion": true}));
    spec["request"] = json!({"timeout": "60s"});
    world.integration("silent", &spec).await;
    world.integration("refusing", &revoking(&refusing, json!({"onDeletion": true}))).await;
    world.ready("silent").await;
    world.ready("refusing").await;
    world.delete("refusing").await;
    assert!(refusing.requests().iter().any(|request| request.path == "/revoke"), "it was tried");
    let event = world.event("refusing", "RevocationFailed").await;
    assert!(event.note.as_deref().is_some_and(|note| note.contains("temporarily_unavailable")), "{event:?}");
    let begun = Instant::now();
    world.delete("silent").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "20 s and some: {:?}", begun.elapsed());
    world.event("silent", "RevocationFailed").await;
}

#[tokio::test]
async fn a_deletion_goes_on_without_credentials_or_with_a_spec_that_cannot_work() {
    let endpoint = endpoint(Reply::json(200, &json!({})));
    let world = World::new("goes-on").await;
    world.credentials().await;
    let spec = revoking(&endpoint, json!({"onDeletion": true}));
    for name in ["no-credentials", "bad-spec", "suspended", "unmarked"] {
        world.integration(name, &spec).await;
        world.ready(name).await;
        assert_eq!(world.get(name).await.finalizers(), ["oauth.evolutionx.io/revocation"], "{name}");
    }
    // Taken out of the spec, nothing waits for the operator any more.
    world.change("unmarked", &json!({"spec": {"revocation": null}})).await;
    eventually("the finalizer is gone", SOON, async || {
        let finalizers = world.get("unmarked").await.finalizers().to_vec();
        if finalizers.is_empty() { Ok(()) } else { Err(format!("{finalizers:?}")) }
    })
    .await;
    world.change("suspended", &json!({"spec": {"suspend": true}})).await;
    world.condition("suspended", "Ready", "True", "Suspended").await;
    world.change("bad-spec", &json!({"spec": {"response": {"accessToken": "data."}}})).await;
    world.condition("bad-spec", "Stalled", "True", "InvalidSpec").await;
    world.delete_secret("credentials").await;
    for name in ["no-credentials", "bad-spec", "suspended", "unmarked"] {
        world.delete(name).await;
    }
    assert!(endpoint.requests().iter().all(|request| request.path != "/revoke"), "nothing could be given back");
    for name in ["no-credentials", "bad-spec", "suspended"] {
        world.event(name, "RevocationFailed").await;
    }
}

#[tokio::test]
async fn what_is_given_back_is_sent_as_rfc_7009_says() {
    let endpoint = Endpoint::start(|request| match request.path.as_str() {
        "/token" => Reply::json(200, &json!({"access_token": "at", "refresh_token": "rt", "expires_in": 3600})),
        _ => Reply::text(200, ""),
    });
    let world = World::new("rfc-7009").await;
    world.credentials().await;
    let mut spec = revoking(&endpoint, json!({"onDeletion": true}));
    spec["request"] = json!({"format": "form"});
    spec["clientAuthentication"] = json!({"method": "client_secret_basic"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.delete("it").await;
    let sent: Vec<_> = endpoint.requests().into_iter().filter(|request| request.path == "/revoke").collect();
    let bodies: Vec<&str> = sent.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(bodies, ["token=rt&token_type_hint=refresh_token", "token=at&token_type_hint=access_token"]);
    assert!(sent.iter().all(|request| request.headers["authorization"].starts_with("Basic ")));
    gone(&world, "it").await;
}

#[tokio::test]
async fn a_secret_that_is_retained_outlives_its_integration_and_is_taken_over() {
    let endpoint = endpoint(Reply::Close);
    let world = World::new("retained").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"deletionPolicy": "Retain"});
    let first = world.integration("it", &spec).await;
    world.ready("it").await;
    let secret = world.secrets().get("it").await.expect("the target");
    assert!(secret.owner_references().is_empty());
    assert_eq!(secret.annotations()["oauth.evolutionx.io/retained-for"], "it");
    world.delete("it").await;
    let another = json!({"tokenEndpoint": endpoint.url(), "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"}, "target": {"secretName": "it"}});
    // One of another name has no right to it.
    world.integration("another", &another).await;
    world.condition("another", "Stalled", "True", "TargetConflict").await;
    world.integrations().delete("another", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(uid(&world.secrets().get("it").await.expect("it stays")), uid(&secret));
    // One of the same name goes on with it: its token is as good as it was.
    let requests = endpoint.count();
    let second = world.integration("it", &spec).await;
    assert_ne!(uid(&first), uid(&second));
    world.ready("it").await;
    let taken = world.secrets().get("it").await.expect("the target");
    assert_eq!((uid(&taken), taken.data), (uid(&secret), secret.data));
    assert_eq!(taken.metadata.labels.expect("labels")["oauth.evolutionx.io/integration-uid"], uid(&second));
    assert_eq!(endpoint.count(), requests, "no token was asked for");
    // Changed, the policy is followed: the Secret gets its owner, and goes along.
    world.change("it", &json!({"spec": {"target": {"deletionPolicy": "Delete"}}})).await;
    eventually("the Secret has an owner", SOON, async || {
        let secret = world.secrets().get("it").await.expect("the target");
        let retained = secret.annotations().contains_key("oauth.evolutionx.io/retained-for");
        if secret.owner_references().len() == 1 && !retained { Ok(()) } else { Err(format!("{:?}", secret.metadata)) }
    })
    .await;
    world.delete("it").await;
    gone(&world, "it").await;
}

#[tokio::test]
async fn an_owned_secret_becomes_a_retained_one() {
    let endpoint = endpoint(Reply::Close);
    let world = World::new("becomes-retained").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"target": {"deletionPolicy": "Retain"}}})).await;
    eventually("the Secret has no owner any more", SOON, async || {
        let secret = world.secrets().get("it").await.expect("the target");
        if secret.owner_references().is_empty() { Ok(()) } else { Err(format!("{:?}", secret.metadata)) }
    })
    .await;
    world.integration("owned", &client_credentials(&endpoint.url())).await;
    world.ready("owned").await;
    world.delete("it").await;
    world.delete("owned").await;
    // Once the garbage collector has taken what went last, it has looked at what went first.
    gone(&world, "owned").await;
    assert!(world.values("it").await.is_some(), "it stays");
    assert_eq!(endpoint.count(), 2, "and no other token was asked for on the way");
}
