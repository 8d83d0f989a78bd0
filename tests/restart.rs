//! The promise: the Secrets are the memory. A process that dies or ends loses nothing and asks for nothing twice.

mod common;

use std::time::Duration;

use common::endpoint::{Endpoint, Reply};
use common::operator::kubeconfig;
use common::world::{SOON, client_credentials};
use common::{ControlPlane, Operator, World, eventually};
use futures::StreamExt;
use serde_json::json;

#[tokio::test]
async fn kill_and_restart_with_100_live_tokens_asks_for_nothing() {
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
    // Each integration has been looked at, and each look ended in waiting.
    eventually("100 looks", SOON, async || {
        let looks = world.operator.sum("oauth_operator_reconciles_total", "TokenValid");
        if looks >= 100.0 { Ok(()) } else { Err(format!("{looks} looks")) }
    })
    .await;
    assert_eq!(world.operator.sum("oauth_operator_token_requests_total", ""), 0.0);
    assert_eq!(endpoint.count(), 100, "no request at all");
    let reads = world.operator.sum("oauth_operator_reconcile_errors_total", "");
    assert_eq!(reads, 0.0);
    // It goes on from where the other was.
    let token = world.value("it-0", "access_token").await;
    world.change("it-0", &json!({"spec": {"scope": "order"}})).await;
    world.other_value("it-0", "access_token", &token).await;
}

#[tokio::test]
async fn sigterm_during_a_request_finishes_it_and_writes_the_answer() {
    let answer = json!({"access_token": "late-token", "refresh_token": "the-only-copy", "expires_in": 3600});
    let endpoint = Endpoint::start(move |_| Reply::Late(Duration::from_secs(3), Box::new(Reply::json(200, &answer))));
    let world = World::new("sigterm").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    eventually("a request under way", SOON, async || {
        if endpoint.count() == 1 { Ok(()) } else { Err("none") }.map_err(String::from)
    })
    .await;
    assert_eq!(world.values("it").await, None);
    assert_eq!(world.operator.terminate(Duration::from_secs(20)), 0, "{}", world.operator.logs());
    let values = world.values("it").await.expect("the answer was written");
    assert_eq!(values["access_token"], "late-token");
    assert_eq!(values["refresh_token"], "the-only-copy");
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn an_idle_operator_ends_at_once() {
    let world = World::new("idle").await;
    let started = std::time::Instant::now();
    assert_eq!(world.operator.terminate(Duration::from_secs(10)), 0);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_back_off_survives_a_restart() {
    let endpoint = Endpoint::start(|_| Reply::refused(401, "invalid_client", "no"));
    let mut world = World::new("back-off").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.condition("it", "Ready", "False", "RequestRefused").await;
    world.operator.kill();
    let config = kubeconfig(ControlPlane::shared()).await;
    world.operator = Operator::start_with(&config, &["--namespace", &world.namespace]).await;
    eventually("a look", SOON, async || {
        let looks = world.operator.sum("oauth_operator_reconciles_total", "BackingOff");
        if looks >= 1.0 { Ok(()) } else { Err(format!("{looks}")) }
    })
    .await;
    assert_eq!(endpoint.count(), 1, "the minute is not over, whoever counts it");
    // A change is followed at once, also by the new process.
    endpoint.answer(|_| Reply::token(3600));
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", "kanarie-mended-secret")]).await;
    world.ready("it").await;
}
