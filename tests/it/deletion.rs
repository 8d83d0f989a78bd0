//! Deletion of namespaces and integrations that are being reconciled.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use test_support::endpoint::{Endpoint, Reply, RotatingTokenServer};
use test_support::manifests::OPERATOR;
use test_support::proxy::{Network, Proxy};
use test_support::world::{SHORT_TIMEOUT, client_credentials, rotating};
use test_support::{ControlPlane, Operator, World, eventually};

/// Timeout for the deletion of a namespace: the namespace controller is slow.
const NAMESPACE_DELETED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn deleting_a_namespace_does_not_lose_refresh_tokens_or_affect_others() {
    let control_plane = ControlPlane::shared();
    let kubeconfig = test_support::operator::kubeconfig(control_plane).await;
    let (doomed, staying) = (control_plane.namespace("doomed").await, control_plane.namespace("staying").await);
    let arguments = ["--namespace", &doomed, "--namespace", &staying];
    let operator = Operator::start_with(&kubeconfig, &arguments).await;
    let client = control_plane.client().await;
    let staying = World { operator, client: client.clone(), namespace: staying, kubeconfig: kubeconfig.clone() };
    let server = RotatingTokenServer::new(3_600);
    let responding = std::sync::Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    let of = |namespace: &str| Api::<Secret>::namespaced(client.clone(), namespace);
    for number in 0..5 {
        let first = server.first();
        let name = format!("it-{number}");
        let credentials = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-credentials")},
                                 "stringData": {"client_id": "c", "refresh_token": first}});
        let params = PatchParams::apply("test");
        of(&doomed)
            .patch(&format!("{name}-credentials"), &params, &Patch::Apply(&credentials))
            .await
            .expect("credentials");
        let integration = json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
                                 "metadata": {"name": name}, "spec": rotating(&endpoint.url(), &format!("{name}-credentials"))});
        test_support::manifests::apply(control_plane, &doomed, &integration.to_string());
    }
    staying.credentials().await;
    let plain = Endpoint::start(|_| Reply::token(6));
    staying.integration("it", &client_credentials(&plain.url())).await;
    staying.ready("it").await;
    eventually("all have tokens", SHORT_TIMEOUT, async || match server.renewed() {
        5 => Ok(()),
        some => Err(format!("{some}\n{}", staying.operator.logs())),
    })
    .await;

    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.delete(&doomed, &DeleteParams::default()).await.expect("a deletion");
    eventually("the namespace is deleted", NAMESPACE_DELETED, async || match namespaces.get_opt(&doomed).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(server.renewed(), 5, "a refresh token was sent for a namespace that is being deleted");
    assert!(server.reused().is_empty());
    let labels = format!("name=\"it-0\",namespace=\"{doomed}\"");
    eventually("its metrics are removed", SHORT_TIMEOUT, async || {
        let known = staying.operator.metric("oauth_operator_integration_ready", &labels);
        if known.is_none() { Ok(()) } else { Err(staying.operator.logs()) }
    })
    .await;
    let before = plain.count();
    eventually("the other namespace continues", SHORT_TIMEOUT, async || {
        if plain.count() > before + 1 { Ok(()) } else { Err("no renewal".into()) }
    })
    .await;
}

/// An endpoint that delays its responses.
fn slow(delay: Duration) -> Endpoint {
    Endpoint::start(move |_| Reply::Delayed(delay, Box::new(Reply::token(3_600))))
}

#[tokio::test]
async fn an_integration_deleted_during_its_request_leaves_nothing_behind() {
    let world = World::new("deleted-early").await;
    let endpoint = slow(Duration::from_secs(2));
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    eventually("a request is sent", SHORT_TIMEOUT, async || {
        if endpoint.count() == 1 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    world.integrations().delete("it", &DeleteParams::default()).await.expect("a deletion");
    eventually("the response is received", SHORT_TIMEOUT, async || {
        let requests = world.operator.sum("oauth_operator_token_requests_total", "");
        if requests >= 1.0 { Ok(()) } else { Err(world.operator.metrics()) }
    })
    .await;
    eventually("the Secret is deleted", Duration::from_secs(60), async || match world.values("it").await {
        None => Ok(()),
        Some(_) => Err("it still exists".to_owned()),
    })
    .await;
    assert_eq!(endpoint.count(), 1);
    // Nothing is pending, and the operator exits at once.
    assert_eq!(world.operator.terminate(Duration::from_secs(5)), 0);
    assert!(!world.operator.logs().contains("ERROR"), "{}", world.operator.logs());
}

#[tokio::test]
async fn an_integration_recreated_during_its_request_gets_its_own_token() {
    let world = World::new("recreated").await;
    let endpoint = slow(Duration::from_secs(2));
    world.credentials().await;
    let spec = client_credentials(&endpoint.url());
    world.integration("it", &spec).await;
    eventually("a request is sent", SHORT_TIMEOUT, async || {
        if endpoint.count() == 1 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    world.integrations().delete("it", &DeleteParams::default()).await.expect("a deletion");
    let second = world.integration("it", &spec).await;
    // The Secret of the first integration is deleted by the garbage collector, which discovers new kinds of owners
    // every 30 s.
    eventually("the second integration owns the Secret", Duration::from_secs(60), async || {
        let secret = world.secrets().get("it").await.map_err(|error| error.to_string())?;
        let owner = secret.metadata.owner_references.unwrap_or_default().first().map(|owner| owner.uid.clone());
        if owner == second.metadata.uid { Ok(()) } else { Err(format!("{owner:?}\n{}", world.operator.logs())) }
    })
    .await;
    world.ready("it").await;
}

#[tokio::test]
async fn a_pending_write_is_dropped_if_the_deletion_was_missed() {
    let control_plane = ControlPlane::shared();
    let network = Proxy::start(control_plane.address());
    let namespace = control_plane.namespace("unwatched").await;
    test_support::manifests::install_permissions_in(control_plane, &namespace);
    let kubeconfig = control_plane.kubeconfig_through(&namespace, OPERATOR, network.port()).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
    let endpoint = Endpoint::start(|_| Reply::token(3_600));
    world.credentials().await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
                       "spec": {"hard": {"count/secrets": "1"}}});
    test_support::manifests::apply(control_plane, &world.namespace, &quota.to_string());
    let quotas = Api::<ResourceQuota>::namespaced(world.client.clone(), &world.namespace);
    eventually("the quota is in effect", SHORT_TIMEOUT, async || {
        let status = quotas.get("full").await.map_err(|error| error.to_string())?.status;
        let used = status.and_then(|status| status.used?.get("count/secrets").map(|used| used.0.clone()));
        if used.as_deref() == Some("1") { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.condition("it", "Reconciling", "True", "TargetWriteFailed").await;
    let labels = format!("name=\"it\",namespace=\"{}\"", world.namespace);
    let known = || world.operator.metric("oauth_operator_integration_ready", &labels);
    eventually("it has metrics", SHORT_TIMEOUT, async || known().ok_or_else(|| world.operator.metrics())).await;
    network.set(Network::Cut);
    world.integrations().delete("it", &DeleteParams::default()).await.expect("a deletion");
    network.set(Network::Up);
    eventually("its metrics are removed", SHORT_TIMEOUT, async || {
        if known().is_none() { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    // The shutdown does not wait for a response that can no longer be written.
    assert_eq!(world.operator.terminate(Duration::from_secs(5)), 0);
    assert!(!world.operator.logs().contains("shutting down with unsaved tokens"), "{}", world.operator.logs());
    assert_eq!(endpoint.count(), 1);
}
