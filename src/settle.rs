//! What the world's answer means: `settle`, the second pure function.
//!
//! `plan` decides before anything is done; what the endpoint and the API server answered is known only afterwards.
//! From both come the status, at most one event, and when to come back.

#![deny(clippy::disallowed_methods)]

use jiff::{SignedDuration, Timestamp};

use crate::api::{LastFailure, OAuthIntegrationStatus, Reason};
use crate::error::Failure;
use crate::gate::Closed;
use crate::oauth::life::{self, Times};
use crate::plan::{Observed, Plan};
use crate::status::{self, Trouble};

/// The pause before a mistake in the configuration that only an attempt could show is looked at again.
const CONFIGURATION_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// The pause before what may not be read, or is not there, is looked at again where it is not watched: rights, ConfigMaps,
/// ServiceAccounts.
const UNWATCHED_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// The longest pause before an answer that is held is written again.
const PAUSE_WITH_ANSWER: SignedDuration = SignedDuration::from_secs(10);
/// The pause after a plan that should have done something and did nothing.
const PAUSE_AFTER_NOTHING: SignedDuration = SignedDuration::from_secs(5);
/// The most that is added to a pause so that integrations which failed together do not come back together.
const PAUSE_JITTER: f64 = 0.25;

/// What came of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// The Secret was written.
    Written(Written),
    /// It was tried, and failed.
    Failed(Failure),
    /// The tokens were given back, or that was tried and failed.
    GivenBack(Option<Failure>),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The times of the token.
    pub times: Times,
    /// Whether the endpoint gave the token just now (it was not merely written again).
    pub fresh: bool,
    /// What people should be told about the life of the token.
    pub warning: Option<Reason>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The status to write, where it differs from the last one.
    pub status: OAuthIntegrationStatus,
    /// What to tell.
    pub event: Option<Announcement>,
    /// When to look again; `None`: when something changes.
    pub next: Option<Timestamp>,
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whether it is a warning.
    pub warning: bool,
    /// What happened.
    pub reason: Reason,
    /// What led to it.
    pub cause: Reason,
    /// What happened, in a sentence.
    pub note: String,
    /// Whether it is one in a row of the same, such as the renewals of a healthy token.
    pub routine: bool,
}

/// Draws the conclusions. `now` is the time after the work was done.
#[must_use]
pub fn settle(observed: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Settled {
    // Whoever leads tells what there is to tell.
    if observed.deleting || !observed.leads {
        let (next, event) = match outcome {
            Outcome::Failed(_) => (Some(now + PAUSE_WITH_ANSWER), None),
            Outcome::GivenBack(failure) => (None, Some(given_back(failure.as_ref()))),
            Outcome::Nothing if matches!(plan, Plan::GiveBack { .. }) => (Some(now + PAUSE_AFTER_NOTHING), None),
            Outcome::Nothing | Outcome::Written(_) => (None, None),
        };
        return Settled { status: observed.status.clone(), event, next };
    }
    // Who waits for a place has nothing new to tell, until the token ends.
    if let Plan::Wait { reason: Reason::Queued, .. } = plan
        && !status::turns(&observed.status, now)
    {
        let next = current_times(observed).map(|times| times.expires_at).filter(|at| *at > now);
        return Settled { status: observed.status.clone(), event: None, next };
    }
    let times = match outcome {
        Outcome::Written(written) => Some(written.times),
        Outcome::Nothing | Outcome::Failed(_) | Outcome::GivenBack(_) => current_times(observed),
    };
    let last_failure = last_failure(observed, plan, outcome, now);
    let trouble = trouble(observed, plan, last_failure.as_ref());
    let status = status::build(observed, times, trouble.as_ref(), last_failure, now);
    let event = event(observed, plan, outcome, &status);
    let next = next(plan, outcome, &status, times, now);
    Settled { status, event, next }
}

/// The times of a token that is still one for the current spec.
fn current_times(observed: &Observed) -> Option<Times> {
    let (facts, spec) = (observed.facts()?, observed.spec.as_ref().ok()?);
    (facts.intact && facts.origin.spec_hash == spec.spec_hash).then_some(facts.times?)
}

/// A failure stays until an attempt succeeds.
fn last_failure(observed: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Option<LastFailure> {
    let before = observed.status.last_failure.as_ref();
    match (outcome, plan) {
        (Outcome::Failed(failure), _) => Some(failed(observed, failure, before, now)),
        // A token for the current spec that is not due says that all is well again.
        (Outcome::Written(_), _) | (Outcome::Nothing, Plan::Wait { reason: Reason::TokenValid, .. }) => None,
        (Outcome::Nothing | Outcome::GivenBack(_), _) => before.cloned(),
    }
}

fn failed(observed: &Observed, failure: &Failure, before: Option<&LastFailure>, now: Timestamp) -> LastFailure {
    let inputs = observed.inputs();
    let class = failure.reason.class();
    let in_a_row = before
        .filter(|before| before.inputs == inputs)
        .filter(|before| Reason::parse(&before.reason).is_some_and(|reason| reason.class() == class));
    let attempts = in_a_row.map_or(1, |before| before.attempts.saturating_add(1));
    let pause = pause(failure.reason, attempts, &observed.uid);
    let asked = failure.retry_after.and_then(|wait| SignedDuration::try_from(wait).ok()).unwrap_or_default();
    LastFailure {
        time: status::time(now),
        reason: failure.reason.as_str().to_owned(),
        message: failure.message.clone(),
        attempts,
        // Rounded up, since a status tells whole seconds and an endpoint that asked for a pause gets all of it.
        retry_at: status::time(now + pause.max(asked) + SignedDuration::from_millis(999)),
        inputs,
    }
}

/// How long to wait after so many failures for a reason.
fn pause(reason: Reason, attempts: i32, uid: &str) -> SignedDuration {
    let Some((first, longest)) = reason.backoff() else {
        return CONFIGURATION_PAUSE;
    };
    let doublings = u32::try_from(attempts.clamp(1, 32) - 1).unwrap_or_default();
    let pause = first.saturating_mul(2_u32.saturating_pow(doublings)).min(longest);
    let jitter = life::fraction(&format!("{uid}/{attempts}")) * PAUSE_JITTER;
    SignedDuration::try_from(pause.mul_f64(1.0 + jitter).min(longest)).unwrap_or(CONFIGURATION_PAUSE)
}

/// Whether the pause after a failure is longer than the operator's own would be: the endpoint asked for it.
#[must_use]
pub fn was_asked_for(last: &LastFailure, uid: &str) -> bool {
    let Some(reason) = Reason::parse(&last.reason) else { return false };
    let own = pause(reason, last.attempts, uid) + SignedDuration::from_secs(2);
    last.retry_at.0.duration_since(last.time.0) > own
}

/// What keeps the integration from being all well.
fn trouble(observed: &Observed, plan: &Plan, last_failure: Option<&LastFailure>) -> Option<Trouble> {
    if let Plan::Refuse { reason, message } = plan {
        return Some(Trouble { reason: *reason, message: message.clone() });
    }
    if let Plan::Wait { reason: Reason::Suspended, .. } = plan {
        let message = "suspended by spec.suspend: nothing is asked for or written".to_owned();
        return Some(Trouble { reason: Reason::Suspended, message });
    }
    if let (Plan::Wait { reason: Reason::EndpointFailing, .. }, Some(Closed::Failing(since))) = (plan, observed.closed)
    {
        let since = status::time(since).0;
        let message = format!(
            "the token endpoint's host has failed for every integration since {since}; it is asked by one at a time until it answers"
        );
        return Some(Trouble { reason: Reason::EndpointFailing, message });
    }
    if let Some(last) = last_failure {
        // A word of another release is taken for a failure that passes.
        let reason = Reason::parse(&last.reason).unwrap_or(Reason::EndpointUnavailable);
        let message = format!("{}; attempt {} failed, the next is at {}", last.message, last.attempts, last.retry_at.0);
        return Some(Trouble { reason, message });
    }
    if let Plan::Wait { reason: Reason::TooSoon, until } = plan {
        let until = until.map(|until| format!(" until {}", status::time(until).0)).unwrap_or_default();
        let message = format!("the token was undone right after it was written, more than once; waiting{until}");
        return Some(Trouble { reason: Reason::TooSoon, message });
    }
    None
}

fn event(observed: &Observed, plan: &Plan, outcome: &Outcome, status: &OAuthIntegrationStatus) -> Option<Announcement> {
    match (outcome, plan) {
        (Outcome::Written(written), Plan::Renew { reason } | Plan::Write { reason }) => {
            Some(written_event(observed, *reason, *written))
        }
        (Outcome::Failed(failure), plan) => failure_event(observed, plan, failure, status),
        (_, Plan::Refuse { reason, message }) if !status::says(&observed.status, status::STALLED, *reason) => {
            Some(Announcement { warning: true, reason: *reason, cause: *reason, note: message.clone(), routine: false })
        }
        _ => expiry_event(observed, status),
    }
}

fn written_event(observed: &Observed, cause: Reason, written: Written) -> Announcement {
    let name = observed.shape().map_or("", |shape| shape.secret_name.as_str());
    let first = observed.status.issued_at.is_none() && observed.facts().is_none();
    let routine = cause == Reason::RenewalDue && observed.status.last_failure.is_none();
    let (reason, note) = match (written.fresh, written.warning) {
        (true, Some(warning)) if !routine || warning == Reason::FellBack => {
            (warning, format!("wrote a token into Secret {name}; {}", life::advice(warning)))
        }
        (true, _) if first => (Reason::Issued, format!("wrote the first token into Secret {name}")),
        (true, _) => (Reason::Renewed, format!("wrote a new token into Secret {name}")),
        (false, _) => (Reason::TargetUpdated, format!("wrote Secret {name} again with the token it had")),
    };
    let warning = matches!(reason, Reason::TokenLifeTooLong | Reason::FellBack);
    Announcement { warning, reason, cause, note, routine: routine && !warning }
}

fn given_back(failure: Option<&Failure>) -> Announcement {
    let (reason, note) = match failure {
        None => (Reason::Revoked, "the tokens were given back to the endpoint".to_owned()),
        Some(failure) => (
            Reason::RevocationFailed,
            format!("the tokens could not be given back, and live until they end: {}", failure.message),
        ),
    };
    Announcement { warning: failure.is_some(), reason, cause: Reason::Deleting, note, routine: false }
}

/// One event for a failure, not one for each retry of it.
fn failure_event(
    observed: &Observed,
    plan: &Plan,
    failure: &Failure,
    status: &OAuthIntegrationStatus,
) -> Option<Announcement> {
    let before = observed.status.last_failure.as_ref();
    let is_first = status.last_failure.as_ref().is_some_and(|last| last.attempts == 1);
    let is_other = before.is_none_or(|before| before.reason != failure.reason.as_str());
    let cause = match plan {
        Plan::Renew { reason } | Plan::Write { reason } | Plan::GiveBack { reason } => *reason,
        Plan::Wait { .. } | Plan::Refuse { .. } => failure.reason,
    };
    (is_first || is_other).then(|| Announcement {
        warning: true,
        reason: failure.reason,
        cause,
        note: failure.message.clone(),
        routine: false,
    })
}

fn expiry_event(observed: &Observed, status: &OAuthIntegrationStatus) -> Option<Announcement> {
    let expired = status.expires_at.as_ref().is_some_and(|at| at.0 <= observed.now);
    (expired && status::is_ready(&observed.status) && !status::is_ready(status)).then(|| Announcement {
        warning: true,
        reason: Reason::TokenExpired,
        cause: Reason::TokenExpired,
        note: "the token has ended and could not be renewed".to_owned(),
        routine: false,
    })
}

/// When to look again: when the plan says so, and not after the moment at which `Ready` turns.
fn next(
    plan: &Plan,
    outcome: &Outcome,
    status: &OAuthIntegrationStatus,
    times: Option<Times>,
    now: Timestamp,
) -> Option<Timestamp> {
    let retry_at = status.last_failure.as_ref().map(|last| last.retry_at.0);
    let planned = match (outcome, plan) {
        (Outcome::Written(written), _) => Some(written.times.renew_at),
        (Outcome::Failed(_), _) => retry_at,
        (_, Plan::Wait { until, .. }) => *until,
        (_, Plan::Refuse { reason: Reason::CredentialsUnreadable | Reason::DependencyMissing, .. }) => {
            Some(now + UNWATCHED_PAUSE)
        }
        (_, Plan::Refuse { .. }) => None,
        // A deed that came to nothing; whatever the cause, it is not to be the last look.
        (_, Plan::Renew { .. } | Plan::Write { .. } | Plan::GiveBack { .. }) => Some(now + PAUSE_AFTER_NOTHING),
    };
    let expires_at = times.map(|times| times.expires_at).filter(|at| *at > now);
    [planned, expires_at].into_iter().flatten().min()
}
