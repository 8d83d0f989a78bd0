//! Attacks through the target: a Secret that controls another controller, a token of another tenant, or a retained
//! Secret.

mod api_server;
mod permissions;
mod stored_tokens;

use std::time::Duration;

use serde_json::{Value, json};

/// The maximum time until the garbage collector has discovered a new kind of owner.
const COLLECTED: Duration = Duration::from_secs(60);

fn spec(endpoint: &str, target: &Value) -> Value {
    json!({
        "tokenEndpoint": endpoint, "grantType": "client_credentials", "credentials": {"secretName": "credentials"},
        "target": target,
    })
}

fn without_credentials(endpoint: &str) -> Value {
    json!({"tokenEndpoint": endpoint, "grantType": "client_credentials", "clientAuthentication": {"method": "none"}})
}

/// A Helm release as a target: `helm upgrade` reads and executes what the operator writes.
fn forged_release(endpoint: &str) -> Value {
    let mut forged = without_credentials(endpoint);
    forged["target"] = json!({
        "secretName": "sh.helm.release.v1.web.v2", "type": "helm.sh/release.v1",
        "labels": {"owner": "helm", "name": "web", "status": "deployed", "version": "2"},
        "data": {"release": "response.release"},
    });
    forged
}

fn labels(key: &str) -> Value {
    json!({"labels": {key: "true"}})
}

fn annotations(key: &str) -> Value {
    json!({"annotations": {key: "true"}})
}

/// The verbs that the operator uses on a target.
const VERBS: [&str; 4] = ["get", "create", "update", "delete"];

/// A role that allows these verbs on Secret `hers` only.
fn role(verbs: &[&str]) -> String {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "secrets"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hers"], "verbs": verbs}],
    })
    .to_string()
}
