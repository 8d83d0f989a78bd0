//! The decisions of `plan`, as a table: the changes of a healthy integration, and the expected plan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::reason::Reason;
use oauth_operator::decision::observed::{CredentialsState, Observed, TargetState};
use oauth_operator::decision::outcome::Plan;
use oauth_operator::decision::plan::plan;
use oauth_operator::limiter::types::{CircuitScope, Delay};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::target::integrity::Integrity;

use super::{after_failure, at, credentials, healthy, rejected, renew, validated, wait, with_facts};

type Change = Box<dyn Fn(&mut Observed)>;

fn case(name: &'static str, change: impl Fn(&mut Observed) + 'static, expected: Plan) -> (&'static str, Change, Plan) {
    (name, Box::new(change), expected)
}

fn write(reason: Reason) -> Plan {
    Plan::Rewrite { reason }
}

fn stall(reason: Reason, message: &str) -> Plan {
    Plan::Stall { reason, message: message.to_owned() }
}

fn cases() -> Vec<(&'static str, Change, Plan)> {
    let renew_at = healthy().snapshot().and_then(|snapshot| snapshot.times).expect("times").renew_at;
    vec![
        case("a token that is not due is left alone", |_| {}, wait(Reason::TokenValid, Some(renew_at))),
        case(
            "an integration that is being deleted is left alone",
            |o| {
                o.deleting = true;
                o.target = TargetState::Absent;
            },
            wait(Reason::Deleting, None),
        ),
        case(
            "the tokens of an integration that is being deleted with a finalizer are revoked",
            |o| {
                o.deleting = true;
                o.finalizer = true;
            },
            Plan::Revoke { reason: Reason::Deleting },
        ),
        case(
            "a standby revokes nothing",
            |o| {
                o.deleting = true;
                o.finalizer = true;
                o.is_leader = false;
            },
            wait(Reason::Deleting, None),
        ),
        case(
            "a missing dependency stalls",
            |o| o.credentials = CredentialsState::DependencyMissing("create it".to_owned()),
            stall(Reason::DependencyMissing, "create it"),
        ),
        case(
            "a Secret that was retained for an integration of this name is taken over",
            |o| *o = with_facts(o.clone(), |snapshot| snapshot.integration_uid = "the one before".to_owned()),
            write(Reason::TargetDrifted),
        ),
        case(
            "a suspended integration is left alone although its token has expired",
            |o| {
                o.suspend = true;
                o.now = at(9999);
            },
            wait(Reason::Suspended, None),
        ),
        case(
            "a pending response is written although the integration is suspended",
            |o| {
                o.suspend = true;
                o.write_pending = true;
            },
            write(Reason::WritePending),
        ),
        case(
            "a pending response is written although the spec is invalid",
            |o| {
                o.spec = Err("bad".to_owned());
                o.write_pending = true;
            },
            write(Reason::WritePending),
        ),
        case(
            "a pending response is not written into a foreign Secret",
            |o| {
                o.target = TargetState::NotOwned;
                o.write_pending = true;
            },
            stall(
                Reason::TargetConflict,
                "Secret it exists and was not made by this integration: delete it, or name another in spec.target.secretName. One that was retained is taken over with the same credentials, or where its owner has set the annotation oauth.evolutionx.io/adopt-by to the integration's name",
            ),
        ),
        case("an invalid spec stalls", |o| o.spec = Err("bad".to_owned()), stall(Reason::InvalidSpec, "bad")),
        case(
            "a target that the administrator does not allow stalls although the token is valid",
            |o| o.target_not_allowed = Some("remove it".to_owned()),
            stall(Reason::TargetNotAllowed, "remove it"),
        ),
        case(
            "missing credentials stall although the token is valid",
            |o| o.credentials = CredentialsState::Missing("create it".to_owned()),
            stall(Reason::CredentialsMissing, "create it"),
        ),
        case(
            "unreadable credentials stall",
            |o| o.credentials = CredentialsState::AccessDenied("give rights".to_owned()),
            stall(Reason::CredentialsAccessDenied, "give rights"),
        ),
        case(
            "an invalid spec comes before missing credentials",
            |o| {
                o.spec = Err("bad".to_owned());
                o.credentials = CredentialsState::Missing(String::new());
            },
            stall(Reason::InvalidSpec, "bad"),
        ),
        case(
            "after a failed attempt, the delay is observed although there is no token",
            |o| {
                o.target = TargetState::Absent;
                o.status = after_failure(o, &rejected());
            },
            wait(Reason::BackingOff, healthy_retry_at()),
        ),
        case(
            "after a failed attempt, a changed spec ends the delay",
            |o| {
                o.target = TargetState::Absent;
                o.status = after_failure(o, &rejected());
                o.generation = 2;
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "after a failed attempt, changed credentials end the delay",
            |o| {
                o.target = TargetState::Absent;
                o.status = after_failure(o, &rejected());
                o.credentials = CredentialsState::NotRead(Some("2".to_owned()));
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "after a failed attempt, a requested renewal ends the delay",
            |o| {
                o.status = after_failure(o, &rejected());
                o.renew_requested_at = Some("now".to_owned());
            },
            renew(Reason::RenewalRequested),
        ),
        case(
            "a change right after a failure waits for one second",
            |o| {
                o.target = TargetState::Absent;
                o.status = after_failure(o, &rejected());
                o.generation = 2;
                o.now = at(0);
            },
            wait(Reason::BackingOff, Some(at(1))),
        ),
        case("a missing target is created", |o| o.target = TargetState::Absent, renew(Reason::TargetMissing)),
        case("another spec gets another token", |o| o.spec = Ok(validated("customer")), renew(Reason::SpecChanged)),
        case(
            "a new version of the credentials is read",
            |o| o.credentials = CredentialsState::NotRead(Some("2".to_owned())),
            renew(Reason::CredentialsChanged),
        ),
        case(
            "credentials of an unknown version are read",
            |o| o.credentials = CredentialsState::NotRead(None),
            renew(Reason::CredentialsChanged),
        ),
        case(
            "the same credentials in another version change nothing",
            |o| o.credentials = CredentialsState::Resolved(credentials("first"), "2".to_owned()),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "another refresh token in the credentials starts a new chain",
            |o| o.credentials = CredentialsState::Resolved(credentials("second"), "2".to_owned()),
            renew(Reason::CredentialsChanged),
        ),
        case(
            "a requested renewal is executed",
            |o| o.renew_requested_at = Some("now".to_owned()),
            renew(Reason::RenewalRequested),
        ),
        case(
            "a requested renewal is not executed twice",
            |o| {
                o.renew_requested_at = Some("now".to_owned());
                *o = with_facts(o.clone(), |f| f.provenance.renew_requested_at = Some("now".to_owned()));
            },
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "changed data is replaced",
            |o| *o = with_facts(o.clone(), |f| f.integrity = Integrity::Changed),
            renew(Reason::TargetDrifted),
        ),
        case(
            "lost times are replaced",
            |o| *o = with_facts(o.clone(), |f| f.times = None),
            renew(Reason::TargetDrifted),
        ),
        case(
            "a changed template is written with the same token",
            |o| *o = with_facts(o.clone(), |f| f.template_hash = "other".to_owned()),
            write(Reason::SpecChanged),
        ),
        case("a token is renewed at its time", move |o| o.now = renew_at, renew(Reason::RenewalDue)),
        case(
            "a token is not renewed just before it is due",
            move |o| o.now = renew_at - SignedDuration::from_nanos(1),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "repairs of repeated changes keep an interval",
            |o| {
                o.target = TargetState::Absent;
                o.not_before = Some(at(20));
            },
            wait(Reason::RateLimited, Some(at(20))),
        ),
        case(
            "a namespace that has used up its budget waits before it requests a token",
            |o| {
                o.target = TargetState::Absent;
                o.throttled_until = Some(at(20));
            },
            wait(Reason::NamespaceThrottled, Some(at(20))),
        ),
        case(
            "an interval is ignored if the clock was set back",
            |o| {
                o.target = TargetState::Absent;
                o.not_before = Some(at(3600));
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a standby does nothing although the token is due",
            |o| {
                o.is_leader = false;
                o.now = at(9999);
            },
            wait(Reason::NotLeader, None),
        ),
        case(
            "a standby writes its pending token",
            |o| {
                o.is_leader = false;
                o.write_pending = true;
            },
            write(Reason::WritePending),
        ),
        case(
            "a request waits for a permit of the endpoint",
            |o| {
                o.now = at(9999);
                o.delayed = Some(Delay::LimitReached);
            },
            wait(Reason::Queued, None),
        ),
        case(
            "a request waits for memory for the response, and is requeued",
            |o| {
                o.now = at(9999);
                o.delayed = Some(Delay::NoMemory);
            },
            wait(Reason::Queued, Some(at(10_009))),
        ),
        case(
            "a target that must be read is queued, but not longer than until its renewal",
            |o| o.throttled_until = Some(at(100_000)),
            wait(Reason::NamespaceThrottled, Some(renew_at)),
        ),
        case(
            "a request waits for a host whose circuit is open for all",
            |o| {
                o.now = at(9999);
                o.delayed = Some(Delay::CircuitOpen { since: at(9000), scope: CircuitScope::Host });
            },
            wait(Reason::CircuitBreakerOpen, None),
        ),
        case(
            "without a request, no permit is needed",
            |o| o.delayed = Some(Delay::LimitReached),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "a failure of the endpoint for all is retried once it has recovered",
            |o| {
                o.target = TargetState::Absent;
                o.status = after_failure(o, &RequestError::new(Reason::EndpointUnreachable, "gone"));
                o.now = at(0);
                o.host_recovered = true;
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a Retry-After of the endpoint is obeyed although it has recovered",
            |o| {
                o.target = TargetState::Absent;
                let delay = Some(Duration::from_secs(60));
                let failure =
                    RequestError { retry_after: delay, ..RequestError::new(Reason::EndpointUnavailable, "503") };
                o.status = after_failure(o, &failure);
                o.host_recovered = true;
                o.requested_pause_until = Some(at(60));
            },
            wait(Reason::BackingOff, Some(at(60))),
        ),
        case(
            "a token issued in the future means that the clock was set back: its age is unknown",
            |o| o.now = at(-60),
            renew(Reason::RenewalDue),
        ),
        case(
            "a token of another node whose clock is slightly ahead is valid",
            move |o| o.now = at(-4),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "the delay of a failure in the future is ignored",
            |o| {
                o.target = TargetState::Absent;
                o.status = after_failure(o, &rejected());
                o.now = at(-60);
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a suspended integration with a failure stays suspended",
            |o| {
                o.status = after_failure(o, &rejected());
                o.suspend = true;
            },
            wait(Reason::Suspended, None),
        ),
    ]
}

fn healthy_retry_at() -> Option<Timestamp> {
    let observed = Observed { target: TargetState::Absent, ..healthy() };
    after_failure(&observed, &rejected()).last_failure.map(|last| last.retry_at.0)
}

#[test]
fn each_check_of_the_plan_has_its_reason() {
    for (name, change, expected) in cases() {
        let mut observed = healthy();
        change(&mut observed);
        assert_eq!(plan(&observed), expected, "{name}");
    }
}

#[test]
fn every_reason_of_plan_is_in_the_table() {
    let decided: Vec<Reason> = cases()
        .iter()
        .map(|(_, _, plan)| match plan {
            Plan::Wait { reason, .. }
            | Plan::Renew { reason }
            | Plan::Rewrite { reason }
            | Plan::Revoke { reason }
            | Plan::Stall { reason, .. } => *reason,
        })
        .collect();
    let all = Reason::ALL.iter().take_while(|reason| **reason != Reason::Issued);
    let missing: Vec<_> = all.filter(|reason| !decided.contains(reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
