//! Guarantee: a failure is reported once, with a message that explains what to change and contains no secret; an
//! existing token is kept; requests are never repeated in a hot loop; and a fix takes effect at once.

mod credentials;
pub(crate) mod denied_writes;
mod endpoints;
mod foreign_secrets;
mod rejections;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use oauth_operator::api::spec::OAuthIntegration;
use oauth_operator::api::status::LastFailure;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::world::{SHORT_TIMEOUT, client_credentials, condition};
use test_support::{World, eventually};

/// A part of every credential and every token that does not occur elsewhere.
const CANARY: &str = "KANARIENVOGEL";

/// A token of a healthy endpoint.
fn token(_: &Request) -> Reply {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (access, refresh) = (format!("{CANARY}-access-{number}"), format!("{CANARY}-refresh-{number}"));
    Reply::json(200, &json!({"access_token": access, "refresh_token": refresh, "expires_in": 3600}))
}

/// Valid credentials, with characters that some encodings change; `id` makes them unique.
fn credentials(id: &str) -> Value {
    let secret = format!("{CANARY} s3cr+t/ü&\"{id}\"");
    json!({"client_id": STANDARD.encode(format!("{CANARY}-{id}")), "client_secret": STANDARD.encode(secret)})
}

/// Writes a Secret with exactly this data.
async fn put_secret(world: &World, name: &str, data: &Value) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    let params = PostParams::default();
    if world.secrets().replace(name, &params, &secret).await.is_err() {
        world.secrets().create(&params, &secret).await.unwrap_or_else(|why| panic!("{name} cannot be created: {why}"));
    }
}

/// The name of the credentials Secret of an integration; each integration has its own, so that it can be fixed
/// separately.
fn credentials_of(name: &str) -> String {
    format!("{name}-credentials")
}

/// A spec with the changes of a case.
fn spec(name: &str, endpoint: &str, changes: &Value) -> Value {
    let mut spec = client_credentials(endpoint);
    spec["credentials"]["secretName"] = json!(credentials_of(name));
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

async fn request_renewal(world: &World, name: &str) {
    world.request_renewal(name, "now").await;
}

fn last_failure(integration: &OAuthIntegration) -> Option<LastFailure> {
    integration.status.as_ref()?.last_failure.as_deref().cloned()
}

/// Waits until this many attempts in a row have failed for a reason, and `Ready` has a status.
async fn failed(world: &World, name: &str, ready: &str, reason: &str, attempts: i32) -> LastFailure {
    eventually(&format!("{name}: {attempts} failed attempts, {reason}"), SHORT_TIMEOUT * 2, async || {
        let integration = world.get(name).await;
        let is_reported = condition(&integration, "Ready").is_some_and(|is| is.status == ready && is.reason == reason);
        last_failure(&integration)
            .filter(|last| is_reported && last.reason == reason && last.attempts >= attempts)
            .ok_or_else(|| format!("{:?}", integration.status))
    })
    .await
}

/// Checks that a failure was reported in the condition and in one event, with a helpful message.
async fn assert_reported(world: &World, name: &str, reason: &str, parts: &[&str]) {
    world.event(name, reason).await;
    let events = world.events(name).await;
    let events: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some(reason)).collect();
    assert_eq!(events.len(), 1, "{name}: one event for one failure: {events:?}");
    assert_eq!(events[0].series, None, "{name}: the event was published more than once");
    assert_eq!(events[0].type_.as_deref(), Some("Warning"), "{name}");
    let ready = condition(&world.get(name).await, "Ready").expect("a condition");
    for part in parts {
        assert!(ready.message.contains(part), "{name}: the condition does not contain {part:?}: {}", ready.message);
        let note = events[0].note.as_deref().unwrap_or_default();
        assert!(note.contains(part), "{name}: the event does not contain {part:?}: {note}");
    }
}

/// Checks that no secret can be read without the permission to read Secrets, and that the operator is healthy.
async fn assert_healthy_without_secrets(world: &World) {
    let text = world.observable_output().await;
    for form in forms(CANARY) {
        let Some(at) = text.find(&form) else { continue };
        let around: String = text[..at].chars().rev().take(200).collect::<String>().chars().rev().collect();
        panic!("a secret ({form}) can be read: {around}{}", text[at..].chars().take(100).collect::<String>());
    }
    assert!(!text.contains("panicked"), "the operator panicked");
    assert_eq!(world.operator.get("/healthz").0, 200, "the operator is alive");
    assert_eq!(world.operator.get("/readyz").0, 200, "the operator is ready");
}

/// The encodings of a text within another: plain (percent-encoding does not change its letters), and base64, which
/// depends on the offset in the other text.
fn forms(text: &str) -> Vec<String> {
    let base64 = (0..3).map(|before| {
        let encoded = STANDARD.encode([" ".repeat(before).as_bytes(), text.as_bytes()].concat());
        // Only the characters that depend on the text alone.
        encoded[(before * 8).div_ceil(6)..(before + text.len()) * 8 / 6].to_owned()
    });
    base64.chain([text.to_owned()]).collect()
}

/// An integration whose attempts always fail and are retried soon. Its attempts measure time: while they continue, an
/// unwanted request of another integration would have been sent.
struct Clock(Endpoint);

impl Clock {
    async fn start(world: &World) -> Self {
        let endpoint = Endpoint::start(|_| Reply::text(503, ""));
        put_secret(world, &credentials_of("clock"), &credentials("clock")).await;
        world.integration("clock", &spec("clock", &endpoint.url(), &json!({}))).await;
        Self(endpoint)
    }

    /// Waits until three more attempts have failed, which takes at least three seconds.
    async fn wait(&self) {
        let seen = self.0.count();
        eventually("three attempts", SHORT_TIMEOUT * 2, async || {
            if self.0.count() >= seen + 3 { Ok(()) } else { Err(format!("{} of {seen} + 3", self.0.count())) }
        })
        .await;
    }
}

/// Checks that each delay is at least twice the one before, beginning with one second.
fn backed_off(name: &str, endpoint: &Endpoint) {
    let at: Vec<SystemTime> = endpoint.requests().iter().map(|request| request.at).collect();
    let mut minimum = Duration::from_secs(1);
    for pair in at.windows(2) {
        let distance = pair[1].duration_since(pair[0]).expect("in order");
        assert!(distance >= minimum, "{name}: {distance:?} between two attempts, less than {minimum:?}");
        minimum *= 2;
    }
}
