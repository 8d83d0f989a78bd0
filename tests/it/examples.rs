//! Guarantee: the examples work unchanged. Each is applied to the real API server with only its endpoint replaced,
//! and the endpoint checks the exact body.

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, RotatingTokenServer};
use test_support::manifests::{apply, example};
use test_support::{ControlPlane, World, tools};

/// Applies an example, waits until the integration is ready, and returns its environment and the request.
async fn run(file: &str, integration: &str, endpoint: &Endpoint) -> (World, test_support::endpoint::Request) {
    let world = World::new(integration).await;
    apply(ControlPlane::shared(), &world.namespace, &example(file, &endpoint.url()));
    world.ready(integration).await;
    let request = endpoint.requests().into_iter().next().expect("a request");
    (world, request)
}

#[tokio::test]
async fn erp_live() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let (world, request) = run("erp-live.yaml", "erp-live", &endpoint).await;
    let expected = json!({
        "grant_type": "client_credentials",
        "client_id": "replace-with-your-client-id",
        "client_secret": "replace-with-your-client-secret",
        "resource": "https://www.resource.com",
        "scope": "customer order add.order",
    });
    assert_eq!(request.json(), expected);
    assert!(world.value("erp-live-token", "access_token").await.starts_with("token-"));
}

#[tokio::test]
async fn evox_orders() {
    let endpoint = Endpoint::start(|_| Reply::json(200, &json!({"access_token": "kanarie-opaque"})));
    let (world, request) = run("evox-orders.yaml", "evox-orders", &endpoint).await;
    let expected = json!({"username": "replace-with-your-user-name", "password": "replace-with-your-password"});
    assert_eq!(request.json(), expected);
    let status = world.get("evox-orders").await.status.expect("a status");
    let lifetime =
        status.expires_at.expect("an expiry time").0.duration_since(status.issued_at.expect("an issue time").0);
    assert_eq!(lifetime.as_secs(), 30 * 60);
}

#[tokio::test]
async fn refresh_token() {
    let server = RotatingTokenServer::new(3600);
    server.accept("replace-with-the-first-refresh-token");
    let responding = server.clone();
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    let (world, request) = run("refresh-token.yaml", "crm", &endpoint).await;
    let expected = json!({
        "grant_type": "refresh_token",
        "client_id": "replace-with-your-client-id",
        "client_secret": "replace-with-your-client-secret",
        "refresh_token": "replace-with-the-first-refresh-token",
    });
    assert_eq!(request.json(), expected);
    assert!(world.value("crm-token", "refresh_token").await.starts_with("refresh-"));
}

#[tokio::test]
async fn keycloak() {
    let endpoint = Endpoint::start(|request| match request.headers["content-type"].as_str() {
        "application/x-www-form-urlencoded" => Reply::token(300),
        _ => Reply::rejected(400, "invalid_request", "Missing form parameter: grant_type"),
    });
    let (world, request) = run("keycloak.yaml", "keycloak", &endpoint).await;
    assert_eq!(request.parameter("grant_type"), "client_credentials");
    assert!(world.value("keycloak-token", "expires_at").await.ends_with('Z'));
}

#[tokio::test]
async fn custom_response() {
    let body = json!({"data": {"session": {"jwt": "kanarie-jwt", "renew": "kanarie-renewal", "ttlMinutes": 15}}});
    let endpoint = Endpoint::start(move |_| Reply::json(200, &body));
    let (world, request) = run("custom-response.yaml", "warehouse", &endpoint).await;
    let expected = json!({
        "username": "replace-with-your-user-name", "password": "replace-with-your-password", "device": "kubernetes",
    });
    assert_eq!(request.json(), expected);
    assert_eq!(request.headers["x-api-version"], "2");
    let values = world.values("warehouse-token").await.expect("the target");
    assert_eq!((values["jwt"].as_str(), values["renew"].as_str()), ("kanarie-jwt", "kanarie-renewal"));
    let status = world.get("warehouse").await.status.expect("a status");
    let lifetime =
        status.expires_at.expect("an expiry time").0.duration_since(status.issued_at.expect("an issue time").0);
    // A computed lifetime is rounded down to four binary digits, so that the status reveals nothing about a token: here
    // from 900 s to 896 s.
    assert_eq!(lifetime.as_secs(), 896);
}

#[tokio::test]
async fn workload() {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("workload").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    control_plane.kubectl(&["label", "namespace", &namespace, enforce]);
    let text = example("workload.yaml", "");
    apply(control_plane, &namespace, &text);
    let deployment = control_plane.kubectl(&["get", "deployment", "customer-sync", "-n", &namespace, "-o", "json"]);
    let deployment: Value = serde_json::from_str(&deployment).expect("a Deployment");
    // A pod as its ReplicaSet would create it, in a namespace with the restricted Pod Security Standard.
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("customer-sync");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, pod.to_string().as_bytes()).expect("written");
    control_plane.kubectl(&["create", "--dry-run=server", "-n", &namespace, "-f", &file.path().display().to_string()]);
    // It mounts the target of the example integration.
    assert_eq!(pod["spec"]["volumes"][0]["secret"]["secretName"], "erp-live-token");
}

/// The test of docs/quickstart.md, on a node, runs the same integration.
#[test]
fn the_quickstart_example_is_that_of_the_quickstart() {
    let read = |path: &str| std::fs::read_to_string(tools::root().join(path)).expect("a file");
    let example = read("examples/quickstart.yaml");
    let (_, manifest) = example.split_once('\n').expect("a comment");
    for page in ["docs/quickstart.md", "README.md"] {
        let page = read(page).replace("   # or tokenEndpoint: https://…", "");
        assert!(page.contains(&format!("<<EOF\n{manifest}EOF\n")), "another integration");
    }
}

#[test]
fn every_example_has_a_test() {
    let tested = [
        "custom-response.yaml",
        "erp-live.yaml",
        "evox-orders.yaml",
        "keycloak.yaml",
        // Its test is in `oauth_providers.rs`.
        "platform",
        "quickstart.yaml",
        "refresh-token.yaml",
        "workload.yaml",
    ];
    let entries = std::fs::read_dir(tools::root().join("examples")).expect("the examples");
    let mut found: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    assert_eq!(found, tested);
}

#[test]
fn the_readme_lists_erp_live_and_evox_first() {
    let readme = std::fs::read_to_string(tools::root().join("README.md")).expect("README.md");
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with('|') && line.contains("examples/")).collect();
    assert!(rows[0].contains("ERP Live customer account") && rows[0].contains("examples/erp-live.yaml"), "{rows:?}");
    assert!(rows[1].contains("Evox Order processing") && rows[1].contains("examples/evox-orders.yaml"), "{rows:?}");
}
