//! Which workloads are restarted, and how renewals are timed for them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use oauth_operator::api::reason::Reason;
use oauth_operator::decision::observed::Observed;
use oauth_operator::decision::plan::plan;
use oauth_operator::decision::restarts::{Cause, OptIn, Restart, RestartTarget, annotations, decide, problem};
use oauth_operator::target::version::ContentVersion;
use proptest::prelude::*;
use serde_json::json;

use super::{at, healthy, renew};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn opt_in(values: &[(&str, &str)]) -> Option<Result<OptIn, String>> {
    let annotations = values.iter().map(|(name, value)| (format!("oauth.evolutionx.io/{name}"), (*value).to_owned()));
    OptIn::of(&ObjectMeta { annotations: Some(annotations.collect()), ..ObjectMeta::default() })
}

fn valid(values: &[(&str, &str)]) -> OptIn {
    opt_in(values).expect("opted in").expect("valid annotations")
}

/// A target whose content has changed at this second.
fn target(content: &str, changed_at: i64, is_usable: bool) -> RestartTarget {
    let content = ContentVersion { hash: format!("salt:{content}"), changed_at: at(changed_at) };
    RestartTarget::new(&content, HOUR, is_usable)
}

/// The record of a workload that was restarted for these contents.
fn record(entries: &[(&str, &str)]) -> String {
    let entries = entries.iter().map(|(name, content)| format!("{name}={}", target(content, 0, true).hash));
    entries.collect::<Vec<_>>().join(",")
}

struct Case {
    name: &'static str,
    annotations: Vec<(&'static str, String)>,
    created: i64,
    targets: Vec<(&'static str, RestartTarget)>,
    now: i64,
    /// The time of the restart, and the Secrets that cause it.
    expected: Option<(i64, &'static [&'static str])>,
}

#[test]
fn a_workload_is_restarted_once_for_each_new_content() {
    let names = |text: &str| ("restart-on-renewal", text.to_owned());
    let every = |text: &str| ("restart-at-most-every", text.to_owned());
    let recorded = |entries: &[(&str, &str)]| ("restarted-for", record(entries));
    let last = |second: i64| ("restarted-at", at(second).to_string());
    let case = |name, annotations, created, targets, now, expected| Case {
        name,
        annotations,
        created,
        targets,
        now,
        expected,
    };
    let a: &[&str] = &["a"];
    let cases = [
        case("no target yet", vec![names("a")], 0, vec![], 100, None),
        case("another Secret", vec![names("a")], 0, vec![("b", target("1", 50, true))], 100, None),
        case("it is younger than the content", vec![names("a")], 60, vec![("a", target("1", 50, true))], 100, None),
        case(
            "it is older than the content",
            vec![names("a")],
            40,
            vec![("a", target("1", 50, true))],
            100,
            Some((100, a)),
        ),
        case(
            "what it was restarted for",
            vec![names("a"), recorded(&[("a", "1")]), last(60)],
            0,
            vec![("a", target("1", 50, true))],
            9_999,
            None,
        ),
        case(
            "new content",
            vec![names("a"), recorded(&[("a", "1")]), last(60)],
            0,
            vec![("a", target("2", 5_000, true))],
            5_002,
            Some((5_002, a)),
        ),
        case(
            "new content settles first",
            vec![names("a"), recorded(&[("a", "1")]), last(60)],
            0,
            vec![("a", target("2", 5_000, true))],
            5_001,
            Some((5_002, a)),
        ),
        case(
            "a suspended or failing integration",
            vec![names("a"), recorded(&[("a", "1")]), last(60)],
            0,
            vec![("a", target("2", 5_000, false))],
            9_999,
            None,
        ),
        case(
            "at most every 10 minutes by default",
            vec![names("a"), recorded(&[("a", "1")]), last(5_000)],
            0,
            vec![("a", target("2", 5_100, true))],
            5_200,
            Some((5_600, a)),
        ),
        case(
            "at most as often as it wants",
            vec![names("a"), every("1m"), recorded(&[("a", "1")]), last(5_000)],
            0,
            vec![("a", target("2", 5_100, true))],
            5_102,
            Some((5_102, a)),
        ),
        case(
            "the clock was set back, or someone wrote a time",
            vec![names("a"), recorded(&[("a", "1")]), last(99_999)],
            0,
            vec![("a", target("2", 88_888, true))],
            5_000,
            Some((5_000, a)),
        ),
        case(
            "a Secret that was added after a restart, when it had its content",
            vec![names("a,b"), recorded(&[("a", "1")]), last(5_000)],
            0,
            vec![("a", target("1", 50, true)), ("b", target("1", 4_000, true))],
            9_999,
            None,
        ),
        case(
            "two Secrets, one of which is suspended",
            vec![names("a,b"), recorded(&[("a", "1"), ("b", "1")]), last(60)],
            0,
            vec![("a", target("2", 5_000, true)), ("b", target("2", 5_000, false))],
            9_999,
            Some((9_999, a)),
        ),
        case(
            "a record that someone else wrote",
            vec![names("a"), ("restarted-for", "a=nothing,=,x".to_owned()), last(5_000)],
            0,
            vec![("a", target("1", 50, true))],
            9_999,
            None,
        ),
    ];
    for Case { name, annotations, created, targets, now, expected } in cases {
        let values: Vec<(&str, &str)> = annotations.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let targets: BTreeMap<&str, RestartTarget> = targets.into_iter().collect();
        let (opt_in, now) = (valid(&values), at(now));
        let decided = decide(&opt_in, at(created), &targets, now);
        match (&decided, expected) {
            (Restart::UpToDate, None) => {}
            (Restart::At(time), Some((second, _))) => {
                assert!(*time == at(second) && *time > now, "{name}: {decided:?}")
            }
            (Restart::Now(cause), Some((second, secrets))) => {
                assert!(at(second) == now && cause.secrets == secrets, "{name}: {decided:?}");
                check_record(name, &opt_in, cause, &targets, now);
            }
            _ => panic!("{name}: {decided:?}"),
        }
    }
}

/// After the restart, there is nothing left to do, in any process.
fn check_record(name: &str, opt_in: &OptIn, cause: &Cause, targets: &BTreeMap<&str, RestartTarget>, now: Timestamp) {
    let (own, in_template) = annotations(&cause.record, now);
    let names: Vec<&str> = opt_in.secrets.iter().map(String::as_str).collect();
    let values = [
        ("restart-on-renewal", names.join(",")),
        ("restarted-for", own["oauth.evolutionx.io/restarted-for"].as_str().expect("a record").to_owned()),
        ("restarted-at", own["oauth.evolutionx.io/restarted-at"].as_str().expect("a time").to_owned()),
    ];
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let again = decide(&valid(&values), at(0), targets, now + HOUR);
    assert_eq!(again, Restart::UpToDate, "{name}: a second restart");
    let later = annotations(&cause.record, now + HOUR).1;
    assert_eq!(in_template, later, "{name}: the template contains no time");
}

#[test]
fn annotations_are_checked() {
    let secrets = |text: &str| opt_in(&[("restart-on-renewal", text)]).expect("opted in").map(|opt_in| opt_in.secrets);
    assert_eq!(opt_in(&[("restart-at-most-every", "30m")]), None, "not opted in");
    let set = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    assert_eq!(secrets("orders-token"), set(&["orders-token"]));
    assert_eq!(secrets(" b , a,b "), set(&["a", "b"]));
    let many = (0..17).map(|number| format!("a{number}")).collect::<Vec<_>>().join(",");
    for wrong in ["", ",", "a,", "other/secret", "Orders", "a b", "ä", many.as_str(), &"a".repeat(254)] {
        let message = secrets(wrong).expect_err(wrong);
        assert!(message.starts_with("oauth.evolutionx.io/restart-on-renewal is not"), "{wrong}: {message}");
    }
    let every = |text: &str| opt_in(&[("restart-on-renewal", "a"), ("restart-at-most-every", text)]).expect("opted in");
    assert_eq!(every("90s").map(|opt_in| opt_in.interval.as_secs()), Ok(90));
    assert_eq!(every("1h30m").map(|opt_in| opt_in.interval.as_secs()), Ok(5_400));
    for wrong in ["", "0s", "59s", "-5m", "5", "forever", "9000h", "5s-3s", &"9".repeat(40)] {
        let message = every(wrong).expect_err(wrong);
        assert!(message.starts_with("oauth.evolutionx.io/restart-at-most-every is not"), "{wrong}: {message}");
        assert!(wrong.is_empty() || wrong == "5" || !message.contains(wrong), "nothing is quoted: {message}");
    }
}

#[test]
fn the_owner_of_a_workload_reads_what_to_correct() {
    let targets = BTreeMap::from([("a", target("1", 50, true))]);
    let named = |names: &str, every: &str| {
        opt_in(&[("restart-on-renewal", names), ("restart-at-most-every", every)]).expect("opted in")
    };
    let reason = |opt_in: &_, reports_unknown| problem(opt_in, &targets, reports_unknown).map(|(reason, _)| reason);
    assert_eq!(reason(&named("a", "25m"), true), None);
    assert_eq!(
        reason(&named("a", "26m"), true),
        Some(Reason::RestartIntervalTooLong),
        "half of an hour, and the rollout"
    );
    assert_eq!(reason(&named("a,b", "25m"), false), None, "b may be installed soon");
    assert_eq!(reason(&named("a,b", "25m"), true), Some(Reason::RestartAnnotationInvalid));
    assert_eq!(reason(&named("a", "1s"), false), Some(Reason::RestartAnnotationInvalid));
}

#[test]
fn a_hash_in_a_pod_template_reveals_nothing_and_is_equal_for_equal_content() {
    let salted = |content: &str| oauth_operator::fingerprint::salted(&[content]);
    let hash = |content: &str| {
        let content = ContentVersion { hash: content.to_owned(), changed_at: at(0) };
        RestartTarget::new(&content, HOUR, true).hash
    };
    let (one, other) = (salted("a"), salted("a"));
    assert_eq!(hash(&one), hash(&one));
    assert_ne!(hash(&one), hash(&other), "equal values of two Secrets are not recognizable");
    assert!(!one.contains(&hash(&one)), "the salt stays in the Secret");
}

#[test]
fn a_token_is_renewed_before_the_next_restart_would_be_too_late() {
    // Valid for an hour, renewed after 40 minutes, less the jitter.
    let with = |minutes: i64| {
        let interval = Some(SignedDuration::from_mins(minutes));
        Observed { restart_interval: interval, ..healthy() }.times().expect("times").renew_at
    };
    let usual = healthy().times().expect("times").renew_at;
    assert_eq!(with(1), usual, "a third of the lifetime is enough");
    assert_eq!(with(10), usual);
    let minutes = |at_: Timestamp| at_.duration_since(at(0)).as_secs() / 60;
    assert!((29..35).contains(&minutes(with(20))), "20 and 5 minutes, and the jitter: {}", minutes(with(20)));
    assert!((24..=30).contains(&minutes(with(30))), "{}", minutes(with(30)));
    assert_eq!(with(60), with(30), "no more than half of the lifetime");
    let due = Observed { restart_interval: Some(HOUR), now: with(60), ..healthy() };
    assert_eq!(plan(&due), renew(Reason::RenewalDue));
    assert_ne!(plan(&Observed { restart_interval: None, ..due }), renew(Reason::RenewalDue));
}

proptest! {
    /// Whatever the intervals are, the pods of a workload never have an expired token, if the interval is at most half of
    /// the lifetime.
    #[test]
    fn pods_never_have_an_expired_token(
        lifetime in 600_i64..86_400, interval in 60_i64..43_200, uid in "[a-z]{8}", early in prop::collection::vec(0_i64..86_400, 0..20)
    ) {
        prop_assume!(interval * 2 <= lifetime);
        let (interval, lifetime) = (SignedDuration::from_secs(interval), SignedDuration::from_secs(lifetime));
        let times = |issued_at: Timestamp, spread| {
            let scheduled = oauth_operator::oauth::lifetime::schedule(&uid, issued_at, lifetime, None.into(), spread);
            scheduled.renewed_for_restarts(&uid, interval, None.into())
        };
        use oauth_operator::oauth::lifetime::Jitter;
        let mut token = times(at(0), Jitter::Wide);
        let (mut restarted_at, mut in_pods) = (at(0), token);
        for early in early {
            // Renewed when it is due, or before that for any other reason.
            let due = token.issued_at + SignedDuration::from_secs(early);
            let renewed_at = due.min(token.renew_at);
            // A restart that was waiting for its interval happens before this renewal.
            let waiting = restarted_at + interval;
            if in_pods.issued_at != token.issued_at && waiting < renewed_at {
                prop_assert!(waiting <= in_pods.expires_at, "restarted at {waiting}, expired at {}", in_pods.expires_at);
                (restarted_at, in_pods) = (waiting, token);
            }
            token = times(renewed_at, Jitter::Narrow);
            let restart = renewed_at.max(restarted_at + interval);
            prop_assert!(restart <= in_pods.expires_at, "restarted at {restart}, expired at {}", in_pods.expires_at);
            if restart == renewed_at {
                (restarted_at, in_pods) = (restart, token);
            }
        }
    }
}

#[test]
fn what_is_applied_contains_the_hashes_only() {
    let (own, in_template) = annotations(&record(&[("orders-token", "1")]), at(7));
    assert_eq!(own.as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(own["oauth.evolutionx.io/restarted-at"], json!(at(7).to_string()));
    let hash = in_template["oauth.evolutionx.io/token-hash"].as_str().expect("a hash");
    assert!(hash.len() == 32 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{hash}");
}
