//! The status as data: conditions by the rules of kstatus. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::{Class, LastFailure, OAuthIntegrationStatus, Reason};
use crate::oauth::life::Times;
use crate::plan::Observed;

/// Condition: the target holds an unexpired token for the current spec.
pub const READY: &str = "Ready";
/// Condition: work is under way or will be tried again. There only while True.
pub const RECONCILING: &str = "Reconciling";
/// Condition: nothing happens until somebody changes something. There only while True.
pub const STALLED: &str = "Stalled";
/// The longest message of a condition that the API server admits is 32 KiB; people read less.
const MESSAGE_LENGTH: usize = 1_024;

/// What keeps an integration from being all well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In one word.
    pub reason: Reason,
    /// In a sentence that says what to change.
    pub message: String,
}

/// The status that follows from what was seen and done.
#[must_use]
pub fn build(
    observed: &Observed,
    times: Option<Times>,
    trouble: Option<&Trouble>,
    last_failure: Option<LastFailure>,
    now: Timestamp,
) -> OAuthIntegrationStatus {
    let secret_name = times.and(observed.shape()).map(|shape| shape.secret_name.clone());
    let mut conditions = vec![ready(times, trouble, now)];
    conditions.extend(trouble.and_then(progress));
    if trouble.is_none() && !conditions.iter().any(is_true) {
        let message = "waiting for a token".to_owned();
        conditions.push(condition(RECONCILING, true, Reason::TargetMissing, message));
    }
    for condition in &mut conditions {
        condition.observed_generation = Some(observed.generation);
        condition.last_transition_time = since(&observed.status, condition, now);
    }
    OAuthIntegrationStatus {
        observed_generation: Some(observed.generation),
        conditions,
        secret_name,
        issued_at: times.map(|times| time(times.issued_at)),
        expires_at: times.map(|times| time(times.expires_at)),
        renew_at: times.map(|times| time(times.renew_at)),
        last_failure,
    }
}

fn ready(times: Option<Times>, trouble: Option<&Trouble>, now: Timestamp) -> Condition {
    let live = times.filter(|times| times.expires_at > now);
    match (live, times, trouble) {
        (Some(live), _, None) => {
            let (until, renewal) = (time(live.expires_at).0, time(live.renew_at).0);
            let message = format!("the token is valid until {until} and will be renewed at {renewal}");
            condition(READY, true, Reason::TokenValid, message)
        }
        (Some(live), _, Some(trouble)) => {
            let message = format!("the token is valid until {}, but: {}", time(live.expires_at).0, trouble.message);
            condition(READY, true, trouble.reason, message)
        }
        (None, Some(dead), Some(trouble)) => {
            let message = format!("the token has ended at {}: {}", time(dead.expires_at).0, trouble.message);
            condition(READY, false, trouble.reason, message)
        }
        (None, Some(dead), None) => {
            let message = format!("the token has ended at {}", time(dead.expires_at).0);
            condition(READY, false, Reason::TokenExpired, message)
        }
        (None, None, Some(trouble)) => condition(READY, false, trouble.reason, trouble.message.clone()),
        (None, None, None) => condition(READY, false, Reason::TargetMissing, "there is no token yet".to_owned()),
    }
}

/// `Stalled` where a change must come from outside, `Reconciling` where the operator goes on by itself.
fn progress(trouble: &Trouble) -> Option<Condition> {
    let type_ = match (trouble.reason, trouble.reason.class()) {
        (Reason::Suspended, _) => return None,
        (_, Class::Configuration) => STALLED,
        (_, Class::Refused | Class::Passing | Class::Fine) => RECONCILING,
    };
    Some(condition(type_, true, trouble.reason, trouble.message.clone()))
}

fn condition(type_: &str, status: bool, reason: Reason, mut message: String) -> Condition {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_LENGTH) {
        message.truncate(end);
    }
    Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: None,
        last_transition_time: time(Timestamp::UNIX_EPOCH),
    }
}

/// When a condition took its status: as before, where it is the same.
fn since(before: &OAuthIntegrationStatus, condition: &Condition, now: Timestamp) -> Time {
    find(before, &condition.type_)
        .filter(|known| known.status == condition.status)
        .map_or_else(|| time(now), |known| known.last_transition_time.clone())
}

fn find<'a>(status: &'a OAuthIntegrationStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn is_true(condition: &Condition) -> bool {
    condition.status == "True"
}

/// Whether a status says `Ready`.
#[must_use]
pub fn is_ready(status: &OAuthIntegrationStatus) -> bool {
    find(status, READY).is_some_and(is_true)
}

/// Whether a status says `Ready` of a token that has ended.
#[must_use]
pub fn turns(status: &OAuthIntegrationStatus, now: Timestamp) -> bool {
    is_ready(status) && status.expires_at.as_ref().is_none_or(|at| at.0 <= now)
}

/// Whether a status has the condition for this reason already.
#[must_use]
pub fn says(status: &OAuthIntegrationStatus, type_: &str, reason: Reason) -> bool {
    find(status, type_).is_some_and(|condition| is_true(condition) && condition.reason == reason.as_str())
}

/// A time as a status tells it: in whole seconds, so that what is read back equals what was written.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
