//! The decisions of `plan`, as a table: the changes of a healthy integration, and the expected plan.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::reason::Reason;
use oauth_operator::decision::observed::{
    Conflict, CredentialsState, InitialRefreshToken, Observed, Sibling, TargetState,
};
use oauth_operator::decision::outcome::Plan;
use oauth_operator::decision::plan::plan;
use oauth_operator::limiter::types::{CircuitScope, Delay};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::target::integrity::Integrity;

use super::{adoptable, after_failure, at, credentials, healthy, rejected, renew, validated, wait, with_facts};

fn renew_at() -> Timestamp {
    healthy().snapshot().and_then(|snapshot| snapshot.times).expect("times").renew_at
}

/// A healthy integration, what is changed of it, and the plan for that.
struct Case {
    name: &'static str,
    change: fn(&mut Observed),
    plan: fn() -> Plan,
}

fn write(reason: Reason) -> Plan {
    Plan::Rewrite { reason }
}

fn stall(reason: Reason, message: &str) -> Plan {
    Plan::Stall { reason, message: message.to_owned() }
}

const CASES: &[Case] = &[
    Case {
        name: "a token that is not due is left alone",
        change: |_| {},
        plan: || wait(Reason::TokenValid, Some(renew_at())),
    },
    Case {
        name: "an integration that is being deleted is left alone",
        change: |o| {
            o.deleting = true;
            o.target = TargetState::Absent;
        },
        plan: || wait(Reason::Deleting, None),
    },
    Case {
        name: "the tokens of an integration that is being deleted with a finalizer are revoked",
        change: |o| {
            o.deleting = true;
            o.finalizer = true;
        },
        plan: || Plan::Revoke { reason: Reason::Deleting },
    },
    Case {
        name: "a standby revokes nothing",
        change: |o| {
            o.deleting = true;
            o.finalizer = true;
            o.is_leader = false;
        },
        plan: || wait(Reason::Deleting, None),
    },
    Case {
        name: "a missing dependency stalls",
        change: |o| o.credentials = CredentialsState::DependencyMissing("create it".to_owned()),
        plan: || stall(Reason::DependencyMissing, "create it"),
    },
    Case {
        name: "a Secret that was retained for an integration of this name is taken over",
        change: |o| *o = with_facts(o.clone(), |snapshot| snapshot.integration_uid = "the one before".to_owned()),
        plan: || write(Reason::TargetDrifted),
    },
    Case {
        name: "a suspended integration is left alone although its token has expired",
        change: |o| {
            o.suspend = true;
            o.now = at(9999);
        },
        plan: || wait(Reason::Suspended, None),
    },
    Case {
        name: "a pending response is written although the integration is suspended",
        change: |o| {
            o.suspend = true;
            o.write_pending = true;
        },
        plan: || write(Reason::WritePending),
    },
    Case {
        name: "a pending response is written although the spec is invalid",
        change: |o| {
            o.spec = Err("bad".to_owned());
            o.write_pending = true;
        },
        plan: || write(Reason::WritePending),
    },
    Case {
        name: "a pending response is not written into a foreign Secret",
        change: |o| {
            o.target = TargetState::NotOwned(Conflict::Foreign);
            o.write_pending = true;
        },
        plan: || {
            stall(
                Reason::TargetConflict,
                "Secret it exists and does not belong to an integration: name another Secret in spec.target.secretName, or, if nothing needs this one, delete it. To have it taken over with its tokens, stop whatever writes it, and let someone who may change it set the annotation oauth.evolutionx.io/adopt-by=it on it; a retained Secret is also taken over with the same credentials",
            )
        },
    },
    Case {
        name: "a pending response is written into a Secret that is handed over: it is newer than the tokens there",
        change: |o| {
            o.target = adoptable();
            o.write_pending = true;
        },
        plan: || write(Reason::WritePending),
    },
    Case {
        name: "a Secret that is handed over is taken over before anything is sent",
        change: |o| {
            o.target = adoptable();
            o.now = at(9999);
        },
        plan: || write(Reason::TargetAdopted),
    },
    Case {
        name: "after a failure, taking over waits",
        change: |o| {
            o.target = adoptable();
            o.status = after_failure(o, &rejected());
        },
        plan: || wait(Reason::BackingOff, adoption_retry_at()),
    },
    Case {
        name: "a suspended integration takes nothing over",
        change: |o| {
            o.target = adoptable();
            o.suspend = true;
        },
        plan: || wait(Reason::Suspended, None),
    },
    Case {
        name: "a standby takes nothing over",
        change: |o| {
            o.target = adoptable();
            o.is_leader = false;
        },
        plan: || wait(Reason::NotLeader, None),
    },
    Case {
        name: "an invalid spec stalls",
        change: |o| o.spec = Err("bad".to_owned()),
        plan: || stall(Reason::InvalidSpec, "bad"),
    },
    Case {
        name: "a target that the administrator does not allow stalls although the token is valid",
        change: |o| o.target_not_allowed = Some("remove it".to_owned()),
        plan: || stall(Reason::TargetNotAllowed, "remove it"),
    },
    Case {
        name: "missing credentials stall although the token is valid",
        change: |o| o.credentials = CredentialsState::Missing("create it".to_owned()),
        plan: || stall(Reason::CredentialsMissing, "create it"),
    },
    Case {
        name: "unreadable credentials stall",
        change: |o| o.credentials = CredentialsState::AccessDenied("give rights".to_owned()),
        plan: || stall(Reason::CredentialsAccessDenied, "give rights"),
    },
    Case {
        name: "a cycle of integrations that need tokens from each other comes before missing credentials",
        change: |o| {
            o.dependency_cycle = Some("a → b → a".to_owned());
            o.credentials = CredentialsState::Missing(String::new());
        },
        plan: || stall(Reason::DependencyCycle, "a → b → a"),
    },
    Case {
        name: "an initial refresh token that another integration has spent is not sent",
        change: |o| {
            o.target = TargetState::Absent;
            o.initial_refresh_token =
                InitialRefreshToken::Spent(Sibling { name: "erp".to_owned(), uid: "uid-of-erp".to_owned() });
        },
        plan: || {
            stall(
                Reason::RefreshTokenShared,
                "OAuthIntegration erp has used the refresh token in Secret credentials and received another one for it, so it is not sent again: obtain a refresh token for this integration alone, and put it into a Secret that no other integration uses",
            )
        },
    },
    Case {
        name: "an initial refresh token that another integration is sending waits for its response",
        change: |o| {
            o.target = TargetState::Absent;
            o.initial_refresh_token = InitialRefreshToken::InUse;
        },
        plan: || wait(Reason::Queued, Some(at(15))),
    },
    Case {
        name: "an invalid spec comes before missing credentials",
        change: |o| {
            o.spec = Err("bad".to_owned());
            o.credentials = CredentialsState::Missing(String::new());
        },
        plan: || stall(Reason::InvalidSpec, "bad"),
    },
    Case {
        name: "after a failed attempt, the delay is observed although there is no token",
        change: |o| {
            o.target = TargetState::Absent;
            o.status = after_failure(o, &rejected());
        },
        plan: || wait(Reason::BackingOff, healthy_retry_at()),
    },
    Case {
        name: "after a failed attempt, a changed spec ends the delay",
        change: |o| {
            o.target = TargetState::Absent;
            o.status = after_failure(o, &rejected());
            o.generation = 2;
        },
        plan: || renew(Reason::TargetMissing),
    },
    Case {
        name: "after a failed attempt, changed credentials end the delay",
        change: |o| {
            o.target = TargetState::Absent;
            o.status = after_failure(o, &rejected());
            o.credentials = CredentialsState::NotRead(Some("2".to_owned()));
        },
        plan: || renew(Reason::TargetMissing),
    },
    Case {
        name: "after a failed attempt, a requested renewal ends the delay",
        change: |o| {
            o.status = after_failure(o, &rejected());
            o.renew_requested_at = Some("now".to_owned());
        },
        plan: || renew(Reason::RenewalRequested),
    },
    Case {
        name: "a change right after a failure waits for one second",
        change: |o| {
            o.target = TargetState::Absent;
            o.status = after_failure(o, &rejected());
            o.generation = 2;
            o.now = at(0);
        },
        plan: || wait(Reason::BackingOff, Some(at(1))),
    },
    Case {
        name: "a missing target is created",
        change: |o| o.target = TargetState::Absent,
        plan: || renew(Reason::TargetMissing),
    },
    Case {
        name: "another spec gets another token",
        change: |o| o.spec = Ok(validated("customer")),
        plan: || renew(Reason::SpecChanged),
    },
    Case {
        name: "a new version of the credentials is read",
        change: |o| o.credentials = CredentialsState::NotRead(Some("2".to_owned())),
        plan: || renew(Reason::CredentialsChanged),
    },
    Case {
        name: "credentials of an unknown version are read",
        change: |o| o.credentials = CredentialsState::NotRead(None),
        plan: || renew(Reason::CredentialsChanged),
    },
    Case {
        name: "the same credentials in another version change nothing",
        change: |o| o.credentials = CredentialsState::Resolved(credentials("first"), "2".to_owned()),
        plan: || wait(Reason::TokenValid, Some(renew_at())),
    },
    Case {
        name: "another refresh token in the credentials starts a new chain",
        change: |o| o.credentials = CredentialsState::Resolved(credentials("second"), "2".to_owned()),
        plan: || renew(Reason::CredentialsChanged),
    },
    Case {
        name: "a requested renewal is executed",
        change: |o| o.renew_requested_at = Some("now".to_owned()),
        plan: || renew(Reason::RenewalRequested),
    },
    Case {
        name: "a requested renewal is not executed twice",
        change: |o| {
            o.renew_requested_at = Some("now".to_owned());
            *o = with_facts(o.clone(), |f| f.provenance.renew_requested_at = Some("now".to_owned()));
        },
        plan: || wait(Reason::TokenValid, Some(renew_at())),
    },
    Case {
        name: "changed data is replaced",
        change: |o| *o = with_facts(o.clone(), |f| f.integrity = Integrity::Changed),
        plan: || renew(Reason::TargetDrifted),
    },
    Case {
        name: "lost times are replaced",
        change: |o| *o = with_facts(o.clone(), |f| f.times = None),
        plan: || renew(Reason::TargetDrifted),
    },
    Case {
        name: "a changed template is written with the same token",
        change: |o| *o = with_facts(o.clone(), |f| f.template_hash = "other".to_owned()),
        plan: || write(Reason::SpecChanged),
    },
    Case { name: "a token is renewed at its time", change: |o| o.now = renew_at(), plan: || renew(Reason::RenewalDue) },
    Case {
        name: "a token is not renewed just before it is due",
        change: |o| o.now = renew_at() - SignedDuration::from_nanos(1),
        plan: || wait(Reason::TokenValid, Some(renew_at())),
    },
    Case {
        name: "repairs of repeated changes keep an interval",
        change: |o| {
            o.target = TargetState::Absent;
            o.not_before = Some(at(20));
        },
        plan: || wait(Reason::RateLimited, Some(at(20))),
    },
    Case {
        name: "a namespace that has used up its budget waits before it requests a token",
        change: |o| {
            o.target = TargetState::Absent;
            o.throttled_until = Some(at(20));
        },
        plan: || wait(Reason::NamespaceThrottled, Some(at(20))),
    },
    Case {
        name: "an interval is ignored if the clock was set back",
        change: |o| {
            o.target = TargetState::Absent;
            o.not_before = Some(at(3600));
        },
        plan: || renew(Reason::TargetMissing),
    },
    Case {
        name: "a standby does nothing although the token is due",
        change: |o| {
            o.is_leader = false;
            o.now = at(9999);
        },
        plan: || wait(Reason::NotLeader, None),
    },
    Case {
        name: "a standby writes its pending token",
        change: |o| {
            o.is_leader = false;
            o.write_pending = true;
        },
        plan: || write(Reason::WritePending),
    },
    Case {
        name: "a request waits for a permit of the endpoint",
        change: |o| {
            o.now = at(9999);
            o.delayed = Some(Delay::LimitReached);
        },
        plan: || wait(Reason::Queued, None),
    },
    Case {
        name: "a request waits for memory for the response, and is requeued",
        change: |o| {
            o.now = at(9999);
            o.delayed = Some(Delay::NoMemory);
        },
        plan: || wait(Reason::Queued, Some(at(10_009))),
    },
    Case {
        name: "a target that must be read is queued, but not longer than until its renewal",
        change: |o| o.throttled_until = Some(at(100_000)),
        plan: || wait(Reason::NamespaceThrottled, Some(renew_at())),
    },
    Case {
        name: "a request waits for a host whose circuit is open for all",
        change: |o| {
            o.now = at(9999);
            o.delayed = Some(Delay::CircuitOpen { since: at(9000), scope: CircuitScope::Host });
        },
        plan: || wait(Reason::CircuitBreakerOpen, None),
    },
    Case {
        name: "without a request, no permit is needed",
        change: |o| o.delayed = Some(Delay::LimitReached),
        plan: || wait(Reason::TokenValid, Some(renew_at())),
    },
    Case {
        name: "a failure of the endpoint for all is retried once it has recovered",
        change: |o| {
            o.target = TargetState::Absent;
            o.status = after_failure(o, &RequestError::new(Reason::EndpointUnreachable, "gone"));
            o.now = at(0);
            o.host_recovered = true;
        },
        plan: || renew(Reason::TargetMissing),
    },
    Case {
        name: "a Retry-After of the endpoint is obeyed although it has recovered",
        change: |o| {
            o.target = TargetState::Absent;
            let delay = Some(Duration::from_secs(60));
            let failure = RequestError { retry_after: delay, ..RequestError::new(Reason::EndpointUnavailable, "503") };
            o.status = after_failure(o, &failure);
            o.host_recovered = true;
            o.requested_pause_until = Some(at(60));
        },
        plan: || wait(Reason::BackingOff, Some(at(60))),
    },
    Case {
        name: "a token issued in the future means that the clock was set back: its age is unknown",
        change: |o| o.now = at(-60),
        plan: || renew(Reason::RenewalDue),
    },
    Case {
        name: "a token of another node whose clock is slightly ahead is valid",
        change: move |o| o.now = at(-4),
        plan: || wait(Reason::TokenValid, Some(renew_at())),
    },
    Case {
        name: "the delay of a failure in the future is ignored",
        change: |o| {
            o.target = TargetState::Absent;
            o.status = after_failure(o, &rejected());
            o.now = at(-60);
        },
        plan: || renew(Reason::TargetMissing),
    },
    Case {
        name: "an unknown provider stops everything, also if the token is due",
        change: |o| {
            o.now = at(9999);
            o.spec = Err("no provider".to_owned());
            o.provider_not_found = Some("no provider".to_owned());
        },
        plan: || stall(Reason::ProviderNotFound, "no provider"),
    },
    Case {
        name: "what the provider does not allow is not requested, also if the token is due",
        change: |o| {
            o.now = at(9999);
            let mut spec = o.spec.as_deref().expect("a spec").clone();
            spec.not_allowed = Some("not allowed".to_owned());
            o.spec = Ok(Arc::new(spec));
        },
        plan: || stall(Reason::NotAllowed, "not allowed"),
    },
    Case {
        name: "a suspended integration with a failure stays suspended",
        change: |o| {
            o.status = after_failure(o, &rejected());
            o.suspend = true;
        },
        plan: || wait(Reason::Suspended, None),
    },
];

/// What each case observes.
pub fn observations() -> impl Iterator<Item = (&'static str, Observed)> {
    CASES.iter().map(|case| {
        let mut observed = healthy();
        (case.change)(&mut observed);
        (case.name, observed)
    })
}

fn adoption_retry_at() -> Option<Timestamp> {
    let observed = Observed { target: adoptable(), ..healthy() };
    after_failure(&observed, &rejected()).last_failure.map(|last| last.retry_at.0)
}

fn healthy_retry_at() -> Option<Timestamp> {
    let observed = Observed { target: TargetState::Absent, ..healthy() };
    after_failure(&observed, &rejected()).last_failure.map(|last| last.retry_at.0)
}

#[test]
fn each_check_of_the_plan_has_its_reason() {
    for (case, (name, observed)) in CASES.iter().zip(observations()) {
        assert_eq!(plan(&observed), (case.plan)(), "{name}");
    }
}

#[test]
fn every_reason_of_plan_is_in_the_table() {
    let decided: Vec<Reason> = CASES
        .iter()
        .map(|case| match (case.plan)() {
            Plan::Wait { reason, .. }
            | Plan::Renew { reason }
            | Plan::Rewrite { reason }
            | Plan::Revoke { reason }
            | Plan::Stall { reason, .. } => reason,
        })
        .collect();
    let all = Reason::ALL.iter().take_while(|reason| **reason != Reason::Issued);
    let missing: Vec<_> = all.filter(|reason| !decided.contains(reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
