//! Guarantee: an integration is a provisioned service of https://servicebinding.io: `status.binding.name` is a Secret
//! that exists, and the controllers of service bindings may read integrations.

use kube::api::DeleteParams;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::{apply, helm_template};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, World, eventually};

async fn binding(world: &World, wanted: Option<&str>) {
    eventually(&format!("the binding is {wanted:?}"), SHORT_TIMEOUT, async || {
        let status = world.get("it").await.status.unwrap_or_default();
        let found = status.binding.map(|binding| binding.name);
        if found.as_deref() == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_binding_is_the_secret_that_exists() {
    let endpoint = Endpoint::start(|request| {
        if request.path == "/ok" { Reply::token(3600) } else { Reply::rejected(400, "invalid_client", "no") }
    });
    let url = |path: &str| format!("http://{}/{path}", endpoint.address());
    let world = World::new("binding").await;
    world.credentials().await;
    let mut spec = client_credentials(&url("no"));
    spec["target"] = json!({"secretName": "first", "data": {"type": "'oauth2'", "provider": "'kanarie-provider'"}});
    world.integration("it", &spec).await;
    world.condition("it", "Ready", "False", "RequestRejected").await;
    binding(&world, None).await;

    world.change("it", &json!({"spec": {"tokenEndpoint": url("ok")}})).await;
    world.ready("it").await;
    binding(&world, Some("first")).await;
    let values = world.values("first").await.expect("the target");
    assert_eq!((values["type"].as_str(), values["provider"].as_str()), ("oauth2", "kanarie-provider"));

    // Workloads keep the Secret that exists until another one takes its place.
    let moved = json!({"spec": {"tokenEndpoint": url("no"), "target": {"secretName": "second"}}});
    world.change("it", &moved).await;
    world.condition("it", "Ready", "False", "RequestRejected").await;
    binding(&world, Some("first")).await;
    world.change("it", &json!({"spec": {"tokenEndpoint": url("ok")}})).await;
    world.ready("it").await;
    binding(&world, Some("second")).await;

    world.change("it", &json!({"spec": {"tokenEndpoint": url("no")}})).await;
    world.condition("it", "Ready", "False", "RequestRejected").await;
    binding(&world, Some("second")).await;
    world.secrets().delete("second", &DeleteParams::default()).await.expect("deleted");
    world.change("it", &json!({"spec": {"scope": "another"}})).await;
    binding(&world, None).await;
}

/// A controller of service bindings collects the roles with the label of the specification.
#[tokio::test]
async fn the_role_for_service_bindings_allows_to_read_integrations_and_nothing_else() {
    let rendered = helm_template(&[]);
    let roles = rendered.split("\n---").filter(|document| document.contains("servicebinding.io/controller: \"true\""));
    let roles: Vec<&str> = roles.collect();
    assert_eq!(roles.len(), 1, "{roles:?}");
    assert!(!helm_template(&["--set", "rbac.aggregateRoles=false"]).contains("servicebinding.io/controller:"));

    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("bindings").await;
    apply(control_plane, &namespace, roles[0]);
    let user = format!("system:serviceaccount:{namespace}:binder");
    let binder: [Value; 2] = [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": namespace},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"servicebinding.io/controller": "true"}}]},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace},
            "subjects": [{"kind": "ServiceAccount", "name": "binder", "namespace": namespace}],
        }),
    ];
    apply(control_plane, &namespace, &binder.map(|object| object.to_string()).join("\n---\n"));
    let may = |verb: &str, resource: &str| {
        let answer =
            control_plane.try_kubectl(&["auth", "can-i", verb, resource, "--namespace=default", "--as", &user]);
        String::from_utf8_lossy(&answer.stdout).trim() == "yes"
    };
    for verb in ["get", "list", "watch"] {
        eventually(&format!("{verb} is allowed"), SHORT_TIMEOUT, async || {
            if may(verb, "oauthintegrations.oauth.evolutionx.io") { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    }
    assert!(!may("create", "oauthintegrations.oauth.evolutionx.io") && !may("get", "secrets"));
}
