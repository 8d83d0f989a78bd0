//! The promise: what fails is told once, in words that say what to change and hold nothing secret; a token that is there
//! stays; nothing is asked for in a hot loop; and what is mended is followed.

#![allow(missing_docs)]
// A test that cannot go on has failed.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::endpoint::{Endpoint, Reply, Request};
use common::process::free_port;
use common::world::{SOON, client_credentials, condition};
use common::{ControlPlane, World, eventually, manifests};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::Api;
use kube::api::PostParams;
use oauth_operator::api::{LastFailure, OAuthIntegration};
use serde_json::{Value, json};

/// Stands in every credential and every token, and nowhere else.
const CANARY: &str = "KANARIENVOGEL";

/// A token of an endpoint that is well.
fn token(_: &Request) -> Reply {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (access, refresh) = (format!("{CANARY}-access-{number}"), format!("{CANARY}-refresh-{number}"));
    Reply::json(200, &json!({"access_token": access, "refresh_token": refresh, "expires_in": 3600}))
}

/// Good credentials, with characters that some encodings change; `id` makes them differ.
fn credentials(id: &str) -> Value {
    let secret = format!("{CANARY} s3cr+t/ü&\"{id}\"");
    json!({"client_id": STANDARD.encode(format!("{CANARY}-{id}")), "client_secret": STANDARD.encode(secret)})
}

/// Writes a Secret with exactly these data.
async fn put_secret(world: &World, name: &str, data: &Value) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    let params = PostParams::default();
    if world.secrets().replace(name, &params, &secret).await.is_err() {
        world.secrets().create(&params, &secret).await.unwrap_or_else(|why| panic!("{name} cannot be made: {why}"));
    }
}

/// The name of the credentials Secret of an integration; each has its own, so that each can be mended alone.
fn credentials_of(name: &str) -> String {
    format!("{name}-credentials")
}

/// A spec with what a case changes in it.
fn spec(name: &str, endpoint: &str, changes: &Value) -> Value {
    let mut spec = client_credentials(endpoint);
    spec["credentials"]["secretName"] = json!(credentials_of(name));
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

async fn request_renewal(world: &World, name: &str) {
    world.change(name, &json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}}})).await;
}

fn last_failure(integration: &OAuthIntegration) -> Option<LastFailure> {
    integration.status.as_ref()?.last_failure.clone()
}

/// Waits until so many attempts in a row have failed for a reason, and `Ready` has a status.
async fn failed(world: &World, name: &str, ready: &str, reason: &str, attempts: i32) -> LastFailure {
    eventually(&format!("{name}: {attempts} failed attempts, {reason}"), SOON * 2, async || {
        let integration = world.get(name).await;
        let is_told = condition(&integration, "Ready").is_some_and(|is| is.status == ready && is.reason == reason);
        last_failure(&integration)
            .filter(|last| is_told && last.reason == reason && last.attempts >= attempts)
            .ok_or_else(|| format!("{:?}", integration.status))
    })
    .await
}

/// Checks that a failure was told in the condition and in one event, in words that help.
async fn told(world: &World, name: &str, reason: &str, says: &[&str]) {
    world.event(name, reason).await;
    let events = world.events(name).await;
    let events: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some(reason)).collect();
    assert_eq!(events.len(), 1, "{name}: one event for one failure: {events:?}");
    assert_eq!(events[0].series, None, "{name}: the event was published once");
    assert_eq!(events[0].type_.as_deref(), Some("Warning"), "{name}");
    let ready = condition(&world.get(name).await, "Ready").expect("a condition");
    for part in says {
        assert!(ready.message.contains(part), "{name}: the condition lacks {part:?}: {}", ready.message);
        let note = events[0].note.as_deref().unwrap_or_default();
        assert!(note.contains(part), "{name}: the event lacks {part:?}: {note}");
    }
}

/// Checks that nothing secret can be read without the right to read Secrets, and that the operator is well.
async fn nothing_secret_and_all_well(world: &World) {
    let text = world.public_text().await;
    for form in forms(CANARY) {
        let Some(at) = text.find(&form) else { continue };
        let around: String = text[..at].chars().rev().take(200).collect::<String>().chars().rev().collect();
        panic!("a secret ({form}) can be read: {around}{}", text[at..].chars().take(100).collect::<String>());
    }
    assert!(!text.contains("panicked"), "the operator panicked");
    assert_eq!(world.operator.get("/healthz").0, 200, "the operator is alive");
    assert_eq!(world.operator.get("/readyz").0, 200, "the operator is ready");
}

/// A text as it may stand in another: as it is (percent-encoding leaves its letters alone), and in base64, of which each
/// byte of another text before it makes another text.
fn forms(text: &str) -> Vec<String> {
    let base64 = (0..3).map(|before| {
        let encoded = STANDARD.encode([" ".repeat(before).as_bytes(), text.as_bytes()].concat());
        // Only the characters that stand for nothing but the text.
        encoded[(before * 8).div_ceil(6)..(before + text.len()) * 8 / 6].to_owned()
    });
    base64.chain([text.to_owned()]).collect()
}

/// An integration that fails for ever with a class that is tried again soon: what happens after its attempts happens
/// after some seconds.
struct Clock(Endpoint);

impl Clock {
    async fn start(world: &World) -> Self {
        let endpoint = Endpoint::start(|_| Reply::text(503, ""));
        put_secret(world, &credentials_of("clock"), &credentials("clock")).await;
        world.integration("clock", &spec("clock", &endpoint.url(), &json!({}))).await;
        Self(endpoint)
    }

    /// Waits until three more attempts have failed, which takes at least three seconds.
    async fn strikes(&self) {
        let seen = self.0.count();
        eventually("three attempts", SOON * 2, async || {
            if self.0.count() >= seen + 3 { Ok(()) } else { Err(format!("{} of {seen} + 3", self.0.count())) }
        })
        .await;
    }
}

/// Checks that each attempt came at least twice as late as the one before, beginning with a second.
fn backed_off(name: &str, endpoint: &Endpoint) {
    let at: Vec<SystemTime> = endpoint.requests().iter().map(|request| request.at).collect();
    let mut least = Duration::from_secs(1);
    for pair in at.windows(2) {
        let distance = pair[1].duration_since(pair[0]).expect("in order");
        assert!(distance >= least, "{name}: {distance:?} between two attempts, where {least:?} is the least");
        least *= 2;
    }
}

// ---- Wrong configuration: nothing is sent, and the change that mends it is followed at once. ----

/// Something wrong with the credentials Secret or with the spec.
struct Wrong {
    name: &'static str,
    /// The data of the credentials Secret; none: there is no such Secret.
    secret: Option<Value>,
    changes: Value,
    reason: &'static str,
    says: &'static [&'static str],
}

fn wrong_credentials() -> Vec<Wrong> {
    let good = credentials("first");
    let with = |key: &str, value: Option<&[u8]>| {
        let mut data = good.clone();
        match value {
            Some(value) => data[key] = json!(STANDARD.encode(value)),
            None => drop(data.as_object_mut().expect("an object").remove(key)),
        }
        Some(data)
    };
    let wrong = |name, secret, says| Wrong { name, secret, changes: json!({}), reason: "CredentialsMissing", says };
    vec![
        wrong("no-secret", None, &["no-secret-credentials", "does not exist", "spec.credentials.secretName"]),
        wrong(
            "no-key",
            with("client_secret", None),
            &["no-key-credentials", "client_secret", "spec.credentials.keys.clientSecret"],
        ),
        wrong("empty-key", with("client_id", Some(b"")), &["client_id", "spec.credentials.keys.clientId"]),
        wrong("not-utf-8", with("client_id", Some(b"KANARIENVOGEL\xff\xfe")), &["client_id", "not UTF-8"]),
        Wrong {
            changes: json!({"credentials": {"secretName": "other-key-credentials", "keys": {"clientId": "the-id"}}}),
            ..wrong("other-key", Some(good.clone()), &["the-id", "spec.credentials.keys.clientId"])
        },
        Wrong {
            changes: json!({"grantType": "user_password"}),
            ..wrong("no-user", Some(good.clone()), &["username", "spec.credentials.keys.username"])
        },
        Wrong {
            changes: json!({"grantType": "refresh_token"}),
            ..wrong("no-refresh-token", Some(good.clone()), &["refresh_token", "spec.credentials.keys.refreshToken"])
        },
    ]
}

fn wrong_expressions() -> Vec<Wrong> {
    let wrong = |name, field: &str, says| Wrong {
        name,
        secret: Some(credentials("first")),
        changes: json!({"response": {field: "data.(broken"}}),
        reason: "InvalidSpec",
        says,
    };
    vec![
        wrong("bad-access-token", "accessToken", &["spec.response.accessToken", "JSONata"]),
        wrong("bad-refresh-token", "refreshToken", &["spec.response.refreshToken", "JSONata"]),
        wrong("bad-expires-in", "expiresIn", &["spec.response.expiresIn", "JSONata"]),
    ]
}

impl Wrong {
    async fn put(&self, world: &World) {
        match &self.secret {
            Some(data) => put_secret(world, &credentials_of(self.name), data).await,
            None => drop(world.secrets().delete(&credentials_of(self.name), &Default::default()).await),
        }
    }

    async fn stalls(&self, world: &World, ready: &str) {
        world.condition(self.name, "Stalled", "True", self.reason).await;
        world.condition(self.name, "Ready", ready, self.reason).await;
    }
}

/// All values that any grant sends.
fn all_credentials() -> Value {
    let mut data = credentials("first");
    for key in ["username", "password", "refresh_token", "the-id"] {
        data[key] = json!(STANDARD.encode(format!("{CANARY}-{key}")));
    }
    data
}

#[tokio::test]
async fn wrong_credentials_stall_and_are_followed_when_they_are_put_right() {
    let (world, endpoint) = (World::new("credentials").await, Endpoint::start(token));
    let cases = wrong_credentials();
    for case in &cases {
        case.put(&world).await;
        world.integration(case.name, &spec(case.name, &endpoint.url(), &case.changes)).await;
    }
    for case in &cases {
        case.stalls(&world, "False").await;
        told(&world, case.name, case.reason, case.says).await;
    }
    assert_eq!(endpoint.count(), 0, "nothing is sent");
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        let integration = world.ready(case.name).await;
        assert!(condition(&integration, "Stalled").is_none(), "{}", case.name);
    }
    assert_eq!(endpoint.count(), cases.len(), "one request makes one token");
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn a_token_stays_while_its_credentials_are_wrong() {
    let (world, endpoint) = (World::new("credentials-later").await, Endpoint::start(token));
    // What is taken away from these, the grant does not need any more: the target has a refresh token of its own.
    let cases: Vec<_> = wrong_credentials().into_iter().filter(|case| case.name != "no-refresh-token").collect();
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        world.integration(case.name, &spec(case.name, &endpoint.url(), &case.changes)).await;
        world.ready(case.name).await;
    }
    for case in &cases {
        let before = world.values(case.name).await.expect("a token");
        case.put(&world).await;
        case.stalls(&world, "True").await;
        told(&world, case.name, case.reason, case.says).await;
        assert_eq!(world.values(case.name).await, Some(before), "{}", case.name);
    }
    assert_eq!(endpoint.count(), cases.len(), "nothing more is sent");
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        world.ready(case.name).await;
    }
    assert_eq!(endpoint.count(), cases.len(), "the credentials of the token are back");
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn an_expression_that_does_not_parse_stalls_and_is_followed_when_it_is_put_right() {
    let (world, endpoint) = (World::new("expressions").await, Endpoint::start(token));
    let cases = wrong_expressions();
    for case in &cases {
        case.put(&world).await;
        world.integration(case.name, &spec(case.name, &endpoint.url(), &case.changes)).await;
    }
    for case in &cases {
        case.stalls(&world, "False").await;
        told(&world, case.name, case.reason, case.says).await;
    }
    assert_eq!(endpoint.count(), 0, "nothing is sent");
    for case in &cases {
        world.change(case.name, &json!({"spec": {"response": null}})).await;
        world.ready(case.name).await;
        let before = world.values(case.name).await;
        world.change(case.name, &json!({"spec": case.changes})).await;
        // There is no token for a spec that cannot be understood; the one that is there stays.
        case.stalls(&world, "False").await;
        assert_eq!(world.values(case.name).await, before, "{}", case.name);
        world.change(case.name, &json!({"spec": {"response": null}})).await;
        world.ready(case.name).await;
    }
    assert_eq!(endpoint.count(), cases.len(), "the spec of the token is back");
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn a_secret_of_others_is_never_touched() {
    let (world, endpoint) = (World::new("conflict").await, Endpoint::start(token));
    let labels = [("plain", json!({})), ("labelled", json!({"app.kubernetes.io/managed-by": "oauth-operator"}))];
    let mut foreign = BTreeMap::new();
    for (name, labels) in &labels {
        put_secret(&world, &credentials_of(name), &credentials("first")).await;
        let secret =
            json!({"metadata": {"name": name, "labels": labels}, "stringData": {"access_token": "kanarie-theirs"}});
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let made = world.secrets().create(&PostParams::default(), &secret).await.expect("a Secret");
        foreign.insert(*name, made);
        world.integration(name, &spec(name, &endpoint.url(), &json!({}))).await;
    }
    let untouched = async |name: &str| {
        let secret = world.secrets().get(name).await.expect("their Secret");
        assert_eq!(secret, foreign[name], "{name}: the very same, to its resourceVersion");
    };
    for (name, _) in &labels {
        world.condition(name, "Stalled", "True", "TargetConflict").await;
        world.condition(name, "Ready", "False", "TargetConflict").await;
        told(&world, name, "TargetConflict", &[name, "spec.target.secretName"]).await;
        request_renewal(&world, name).await;
    }
    // One that came later is done, so what was to be done for these is done too.
    put_secret(&world, &credentials_of("later"), &credentials("first")).await;
    world.integration("later", &spec("later", &endpoint.url(), &json!({}))).await;
    world.ready("later").await;
    assert_eq!(endpoint.count(), 1, "only for the one without a conflict");
    for (name, _) in &labels {
        untouched(name).await;
        world.change(name, &json!({"spec": {"target": {"secretName": format!("{name}-moved")}}})).await;
        world.ready(name).await;
        untouched(name).await;
        world.delete_secret(name).await;
        world.change(name, &json!({"spec": {"target": {"secretName": null}}})).await;
        world.ready(name).await;
        assert!(world.value(name, "access_token").await.starts_with(CANARY), "{name}");
    }
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn a_secret_of_others_that_goes_away_makes_room() {
    let (world, endpoint) = (World::new("conflict-ends").await, Endpoint::start(token));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    put_secret(&world, "it", &json!({})).await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    world.delete_secret("it").await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1);
}

// ---- What may pass: tried again after 1 s, 2 s, 4 s … ----

/// An endpoint that does not bring a token.
struct Broken {
    name: &'static str,
    answer: fn(&Request) -> Reply,
    changes: Value,
    reason: &'static str,
    says: &'static [&'static str],
}

fn body(text: &str) -> Reply {
    Reply::Http(200, vec![], text.to_owned())
}

fn without_a_token() -> Vec<Broken> {
    let broken = |name, answer, says| Broken { name, answer, changes: json!({}), reason: "InvalidResponse", says };
    vec![
        broken(
            "error-with-200",
            |_| Reply::json(200, &json!({"ok": false, "error": "invalid_auth"})),
            &["invalid_auth", "spec.response.accessToken"],
        ),
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

fn without_an_answer() -> Vec<Broken> {
    let broken = |name, answer, reason, says| Broken { name, answer, changes: json!({}), reason, says };
    vec![
        Broken {
            changes: json!({"request": {"timeout": "1s"}}),
            ..broken("silent", |_| Reply::Never, "RequestTimedOut", &["1s", "spec.request.timeout"])
        },
        broken("cut-short", |_| Reply::Truncated, "EndpointUnreachable", &["127.0.0.1", "broke off"]),
        broken("closed", |_| Reply::Close, "EndpointUnreachable", &["127.0.0.1", "broke off"]),
        broken(
            "unavailable",
            |request| Reply::refused(503, "temporarily_unavailable", &format!("not now: {}", request.body)),
            "EndpointUnavailable",
            &["503", "temporarily_unavailable"],
        ),
        broken(
            "too-many",
            |request| Reply::refused(429, "slow_down", &format!("too many for {}", request.member("client_id"))),
            "EndpointUnavailable",
            &["429: slow_down: too many for [client_id]"],
        ),
    ]
}

impl Broken {
    /// Fails before there is a token, is mended, fails at a renewal, is mended again.
    async fn passes(&self, world: &World) {
        let Self { name, answer, changes, reason, says } = self;
        let endpoint = Endpoint::start(*answer);
        put_secret(world, &credentials_of(name), &credentials("first")).await;
        world.integration(name, &spec(name, &endpoint.url(), changes)).await;
        failed(world, name, "False", reason, 2).await;
        world.condition(name, "Reconciling", "True", reason).await;
        told(world, name, reason, says).await;
        assert_eq!(world.values(name).await, None, "{name}: no Secret without a token");
        endpoint.answer(token);
        assert_eq!(last_failure(&world.ready(name).await), None, "{name}");
        backed_off(name, &endpoint);
        let (first, asked) = (world.values(name).await.expect("a token"), endpoint.count());
        endpoint.answer(*answer);
        request_renewal(world, name).await;
        let last = failed(world, name, "True", reason, 2).await;
        let ready = condition(&world.get(name).await, "Ready").expect("a condition");
        assert!(ready.message.starts_with("the token is valid until"), "{name}: {}", ready.message);
        assert!(ready.message.contains(&last.message), "{name}: {}", ready.message);
        assert_eq!(world.values(name).await.as_ref(), Some(&first), "{name}: the token that is good stays");
        endpoint.answer(token);
        world.other_value(name, "access_token", &first["access_token"]).await;
        world.ready(name).await;
        assert!(endpoint.count() <= asked + 5, "{name}: {} attempts in some seconds", endpoint.count() - asked);
    }
}

#[tokio::test]
async fn an_answer_without_a_token_is_told_and_asked_for_again() {
    let world = World::new("no-token").await;
    join_all(without_a_token().iter().map(|case| case.passes(&world))).await;
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_told_and_asked_again() {
    let world = World::new("no-answer").await;
    join_all(without_an_answer().iter().map(|case| case.passes(&world))).await;
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn an_address_where_nobody_is_is_told_and_a_better_one_followed_at_once() {
    let (world, endpoint) = (World::new("nobody").await, Endpoint::start(token));
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
        told(&world, name, "EndpointUnreachable", &["failed to connect to", host, "spec.tokenEndpoint"]).await;
        world.change(name, &json!({"spec": {"tokenEndpoint": endpoint.url()}})).await;
        world.ready(name).await;
    }))
    .await;
    let answered = endpoint.requests();
    assert_eq!(answered.len(), cases.len(), "one request for each once there was somebody: {answered:?}");
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn attempts_follow_after_one_two_and_four_seconds() {
    let (world, endpoint) = (World::new("doubling").await, Endpoint::start(|_| Reply::text(500, CANARY)));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    failed(&world, "it", "False", "EndpointUnavailable", 4).await;
    backed_off("it", &endpoint);
    let requests = endpoint.requests();
    let took = requests[3].at.duration_since(requests[0].at).expect("in order");
    assert!(took < Duration::from_secs(20), "1 s, 2 s and 4 s, with jitter and rounding: {took:?}");
    told(&world, "it", "EndpointUnavailable", &["500"]).await;
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn an_endpoint_that_asks_for_a_pause_gets_it() {
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
        ("refused", &refused, "RequestRefused"),
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
            assert!((-1..=2).contains(&late), "the date is kept to, to the second: {late} s");
        }
    }
    assert!((40..=42).contains(&pauses["seconds"]), "40 s: {pauses:?}");
    assert!((300..=302).contains(&pauses["refused"]), "300 s: {pauses:?}");
    clock.strikes().await;
    for (name, endpoint, _) in &cases {
        assert_eq!(endpoint.count(), 1, "{name}: the pause is kept");
    }
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn a_huge_body_does_not_fill_the_memory() {
    const BODY: usize = 50 << 20;
    let world = World::new("huge").await;
    let well = Endpoint::start(token);
    put_secret(&world, &credentials_of("well"), &credentials("first")).await;
    world.integration("well", &spec("well", &well.url(), &json!({}))).await;
    world.ready("well").await;
    let before = world.operator.memory();
    let names = ["huge-0", "huge-1", "huge-2", "huge-3"];
    let endpoint = Endpoint::start(|_| Reply::Huge(BODY));
    join_all(names.map(async |name| {
        put_secret(&world, &credentials_of(name), &credentials("first")).await;
        world.integration(name, &spec(name, &endpoint.url(), &json!({}))).await;
        failed(&world, name, "False", "InvalidResponse", 2).await;
        told(&world, name, "InvalidResponse", &["larger than 1 MiB", "spec.tokenEndpoint"]).await;
    }))
    .await;
    let grown = world.operator.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "four bodies of 50 MiB took {} MiB", grown >> 20);
    nothing_secret_and_all_well(&world).await;
}

// ---- What the endpoint refuses: one request, then a minute; at once after a change. ----

/// A request that the endpoint does not want.
struct Refused {
    name: &'static str,
    answer: fn(&Request) -> Reply,
    /// What mends it in the spec; nothing: other credentials do.
    mend: Option<Value>,
    says: &'static [&'static str],
}

fn only_forms(request: &Request, error: &str) -> Reply {
    match request.headers["content-type"].as_str() {
        "application/x-www-form-urlencoded" => token(request),
        _ => Reply::refused(400, error, "only forms"),
    }
}

fn refusals() -> Vec<Refused> {
    let form = || Some(json!({"request": {"format": "form"}}));
    vec![
        Refused {
            name: "invalid-client",
            answer: |request| Reply::refused(401, "invalid_client", &format!("no such client in {}", request.body)),
            mend: None,
            says: &["401: invalid_client", "client id and client secret in the credentials Secret"],
        },
        Refused {
            name: "invalid-grant",
            answer: |request| {
                let secret = url::form_urlencoded::byte_serialize(request.member("client_secret").as_bytes())
                    .collect::<String>();
                Reply::refused(
                    400,
                    "invalid_grant",
                    &format!("{secret} {}", STANDARD.encode(request.member("client_id"))),
                )
            },
            mend: None,
            says: &["400: invalid_grant: [client_secret] [client_id]"],
        },
        Refused { name: "forbidden", answer: |_| Reply::text(403, CANARY), mend: None, says: &["403"] },
        Refused {
            name: "invalid-request",
            answer: |request| only_forms(request, "invalid_request"),
            mend: form(),
            says: &["invalid_request", "spec.request.format: form"],
        },
        Refused {
            name: "unsupported-grant-type",
            answer: |request| only_forms(request, "unsupported_grant_type"),
            mend: form(),
            says: &["unsupported_grant_type", "spec.request.format: form"],
        },
    ]
}

impl Refused {
    async fn begins(&self, world: &World) -> Endpoint {
        let endpoint = Endpoint::start(self.answer);
        put_secret(world, &credentials_of(self.name), &credentials("first")).await;
        world.integration(self.name, &spec(self.name, &endpoint.url(), &json!({}))).await;
        let last = failed(world, self.name, "False", "RequestRefused", 1).await;
        let pause = last.retry_at.0.duration_since(last.time.0).as_secs();
        assert!((60..=77).contains(&pause), "{}: a minute, a quarter of jitter, rounded up: {pause} s", self.name);
        world.condition(self.name, "Reconciling", "True", "RequestRefused").await;
        told(world, self.name, "RequestRefused", self.says).await;
        endpoint
    }

    /// Refused once, it is mended by a change, refused again with a token in place, and mended again.
    async fn is_mended(&self, world: &World, endpoint: &Endpoint) {
        let name = self.name;
        assert_eq!(endpoint.count(), 1, "{name}: one request in the first seconds");
        assert_eq!(world.values(name).await, None, "{name}");
        match &self.mend {
            Some(change) => drop(world.change(name, &json!({"spec": change})).await),
            None => {
                endpoint.answer(token);
                put_secret(world, &credentials_of(name), &credentials("second")).await;
            }
        }
        let mended = world.ready(name).await;
        assert_eq!((last_failure(&mended), endpoint.count()), (None, 2), "{name}: at once");
        let first = world.values(name).await.expect("a token");
        endpoint.answer(|request| Reply::refused(401, "invalid_client", &request.body));
        request_renewal(world, name).await;
        failed(world, name, "True", "RequestRefused", 1).await;
        assert_eq!(world.values(name).await.as_ref(), Some(&first), "{name}: the token that is good stays");
        assert_eq!(endpoint.count(), 3, "{name}");
        endpoint.answer(token);
        put_secret(world, &credentials_of(name), &credentials("third")).await;
        world.other_value(name, "access_token", &first["access_token"]).await;
        assert_eq!((last_failure(&world.ready(name).await), endpoint.count()), (None, 4), "{name}: at once");
    }
}

#[tokio::test]
async fn a_refusal_is_told_and_not_repeated_until_something_changes() {
    let world = World::new("refused").await;
    let clock = Clock::start(&world).await;
    let cases = refusals();
    let endpoints = join_all(cases.iter().map(|case| case.begins(&world))).await;
    clock.strikes().await;
    join_all(cases.iter().zip(&endpoints).map(|(case, endpoint)| case.is_mended(&world, endpoint))).await;
    nothing_secret_and_all_well(&world).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new("redirect").await;
    let clock = Clock::start(&world).await;
    let final_address = Endpoint::start(token);
    let (location, mut endpoints) = (final_address.url(), Vec::new());
    for status in [301, 302, 303, 307, 308] {
        let (name, location) = (format!("redirect-{status}"), location.clone());
        let endpoint = Endpoint::start(move |_| Reply::text(status, "").with_header("Location", &location));
        put_secret(&world, &credentials_of(&name), &credentials("first")).await;
        world.integration(&name, &spec(&name, &endpoint.url(), &json!({}))).await;
        failed(&world, &name, "False", "Redirected", 1).await;
        told(&world, &name, "Redirected", &[&status.to_string(), "not followed", "spec.tokenEndpoint"]).await;
        endpoints.push((name, endpoint));
    }
    clock.strikes().await;
    assert_eq!(final_address.connections(), 0, "nobody went there");
    for (name, endpoint) in &endpoints {
        assert_eq!(endpoint.count(), 1, "{name}");
        world.change(name, &json!({"spec": {"tokenEndpoint": final_address.url()}})).await;
        world.ready(name).await;
    }
    nothing_secret_and_all_well(&world).await;
}

// ---- A target that the API server does not take: the answer is kept, and asked for only once. ----

/// Waits until a Secret of this name would be refused with these words.
async fn refused_by_the_api_server(world: &World, name: &str, words: &str) {
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Secret");
    let probe = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the API server refuses the Secret", SOON * 2, async || {
        let refusal = world.secrets().create(&probe, &secret).await.err().map(|error| error.to_string());
        if refusal.as_ref().is_some_and(|why| why.contains(words)) { Ok(()) } else { Err(format!("{refusal:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_target_beyond_the_quota_is_written_when_there_is_room() {
    let (world, endpoint) = (World::new("quota").await, Endpoint::start(token));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    let quotas = Api::<ResourceQuota>::namespaced(world.client.clone(), &world.namespace);
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"count/secrets": "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("a quota");
    refused_by_the_api_server(&world, "it", "exceeded quota").await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    failed(&world, "it", "False", "TargetNotWritten", 3).await;
    world.condition("it", "Reconciling", "True", "TargetNotWritten").await;
    told(&world, "it", "TargetNotWritten", &["Secret it", "exceeded quota", "kept in memory"]).await;
    assert_eq!(endpoint.count(), 1, "the answer is kept");
    quotas.delete("full", &Default::default()).await.expect("no quota");
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1, "and written without another request");
    assert!(world.value("it", "refresh_token").await.starts_with(CANARY));
    nothing_secret_and_all_well(&world).await;
}

/// A policy that denies writes of the Secret `it` in a namespace, for a reason of the API.
fn policy(namespace: &str, reason: &str) -> String {
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "object.metadata.name != 'it'", "message": "it is frozen", "reason": reason}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": namespace},
        "spec": {
            "policyName": namespace, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        },
    });
    format!("{policy}\n---\n{binding}\n")
}

/// A renewal that the API server does not take: the old token stays, and `Ready` with it.
async fn a_renewal_is_denied(reason: &str) {
    let (world, endpoint) = (World::new("denied").await, Endpoint::start(token));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    let ready_since = condition(&world.ready("it").await, "Ready").expect("a condition").last_transition_time;
    let before = world.secrets().get("it").await.expect("a token");
    manifests::apply(ControlPlane::shared(), &world.namespace, &policy(&world.namespace, reason));
    refused_by_the_api_server(&world, "it", "it is frozen").await;
    request_renewal(&world, "it").await;
    let last = failed(&world, "it", "True", "TargetNotWritten", 3).await;
    assert!(last.message.contains("it is frozen"), "{}", last.message);
    told(&world, "it", "TargetNotWritten", &["Secret it", "it is frozen"]).await;
    let ready = condition(&world.get("it").await, "Ready").expect("a condition");
    assert_eq!((ready.status.as_str(), &ready.last_transition_time), ("True", &ready_since), "Ready never turned");
    assert_eq!(world.secrets().get("it").await.expect("a token"), before, "the token that is good stays");
    assert_eq!(endpoint.count(), 2, "the answer is kept");
    let kind = "validatingadmissionpolicy,validatingadmissionpolicybinding";
    ControlPlane::shared().kubectl(&["delete", kind, &world.namespace]);
    world.other_value("it", "access_token", &token_of(&before)).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2, "and written without another request");
    nothing_secret_and_all_well(&world).await;
}

fn token_of(secret: &Secret) -> String {
    let data = secret.data.as_ref().expect("data");
    String::from_utf8(data["access_token"].0.clone()).expect("text")
}

#[tokio::test]
async fn a_renewal_that_a_policy_calls_invalid_is_written_when_it_may_be() {
    a_renewal_is_denied("Invalid").await;
}

#[tokio::test]
async fn a_renewal_that_a_policy_forbids_is_written_when_it_may_be() {
    a_renewal_is_denied("Forbidden").await;
}
