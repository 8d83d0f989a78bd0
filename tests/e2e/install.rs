//! docs/quickstart.md, to the letter.

use std::time::Instant;

use serde_json::json;
use test_support::docs::blocks;
use test_support::manifests::apply;

use crate::Timeline;
use crate::cluster::Cluster;
use crate::docs::for_this_cluster;

/// The client whose tokens live 30 s.
pub const CLIENT: (&str, &str) = ("service-30", "service-30-secret");
/// The promise: less than a minute from an installed operator to a pod with a token.
const PROMISE_SECONDS: f64 = 60.0;

/// Runs all blocks; the last one cleans up.
pub fn by_the_quickstart(cluster: &Cluster, timeline: &Timeline) {
    // What this environment needs and the quickstart does not: a namespace that enforces the standard, and a private CA.
    cluster.succeed(&format!(
        "kubectl create namespace oauth-operator
         kubectl label namespace oauth-operator default pod-security.kubernetes.io/enforce=restricted
         kubectl create configmap company-ca --namespace oauth-operator --from-file=ca.pem={}",
        cluster.ca_file().display()
    ));
    let steps = blocks("docs/quickstart.md", "sh");
    assert_eq!(steps.len(), 5, "the steps of the quickstart");
    let step = |number: usize| cluster.succeed(&for_this_cluster(&steps[number], CLIENT));
    let notes = step(0);
    assert!(notes.contains("kubectl apply"), "Helm prints no notes: {notes}");
    timeline.add("helm install oci://… --wait: two pods are ready, under the restricted Pod Security Standard");
    let installed = Instant::now();
    step(1);
    let printed = step(2);
    assert!(printed.contains("TokenValid"), "{printed}");
    let ready = installed.elapsed().as_secs_f64();
    step(3);
    let in_pod = installed.elapsed().as_secs_f64();
    timeline
        .add(&format!("quickstart: the integration is Ready after {ready:.1} s, and a pod runs after {in_pod:.1} s"));
    let deadline = Instant::now() + crate::cluster::PATIENCE;
    // It prints the size of the token.
    while !cluster.succeed("kubectl logs my-app").contains(" /var/run/my-api/access_token") {
        assert!(Instant::now() < deadline, "the pod reads no token: {}", cluster.state());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let total = installed.elapsed().as_secs_f64();
    assert!(total < PROMISE_SECONDS, "{total} s from helm install to a token in a pod");
    timeline.add(&format!("quickstart: a pod has read the token {total:.1} s after helm install"));
    expressions_run_in_the_container(cluster);
    timeline.add("an integration with JSONata expressions: its worker runs without capabilities, with seccomp");
    step(4);
    // The garbage collector discovers new kinds every 30 s, and the CRD is new.
    cluster.succeed("kubectl wait secret/my-api-token --for=delete --timeout=90s");
    cluster.succeed("kubectl get crd/oauthintegrations.oauth.evolutionx.io");
    timeline.add("quickstart: cleaned up");
}

/// The operator and an integration whose tokens live 30 s, as the quickstart makes them.
pub fn operator_and_integration(cluster: &Cluster) {
    for block in &blocks("docs/quickstart.md", "sh")[..3] {
        cluster.succeed(&for_this_cluster(block, CLIENT));
    }
}

/// The sandbox of expressions works under the restricted standard.
fn expressions_run_in_the_container(cluster: &Cluster) {
    let integration = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1",
        "kind": "OAuthIntegration",
        "metadata": {"name": "with-expression"},
        "spec": {
            "issuer": "https://login.example.com/realms/example",
            "grantType": "client_credentials",
            "credentials": {"secretName": "my-api-credentials"},
            "response": {"accessToken": "$uppercase(token_type) & ' ' & access_token"},
            "target": {"secretName": "with-expression-token"},
        },
    });
    apply(&cluster.control_plane, "default", &integration.to_string());
    cluster.succeed("kubectl wait oauthintegration/with-expression --for=condition=Ready --timeout=60s");
    let token = cluster.succeed(
        "kubectl get secret with-expression-token --output jsonpath={.data.access_token} | base64 --decode | cut -c1-10",
    );
    assert!(token.starts_with("BEARER eyJ"), "{token}");
    cluster.succeed("kubectl delete oauthintegration/with-expression");
}
