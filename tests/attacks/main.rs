//! Guarantee: nothing that a tenant does in one namespace affects another tenant. Each attack that was found is a
//! test here, against the operator as the chart installs it, on a real control plane.

mod budgets;
mod chart;
mod connections;
mod egress;
mod expressions;
mod http;
mod limiter;
mod listener;
mod one_object;
mod protected_resource;
mod providers;
mod siege;
mod targets;

use std::time::Duration;

use siege::Siege;

/// Checks the harness itself: without an attack the victim is unaffected, and an expired token is detected.
#[tokio::test]
async fn an_undisturbed_tenant_never_has_an_expired_token() {
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let observation = siege.observe(&victim, Duration::from_secs(12)).await;
    observation.assert_unharmed();
    assert!(observation.tokens > 1, "nothing was renewed: {observation:?}");
    // A stopped operator does not renew tokens, which the observation must detect.
    siege.operator.signal("STOP");
    let observation = siege.observe(&victim, Duration::from_secs(12)).await;
    siege.operator.signal("CONT");
    assert!(observation.expired > 0, "the harness does not detect expired tokens: {observation:?}");
    assert!(observation.slowest_healthz > observation.probe_timeout, "the harness does not detect a silent /healthz");
}
