//! An upgrade from the previous version of the chart, with a live integration, and what an uninstall leaves.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::keys::LOGIN_HOST;
use test_support::node::OUTSIDE;
use test_support::tools;

use crate::Timeline;
use crate::cluster::Cluster;
use crate::docs::for_this_cluster;
use crate::release::Registry;

/// The chart of commit a2eb7ce, packaged as version 0.0.1, before it had two pods. It starts the operator of today: the
/// binary of that version was never published.
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
    start_chain(cluster);
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
    chain_is_unbroken(cluster);
    timeline.add("the upgraded operator renews the token, and a chain of refresh tokens, each of which is valid once");

    cluster.succeed(&format!("helm uninstall {RELEASE} --wait"));
    cluster
        .succeed("kubectl get crd/oauthintegrations.oauth.evolutionx.io oauthintegration/my-api secret/my-api-token");
    cluster.succeed(&format!("helm install {RELEASE} {chart} --wait --set crds.keep=false"));
    cluster.succeed(&format!("helm uninstall {RELEASE} --wait"));
    cluster.succeed("! kubectl get crd/oauthintegrations.oauth.evolutionx.io");
    timeline.add("helm uninstall: the CRD, the integration and its tokens stay, unless crds.keep=false");
}

/// An integration whose refresh tokens can be used once: Keycloak revokes the session if one is used twice.
fn start_chain(cluster: &Cluster) {
    let url = format!("https://{OUTSIDE}/realms/example/protocol/openid-connect/token");
    let form = [
        ("grant_type", "password"),
        ("client_id", "rotating-30"),
        ("client_secret", "rotating-30-secret"),
        ("username", "ada"),
        ("password", "ada-password"),
    ];
    let (status, body) = test_support::http::post_form(&url, &form);
    let response: Value = serde_json::from_str(&body).unwrap_or_default();
    let first = response["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {status} {body}"));
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "chain-credentials",
                "annotations": {"oauth.evolutionx.io/allowed-endpoints": format!("https://{OUTSIDE}")},
            },
            "stringData": {"client_id": "rotating-30", "client_secret": "rotating-30-secret", "refresh_token": first},
        },
        {
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
            "metadata": {"name": "chain"},
            "spec": {
                "issuer": format!("https://{OUTSIDE}/realms/example"),
                "grantType": "refresh_token",
                "credentials": {"secretName": "chain-credentials"},
                "request": {"format": "form"},
                "target": {"secretName": "chain-token"},
            },
        },
    ]});
    test_support::manifests::apply(&cluster.control_plane, "default", &manifests.to_string());
    cluster.succeed("kubectl wait oauthintegration/chain --for=condition=Ready --timeout=60s");
}

/// Its tokens live 30 s, so that several were used before, during and after the upgrade.
fn chain_is_unbroken(cluster: &Cluster) {
    let chain = cluster.get(&["oauthintegration", "chain"]);
    let conditions = chain["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
    assert!(ready["status"] == "True" && ready["reason"] != "RequestRejected", "the chain is broken: {ready}");
    let events =
        cluster.succeed("kubectl get events --field-selector involvedObject.name=chain,type=Warning --output=name");
    assert!(!events.contains("event"), "{}", cluster.succeed("kubectl describe oauthintegration/chain"));
}

fn renewal_continues(cluster: &Cluster, before: &Value) {
    let token = |secret: &Value| secret["data"]["access_token"].clone();
    let deadline = std::time::Instant::now() + Duration::from_secs(70);
    while token(&cluster.get(&["secret", "my-api-token"])) == token(before) {
        assert!(std::time::Instant::now() < deadline, "no renewal: {}", cluster.state());
        std::thread::sleep(Duration::from_millis(200));
    }
}
