//! Credentials that expire are reported in time, once for each threshold, whatever else happens.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use oauth_operator::api::reason::Reason;
use oauth_operator::api::status::OAuthIntegrationStatus;
use oauth_operator::decision::expiry::{CredentialsExpiry, credentials_expiry};
use oauth_operator::decision::observed::{CredentialsState, Observed};
use oauth_operator::decision::outcome::{Outcome, Plan, Settled, Written};
use oauth_operator::decision::plan::plan;
use oauth_operator::decision::settle::settle;
use oauth_operator::decision::status::time;
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::lifetime::TokenTimes;
use oauth_operator::spec::expiry::DeclaredExpiry;
use proptest::prelude::*;

use super::{at, healthy, renew, wait, with_facts};

const DAY: i64 = 86_400;

/// An integration whose token is valid for 90 days, with this annotation of its credentials Secret.
fn lasting(declared: DeclaredExpiry) -> Observed {
    let times = TokenTimes::new(at(0), at(90 * DAY), at(60 * DAY));
    let observed = with_facts(healthy(), |snapshot| snapshot.times = Some(times));
    Observed { declared_expiry: Some(declared), ..observed }
}

fn with_certificate(observed: Observed, until: Timestamp) -> Observed {
    with_facts(observed, |snapshot| {
        snapshot.times = snapshot.times.map(|times| TokenTimes { certificate_expires_at: Some(until), ..times });
    })
}

fn waited(observed: &Observed, now: Timestamp) -> Settled {
    let observed = Observed { now, ..observed.clone() };
    settle(&observed, &plan(&observed), &Outcome::Nothing, now)
}

fn message(status: &OAuthIntegrationStatus) -> &str {
    &status.conditions[0].message
}

/// What the Secret or the certificate says, and what follows at the time 10.
struct Case {
    name: &'static str,
    declared: DeclaredExpiry,
    certificate: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    says: Option<(Reason, &'static str)>,
    next: Timestamp,
}

#[test]
fn the_status_the_event_and_the_requeue_follow_from_the_remaining_time() {
    let case = |name, declared, certificate, expires_at, says, next| Case {
        name,
        declared,
        certificate,
        expires_at,
        says,
        next,
    };
    let (expiring, renew_at) = (Reason::CredentialsExpiring, at(60 * DAY));
    let declared = |seconds| DeclaredExpiry::At(at(seconds));
    let cases = [
        case("nothing is known", DeclaredExpiry::None, None, None, None, renew_at),
        case("far away", declared(40 * DAY), None, Some(at(40 * DAY)), None, at(26 * DAY)),
        case("after the renewal", declared(99 * DAY), None, Some(at(99 * DAY)), None, renew_at),
        case(
            "14 days, to the second",
            declared(14 * DAY + 10),
            None,
            Some(at(14 * DAY + 10)),
            Some((expiring, "expire in less than 14 days, at 2027-01-29T08:00:10Z (annotation")),
            at(11 * DAY + 10),
        ),
        case("a second more", declared(14 * DAY + 11), None, Some(at(14 * DAY + 11)), None, at(11)),
        case(
            "3 days",
            declared(3 * DAY),
            None,
            Some(at(3 * DAY)),
            Some((
                expiring,
                "the credentials in Secret credentials expire in less than 3 days, at 2027-01-18T08:00:00Z",
            )),
            at(3 * DAY),
        ),
        case(
            "expired",
            declared(10),
            None,
            Some(at(10)),
            Some((expiring, "expired at 2027-01-15T08:00:10Z")),
            renew_at,
        ),
        case(
            "expired long ago",
            DeclaredExpiry::At(Timestamp::UNIX_EPOCH),
            None,
            Some(Timestamp::UNIX_EPOCH),
            Some((expiring, "expired at 1970-01-01T00:00:00Z")),
            renew_at,
        ),
        case("at the end of time", DeclaredExpiry::At(Timestamp::MAX), None, Some(Timestamp::MAX), None, renew_at),
        case(
            "unparseable",
            DeclaredExpiry::Invalid,
            None,
            None,
            Some((Reason::CredentialsExpiryInvalid, "is neither a time nor a date, and is ignored")),
            renew_at,
        ),
        case(
            "only the certificate",
            DeclaredExpiry::None,
            Some(at(DAY)),
            Some(at(DAY)),
            Some((expiring, "the client certificate in Secret credentials expires in less than 3 days, at ")),
            at(DAY),
        ),
        case(
            "the certificate is earlier",
            declared(41 * DAY),
            Some(at(30 * DAY)),
            Some(at(30 * DAY)),
            None,
            at(16 * DAY),
        ),
        case(
            "the annotation is earlier",
            declared(DAY),
            Some(at(2 * DAY)),
            Some(at(DAY)),
            Some((expiring, "(annotation oauth.evolutionx.io/credentials-expire-at)")),
            at(DAY),
        ),
        case(
            "an unparseable annotation does not hide the certificate",
            DeclaredExpiry::Invalid,
            Some(at(2 * DAY)),
            Some(at(2 * DAY)),
            Some((expiring, "the client certificate")),
            at(2 * DAY),
        ),
    ];
    for Case { name, declared, certificate, expires_at, says, next } in cases {
        let observed = lasting(declared);
        let observed = certificate.into_iter().fold(observed, with_certificate);
        let settled = waited(&observed, at(10));
        assert_eq!(settled.status.credentials_expire_at, expires_at.map(time), "{name}");
        assert_eq!(settled.next, Some(next), "{name}");
        assert_eq!(settled.status.reason.as_deref(), Some("TokenValid"), "{name}: the integration is healthy");
        assert!(settled.event.is_none(), "{name}");
        match (says, settled.expiry_event) {
            (None, None) => assert!(!message(&settled.status).contains("credentials"), "{name}"),
            (Some((reason, text)), Some(event)) => {
                assert_eq!((event.reason, event.warning, event.is_routine), (reason, true, false), "{name}");
                assert!(event.note.contains(text), "{name}: {}", event.note);
                let end = format!("; {}; see {}", event.note, reason.page());
                assert!(message(&settled.status).ends_with(&end), "{name}: {}", message(&settled.status));
            }
            (says, event) => panic!("{name}: {event:?} instead of {says:?}"),
        }
    }
}

#[test]
fn without_renewals_it_is_reconciled_only_when_there_is_something_to_report() {
    let mut observed = lasting(DeclaredExpiry::At(at(30 * DAY)));
    observed.status = waited(&observed, at(0)).status;
    let (mut now, mut seen) = (at(0), Vec::new());
    while now < at(60 * DAY) {
        let Settled { status, expiry_event, next, .. } = waited(&observed, now);
        seen.push((now.duration_since(at(0)).as_secs() / DAY, status != observed.status, expiry_event.is_some()));
        // The operator may be restarted at any time: nothing but the status is kept.
        observed.status = status;
        assert!(waited(&observed, now).expiry_event.is_none(), "it is reported twice");
        assert_eq!(waited(&observed, now).status, observed.status, "the status is written twice");
        now = next.expect("a time");
    }
    assert_eq!(seen, [(0, false, false), (16, true, true), (27, true, true), (30, true, true)]);
    assert_eq!(now, at(60 * DAY), "then it waits for the renewal of the token");
}

#[test]
fn the_renewals_of_a_token_that_lives_for_minutes_repeat_nothing() {
    let mut observed = lasting(DeclaredExpiry::At(at(20 * DAY)));
    let mut events = Vec::new();
    for minute in (0..25 * DAY / 60).step_by(5) {
        observed.now = at(minute * 60);
        let now = observed.now;
        let times = TokenTimes::new(now, at(minute * 60 + 300), at(minute * 60 + 200));
        let written = Outcome::Written(Written { times, newly_issued: true, warning: None });
        let settled = settle(&observed, &renew(Reason::RenewalDue), &written, now);
        assert!(settled.event.is_some_and(|event| event.reason == Reason::Renewed), "the other event is independent");
        events.extend(settled.expiry_event.map(|_| minute / 1_440));
        observed = with_facts(observed, |snapshot| snapshot.times = Some(times));
        observed.status = settled.status;
    }
    assert_eq!(events, [6, 17, 20]);
}

#[test]
fn a_change_of_the_annotation_is_reported_and_its_removal_is_not() {
    let soon = lasting(DeclaredExpiry::At(at(10 * DAY)));
    let observed = Observed { status: waited(&soon, at(10)).status, ..soon };
    let changed = |declared| waited(&Observed { declared_expiry: Some(declared), ..observed.clone() }, at(20));
    let later = changed(DeclaredExpiry::At(at(12 * DAY)));
    assert!(later.expiry_event.is_some_and(|event| event.note.contains("at 2027-01-27T08:00:00Z")), "still soon");
    for (name, settled, expires_at) in [
        ("replaced", changed(DeclaredExpiry::At(at(365 * DAY))), Some(at(365 * DAY))),
        ("removed", changed(DeclaredExpiry::None), None),
    ] {
        assert!(settled.expiry_event.is_none(), "{name}");
        assert_eq!(settled.status.credentials_expire_at.as_ref().map(|at| at.0), expires_at, "{name}");
        assert!(!message(&settled.status).contains("expire in"), "{name}: {}", message(&settled.status));
    }
    // It may expire once more.
    let replaced = Observed { status: changed(DeclaredExpiry::None).status, ..observed.clone() };
    assert!(waited(&replaced, at(30)).expiry_event.is_some());
}

#[test]
fn what_was_reported_stays_while_the_secret_has_not_been_seen_and_ends_with_it() {
    let soon = lasting(DeclaredExpiry::At(at(10 * DAY)));
    let status = waited(&soon, at(10)).status;
    let unseen = Observed { declared_expiry: None, suspend: true, status: status.clone(), ..soon.clone() };
    let settled = waited(&unseen, at(20));
    assert_eq!(settled.status.credentials_expire_at, status.credentials_expire_at);
    assert!(settled.expiry_event.is_none(), "already reported");
    assert!(message(&settled.status).contains("expire in less than 14 days"), "{}", message(&settled.status));
    let missing = CredentialsState::Missing("create it".to_owned());
    let gone = Observed { declared_expiry: None, credentials: missing, status, ..soon };
    assert_eq!(waited(&gone, at(20)).status.credentials_expire_at, None);
    // The time of a certificate is the same, whatever is known about the Secret.
    let by_certificate = with_certificate(lasting(DeclaredExpiry::None), at(2 * DAY));
    let status = waited(&by_certificate, at(10)).status;
    let unseen = Observed { declared_expiry: None, suspend: true, status, ..by_certificate };
    assert!(waited(&unseen, at(20)).expiry_event.is_none());
}

#[test]
fn a_failure_is_reported_together_with_the_expiry_that_explains_it() {
    let observed = Observed { now: at(60 * DAY), ..lasting(DeclaredExpiry::At(at(59 * DAY))) };
    let long = RequestError::new(Reason::RequestRejected, "invalid_client ".repeat(200));
    let settled = settle(&observed, &renew(Reason::RenewalDue), &Outcome::Failed(long.clone()), observed.now);
    assert_eq!(settled.event.map(|event| event.reason), Some(Reason::RequestRejected));
    let event = settled.expiry_event.expect("it has expired");
    let ready = message(&settled.status);
    let end = format!("; {}; see {}", event.note, Reason::RequestRejected.page());
    assert!(ready.ends_with(&end) && ready.chars().count() <= 1_024, "cut off: {ready}");
    let again = Observed { status: settled.status, ..observed };
    let settled = settle(&again, &renew(Reason::RenewalDue), &Outcome::Failed(long), again.now);
    assert!(settled.event.is_none() && settled.expiry_event.is_none(), "once, and not with each retry");
}

#[test]
fn only_the_leader_reports_and_a_queued_integration_reports_at_its_turn() {
    let soon = lasting(DeclaredExpiry::At(at(DAY)));
    let standby = waited(&Observed { is_leader: false, ..soon.clone() }, at(10));
    assert_eq!((standby.status.credentials_expire_at, standby.expiry_event), (None, None));
    let before = Observed { status: waited(&lasting(DeclaredExpiry::None), at(10)).status, ..soon };
    let queued = settle(&before, &wait(Reason::Queued, None), &Outcome::Nothing, at(20));
    assert_eq!((queued.status, queued.expiry_event), (before.status.clone(), None));
    assert!(waited(&before, at(30)).expiry_event.is_some());
}

#[test]
fn an_integration_without_a_valid_spec_or_a_secret_has_nothing_to_replace() {
    let invalid = Observed { spec: Err("bad".to_owned()), declared_expiry: None, ..lasting(DeclaredExpiry::None) };
    assert_eq!(credentials_expiry(&invalid, None, at(10)), CredentialsExpiry::default());
    let settled = settle(&invalid, &plan(&invalid), &Outcome::Nothing, at(10));
    assert!(matches!(plan(&invalid), Plan::Stall { .. }) && settled.expiry_event.is_none());
    assert_eq!(settled.next, None);
}

proptest! {
    #[test]
    fn any_annotation_is_a_time_that_a_status_can_contain_or_invalid(
        text in prop_oneof![".{0,40}", "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[-+]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{2,12}[-+Zz0-9:]{0,6}"],
    ) {
        let annotations = [("oauth.evolutionx.io/credentials-expire-at".to_owned(), text)].into();
        let declared = DeclaredExpiry::of(&ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() });
        if let DeclaredExpiry::At(expires_at) = declared {
            prop_assert_eq!(time(expires_at).0, expires_at, "a status has whole seconds");
            prop_assert!(expires_at >= Timestamp::UNIX_EPOCH);
        }
        let settled = waited(&lasting(declared), at(10));
        prop_assert!(settled.next.is_some_and(|next| next > at(10) && next <= at(60 * DAY)));
    }
}

/// What users read in events.
pub(super) fn messages() -> Vec<(&'static str, Reason, String)> {
    let cases = [
        ("a client secret that expires at the provider", lasting(DeclaredExpiry::At(at(10 * DAY)))),
        ("a client secret that has expired at the provider", lasting(DeclaredExpiry::At(at(0)))),
        ("a client certificate that expires", with_certificate(lasting(DeclaredExpiry::None), at(2 * DAY))),
        ("an annotation that is not a time", lasting(DeclaredExpiry::Invalid)),
    ];
    let messages = cases.map(|(mistake, observed)| {
        let event = waited(&observed, at(10)).expiry_event.expect("an event");
        (mistake, event.reason, event.note)
    });
    messages.into()
}
