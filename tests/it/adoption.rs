//! Guarantee: a Secret that something else has written is taken over only if its owner hands it over, and then neither
//! its token nor its refresh token is lost or wasted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use test_support::api_front::{ApiFault, ApiServerProxy};
use test_support::endpoint::{Endpoint, PASSWORD, Reply, RotatingTokenServer};
use test_support::manifests::OPERATOR;
use test_support::world::{SHORT_TIMEOUT, client_credentials, rotating};
use test_support::{ControlPlane, Operator, World, eventually};

const ADOPT_BY: &str = "oauth.evolutionx.io/adopt-by";

/// Creates a Secret as its owner would: with `kubectl create`.
async fn foreign(world: &World, name: &str, annotation: Option<&str>, changes: &Value) -> Secret {
    let mut secret = json!({"metadata": {"name": name, "annotations": {"team": "billing"}}, "type": "Opaque"});
    if let Some(integration) = annotation {
        secret["metadata"]["annotations"][ADOPT_BY] = json!(integration);
    }
    for (field, value) in changes.as_object().into_iter().flatten() {
        secret[field] = value.clone();
    }
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    let params = PostParams { field_manager: Some("kubectl-create".to_owned()), ..PostParams::default() };
    world.secrets().create(&params, &secret).await.expect("the Secret is created")
}

async fn hand_over(world: &World, secret: &str, integration: &str) {
    let annotation = json!({"metadata": {"annotations": {ADOPT_BY: integration}}});
    world.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&annotation)).await.expect("the annotation");
}

/// An access token with an expiry, as a JWT.
fn jwt(expires_at: Timestamp) -> String {
    let claims = json!({"sub": "kanarie-subject", "exp": expires_at.as_second()});
    format!("eyJhbGciOiJub25lIn0.{}.a2FuYXJpZQ", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn in_an_hour() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the token must be valid by the clock of the operator")]
    Timestamp::from_second(Timestamp::now().as_second() + 3600).expect("a time")
}

fn rotating_endpoint() -> (Arc<RotatingTokenServer>, Endpoint) {
    let server = RotatingTokenServer::new(3600);
    let responding = Arc::clone(&server);
    (server, Endpoint::start(move |request| responding.reply(request)))
}

#[tokio::test]
async fn a_token_whose_expiry_is_known_is_kept_to_its_end() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("adopt-kept").await;
    world.credentials().await;
    let end = in_an_hour();
    let by_key = json!({"access_token": "kanarie-opaque", "expires_at": end.to_string(), "note": "kanarie-theirs"});
    let by_jwt = json!({"access_token": jwt(end), "note": "kanarie-theirs"});
    for (name, data) in [("by-key", by_key), ("by-jwt", by_jwt)] {
        let theirs = foreign(&world, name, Some(name), &json!({"stringData": data})).await;
        let mut spec = client_credentials(&endpoint.url());
        spec["target"] = json!({
            "keys": {"expiresAt": "expires_at"}, "data": {"header": "'Bearer ' & access_token"},
            "labels": {"app.kubernetes.io/component": "token"},
        });
        world.integration(name, &spec).await;
        let status = world.ready(name).await.status.expect("a status");
        assert_eq!(status.expires_at.expect("an expiry").0, end, "{name}");
        assert!(status.renew_at.expect("a renewal").0 < end, "{name}");
        assert_eq!(status.renewals, None, "{name}: no token was written");
        assert_eq!(status.binding.expect("a binding").name, name);
        let ours = world.secrets().get(name).await.expect("the target");
        assert_eq!(ours.uid(), theirs.uid(), "{name}");
        assert_eq!(ours.owner_references().len(), 1, "{name}");
        assert_eq!(ours.annotations()["team"], "billing", "{name}");
        let values = world.values(name).await.expect("the target");
        let token = data["access_token"].as_str().expect("a token");
        assert_eq!(values["access_token"], token, "{name}");
        assert_eq!(
            (&values["note"], values["header"].as_str()),
            (&"kanarie-theirs".to_owned(), &*format!("Bearer {token}"))
        );
        let event = world.event(name, "TargetAdopted").await.note.expect("a note");
        assert!(event.contains("took over Secret") && event.contains("its token is renewed at"), "{event}");
        assert!(event.contains("the Secret is deleted when the integration is deleted"), "{event}");
    }
    assert_eq!(endpoint.count(), 0, "nothing was requested");
    // From now on it is like any other target.
    let renewal = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}}});
    world.change("by-jwt", &renewal).await;
    world.wait_for_change("by-jwt", "access_token", &jwt(end)).await;
    world.change("by-jwt", &json!({"spec": {"target": {"data": {"header": null}}}})).await;
    eventually("the key is removed", SHORT_TIMEOUT, async || {
        let values = world.values("by-jwt").await.unwrap_or_default();
        if values.contains_key("header") { Err(format!("{values:?}")) } else { Ok(()) }
    })
    .await;
    assert_eq!(world.value("by-jwt", "note").await, "kanarie-theirs");
    assert_eq!(endpoint.count(), 1);
    world.delete("by-key").await;
    eventually("the Secret is deleted with its integration", Duration::from_secs(60), async || {
        world.values("by-key").await.map_or(Ok(()), |_| Err("it exists".to_owned()))
    })
    .await;
    assert!(!world.observable_output().await.contains("kanarie-"), "{}", world.observable_output().await);
}

#[tokio::test]
async fn a_token_whose_expiry_is_unknown_is_renewed_at_once_and_stays_until_then() {
    let works = Arc::new(AtomicBool::new(false));
    let working = Arc::clone(&works);
    let endpoint =
        Endpoint::start(
            move |_| {
                if working.load(Ordering::SeqCst) { Reply::token(3600) } else { Reply::text(503, "later") }
            },
        );
    let world = World::new("adopt-unknown").await;
    world.credentials().await;
    let config = r#"{"auths":{"registry.example.com":{"password":"kanarie-password"}}}"#;
    let data = json!({".dockerconfigjson": config, "refresh_token": "kanarie-unused"});
    let type_ = "kubernetes.io/dockerconfigjson";
    foreign(&world, "it", Some("it"), &json!({"type": type_, "stringData": data})).await;
    let mut spec = client_credentials(&endpoint.url());
    let expression = "{'auths': {'registry.example.com': {'password': access_token}}}";
    spec["target"] = json!({"type": type_, "data": {".dockerconfigjson": expression}, "deletionPolicy": "Retain"});
    world.integration("it", &spec).await;
    world.condition("it", "Ready", "False", "EndpointUnavailable").await;
    let values = world.values("it").await.expect("the target");
    assert_eq!(values[".dockerconfigjson"], config, "nodes can still pull images");
    assert_eq!(values["refresh_token"], "kanarie-unused");
    let event = world.event("it", "TargetAdopted").await.note.expect("a note");
    assert!(event.contains("a token is requested now") && event.contains("stays when"), "{event}");
    works.store(true, Ordering::SeqCst);
    world.ready("it").await;
    let values = world.values("it").await.expect("the target");
    assert!(values[".dockerconfigjson"].contains(&values["access_token"]), "{values:?}");
    // Another manager owned this key, and the grant has no refresh token.
    assert!(!values.contains_key("refresh_token"), "{values:?}");
    let requests = endpoint.count();
    let resource_version = world.secrets().get("it").await.expect("the target").resource_version();
    world.integration("later", &client_credentials(&endpoint.url())).await;
    world.ready("later").await;
    assert_eq!(endpoint.count(), requests + 1, "nothing is left that looks like a change by others");
    assert_eq!(world.secrets().get("it").await.expect("the target").resource_version(), resource_version);
    // As for any other integration with this policy.
    world.delete("it").await;
    world.delete("later").await;
    eventually("the other Secret is deleted", Duration::from_secs(60), async || {
        world.values("later").await.map_or(Ok(()), |_| Err("it exists".to_owned()))
    })
    .await;
    assert!(world.values("it").await.is_some(), "it is retained");
}

#[tokio::test]
async fn the_refresh_token_of_the_secret_is_the_first_that_is_sent() {
    let (server, endpoint) = rotating_endpoint();
    let world = World::new("adopt-refresh").await;
    let initial = server.first();
    world.secret("initial", &[("client_id", "c"), ("refresh_token", &initial)]).await;
    world.secret("login", &[("username", "robot"), ("password", PASSWORD)]).await;
    let mut by_strategy = rotating(&endpoint.url(), "login");
    by_strategy["grantType"] = json!("user_password");
    by_strategy["renewal"] = json!({"strategy": "refresh_token"});
    for (name, spec) in [("by-grant", rotating(&endpoint.url(), "initial")), ("by-strategy", by_strategy)] {
        let before = endpoint.count();
        // It was rotated since the credentials were written. `echo` has added the line break.
        let rotated = server.first();
        let data = json!({"access_token": "kanarie-old", "refresh_token": format!("{rotated}\n")});
        foreign(&world, name, Some(name), &json!({"stringData": data})).await;
        world.integration(name, &spec).await;
        world.ready(name).await;
        let next = world.value(name, "refresh_token").await;
        assert!(server.is_current(&next), "{name}");
        // The normal rotation follows.
        world.request_renewal(name, "1").await;
        world.wait_for_change(name, "refresh_token", &next).await;
        let sent: Vec<String> =
            endpoint.requests()[before..].iter().map(|request| request.parameter("refresh_token")).collect();
        assert_eq!(sent, [rotated, next], "{name}");
    }
    assert!(server.reused().is_empty() && server.is_current(&initial), "the initial token was not sent");
    assert_eq!(server.logins(), 0);
}

#[tokio::test]
async fn only_its_owner_hands_a_secret_over_and_only_to_the_integration_that_the_annotation_names() {
    let (server, endpoint) = rotating_endpoint();
    let world = World::new("adopt-name").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", "kanarie-unknown")]).await;
    let refresh_token = server.first();
    let data = json!({"stringData": {"access_token": "kanarie-old", "refresh_token": refresh_token}});
    let theirs = foreign(&world, "shared", None, &data).await;
    let mut spec = rotating(&endpoint.url(), "credentials");
    spec["target"] = json!({"secretName": "shared"});
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "TargetConflict").await.message;
    assert!(stalled.contains("set the annotation oauth.evolutionx.io/adopt-by=it on it"), "{stalled}");
    hand_over(&world, "shared", "another").await;
    eventually("the message says so", SHORT_TIMEOUT, async || {
        let message = world.condition("it", "Stalled", "True", "TargetConflict").await.message;
        if message.contains("names another integration") { Ok(()) } else { Err(message) }
    })
    .await;
    // An integration with that name and another target does not take it.
    world.secret("others", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    world.integration("another", &rotating(&endpoint.url(), "others")).await;
    world.ready("another").await;
    assert_eq!(world.secrets().get("shared").await.expect("their Secret").data, theirs.data);
    hand_over(&world, "shared", "it").await;
    world.ready("it").await;
    assert_eq!(world.secrets().get("shared").await.expect("the target").uid(), theirs.uid());
    assert_eq!(endpoint.requests()[1].parameter("refresh_token"), refresh_token);
    assert!(server.reused().is_empty());
}

#[tokio::test]
async fn a_secret_that_cannot_be_taken_over_stays_as_it_is_and_the_message_says_what_to_change() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("adopt-not").await;
    world.credentials().await;
    let owner = |controller: bool| {
        json!([{
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "erp", "uid": "of-erp",
            "controller": controller,
        }])
    };
    let of = |metadata: Value| {
        let mut metadata = metadata;
        metadata["annotations"] = json!({ADOPT_BY: metadata["name"]});
        json!({"metadata": metadata, "stringData": {"access_token": "kanarie-theirs"}})
    };
    let label = json!({"app.kubernetes.io/managed-by": "oauth-operator"});
    let mut immutable = of(json!({"name": "immutable"}));
    immutable["immutable"] = json!(true);
    let mut typed = of(json!({"name": "typed"}));
    typed["type"] = json!("example.com/token");
    let cases = [
        (
            of(json!({"name": "owned", "ownerReferences": owner(true)})),
            "it belongs to ExternalSecret erp (owner reference)",
        ),
        (of(json!({"name": "dependent", "ownerReferences": owner(false)})), "kubectl delete --cascade=orphan"),
        (immutable, "it is immutable: delete it, and create it again"),
        (typed, "its type is example.com/token, and the type of a Secret cannot be changed"),
        (of(json!({"name": "labelled", "labels": label})), "remove that label from the Secret"),
    ];
    for (secret, expected) in &cases {
        let name = secret["metadata"]["name"].as_str().expect("a name");
        let theirs = foreign(&world, name, None, secret).await;
        world.integration(name, &client_credentials(&endpoint.url())).await;
        let stalled = world.condition(name, "Stalled", "True", "TargetConflict").await.message;
        assert!(stalled.contains(expected), "{name}: {stalled}");
        assert!(
            stalled.contains("although its annotation oauth.evolutionx.io/adopt-by names this integration"),
            "{stalled}"
        );
        // The garbage collector deletes a Secret whose owner does not exist, if it has seen that.
        if let Some(found) = world.secrets().get_opt(name).await.expect("a read") {
            assert_eq!(
                (found.data.clone(), found.labels().clone()),
                (theirs.data.clone(), theirs.labels().clone()),
                "{name}"
            );
        }
    }
    assert_eq!(endpoint.count(), 0);
    // One of the changes that the messages ask for.
    let without = json!({"metadata": {"labels": null}});
    world.secrets().patch("labelled", &PatchParams::default(), &Patch::Merge(&without)).await.expect("a patch");
    world.ready("labelled").await;
    assert!(!world.observable_output().await.contains("kanarie-theirs"));
}

/// The refresh token is in the Secret of the operator before it is sent, so whatever happens in between, the next
/// process continues with it.
#[tokio::test]
async fn a_restart_after_the_secret_was_taken_over_continues_with_its_refresh_token() {
    let works = Arc::new(AtomicBool::new(false));
    let server = RotatingTokenServer::new(3600);
    let endpoint = Endpoint::start({
        let (working, server) = (Arc::clone(&works), Arc::clone(&server));
        move |request| if working.load(Ordering::SeqCst) { server.reply(request) } else { Reply::text(503, "later") }
    });
    let mut world = World::new("adopt-restart").await;
    let (initial, rotated) = (server.first(), server.first());
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", &initial)]).await;
    let data = json!({"access_token": "kanarie-old", "refresh_token": rotated});
    foreign(&world, "it", Some("it"), &json!({"stringData": data})).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    world.condition("it", "Ready", "False", "EndpointUnavailable").await;
    let values = world.values("it").await.expect("the target");
    assert_eq!((values["access_token"].as_str(), &values["refresh_token"]), ("kanarie-old", &rotated));
    world.operator.kill();
    works.store(true, Ordering::SeqCst);
    world.operator = Operator::start_with(&world.kubeconfig, &["--namespace", &world.namespace]).await;
    world.ready("it").await;
    let sent: Vec<String> = endpoint.requests().iter().map(|request| request.parameter("refresh_token")).collect();
    assert!(sent.iter().all(|sent| *sent == rotated), "only the one of the Secret is sent");
    assert!(server.is_current(&world.value("it", "refresh_token").await) && server.is_current(&initial));
    assert!(server.reused().is_empty() && server.renewed() == 1);
}

/// The old writer renews the token between the read and the write of the operator.
#[tokio::test]
async fn a_token_that_is_renewed_while_it_is_taken_over_is_not_lost() {
    let (server, endpoint) = rotating_endpoint();
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("adopt-race").await;
    test_support::manifests::install_permissions_in(control_plane, &namespace);
    let api_server = ApiServerProxy::start(&control_plane.url(), &control_plane.certificate());
    let url = format!("http://{}", api_server.address());
    let kubeconfig = control_plane.kubeconfig_at(&namespace, OPERATOR, &url).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", "kanarie-unknown")]).await;
    let (old, new) = (server.first(), server.first());
    foreign(&world, "it", Some("it"), &json!({"stringData": {"access_token": "kanarie-old", "refresh_token": old}}))
        .await;
    api_server.set(ApiFault::SecretChangesHeld);
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    eventually("the write of the operator waits", SHORT_TIMEOUT, async || {
        if api_server.held() > 0 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    let renewed = json!({"stringData": {"refresh_token": new}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&renewed)).await.expect("the old writer");
    api_server.set(ApiFault::None);
    world.ready("it").await;
    assert_eq!(endpoint.requests()[0].parameter("refresh_token"), new);
    assert!(server.is_current(&old) && server.is_current(&world.value("it", "refresh_token").await));
}

/// Whoever may change the integration, but no Secret, cannot have the refresh token sent elsewhere later.
#[tokio::test]
async fn an_adopted_refresh_token_is_bound_to_the_endpoint_at_that_time() {
    let (server, endpoint) = rotating_endpoint();
    let thief = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("adopt-bound").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    world.secret("others", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    let adopted = server.first();
    let data = json!({"access_token": jwt(in_an_hour()), "refresh_token": adopted});
    foreign(&world, "it", Some("it"), &json!({"stringData": data})).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    world.ready("it").await;
    let changes = [
        json!({"tokenEndpoint": thief.url()}),
        json!({"tokenEndpoint": thief.url(), "credentials": {"secretName": "others"}}),
        json!({"tokenEndpoint": thief.url(), "target": {"secretName": "moved"}}),
    ];
    for change in changes {
        world.change("it", &json!({"spec": change})).await;
        let reported = eventually("it is reported", SHORT_TIMEOUT, async || {
            let status = world.get("it").await.status.unwrap_or_default();
            let generation = world.get("it").await.metadata.generation;
            let ready = status.conditions.into_iter().find(|found| found.type_ == "Ready");
            ready.filter(|ready| ready.observed_generation == generation).ok_or_else(String::new)
        })
        .await;
        assert!(!thief.requests().iter().any(|request| request.body.contains(&adopted)), "{change}: {reported:?}");
    }
    world.change("it", &json!({"spec": {"tokenEndpoint": endpoint.url(), "target": null, "credentials": {"secretName": "credentials"}}})).await;
    world.ready("it").await;
    assert!(thief.requests().iter().all(|request| !request.body.contains(&adopted)));
}

#[tokio::test]
async fn an_integration_with_a_refresh_token_of_its_own_takes_no_other_one_over() {
    let (server, endpoint) = rotating_endpoint();
    let world = World::new("adopt-second").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    world.ready("it").await;
    let own = world.value("it", "refresh_token").await;
    let theirs = server.first();
    foreign(&world, "theirs", Some("it"), &json!({"stringData": {"refresh_token": theirs}})).await;
    world.change("it", &json!({"spec": {"target": {"secretName": "theirs"}}})).await;
    let stalled = world.condition("it", "Stalled", "True", "TargetConflict").await.message;
    assert!(stalled.contains("one of two refresh tokens would be lost"), "{stalled}");
    assert_eq!((world.value("it", "refresh_token").await, world.value("theirs", "refresh_token").await), (own, theirs));
    // Its own is not needed any more.
    world.delete_secret("it").await;
    world.ready("it").await;
    assert!(server.reused().is_empty());
    assert!(server.is_current(&world.value("theirs", "refresh_token").await));
}

/// The refresh token moves out of the adopted Secret only after that belongs to the integration.
#[tokio::test]
async fn the_refresh_token_of_an_adopted_secret_moves_to_a_secret_of_its_own() {
    let (server, endpoint) = rotating_endpoint();
    let world = World::new("adopt-apart").await;
    let theirs = server.first();
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", "kanarie-long-spent")]).await;
    let data = json!({"access_token": jwt(in_an_hour()), "refresh_token": theirs});
    let last_applied = json!({"metadata": {"name": "it", "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": data.to_string(), "oauth.evolutionx.io/session-ends": "true",
    }}});
    foreign(&world, "it", None, &json!({"stringData": data})).await;
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&last_applied)).await.expect("annotations");
    hand_over(&world, "it", "it").await;
    let mut spec = rotating(&endpoint.url(), "credentials");
    spec["target"] = json!({"refreshTokenSecretName": "apart"});
    world.integration("it", &spec).await;
    eventually("the refresh token is apart", SHORT_TIMEOUT, async || {
        let apart = world.values("apart").await.unwrap_or_default();
        let target = world.values("it").await.unwrap_or_default();
        let is_moved = apart.get("refresh_token") == Some(&theirs) && !target.contains_key("refresh_token");
        if is_moved { Ok(()) } else { Err(format!("{apart:?} {target:?}")) }
    })
    .await;
    assert_eq!(endpoint.count(), 0, "the access token is valid");
    let adopted = world.secrets().get("it").await.expect("the target");
    let left: Vec<_> =
        adopted.annotations().keys().filter(|name| name.contains("last-applied") || name.contains("session")).collect();
    assert!(left.is_empty(), "{left:?}");
    world.renew("it", "now").await;
    assert_eq!(server.renewed(), 1);
    // Its own refresh token is not given up for another Secret.
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&label)).await.expect("the label");
    let stalled = world.condition("it", "Stalled", "True", "TargetConflict").await;
    assert!(stalled.message.contains("one of two refresh tokens would be lost"), "{}", stalled.message);
    assert!(server.is_current(&world.value("apart", "refresh_token").await));
    assert!(server.reused().is_empty());
}
