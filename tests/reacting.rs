//! The promise: what people change is followed at once, and what others break is mended.

mod common;

use std::time::Duration;

use common::endpoint::{Endpoint, Reply, Rotating};
use common::world::{SOON, client_credentials, condition, uid};
use common::{World, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

async fn world_with(name: &str, life: u64) -> (World, Endpoint) {
    let endpoint = Endpoint::start(move |_| Reply::token(life));
    let world = World::new(name).await;
    world.credentials().await;
    (world, endpoint)
}

#[tokio::test]
async fn the_secret_has_owner_labels_and_memory() {
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
    assert!(!values.contains_key("rt"), "there was no refresh token");
    assert_eq!(integration.status.as_ref().and_then(|status| status.secret_name.as_deref()), Some("tokens"));
    world.event("it", "Issued").await;
    assert!(condition(&integration, "Reconciling").is_none() && condition(&integration, "Stalled").is_none());
}

#[tokio::test]
async fn labels_and_annotations_are_kept_added_and_taken_away_without_another_token() {
    let (world, endpoint) = world_with("labels", 3600).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"labels": {"team": "erp", "old": "yes"}, "annotations": {"example.com/note": "kept"}});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    // Somebody takes one away.
    let patch = json!({"metadata": {"labels": {"team": null}, "annotations": {"example.com/note": "other"}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.label("it", "team", Some("erp")).await;
    eventually("the annotation", common::world::SOON, async || {
        let secret = world.secrets().get("it").await.map_err(|error| error.to_string())?;
        match secret.annotations()["example.com/note"].as_str() {
            "kept" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    // The spec wants others.
    world.change("it", &json!({"spec": {"target": {"labels": {"old": null, "new": "yes"}}}})).await;
    world.label("it", "new", Some("yes")).await;
    world.label("it", "old", None).await;
    // A label that somebody else has put there is theirs.
    let patch = json!({"metadata": {"labels": {"theirs": "yes"}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.change("it", &json!({"spec": {"target": {"labels": {"newer": "yes"}}}})).await;
    world.label("it", "newer", Some("yes")).await;
    world.label("it", "theirs", Some("yes")).await;
    assert_eq!(world.value("it", "access_token").await, token);
    assert_eq!(endpoint.count(), 1, "looks need no token");
}

#[tokio::test]
async fn a_deleted_target_is_made_again_and_a_changed_one_is_put_right() {
    let (world, endpoint) = world_with("target", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.delete_secret("it").await;
    let second = world.other_value("it", "access_token", &first).await;
    world.secret("it", &[("access_token", "kanarie-forged")]).await;
    let third = eventually("the forged token is gone", common::world::SOON, async || {
        let value = world.value("it", "access_token").await;
        if value == "kanarie-forged" || value == second { Err(value) } else { Ok(value) }
    })
    .await;
    assert!(third.starts_with("token-"));
    let patch = json!({"data": null});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("emptied");
    world.other_value("it", "access_token", &third).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 4);
}

#[tokio::test]
async fn a_value_that_others_add_is_theirs_and_costs_nothing() {
    let (world, endpoint) = world_with("added", 10).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.secret("it", &[("theirs", "kanarie-theirs")]).await;
    let token = world.value("it", "access_token").await;
    world.other_value("it", "access_token", &token).await;
    assert_eq!(world.value("it", "theirs").await, "kanarie-theirs");
    assert_eq!(endpoint.count(), 2, "one issue, one renewal");
}

#[tokio::test]
async fn credentials_that_come_later_change_and_go() {
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
    // A change that is none: a label.
    let patch = json!({"metadata": {"labels": {"touched": "yes"}}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", "kanarie-other-secret")]).await;
    let second = world.other_value("it", "access_token", &first).await;
    assert_eq!(endpoint.count(), 2, "a label on the credentials is no reason for a token");
    assert_eq!(endpoint.requests()[1].member("client_secret"), "kanarie-other-secret");
    world.delete_secret("credentials").await;
    world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    let ready = world.condition("it", "Ready", "True", "CredentialsMissing").await;
    assert!(ready.message.contains("valid until"), "{}", ready.message);
    assert_eq!(world.value("it", "access_token").await, second, "the token that is good stays");
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", "kanarie-other-secret")]).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2, "the same credentials are back: the token is theirs");
}

#[tokio::test]
async fn a_changed_spec_gets_another_token() {
    let (world, endpoint) = world_with("spec", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.change("it", &json!({"spec": {"scope": "order"}})).await;
    world.other_value("it", "access_token", &first).await;
    assert_eq!(endpoint.requests()[1].member("scope"), "order");
    world.ready("it").await;
    // What the token does not depend on is no reason for another.
    world.change("it", &json!({"spec": {"request": {"timeout": "20s"}}})).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn suspend_stops_everything_and_resume_goes_on() {
    let (world, endpoint) = world_with("suspend", 10).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"suspend": true}})).await;
    let ready = world.condition("it", "Ready", "True", "Suspended").await;
    assert!(ready.message.contains("suspend"), "{}", ready.message);
    let asked = endpoint.count();
    world.condition("it", "Ready", "False", "Suspended").await;
    assert_eq!(endpoint.count(), asked, "nothing was asked for while the token ended");
    world.change("it", &json!({"spec": {"suspend": false}})).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), asked + 1);
}

#[tokio::test]
async fn a_request_for_a_renewal_is_followed_once() {
    let (world, endpoint) = world_with("request", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    for (value, expected) in [("2026-01-01T00:00:00Z", 2), ("again", 3)] {
        let token = world.value("it", "access_token").await;
        let patch = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": value}}});
        world.change("it", &patch).await;
        world.other_value("it", "access_token", &token).await;
        world.ready("it").await;
        assert_eq!(endpoint.count(), expected);
    }
    world.event("it", "Renewed").await;
}

#[tokio::test]
async fn another_target_name_moves_the_refresh_token_and_removes_the_old_secret() {
    let server = Rotating::new(3600);
    let first = server.first();
    let answering = server.clone();
    let endpoint = Endpoint::start(move |request| answering.reply(request));
    let world = World::new("rename").await;
    world
        .secret(
            "credentials",
            &[("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", &first)],
        )
        .await;
    let mut spec = client_credentials(&endpoint.url());
    spec["grantType"] = json!("refresh_token");
    spec["target"] = json!({"secretName": "before"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.change("it", &json!({"spec": {"target": {"secretName": "after"}}})).await;
    world.other_value("after", "access_token", "").await;
    eventually("the old Secret is gone", common::world::SOON, async || match world.values("before").await {
        None => Ok(()),
        Some(_) => Err("still there".to_owned()),
    })
    .await;
    world.ready("it").await;
    assert_eq!(
        server.reused(),
        Vec::<String>::new(),
        "the refresh token of the old Secret was used, not the first one"
    );
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn a_deleted_integration_takes_its_secret_along() {
    let (world, endpoint) = world_with("deleted", 10).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let labels = format!("name=\"it\",namespace=\"{}\"", world.namespace);
    let known = || world.operator.metric("oauth_operator_integration_ready", &labels);
    eventually("it is ready in the metrics", SOON, async || match known() {
        Some(1.0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    world.integrations().delete("it", &DeleteParams::default()).await.expect("a deletion");
    eventually("the Secret is gone", Duration::from_secs(60), async || match world.values("it").await {
        None => Ok(()),
        Some(_) => Err("still there".to_owned()),
    })
    .await;
    assert_eq!(known(), None);
}

#[tokio::test]
async fn a_new_refresh_token_in_the_credentials_begins_a_new_chain() {
    let server = Rotating::new(3600);
    let (first, second) = (server.first(), server.first());
    let answering = server.clone();
    let endpoint = Endpoint::start(move |request| answering.reply(request));
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
    world.other_value("it", "access_token", &token).await;
    assert_eq!(endpoint.requests()[1].member("refresh_token"), second);
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_writer_that_never_stops_does_not_become_a_stream_of_requests() {
    let (world, endpoint) = world_with("fight", 3600).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let secrets = world.secrets();
    let fighter = tokio::spawn(async move {
        let patch = json!({"stringData": {"access_token": "kanarie-forged"}});
        loop {
            let _: Result<Secret, _> = secrets.patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    world.condition("it", "Reconciling", "True", "TooSoon").await;
    let (before, started) = (endpoint.count(), std::time::Instant::now());
    eventually("some repairs", Duration::from_secs(60), async || {
        if endpoint.count() >= before + 3 { Ok(()) } else { Err(endpoint.count().to_string()) }
    })
    .await;
    assert!(started.elapsed() >= Duration::from_secs(4), "three repairs in {:?}", started.elapsed());
    fighter.abort();
    let _ = fighter.await;
    eventually("peace", Duration::from_secs(90), async || {
        let value = world.value("it", "access_token").await;
        if value == "kanarie-forged" { Err(value) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_is_kept_also_from_an_answer_that_is_of_no_use_otherwise() {
    let server = Rotating::new(3600);
    let first = server.first();
    let answering = server.clone();
    let endpoint = Endpoint::start(move |request| answering.reply(request));
    let world = World::new("kept").await;
    world
        .secret(
            "credentials",
            &[("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", &first)],
        )
        .await;
    let mut spec = client_credentials(&endpoint.url());
    spec["grantType"] = json!("refresh_token");
    spec["response"] = json!({"accessToken": "no.such.member"});
    world.integration("it", &spec).await;
    world.condition("it", "Ready", "False", "InvalidResponse").await;
    // The first token is used up; only the new one makes the corrected attempt work.
    world.change("it", &json!({"spec": {"response": {"accessToken": "access_token"}}})).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    // The same with a token that is there: it stays.
    world.change("it", &json!({"spec": {"response": {"accessToken": "no.such.member"}}})).await;
    world.condition("it", "Ready", "False", "InvalidResponse").await;
    assert_eq!(world.value("it", "access_token").await, token);
    world.change("it", &json!({"spec": {"response": {"accessToken": "access_token"}}})).await;
    world.ready("it").await;
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_endpoint_gives_no_more_goes_from_the_secret() {
    let given = std::sync::atomic::AtomicU32::new(0);
    let endpoint = Endpoint::start(move |_| {
        let number = given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
        world
            .change("it", &json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": request}}}))
            .await;
        world.other_value("it", "access_token", &token).await;
        world.ready("it").await;
        assert_eq!(world.value("it", "refresh_token").await, expected, "after request {request}");
    }
    assert_eq!(endpoint.count(), 4, "nothing of this is taken for a change by others");
}

#[tokio::test]
async fn looks_are_put_right_also_after_the_credentials_were_touched() {
    let (world, endpoint) = world_with("touched", 3600).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"labels": {"team": "erp"}});
    world.integration("it", &spec).await;
    world.ready("it").await;
    // Another version of the credentials, with the same values: each look has to read them from now on.
    let patch = json!({"metadata": {"labels": {"touched": "yes"}}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    let patch = json!({"metadata": {"labels": {"team": null}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a patch");
    world.label("it", "team", Some("erp")).await;
    assert_eq!(endpoint.count(), 1);
}
