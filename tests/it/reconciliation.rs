//! Guarantee: changes by users take effect at once, and changes by others to the target are reverted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, RotatingTokenServer};
use test_support::world::{SHORT_TIMEOUT, client_credentials, condition, uid};
use test_support::{World, eventually};

async fn world_with(name: &str, lifetime: u64) -> (World, Endpoint) {
    let endpoint = Endpoint::start(move |_| Reply::token(lifetime));
    let allowed = ["--allow-target-type=example.com/token", "--allow-target-metadata=team,old,new,newer,example.com/*"];
    let world = World::with(name, &allowed).await;
    world.credentials().await;
    (world, endpoint)
}

#[tokio::test]
async fn the_secret_has_an_owner_labels_and_annotations() {
    let (world, endpoint) = world_with("shape", 3600).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["scope"] = json!("order customer");
    spec["target"] = json!({
        "secretName": "tokens",
        "type": "example.com/token",
        "labels": {"team": "erp"},
        "annotations": {"example.com/note": "kept"},
        "keys": {"accessToken": "at", "refreshToken": "rt", "tokenType": "type", "expiresAt": "ends", "scope": "scope"},
    });
    world.integration("it", &spec).await;
    let integration = world.ready("it").await;
    let secret = world.secrets().get("tokens").await.expect("the target");
    assert_eq!(secret.type_.as_deref(), Some("example.com/token"));
    assert_eq!(secret.labels()["team"], "erp");
    assert_eq!(secret.labels()["app.kubernetes.io/managed-by"], "oauth-operator");
    assert_eq!(secret.annotations()["example.com/note"], "kept");
    assert_eq!(secret.owner_references()[0].uid, uid(&integration));
    let values = world.values("tokens").await.expect("values");
    assert!(values["at"].starts_with("token-"));
    assert_eq!(values["type"], "Bearer");
    assert_eq!(values["scope"], "order customer");
    assert_eq!(values["ends"], secret.annotations()["oauth.evolutionx.io/expires-at"]);
    assert!(!values.contains_key("rt"), "the response had no refresh token");
    assert_eq!(integration.status.as_ref().and_then(|status| status.secret_name.as_deref()), Some("tokens"));
    world.event("it", "Issued").await;
    assert!(condition(&integration, "Reconciling").is_none() && condition(&integration, "Stalled").is_none());
}

#[tokio::test]
async fn labels_and_annotations_are_kept_added_and_removed_without_another_token() {
    let (world, endpoint) = world_with("labels", 3600).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"labels": {"team": "erp", "old": "yes"}, "annotations": {"example.com/note": "kept"}});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    // Another actor removes a label and changes an annotation.
    let patch = json!({"metadata": {"labels": {"team": null}, "annotations": {"example.com/note": "other"}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.label("it", "team", Some("erp")).await;
    eventually("the annotation", test_support::world::SHORT_TIMEOUT, async || {
        let secret = world.secrets().get("it").await.map_err(|error| error.to_string())?;
        match secret.annotations()["example.com/note"].as_str() {
            "kept" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    // The labels in the spec change.
    world.change("it", &json!({"spec": {"target": {"labels": {"old": null, "new": "yes"}}}})).await;
    world.label("it", "new", Some("yes")).await;
    world.label("it", "old", None).await;
    // A label that another actor has set is kept.
    let patch = json!({"metadata": {"labels": {"theirs": "yes"}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.change("it", &json!({"spec": {"target": {"labels": {"newer": "yes"}}}})).await;
    world.label("it", "newer", Some("yes")).await;
    world.label("it", "theirs", Some("yes")).await;
    assert_eq!(world.value("it", "access_token").await, token);
    assert_eq!(endpoint.count(), 1, "a change of labels needs no token");
}

#[tokio::test]
async fn a_deleted_target_is_recreated_and_a_changed_one_is_restored() {
    let (world, endpoint) = world_with("target", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.delete_secret("it").await;
    let second = world.wait_for_change("it", "access_token", &first).await;
    world.secret("it", &[("access_token", "kanarie-forged")]).await;
    let third = eventually("the forged token is replaced", test_support::world::SHORT_TIMEOUT, async || {
        let value = world.value("it", "access_token").await;
        if value == "kanarie-forged" || value == second { Err(value) } else { Ok(value) }
    })
    .await;
    assert!(third.starts_with("token-"));
    let patch = json!({"data": null});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("emptied");
    world.wait_for_change("it", "access_token", &third).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 4);
}

#[tokio::test]
async fn a_value_that_others_add_is_kept_and_does_not_cause_a_request() {
    let (world, endpoint) = world_with("added", 10).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.secret("it", &[("theirs", "kanarie-theirs")]).await;
    let token = world.value("it", "access_token").await;
    world.wait_for_change("it", "access_token", &token).await;
    assert_eq!(world.value("it", "theirs").await, "kanarie-theirs");
    assert_eq!(endpoint.count(), 2, "one issue, one renewal");
}

/// `kubectl delete --filename` deletes the objects in the order of the file.
#[tokio::test]
async fn a_deletion_of_the_credentials_and_then_of_the_integration_is_not_a_warning() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("deleted-together").await;
    for name in ["it", "kept"] {
        let credentials = format!("{name}-credentials");
        world.secret(&credentials, &[("client_id", "the-client"), ("client_secret", "the-client-secret")]).await;
        let mut spec = client_credentials(&endpoint.url());
        spec["credentials"]["secretName"] = json!(credentials);
        world.integration(name, &spec).await;
        world.ready(name).await;
    }
    tokio::join!(world.delete_secret("it-credentials"), world.delete("it"));
    // The credentials that are deleted last are reported, so all earlier deletions have been handled.
    world.delete_secret("kept-credentials").await;
    world.event("kept", "CredentialsMissing").await;
    let reasons: Vec<_> = world.events("it").await.into_iter().filter_map(|event| event.reason).collect();
    assert_eq!(reasons, ["Issued"]);
}

#[tokio::test]
async fn credentials_can_be_created_later_changed_and_deleted() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("credentials").await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(stalled.message.contains("credentials") && stalled.message.contains("create it"), "{}", stalled.message);
    world.condition("it", "Ready", "False", "CredentialsMissing").await;
    assert_eq!(endpoint.count(), 0, "nothing is sent without credentials");
    world.credentials().await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    // A change of a label is irrelevant.
    let patch = json!({"metadata": {"labels": {"touched": "yes"}}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", "kanarie-other-secret")]).await;
    let second = world.wait_for_change("it", "access_token", &first).await;
    assert_eq!(endpoint.count(), 2, "a label on the credentials causes no token request");
    assert_eq!(endpoint.requests()[1].parameter("client_secret"), "kanarie-other-secret");
    world.delete_secret("credentials").await;
    world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    let ready = world.condition("it", "Ready", "True", "CredentialsMissing").await;
    assert!(ready.message.contains("valid until"), "{}", ready.message);
    assert_eq!(world.value("it", "access_token").await, second, "the valid token is kept");
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", "kanarie-other-secret")]).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2, "the token belongs to these credentials");
}

#[tokio::test]
async fn a_changed_spec_gets_another_token() {
    let (world, endpoint) = world_with("spec", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.change("it", &json!({"spec": {"scope": "order"}})).await;
    world.wait_for_change("it", "access_token", &first).await;
    assert_eq!(endpoint.requests()[1].parameter("scope"), "order");
    world.ready("it").await;
    // A change that the token does not depend on causes no new token.
    world.change("it", &json!({"spec": {"request": {"timeout": "20s"}}})).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn suspend_stops_everything_and_resume_continues() {
    let (world, endpoint) = world_with("suspend", 10).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"suspend": true}})).await;
    let ready = world.condition("it", "Ready", "True", "Suspended").await;
    assert!(ready.message.contains("suspend"), "{}", ready.message);
    let requests_before = endpoint.count();
    world.condition("it", "Ready", "False", "Suspended").await;
    assert_eq!(endpoint.count(), requests_before, "nothing was requested while the token expired");
    world.change("it", &json!({"spec": {"suspend": false}})).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), requests_before + 1);
}

#[tokio::test]
async fn a_requested_renewal_is_executed_once() {
    let (world, endpoint) = world_with("request", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    for (value, expected) in [("2026-01-01T00:00:00Z", 2), ("again", 3)] {
        let token = world.value("it", "access_token").await;
        world.request_renewal("it", value).await;
        world.wait_for_change("it", "access_token", &token).await;
        world.ready("it").await;
        assert_eq!(endpoint.count(), expected);
    }
    world.event("it", "Renewed").await;
}

/// A namespace with the first refresh token of a server that rotates them.
async fn rotating_world(name: &str) -> (World, Endpoint, Arc<RotatingTokenServer>) {
    let server = RotatingTokenServer::new(3600);
    let (first, responding) = (server.first(), server.clone());
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    let world = World::new(name).await;
    let credentials =
        [("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", first.as_str())];
    world.secret("credentials", &credentials).await;
    (world, endpoint, server)
}

fn refresh_token_spec(endpoint: &Endpoint) -> Value {
    let mut spec = client_credentials(&endpoint.url());
    spec["grantType"] = json!("refresh_token");
    spec
}

#[tokio::test]
async fn a_changed_target_name_moves_the_refresh_token_and_deletes_the_old_secret() {
    let (world, endpoint, server) = rotating_world("rename").await;
    let mut spec = refresh_token_spec(&endpoint);
    spec["target"] = json!({"secretName": "before"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"target": {"secretName": "after"}}})).await;
    world.wait_for_change("after", "access_token", "").await;
    eventually("the old Secret is deleted", test_support::world::SHORT_TIMEOUT, async || {
        match world.values("before").await {
            None => Ok(()),
            Some(_) => Err("it still exists".to_owned()),
        }
    })
    .await;
    world.ready("it").await;
    assert_eq!(server.reused(), Vec::<String>::new(), "the refresh token of the old Secret was not used");
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn a_deleted_integration_deletes_its_secret() {
    let (world, endpoint) = world_with("deleted", 10).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let labels = format!("name=\"it\",namespace=\"{}\"", world.namespace);
    let known = || world.operator.metric("oauth_operator_integration_ready", &labels);
    eventually("it is ready in the metrics", SHORT_TIMEOUT, async || match known() {
        Some(1.0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    world.integrations().delete("it", &DeleteParams::default()).await.expect("a deletion");
    eventually("the Secret is deleted", Duration::from_secs(60), async || match world.values("it").await {
        None => Ok(()),
        Some(_) => Err("it still exists".to_owned()),
    })
    .await;
    assert_eq!(known(), None);
}

#[tokio::test]
async fn a_new_refresh_token_in_the_credentials_starts_a_new_chain() {
    let server = RotatingTokenServer::new(3600);
    let (first, second) = (server.first(), server.first());
    let responding = server.clone();
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    let world = World::new("new-chain").await;
    world
        .secret(
            "credentials",
            &[("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", &first)],
        )
        .await;
    let mut spec = client_credentials(&endpoint.url());
    spec["grantType"] = json!("refresh_token");
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    world
        .secret(
            "credentials",
            &[("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", &second)],
        )
        .await;
    world.wait_for_change("it", "access_token", &token).await;
    assert_eq!(endpoint.requests()[1].parameter("refresh_token"), second);
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn an_actor_that_keeps_writing_does_not_cause_continuous_requests() {
    let (world, endpoint) = world_with("contention", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let secrets = world.secrets();
    let writer = tokio::spawn(async move {
        let patch = json!({"stringData": {"access_token": "kanarie-forged"}});
        loop {
            let _: Result<Secret, _> = secrets.patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    world.condition("it", "Reconciling", "True", "RateLimited").await;
    let (before, started) = (endpoint.count(), std::time::Instant::now());
    eventually("three repairs", Duration::from_secs(60), async || {
        if endpoint.count() >= before + 3 { Ok(()) } else { Err(endpoint.count().to_string()) }
    })
    .await;
    assert!(started.elapsed() >= Duration::from_secs(4), "three repairs in {:?}", started.elapsed());
    writer.abort();
    let _ = writer.await;
    eventually("the token is restored", Duration::from_secs(90), async || {
        let value = world.value("it", "access_token").await;
        if value == "kanarie-forged" { Err(value) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_is_kept_from_an_otherwise_invalid_response() {
    let (world, endpoint, server) = rotating_world("kept").await;
    let mut spec = refresh_token_spec(&endpoint);
    spec["response"] = json!({"accessToken": "no.such.member"});
    world.integration("it", &spec).await;
    world.condition("it", "Ready", "False", "InvalidResponse").await;
    // The first refresh token is used up: the corrected attempt succeeds only with the new one.
    world.change("it", &json!({"spec": {"response": {"accessToken": "access_token"}}})).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    // The same with an existing token: it is kept.
    world.change("it", &json!({"spec": {"response": {"accessToken": "no.such.member"}}})).await;
    world.condition("it", "Ready", "False", "InvalidResponse").await;
    assert_eq!(world.value("it", "access_token").await, token);
    world.change("it", &json!({"spec": {"response": {"accessToken": "access_token"}}})).await;
    world.ready("it").await;
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn values_that_the_endpoint_no_longer_returns_are_removed_from_the_secret() {
    let responses = std::sync::atomic::AtomicU32::new(0);
    let endpoint = Endpoint::start(move |_| {
        let number = responses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut body = json!({"access_token": format!("kanarie-token-{number}."), "expires_in": 3600});
        if number.is_multiple_of(2) {
            body["refresh_token"] = json!(format!("kanarie-refresh-{number}."));
        }
        Reply::json(200, &body)
    });
    let world = World::new("no-more").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    assert_eq!(world.value("it", "refresh_token").await, "kanarie-refresh-0.");
    for (request, expected) in [("one", ""), ("two", "kanarie-refresh-2."), ("three", "")] {
        let token = world.value("it", "access_token").await;
        world.request_renewal("it", request).await;
        world.wait_for_change("it", "access_token", &token).await;
        world.ready("it").await;
        assert_eq!(world.value("it", "refresh_token").await, expected, "after request {request}");
    }
    assert_eq!(endpoint.count(), 4, "these changes are not treated as changes by others");
}

#[tokio::test]
async fn labels_are_restored_after_a_change_of_the_credentials() {
    let (world, endpoint) = world_with("touched", 3600).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"labels": {"team": "erp"}});
    world.integration("it", &spec).await;
    world.ready("it").await;
    // A new version of the credentials with the same values: from now on, each reconciliation must read them.
    let patch = json!({"metadata": {"labels": {"touched": "yes"}}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    let patch = json!({"metadata": {"labels": {"team": null}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.label("it", "team", Some("erp")).await;
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_corrupted_key_is_replaced() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("corrupted-key").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["dpop"] = json!({});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let key = world.value("it", "dpop_key").await;
    let corrupted = json!({"stringData": {"dpop_key": "kanarie-corrupted-key"}});
    let params = kube::api::PatchParams::default();
    world.secrets().patch("it", &params, &kube::api::Patch::Merge(&corrupted)).await.expect("a patch");
    eventually("the key is valid again", test_support::world::SHORT_TIMEOUT, async || {
        let now = world.value("it", "dpop_key").await;
        if now.contains("BEGIN PRIVATE KEY") && now != key { Ok(()) } else { Err("corrupted".to_owned()) }
    })
    .await;
    world.ready("it").await;
}
