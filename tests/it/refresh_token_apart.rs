//! Guarantee: with `target.refreshTokenSecretName`, the Secret that workloads mount never contains the refresh token, and
//! no promise about refresh tokens is weaker than without it. Crashes are tested by `tests/faults`.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use test_support::api_front::ApiServerProxy;
use test_support::endpoint::{Endpoint, PASSWORD, Reply, RotatingTokenServer};
use test_support::manifests::OPERATOR;
use test_support::proxy::{Network, Proxy};
use test_support::world::{SHORT_TIMEOUT, client_credentials, rotating};
use test_support::{ControlPlane, Operator, World, eventually};

use crate::refresh_token_safety::{Setting, setting};

const APART: &str = "it-refresh-token";

fn apart(endpoint: &Endpoint) -> Value {
    let mut spec = rotating(&endpoint.url(), "credentials");
    spec["target"] = json!({"refreshTokenSecretName": APART});
    spec
}

fn moved(name: Option<&str>) -> Value {
    json!({"spec": {"target": {"refreshTokenSecretName": name}}})
}

/// Waits until exactly this Secret has a refresh token, and it is the current one.
async fn held_by(world: &World, server: &RotatingTokenServer, holder: &str) {
    eventually(&format!("{holder} has the refresh token"), SHORT_TIMEOUT, async || {
        let mut found = Vec::new();
        for name in ["it", APART, "another", "third"] {
            let token = world.values(name).await.and_then(|mut values| values.remove("refresh_token"));
            found.extend(token.map(|token| (name, server.is_current(&token))));
        }
        if found == [(holder, true)] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    world.ready("it").await;
}

#[tokio::test]
async fn the_target_never_has_the_refresh_token() {
    let Setting { server, endpoint, world, .. } = setting("apart", 9).await;
    let mut spec = apart(&endpoint);
    spec["target"]["labels"] = json!({"app.kubernetes.io/component": "erp"});
    spec["target"]["type"] = json!("kubernetes.io/basic-auth");
    spec["target"]["keys"] = json!({"accessToken": "password"});
    world.integration("it", &spec).await;
    held_by(&world, &server, APART).await;
    let first = world.value("it", "password").await;
    world.wait_for_change("it", "password", &first).await;
    held_by(&world, &server, APART).await;
    let secret = world.secrets().get(APART).await.expect("the Secret for the refresh token");
    let keys: Vec<_> = secret.data.iter().flatten().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, ["refresh_token"]);
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert!(!secret.labels().contains_key("app.kubernetes.io/component"), "labels are for readers of the target");
    assert_eq!(secret.owner_references()[0].name, "it", "it is deleted with the integration");
    assert!(server.reused().is_empty());
}

#[tokio::test]
async fn the_refresh_token_moves_without_a_token_request() {
    let Setting { server, endpoint, world, .. } = setting("apart-moves", 3600).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    held_by(&world, &server, "it").await;
    for holder in [APART, "another", "it", APART, "it"] {
        world.change("it", &moved(Some(holder).filter(|name| *name != "it"))).await;
        held_by(&world, &server, holder).await;
    }
    assert_eq!(endpoint.count(), 1);
    for name in [APART, "another"] {
        eventually(&format!("{name} is deleted"), SHORT_TIMEOUT, async || match world.values(name).await {
            None => Ok(()),
            Some(_) => Err("it exists".to_owned()),
        })
        .await;
    }
    world.request_renewal("it", "1").await;
    eventually("it still renews", SHORT_TIMEOUT, async || {
        if server.renewed() == 2 { Ok(()) } else { Err(server.renewed().to_string()) }
    })
    .await;
    held_by(&world, &server, "it").await;
    // Together with another name for the target, and with a change that requires a new token.
    let change =
        json!({"spec": {"scope": "orders", "target": {"secretName": "another", "refreshTokenSecretName": APART}}});
    world.change("it", &change).await;
    held_by(&world, &server, APART).await;
    assert_eq!((server.renewed(), server.reused().len()), (3, 0));
    // The two Secrets cannot change places, because each would overwrite the other.
    let change = json!({"spec": {"target": {"secretName": APART, "refreshTokenSecretName": "another"}}});
    let changed = world.integrations().patch("it", &PatchParams::default(), &Patch::Merge(&change)).await;
    let error = changed.expect_err("it is rejected").to_string();
    assert!(error.contains("cannot become the target"), "{error}");
    // Step by step, they can.
    for (holder, target) in [("third", "another"), ("third", APART), ("another", APART)] {
        let change = json!({"spec": {"target": {"secretName": target, "refreshTokenSecretName": holder}}});
        world.change("it", &change).await;
        held_by(&world, &server, holder).await;
        eventually("the target is written", SHORT_TIMEOUT, async || {
            let values = world.values(target).await.unwrap_or_default();
            if values.contains_key("access_token") { Ok(()) } else { Err(format!("{values:?}")) }
        })
        .await;
    }
    assert!(server.reused().is_empty());
}

/// Such a grant does not read the stored tokens, but it must not remove them either.
#[tokio::test]
async fn a_grant_that_does_not_need_the_refresh_token_keeps_it() {
    let world = World::new("apart-unused").await;
    world.credentials().await;
    let body = json!({"access_token": "kanarie-access", "refresh_token": "kanarie-refresh", "expires_in": 3600});
    let endpoint = Endpoint::start(move |_| Reply::json(200, &body));
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"refreshTokenSecretName": APART});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let holds = async |holder: &str, access: &str| {
        eventually(&format!("{holder} has the refresh token, and it has {access}"), SHORT_TIMEOUT, async || {
            let target = world.values("it").await.unwrap_or_default();
            let refresh = world.values(holder).await.unwrap_or_default().remove("refresh_token");
            let is_complete = refresh.as_deref() == Some("kanarie-refresh") && target.contains_key(access);
            let is_apart = holder == "it" || !target.contains_key("refresh_token");
            if is_complete && is_apart { Ok(()) } else { Err(format!("{target:?} {refresh:?}")) }
        })
        .await;
        assert_eq!(world.value("it", "access_token").await, "kanarie-access");
    };
    holds(APART, "access_token").await;
    world.change("it", &json!({"spec": {"target": {"labels": {"app.kubernetes.io/component": "erp"}}}})).await;
    world.change("it", &json!({"spec": {"target": {"data": {"header": "'Bearer ' & access_token"}}}})).await;
    holds(APART, "header").await;
    // Its metadata was edited by someone else, so it is read first.
    let edit = json!({"metadata": {"annotations": {"example.com/edited": "yes"}}});
    world.secrets().patch(APART, &PatchParams::default(), &Patch::Merge(&edit)).await.expect("an edit");
    world.change("it", &json!({"spec": {"target": {"data": {"more": "access_token & ''"}}}})).await;
    holds(APART, "more").await;
    world.change("it", &moved(Some("another"))).await;
    holds("another", "more").await;
    world.change("it", &moved(None)).await;
    holds("it", "more").await;
    assert_eq!(endpoint.count(), 1);
}

/// The Secret of that time is not needed any more.
#[tokio::test]
async fn a_response_that_could_not_be_written_does_not_block_a_change_of_the_names() {
    let Setting { server, endpoint, world, .. } = setting("apart-pending", 3600).await;
    world.integration("it", &apart(&endpoint)).await;
    held_by(&world, &server, APART).await;
    let freeze = |frozen: Option<bool>| json!({"immutable": frozen});
    world.secrets().patch("it", &PatchParams::default(), &Patch::Merge(&freeze(Some(true)))).await.expect("frozen");
    world.request_renewal("it", "1").await;
    world.condition("it", "Ready", "True", "TargetWriteFailed").await;
    world
        .change("it", &json!({"spec": {"target": {"secretName": "third", "refreshTokenSecretName": "another"}}}))
        .await;
    held_by(&world, &server, "another").await;
    assert_eq!(endpoint.count(), 2, "the response was kept");
    assert!(world.values("third").await.is_some_and(|values| values.contains_key("access_token")));
    assert!(server.reused().is_empty());
}

#[tokio::test]
async fn it_is_written_only_when_it_changes() {
    let world = World::new("apart-kept").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", "kanarie-only-one")]).await;
    // A server that does not replace refresh tokens.
    let endpoint = Endpoint::start(|_| Reply::token(9));
    world.integration("it", &apart(&endpoint)).await;
    world.ready("it").await;
    let version = async || world.secrets().get(APART).await.expect("the Secret").resource_version();
    let (before, first) = (version().await, world.value("it", "access_token").await);
    let second = world.wait_for_change("it", "access_token", &first).await;
    world.wait_for_change("it", "access_token", &second).await;
    assert_eq!(version().await, before);
    assert!(endpoint.requests().iter().all(|request| request.parameter("refresh_token") == "kanarie-only-one"));
}

#[tokio::test]
async fn after_the_target_is_deleted_the_chain_of_refresh_tokens_goes_on() {
    let Setting { server, endpoint, world, .. } = setting("apart-target-deleted", 3600).await;
    world.integration("it", &apart(&endpoint)).await;
    held_by(&world, &server, APART).await;
    world.delete_secret("it").await;
    eventually(
        "another token",
        SHORT_TIMEOUT,
        async || {
            if server.renewed() == 2 { Ok(()) } else { Err(world.operator.logs()) }
        },
    )
    .await;
    held_by(&world, &server, APART).await;
    assert!(world.values("it").await.is_some() && server.reused().is_empty());
}

#[tokio::test]
async fn a_deleted_refresh_token_is_noticed_at_once_and_the_first_one_is_not_sent_again() {
    let Setting { server, endpoint, world, .. } = setting("apart-deleted", 3600).await;
    world.integration("it", &apart(&endpoint)).await;
    held_by(&world, &server, APART).await;
    world.delete_secret(APART).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(stalled.message.contains("Secret it-refresh-token no longer has the refresh token"), "{}", stalled.message);
    assert_eq!((endpoint.count(), server.reused().len()), (1, 0));
    // A new one is sufficient.
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &server.first())]).await;
    held_by(&world, &server, APART).await;
}

#[tokio::test]
async fn a_changed_refresh_token_secret_is_written_again() {
    let world = World::new("apart-changed").await;
    world.credentials().await;
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    let endpoint = Endpoint::start(move |_| {
        let number = counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let refresh_token = format!("kanarie-refresh-{number}");
        Reply::json(200, &json!({"access_token": "kanarie-access", "refresh_token": refresh_token, "expires_in": 3600}))
    });
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"refreshTokenSecretName": APART});
    world.integration("it", &spec).await;
    world.ready("it").await;
    assert_eq!(world.value(APART, "refresh_token").await, "kanarie-refresh-0");
    let edit = json!({"stringData": {"refresh_token": "kanarie-of-another"}});
    world.secrets().patch(APART, &PatchParams::default(), &Patch::Merge(&edit)).await.expect("an edit");
    eventually("it is restored by a new token", SHORT_TIMEOUT, async || {
        let value = world.value(APART, "refresh_token").await;
        if value == "kanarie-refresh-1" { Ok(()) } else { Err(value) }
    })
    .await;
    world.delete_secret(APART).await;
    eventually("it is created again", SHORT_TIMEOUT, async || {
        let values = world.values(APART).await.unwrap_or_default();
        if values.get("refresh_token").is_some_and(|value| value == "kanarie-refresh-2") {
            Ok(())
        } else {
            Err(format!("{values:?}"))
        }
    })
    .await;
}

/// After an edit of its metadata, the Secret for the refresh token is read before the target is.
#[tokio::test]
async fn edits_of_the_metadata_do_not_hide_the_refresh_token() {
    let Setting { server, endpoint, world, .. } = setting("apart-edited", 9).await;
    world.integration("it", &apart(&endpoint)).await;
    held_by(&world, &server, APART).await;
    for round in 1..=3 {
        let before = server.renewed();
        for secret in ["credentials", APART] {
            let edit = json!({"metadata": {"annotations": {"example.com/round": round.to_string()}}});
            world.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&edit)).await.expect("an edit");
        }
        eventually("a renewal", SHORT_TIMEOUT, async || {
            if server.renewed() > before { Ok(()) } else { Err(world.operator.logs()) }
        })
        .await;
        assert_eq!(server.reused(), Vec::<String>::new(), "round {round}");
    }
    held_by(&world, &server, APART).await;
}

#[tokio::test]
async fn a_secret_of_someone_else_is_not_touched_and_nothing_is_sent() {
    let Setting { server, endpoint, world, .. } = setting("apart-conflict", 3600).await;
    world.secret(APART, &[("password", "kanarie-of-another-owner")]).await;
    world.integration("it", &apart(&endpoint)).await;
    let stalled = world.condition("it", "Stalled", "True", "TargetConflict").await;
    assert!(stalled.message.contains("Secret it-refresh-token exists"), "{}", stalled.message);
    assert!(stalled.message.contains("spec.target.refreshTokenSecretName"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 0);
    assert_eq!(world.value(APART, "password").await, "kanarie-of-another-owner");
    world.change("it", &moved(Some("another"))).await;
    held_by(&world, &server, "another").await;
    // The target of another integration is not available either.
    world.secret("more", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    let mut spec = rotating(&endpoint.url(), "more");
    spec["target"] = json!({"refreshTokenSecretName": "another"});
    world.integration("second", &spec).await;
    let stalled = world.condition("second", "Stalled", "True", "TargetConflict").await;
    assert!(stalled.message.contains("is a Secret of OAuthIntegration it"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn names_that_would_overwrite_another_secret_and_expressions_that_reveal_the_token_are_refused() {
    let Setting { endpoint, world, .. } = setting("apart-invalid", 3600).await;
    for (target, expected) in [
        (json!({"refreshTokenSecretName": "it"}), "must differ from spec.target.secretName"),
        (json!({"secretName": "x", "refreshTokenSecretName": "x"}), "must differ from spec.target.secretName"),
        (json!({"refreshTokenSecretName": "credentials"}), "from spec.credentials.secretName"),
        (json!({"refreshTokenSecretName": "sh.helm.release.v1.x"}), "must not begin with sh.helm.release.v1."),
        (json!({"refreshTokenSecretName": "Upper"}), "must be a valid name for a Secret"),
    ] {
        let mut spec = rotating(&endpoint.url(), "credentials");
        spec["target"] = target;
        let error = world.try_integration("it", &spec).await.expect_err("it is rejected").to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (name, expression) in [("path", "refresh_token"), ("response", "response.refresh_token & ''")] {
        let mut spec = apart(&endpoint);
        spec["target"] = json!({"refreshTokenSecretName": format!("{name}-apart"), "data": {"copy": expression}});
        world.integration(name, &spec).await;
        let stalled = world.condition(name, "Stalled", "True", "InvalidSpec").await;
        assert!(stalled.message.contains("keeps out of the target: remove one of the two"), "{}", stalled.message);
    }
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn both_secrets_are_retained_and_taken_over_together() {
    let Setting { server, endpoint, world, .. } = setting("apart-retained", 3600).await;
    let mut spec = apart(&endpoint);
    spec["target"]["deletionPolicy"] = json!("Retain");
    world.integration("it", &spec).await;
    held_by(&world, &server, APART).await;
    world.delete("it").await;
    for name in ["it", APART] {
        let secret = world.secrets().get(name).await.expect("it is retained");
        assert!(secret.owner_references().is_empty(), "{name}");
    }
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.request_renewal("it", "1").await;
    eventually("it goes on with the retained token", SHORT_TIMEOUT, async || {
        if server.renewed() == 2 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    held_by(&world, &server, APART).await;
    assert!(server.reused().is_empty());
}

#[tokio::test]
async fn a_deletion_revokes_both_tokens() {
    let server = RotatingTokenServer::new(3600);
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| match request.path.as_str() {
        "/revoke" => Reply::text(200, ""),
        _ => responding.reply(request),
    });
    let world = World::new("apart-revoked").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    let mut spec = apart(&endpoint);
    let revoke = format!("http://{}/revoke", endpoint.address());
    spec["revocation"] = json!({"endpoint": revoke, "onDeletion": true});
    world.integration("it", &spec).await;
    held_by(&world, &server, APART).await;
    let tokens = [world.value(APART, "refresh_token").await, world.value("it", "access_token").await];
    world.integrations().delete("it", &DeleteParams::default()).await.expect("it is deleted");
    let revoked = eventually("two revocations", SHORT_TIMEOUT, async || {
        let requests = endpoint.requests();
        let sent: Vec<_> = requests.iter().filter(|it| it.path == "/revoke").map(|it| it.parameter("token")).collect();
        if sent.len() == 2 { Ok(sent) } else { Err(format!("{sent:?}")) }
    })
    .await;
    assert_eq!(revoked, tokens);
}

#[tokio::test]
async fn another_integration_can_use_it() {
    let Setting { server, endpoint, world, .. } = setting("apart-chain", 3600).await;
    world.integration("it", &apart(&endpoint)).await;
    held_by(&world, &server, APART).await;
    let api = Endpoint::start(|_| Reply::token(3600));
    world.secret("exchange", &[("client_id", "c"), ("client_secret", "kanarie-of-exchange")]).await;
    for secret in ["credentials", "exchange"] {
        world.pin(secret, &format!("http://{}, http://{}", endpoint.address(), api.address())).await;
    }
    let spec = json!({
        "tokenEndpoint": api.url(), "grantType": "token_exchange", "credentials": {"secretName": "exchange"},
        "tokenExchange": {
            "subjectTokenFrom": {"integration": "it", "value": "refresh_token"},
            "subjectTokenType": "urn:ietf:params:oauth:token-type:refresh_token",
        },
    });
    world.integration("exchanged", &spec).await;
    world.ready("exchanged").await;
    assert_eq!(api.requests()[0].parameter("subject_token"), world.value(APART, "refresh_token").await);
}

/// While the Secrets of an integration are read, which takes time, its token becomes due: the decision to renew is then made
/// with everything that it needs, or again. Otherwise, the session would be given up for the fallback.
#[tokio::test]
async fn a_token_that_becomes_due_while_its_secrets_are_read_is_renewed_with_its_refresh_token() {
    const INTEGRATIONS: usize = 8;
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("due-while-reading").await;
    let front = ApiServerProxy::start(&control_plane.url(), &control_plane.certificate());
    let network = Proxy::start(front.address());
    let url = format!("http://127.0.0.1:{}", network.port());
    let kubeconfig = control_plane.kubeconfig_at(OPERATOR, OPERATOR, &url).await;
    let flags = ["--namespace", namespace.as_str(), "--max-writes-per-namespace=0", "--max-writes=0"];
    let operator = Operator::start_with(&kubeconfig, &flags).await;
    let world = World { namespace, client: control_plane.client().await, operator, kubeconfig };
    let server = RotatingTokenServer::new(6);
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    for number in 0..INTEGRATIONS {
        let (name, credentials) = (format!("it-{number}"), format!("credentials-{number}"));
        let first = server.first();
        let values = [
            ("client_id", "c"),
            ("refresh_token", first.as_str()),
            ("username", name.as_str()),
            ("password", PASSWORD),
        ];
        world.secret(&credentials, &values).await;
        let mut spec = rotating(&endpoint.url(), &credentials);
        spec["target"] = json!({"refreshTokenSecretName": format!("apart-{number}")});
        spec["renewal"] = json!({"fallback": {"grantType": "user_password"}});
        world.integration(&name, &spec).await;
        world.ready(&name).await;
    }
    // Each read takes a good part of the time between two renewals, and each change of the credentials leads to one.
    network.set(Network::Slow(Duration::from_millis(250)));
    let renewed = server.renewed();
    for change in 0..60 {
        for number in 0..INTEGRATIONS {
            let touched = json!({"metadata": {"annotations": {"touched": change.to_string()}}});
            let name = format!("credentials-{number}");
            world
                .secrets()
                .patch(&name, &PatchParams::default(), &Patch::Merge(&touched))
                .await
                .expect("an annotation");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    network.set(Network::Up);
    assert!(server.renewed() >= renewed + INTEGRATIONS, "they were renewed meanwhile");
    assert_eq!(server.logins(), 0, "a refresh token was given up");
    assert!(server.reused().is_empty());
}
