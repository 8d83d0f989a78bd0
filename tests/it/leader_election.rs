//! Guarantee: only one of several replicas acts, and if it fails, another one takes over without a duplicate token
//! request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use test_support::endpoint::{Endpoint, Reply, RotatingTokenServer};
use test_support::proxy::{Network, Proxy};
use test_support::world::{SHORT_TIMEOUT, client_credentials, rotating};
use test_support::{ControlPlane, Operator, World, eventually};

/// Less than the time until a lease that was not released expires.
const LEASE: Duration = Duration::from_secs(10);
/// About twice the lease duration, to allow for delays on a busy machine.
const TAKEOVER: Duration = Duration::from_secs(30);

async fn leads(operator: &Operator, within: Duration) -> Duration {
    let begun = Instant::now();
    eventually("it leads", within, async || match operator.get("/readyz") {
        (200, text) if text == "ok: leader" => Ok(()),
        other => Err(format!("{other:?}\n{}", operator.logs().lines().rev().take(5).collect::<Vec<_>>().join("\n"))),
    })
    .await;
    begun.elapsed()
}

#[tokio::test]
async fn one_of_two_replicas_acts_and_the_other_is_on_standby() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::elected("two", None).await;
    leads(&world.operator, TAKEOVER).await;
    let standby = world.replica().await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    eventually("the standby has reconciled it too", SHORT_TIMEOUT, async || {
        let reconciliations = standby.sum("oauth_operator_reconciles_total", "NotLeader");
        if reconciliations >= 1.0 { Ok(()) } else { Err(standby.metrics()) }
    })
    .await;
    assert_eq!(standby.get("/readyz"), (200, "ok: standby".to_owned()));
    assert_eq!(standby.metric("oauth_operator_leader", ""), Some(0.0));
    assert_eq!(world.operator.metric("oauth_operator_leader", ""), Some(1.0));
    assert_eq!(standby.sum("oauth_operator_token_requests_total", ""), 0.0);
    assert_eq!(endpoint.count(), 1);
    eventually("the event about the election is published", SHORT_TIMEOUT, async || {
        let events = ControlPlane::shared().kubectl(&["get", "events.events.k8s.io", "-n", &world.namespace]);
        if events.contains("LeaderElection") && events.contains("became leader") { Ok(()) } else { Err(events) }
    })
    .await;
}

#[tokio::test]
async fn a_graceful_shutdown_hands_over_at_once_and_a_kill_within_the_lease() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let mut world = World::elected("hand-over", None).await;
    leads(&world.operator, TAKEOVER).await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;

    let standby = world.replica().await;
    let begun = Instant::now();
    assert_eq!(world.operator.terminate(Duration::from_secs(10)), 0);
    leads(&standby, TAKEOVER).await;
    println!("hand-over after SIGTERM: {:.2} s", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < LEASE, "the lease was not released but expired: {:?}", begun.elapsed());

    world.operator = standby;
    let standby = world.replica().await;
    let begun = Instant::now();
    world.operator.kill();
    leads(&standby, TAKEOVER).await;
    println!("hand-over after SIGKILL: {:.2} s", begun.elapsed().as_secs_f64());
    world.operator = standby;
    let token = world.value("it", "access_token").await;
    world.request_renewal("it", "now").await;
    world.wait_for_change("it", "access_token", &token).await;
    assert_eq!(endpoint.count(), 2, "a hand-over caused a request");
}

#[tokio::test]
async fn a_leader_that_was_frozen_sends_nothing_when_it_resumes() {
    let server = RotatingTokenServer::new(10);
    let world = rotating_world("frozen", &server, 5, None).await;
    let standby = world.world.replica().await;
    let frozen = &world.world.operator;
    frozen.signal("STOP");
    let took = leads(&standby, TAKEOVER).await;
    println!("hand-over after SIGSTOP: {:.2} s", took.as_secs_f64());
    let before = server.renewed();
    eventually("the other replica renews tokens", SHORT_TIMEOUT, async || {
        let renewed = server.renewed() - before;
        if renewed >= 10 { Ok(()) } else { Err(format!("{renewed} renewals")) }
    })
    .await;
    frozen.signal("CONT");
    let requests_before = frozen.sum("oauth_operator_token_requests_total", "Success");
    let before = server.renewed();
    eventually("the other replica continues", SHORT_TIMEOUT, async || {
        let renewed = server.renewed() - before;
        if renewed >= 10 { Ok(()) } else { Err(format!("{renewed} renewals")) }
    })
    .await;
    assert!(!frozen.leads());
    assert!(standby.leads());
    assert_eq!(
        frozen.sum("oauth_operator_token_requests_total", "Success"),
        requests_before,
        "it sent no other request"
    );
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_disconnected_leader_stops_before_another_starts() {
    let server = RotatingTokenServer::new(10);
    let proxy = Proxy::start(ControlPlane::shared().address());
    let world = rotating_world("cut-off", &server, 5, Some(proxy.port())).await;
    let standby = world.world.replica().await;
    for network in [Network::Silent, Network::Cut] {
        let cut_off = &world.world.operator;
        leads(cut_off, TAKEOVER).await;
        proxy.set(network);
        let took = leads(&standby, TAKEOVER).await;
        assert!(!cut_off.leads(), "{network:?}: two leaders at a time");
        println!("hand-over after {network:?}: {:.2} s", took.as_secs_f64());
        proxy.set(Network::Up);
        // The standby releases the lease for the next round.
        standby.signal("STOP");
        leads(cut_off, TAKEOVER).await;
        standby.signal("CONT");
    }
}

struct RotatingWorld {
    world: World,
    _endpoint: Endpoint,
}

/// Ready integrations, each with its own family of refresh tokens.
async fn rotating_world(
    name: &str,
    server: &Arc<RotatingTokenServer>,
    integrations: usize,
    port: Option<u16>,
) -> RotatingWorld {
    let responding = Arc::clone(server);
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    let world = World::elected(name, port).await;
    leads(&world.operator, TAKEOVER).await;
    futures::stream::iter(0..integrations)
        .for_each_concurrent(8, |number| {
            let (world, endpoint, first) = (&world, &endpoint, server.first());
            async move {
                let credentials = format!("credentials-{number}");
                let values = [("client_id", "the-client"), ("refresh_token", &first)];
                world.secret(&credentials, &values).await;
                world.integration(&format!("it-{number}"), &rotating(&endpoint.url(), &credentials)).await;
            }
        })
        .await;
    for number in 0..integrations {
        world.ready(&format!("it-{number}")).await;
    }
    RotatingWorld { world, _endpoint: endpoint }
}

#[tokio::test]
async fn a_thousand_renewals_with_repeated_hand_overs_do_not_reuse_a_refresh_token() {
    let server = RotatingTokenServer::new(10);
    let RotatingWorld { mut world, _endpoint } = rotating_world("thousand", &server, 100, None).await;
    let mut hand_overs = Vec::new();
    while server.renewed() < 1_000 {
        let next = world.replica().await;
        let begun = Instant::now();
        assert_eq!(world.operator.terminate(Duration::from_secs(20)), 0, "{}", world.operator.logs());
        leads(&next, TAKEOVER).await;
        hand_overs.push(begun.elapsed());
        world.operator = next;
        // Each replica leads for some time.
        let before = server.renewed();
        eventually("100 renewals", Duration::from_secs(60), async || {
            let renewed = server.renewed() - before;
            if renewed >= 100 { Ok(()) } else { Err(format!("{renewed}")) }
        })
        .await;
    }
    let longest = hand_overs.iter().max().expect("a hand-over");
    println!(
        "{} renewals, {} hand-overs, the longest {:.2} s, refresh tokens used twice: {}",
        server.renewed(),
        hand_overs.len(),
        longest.as_secs_f64(),
        server.reused().len()
    );
    assert_eq!(server.reused(), Vec::<String>::new());
    // Checked after a graceful shutdown, which writes all pending responses: while a replica leads, there is always a
    // response that is not written yet.
    assert_eq!(world.operator.terminate(Duration::from_secs(20)), 0, "{}", world.operator.logs());
    for number in 0..100 {
        let token = world.value(&format!("it-{number}"), "refresh_token").await;
        assert!(server.is_current(&token), "it-{number} contains the current refresh token");
    }
}
