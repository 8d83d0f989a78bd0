//! Durations as users write them. The input: a duration.

use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::duration::Duration;
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::Jitter;
use oauth_operator::spec::validated::ValidatedSpec;
use serde_json::json;

use crate::{NOW, usual};

/// All duration fields of the spec.
const FIELDS: [&str; 7] = [
    "/tokenLife",
    "/renewBefore",
    "/request/timeout",
    "/clientAuthentication/assertion/lifetime",
    "/serviceAccountToken/lifetime",
    "/assertion/lifetime",
    "/revocation/afterRenewal",
];

/// A spec with the parents of all these fields.
fn whole() -> serde_json::Value {
    let mut spec = usual();
    spec["request"] = json!({});
    spec["clientAuthentication"] = json!({"method": "private_key_jwt", "assertion": {}});
    spec["serviceAccountToken"] = json!({"serviceAccountName": "it", "audience": "it"});
    spec["assertion"] = json!({});
    spec["revocation"] = json!({"endpoint": "https://login.example.com/revoke"});
    spec
}

/// Checks that the result is the one of Go: the sum of all numbers with their units, in nanoseconds.
fn check_meaning(text: &str) {
    let Ok(duration) = text.parse::<Duration>() else { return };
    let read = std::time::Duration::from(duration).as_nanos() as f64;
    let mut meant = 0.0;
    let mut rest = text.trim_start_matches('+');
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != '.') {
        let number: f64 = rest[..end].parse().expect("a number");
        let (unit, nanoseconds) = [
            ("ns", 1.0),
            ("us", 1e3),
            ("\u{b5}s", 1e3),
            ("\u{3bc}s", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ]
        .into_iter()
        .find(|(unit, _)| rest[end..].starts_with(unit))
        .expect("a unit");
        meant += number * nanoseconds;
        rest = &rest[end + unit.len()..];
    }
    // Serialized for the API and parsed again; the parser rounds to some nanoseconds.
    let written = serde_json::to_value(duration).expect("text");
    let again: Duration = serde_json::from_value(written.clone()).expect("the serialized duration can be parsed");
    let apart = std::time::Duration::from(again).abs_diff(duration.into());
    assert!(apart.as_nanos() < 100, "{text} is another duration after serialization: {written}");
    // A float of that size has a precision of some nanoseconds, and each part is rounded.
    assert!((read - meant).abs() < 100.0, "{text} is {read} and not {meant}");
    assert!(rest.is_empty() || rest == "0", "{rest} was not parsed in {text}");
}

/// Parses a duration in every duration field, and calculates times from it.
pub fn durations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_meaning(text);
    for field in FIELDS {
        let mut spec = whole();
        let (parent, name) = field.rsplit_once('/').expect("a path");
        spec.pointer_mut(parent).expect("an object")[name] = text.into();
        let Ok(spec) = serde_json::from_value::<OAuthIntegrationSpec>(spec) else { continue };
        let Ok(validated) = ValidatedSpec::parse("it", &spec) else { continue };
        assert!(!validated.max_attempt_duration().is_zero());
        check_times(validated.token_lifetime.unwrap_or(lifetime::DEFAULT_LIFETIME), validated.renewal_time.before);
    }
}

fn check_times(lifetime: SignedDuration, renew_before: Option<SignedDuration>) {
    let times = lifetime::schedule("uid", *NOW, lifetime, renew_before.into(), Jitter::Wide);
    assert!(times.expires_at <= Timestamp::MAX && times.renew_at <= times.expires_at, "{times:?}");
}
