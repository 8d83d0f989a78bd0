//! Guarantee: the API server rejects invalid providers, of both kinds, with a message that explains what to change.

use oauth_operator::api::crd::crds;
use serde_json::{Value, json};
use test_support::ControlPlane;
use test_support::manifests::try_apply;

use super::{merge, walk};

/// The message of a rule, and what it accepts and rejects.
type Row = (&'static str, fn() -> Vec<Value>, fn() -> Vec<Value>);

/// Rules that a provider has in common with an integration are tested there, and here once.
const RULES: &[Row] = &[
    (
        "tokenEndpoint, issuer or protectedResource is required",
        || vec![json!({}), json!({"tokenEndpoint": null, "issuer": "https://login.example.com"})],
        || vec![json!({"tokenEndpoint": null})],
    ),
    (
        "revocation.endpoint is required unless issuer is set",
        || {
            vec![
                json!({"revocation": {"endpoint": "https://login.example.com/revoke"}}),
                json!({"issuer": "https://login.example.com", "revocation": {"onDeletion": true}}),
            ]
        },
        || vec![json!({"revocation": {"onDeletion": true}})],
    ),
    (
        "serviceAccountToken is required if clientAuthentication.method is service_account_token",
        || {
            vec![json!({
                "credentials": null, "clientAuthentication": {"method": "service_account_token"},
                "serviceAccountToken": {"serviceAccountName": "erp", "audience": "https://login.example.com"},
            })]
        },
        || {
            vec![
                json!({"clientAuthentication": {"method": "service_account_token"}}),
                json!({"serviceAccountToken": {"serviceAccountName": "erp", "audience": "https://login.example.com"}}),
            ]
        },
    ),
    (
        "credentials is required: set credentials.secretName. It may be omitted only if clientAuthentication.method",
        || vec![json!({"credentials": null, "clientAuthentication": {"method": "none"}})],
        || vec![json!({"credentials": null})],
    ),
    (
        "assertion.from names an integration",
        || vec![json!({"assertion": {"subject": "robot@example.com"}})],
        || vec![json!({"assertion": {"from": {"integration": "other"}}})],
    ),
    (
        "renewBefore must be shorter than tokenLife",
        || vec![json!({"tokenLife": "10m", "renewBefore": "1m"})],
        || vec![json!({"tokenLife": "1m", "renewBefore": "10m"})],
    ),
    (
        "protectedResource does not apply with tokenEndpoint",
        || vec![json!({"tokenEndpoint": null, "protectedResource": "https://mcp.example.com"})],
        || vec![json!({"protectedResource": "https://mcp.example.com"})],
    ),
    (
        "tokenEndpoint must be an absolute http or https URL",
        || vec![json!({"tokenEndpoint": "http://login.example.com/token"})],
        || vec![json!({"tokenEndpoint": "https://user:password@login.example.com/token"})],
    ),
];

const RULES_OF_ALLOW: &[Row] = &[
    (
        "spec.allow[0].namespaces: Required value",
        || vec![json!([{"namespaces": {}}])],
        || vec![json!([{"scopes": ["a"]}])],
    ),
    (
        "spec.allow[0].grantTypes[0]: Unsupported value",
        || vec![json!([{"namespaces": {}, "grantTypes": ["client_credentials"]}])],
        || vec![json!([{"namespaces": {}, "grantTypes": ["implicit"]}])],
    ),
    (
        "spec.allow[0].scopes",
        || vec![json!([{"namespaces": {}, "scopes": ["*"]}])],
        || {
            vec![
                json!([{"namespaces": {}, "scopes": []}]),
                json!([{"namespaces": {}, "scopes": [""]}]),
                json!([{"namespaces": {}, "scopes": ["orders.read orders.write"]}]),
            ]
        },
    ),
    (
        "spec.allow[0].namespaces.selector.matchExpressions[0].operator: Unsupported value",
        || vec![json!([{"namespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}}])],
        || vec![json!([{"namespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "Matches"}]}}}])],
    ),
];

fn apply(kind: &str, change: &Value) -> (bool, String) {
    let mut spec =
        json!({"tokenEndpoint": "https://login.example.com/token", "credentials": {"secretName": "erp-client"}});
    merge(&mut spec, change);
    let object = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": kind, "metadata": {"generateName": "rules-"}, "spec": spec,
    });
    let control_plane = ControlPlane::shared();
    let file = test_support::manifests::temporary_file(&object.to_string());
    let path = file.path().display().to_string();
    let output = control_plane.try_kubectl(&["create", "--dry-run=server", "--filename", &path]);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn each_rule_accepts_valid_providers_and_rejects_invalid_ones_with_its_message() {
    for kind in ["OAuthProvider", "ClusterOAuthProvider"] {
        for (message, accepted, rejected) in RULES {
            for change in accepted() {
                let (is_accepted, error) = apply(kind, &change);
                assert!(is_accepted, "{kind}: {message}: {change} is rejected: {error}");
            }
            for change in rejected() {
                let (is_accepted, error) = apply(kind, &change);
                assert!(!is_accepted && error.contains(message), "{kind}: {change}: {error}");
            }
        }
    }
    for (message, accepted, rejected) in RULES_OF_ALLOW {
        for allow in accepted() {
            let (is_accepted, error) = apply("ClusterOAuthProvider", &json!({"allow": allow}));
            assert!(is_accepted, "{message}: {allow} is rejected: {error}");
        }
        for allow in rejected() {
            let (is_accepted, error) = apply("ClusterOAuthProvider", &json!({"allow": allow}));
            assert!(!is_accepted && error.contains(message), "{allow}: {error}");
        }
    }
}

#[test]
fn every_field_is_described_and_only_a_cluster_scoped_provider_has_rules() {
    for crd in &crds()[1..] {
        let crd = serde_json::to_value(crd).expect("JSON");
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut missing = Vec::new();
        walk("", schema, &mut |path, schema| {
            let own = path.starts_with(".spec") || path.starts_with(".status");
            if own && !path.ends_with("[]") && schema["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.to_owned());
            }
        });
        assert!(missing.is_empty(), "{kind}: without a description: {missing:?}");
        let fields = &schema["properties"]["spec"]["properties"];
        assert_eq!(fields["allow"].is_object(), kind == "ClusterOAuthProvider");
        for own in ["grantType", "providerRef", "tokenExchange", "target", "suspend"] {
            assert!(fields[own].is_null(), "{kind} has {own}");
        }
    }
}

#[test]
fn a_provider_has_a_short_name_columns_and_a_default_status() {
    let control_plane = ControlPlane::shared();
    let (is_applied, error) = try_apply(
        control_plane,
        "default",
        &json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": "columns"},
            "spec": {"issuer": "https://login.example.com", "credentials": {"secretName": "erp-client"}},
        })
        .to_string(),
    );
    assert!(is_applied, "{error}");
    let shown = control_plane.kubectl(&["get", "oap", "columns", "--namespace=default", "--output=wide"]);
    let header: Vec<&str> = shown.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "READY", "REASON", "INTEGRATIONS", "AGE", "ISSUER", "ENDPOINT"]);
    assert!(shown.contains("Unknown") && shown.contains("Pending"), "{shown}");
    let explained = control_plane.kubectl(&["explain", "clusteroauthprovider.spec.allow"]);
    assert!(explained.contains("The rules are additive, as in RBAC"), "{explained}");
    let all = control_plane.kubectl(&["api-resources", "--categories=oauth", "--no-headers"]);
    assert_eq!(all.lines().count(), 3, "{all}");
}
