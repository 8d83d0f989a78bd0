//! What operators of a cluster do, while a workload calls a protected API: it never sees an expired token.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::manifests::apply;
use test_support::node::OUTSIDE;

use crate::Timeline;
use crate::cluster::{API_PORT, Cluster, PATIENCE};
use crate::install;

const RENEWALS: usize = 5;
/// Tokens live 30 s.
const NEXT_RENEWAL: Duration = Duration::from_secs(60);

/// Five renewals, a rolling update, the deletion of the leader's pod, and a drain of its node.
pub fn without_an_expired_token(cluster: &Cluster, timeline: &Timeline) {
    install::operator_and_integration(cluster);
    start_workload(cluster);
    wait_for_tokens(cluster, 2);
    timeline.add("a workload calls the API ten times a second; the first renewal has reached it");

    cluster.succeed("kubectl rollout restart deployment/oauth-operator --namespace oauth-operator");
    cluster.succeed("kubectl rollout status deployment/oauth-operator --namespace oauth-operator --timeout=120s");
    timeline.add("rolling update of the operator: done");
    let before = cluster.api.tokens();
    wait_for_tokens(cluster, before + 1);

    let leader = leader(cluster);
    let deleted = Instant::now();
    cluster.succeed(&format!("kubectl delete pod {leader} --namespace oauth-operator --wait=false"));
    wait_for_another_leader(cluster, &leader);
    timeline.add(&format!(
        "kubectl delete pod of the leader: another leads after {:.1} s",
        deleted.elapsed().as_secs_f64()
    ));
    let before = cluster.api.tokens();
    wait_for_tokens(cluster, before + 1);

    ready_operators(cluster);
    let leader = self::leader(cluster);
    let node = pod(cluster, &leader)["spec"]["nodeName"].as_str().expect("a node").to_owned();
    cluster.succeed(&format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=120s"));
    wait_for_another_leader(cluster, &leader);
    timeline.add(&format!("kubectl drain {node}, the leader's node: done, another leads"));
    ready_operators(cluster);
    cluster.succeed(&format!("kubectl uncordon {node}"));
    wait_for_tokens(cluster, (RENEWALS + 1).max(cluster.api.tokens() + 1));

    let responses = cluster.api.responses();
    timeline.add(&format!(
        "{} renewals reached the workload; responses of the API by status: {responses:?}",
        cluster.api.tokens() - 1
    ));
    assert_eq!(responses.get(&401), None, "the workload used an expired token: {responses:?}");
    assert_eq!(responses.get(&503), None, "Keycloak did not introspect a token: {responses:?}");
    assert!(responses[&200] > 100, "the workload hardly called the API: {responses:?}");
    no_container_restarted(cluster);
    println!("{}", cluster.control_plane.kubectl(&["get", "pods", "--all-namespaces", "--output=wide"]));
    cluster.succeed("kubectl delete deployment/orders");
}

/// A client of the API that reads the mounted token before each call.
fn start_workload(cluster: &Cluster) {
    let script = format!(
        "while true; do wget -q -O /dev/null --header \"Authorization: Bearer $(cat /token/access_token)\" \
         http://{OUTSIDE}:{API_PORT}/orders; sleep 0.2; done"
    );
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "orders"},
        "spec": {
            // Two, so that one of them calls the API while the other one is evicted.
            "replicas": 2,
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "orders",
                        "image": "busybox:stable",
                        "command": ["sh", "-c", script],
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [{"name": "token", "mountPath": "/token", "readOnly": true}],
                    }],
                    "volumes": [{"name": "token", "secret": {"secretName": "my-api-token"}}],
                },
            },
        },
    });
    apply(&cluster.control_plane, "default", &deployment.to_string());
    cluster.succeed("kubectl rollout status deployment/orders --timeout=60s");
}

/// Waits until the API has accepted this many different tokens.
fn wait_for_tokens(cluster: &Cluster, count: usize) {
    let mut seen = cluster.api.tokens();
    let mut deadline = Instant::now() + NEXT_RENEWAL;
    while seen < count {
        assert!(
            Instant::now() < deadline,
            "{seen} tokens, and no renewal within {NEXT_RENEWAL:?}: {}",
            cluster.state()
        );
        std::thread::sleep(Duration::from_millis(100));
        if cluster.api.tokens() > seen {
            seen = cluster.api.tokens();
            deadline = Instant::now() + NEXT_RENEWAL;
        }
    }
}

/// The pods of the operator.
pub fn operators(cluster: &Cluster) -> Vec<Value> {
    let pods = cluster.get(&["pods", "--namespace", "oauth-operator"]);
    pods["items"].as_array().expect("pods").clone()
}

fn pod(cluster: &Cluster, name: &str) -> Value {
    cluster.get(&["pod", name, "--namespace", "oauth-operator"])
}

/// The pod that holds the lease; the empty string while nobody does.
fn holder(cluster: &Cluster) -> String {
    let leases = cluster.get(&["leases", "--namespace", "oauth-operator"]);
    let holder = leases["items"][0]["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let names: BTreeSet<String> =
        operators(cluster).iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(ToOwned::to_owned)).collect();
    names.into_iter().find(|name| holder.starts_with(name.as_str())).unwrap_or_default()
}

fn leader(cluster: &Cluster) -> String {
    wait(cluster, "a leader", || Some(holder(cluster)).filter(|holder| !holder.is_empty()))
}

fn wait_for_another_leader(cluster: &Cluster, old: &str) {
    wait(cluster, "another leader", || Some(holder(cluster)).filter(|holder| !holder.is_empty() && holder != old));
}

/// Waits until two pods pass their probes.
fn ready_operators(cluster: &Cluster) {
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_deleted = !pod["metadata"]["deletionTimestamp"].is_null();
        !is_deleted && conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    wait(cluster, "two ready operators", || {
        (operators(cluster).iter().filter(|pod| is_ready(pod)).count() == 2).then_some(())
    });
}

fn wait<T>(cluster: &Cluster, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}: {}", cluster.state());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn no_container_restarted(cluster: &Cluster) {
    for pod in operators(cluster) {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        assert_eq!(restarts, 0, "{}", cluster.state());
    }
}
