//! Guarantee: the operator reports its state, starts in any environment, and reports invalid arguments.

use std::process::Command;
use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;
use test_support::endpoint::{Endpoint, Reply, canary};
use test_support::operator::{binary, kubeconfig};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, Operator, World, eventually, manifests};

#[tokio::test]
async fn metrics_count_requests_tokens_and_reconciliations_and_drop_deleted_integrations() {
    let endpoint = Endpoint::start(|request| match request.parameter("scope").as_str() {
        "refused" => Reply::rejected(400, "invalid_scope", "no"),
        _ => {
            let refresh_token = format!("refresh-{}", canary());
            let body = json!({"access_token": format!("token-{}", canary()), "expires_in": 3600,
                "refresh_token": refresh_token, "refresh_expires_in": 7200});
            Reply::json(200, &body)
        }
    });
    let world = World::new("metrics").await;
    world.credentials().await;
    world.integration("good", &client_credentials(&endpoint.url())).await;
    let mut bad = client_credentials(&endpoint.url());
    bad["scope"] = json!("refused");
    world.integration("bad", &bad).await;
    let status = world.ready("good").await.status.expect("a status");
    world.condition("bad", "Ready", "False", "RequestRejected").await;
    let of = |name: &str| format!("namespace=\"{}\",name=\"{name}\"", world.namespace);
    // The watch returns the last status shortly after it was written.
    eventually("both integrations have metrics", SHORT_TIMEOUT, async || {
        let ready = |name: &str| world.operator.metric("oauth_operator_integration_ready", &of(name));
        if (ready("good"), ready("bad")) == (Some(1.0), Some(0.0)) { Ok(()) } else { Err(world.operator.metrics()) }
    })
    .await;
    let metric = |name: &str, labels: &str| world.operator.metric(name, labels);
    let requests = "oauth_operator_token_requests_total";
    assert_eq!(metric(requests, "grant=\"client_credentials\",host_class=\"external\",outcome=\"Success\""), Some(1.0));
    assert_eq!(
        metric(requests, "grant=\"client_credentials\",host_class=\"external\",outcome=\"RequestRejected\""),
        Some(1.0)
    );
    let duration = "oauth_operator_token_request_duration_seconds_count";
    assert_eq!(metric(duration, "grant=\"client_credentials\""), Some(2.0));
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let expires = status.expires_at.expect("an expiry time").0.as_second() as f64;
    assert_eq!(metric("oauth_operator_token_expiry_timestamp_seconds", &of("good")), Some(expires));
    let refresh_token = "oauth_operator_refresh_token_expiry_timestamp_seconds";
    assert_eq!(metric(refresh_token, &of("good")), Some(expires + 3600.0));
    assert_eq!(metric(refresh_token, &of("bad")), None);
    assert!(world.operator.sum("oauth_operator_reconciles_total", "") >= 2.0);
    world.integrations().delete("good", &DeleteParams::default()).await.expect("a deletion");
    eventually("the metrics of the deleted integration are removed", SHORT_TIMEOUT, async || {
        let text = world.operator.metrics();
        if text.contains(&of("good")) { Err(text) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn readyz_fails_until_the_caches_are_synced_and_the_crd_exists() {
    let control_plane = ControlPlane::start();
    manifests::install_permissions(&control_plane);
    let operator = Operator::start_unready(&kubeconfig(&control_plane).await, &[]);
    assert_eq!(operator.get("/healthz").0, 200);
    let (status, text) = operator.get("/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("integrations"), "{text}");
    // It logs that the CRD does not exist yet.
    eventually("the missing CRD is logged", SHORT_TIMEOUT, async || {
        let log = operator.logs();
        if log.contains("the CustomResourceDefinition is not installed yet") { Ok(()) } else { Err(log) }
    })
    .await;
    // Nothing is in flight, so that the shutdown does not wait.
    let other = Operator::start_unready(&kubeconfig(&control_plane).await, &[]);
    assert_eq!(other.terminate(Duration::from_secs(5)), 0);
    manifests::install_crd(&control_plane);
    eventually("readiness", Duration::from_secs(90), async || match operator.get("/readyz") {
        (200, _) => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    })
    .await;
}

#[tokio::test]
async fn namespaces_and_selectors_limit_what_is_reconciled() {
    let control_plane = ControlPlane::shared();
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let (one, two, other) = (
        control_plane.namespace("one").await,
        control_plane.namespace("two").await,
        control_plane.namespace("other").await,
    );
    let config = kubeconfig(control_plane).await;
    let arguments = ["--namespace", &one, "--namespace", &two, "--selector", "team=erp"];
    let operator = Operator::start_with(&config, &arguments).await;
    // The environments use the operator and the client one after another.
    let mut world =
        World { client: control_plane.client().await, namespace: other.clone(), operator, kubeconfig: config };
    for namespace in [&other, &one, &two] {
        world.namespace.clone_from(namespace);
        world.credentials().await;
        for name in ["theirs", "ours"] {
            world.integration(name, &client_credentials(&endpoint.url())).await;
        }
        world.change("ours", &json!({"metadata": {"labels": {"team": "erp"}}})).await;
    }
    for namespace in [&one, &two] {
        world.namespace.clone_from(namespace);
        world.ready("ours").await;
        assert_eq!(world.values("theirs").await, None, "without the label");
    }
    world.namespace.clone_from(&other);
    assert_eq!(world.values("ours").await, None, "in another namespace");
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn each_log_line_is_json_and_names_its_integration() {
    let world = World::new("logs").await;
    world.integration("without-credentials", &client_credentials("https://login.example.com/token")).await;
    world.condition("without-credentials", "Ready", "False", "CredentialsMissing").await;
    let named = format!("\"namespace\":\"{}\",\"name\":\"without-credentials\"", world.namespace);
    eventually("the failure is logged", SHORT_TIMEOUT, async || {
        let log = world.operator.logs();
        if log.contains(&named) { Ok(()) } else { Err(format!("{named} is not in {log}")) }
    })
    .await;
    for line in world.operator.logs().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

/// The CRD is often updated by somebody else, and after the operator.
#[tokio::test]
async fn the_crd_of_an_earlier_release_is_enough() {
    let control_plane = ControlPlane::start();
    manifests::install_crd(&control_plane);
    manifests::install_permissions(&control_plane);
    let fields = [
        "ready",
        "reason",
        "refreshTokenExpiresAt",
        "credentialsExpireAt",
        "lastHandledRenewRequest",
        "lastRenewalTime",
        "renewals",
    ];
    let at = "/spec/versions/0";
    let status = format!("{at}/schema/openAPIV3Schema/properties/status");
    let remove = |path: String| json!({"op": "remove", "path": path});
    let mut patch = vec![remove(format!("{at}/selectableFields")), remove(format!("{status}/default"))];
    patch.extend(fields.map(|field| remove(format!("{status}/properties/{field}"))));
    let patch = json!(patch).to_string();
    let crd = "oauthintegrations.oauth.evolutionx.io";
    control_plane.kubectl(&["patch", "crd", crd, "--type=json", "--patch", &patch]);
    manifests::wait_until_established(&control_plane, crd);
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let flags = ["--allow-http", "--allow-cidr=127.0.0.0/8"];
    let operator = Operator::start_with(&kubeconfig(&control_plane).await, &flags).await;
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"},
            "stringData": {"client_id": "erp", "client_secret": canary()}},
        {"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": "it"},
            "spec": client_credentials(&endpoint.url())},
    ]});
    manifests::apply(&control_plane, "default", &objects.to_string());
    eventually("the integration is Ready", SHORT_TIMEOUT, async || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        let reason = control_plane.kubectl(&["get", "oai", "it", "--namespace=default", "--output", path]);
        if reason == "TokenValid" { Ok(()) } else { Err(format!("{reason}\n{}", operator.logs())) }
    })
    .await;
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn an_invalid_selector_ends_the_start_with_an_error() {
    let config = kubeconfig(ControlPlane::shared()).await;
    let arguments = ["run", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--selector=a b c"];
    let output = Command::new(binary()).args(arguments).env("KUBECONFIG", config).output().expect("the binary");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("--selector \"a b c\" is not a label selector, such as team=erp"), "{message}");
}

#[test]
fn wrong_usage_is_reported_and_exits_with_2() {
    for arguments in
        [&["run", "--concurrency", "0"][..], &["run", "--listen", "nowhere"], &["walk"], &["run", "--log", "==="]]
    {
        let output = Command::new(binary()).args(arguments).output().expect("the binary");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: "), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let config = kubeconfig(ControlPlane::shared()).await;
    let output = Command::new(binary())
        .args(["run", "--listen", &address])
        .env("KUBECONFIG", config)
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains(&format!("failed to listen on {address}")), "{message}");
}
