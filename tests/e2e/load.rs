//! Memory and CPU of the operator in its container, for the requests in the chart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::manifests::temporary_file;

use crate::Timeline;
use crate::cluster::{Cluster, PATIENCE};
use crate::operations::operators;

/// Tokens live 60 s. `E2E_INTEGRATIONS` sets another number; a few are enough here, because the canary test searches
/// for each fragment of each token.
const INTEGRATIONS: usize = 30;
/// How long renewals are measured.
const MEASURED: Duration = Duration::from_secs(15);
/// The requests of the chart. The CPU time is printed and not asserted, because it depends on the machine.
const REQUESTED_MEMORY: (&str, u64) = ("32Mi", 32 << 20);
const REQUESTED_CPU: &str = "10m";

/// Creates integrations, and measures the leader while it renews their tokens.
pub fn stays_within_the_requests(cluster: &Cluster, timeline: &Timeline) {
    let count = std::env::var("E2E_INTEGRATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(INTEGRATIONS);
    let file = temporary_file(&integrations(count).to_string());
    cluster.succeed(&format!(
        "kubectl create namespace load
         kubectl create secret generic service --namespace load --from-literal=client_id=service \
           --from-literal=client_secret=service-secret
         kubectl annotate secret service --namespace load oauth.evolutionx.io/allowed-endpoints=https://login.example.com
         kubectl create --filename {} >/dev/null",
        file.path().display()
    ));
    let created = Instant::now();
    while ready(cluster) < count {
        assert!(created.elapsed() < PATIENCE, "{} of {count} are ready: {}", ready(cluster), cluster.state());
        std::thread::sleep(Duration::from_millis(500));
    }
    let before: Vec<_> = usage(cluster);
    let begun = Instant::now();
    std::thread::sleep(MEASURED);
    let seconds = begun.elapsed().as_secs_f64();
    for ((name, before), (_, after)) in before.iter().zip(usage(cluster)) {
        let cores = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / seconds;
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let peak = after.peak_memory as f64 / 1_048_576.0;
        timeline.add(&format!(
            "{count} integrations of 60 s: {name} uses {:.0}m CPU, at most {peak:.1} MiB",
            cores * 1000.0
        ));
        assert!(after.peak_memory < REQUESTED_MEMORY.1, "{name} uses more memory than it requests");
    }
    let requests = &operators(cluster)[0]["spec"]["containers"][0]["resources"]["requests"];
    assert_eq!((&requests["memory"], &requests["cpu"]), (&json!(REQUESTED_MEMORY.0), &json!(REQUESTED_CPU)));
    cluster.succeed("kubectl delete namespace load --wait=false");
}

fn integrations(count: usize) -> Value {
    let integration = |number: usize| {
        json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1",
            "kind": "OAuthIntegration",
            "metadata": {"name": format!("load-{number}"), "namespace": "load"},
            "spec": {
                "issuer": "https://login.example.com/realms/example",
                "grantType": "client_credentials",
                "credentials": {"secretName": "service"},
            },
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": (0..count).map(integration).collect::<Vec<_>>()})
}

fn ready(cluster: &Cluster) -> usize {
    let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let printed =
        cluster.control_plane.kubectl(&["get", "oauthintegrations", "--namespace", "load", "--output", ready]);
    printed.split_whitespace().filter(|status| *status == "True").count()
}

fn usage(cluster: &Cluster) -> Vec<(String, test_support::node::Usage)> {
    let pods = operators(cluster);
    let usage = |pod: &Value| {
        let text = |name: &str| pod["metadata"][name].as_str().expect("text").to_owned();
        let usage = cluster.nodes.iter().find_map(|node| node.usage(&text("uid")));
        (text("name"), usage.unwrap_or_else(|| panic!("{} has no control group", text("name"))))
    };
    pods.iter().map(usage).collect()
}
