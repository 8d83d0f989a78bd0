//! Providers in the files of `fetch`.

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};

use super::{CANARY, credentials_of, fetch};

fn provider(endpoint: &Endpoint, allow: &Value) -> Value {
    json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider", "metadata": {"name": "erp"},
        "spec": {
            "tokenEndpoint": endpoint.url(), "credentials": {"secretName": "erp-client"}, "scope": "own", "allow": allow,
            "clientAuthentication": {"method": "client_secret_basic"},
        },
    })
}

fn integration(scope: &str) -> Value {
    json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
        "metadata": {"name": "orders", "namespace": "billing"},
        "spec": {
            "providerRef": {"kind": "ClusterOAuthProvider", "name": "erp"}, "grantType": "client_credentials", "scope": scope,
        },
    })
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "billing", "labels": {"erp": "true"}}})
}

#[test]
fn a_provider_in_the_files_is_used_and_the_explanation_says_what_is_from_where() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let client =
        credentials_of("erp-client", &json!({"client_id": "platform", "client_secret": format!("{CANARY}-secret")}));
    let allow = json!([{"namespaces": {"selector": {"matchLabels": {"erp": "true"}}}, "scopes": ["orders.read"]}]);
    let files = [provider(&endpoint, &allow), client, integration("orders.read"), namespace()];
    let run = fetch(&files, &["--explain"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let expected = "# orders has these fields from ClusterOAuthProvider erp: clientAuthentication, credentials, tokenEndpoint\n# and these of its own: grantType, providerRef, scope, target\n";
    assert!(run.err.contains(expected), "{}", run.err);
    let requests = endpoint.requests();
    assert!(requests[0].headers["authorization"].starts_with("Basic ") && requests[0].json()["scope"] == "orders.read");
    assert!(run.out.contains("name: orders"), "{}", run.out);

    let run = fetch(&files[..3], &[]);
    assert!(
        run.code == 3 && run.err.contains("NotAllowed: ClusterOAuthProvider erp does not allow namespace billing"),
        "{}",
        run.err
    );
    let run = fetch(&[files[0].clone(), files[1].clone(), integration("admin"), namespace()], &[]);
    assert!(
        run.code == 3 && run.err.contains("the scope admin for namespace billing; allowed: orders.read"),
        "{}",
        run.err
    );
    let run = fetch(&[files[1].clone(), integration("orders.read"), namespace()], &[]);
    assert!(
        run.code == 3 && run.err.contains("ProviderNotFound: ClusterOAuthProvider erp is not in the given files"),
        "{}",
        run.err
    );
    let mut wrong = files[0].clone();
    wrong["spec"]["allow"][0]["scope"] = json!("orders.read");
    wrong["spec"]["grantType"] = json!("client_credentials");
    let run = fetch(&[wrong, files[1].clone(), files[2].clone()], &[]);
    assert!(run.code == 2 && run.err.contains("ClusterOAuthProvider erp: unknown fields: "), "{}", run.err);
    assert!(run.err.contains("spec.allow.0.scope") && run.err.contains("spec.grantType"), "{}", run.err);
    assert_eq!(endpoint.count(), 1);
}
