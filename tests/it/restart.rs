//! Guarantee: all state is in the Secrets. A process that crashes or exits does not lose a token or request one twice.

use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::json;
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::{OPERATOR, install_permissions_in};
use test_support::operator::{binary, kubeconfig};
use test_support::process::{Process, WorkDir};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, Operator, World, eventually};

/// Timeout for acquiring a free lease.
const TAKEOVER: Duration = Duration::from_secs(30);

#[tokio::test]
async fn kill_and_restart_with_100_valid_tokens_requests_nothing() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let mut world = World::new("restart").await;
    world.credentials().await;
    let spec = client_credentials(&endpoint.url());
    futures::stream::iter(0..100)
        .for_each_concurrent(8, |number| {
            let (world, spec) = (&world, &spec);
            async move {
                world.integration(&format!("it-{number}"), spec).await;
            }
        })
        .await;
    for number in 0..100 {
        world.ready(&format!("it-{number}")).await;
    }
    assert_eq!(endpoint.count(), 100);
    world.operator.kill();
    world.operator = Operator::start(ControlPlane::shared(), &world.namespace).await;
    // Each integration is reconciled and found to be valid.
    eventually("100 reconciliations", SHORT_TIMEOUT, async || {
        let reconciliations = world.operator.sum("oauth_operator_reconciles_total", "TokenValid");
        if reconciliations >= 100.0 { Ok(()) } else { Err(format!("{reconciliations} reconciliations")) }
    })
    .await;
    assert_eq!(world.operator.sum("oauth_operator_token_requests_total", ""), 0.0);
    assert_eq!(endpoint.count(), 100, "no request was sent");
    let errors = world.operator.sum("oauth_operator_reconcile_errors_total", "");
    assert_eq!(errors, 0.0);
    // It handles changes like the process before it.
    let token = world.value("it-0", "access_token").await;
    world.change("it-0", &json!({"spec": {"scope": "order"}})).await;
    world.wait_for_change("it-0", "access_token", &token).await;
}

#[tokio::test]
async fn an_endpoint_that_the_administrator_allows_is_used_soon_after_the_restart() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let mut world = World::with("settings", &["--deny-cidr=127.0.0.0/8"]).await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.condition("it", "Stalled", "True", "EndpointNotAllowed").await;
    // The next attempt is in an hour, also after a restart with the same settings.
    let until = |integration: &OAuthIntegration| {
        let failure = integration.status.as_ref().and_then(|status| status.last_failure.as_ref());
        failure.expect("a failure").retry_at.0
    };
    let failed = world.get("it").await;
    assert!(until(&failed).duration_since(Timestamp::now()) > SignedDuration::from_mins(30), "{:?}", failed.status);
    world.operator.terminate(SHORT_TIMEOUT);
    world.operator = Operator::start_with(&world.kubeconfig, &["--namespace", &world.namespace]).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn sigterm_during_a_request_finishes_it_and_writes_the_response() {
    let response = json!({"access_token": "late-token", "refresh_token": "the-only-copy", "expires_in": 3600});
    let endpoint =
        Endpoint::start(move |_| Reply::Delayed(Duration::from_secs(3), Box::new(Reply::json(200, &response))));
    let world = World::new("sigterm").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    eventually("a request in flight", SHORT_TIMEOUT, async || {
        if endpoint.count() == 1 { Ok(()) } else { Err("none") }.map_err(String::from)
    })
    .await;
    assert_eq!(world.values("it").await, None);
    assert_eq!(world.operator.terminate(Duration::from_secs(20)), 0, "{}", world.operator.logs());
    let values = world.values("it").await.expect("the response was written");
    assert_eq!(values["access_token"], "late-token");
    assert_eq!(values["refresh_token"], "the-only-copy");
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn an_idle_operator_exits_at_once() {
    let world = World::new("idle").await;
    // Less than the 25 s for which a shutdown waits for reconciliations in flight.
    assert_eq!(world.operator.terminate(Duration::from_secs(10)), 0);
}

#[tokio::test]
async fn a_back_off_survives_a_restart() {
    let endpoint = Endpoint::start(|_| Reply::rejected(401, "invalid_client", "no"));
    let mut world = World::new("back-off").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.condition("it", "Ready", "False", "RequestRejected").await;
    world.operator.kill();
    let config = kubeconfig(ControlPlane::shared()).await;
    world.operator = Operator::start_with(&config, &["--namespace", &world.namespace]).await;
    eventually("it is reconciled", SHORT_TIMEOUT, async || {
        let reconciliations = world.operator.sum("oauth_operator_reconciles_total", "BackingOff");
        if reconciliations >= 1.0 { Ok(()) } else { Err(format!("{reconciliations}")) }
    })
    .await;
    assert_eq!(endpoint.count(), 1, "the delay of one minute is kept across the restart");
    // A change takes effect at once, also in the new process.
    endpoint.respond(|_| Reply::token(3600));
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", "kanarie-fixed-secret")]).await;
    world.ready("it").await;
}

/// Started from a terminal: text logs, the identity of the pod, and Ctrl+C.
#[tokio::test]
async fn a_manually_started_operator_logs_text_leads_with_its_pod_name_and_exits_on_sigint() {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace("by-hand").await;
    install_permissions_in(control_plane, &namespace);
    let mut command = Command::new(binary());
    command
        .args(["run", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--leader-elect"])
        .args(["--namespace", &namespace, "--lease-namespace", &namespace])
        .env("KUBECONFIG", control_plane.kubeconfig_for(&namespace, OPERATOR).await)
        .env("POD_NAME", "oauth-operator-7d9f-by-hand");
    let process = Process::start("by-hand", WorkDir::new("by-hand"), command);
    let holder = || {
        let path = "jsonpath={.spec.holderIdentity}";
        control_plane.kubectl(&["get", "lease", "oauth-operator", "-n", &namespace, "-o", path])
    };
    process.wait_until("it leads", TAKEOVER, || process.log().contains("became leader"));
    assert!(holder().starts_with("oauth-operator-7d9f-by-hand"), "{}", holder());
    let log = process.log();
    let line = log.lines().find(|line| line.contains("listening")).expect("a line");
    assert!(line.contains(" INFO ") && serde_json::from_str::<serde_json::Value>(line).is_err(), "{line}");
    process.signal("INT");
    assert_eq!(process.wait_for_exit(Duration::from_secs(10)), 0, "{}", process.log());
    assert_eq!(holder(), "", "the lease is released");
}
