//! An upgrade from the previous version of the chart, with a live integration, and what an uninstall leaves.

use std::time::Duration;

use serde_json::Value;
use test_support::keys::LOGIN_HOST;
use test_support::node::OUTSIDE;
use test_support::tools;

use crate::Timeline;
use crate::cluster::Cluster;
use crate::docs::for_this_cluster;
use crate::release::Registry;

/// The chart before it had two pods, with the operator of today: the binary of that version was never published.
const PREVIOUS: &str = "tests/e2e/oauth-operator-0.0.1.tgz";
const RELEASE: &str = "oauth-operator --namespace oauth-operator";

/// Installs the previous chart, upgrades as docs/helm.md says, and uninstalls.
pub fn from_the_previous_chart(cluster: &Cluster, timeline: &Timeline) {
    cluster.succeed(&format!("helm uninstall {RELEASE} --ignore-not-found --wait"));
    cluster.succeed(&format!(
        "{} install {RELEASE} {PREVIOUS} --wait --values {} --set image.repository={}/oauth-operator --set image.tag={}",
        tools::install("helm").join("helm").display(),
        cluster.private_ca_values().display(),
        Registry::NAME,
        env!("CARGO_PKG_VERSION")
    ));
    let example = std::fs::read_to_string(tools::root().join("examples/quickstart.yaml")).expect("the example");
    // Its tokens live 60 s: the first renewal is after the upgrade.
    let manifest = for_this_cluster(&example, ("service", "service-secret")).replace(LOGIN_HOST, &OUTSIDE.to_string());
    // The default of the previous version was `json`, also with an issuer.
    let manifest = manifest.replace("  target:", "  request:\n    format: form\n  target:");
    test_support::manifests::apply(&cluster.control_plane, "default", &manifest);
    cluster.succeed("kubectl wait oauthintegration/my-api --for=condition=Ready --timeout=60s");
    let before = cluster.get(&["secret", "my-api-token"]);

    let chart = format!("oci://{}/charts/oauth-operator", Registry::NAME);
    cluster.succeed(&format!("helm upgrade {RELEASE} {chart} --reset-then-reuse-values --wait"));
    cluster.succeed("kubectl rollout status deployment/oauth-operator --namespace oauth-operator --timeout=60s");
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let after = cluster.get(&["secret", "my-api-token"]);
    let is_ready = cluster.control_plane.kubectl(&["get", "oauthintegration/my-api", "--output", ready]);
    assert_eq!(is_ready, "True");
    let identity = |secret: &Value| (secret["metadata"]["uid"].clone(), secret["metadata"]["ownerReferences"].clone());
    assert_eq!(identity(&before), identity(&after), "the Secret was created again");
    let deployment = cluster.get(&["deployment", "oauth-operator", "--namespace", "oauth-operator"]);
    assert_eq!(deployment["spec"]["replicas"], 2, "the new default");
    timeline.add("helm upgrade from the previous chart: the integration stays Ready, its Secret is the same");
    renewal_continues(cluster, &after);
    timeline.add("the upgraded operator renews the token");

    cluster.succeed(&format!("helm uninstall {RELEASE} --wait"));
    cluster
        .succeed("kubectl get crd/oauthintegrations.oauth.evolutionx.io oauthintegration/my-api secret/my-api-token");
    cluster.succeed(&format!("helm install {RELEASE} {chart} --wait --set crds.keep=false"));
    cluster.succeed(&format!("helm uninstall {RELEASE} --wait"));
    cluster.succeed("! kubectl get crd/oauthintegrations.oauth.evolutionx.io");
    timeline.add("helm uninstall: the CRD, the integration and its tokens stay, unless crds.keep=false");
}

fn renewal_continues(cluster: &Cluster, before: &Value) {
    let token = |secret: &Value| secret["data"]["access_token"].clone();
    let deadline = std::time::Instant::now() + Duration::from_secs(70);
    while token(&cluster.get(&["secret", "my-api-token"])) == token(before) {
        assert!(std::time::Instant::now() < deadline, "no renewal: {}", cluster.state());
        std::thread::sleep(Duration::from_millis(200));
    }
}
