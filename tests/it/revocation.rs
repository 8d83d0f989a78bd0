//! Guarantee: tokens that are no longer used are revoked or retained as configured, and a deletion is delayed only for
//! a bounded time.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use test_support::api_front::{ApiFault, ApiServerProxy};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::{OPERATOR, install_permissions_in};
use test_support::world::{SHORT_TIMEOUT, client_credentials, uid};
use test_support::{ControlPlane, Operator, World, eventually};

/// An endpoint that issues tokens, with a given response to revocations.
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

/// Waits until a Secret has been deleted with its integration.
async fn wait_until_deleted(world: &World, name: &str) {
    // The garbage collector discovers new kinds of owners every 30 s.
    eventually(&format!("Secret {name} is deleted"), Duration::from_secs(60), async || {
        match world.values(name).await {
            None => Ok(()),
            Some(_) => Err("it still exists".to_owned()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_deletion_is_delayed_for_a_bounded_time_only() {
    let silent = endpoint(Reply::NoResponse);
    let refusing = endpoint(Reply::rejected(503, "temporarily_unavailable", "later"));
    let world = World::new("delayed-deletion").await;
    world.credentials().await;
    let mut spec = revoking(&silent, json!({"onDeletion": true}));
    spec["request"] = json!({"timeout": "60s"});
    world.integration("silent", &spec).await;
    world.integration("refusing", &revoking(&refusing, json!({"onDeletion": true}))).await;
    world.ready("silent").await;
    world.ready("refusing").await;
    world.delete("refusing").await;
    assert!(refusing.requests().iter().any(|request| request.path == "/revoke"), "a revocation was attempted");
    let event = world.event("refusing", "RevocationFailed").await;
    assert!(event.note.as_deref().is_some_and(|note| note.contains("temporarily_unavailable")), "{event:?}");
    let begun = Instant::now();
    world.delete("silent").await;
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "the deletion took {:?}, instead of about 20 s",
        begun.elapsed()
    );
    world.event("silent", "RevocationFailed").await;
}

#[tokio::test]
async fn a_deletion_continues_without_credentials_or_with_an_invalid_spec() {
    let endpoint = endpoint(Reply::json(200, &json!({})));
    let world = World::new("deletion-continues").await;
    world.credentials().await;
    let spec = revoking(&endpoint, json!({"onDeletion": true}));
    for name in ["no-credentials", "bad-spec", "suspended", "no-finalizer"] {
        world.integration(name, &spec).await;
        world.ready(name).await;
        assert_eq!(world.get(name).await.finalizers(), ["oauth.evolutionx.io/revocation"], "{name}");
    }
    // After the revocation is removed from the spec, a deletion does not wait for the operator.
    world.change("no-finalizer", &json!({"spec": {"revocation": null}})).await;
    eventually("the finalizer is removed", SHORT_TIMEOUT, async || {
        let finalizers = world.get("no-finalizer").await.finalizers().to_vec();
        if finalizers.is_empty() { Ok(()) } else { Err(format!("{finalizers:?}")) }
    })
    .await;
    world.change("suspended", &json!({"spec": {"suspend": true}})).await;
    world.condition("suspended", "Ready", "True", "Suspended").await;
    world.change("bad-spec", &json!({"spec": {"response": {"accessToken": "data."}}})).await;
    world.condition("bad-spec", "Stalled", "True", "InvalidSpec").await;
    world.delete_secret("credentials").await;
    for name in ["no-credentials", "bad-spec", "suspended", "no-finalizer"] {
        world.delete(name).await;
    }
    assert!(endpoint.requests().iter().all(|request| request.path != "/revoke"), "nothing could be revoked");
    for name in ["no-credentials", "bad-spec", "suspended"] {
        world.event(name, "RevocationFailed").await;
    }
}

#[tokio::test]
async fn revocations_conform_to_rfc_7009() {
    let endpoint = Endpoint::start(|request| match request.path.as_str() {
        "/token" => {
            Reply::json(200, &json!({"access_token": "kanarie-at", "refresh_token": "kanarie-rt", "expires_in": 3600}))
        }
        _ => Reply::text(200, ""),
    });
    let world = World::new("rfc-7009").await;
    world.credentials().await;
    let mut spec = revoking(&endpoint, json!({"onDeletion": true}));
    spec["clientAuthentication"] = json!({"method": "client_secret_basic"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.delete("it").await;
    let sent: Vec<_> = endpoint.requests().into_iter().filter(|request| request.path == "/revoke").collect();
    let bodies: Vec<&str> = sent.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(
        bodies,
        ["token=kanarie-rt&token_type_hint=refresh_token", "token=kanarie-at&token_type_hint=access_token"]
    );
    assert!(sent.iter().all(|request| request.headers["authorization"].starts_with("Basic ")));
    wait_until_deleted(&world, "it").await;
}

#[tokio::test]
async fn a_retained_secret_outlives_its_integration_and_is_taken_over() {
    let endpoint = endpoint(Reply::Close);
    let world = World::new("retained").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"deletionPolicy": "Retain"});
    let first = world.integration("it", &spec).await;
    world.ready("it").await;
    let secret = world.secrets().get("it").await.expect("the target");
    assert!(secret.owner_references().is_empty());
    let retained_for = format!("{}/it/it", world.namespace);
    assert_eq!(secret.annotations()["oauth.evolutionx.io/retained-for"], retained_for);
    world.delete("it").await;
    let another = json!({"tokenEndpoint": endpoint.url(), "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"}, "target": {"secretName": "it"}});
    // An integration with another name cannot take it over.
    world.integration("another", &another).await;
    world.condition("another", "Stalled", "True", "TargetConflict").await;
    world.integrations().delete("another", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(uid(&world.secrets().get("it").await.expect("it is kept")), uid(&secret));
    // An integration with the same name continues with it: its token is still valid.
    let requests = endpoint.count();
    let second = world.integration("it", &spec).await;
    assert_ne!(uid(&first), uid(&second));
    world.ready("it").await;
    let taken = world.secrets().get("it").await.expect("the target");
    assert_eq!((uid(&taken), taken.data), (uid(&secret), secret.data));
    assert_eq!(taken.metadata.labels.expect("labels")["oauth.evolutionx.io/integration-uid"], uid(&second));
    assert_eq!(endpoint.count(), requests, "no token was requested");
    // The second integration does not own it: only the owner of the Secret can hand it over.
    world.change("it", &json!({"spec": {"target": {"deletionPolicy": "Delete"}}})).await;
    world.ready("it").await;
    assert!(world.secrets().get("it").await.expect("the target").owner_references().is_empty());
    let adopt = json!({"metadata": {"annotations": {"oauth.evolutionx.io/adopt-by": "it"}}});
    let params = kube::api::PatchParams::default();
    world.secrets().patch("it", &params, &kube::api::Patch::Merge(&adopt)).await.expect("the annotation is set");
    // Once handed over, the policy applies: the Secret gets its owner, and is deleted with it.
    eventually("the Secret has an owner", SHORT_TIMEOUT, async || {
        let secret = world.secrets().get("it").await.expect("the target");
        let retained = secret.annotations().contains_key("oauth.evolutionx.io/retained-for");
        if secret.owner_references().len() == 1 && !retained { Ok(()) } else { Err(format!("{:?}", secret.metadata)) }
    })
    .await;
    world.delete("it").await;
    wait_until_deleted(&world, "it").await;
}

#[tokio::test]
async fn an_owned_secret_becomes_a_retained_one() {
    let endpoint = endpoint(Reply::Close);
    let world = World::new("becomes-retained").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"target": {"deletionPolicy": "Retain"}}})).await;
    eventually("the Secret no longer has an owner", SHORT_TIMEOUT, async || {
        let secret = world.secrets().get("it").await.expect("the target");
        if secret.owner_references().is_empty() { Ok(()) } else { Err(format!("{:?}", secret.metadata)) }
    })
    .await;
    world.integration("owned", &client_credentials(&endpoint.url())).await;
    world.ready("owned").await;
    world.delete("it").await;
    world.delete("owned").await;
    // When the garbage collector has deleted the second Secret, it has already processed the first one.
    wait_until_deleted(&world, "owned").await;
    assert!(world.values("it").await.is_some(), "it is kept");
    assert_eq!(endpoint.count(), 2, "no other token was requested in the meantime");
}

/// The tokens that were revoked at an endpoint.
fn revoked(endpoint: &Endpoint) -> Vec<String> {
    let sent = endpoint.requests().into_iter().filter(|request| request.path == "/revoke");
    sent.map(|request| request.form().remove("token").unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_token_that_workloads_still_use_is_not_revoked() {
    let endpoint = endpoint(Reply::text(200, ""));
    let world = World::new("still-used").await;
    world.credentials().await;
    world.integration("it", &revoking(&endpoint, json!({"afterRenewal": "1s"}))).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    // From now on, the Secret cannot be written, and the response stays pending.
    let immutable = json!({"immutable": true});
    let params = kube::api::PatchParams::default();
    world.secrets().patch("it", &params, &kube::api::Patch::Merge(&immutable)).await.expect("a patch");
    world.request_renewal("it", "now").await;
    world.condition("it", "Ready", "True", "TargetWriteFailed").await;
    let second_attempt = world.get("it").await.status.expect("a status").last_failure.expect("a failure").attempts;
    eventually("the write was retried", Duration::from_secs(30), async || {
        let attempts =
            world.get("it").await.status.and_then(|status| status.last_failure).map_or(0, |last| last.attempts);
        if attempts > second_attempt { Ok(()) } else { Err(attempts.to_string()) }
    })
    .await;
    // More time than `afterRenewal` has passed between two attempts, and the old token is the one in the Secret.
    assert_eq!(world.value("it", "access_token").await, first);
    assert!(revoked(&endpoint).is_empty(), "{:?}", revoked(&endpoint));
}

#[tokio::test]
async fn tokens_of_another_spec_are_not_revoked() {
    let (first, second) = (endpoint(Reply::text(200, "")), endpoint(Reply::text(200, "")));
    let world = World::new("another-spec").await;
    world.credentials().await;
    let more = json!({"afterRenewal": "1s", "onDeletion": true});
    world.integration("it", &revoking(&first, more.clone())).await;
    world.ready("it").await;
    let old = world.value("it", "access_token").await;
    world.change("it", &json!({"spec": revoking(&second, more.clone())})).await;
    let new = world.wait_for_change("it", "access_token", &old).await;
    world.ready("it").await;
    // Moved to an endpoint that does not issue tokens, and deleted.
    let nowhere = Endpoint::start(|_| Reply::rejected(401, "invalid_client", "no"));
    world.change("it", &json!({"spec": revoking(&nowhere, more)})).await;
    world.condition("it", "Ready", "False", "RequestRejected").await;
    world.delete("it").await;
    let event = world.event("it", "RevocationFailed").await;
    assert!(event.note.as_deref().is_some_and(|note| note.contains("issued for another spec")), "{event:?}");
    for endpoint in [&first, &second, &nowhere] {
        let revoked = revoked(endpoint);
        assert!(!revoked.contains(&old) && !revoked.contains(&new), "{revoked:?}");
    }
}

#[tokio::test]
async fn without_tokens_to_revoke_nothing_is_reported() {
    let endpoint = endpoint(Reply::text(200, ""));
    let world = World::new("no-tokens").await;
    let spec = revoking(&endpoint, json!({"onDeletion": true}));
    // Without credentials there has never been a token.
    world.integration("it", &spec).await;
    world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    world.credentials().await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"suspend": true}})).await;
    world.condition("it", "Ready", "True", "Suspended").await;
    world.delete_secret("it").await;
    world.change("it", &json!({"spec": {"suspend": false, "grantType": "refresh_token"}})).await;
    world.delete("it").await;
    assert!(revoked(&endpoint).is_empty());
    assert!(!world.events("it").await.iter().any(|event| event.reason.as_deref() == Some("Revoked")));
}

/// The time after which a deletion does not wait for an object that cannot be read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_deletion_does_not_wait_forever_for_credentials_that_cannot_be_read() {
    let endpoint = endpoint(Reply::text(200, ""));
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("unreadable").await;
    install_permissions_in(control_plane, &namespace);
    let api_server = ApiServerProxy::start(&control_plane.url(), &control_plane.certificate());
    let url = format!("http://{}", api_server.address());
    let kubeconfig = control_plane.kubeconfig_at(&namespace, OPERATOR, &url).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
    world.credentials().await;
    world.integration("it", &revoking(&endpoint, json!({"onDeletion": true}))).await;
    world.ready("it").await;
    api_server.set(ApiFault::SecretsUnreadable);
    let begun = Instant::now();
    world.delete("it").await;
    assert!(begun.elapsed() >= READ_TIMEOUT - Duration::from_secs(1), "it did not wait: {:?}", begun.elapsed());
    let event = world.event("it", "RevocationFailed").await;
    assert!(event.note.as_deref().is_some_and(|note| note.contains("failed to read")), "{event:?}");
    assert!(endpoint.requests().iter().all(|request| request.path != "/revoke"), "nothing could be revoked");
}

/// The maximum number of deletions of one namespace at a time.
const DELETIONS_AT_ONCE: usize = 8;

#[tokio::test]
async fn deletions_that_wait_for_others_for_a_minute_continue_without_revocation() {
    let silent = endpoint(Reply::NoResponse);
    let world = World::new("many-deletions").await;
    world.credentials().await;
    let mut spec = revoking(&silent, json!({"onDeletion": true}));
    spec["request"] = json!({"timeout": "60s"});
    // Each revocation is aborted after 20 s, so the fifth round of eight would begin after more than a minute.
    let names: Vec<String> = (0..5 * DELETIONS_AT_ONCE).map(|number| format!("it-{number}")).collect();
    for name in &names {
        world.integration(name, &spec).await;
    }
    for name in &names {
        world.ready(name).await;
    }
    for name in &names {
        world.integrations().delete(name, &DeleteParams::default()).await.expect("a deletion");
    }
    eventually("all integrations are deleted", Duration::from_secs(120), async || {
        match world.integrations().list_metadata(&ListParams::default()).await.map(|list| list.items.len()) {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?} are left")),
        }
    })
    .await;
    let revocations = silent.requests().iter().filter(|request| request.path == "/revoke").count();
    assert!(revocations >= DELETIONS_AT_ONCE, "{revocations} revocations were tried");
    assert!(revocations < names.len(), "all were tried, and none was skipped");
    let mut skipped = 0;
    for name in &names {
        let event = world.event(name, "RevocationFailed").await;
        skipped +=
            usize::from(event.note.is_some_and(|note| note.contains("too many integrations are deleted at once")));
    }
    assert_eq!(skipped, names.len() - revocations, "each was either tried or skipped");
}
