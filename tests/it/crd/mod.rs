//! Guarantee: the API server rejects invalid specs with a message that explains what to change.

mod providers;
mod rules;

use kube::api::{Patch, PatchParams};
use rules::{RULES, Rule};
use serde_json::{Value, json};
use test_support::spec::merge;
use test_support::world::{World, client_credentials};
use test_support::{ControlPlane, Endpoint, endpoint::Reply, tools};

fn crd() -> Value {
    serde_json::to_value(oauth_operator::api::crd::crd()).expect("the CRD as JSON")
}

fn schema() -> Value {
    crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn the_crd_files_are_up_to_date() {
    let print = |arguments: &[&str]| {
        let command = std::process::Command::new(test_support::operator::binary()).arg("crd").args(arguments).output();
        String::from_utf8_lossy(&command.expect("the binary").stdout).into_owned()
    };
    let mut all = Vec::new();
    for name in ["oauthintegrations", "oauthproviders", "clusteroauthproviders"] {
        let printed = print(&[name]);
        for folder in ["crds", "charts/oauth-operator/files"] {
            let file = format!("{folder}/{name}.yaml");
            let stored = std::fs::read_to_string(tools::root().join(&file)).expect("the CRD's file");
            assert!(stored == printed, "{file} does not match the code: run `make crds`");
        }
        all.push(printed);
    }
    assert_eq!(print(&[]), all.join("---\n"));
}

/// Calls `visit` with this schema and every schema below it, with their paths.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), inner, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
}

#[test]
fn every_field_is_described() {
    let mut missing = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        let own = path.starts_with(".spec") || path.starts_with(".status");
        if own && !path.ends_with("[]") && schema["description"].as_str().is_none_or(str::is_empty) {
            missing.push(path.to_owned());
        }
    });
    assert!(missing.is_empty(), "without a description: {missing:?}");
}

#[test]
fn every_default_is_in_its_description() {
    let mut undocumented = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        let text = schema["description"].as_str().unwrap_or_default();
        if let Value::String(default) = &schema["default"]
            && !text.contains(default.as_str())
        {
            undocumented.push(path.to_owned());
        }
    });
    assert!(undocumented.is_empty(), "the default is not documented: {undocumented:?}");
}

fn changed(name: &str, change: &Value) -> Value {
    let mut spec = client_credentials("https://login.example.com/token");
    merge(&mut spec, change);
    // NAME stands for the integration's own name, which is the default name of the target.
    if spec["credentials"]["secretName"] == "NAME" {
        spec["credentials"]["secretName"] = json!(name);
    }
    spec
}

#[tokio::test]
async fn each_rule_accepts_valid_specs_and_rejects_invalid_ones_with_its_message() {
    let world = World::new("rules").await;
    let mut number = 0;
    for Rule { message, accepted, rejected } in RULES {
        for change in accepted() {
            number += 1;
            let name = format!("it-{number}");
            let made = world.try_integration(&name, &changed(&name, &change)).await;
            assert!(made.is_ok(), "{message}: {change} is rejected: {:?}", made.err().map(|error| error.to_string()));
        }
        for change in rejected() {
            number += 1;
            let name = format!("it-{number}");
            let rejection = world.try_integration(&name, &changed(&name, &change)).await;
            let rejection = rejection.err().unwrap_or_else(|| panic!("{message}: {change} is accepted")).to_string();
            assert!(rejection.contains(message), "{change}: {rejection}");
        }
    }
}

#[tokio::test]
async fn bounds_and_patterns_are_enforced_by_the_schema() {
    let world = World::new("bounds").await;
    let long = "x".repeat(5000);
    for (change, field) in [
        (json!({"grantType": "magic"}), "spec.grantType"),
        (json!({"scope": ""}), "spec.scope"),
        (json!({"scope": long}), "spec.scope"),
        (json!({"request": {"format": "xml"}}), "spec.request.format"),
        (json!({"response": {"accessToken": ""}}), "spec.response.accessToken"),
        (json!({"credentials": {"keys": {"clientId": "a b"}}}), "spec.credentials.keys.clientId"),
        (json!({"target": {"keys": {"accessToken": ""}}}), "spec.target.keys.accessToken"),
        (json!({"request": {"parametersFrom": {"a": {}}}}), "spec.request.parametersFrom"),
        (json!({"request": {"headersFrom": {"A": {"key": "a b"}}}}), "spec.request.headersFrom"),
        (json!({"resource": {"key": "", "value": "x"}}), "spec.resource.key"),
        (json!({"resource": {"key": "audience", "value": ""}}), "spec.resource.value"),
        (json!({"resource": {"key": "resource", "values": vec!["x"; 17]}}), "spec.resource.values"),
        (json!({"clientAuthentication": {"method": "magic"}}), "spec.clientAuthentication.method"),
        (json!({"dpop": {"algorithm": "HS256"}}), "spec.dpop.algorithm"),
        (json!({"grantType": "jwt_bearer", "assertion": {"claims": "not an object"}}), "spec.assertion.claims"),
        (
            json!({"grantType": "jwt_bearer", "assertion": {"certificateChain": "yes"}}),
            "spec.assertion.certificateChain",
        ),
        (json!({"grantType": "jwt_bearer", "assertion": {"place": "Query"}}), "spec.assertion.place"),
        (
            json!({"credentials": {"keys": {"privateKeyPassphrase": "a b"}}}),
            "spec.credentials.keys.privateKeyPassphrase",
        ),
        (json!({"target": {"deletionPolicy": "Keep"}}), "spec.target.deletionPolicy"),
    ] {
        let rejection = world.try_integration("it", &changed("it", &change)).await;
        let rejection = rejection.err().unwrap_or_else(|| panic!("{change} is accepted")).to_string();
        assert!(rejection.contains(field), "{change}: {rejection}");
    }
}

#[tokio::test]
async fn the_type_of_an_existing_target_cannot_change() {
    let world = World::new("type").await;
    world.integration("it", &client_credentials("https://login.example.com/token")).await;
    let control_plane = ControlPlane::shared();
    let patch = |patch: &str| {
        control_plane.try_kubectl(&["patch", "oai", "it", "-n", &world.namespace, "--type=merge", "-p", patch])
    };
    let rejected = patch(r#"{"spec":{"target":{"type":"example.com/other"}}}"#);
    let message = String::from_utf8_lossy(&rejected.stderr).into_owned();
    assert!(message.contains("target.type of an existing Secret cannot be changed"), "{message}");
    let admitted = patch(r#"{"spec":{"target":{"type":"example.com/other","secretName":"another"}}}"#);
    assert!(admitted.status.success(), "{}", String::from_utf8_lossy(&admitted.stderr));
}

#[tokio::test]
async fn the_target_and_the_secret_for_the_refresh_token_cannot_change_places() {
    let world = World::new("places").await;
    let mut spec = client_credentials("https://login.example.com/token");
    spec["target"] = json!({"refreshTokenSecretName": "apart"});
    world.integration("it", &spec).await;
    let patch = async |target: Value| {
        let patch = Patch::Merge(json!({"spec": {"target": target}}));
        world.integrations().patch("it", &PatchParams::default(), &patch).await.map_err(|error| error.to_string())
    };
    for target in [
        json!({"secretName": "apart", "refreshTokenSecretName": "it"}),
        json!({"secretName": "apart", "refreshTokenSecretName": null}),
        json!({"secretName": "other", "refreshTokenSecretName": "it"}),
    ] {
        let error = patch(target.clone()).await.expect_err("it is rejected");
        assert!(error.contains("cannot become the target"), "{target}: {error}");
    }
    patch(json!({"secretName": "other", "refreshTokenSecretName": "another"})).await.expect("new names");
    patch(json!({"secretName": "apart"})).await.expect("a name that is free again");
}

#[test]
fn every_rule_of_the_crd_is_in_the_table() {
    let mut messages = Vec::new();
    walk("", &schema(), &mut |_, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            messages.push(rule["message"].as_str().unwrap_or_default().to_owned());
        }
    });
    // A type that several fields have.
    messages.sort_unstable();
    messages.dedup();
    let mut known: Vec<&str> = RULES.iter().map(|rule| rule.message).collect();
    // Rules about changes have tests of their own.
    known.push("target.type of an existing Secret cannot be changed");
    known.push("a Secret cannot become the target after it was spec.target.refreshTokenSecretName");
    for message in &messages {
        assert!(known.iter().any(|known| message.starts_with(known)), "no test for: {message}");
    }
    // Both assertions have the same rules, and their rows have cases for both.
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), known.len());
}

#[tokio::test]
async fn kubectl_shows_the_documented_columns() {
    let control_plane = ControlPlane::shared();
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("columns").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let table = control_plane.kubectl(&["get", "oai", "-n", &world.namespace, "-o", "wide"]);
    let (head, row) = table.split_once('\n').expect("a header and a row");
    let columns = ["NAME", "READY", "REASON", "GRANT", "EXPIRES", "RENEWS", "AGE", "TARGET", "ENDPOINT", "RETRY"];
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), columns);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..4], ["it", "True", "TokenValid", "client_credentials"]);
    assert_eq!((cells[7], cells[8]), ("it", endpoint.url().as_str()));
    let selected = |selector: &str| {
        let selector = format!("--field-selector={selector}");
        control_plane.kubectl(&["get", "oai", "-n", &world.namespace, &selector, "-o", "name"])
    };
    assert!(selected("status.reason=TokenValid,status.ready=True").contains("/it"));
    assert_eq!(selected("status.reason!=TokenValid"), "");
    // Integrations are also listed by category, and each field has a description.
    assert!(control_plane.kubectl(&["get", "oauth", "-n", &world.namespace]).contains("it"));
    let explained = control_plane.kubectl(&["explain", "oai.spec", "--recursive"]);
    assert!(explained.contains("renewBefore") && explained.contains("secretName"), "{explained}");
    let field = control_plane.kubectl(&["explain", "oai.spec.tokenLife"]);
    assert!(field.contains("Maximum time for which an access token is used") && field.contains("8760h"), "{field}");
}

#[tokio::test]
async fn an_integration_that_was_never_reconciled_is_pending() {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("unwatched").await;
    let world = World::new("elsewhere").await;
    let unwatched = World { namespace, ..world };
    unwatched.integration("it", &client_credentials("https://login.example.com/token")).await;
    let table = control_plane.kubectl(&["get", "oai", "-n", &unwatched.namespace]);
    assert!(table.contains("Unknown") && table.contains("Pending"), "{table}");
    let message = "jsonpath={.status.conditions[0].message}";
    let message = control_plane.kubectl(&["get", "oai", "it", "-n", &unwatched.namespace, "-o", message]);
    assert!(message.contains("is the operator running") && message.contains("this namespace"), "{message}");
}
