//! `make demo`: the main use case, live on this machine.
//!
//! A control plane, a real identity provider (Django OAuth Toolkit), the operator with the chart's permissions, and one
//! integration, whose token is renewed while you watch. It also runs as one of the tests, so that it stays correct.

use std::time::{Duration, Instant};

use test_support::django::Django;
use test_support::manifests::{self, apply};
use test_support::operator::kubeconfig;
use test_support::{ControlPlane, Operator, tools};

/// The lifetime of the tokens: long enough to read the output, short enough to wait for a renewal.
const LIFETIME_SECONDS: u32 = 20;
const RENEWALS: usize = 2;
const NAMESPACE: &str = "erp";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(demo());
}

async fn demo() {
    say("tools: etcd, kube-apiserver, kubectl, helm and Django OAuth Toolkit, built once and then cached");
    for tool in ["kubernetes", "helm", "django"] {
        tools::install(tool);
    }
    say("a control plane on loopback: etcd, kube-apiserver, kube-controller-manager");
    let control_plane = ControlPlane::start();
    say("an identity provider on loopback: Django OAuth Toolkit, with a token lifetime of 20 s");
    let django = Django::start(LIFETIME_SECONDS);
    say("the CRD, and the chart's ServiceAccount and roles");
    manifests::install_crd(&control_plane);
    manifests::install_permissions(&control_plane);
    say("the operator, with only these permissions");
    let operator = Operator::start_with(&kubeconfig(&control_plane).await, &[]).await;

    let manifest = manifest(&django.token_endpoint());
    say("kubectl apply -f erp-live.yaml");
    println!("{manifest}");
    control_plane.kubectl(&["create", "namespace", NAMESPACE]);
    apply(&control_plane, NAMESPACE, &manifest);
    let mut seen = next_token(&control_plane, "").await;
    show(&control_plane, "the Secret was created");
    for renewal in 1..=RENEWALS {
        say(&format!("waiting for renewal {renewal}; nothing happens until it is due"));
        let expiry = expires_at(&control_plane);
        seen = next_token(&control_plane, &seen).await;
        let left = expiry.duration_since(jiff::Timestamp::now()).as_secs();
        assert!(left > 0, "the old token expired before there was a new one");
        show(&control_plane, &format!("renewed: another token is in the Secret, {left} s before the old one expires"));
    }
    say("kubectl describe oauthintegration erp-live (its events)");
    let described = control_plane.kubectl(&["describe", "oauthintegration", "erp-live", "-n", NAMESPACE]);
    println!("{}", described.split_once("Events:").map_or("", |(_, events)| events));
    say("the cost, according to the operator's metrics");
    for line in operator.metrics().lines().filter(|line| line.starts_with("oauth_operator_token_requests_total")) {
        println!("{line}");
    }
    let exit_code = operator.terminate(Duration::from_secs(20));
    assert_eq!(exit_code, 0, "the operator shuts down gracefully");
    say(&format!("done: one token issued and {RENEWALS} renewals; all processes are stopped"));
}

fn say(what: &str) {
    println!("\n==> {what}");
}

fn manifest(endpoint: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: erp-live-credentials
stringData:
  client_id: service
  client_secret: service-secret
---
apiVersion: oauth.evolutionx.io/v1alpha1
kind: OAuthIntegration
metadata:
  name: erp-live
spec:
  tokenEndpoint: {endpoint}
  grantType: client_credentials
  credentials:
    secretName: erp-live-credentials
  resource:
    key: resource
    value: https://www.resource.com
  scope: customer order add.order
  target:
    secretName: erp-live-token
"
    )
}

/// Waits until the token in the Secret differs from `old`.
async fn next_token(control_plane: &ControlPlane, old: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = control_plane.try_kubectl(&[
            "get",
            "secret",
            "erp-live-token",
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.data.access_token}",
        ]);
        let token = String::from_utf8_lossy(&found.stdout).into_owned();
        if !token.is_empty() && token != old {
            return token;
        }
        assert!(Instant::now() < deadline, "no new token within a minute: {}", String::from_utf8_lossy(&found.stderr));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn show(control_plane: &ControlPlane, what: &str) {
    say(what);
    print!("{}", control_plane.kubectl(&["get", "oauthintegrations", "-n", NAMESPACE, "-o", "wide"]));
    let secret = control_plane.kubectl(&["get", "secret", "erp-live-token", "-n", NAMESPACE, "-o", "json"]);
    let secret: serde_json::Value = serde_json::from_str(&secret).expect("a Secret");
    println!("\nSecret erp-live-token");
    for name in ["issued-at", "renew-at", "expires-at"] {
        println!(
            "  {name:<12} {}",
            secret["metadata"]["annotations"][format!("oauth.evolutionx.io/{name}")].as_str().unwrap_or_default()
        );
    }
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        println!("  {key:<12} {}", masked(value.as_str().unwrap_or_default()));
    }
}

/// The start of a token, enough to see that it has changed.
fn masked(base64: &str) -> String {
    format!("{}… ({} characters)", base64.get(..6).unwrap_or_default(), base64.len() / 4 * 3)
}

fn expires_at(control_plane: &ControlPlane) -> jiff::Timestamp {
    let arguments = ["get", "oauthintegration", "erp-live", "-n", NAMESPACE, "-o", "jsonpath={.status.expiresAt}"];
    control_plane.kubectl(&arguments).trim().parse().expect("a time")
}
