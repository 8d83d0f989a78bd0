//! The promise: a refresh token is neither lost nor spent in vain, and where one is refused there is a way back.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::endpoint::{Endpoint, PASSWORD, Reply, Rotating};
use common::proxy::{Network, Proxy};
use common::world::{SOON, rotating};
use common::{ControlPlane, World, eventually};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

struct Setting {
    server: Arc<Rotating>,
    endpoint: Endpoint,
    world: World,
    first: String,
}

/// An operator, a strict server, and the first refresh token in the credentials.
async fn setting(name: &str, life: u64) -> Setting {
    let server = Rotating::new(life);
    let answering = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| answering.reply(request));
    let world = World::new(name).await;
    let first = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &first)]).await;
    Setting { server, endpoint, world, first }
}

fn with_fallback(endpoint: &str) -> Value {
    let mut spec = rotating(endpoint, "credentials");
    spec["renewal"] = json!({"fallback": {"grantType": "user_password"}});
    spec
}

async fn renewal_requested(world: &World, name: &str, value: &str) {
    world.change(name, &json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": value}}})).await;
}

#[tokio::test]
async fn a_quota_stops_the_request_instead_of_losing_its_answer() {
    let Setting { server, endpoint, world, first } = setting("quota", 3600).await;
    let quotas = Api::<ResourceQuota>::namespaced(world.client.clone(), &world.namespace);
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"secrets": "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("a quota");
    eventually("the quota counts", SOON, async || {
        let quota = quotas.get("full").await.map_err(|error| error.to_string())?;
        let used = quota.status.and_then(|status| status.used).unwrap_or_default();
        if used.get("secrets").is_some_and(|used| used.0 == "1") { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    let ready = world.condition("it", "Ready", "False", "TargetNotWritable").await;
    assert!(ready.message.contains("exceeded quota"), "{}", ready.message);
    world.event("it", "TargetNotWritable").await;
    assert_eq!(endpoint.count(), 0, "the refresh token was not spent");
    assert!(server.is_current(&first));
    // Nothing has to be changed but the quota.
    quotas.delete("full", &DeleteParams::default()).await.expect("no quota any more");
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn an_answer_outlives_an_outage_of_the_api_server_without_another_request() {
    let proxy = Proxy::start(ControlPlane::shared().address());
    let server = Rotating::new(3600);
    let answering = Arc::clone(&server);
    // The network is gone by the time that the answer comes.
    let proxy = Arc::new(proxy);
    let cutting = Arc::clone(&proxy);
    let endpoint = Endpoint::start(move |request| {
        cutting.set(Network::Cut);
        answering.reply(request)
    });
    let world = World::elected("outage", Some(proxy.port())).await;
    let first = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &first)]).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    eventually("a request", SOON, async || if endpoint.count() == 1 { Ok(()) } else { Err(world.operator.logs()) })
        .await;
    // Long enough for the lease to run out.
    eventually("the lease has run out", Duration::from_secs(40), async || {
        if world.operator.leads() { Err("it leads".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(world.values("it").await, None);
    proxy.set(Network::Up);
    eventually("the answer is in the Secret", SOON, async || {
        let token = world.value("it", "refresh_token").await;
        if server.is_current(&token) { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1, "no other request was made");
}

#[tokio::test]
async fn a_refused_refresh_token_is_replaced_by_the_fallback_and_told() {
    let Setting { server, endpoint, world, first } = setting("fallback", 3600).await;
    world
        .secret(
            "credentials",
            &[("client_id", "the-client"), ("refresh_token", &first), ("username", "me"), ("password", PASSWORD)],
        )
        .await;
    world.integration("it", &with_fallback(&endpoint.url())).await;
    world.ready("it").await;
    assert_eq!(server.logins(), 0, "the refresh token comes first");
    let old = world.values("it").await.expect("tokens");
    server.revoke(&old["refresh_token"]);
    renewal_requested(&world, "it", "1").await;
    world.other_value("it", "access_token", &old["access_token"]).await;
    let told = world.event("it", "FellBack").await;
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    assert!(told.note.as_deref().is_some_and(|note| note.contains("spec.renewal.fallback")), "{told:?}");
    assert_eq!((server.logins(), endpoint.count()), (1, 3), "one refused, one log-in");
    let bodies: Vec<Value> = endpoint.requests().iter().map(common::endpoint::Request::json).collect();
    assert_eq!(bodies[2], json!({"username": "me", "password": PASSWORD}));
    // And from then on with the new family.
    let new = world.values("it").await.expect("tokens");
    assert!(server.is_current(&new["refresh_token"]));
    renewal_requested(&world, "it", "2").await;
    world.other_value("it", "access_token", &new["access_token"]).await;
    assert_eq!((server.logins(), server.renewed(), server.reused().len()), (1, 2, 0));
    assert!(!world.public_text().await.contains(PASSWORD));
}

#[tokio::test]
async fn without_a_refresh_token_the_fallback_begins() {
    let Setting { server, endpoint, world, .. } = setting("bootstrap", 3600).await;
    world.delete_secret("credentials").await;
    world.secret("credentials", &[("client_id", "the-client"), ("username", "me"), ("password", PASSWORD)]).await;
    world.integration("it", &with_fallback(&endpoint.url())).await;
    world.ready("it").await;
    assert_eq!((server.logins(), endpoint.count()), (1, 1));
    let token = world.value("it", "access_token").await;
    renewal_requested(&world, "it", "1").await;
    world.other_value("it", "access_token", &token).await;
    assert_eq!((server.logins(), server.renewed()), (1, 1), "renewed by the refresh token that the log-in gave");
}

#[tokio::test]
async fn a_fallback_that_fails_too_backs_off_and_follows_new_credentials_at_once() {
    let Setting { server, endpoint, world, first } = setting("fallback-fails", 3600).await;
    server.revoke(&first);
    world.integration("it", &with_fallback(&endpoint.url())).await;
    let ready = world.condition("it", "Ready", "False", "RequestRefused").await;
    assert!(ready.message.contains("spec.renewal.fallback needs user name and password"), "{}", ready.message);
    assert_eq!(endpoint.count(), 1);
    let wrong = [
        ("client_id", "the-client"),
        ("refresh_token", &first),
        ("username", "me"),
        ("password", "kanarie-wrong-password"),
    ];
    world.secret("credentials", &wrong).await;
    eventually("the fallback is refused", SOON, async || {
        let ready = common::world::condition(&world.get("it").await, "Ready").map(|found| found.message);
        match ready {
            Some(message) if message.contains("the fallback failed") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(endpoint.count(), 3);
    let right = [("client_id", "the-client"), ("refresh_token", &first), ("username", "me"), ("password", PASSWORD)];
    world.secret("credentials", &right).await;
    world.ready("it").await;
    assert_eq!(server.logins(), 1);
}

#[tokio::test]
async fn without_a_fallback_a_new_refresh_token_in_the_credentials_is_the_way_back() {
    let Setting { server, endpoint, world, .. } = setting("way-back", 3600).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    world.ready("it").await;
    let old = world.values("it").await.expect("tokens");
    server.revoke(&old["refresh_token"]);
    renewal_requested(&world, "it", "1").await;
    world.condition("it", "Ready", "True", "RequestRefused").await;
    assert_eq!(world.value("it", "access_token").await, old["access_token"], "the token that is good stays");
    let next = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &next)]).await;
    world.other_value("it", "access_token", &old["access_token"]).await;
    world.ready("it").await;
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn a_request_that_may_take_longer_than_the_lease_is_sent_under_a_longer_one() {
    let server = Rotating::new(3600);
    let answering = Arc::clone(&server);
    let endpoint =
        Endpoint::start(move |request| Reply::Late(Duration::from_secs(4), Box::new(answering.reply(request))));
    let world = World::elected("long", None).await;
    let first = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &first)]).await;
    let mut spec = rotating(&endpoint.url(), "credentials");
    spec["request"] = json!({"timeout": "60s"});
    world.integration("it", &spec).await;
    let lease_seconds = || {
        let path = "jsonpath={.spec.leaseDurationSeconds}";
        ControlPlane::shared().kubectl(&["get", "lease", "oauth-operator", "-n", &world.namespace, "-o", path])
    };
    eventually("a request", SOON, async || if endpoint.count() == 1 { Ok(()) } else { Err(world.operator.logs()) })
        .await;
    let during: u64 = lease_seconds().parse().expect("seconds");
    assert!(during >= 62, "{during} s outlive the request and its write");
    world.ready("it").await;
    eventually("the lease is as short as before", SOON, async || match lease_seconds() {
        short if short == "14" => Ok(()),
        other => Err(other),
    })
    .await;
}
