//! Determines what follows from the result of an action: `settle`, the second pure function.
//!
//! `plan` decides before the action; the responses of the endpoint and the API server are known only afterwards.
//! Together they determine the status, an optional event, and when to requeue.

#![deny(clippy::disallowed_methods)]

use jiff::{SignedDuration, Timestamp};

use crate::api::reason::{FailureClass, Reason};
use crate::api::status::{LastFailure, OAuthIntegrationStatus};
use crate::decision::backoff::{TOO_MANY_REQUESTS, pause, pause_before_expiry};
use crate::decision::expiry::{ExpiryNote, credentials_expiry};
use crate::decision::observed::Observed;
use crate::decision::outcome::{EventDraft, Outcome, Plan, Settled, Written};
use crate::decision::status;
use crate::decision::status::Problem;
use crate::limiter::types::{CircuitScope, Delay};
use crate::oauth::error::RequestError;
use crate::oauth::lifetime::TokenTimes;
use crate::spec::advice;
use crate::target::annotations::ADOPT_BY;

/// The requeue interval if objects that are not watched are missing or not readable: permissions, ConfigMaps,
/// ServiceAccounts.
const UNWATCHED_RECHECK: SignedDuration = SignedDuration::from_secs(30);
/// The maximum delay before a pending write is retried.
const WRITE_PENDING_MAX_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// The requeue delay after an action that had no effect.
const NO_PROGRESS_DELAY: SignedDuration = SignedDuration::from_secs(5);

/// Computes the consequences. `now` is the time after the action.
#[must_use]
pub fn settle(observed: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Settled {
    // Only the leader reports.
    if observed.deleting || !observed.is_leader {
        let (next, event) = match outcome {
            Outcome::Failed(_) => (Some(now + WRITE_PENDING_MAX_DELAY), None),
            Outcome::Revoked(failure) => (None, Some(revoked_event(failure.as_ref()))),
            Outcome::Nothing if matches!(plan, Plan::Revoke { .. }) => (Some(now + NO_PROGRESS_DELAY), None),
            Outcome::Nothing | Outcome::Written(_) => (None, None),
        };
        return Settled { status: observed.status.clone(), event, expiry_event: None, next };
    }
    // An integration that waits for a permit has nothing new to report until the token expires.
    if let Plan::Wait { reason: Reason::Queued | Reason::NamespaceThrottled, until } = plan
        && !status::is_ready_outdated(&observed.status, now)
    {
        let expires_at = current_times(observed).map(|times| times.expires_at).filter(|at| *at > now);
        let next = [expires_at, *until].into_iter().flatten().min();
        return Settled { status: observed.status.clone(), event: None, expiry_event: None, next };
    }
    let times = match outcome {
        Outcome::Written(written) => Some(observed.in_time_for_restarts(written.times)),
        Outcome::Nothing | Outcome::Failed(_) | Outcome::Revoked(_) => current_times(observed),
    };
    let last_failure = last_failure(observed, plan, outcome, now);
    let problem = problem(observed, plan, last_failure.as_ref()).or_else(|| too_short(observed, times));
    let expiry = credentials_expiry(observed, times, now);
    let status = status::build(observed, times, problem.as_ref(), last_failure, &expiry, now);
    let status = match outcome {
        Outcome::Written(Written { newly_issued: true, .. }) => status::with_renewal(status, observed, now),
        _ => status,
    };
    let event = event(observed, plan, outcome, &status);
    let expiry_event = expiry.note.and_then(|note| credentials_event(observed, note));
    let next = [next(plan, outcome, &status, times, now), expiry.next].into_iter().flatten().min();
    Settled { status, event, expiry_event, next }
}

/// The times of the stored token, if it is for the current spec. If the spec is not known, because its provider is missing or
/// has become invalid, what was reported about this generation stays until the token expires.
fn current_times(observed: &Observed) -> Option<TokenTimes> {
    let snapshot = observed.snapshot()?;
    let reported = &observed.status;
    let is_current = observed.spec.as_ref().map_or_else(
        |_| reported.observed_generation == Some(observed.generation) && reported.expires_at.is_some(),
        |spec| snapshot.provenance.spec_hash == spec.spec_hash,
    );
    (!snapshot.is_changed() && is_current).then_some(observed.times()?)
}

/// A failure is kept until an attempt succeeds.
fn last_failure(observed: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Option<LastFailure> {
    let before = observed.status.last_failure.as_deref();
    match (outcome, plan) {
        (Outcome::Failed(failure), _) => Some(failed(observed, failure, before, now)),
        // A token for the current spec that is not due for renewal means that the failure is resolved.
        (Outcome::Written(_), _) | (Outcome::Nothing, Plan::Wait { reason: Reason::TokenValid, .. }) => None,
        (Outcome::Nothing | Outcome::Revoked(_), _) => before.cloned(),
    }
}

pub(crate) fn failed(
    observed: &Observed,
    failure: &RequestError,
    before: Option<&LastFailure>,
    now: Timestamp,
) -> LastFailure {
    let inputs_hash = observed.inputs_hash();
    let class = failure.reason.class();
    let consecutive = before
        .filter(|before| before.inputs_hash == inputs_hash)
        .filter(|before| Reason::parse(&before.reason).is_some_and(|reason| reason.class() == class));
    let attempts = consecutive.map_or(1, |before| before.attempts.saturating_add(1));
    let pause = pause(failure.reason, attempts, &observed.uid);
    let valid_until = observed.snapshot().and_then(|snapshot| snapshot.times).map(|times| times.expires_at);
    let pause = match (class, valid_until) {
        (FailureClass::Rejected | FailureClass::Transient, Some(expires_at)) => {
            pause_before_expiry(pause, expires_at, now)
        }
        _ => pause,
    };
    let requested = failure.retry_after.and_then(|wait| SignedDuration::try_from(wait).ok());
    let requested =
        requested.unwrap_or(if failure.status == Some(429) { TOO_MANY_REQUESTS } else { SignedDuration::ZERO });
    LastFailure {
        time: status::time(now),
        reason: failure.reason.as_str().to_owned(),
        message: failure.message.clone(),
        attempts,
        // Rounded up, because a status has whole seconds, and a delay that an endpoint requests must be respected in
        // full.
        retry_at: status::time(now + pause.max(requested) + SignedDuration::from_millis(999)),
        inputs_hash,
    }
}

/// Tokens whose lifetime is shorter than the minimum interval between two renewals.
fn too_short(observed: &Observed, times: Option<TokenTimes>) -> Option<Problem> {
    times
        // Without a lifetime, the expiry is unknown, and the token is renewed now.
        .filter(|times| times.issued_at < times.expires_at && observed.is_too_short(*times))
        .map(|times| Problem { reason: Reason::TokenLifetimeTooShort, message: too_short_message(observed, times) })
}

fn too_short_message(observed: &Observed, times: TokenTimes) -> String {
    let (lifetime, min_interval) = (times.expires_at.duration_since(times.issued_at), observed.min_renewal_interval);
    format!(
        "the endpoint's tokens have a lifetime of {} s, but are renewed no more often than every {} s (--min-renewal-interval): they are expired until the next renewal; configure the endpoint to issue tokens with a longer lifetime",
        lifetime.as_secs(),
        min_interval.as_secs(),
    )
}

/// The problem that prevents the integration from being fully ready.
fn problem(observed: &Observed, plan: &Plan, last_failure: Option<&LastFailure>) -> Option<Problem> {
    if let Plan::Stall { reason, message } = plan {
        return Some(Problem { reason: *reason, message: message.clone() });
    }
    if let Plan::Wait { reason: Reason::Suspended, .. } = plan {
        let message = "spec.suspend is true: no requests or writes".to_owned();
        return Some(Problem { reason: Reason::Suspended, message });
    }
    if let (Plan::Wait { reason: Reason::CircuitBreakerOpen, .. }, Some(Delay::CircuitOpen { since, scope })) =
        (plan, observed.delayed)
    {
        let since = status::time(since).0;
        let affected = match scope {
            CircuitScope::Host => "every integration",
            CircuitScope::Namespace => "every integration of this namespace",
        };
        let host = observed.spec.as_ref().ok().and_then(|spec| spec.token_request.endpoint.known()?.host_str());
        let last = last_failure.map(|last| format!("; the last error: {}", last.message)).unwrap_or_default();
        let message = format!(
            "the token endpoint's host {} has failed for {affected} since {since}; one request at a time probes it until it responds{last}",
            host.unwrap_or_default()
        );
        return Some(Problem { reason: Reason::CircuitBreakerOpen, message });
    }
    if let Some(last) = last_failure {
        // A reason of another release is treated as a transient failure.
        let reason = Reason::parse(&last.reason).unwrap_or(Reason::EndpointUnavailable);
        let message = match reason.class() {
            // Nothing was sent, and nothing will be until something changes.
            FailureClass::Configuration => last.message.clone(),
            _ => format!("{}; attempt {} failed, the next is at {}", last.message, last.attempts, last.retry_at.0),
        };
        return Some(Problem { reason, message });
    }
    if let Plan::Wait { reason: Reason::NamespaceThrottled, until } = plan {
        let until = until.map(|until| format!("; its turn is at {}", status::time(until).0)).unwrap_or_default();
        let message = format!("the namespace has used up its budget of writes to the API server{until}");
        return Some(Problem { reason: Reason::NamespaceThrottled, message });
    }
    if let Plan::Wait { reason: Reason::RateLimited, until } = plan {
        let until = until.map(|until| format!(" until {}", status::time(until).0)).unwrap_or_default();
        let message = format!(
            "writes to the target Secret were reverted immediately, more than once, perhaps by a mutating webhook; waiting{until}"
        );
        return Some(Problem { reason: Reason::RateLimited, message });
    }
    None
}

pub(crate) fn event(
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    status: &OAuthIntegrationStatus,
) -> Option<EventDraft> {
    match (outcome, plan) {
        (Outcome::Written(written), Plan::Renew { reason } | Plan::Rewrite { reason }) => {
            Some(written_event(observed, *reason, *written))
        }
        (Outcome::Failed(failure), plan) => failure_event(observed, plan, failure, status),
        (_, Plan::Stall { reason, message })
            if !status::has_true_condition(&observed.status, status::STALLED, *reason) =>
        {
            Some(EventDraft {
                warning: true,
                reason: *reason,
                trigger: *reason,
                note: message.clone(),
                is_routine: false,
            })
        }
        _ => expiry_event(observed, status),
    }
}

fn written_event(observed: &Observed, trigger: Reason, written: Written) -> EventDraft {
    let name = observed.template().map_or("", |template| template.secret_name.as_str());
    let first = observed.status.issued_at.is_none() && observed.snapshot().is_none();
    let is_routine = trigger == Reason::RenewalDue && observed.status.last_failure.is_none();
    let is_news = !status::has_reason(&observed.status, status::READY, Reason::TokenLifetimeTooShort);
    if written.newly_issued && is_news && observed.is_too_short(written.times) {
        let note = format!("wrote a token into Secret {name}; {}", too_short_message(observed, written.times));
        return EventDraft { warning: true, reason: Reason::TokenLifetimeTooShort, trigger, note, is_routine: false };
    }
    if trigger == Reason::TargetAdopted {
        let note = adopted_note(observed, name, written.times);
        return EventDraft { warning: false, reason: trigger, trigger, note, is_routine: false };
    }
    let (reason, note) = match (written.newly_issued, written.warning) {
        (true, Some(warning))
            if !is_routine || matches!(warning, Reason::FallbackUsed | Reason::NextClientSecretUsed) =>
        {
            (warning, format!("wrote a token into Secret {name}; {}", advice::warning_message(warning)))
        }
        (true, _) if let Some(expires_at) = status::expiring_refresh_token(written.times) => {
            let note = format!("wrote a token into Secret {name}; {}", status::refresh_token_expires(expires_at));
            (Reason::RefreshTokenExpiring, note)
        }
        (true, _) if first => (Reason::Issued, format!("wrote the first token into Secret {name}")),
        (true, _) => (Reason::Renewed, format!("wrote a new token into Secret {name}")),
        (false, _) => (Reason::TargetUpdated, format!("rewrote Secret {name} with the stored token")),
    };
    let warning = !matches!(reason, Reason::Issued | Reason::Renewed | Reason::TargetUpdated);
    let is_repeated = reason == Reason::RefreshTokenExpiring;
    EventDraft { warning, reason, trigger, note, is_routine: is_routine && (!warning || is_repeated) }
}

fn adopted_note(observed: &Observed, name: &str, times: TokenTimes) -> String {
    let token = if times.renew_at > observed.now {
        format!("its token is renewed at {}", status::time(times.renew_at).0)
    } else {
        "a token is requested now, because it has none of which the expiry is known and not near".to_owned()
    };
    let is_retained = observed.template().is_some_and(|template| template.retained);
    let end = if is_retained { "stays when" } else { "is deleted when" };
    format!(
        "took over Secret {name}, as its annotation {ADOPT_BY} says; {token}; from now on, the Secret {end} the integration is deleted (spec.target.deletionPolicy)"
    )
}

fn revoked_event(failure: Option<&RequestError>) -> EventDraft {
    let (reason, note) = match failure {
        None => (Reason::Revoked, "the tokens were revoked at the endpoint".to_owned()),
        Some(failure) => (
            Reason::RevocationFailed,
            format!("the tokens could not be revoked and stay valid until they expire: {}", failure.message),
        ),
    };
    EventDraft { warning: failure.is_some(), reason, trigger: Reason::Deleting, note, is_routine: false }
}

/// One event per failure, not one per retry.
fn failure_event(
    observed: &Observed,
    plan: &Plan,
    failure: &RequestError,
    status: &OAuthIntegrationStatus,
) -> Option<EventDraft> {
    let before = observed.status.last_failure.as_deref();
    let is_first = status.last_failure.as_ref().is_some_and(|last| last.attempts == 1);
    let differs_from = before.is_none_or(|before| before.reason != failure.reason.as_str());
    let trigger = match plan {
        Plan::Renew { reason } | Plan::Rewrite { reason } | Plan::Revoke { reason } => *reason,
        Plan::Wait { .. } | Plan::Stall { .. } => failure.reason,
    };
    (is_first || differs_from).then(|| EventDraft {
        warning: true,
        reason: failure.reason,
        trigger,
        note: failure.message.clone(),
        is_routine: false,
    })
}

fn expiry_event(observed: &Observed, status: &OAuthIntegrationStatus) -> Option<EventDraft> {
    let expired = status.expires_at.as_ref().is_some_and(|at| at.0 <= observed.now);
    // It was already reported that these tokens expire too early, when the first one was written.
    let is_expected = status::has_reason(status, status::READY, Reason::TokenLifetimeTooShort);
    (expired && !is_expected && status::is_ready(&observed.status) && !status::is_ready(status)).then(|| EventDraft {
        warning: true,
        reason: Reason::TokenExpired,
        trigger: Reason::TokenExpired,
        note: "the token expired and could not be renewed".to_owned(),
        is_routine: false,
    })
}

/// Reported once: as long as it is true, the condition `Ready` says it.
fn credentials_event(observed: &Observed, ExpiryNote { reason, message }: ExpiryNote) -> Option<EventDraft> {
    let is_news = !status::ready_says(&observed.status, &message);
    is_news.then_some(EventDraft { warning: true, reason, trigger: reason, note: message, is_routine: false })
}

/// When to requeue: at the time of the plan, and no later than the time at which `Ready` changes.
pub(crate) fn next(
    plan: &Plan,
    outcome: &Outcome,
    status: &OAuthIntegrationStatus,
    times: Option<TokenTimes>,
    now: Timestamp,
) -> Option<Timestamp> {
    let retry_at = status.last_failure.as_ref().map(|last| last.retry_at.0);
    let planned = match (outcome, plan) {
        (Outcome::Written(_), _) => times.map(|times| times.renew_at),
        (Outcome::Failed(_), _) => retry_at,
        (_, Plan::Wait { until, .. }) => *until,
        (
            _,
            Plan::Stall {
                reason: Reason::CredentialsAccessDenied | Reason::DependencyMissing | Reason::DependencyCycle,
                ..
            },
        ) => Some(now + UNWATCHED_RECHECK),
        (_, Plan::Stall { .. }) => None,
        // An action without effect: whatever the cause, there must be another reconciliation.
        (_, Plan::Renew { .. } | Plan::Rewrite { .. } | Plan::Revoke { .. }) => Some(now + NO_PROGRESS_DELAY),
    };
    let expires_at = times.map(|times| times.expires_at).filter(|at| *at > now);
    [planned, expires_at].into_iter().flatten().min()
}
