//! The expiry of tokens is measured with the wall clock, which these tests set: libfaketime shows the operator another
//! time than the rest of the machine.

use std::time::Duration;

use serde_json::json;
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::OPERATOR;
use test_support::oidc_provider::OidcProvider;
use test_support::preload::Clock;
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, Operator, World, eventually};

/// A token lifetime that does not end during a test, in seconds.
const LONG: i64 = 600;
/// A token lifetime that can end during a test, in seconds.
const SHORT: i64 = 20;

struct Setting {
    world: World,
    arguments: Vec<String>,
    clock: Clock,
    endpoint: Endpoint,
}

/// An environment whose operator has its own clock, with the operator's arguments.
async fn world(name: &str, elected: bool) -> (World, Clock, Vec<String>) {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace(name).await;
    test_support::manifests::install_permissions_in(control_plane, &namespace);
    let kubeconfig = control_plane.kubeconfig_for(&namespace, OPERATOR).await;
    let clock = Clock::new();
    let election = format!("--leader-elect={elected}");
    let arguments = ["--namespace", &namespace, &election, "--lease-namespace", &namespace];
    let operator = Operator::start_in(&kubeconfig, &arguments, &clock.environment());
    operator.until_ready().await;
    let arguments = arguments.map(ToOwned::to_owned).to_vec();
    (World { operator, client: control_plane.client().await, namespace, kubeconfig }, clock, arguments)
}

/// Waits until the operator has logged this many clock steps.
async fn wait_for_steps(world: &World, steps: usize) {
    eventually(&format!("{steps} clock steps are logged"), SHORT_TIMEOUT, async || {
        let log = world.operator.logs();
        let seen = log.matches("the wall clock was set").count();
        if seen >= steps { Ok(()) } else { Err(log) }
    })
    .await;
}

/// An environment whose operator has its own clock, with a token of this lifetime in seconds.
async fn setting(name: &str, lifetime: i64, elected: bool) -> Setting {
    let (world, clock, arguments) = world(name, elected).await;
    let endpoint = Endpoint::start(move |_| Reply::token(lifetime.unsigned_abs()));
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    Setting { world, arguments, clock, endpoint }
}

impl Setting {
    async fn wait_for_requests(&self, wanted: usize) {
        eventually(&format!("{wanted} requests"), SHORT_TIMEOUT, async || match self.endpoint.count() {
            count if count == wanted => Ok(()),
            count => Err(format!("{count}\n{}", self.world.operator.logs())),
        })
        .await;
    }

    async fn wait_for_steps(&self, steps: usize) {
        wait_for_steps(&self.world, steps).await;
    }

    /// Replaces the operator by another one with the same clock.
    async fn restart(&mut self) {
        assert_eq!(self.world.operator.terminate(Duration::from_secs(10)), 0);
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.world.operator = Operator::start_in(&self.world.kubeconfig, &arguments, &self.clock.environment());
        self.world.operator.until_ready().await;
    }

    fn reconciliations(&self) -> f64 {
        self.world.operator.sum("oauth_operator_reconciles_total", "")
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_makes_renewals_due() {
    let setting = setting("forward", LONG, false).await;
    setting.clock.set(LONG);
    setting.wait_for_requests(2).await;
    // The request is sent before the status is updated.
    eventually("the times are those of the operator's clock", SHORT_TIMEOUT, async || {
        let issued_at = setting.world.get("it").await.status.and_then(|status| status.issued_at).expect("a time");
        let ahead = issued_at.0.duration_since(jiff::Timestamp::now()).as_secs();
        if (LONG - 30..=LONG).contains(&ahead) { Ok(()) } else { Err(format!("{ahead} s ahead")) }
    })
    .await;
    setting.world.ready("it").await;
}

#[tokio::test]
async fn a_small_clock_step_is_reconciled_without_a_request() {
    let setting = setting("small", LONG, false).await;
    let before = setting.reconciliations();
    setting.clock.set(20);
    setting.wait_for_steps(1).await;
    setting.clock.set(0);
    setting.wait_for_steps(2).await;
    eventually("everything was reconciled", SHORT_TIMEOUT, async || {
        if setting.reconciliations() >= before + 2.0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert_eq!(setting.endpoint.count(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_extend_the_lifetime_of_a_token() {
    let setting = setting("back", SHORT, false).await;
    setting.clock.set(-3_600);
    setting.wait_for_steps(1).await;
    setting.wait_for_requests(2).await;
    let requests = setting.endpoint.requests();
    let age = requests[1].at.duration_since(requests[0].at).expect("in order").as_secs();
    assert!(age < SHORT.unsigned_abs(), "the age of the token is known if the step is detected: renewed after {age} s");
    assert!(age >= SHORT.unsigned_abs() / 3, "renewed before it was due: after {age} s");
}

#[tokio::test]
async fn an_undetected_step_back_of_the_clock_causes_one_request() {
    let mut setting = setting("undetected", LONG, false).await;
    // According to the new time, the token was issued in the future: its real age is unknown.
    setting.clock.set(-3_600);
    setting.restart().await;
    setting.wait_for_requests(2).await;
    setting.world.ready("it").await;
    // Now the stored times match the new clock.
    setting.restart().await;
    eventually("it was reconciled", SHORT_TIMEOUT, async || {
        if setting.reconciliations() >= 1.0 { Ok(()) } else { Err(setting.world.operator.logs()) }
    })
    .await;
    assert_eq!(setting.endpoint.count(), 2);
}

#[tokio::test]
async fn a_leader_stays_leader_after_its_clock_was_set() {
    let setting = setting("leader", LONG, true).await;
    for (steps, time, requests) in [(1, LONG, 2), (2, 0, 2), (3, -LONG, 2)] {
        setting.clock.set(time);
        setting.wait_for_steps(steps).await;
        setting.wait_for_requests(requests).await;
        eventually("it leads", Duration::from_secs(5), async || {
            if setting.world.operator.leads() { Ok(()) } else { Err(setting.world.operator.logs()) }
        })
        .await;
    }
    // It also acts as the leader.
    let request = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}}});
    setting.world.change("it", &request).await;
    setting.wait_for_requests(3).await;
}

#[tokio::test]
async fn after_a_rejection_assertions_are_dated_by_the_clock_of_the_server() {
    let provider = OidcProvider::shared();
    let (world, clock, _arguments) = world("learned", false).await;
    clock.set(-300);
    wait_for_steps(&world, 1).await;
    world.config_map("ca", "ca.crt", &provider.ca.pem).await;
    world.secret("credentials", &[("client_id", "key"), ("private_key", &provider.rsa.pem)]).await;
    // It expires four minutes before the provider receives it.
    let assertion = json!({"algorithm": "RS256", "keyId": "rsa", "lifetime": "60s"});
    let spec = json!({
        "grantType": "client_credentials", "issuer": provider.issuer(),
        "clientAuthentication": {"method": "private_key_jwt", "assertion": assertion},
        "connection": {"caBundle": {"name": "ca"}},
        "credentials": {"secretName": "credentials"}, "target": {"secretName": "token"},
    });
    world.integration("it", &spec).await;
    let rejected = world.condition("it", "Ready", "False", "RequestRejected").await.message;
    let expected = "s ahead of this machine's: the next JWT will be dated by it; set the clocks";
    assert!(rejected.contains(expected), "{rejected}");
    world.request_renewal("it", "now").await;
    world.ready("it").await;
}
