//! Guarantee: labels on which another controller acts, such as that of Argo CD, are set only if an administrator allows
//! them: in the operator, and in the admission policy of the chart.

use kube::ResourceExt;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::{OPERATOR, apply_admission_policy, install_crd, try_apply};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, World, eventually};

const LABEL: &str = "argocd.argoproj.io/secret-type";

fn repository(endpoint: &str) -> Value {
    let mut spec = client_credentials(endpoint);
    spec["target"] = json!({
        "labels": {LABEL: "repository"}, "keys": {"accessToken": "password"},
        "data": {"type": "'git'", "url": "'https://git.example.com/shop/orders.git'", "username": "'oauth2'"},
    });
    spec
}

#[tokio::test]
async fn a_repository_of_argo_cd_is_written_with_the_flag_and_refused_without() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("argo-refused").await;
    world.credentials().await;
    world.integration("it", &repository(&endpoint.url())).await;
    let stalled = world.condition("it", "Stalled", "True", "TargetNotAllowed").await.message;
    assert!(stalled.contains(LABEL), "{stalled}");
    assert!(stalled.contains("--allow-target-metadata (chart: targets.allowMetadata)"), "{stalled}");
    assert!(world.values("it").await.is_none());
    assert_eq!(endpoint.count(), 0);

    let world = World::with("argo-allowed", &[&format!("--allow-target-metadata={LABEL}")]).await;
    world.credentials().await;
    world.integration("it", &repository(&endpoint.url())).await;
    world.ready("it").await;
    let secret = world.secrets().get("it").await.expect("the target");
    assert_eq!(secret.labels()[LABEL], "repository");
    assert_eq!(world.value("it", "url").await, "https://git.example.com/shop/orders.git");
    // What is not allowed, is refused as before.
    world.change("it", &json!({"spec": {"target": {"labels": {"team": "billing"}}}})).await;
    let stalled = world.condition("it", "Stalled", "True", "TargetNotAllowed").await.message;
    assert!(stalled.contains("must not set team") && stalled.contains(LABEL), "{stalled}");
}

#[tokio::test]
async fn the_admission_policy_has_the_list_of_the_chart() {
    let control_plane = ControlPlane::start();
    install_crd(&control_plane);
    control_plane.kubectl(&["create", "namespace", OPERATOR]);
    apply_admission_policy(&control_plane, &["--set", &format!("targets.allowMetadata={{{LABEL},example.com/*}}")]);
    let apply = |name: &str, label: &str| {
        let spec = json!({
            "tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials", "suspend": true,
            "credentials": {"secretName": "credentials"}, "target": {"labels": {label: "x"}},
        });
        let object = json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": name},
            "spec": spec,
        });
        try_apply(&control_plane, "default", &object.to_string())
    };
    eventually("the policy is in force", SHORT_TIMEOUT, async || {
        // A new object each time: the policy checks only changes of a spec.
        let name = format!("probe-{}", rand::random::<u32>());
        match apply(&name, "team") {
            (false, why)
                if why.contains("spec.target.labels must not set team") && why.contains("targets.allowMetadata") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for label in [LABEL, "example.com/team", "app.kubernetes.io/name"] {
        let (is_applied, output) = apply(&label.replace('/', "."), label);
        assert!(is_applied, "{label}: {output}");
    }
}
