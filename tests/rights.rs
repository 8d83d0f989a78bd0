//! The promise: the chart gives the operator what it uses, and nothing else. Shown by the API server's own audit log, over all that
//! an operator does: each rule is used, and nothing is refused.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::endpoint::{Endpoint, Reply};
use common::manifests::{OPERATOR, helm_template, install_crd, install_rights, install_rights_with_service_accounts};
use common::process::WorkDir;
use common::record;
use common::world::client_credentials;
use common::{ControlPlane, Operator, World, eventually};
use serde_json::{Value, json};

/// One call: verb, group, resource with its subresource.
type Call = (String, String, String);

fn audit(path: &std::path::Path) -> Vec<(Call, u64)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_operator = format!("system:serviceaccount:{OPERATOR}:{OPERATOR}");
    lines
        .filter(|event| event["user"]["username"] == of_operator.as_str() && event["objectRef"].is_object())
        .map(|event| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let about = &event["objectRef"];
            let resource = match word(&about["subresource"]) {
                none if none.is_empty() => word(&about["resource"]),
                subresource => format!("{}/{subresource}", word(&about["resource"])),
            };
            let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
            ((word(&event["verb"]), word(&about["apiGroup"]), resource), code)
        })
        .collect()
}

/// All that the chart's roles of the operator allow.
fn granted() -> BTreeSet<Call> {
    let rendered = helm_template(&["--set", "serviceAccountTokens.enabled=true", "--set", "rbac.aggregateRoles=false"]);
    let mut granted = BTreeSet::new();
    for document in rendered.split("\n---") {
        let Ok(document) = serde_saphyr::from_str::<Value>(document) else { continue };
        if !matches!(document["kind"].as_str(), Some("Role" | "ClusterRole")) {
            continue;
        }
        for rule in document["rules"].as_array().into_iter().flatten() {
            let all = |name: &str| -> Vec<String> {
                rule[name]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one.as_str().map(ToOwned::to_owned))
                    .collect()
            };
            for group in all("apiGroups") {
                for resource in all("resources") {
                    for verb in all("verbs") {
                        granted.insert((verb, group.clone(), resource.clone()));
                    }
                }
            }
        }
    }
    granted
}

#[tokio::test]
async fn every_right_is_used_and_none_is_lacking() {
    let work = WorkDir::new("audit");
    let policy = work.path().join("policy.yaml");
    let log = record::file("audit").unwrap_or_else(|| work.path().join("audit.log"));
    std::fs::write(&policy, record::policy("Metadata")).expect("a policy");
    let control_plane = ControlPlane::start_with(&[
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
    ]);
    install_crd(&control_plane);
    install_rights(&control_plane);
    install_rights_with_service_accounts(&control_plane);
    let namespace = control_plane.namespace("rights").await;
    let kubeconfig = control_plane.kubeconfig_for(OPERATOR, OPERATOR).await;
    let arguments = ["--leader-elect", "--lease-namespace", OPERATOR];
    let operator = Operator::start_with(&kubeconfig, &arguments).await;
    let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
    eventually(
        "it leads",
        Duration::from_secs(30),
        async || if world.operator.leads() { Ok(()) } else { Err(String::new()) },
    )
    .await;
    live(&world).await;
    // The end gives the lease up.
    world.operator.terminate(Duration::from_secs(30));
    let calls = audit(&log);
    let refused: Vec<_> = calls.iter().filter(|(_, code)| matches!(code, 401 | 403)).collect();
    assert!(refused.is_empty(), "a right is lacking: {refused:?}");
    let used: BTreeSet<Call> = calls.into_iter().map(|(call, _)| call).collect();
    let unused: Vec<_> = granted().into_iter().filter(|right| !used.contains(right)).collect();
    // An event of the election that comes again within minutes is patched rather than made; here each comes once.
    let expected = [("patch", "events.k8s.io", "events")].map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(unused, expected, "a right is not used");
}

/// All that happens in the life of integrations.
async fn live(world: &World) {
    let endpoint = Endpoint::start(|_| Reply::token(9));
    world.credentials().await;
    world.config_map("authority", "ca.crt", &common::keys::Authority::new().pem).await;
    // Issued, renewed, with authorities, and given back when it is deleted.
    let mut spec = client_credentials(&endpoint.url());
    spec["connection"] = json!({"caBundle": {"name": "authority"}});
    spec["revocation"] = json!({"endpoint": format!("http://{}/revoke", endpoint.address()), "onDeletion": true});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.other_value("it", "access_token", &first).await;
    // Another target: the former one is deleted.
    world.change("it", &json!({"spec": {"target": {"secretName": "other"}}})).await;
    world.ready("it").await;
    eventually("the former target is gone", common::world::SOON, async || match world.values("it").await {
        None => Ok(()),
        Some(_) => Err("it is there".to_owned()),
    })
    .await;
    let federated = json!({
        "tokenEndpoint": endpoint.url(), "grantType": "token_exchange", "clientAuthentication": {"method": "none"},
        "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
        "serviceAccountToken": {"serviceAccountName": "default", "audience": "https://sts.example.com"},
    });
    world.integration("federated", &federated).await;
    world.ready("federated").await;
    world.delete("it").await;
}
