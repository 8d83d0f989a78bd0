//! Endpoints that cannot be reached, or respond without a token.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use test_support::World;
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::process::free_port;
use test_support::world::condition;

use super::{
    CANARY, Clock, assert_healthy_without_secrets, assert_reported, backed_off, credentials, credentials_of, failed,
    last_failure, put_secret, request_renewal, spec, token,
};

// ---- Transient failures: retried after 1 s, 2 s, 4 s … ----

/// An endpoint that returns no token.
struct Broken {
    name: &'static str,
    reply: fn(&Request) -> Reply,
    changes: Value,
    reason: &'static str,
    parts: &'static [&'static str],
}

fn body(text: &str) -> Reply {
    Reply::Http(200, vec![], text.to_owned())
}

fn without_a_token() -> Vec<Broken> {
    let broken = |name, reply, parts| Broken { name, reply, changes: json!({}), reason: "InvalidResponse", parts };
    vec![
        broken(
            "number",
            |_| Reply::json(200, &json!({"access_token": 123_456})),
            &["a number instead of a string", "spec.response.accessToken"],
        ),
        broken(
            "object",
            |_| Reply::json(200, &json!({"access_token": {"value": CANARY}})),
            &["an object instead of a string", "spec.response.accessToken"],
        ),
        broken(
            "empty-token",
            |_| Reply::json(200, &json!({"access_token": "", "refresh_token": CANARY})),
            &["yields nothing", "spec.response.accessToken"],
        ),
        broken(
            "line-break",
            |_| Reply::json(200, &json!({"access_token": format!("{CANARY}\r\nX-Injected: {CANARY}")})),
            &["characters", "spec.response.accessToken"],
        ),
        broken(
            "not-json",
            |_| Reply::text(200, &format!("<html>{CANARY}</html>")),
            &["is not JSON", "spec.tokenEndpoint"],
        ),
        broken("empty-body", |_| body(""), &["is empty", "spec.tokenEndpoint"]),
        broken("nested", |_| body(&"[".repeat(60_000)), &["is not JSON", "spec.tokenEndpoint"]),
    ]
}

fn without_a_response() -> Vec<Broken> {
    let broken = |name, reply, reason, parts| Broken { name, reply, changes: json!({}), reason, parts };
    vec![
        Broken {
            changes: json!({"request": {"timeout": "1s"}}),
            ..broken("silent", |_| Reply::NoResponse, "RequestTimedOut", &["1s", "spec.request.timeout"])
        },
        broken("cut-short", |_| Reply::Truncated, "EndpointUnreachable", &["127.0.0.1", "was closed unexpectedly"]),
        broken("closed", |_| Reply::Close, "EndpointUnreachable", &["127.0.0.1", "was closed unexpectedly"]),
        broken(
            "unavailable",
            |request| Reply::rejected(503, "temporarily_unavailable", &format!("not now: {}", request.body)),
            "EndpointUnavailable",
            &["503", "temporarily_unavailable"],
        ),
        broken(
            "too-many",
            |request| {
                let text = format!("too many for {}", request.parameter("client_id"));
                Reply::rejected(429, "slow_down", &text).with_header("Retry-After", "1")
            },
            "EndpointUnavailable",
            &["429: slow_down: [withheld: it repeats data from the request]"],
        ),
    ]
}

impl Broken {
    /// The endpoint fails before there is a token, is fixed, fails at a renewal, and is fixed again.
    async fn run(&self, world: &World) {
        let Self { name, reply, changes, reason, parts } = self;
        let endpoint = Endpoint::start(*reply);
        put_secret(world, &credentials_of(name), &credentials("first")).await;
        world.integration(name, &spec(name, &endpoint.url(), changes)).await;
        failed(world, name, "False", reason, 2).await;
        world.condition(name, "Reconciling", "True", reason).await;
        assert_reported(world, name, reason, parts).await;
        assert_eq!(world.values(name).await, None, "{name}: no Secret without a token");
        endpoint.respond(token);
        assert_eq!(last_failure(&world.ready(name).await), None, "{name}");
        backed_off(name, &endpoint);
        let (first, requests_before) = (world.values(name).await.expect("a token"), endpoint.count());
        endpoint.respond(*reply);
        request_renewal(world, name).await;
        let last = failed(world, name, "True", reason, 2).await;
        let ready = condition(&world.get(name).await, "Ready").expect("a condition");
        assert!(ready.message.starts_with("the token is valid until"), "{name}: {}", ready.message);
        assert!(ready.message.contains(&last.message), "{name}: {}", ready.message);
        assert_eq!(world.values(name).await.as_ref(), Some(&first), "{name}: the valid token is kept");
        endpoint.respond(token);
        world.wait_for_change(name, "access_token", &first["access_token"]).await;
        world.ready(name).await;
        assert!(
            endpoint.count() <= requests_before + 5,
            "{name}: {} attempts in a few seconds",
            endpoint.count() - requests_before
        );
    }
}

#[tokio::test]
async fn a_response_without_a_token_is_reported_and_retried() {
    let world = World::new("no-token").await;
    join_all(without_a_token().iter().map(|case| case.run(&world))).await;
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn an_endpoint_without_a_response_is_reported_and_retried() {
    let world = World::new("no-reply").await;
    join_all(without_a_response().iter().map(|case| case.run(&world))).await;
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn an_unreachable_address_is_reported_and_its_fix_takes_effect_at_once() {
    let (world, endpoint) = (World::new("unreachable").await, Endpoint::start(token));
    let closed = format!("http://127.0.0.1:{}/token", free_port());
    let cases = [
        ("unknown-host", "http://no-such-host.invalid/token".to_owned(), "no-such-host.invalid"),
        ("refused-connection", closed, "127.0.0.1"),
        ("no-tls", endpoint.url().replace("http:", "https:"), "127.0.0.1"),
    ];
    join_all(cases.iter().map(async |(name, address, host)| {
        put_secret(&world, &credentials_of(name), &credentials("first")).await;
        world.integration(name, &spec(name, address, &json!({}))).await;
        failed(&world, name, "False", "EndpointUnreachable", 2).await;
        assert_reported(&world, name, "EndpointUnreachable", &["failed to connect to", host, "spec.tokenEndpoint"])
            .await;
        world.change(name, &json!({"spec": {"tokenEndpoint": endpoint.url()}})).await;
        world.ready(name).await;
    }))
    .await;
    let reached = endpoint.requests();
    assert_eq!(reached.len(), cases.len(), "one request for each once the address was reachable: {reached:?}");
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn retries_follow_after_one_two_and_four_seconds() {
    let (world, endpoint) = (World::new("doubling").await, Endpoint::start(|_| Reply::text(500, CANARY)));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    failed(&world, "it", "False", "EndpointUnavailable", 4).await;
    backed_off("it", &endpoint);
    let requests = endpoint.requests();
    let elapsed = requests[3].at.duration_since(requests[0].at).expect("in order");
    assert!(elapsed < Duration::from_secs(20), "1 s, 2 s and 4 s, with jitter and rounding: {elapsed:?}");
    assert_reported(&world, "it", "EndpointUnavailable", &["500"]).await;
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let world = World::new("retry-after").await;
    let clock = Clock::start(&world).await;
    let date = jiff::Timestamp::now() + Duration::from_secs(90);
    let date_header = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).expect("a date");
    let seconds = Endpoint::start(|_| Reply::text(429, CANARY).with_header("Retry-After", "40"));
    let at = Endpoint::start(move |_| Reply::text(429, CANARY).with_header("Retry-After", &date_header));
    let refused = Endpoint::start(|_| Reply::text(403, CANARY).with_header("Retry-After", "300"));
    let cases = [
        ("seconds", &seconds, "EndpointUnavailable"),
        ("date", &at, "EndpointUnavailable"),
        ("refused", &refused, "RequestRejected"),
    ];
    for (name, endpoint, _) in &cases {
        put_secret(&world, &credentials_of(name), &credentials("first")).await;
        world.integration(name, &spec(name, &endpoint.url(), &json!({}))).await;
    }
    let mut pauses = BTreeMap::new();
    for (name, _, reason) in &cases {
        let last = failed(&world, name, "False", reason, 1).await;
        pauses.insert(*name, last.retry_at.0.duration_since(last.time.0).as_secs());
        if *name == "date" {
            let late = last.retry_at.0.duration_since(date).as_secs();
            assert!((-1..=2).contains(&late), "retried at another time than the date: {late} s later");
        }
    }
    assert!((40..=42).contains(&pauses["seconds"]), "40 s: {pauses:?}");
    assert!((300..=302).contains(&pauses["refused"]), "300 s: {pauses:?}");
    clock.wait().await;
    for (name, endpoint, _) in &cases {
        assert_eq!(endpoint.count(), 1, "{name}: retried before the delay has passed");
    }
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn a_huge_body_does_not_exhaust_memory() {
    const BODY: usize = 50 << 20;
    let world = World::new("huge").await;
    let healthy = Endpoint::start(token);
    put_secret(&world, &credentials_of("healthy"), &credentials("first")).await;
    world.integration("healthy", &spec("healthy", &healthy.url(), &json!({}))).await;
    world.ready("healthy").await;
    let before = world.operator.memory();
    let names = ["huge-0", "huge-1", "huge-2", "huge-3"];
    let endpoint = Endpoint::start(|_| Reply::Oversized(BODY));
    join_all(names.map(async |name| {
        put_secret(&world, &credentials_of(name), &credentials("first")).await;
        world.integration(name, &spec(name, &endpoint.url(), &json!({}))).await;
        failed(&world, name, "False", "InvalidResponse", 2).await;
        assert_reported(&world, name, "InvalidResponse", &["larger than 65536 bytes", "spec.tokenEndpoint"]).await;
    }))
    .await;
    let grown = world.operator.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "four bodies of 50 MiB took {} MiB", grown >> 20);
    assert_healthy_without_secrets(&world).await;
}
