//! Guarantee: a refresh token is neither lost nor wasted, and an integration can recover if its refresh token is
//! rejected.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, PASSWORD, Reply, RotatingTokenServer};
use test_support::messages::assert_recorded;
use test_support::proxy::{Network, Proxy};
use test_support::world::{SHORT_TIMEOUT, rotating};
use test_support::{ControlPlane, World, eventually};

pub struct Setting {
    pub server: Arc<RotatingTokenServer>,
    pub endpoint: Endpoint,
    pub world: World,
    pub first: String,
}

/// An operator, a strict server, and credentials with the first refresh token.
pub async fn setting(name: &str, lifetime: u64) -> Setting {
    let server = RotatingTokenServer::new(lifetime);
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| responding.reply(request));
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

#[tokio::test]
async fn a_quota_prevents_the_request_instead_of_losing_its_response() {
    let Setting { server, endpoint, world, first } = setting("quota", 3600).await;
    let quotas = Api::<ResourceQuota>::namespaced(world.client.clone(), &world.namespace);
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"secrets": "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("a quota");
    eventually("the quota is in effect", SHORT_TIMEOUT, async || {
        let quota = quotas.get("full").await.map_err(|error| error.to_string())?;
        let used = quota.status.and_then(|status| status.used).unwrap_or_default();
        if used.get("secrets").is_some_and(|used| used.0 == "1") { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    let ready = world.condition("it", "Ready", "False", "TargetDryRunFailed").await;
    assert!(ready.message.contains("exceeded quota"), "{}", ready.message);
    world.event("it", "TargetDryRunFailed").await;
    let last = world.get("it").await.status.and_then(|status| status.last_failure).expect("a failure");
    assert_recorded("TargetDryRunFailed", "a quota of the namespace, before a refresh token is sent", &last.message);
    assert_eq!(endpoint.count(), 0, "the refresh token was not spent");
    assert!(server.is_current(&first));
    // Deleting the quota is sufficient.
    quotas.delete("full", &DeleteParams::default()).await.expect("the quota is deleted");
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_response_survives_an_outage_of_the_api_server_without_another_request() {
    let proxy = Proxy::start(ControlPlane::shared().address());
    let server = RotatingTokenServer::new(3600);
    let responding = Arc::clone(&server);
    // The network is interrupted when the response arrives.
    let proxy = Arc::new(proxy);
    let cutting = Arc::clone(&proxy);
    let endpoint = Endpoint::start(move |request| {
        cutting.set(Network::Cut);
        responding.reply(request)
    });
    let world = World::elected("outage", Some(proxy.port())).await;
    let first = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &first)]).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    eventually(
        "a request",
        SHORT_TIMEOUT,
        async || if endpoint.count() == 1 { Ok(()) } else { Err(world.operator.logs()) },
    )
    .await;
    // Long enough for the lease to expire.
    eventually("the lease has expired", Duration::from_secs(40), async || {
        if world.operator.leads() { Err("it leads".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(world.values("it").await, None);
    proxy.set(Network::Up);
    eventually("the response is in the Secret", SHORT_TIMEOUT, async || {
        let token = world.value("it", "refresh_token").await;
        if server.is_current(&token) { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1, "no other request was sent");
}

#[tokio::test]
async fn a_target_that_is_deleted_during_shutdown_is_created_again_with_the_pending_token() {
    let proxy = Arc::new(Proxy::start(ControlPlane::shared().address()));
    let server = RotatingTokenServer::new(3600);
    let (cutting, responding) = (Arc::clone(&proxy), Arc::clone(&server));
    let endpoint = Endpoint::start(move |request| {
        if responding.renewed() == 1 {
            cutting.set(Network::Cut);
        }
        responding.reply(request)
    });
    let world = World::elected("shutdown", Some(proxy.port())).await;
    let first = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &first)]).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    world.ready("it").await;
    world.request_renewal("it", "1").await;
    eventually("a second request", SHORT_TIMEOUT, async || {
        if endpoint.count() == 2 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    world.operator.signal("TERM");
    eventually("a write fails", SHORT_TIMEOUT, async || {
        let log = world.operator.logs();
        if log.contains("failed to write a received token while shutting down") { Ok(()) } else { Err(log) }
    })
    .await;
    // The operator only knows the UID of the deleted Secret.
    world.delete_secret("it").await;
    proxy.set(Network::Up);
    assert_eq!(world.operator.terminate(Duration::from_secs(25)), 0, "{}", world.operator.logs());
    let values = world.values("it").await.expect("the pending token was written");
    assert!(server.is_current(&values["refresh_token"]));
    assert_eq!(endpoint.count(), 2);
}

#[tokio::test]
async fn a_rejected_refresh_token_is_replaced_by_the_fallback_and_reported() {
    let Setting { server, endpoint, world, first } = setting("fallback", 3600).await;
    world
        .secret(
            "credentials",
            &[("client_id", "the-client"), ("refresh_token", &first), ("username", "me"), ("password", PASSWORD)],
        )
        .await;
    world.integration("it", &with_fallback(&endpoint.url())).await;
    world.ready("it").await;
    assert_eq!(server.logins(), 0, "the refresh token is used first");
    let old = world.values("it").await.expect("tokens");
    server.revoke(&old["refresh_token"]);
    world.request_renewal("it", "1").await;
    world.wait_for_change("it", "access_token", &old["access_token"]).await;
    let reported = world.event("it", "FallbackUsed").await;
    assert_eq!(reported.type_.as_deref(), Some("Warning"));
    assert!(reported.note.as_deref().is_some_and(|note| note.contains("spec.renewal.fallback")), "{reported:?}");
    assert_eq!((server.logins(), endpoint.count()), (1, 3), "one rejected, one login");
    let bodies: Vec<Value> = endpoint.requests().iter().map(test_support::endpoint::Request::json).collect();
    assert_eq!(bodies[2], json!({"username": "me", "password": PASSWORD}));
    // From then on, the new family is used.
    let new = world.values("it").await.expect("tokens");
    assert!(server.is_current(&new["refresh_token"]));
    world.request_renewal("it", "2").await;
    world.wait_for_change("it", "access_token", &new["access_token"]).await;
    assert_eq!((server.logins(), server.renewed(), server.reused().len()), (1, 2, 0));
    assert!(!world.observable_output().await.contains(PASSWORD));
}

#[tokio::test]
async fn without_a_refresh_token_the_fallback_is_used() {
    let Setting { server, endpoint, world, .. } = setting("bootstrap", 3600).await;
    world.delete_secret("credentials").await;
    world.secret("credentials", &[("client_id", "the-client"), ("username", "me"), ("password", PASSWORD)]).await;
    world.integration("it", &with_fallback(&endpoint.url())).await;
    world.ready("it").await;
    assert_eq!((server.logins(), endpoint.count()), (1, 1));
    let token = world.value("it", "access_token").await;
    world.request_renewal("it", "1").await;
    world.wait_for_change("it", "access_token", &token).await;
    assert_eq!((server.logins(), server.renewed()), (1, 1), "renewed with the refresh token of the login");
}

#[tokio::test]
async fn a_failing_fallback_backs_off_and_new_credentials_take_effect_at_once() {
    let Setting { server, endpoint, world, first } = setting("fallback-fails", 3600).await;
    server.revoke(&first);
    world.integration("it", &with_fallback(&endpoint.url())).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("spec.renewal.fallback needs username and password"), "{}", ready.message);
    assert_eq!(endpoint.count(), 1);
    let wrong = [
        ("client_id", "the-client"),
        ("refresh_token", &first),
        ("username", "me"),
        ("password", "kanarie-wrong-password"),
    ];
    world.secret("credentials", &wrong).await;
    eventually("the fallback is rejected", SHORT_TIMEOUT, async || {
        let ready = test_support::world::condition(&world.get("it").await, "Ready").map(|found| found.message);
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
async fn without_a_fallback_a_new_refresh_token_in_the_credentials_recovers() {
    let Setting { server, endpoint, world, .. } = setting("recovery", 3600).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    world.ready("it").await;
    let old = world.values("it").await.expect("tokens");
    server.revoke(&old["refresh_token"]);
    world.request_renewal("it", "1").await;
    world.condition("it", "Ready", "True", "RequestRejected").await;
    assert_eq!(world.value("it", "access_token").await, old["access_token"], "the valid token is kept");
    let next = server.first();
    world.secret("credentials", &[("client_id", "the-client"), ("refresh_token", &next)]).await;
    world.wait_for_change("it", "access_token", &old["access_token"]).await;
    world.ready("it").await;
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test]
async fn the_lease_is_extended_for_a_request_that_may_take_longer() {
    let server = RotatingTokenServer::new(3600);
    let responding = Arc::clone(&server);
    let endpoint =
        Endpoint::start(move |request| Reply::Delayed(Duration::from_secs(4), Box::new(responding.reply(request))));
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
    eventually(
        "a request",
        SHORT_TIMEOUT,
        async || if endpoint.count() == 1 { Ok(()) } else { Err(world.operator.logs()) },
    )
    .await;
    let during: u64 = lease_seconds().parse().expect("seconds");
    assert!(during >= 62, "a lease of {during} s is shorter than the request and its write");
    world.ready("it").await;
    eventually("the lease has its normal duration again", SHORT_TIMEOUT, async || match lease_seconds() {
        short if short == "14" => Ok(()),
        other => Err(other),
    })
    .await;
}
