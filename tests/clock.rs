//! Tokens live by the wall clock: what happens when somebody sets it. The operator sees another time than the rest of the
//! machine (libfaketime).

mod common;

use std::time::Duration;

use common::endpoint::{Endpoint, Reply};
use common::manifests::OPERATOR;
use common::preload::Clock;
use common::world::{SOON, client_credentials};
use common::{ControlPlane, Operator, World, eventually};
use serde_json::json;

/// Of tokens that no test waits for, in seconds.
const LONG: i64 = 600;
/// Of tokens whose end a test waits for, in seconds.
const SHORT: i64 = 20;

struct Setting {
    world: World,
    arguments: Vec<String>,
    clock: Clock,
    endpoint: Endpoint,
}

/// A world whose operator has a clock of its own, with a token that lives for so many seconds.
async fn setting(name: &str, life: i64, elected: bool) -> Setting {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace(name).await;
    common::manifests::install_rights_in(control_plane, &namespace);
    let kubeconfig = control_plane.kubeconfig_for(&namespace, OPERATOR).await;
    let clock = Clock::new();
    let election = format!("--leader-elect={elected}");
    let arguments = ["--namespace", &namespace, &election, "--lease-namespace", &namespace];
    let operator = Operator::start_in(&kubeconfig, &arguments, &clock.environment());
    operator.until_ready().await;
    let arguments = arguments.map(ToOwned::to_owned).to_vec();
    let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
    let endpoint = Endpoint::start(move |_| Reply::token(life.unsigned_abs()));
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    Setting { world, arguments, clock, endpoint }
}

impl Setting {
    async fn requests_are(&self, wanted: usize) {
        eventually(&format!("{wanted} requests"), SOON, async || match self.endpoint.count() {
            count if count == wanted => Ok(()),
            count => Err(format!("{count}\n{}", self.world.operator.logs())),
        })
        .await;
    }

    /// Waits until the operator has told of a step of so many seconds, and has looked at everything again.
    async fn step_is_seen(&self, steps: usize) {
        eventually(&format!("{steps} steps are seen"), SOON, async || {
            let log = self.world.operator.logs();
            let seen = log.matches("the wall clock was set").count();
            if seen >= steps { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Another operator takes the place of this one, with the same clock.
    async fn restart(&mut self) {
        assert_eq!(self.world.operator.terminate(Duration::from_secs(10)), 0);
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.world.operator = Operator::start_in(&self.world.kubeconfig, &arguments, &self.clock.environment());
        self.world.operator.until_ready().await;
    }

    fn looks(&self) -> f64 {
        self.world.operator.sum("oauth_operator_reconciles_total", "")
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_makes_due_what_is_due_by_it() {
    let setting = setting("forward", LONG, false).await;
    setting.clock.set(LONG);
    setting.requests_are(2).await;
    let renewed = setting.world.ready("it").await.status.expect("a status");
    let ahead = renewed.issued_at.expect("a time").0.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((LONG - 30..=LONG).contains(&ahead), "the times are those of the operator's clock: {ahead} s ahead");
}

#[tokio::test]
async fn a_small_step_is_looked_at_and_costs_no_request() {
    let setting = setting("small", LONG, false).await;
    let looks = setting.looks();
    setting.clock.set(20);
    setting.step_is_seen(1).await;
    setting.clock.set(0);
    setting.step_is_seen(2).await;
    eventually("everything was looked at", SOON, async || {
        if setting.looks() >= looks + 2.0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(setting.endpoint.count(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_token_seem_younger_than_it_is() {
    let setting = setting("back", SHORT, false).await;
    setting.clock.set(-3_600);
    setting.step_is_seen(1).await;
    setting.requests_are(2).await;
    let requests = setting.endpoint.requests();
    let age = requests[1].at.duration_since(requests[0].at).expect("in order").as_secs();
    assert!(age < SHORT.unsigned_abs(), "whoever sees the step knows how old the token is: renewed after {age} s");
    assert!(age >= SHORT.unsigned_abs() / 3, "and does not ask before it is due: after {age} s");
}

#[tokio::test]
async fn a_clock_that_was_set_back_while_nobody_saw_it_costs_one_request() {
    let mut setting = setting("unseen", LONG, false).await;
    // By the new time the token was issued in an hour: nobody can tell how old it really is.
    setting.clock.set(-3_600);
    setting.restart().await;
    setting.requests_are(2).await;
    setting.world.ready("it").await;
    // The times are by the new clock now; nothing is in doubt any more.
    setting.restart().await;
    eventually("it was looked at", SOON, async || {
        if setting.looks() >= 1.0 { Ok(()) } else { Err(setting.world.operator.logs()) }
    })
    .await;
    assert_eq!(setting.endpoint.count(), 2);
}

#[tokio::test]
async fn a_leader_leads_on_after_its_clock_was_set() {
    let setting = setting("leader", LONG, true).await;
    for (steps, time, requests) in [(1, LONG, 2), (2, 0, 2), (3, -LONG, 2)] {
        setting.clock.set(time);
        setting.step_is_seen(steps).await;
        setting.requests_are(requests).await;
        eventually("it leads", Duration::from_secs(5), async || {
            if setting.world.operator.leads() { Ok(()) } else { Err(setting.world.operator.logs()) }
        })
        .await;
    }
    // It does not only say so.
    let request = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}}});
    setting.world.change("it", &request).await;
    setting.requests_are(3).await;
}
