//! The effect of admission plugins, authorizers and token audiences of the API server on the operator.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use test_support::endpoint::Reply;
use test_support::world::{SHORT_TIMEOUT, World};
use test_support::{ControlPlane, Endpoint, eventually, manifests};

use super::{spec, without_credentials};
use crate::siege::Siege;

/// The operator never requests a ServiceAccount token for any of the audiences of the API server itself.
#[tokio::test]
async fn tokens_for_an_audience_of_the_api_server_are_not_sent() {
    let audiences = ["https://kubernetes.default.svc", "https://second.example.com", "third"];
    // The first audience is the default of the control plane; the flag adds the others.
    let control_plane = ControlPlane::start_with(&[format!("--api-audiences={},{}", audiences[1], audiences[2])]);
    manifests::install_crd(&control_plane);
    manifests::install_permissions(&control_plane);
    manifests::install_permissions_with_service_accounts(&control_plane);
    let namespace = control_plane.namespace("audiences").await;
    let kubeconfig = test_support::operator::kubeconfig(&control_plane).await;
    let operator = test_support::Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let exchange = |audience: &str| {
        json!({
            "tokenEndpoint": endpoint.url(), "grantType": "token_exchange", "clientAuthentication": {"method": "none"},
            "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
            "serviceAccountToken": {"serviceAccountName": "default", "audience": audience},
        })
    };
    for (number, audience) in audiences.iter().enumerate() {
        let name = format!("it-{number}");
        world.integration(&name, &exchange(audience)).await;
        let stalled = world.condition(&name, "Stalled", "True", "CredentialsMissing").await;
        assert!(stalled.message.contains("is the audience of the cluster's own API server"), "{}", stalled.message);
    }
    assert_eq!(endpoint.count(), 0, "nothing is sent");
    world.integration("other", &exchange("https://sts.example.com")).await;
    world.ready("other").await;
    assert_eq!(endpoint.count(), 1);
}

/// If the API server cannot determine whether a user is allowed, the policy denies.
#[tokio::test]
async fn with_a_failing_authorizer_the_policy_denies() {
    let authorizer = Endpoint::start(|_| Reply::text(200, "this is not a SubjectAccessReview"));
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("authorizer.kubeconfig");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it", "users": [{"name": "it", "user": {}}],
        "clusters": [{"name": "it", "cluster": {"server": authorizer.url()}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    std::fs::write(&config, kubeconfig.to_string()).expect("a kubeconfig");
    // Used if RBAC has no opinion.
    let control_plane = ControlPlane::start_with(&[
        "--authorization-mode=Webhook".to_owned(),
        format!("--authorization-webhook-config-file={}", config.display()),
        "--authorization-webhook-version=v1".to_owned(),
    ]);
    let siege = Siege::on(control_plane).await;
    let before = authorizer.count();
    let spec = without_credentials("https://login.example.com/token");
    let why =
        siege.mallory.integration("it", &spec).await.expect_err("the permission cannot be determined").to_string();
    assert!(why.contains("ValidatingAdmissionPolicy") && why.contains("Secret it"), "{why}");
    assert!(authorizer.count() > before, "the authorizer was called");
    // If RBAC allows a request, no other authorizer is needed.
    siege
        .bob
        .integration(
            "it",
            &json!({"tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"}, "suspend": true}),
        )
        .await
        .expect("bob is allowed");
}

/// A cluster policy that changes the operator's Secrets on each write.
fn reverting_policy(name: &str, namespace: &str, patches: &str) -> String {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            // Policies are enabled and disabled with a delay: each case has its own namespace.
            "matchConstraints": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}]},
            "matchConditions": [{"name": "target", "expression":
                "has(object.metadata.labels) && 'app.kubernetes.io/version' in object.metadata.labels"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patches}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name},
    });
    format!("{policy}\n---\n{binding}")
}

/// The number of writes of Secrets.
async fn writes(control_plane: &ControlPlane) -> u64 {
    let calls = control_plane.calls().await;
    calls
        .iter()
        .filter(|((verb, resource, _), _)| {
            resource == "secrets" && ["POST", "PATCH", "APPLY", "PUT"].contains(&verb.as_str())
        })
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn a_webhook_that_reverts_each_write_does_not_keep_the_operator_busy() {
    let control_plane = ControlPlane::start();
    manifests::install_crd(&control_plane);
    manifests::install_permissions(&control_plane);
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    for (name, patches) in [
        // The policy changes a label that the spec sets.
        (
            "relabel",
            r#"[JSONPatch{op: "replace", path: "/metadata/labels/app.kubernetes.io~1version", value: "theirs"}]"#,
        ),
        // The policy removes the operator's annotations.
        ("forgetful", r#"[JSONPatch{op: "remove", path: "/metadata/annotations/oauth.evolutionx.io~1renew-at"}]"#),
        // The policy changes the hash of the template.
        (
            "reshape",
            r#"[JSONPatch{op: "replace", path: "/metadata/annotations/oauth.evolutionx.io~1template-hash", value: "x"}]"#,
        ),
    ] {
        let namespace = control_plane.namespace(name).await;
        let kubeconfig = test_support::operator::kubeconfig(&control_plane).await;
        let operator = test_support::Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
        let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
        world.credentials().await;
        manifests::apply(&control_plane, &world.namespace, &reverting_policy(name, &world.namespace, patches));
        let labels = json!({"labels": {"app.kubernetes.io/version": "ours"}});
        // The policy takes effect some time after it was written.
        eventually("the policy reverts writes", SHORT_TIMEOUT, async || {
            let probe: Secret =
                serde_json::from_value(json!({"metadata": {"name": "probe", "labels": labels["labels"],
                "annotations": {"oauth.evolutionx.io/renew-at": "x", "oauth.evolutionx.io/template-hash": "y"}}}))
                .expect("a Secret");
            let _ = world.secrets().delete("probe", &DeleteParams::default()).await;
            let made =
                world.secrets().create(&PostParams::default(), &probe).await.map_err(|error| error.to_string())?;
            let is_reverted = made.labels().get("app.kubernetes.io/version").map(String::as_str) == Some("theirs")
                || made.annotations().get("oauth.evolutionx.io/template-hash").map(String::as_str) == Some("x")
                || !made.annotations().contains_key("oauth.evolutionx.io/renew-at");
            if is_reverted { Ok(()) } else { Err(format!("{:?}", made.metadata)) }
        })
        .await;
        let before = endpoint.count();
        world.integration("it", &spec(&endpoint.url(), &labels)).await;
        eventually("the operator reports it", SHORT_TIMEOUT, async || {
            let status = world.get("it").await.status.unwrap_or_default();
            let reported = status.conditions.iter().any(|condition| condition.reason == "RateLimited");
            if reported { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
        // Because the intervals grow, few writes remain for the next seconds.
        let (written, requested) = (writes(&control_plane).await, endpoint.count());
        tokio::time::sleep(Duration::from_secs(6)).await;
        let more = writes(&control_plane).await - written;
        println!(
            "{name}: {more} writes and {} requests in 6 s, {} requests in total",
            endpoint.count() - requested,
            endpoint.count() - before
        );
        assert!(more <= 4, "{name}: {more} writes in 6 s");
        assert!(endpoint.count() - before <= 8, "{name}: {} requests", endpoint.count() - before);
        let reported = world.get("it").await.status.unwrap_or_default();
        assert!(format!("{reported:?}").contains("were reverted immediately"), "{reported:?}");
    }
}
