//! The lifetime of a token, and when it is renewed.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::reason::Reason;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::{Jitter, Known, Lifetime, RenewalTime};
use proptest::prelude::*;
use serde_json::json;

use super::{NOW, seconds};

/// A JWT with these claims; the signature is not checked.
fn jwt(claims: &str) -> String {
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
}

fn jwt_for(lifetime: i64) -> String {
    jwt(&json!({"exp": NOW.as_second() + lifetime}).to_string())
}

#[test]
fn the_lifetime_is_the_smallest_known_value() {
    let too_long = Some(Reason::TokenLifetimeTooLong);
    let unknown = Some(Reason::TokenLifetimeUnknown);
    let opaque = String::from("opaque");
    let cases = [
        ("nothing is known: five minutes, with a warning", None, None, opaque.clone(), (300, unknown)),
        ("only tokenLife is known", Some(3600), None, opaque.clone(), (3600, None)),
        ("only expiresIn is known", None, Some(60), opaque.clone(), (60, None)),
        ("only exp is known", None, None, jwt_for(90), (90, None)),
        ("tokenLife is shorter than expiresIn", Some(30), Some(60), opaque.clone(), (30, None)),
        ("tokenLife is as long as expiresIn", Some(60), Some(60), opaque.clone(), (60, None)),
        ("tokenLife is longer than expiresIn", Some(61), Some(60), opaque.clone(), (60, too_long)),
        ("tokenLife is longer than exp", Some(100), None, jwt_for(90), (90, too_long)),
        ("exp is smaller than expiresIn", None, Some(100), jwt_for(90), (90, None)),
        ("expiresIn is smaller than exp", None, Some(80), jwt_for(90), (80, None)),
        ("tokenLife is the smallest of the three", Some(70), Some(80), jwt_for(90), (70, None)),
        ("an exp in the past, because of a wrong clock", None, None, jwt_for(-10), (300, unknown)),
        ("an exp in the past is ignored if tokenLife is set", Some(60), None, jwt_for(-10), (60, None)),
        ("an exp equal to the current time is ignored", None, Some(60), jwt_for(0), (60, None)),
        ("an expiresIn of zero is ignored", None, Some(0), opaque.clone(), (300, unknown)),
        ("the lifetime is limited to one year", None, Some(i64::MAX), opaque, (8760 * 3600, None)),
    ];
    for (case, token_lifetime, expires_in, access_token, (length, warning)) in cases {
        let known = Known {
            problem: None,
            issued_at: NOW,
            token_lifetime: token_lifetime.map(seconds),
            expires_in: expires_in.map(seconds),
            expires_at: None,
            is_computed: false,
            access_token: &access_token,
        };
        assert_eq!(lifetime::resolve(&known), Lifetime { length: seconds(length), warning }, "{case}");
    }
}

#[test]
fn a_computed_lifetime_has_at_most_about_two_hundred_values() {
    let rounded = |length| lifetime::rounded(SignedDuration::from_secs(length)).as_secs();
    for (length, expected) in [(0, 1), (1, 1), (15, 15), (16, 16), (17, 16), (60, 60), (3599, 3584), (86_400, 81_920)] {
        assert_eq!(rounded(length), expected, "{length}");
    }
    let year = 8_760 * 3_600;
    let values: std::collections::BTreeSet<i64> = (0..year).step_by(7).map(rounded).collect();
    assert!(values.len() < 200, "{} values", values.len());
    assert!((5..year).step_by(97).all(|length| rounded(length) <= length && rounded(length) * 9 >= length * 8));
    let known = |is_computed| Known {
        problem: None,
        issued_at: NOW,
        token_lifetime: None,
        expires_in: Some(seconds(3_599)),
        expires_at: None,
        is_computed,
        access_token: "opaque",
    };
    assert_eq!(lifetime::resolve(&known(true)).length, seconds(3_584));
    assert_eq!(lifetime::resolve(&known(false)).length, seconds(3_599), "a lifetime in the response is not rounded");
}

#[test]
fn exp_is_read_only_from_a_jwt() {
    let padded = format!("e30.{}.sig", URL_SAFE.encode(r#"{"exp":1767225601} "#));
    assert!(padded.contains('='), "the claims are padded");
    let at = |second| Some(Timestamp::from_second(second).expect("a time"));
    let cases = [
        ("a JWT", jwt(r#"{"exp":1767225601}"#), at(1_767_225_601)),
        ("a JWT with padding, which RFC 7515 forbids but some servers use", padded, at(1_767_225_601)),
        ("a fraction of a second", jwt(r#"{"exp":1767225601.9}"#), at(1_767_225_601)),
        ("a number with an exponent", jwt(r#"{"exp":1.7672256e9}"#), at(1_767_225_600)),
        ("exp before 1970", jwt(r#"{"exp":-1}"#), at(-1)),
        ("exp beyond the supported time range", jwt(r#"{"exp":99999999999999}"#), None),
        ("exp beyond the range of integers", jwt(r#"{"exp":1e300}"#), None),
        ("exp as text", jwt(r#"{"exp":"1767225601"}"#), None),
        ("no exp", jwt("{}"), None),
        ("claims that are a list", jwt("[1]"), None),
        ("claims that are not JSON", jwt("exp"), None),
        ("claims nested too deep", jwt(&"[".repeat(60_000)), None),
        ("not base64", "e30.?.sig".to_owned(), None),
        ("two parts", jwt(r#"{"exp":1767225601}"#).replace(".sig", ""), None),
        ("five parts, an encrypted JWT", jwt(r#"{"exp":1767225601}"#) + ".a.b", None),
        ("an opaque token", "opaque".to_owned(), None),
        ("an empty token", String::new(), None),
    ];
    for (case, token, expected) in cases {
        assert_eq!(lifetime::jwt_exp(&token), expected, "{case}");
    }
}

#[test]
fn renew_before_is_used_or_one_third_if_it_is_too_long() {
    let cases = [
        ("no renewBefore: a third", 3600, None, 1200),
        ("a renewBefore", 3600, Some(600), 600),
        ("a renewBefore just below the lifetime", 3600, Some(3599), 3599),
        ("a renewBefore as long as the actual lifetime: a third", 60, Some(60), 20),
        ("a renewBefore longer than the actual lifetime: a third", 60, Some(600), 20),
    ];
    for (case, lifetime, before, expected) in cases {
        let times = lifetime::schedule("uid", NOW, seconds(lifetime), before.map(seconds).into(), Jitter::Narrow);
        let jitter = times.expires_at.duration_since(times.renew_at) - seconds(expected);
        assert!(!jitter.is_negative() && jitter <= seconds(lifetime) / 10, "{case}: jitter {jitter:?}");
        assert!(times.renew_at > NOW, "{case}: the token is renewed immediately");
    }
}

#[test]
fn jitter_is_limited_by_the_spec() {
    let renewed_before = |before: Option<i64>, max_jitter: Option<i64>| {
        let renewal = RenewalTime { before: before.map(seconds), max_jitter: max_jitter.map(seconds) };
        let times = lifetime::schedule("uid", NOW, seconds(600), renewal, Jitter::Wide);
        times.expires_at.duration_since(times.renew_at)
    };
    assert_eq!(renewed_before(Some(25), Some(0)), seconds(25));
    assert_eq!(renewed_before(None, Some(0)), seconds(200));
    assert!((seconds(200)..=seconds(210)).contains(&renewed_before(None, Some(10))));
    // Exact Online accepts a renewal only in the last 30 s.
    assert!((seconds(25)..seconds(28)).contains(&renewed_before(Some(25), None)));
}

#[test]
fn renewals_of_tokens_of_the_same_age_are_spread_out() {
    for (spread, part) in [(Jitter::Narrow, 10), (Jitter::Wide, 3)] {
        let renewal =
            |number| lifetime::schedule(&format!("uid-{number}"), NOW, seconds(3600), None.into(), spread).renew_at;
        let renewals: Vec<i64> = (0..1000).map(|number| renewal(number).as_second()).collect();
        // Ten slots over this part of the lifetime: each gets its share.
        for slot in 0..10 {
            let width = 360 / part;
            let from = NOW.as_second() + 2400 - 3600 / part + slot * width;
            let count = renewals.iter().filter(|at| (from..from + width).contains(*at)).count();
            assert!((50..200).contains(&count), "{spread:?}: slot {slot} has {count} of 1000");
        }
    }
}

proptest! {
    #[test]
    fn with_defaults_a_token_is_used_for_half_of_its_lifetime_and_the_first_for_a_third(
        uid in ".*", issued in -1_000_000_000_i64..4_000_000_000, millis in 1_i64..=31_536_000_000,
    ) {
        let (issued_at, lifetime) = (Timestamp::from_second(issued).unwrap(), SignedDuration::from_millis(millis));
        for (spread, used) in [(Jitter::Narrow, lifetime / 2), (Jitter::Wide, lifetime / 3)] {
            let times = lifetime::schedule(&uid, issued_at, lifetime, None.into(), spread);
            prop_assert_eq!(times.issued_at, issued_at);
            prop_assert_eq!(times.expires_at.duration_since(issued_at), lifetime);
            prop_assert!(times.renew_at.duration_since(issued_at) >= used - SignedDuration::from_millis(1));
            prop_assert!(times.renew_at < times.expires_at);
        }
    }

    #[test]
    fn a_renewal_is_between_issue_and_expiry_whatever_renew_before_is(
        uid in ".*", millis in 1_i64..=31_536_000_000, before_millis in 0_i64..=31_536_000_000,
    ) {
        let (lifetime, before) = (SignedDuration::from_millis(millis), SignedDuration::from_millis(before_millis));
        for (spread, max_jitter) in [(Jitter::Narrow, lifetime / 10), (Jitter::Wide, lifetime / 3)] {
            let times = lifetime::schedule(&uid, NOW, lifetime, Some(before).into(), spread);
            prop_assert!(times.renew_at > NOW);
            prop_assert!(times.renew_at <= times.expires_at);
            let effective = if before < lifetime { before } else { lifetime / 3 };
            let jitter = times.expires_at.duration_since(times.renew_at) - effective;
            let max_jitter = if before < lifetime { max_jitter.min(before / 10) } else { max_jitter };
            prop_assert!(!jitter.is_negative() && jitter <= max_jitter, "{:?}", jitter);
            prop_assert_eq!(times.warning.is_some(), before >= lifetime);
        }
    }

    #[test]
    fn the_jitter_is_constant_for_a_uid(uid in ".*", lifetime in 1_i64..=31_536_000) {
        let times = || lifetime::schedule(&uid, NOW, seconds(lifetime), None.into(), Jitter::Narrow);
        prop_assert_eq!(times(), times());
        prop_assert!((0.0..=1.0).contains(&lifetime::hash_fraction(&uid)));
    }

    #[test]
    fn parsing_exp_never_panics(token in "[A-Za-z0-9._=-]*|.*") {
        let _ = lifetime::jwt_exp(&token);
    }
}
