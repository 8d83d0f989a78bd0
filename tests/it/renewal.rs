//! Guarantee: a token is renewed in time before its expiry, with a small, fixed number of API calls.

use std::time::{Duration, SystemTime};

use serde_json::json;
use test_support::control_plane::Calls;
use test_support::endpoint::{Endpoint, Reply};
use test_support::world::client_credentials;
use test_support::{ControlPlane, Operator, World, eventually};

/// The times between the requests of one integration.
fn distances(endpoint: &Endpoint) -> Vec<Duration> {
    let at: Vec<SystemTime> = endpoint.requests().iter().map(|request| request.at).collect();
    at.windows(2).map(|pair| pair[1].duration_since(pair[0]).expect("in order")).collect()
}

async fn renewals(endpoint: &Endpoint, count: usize, within: Duration) -> Vec<Duration> {
    eventually("renewals", within, async || {
        if endpoint.count() > count { Ok(()) } else { Err(format!("{} requests", endpoint.count())) }
    })
    .await;
    distances(endpoint)
}

/// Checks the time of each renewal: the first token is renewed between one third and two thirds of its lifetime, to
/// spread out tokens that were issued together; all others are renewed in the last tenth of the lifetime before two
/// thirds.
fn assert_in_time(distances: &[Duration], lifetime: Duration) {
    // Delays between the request and the stored times, and between the due time and the request, on a busy machine.
    let slack = Duration::from_secs(2);
    for (number, distance) in distances.iter().enumerate() {
        let earliest = if number == 0 { lifetime / 3 } else { lifetime * 2 / 3 - lifetime / 10 };
        assert!(
            *distance >= earliest,
            "renewal {number} after {distance:?}, too early for {lifetime:?}: {distances:?}"
        );
        assert!(
            *distance < lifetime * 2 / 3 + slack,
            "renewal {number} after {distance:?}, too late for {lifetime:?}: {distances:?}"
        );
    }
}

#[tokio::test]
async fn tokens_of_10_s_are_renewed_in_time_repeatedly() {
    let endpoint = Endpoint::start(|_| Reply::token(10));
    let world = World::new("lifetime-10s").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    assert_in_time(&renewals(&endpoint, 4, Duration::from_secs(60)).await, Duration::from_secs(10));
}

#[tokio::test]
async fn tokens_of_60_s_are_renewed_in_time() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let world = World::new("lifetime-60s").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    assert_in_time(&renewals(&endpoint, 2, Duration::from_secs(100)).await, Duration::from_secs(60));
}

#[tokio::test]
async fn renew_before_changes_the_renewal_time() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("renew-before").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["tokenLife"] = json!("1h");
    spec["renewBefore"] = json!("10m");
    world.integration("it", &spec).await;
    let status = world.ready("it").await.status.expect("a status");
    let (issued, expires, renew) =
        (status.issued_at.unwrap().0, status.expires_at.unwrap().0, status.renew_at.unwrap().0);
    assert_eq!(expires.duration_since(issued).as_secs(), 3600);
    let before = expires.duration_since(renew).as_secs();
    assert!((600..=1800).contains(&before), "10 minutes and a jitter of at most a third of the lifetime: {before} s");
    // A change of the renewal time alone does not cause a new token.
    world.change("it", &json!({"spec": {"renewBefore": "30m"}})).await;
    eventually("the renewal is rescheduled", test_support::world::SHORT_TIMEOUT, async || {
        let status = world.get("it").await.status.expect("a status");
        let before = status.expires_at.unwrap().0.duration_since(status.renew_at.unwrap().0).as_secs();
        if (1800..=2700).contains(&before) { Ok(()) } else { Err(format!("{before} s")) }
    })
    .await;
    assert_eq!(endpoint.count(), 1);
    world.event("it", "TargetUpdated").await;
}

#[tokio::test]
async fn token_life_is_at_most_the_actual_lifetime_and_a_longer_one_is_reported() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let world = World::new("token-lifetime").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["tokenLife"] = json!("2h");
    world.integration("too-long", &spec).await;
    spec["tokenLife"] = json!("30s");
    world.integration("shorter", &spec).await;
    for (name, lifetime) in [("too-long", 60), ("shorter", 30)] {
        let status = world.ready(name).await.status.expect("a status");
        let real = status.expires_at.unwrap().0.duration_since(status.issued_at.unwrap().0).as_secs();
        assert_eq!(real, lifetime, "{name}");
    }
    let warning = world.event("too-long", "TokenLifetimeTooLong").await;
    assert_eq!(warning.type_.as_deref(), Some("Warning"));
    world.event("shorter", "Issued").await;
}

#[tokio::test]
async fn an_unknown_lifetime_is_five_minutes_and_is_reported() {
    let endpoint = Endpoint::start(|_| Reply::json(200, &json!({"access_token": "opaque"})));
    let world = World::new("unknown-lifetime").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    let status = world.ready("it").await.status.expect("a status");
    assert_eq!(status.expires_at.unwrap().0.duration_since(status.issued_at.unwrap().0).as_secs(), 300);
    world.event("it", "TokenLifetimeUnknown").await;
}

/// The calls of the operator, without those of the tests and of the other parts of the control plane.
fn by_operator(calls: &Calls) -> u64 {
    let of_operator = |(verb, resource, subresource): &(String, String, String)| match resource.as_str() {
        "secrets" => matches!(verb.as_str(), "GET" | "APPLY" | "POST" | "PATCH" | "DELETE" | "LIST"),
        "oauthintegrations" => subresource == "status" || verb == "LIST",
        "events" => true,
        _ => false,
    };
    calls.iter().filter(|(call, _)| of_operator(call)).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn a_renewal_needs_three_api_calls_and_an_idle_integration_none() {
    // A separate control plane, so that its counters include nothing else.
    let control_plane = ControlPlane::start();
    test_support::manifests::install_crd(&control_plane);
    test_support::manifests::install_permissions(&control_plane);
    let endpoint = Endpoint::start(|_| Reply::token(12));
    let long = Endpoint::start(|_| Reply::token(3600));
    let namespace = control_plane.namespace("steady").await;
    let kubeconfig = test_support::operator::kubeconfig(&control_plane).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let world = World { client: control_plane.client().await, namespace, operator, kubeconfig };
    world.credentials().await;
    for number in 0..10 {
        world.integration(&format!("short-{number}"), &client_credentials(&endpoint.url())).await;
        world.integration(&format!("long-{number}"), &client_credentials(&long.url())).await;
    }
    for number in 0..10 {
        world.ready(&format!("long-{number}")).await;
    }
    // The first renewal of each integration publishes an event; afterwards, the number of calls is constant.
    let renewed = |at_least: f64| {
        let world = &world;
        async move {
            eventually("renewals", Duration::from_secs(60), async || {
                let renewed = world.operator.sum("oauth_operator_reconciles_total", "RenewalDue");
                if renewed >= at_least { Ok(renewed) } else { Err(format!("{renewed}")) }
            })
            .await
        }
    };
    let counted_before = renewed(20.0).await;
    let calls_before = control_plane.calls().await;
    let counted_after = renewed(counted_before + 40.0).await;
    let calls_after = control_plane.calls().await;
    let renewals = counted_after - counted_before;
    let calls = by_operator(&calls_after) - by_operator(&calls_before);
    println!("{renewals} renewals cost {calls} calls");
    for (call, count) in &calls_after {
        let before = calls_before.get(call).copied().unwrap_or_default();
        if *count > before {
            println!("{call:?}: {}", count - before);
        }
    }
    // Renewals in flight while the counters are read, at most one per integration, have already made some of their
    // calls.
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let calls = calls as f64;
    assert!(calls <= 3.0 * renewals + 10.0, "{calls} calls for {renewals} renewals");
    assert_eq!(long.count(), 10, "a token with a long lifetime is requested once");
}
