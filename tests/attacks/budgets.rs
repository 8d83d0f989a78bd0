//! Budgets for queued revocations, writes, events and log lines: bounded per namespace, and fair between namespaces.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use serde_json::json;

use crate::siege::{SHORT_TIMEOUT, Siege, client_credentials};
use test_support::endpoint::{Endpoint, Reply};
use test_support::eventually;

/// A server that issues short-lived tokens; its revocation endpoint responds only if `revokes` is set.
fn endpoint(lifetime_seconds: u64, revokes: bool) -> Endpoint {
    Endpoint::start(move |request| match request.path.as_str() {
        "/revoke" if revokes => Reply::text(200, ""),
        "/revoke" => Reply::NoResponse,
        _ => Reply::token(lifetime_seconds),
    })
}

fn revocations(endpoint: &Endpoint) -> usize {
    endpoint.requests().iter().filter(|request| request.path == "/revoke").count()
}

/// With tokens of 6 s, `afterRenewal: 1s` and a silent revocation endpoint, pending revocations once used 254 MB after
/// two minutes, even after the integrations were deleted, and tokens of other namespaces were not revoked in time.
#[tokio::test]
async fn revocations_of_one_namespace_are_bounded_and_do_not_delay_others() {
    const INTEGRATIONS: usize = 40;
    let siege = Siege::with(&["--min-renewal-interval=1s"]).await;
    let victim = siege.victim(15).await;
    let (silent, honest) = (endpoint(6, false), endpoint(6, true));
    let spec = |endpoint: &Endpoint, secret: &str| {
        let mut spec = client_credentials(&endpoint.url(), secret);
        spec["revocation"] = json!({"endpoint": format!("http://{}/revoke", endpoint.address()), "afterRenewal": "1s"});
        spec
    };
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("stolen", &values, &format!("http://{}", silent.address())).await;
    // A pending revocation keeps the parts of the spec that it needs: here as much as the API server admits.
    let parameters: BTreeMap<_, _> = (0..15).map(|number| (format!("filler-{number}"), "f".repeat(4_000))).collect();
    for number in 0..INTEGRATIONS {
        let mut spec = spec(&silent, "stolen");
        spec["request"] = json!({"parameters": parameters});
        siege.alice.integration(&format!("it-{number}"), &spec).await.expect("alice's integration");
    }
    let before = siege.operator.memory();
    let values = [("client_id", "bob"), ("client_secret", "kanarie-other-secret-of-bob")];
    siege.bob.pinned_secret("revoking-credentials", &values, &format!("http://{}", honest.address())).await;
    siege.bob.integration("revoking", &spec(&honest, "revoking-credentials")).await.expect("bob's integration");
    let started = Instant::now();
    siege.observe(&victim, Duration::from_secs(25)).await.assert_unharmed();
    // Each of bob's renewals is followed by a revocation one second later.
    let expected = usize::try_from(started.elapsed().as_secs() / 6).expect("a small number").saturating_sub(1);
    assert!(revocations(&honest) >= expected, "{} of {expected} tokens of bob were revoked", revocations(&honest));
    let grown = siege.operator.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
    let dropped = siege.operator.sum("oauth_operator_revocations_dropped_total", "limit");
    assert!(dropped > 0.0, "too few renewals to reach the bound: {}", siege.operator.metrics());
    let waiting = siege.operator.metric("oauth_operator_revocations_waiting", "").unwrap_or_default();
    assert!(waiting < 70.0, "{waiting} revocations wait");
    // Pending revocations are dropped together with their integrations.
    let all = siege.alice.dynamic_integrations();
    all.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await.expect("a deletion");
    eventually("the revocations of deleted integrations are dropped", SHORT_TIMEOUT, async || {
        let waiting = siege.operator.metric("oauth_operator_revocations_waiting", "").unwrap_or_default();
        if waiting <= 1.0 { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
}

/// An endpoint that issues tokens of one second made the operator write Secrets, statuses and events without limit.
#[tokio::test]
async fn tokens_of_one_second_do_not_cause_continuous_writes() {
    /// Few enough that even a busy machine would renew each of them continuously without a limit.
    const FEW: usize = 30;
    const MANY: usize = 150;
    const TIME: Duration = Duration::from_secs(20);
    let siege = Siege::with(&["--min-renewal-interval=10s", "--max-events-per-namespace=60"]).await;
    let victim = siege.victim(15).await;
    let endpoint = endpoint(1, true);
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("credentials", &values, &format!("http://{}", endpoint.address())).await;
    let create = async |numbers: Range<usize>| {
        for number in numbers {
            let spec = client_credentials(&endpoint.url(), "credentials");
            siege.alice.integration(&format!("it-{number}"), &spec).await.expect("alice's integration");
        }
    };
    create(0..FEW).await;
    let before = endpoint.count();
    siege.observe(&victim, TIME).await.assert_unharmed();
    let requests = endpoint.count() - before;
    // Each renews at most every 10 s: twice, plus the first token of an integration that had none yet.
    let limit = FEW * 3;
    assert!(requests <= limit, "{requests} requests of {FEW} integrations in {TIME:?}");
    assert!(requests >= FEW, "not every integration was renewed: {requests} requests");
    // It is reported in the condition, and once in an event.
    let found = siege.alice.dynamic_integrations().get("it-0").await.expect("an integration");
    let ready = found.data["status"]["conditions"][0].clone();
    assert_eq!((&ready["type"], &ready["reason"]), (&json!("Ready"), &json!("TokenLifetimeTooShort")), "{ready}");
    let list_events = async || {
        let events = siege.alice.api::<k8s_openapi::api::events::v1::Event>();
        events.list(&kube::api::ListParams::default()).await.expect("events").items
    };
    let events = list_events().await;
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("TokenLifetimeTooShort")), "{events:?}");
    // Of the events of 150 integrations, only the budget of the namespace is published: 20 at once, then one per second.
    let before = endpoint.count();
    create(FEW..MANY).await;
    eventually("all new integrations request a token, and events are dropped", SHORT_TIMEOUT, async || {
        let dropped = siege.operator.metric("oauth_operator_events_dropped_total", "").unwrap_or_default();
        let requests = endpoint.count() - before;
        let is_reached = requests >= MANY - FEW && dropped > 0.0;
        if is_reached { Ok(()) } else { Err(format!("{requests} requests, {dropped} events dropped")) }
    })
    .await;
    let events = list_events().await.len();
    assert!(events < 20 + 120, "{events} events");
}

/// When a namespace exceeds its write budget, only its own renewals are delayed.
#[tokio::test]
async fn only_a_namespace_that_writes_too_much_is_throttled() {
    const INTEGRATIONS: usize = 60;
    let siege = Siege::with(&["--min-renewal-interval=0s", "--max-writes-per-namespace=4", "--max-writes=6"]).await;
    let victim = siege.victim(15).await;
    let endpoint = endpoint(2, true);
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("credentials", &values, &format!("http://{}", endpoint.address())).await;
    for number in 0..INTEGRATIONS {
        let spec = client_credentials(&endpoint.url(), "credentials");
        siege.alice.integration(&format!("it-{number}"), &spec).await.expect("alice's integration");
    }
    // The burst is used up by then.
    eventually("the namespace is throttled", SHORT_TIMEOUT, async || {
        let throttled = siege.operator.sum("oauth_operator_reconciles_total", "NamespaceThrottled");
        if throttled > 0.0 { Ok(()) } else { Err(siege.operator.metrics()) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = endpoint.count();
    siege.observe(&victim, Duration::from_secs(15)).await.assert_unharmed();
    let requests = endpoint.count() - before;
    // 4 writes per second allow at most 2 renewals; without a budget there would be about 40.
    assert!((1..=60).contains(&requests), "{requests} renewals in 15 s");
    // A received token is written regardless of the budget: no response is kept in memory.
    let waiting = siege.operator.sum("oauth_operator_reconciles_total", "WritePending");
    assert!(waiting == 0.0, "{waiting} responses had to wait");
}

/// A target that another actor writes repeatedly must be read each time, because watches return only metadata.
#[tokio::test]
async fn reads_caused_by_changes_of_others_stay_within_the_budget() {
    const TOUCHES: u64 = 300;
    let siege = Siege::with(&["--max-writes-per-namespace=4"]).await;
    let endpoint = endpoint(3600, true);
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("credentials", &values, &format!("http://{}", endpoint.address())).await;
    siege.alice.integration("it", &client_credentials(&endpoint.url(), "credentials")).await.expect("an integration");
    siege.alice.wait_for_ready("it", "True", "TokenValid").await;
    let reads = async || {
        let key = ["GET", "secrets", ""].map(ToOwned::to_owned);
        siege.control_plane.calls().await.get(&key.into()).copied().unwrap_or_default()
    };
    let (before, begun) = (reads().await, Instant::now());
    let secrets = siege.alice.api::<k8s_openapi::api::core::v1::Secret>();
    let touch = async |number: u64| {
        let patch = json!({"metadata": {"annotations": {"touched": number.to_string()}}});
        let params = kube::api::PatchParams::default();
        secrets.patch_metadata("it", &params, &kube::api::Patch::Merge(&patch)).await.expect("a touched Secret");
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    for number in 0..TOUCHES {
        touch(number).await;
    }
    let caused = reads().await - before;
    // A burst of 80, and 4 per second; the write of the first token has used two of them.
    let limit = 80 + 4 * (begun.elapsed().as_secs() + 1);
    println!("{caused} reads by {TOUCHES} touches in {:?}", begun.elapsed());
    assert!(caused <= limit && limit < TOUCHES, "{caused} reads, at most {limit} allowed");
    assert!(caused >= 40, "too few reads within the budget: {caused}");
    // Changes in the meantime are detected when the budget allows: a token that was removed is restored.
    let patch = json!({"data": {"access_token": null}});
    let params = kube::api::PatchParams::default();
    secrets.patch("it", &params, &kube::api::Patch::Merge(&patch)).await.expect("a Secret without its token");
    eventually("the token is restored", SHORT_TIMEOUT, async || {
        let data = secrets.get("it").await.expect("the target").data.unwrap_or_default();
        if data.contains_key("access_token") { Ok(()) } else { Err("it is missing".to_owned()) }
    })
    .await;
}

/// Updates under the operator's field manager have to be migrated before the operator can apply its own fields.
#[tokio::test]
async fn migrations_caused_by_changes_of_others_are_bounded_by_the_rewrites() {
    const TOUCHES: u64 = 300;
    let siege = Siege::new().await;
    let endpoint = endpoint(3600, true);
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("credentials", &values, &format!("http://{}", endpoint.address())).await;
    siege.alice.integration("it", &client_credentials(&endpoint.url(), "credentials")).await.expect("an integration");
    siege.alice.wait_for_ready("it", "True", "TokenValid").await;
    let calls = async |verb: &str| {
        let calls = siege.control_plane.calls().await;
        let of_secrets = calls.iter().filter(|((called, resource, _), _)| called == verb && resource == "secrets");
        of_secrets.map(|(_, count)| count).sum::<u64>()
    };
    let (applies, patches) = (calls("APPLY").await, calls("PATCH").await);
    let secrets = siege.alice.api::<k8s_openapi::api::core::v1::Secret>();
    let params = kube::api::PatchParams { field_manager: Some("oauth-operator".to_owned()), ..Default::default() };
    for number in 0..TOUCHES {
        let patch = json!({"stringData": {"access_token": format!("not-a-token-{number}")}});
        secrets.patch("it", &params, &kube::api::Patch::Merge(&patch)).await.expect("a changed Secret");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // The patches are hers, except for the migrations.
    let (rewrites, migrations) = (calls("APPLY").await - applies, calls("PATCH").await - patches - TOUCHES);
    println!("{rewrites} rewrites and {migrations} migrations by {TOUCHES} changes");
    assert!(migrations > 0, "the attack does not cause migrations");
    assert!(migrations <= rewrites + 1, "{migrations} migrations for {rewrites} rewrites");
    // Two at once, then at intervals that double from one second.
    assert!(rewrites < 20, "{rewrites} rewrites");
}
