//! Durations as people write them. The input: a duration.

use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::OAuthIntegrationSpec;
use oauth_operator::oauth::life::{self, Spread};
use oauth_operator::validated::Validated;
use serde_json::json;

use crate::{NOW, usual};

/// Reads a duration wherever the spec has one, and reckons with it.
pub fn durations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for field in ["/tokenLife", "/renewBefore", "/request/timeout"] {
        let mut spec = usual();
        spec["request"] = json!({});
        let (parent, name) = field.rsplit_once('/').expect("a path");
        spec.pointer_mut(parent).expect("an object")[name] = text.into();
        let Ok(spec) = serde_json::from_value::<OAuthIntegrationSpec>(spec) else { continue };
        let again = serde_json::to_value(&spec).expect("JSON");
        let again: OAuthIntegrationSpec = serde_json::from_value(again).expect("what was written can be read");
        assert_eq!(again, spec, "{text:?} is another duration once it was written");
        let Ok(validated) = Validated::parse("it", &spec) else { continue };
        assert!(!validated.longest_attempt().is_zero());
        check_times(validated.token_life.unwrap_or(life::UNKNOWN), validated.renew_before);
    }
}

fn check_times(life: SignedDuration, renew_before: Option<SignedDuration>) {
    let times = life::times("uid", *NOW, life, renew_before, Spread::Wide);
    assert!(times.expires_at <= Timestamp::MAX && times.renew_at <= times.expires_at, "{times:?}");
}
