//! The promise: a token is renewed after half of its life and before its end, at a fixed small price.

mod common;

use std::time::{Duration, SystemTime};

use common::control_plane::Calls;
use common::endpoint::{Endpoint, Reply};
use common::world::client_credentials;
use common::{ControlPlane, Operator, World, eventually};
use serde_json::json;

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

/// For each renewal, when it comes: the first token is renewed when from a third to two thirds of its life are over, so that
/// those that were issued together part; all others in the last tenth before two thirds are over.
fn assert_in_time(distances: &[Duration], life: Duration) {
    // From the request to the write of the times, and from a time to the request: some of each on a busy machine.
    let slack = Duration::from_secs(2);
    for (number, distance) in distances.iter().enumerate() {
        let earliest = if number == 0 { life / 3 } else { life * 2 / 3 - life / 10 };
        assert!(*distance >= earliest, "renewal {number} after {distance:?}, too early for {life:?}: {distances:?}");
        assert!(
            *distance < life * 2 / 3 + slack,
            "renewal {number} after {distance:?}, late for {life:?}: {distances:?}"
        );
    }
}

#[tokio::test]
async fn tokens_of_10_s_are_renewed_in_time_and_ever_again() {
    let endpoint = Endpoint::start(|_| Reply::token(10));
    let world = World::new("life-10s").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    assert_in_time(&renewals(&endpoint, 4, Duration::from_secs(60)).await, Duration::from_secs(10));
}

#[tokio::test]
async fn tokens_of_60_s_are_renewed_in_time() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let world = World::new("life-60s").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    assert_in_time(&renewals(&endpoint, 2, Duration::from_secs(100)).await, Duration::from_secs(60));
}

#[tokio::test]
async fn renew_before_moves_the_renewal() {
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
    assert!((600..=1800).contains(&before), "10 minutes and a jitter of at most a third of the life: {before} s");
    // A change of the renewal alone needs no other token.
    world.change("it", &json!({"spec": {"renewBefore": "30m"}})).await;
    eventually("a renewal that was moved", common::world::SOON, async || {
        let status = world.get("it").await.status.expect("a status");
        let before = status.expires_at.unwrap().0.duration_since(status.renew_at.unwrap().0).as_secs();
        if (1800..=2700).contains(&before) { Ok(()) } else { Err(format!("{before} s")) }
    })
    .await;
    assert_eq!(endpoint.count(), 1);
    world.event("it", "TargetUpdated").await;
}

#[tokio::test]
async fn token_life_is_at_most_the_real_one_and_a_longer_one_is_told() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let world = World::new("token-life").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["tokenLife"] = json!("2h");
    world.integration("too-long", &spec).await;
    spec["tokenLife"] = json!("30s");
    world.integration("shorter", &spec).await;
    for (name, life) in [("too-long", 60), ("shorter", 30)] {
        let status = world.ready(name).await.status.expect("a status");
        let real = status.expires_at.unwrap().0.duration_since(status.issued_at.unwrap().0).as_secs();
        assert_eq!(real, life, "{name}");
    }
    let warning = world.event("too-long", "TokenLifeTooLong").await;
    assert_eq!(warning.type_.as_deref(), Some("Warning"));
    world.event("shorter", "Issued").await;
}

#[tokio::test]
async fn a_life_that_nobody_tells_is_five_minutes_and_that_is_told() {
    let endpoint = Endpoint::start(|_| Reply::json(200, &json!({"access_token": "opaque"})));
    let world = World::new("unknown-life").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    let status = world.ready("it").await.status.expect("a status");
    assert_eq!(status.expires_at.unwrap().0.duration_since(status.issued_at.unwrap().0).as_secs(), 300);
    world.event("it", "TokenLifeUnknown").await;
}

/// Calls that the operator makes; what the tests and the other parts of the control plane do is not among them.
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
async fn a_renewal_costs_three_calls_and_nothing_happens_between_renewals() {
    // A control plane of its own: its counters are about nothing else.
    let control_plane = ControlPlane::start();
    common::manifests::install_crd(&control_plane);
    common::manifests::install_rights(&control_plane);
    let endpoint = Endpoint::start(|_| Reply::token(12));
    let long = Endpoint::start(|_| Reply::token(3600));
    let namespace = control_plane.namespace("steady").await;
    let kubeconfig = common::operator::kubeconfig(&control_plane).await;
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
    // The first renewal of each tells an event; steady state begins after it.
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
    // A renewal that was under way while the counters were read has made some of its calls: one for each integration at most.
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let calls = calls as f64;
    assert!(calls <= 3.0 * renewals + 10.0, "{calls} calls for {renewals} renewals");
    assert_eq!(long.count(), 10, "a token that lives long is asked for once");
}
