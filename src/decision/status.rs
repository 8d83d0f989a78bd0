//! The status as data: conditions by the rules of kstatus. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::reason::{FailureClass, Reason};
use crate::api::status::{Binding, LastFailure, OAuthIntegrationStatus};
use crate::decision::expiry::CredentialsExpiry;
use crate::decision::observed::Observed;
use crate::oauth::lifetime::TokenTimes;
use crate::spec::advice;

/// Condition: the target holds an unexpired token for the current spec.
pub const READY: &str = "Ready";
/// Condition: work is in progress or will be retried. Present only while True.
pub const RECONCILING: &str = "Reconciling";
/// Condition: nothing happens until a user changes something. Present only while True.
pub const STALLED: &str = "Stalled";
/// The maximum length of a condition message. The API server accepts 32 KiB, but users do not read that much.
const MESSAGE_LENGTH: usize = 1_024;

/// A refresh token that expires within this time is reported.
const EXPIRING: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A note about an integration that sends secrets in URLs.
const SECRETS_IN_QUERY: &str =
    "; secrets are sent in the URL, which servers and proxies log (spec.request.secretsInQuery)";

/// A problem that prevents an integration from being fully ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason.
    pub reason: Reason,
    /// A message that says what to change.
    pub message: String,
}

/// Builds the status from the observation and the outcome.
#[must_use]
pub fn build(
    observed: &Observed,
    times: Option<TokenTimes>,
    problem: Option<&Problem>,
    last_failure: Option<LastFailure>,
    expiry: &CredentialsExpiry,
    now: Timestamp,
) -> OAuthIntegrationStatus {
    let known = observed.template().map(|template| &template.secret_name);
    let secret_name = times.and(known.or_else(|| observed.snapshot().map(|snapshot| &snapshot.name))).cloned();
    let ready = ready(observed, times, problem, now);
    let warning = times.and_then(warning).or_else(|| expiry.note.as_ref().map(|note| note.reason));
    let page = if ready.reason == Reason::TokenValid.as_str() { warning } else { Reason::parse(&ready.reason) };
    let mut conditions = vec![with_end(ready, expiry.note.as_ref().map(|note| note.message.as_str()), page)];
    conditions.extend(problem.and_then(progress_condition));
    if problem.is_none() && !conditions.iter().any(is_true) {
        let message = "waiting for a token".to_owned();
        conditions.push(condition(RECONCILING, true, Reason::TargetMissing, message));
    }
    for condition in &mut conditions {
        condition.observed_generation = Some(observed.generation);
        condition.last_transition_time = last_transition_time(&observed.status, condition, now);
    }
    let ready = conditions.first();
    OAuthIntegrationStatus {
        observed_generation: Some(observed.generation),
        ready: ready.map(|ready| ready.status.clone()),
        reason: ready.map(|ready| ready.reason.clone()),
        conditions,
        binding: secret_name.clone().or_else(|| existing_secret(observed)).map(|name| Binding { name }),
        secret_name,
        issued_at: times.map(|times| time(times.issued_at)),
        expires_at: times.map(|times| time(times.expires_at)),
        renew_at: times.map(|times| time(times.renew_at)),
        refresh_token_expires_at: times.and_then(|times| times.refresh_token_expires_at).map(time),
        credentials_expire_at: expiry.at.map(time),
        last_handled_renew_request: observed.handled_renew_request().cloned(),
        last_renewal_time: observed.status.last_renewal_time.clone(),
        renewals: observed.status.renewals,
        last_failure: last_failure.map(Box::new),
    }
}

/// The Secret that exists, whatever it contains: the target, or the previous one until the target is written.
fn existing_secret(observed: &Observed) -> Option<String> {
    observed.snapshot().or_else(|| observed.latest_previous_target()).map(|existing| existing.name.clone())
}

/// The status after a new token was written.
#[must_use]
pub fn with_renewal(status: OAuthIntegrationStatus, observed: &Observed, now: Timestamp) -> OAuthIntegrationStatus {
    OAuthIntegrationStatus {
        last_handled_renew_request: observed.renew_requested_at.clone(),
        last_renewal_time: Some(time(now)),
        renewals: Some(observed.status.renewals.unwrap_or_default().saturating_add(1)),
        ..status
    }
}

/// The status of an integration that cannot be read.
#[must_use]
pub fn unreadable(generation: i64, message: &str, now: Timestamp) -> OAuthIntegrationStatus {
    let reason = Reason::InvalidSpec.as_str();
    let condition = |type_: &str, status: &str| Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(generation),
        last_transition_time: time(now),
    };
    OAuthIntegrationStatus {
        observed_generation: Some(generation),
        ready: Some("False".to_owned()),
        reason: Some(reason.to_owned()),
        conditions: vec![condition(READY, "False"), condition(STALLED, "True")],
        ..OAuthIntegrationStatus::default()
    }
}

fn ready(observed: &Observed, times: Option<TokenTimes>, problem: Option<&Problem>, now: Timestamp) -> Condition {
    let live = times.filter(|times| times.expires_at > now);
    match (live, times, problem) {
        (Some(live), _, None) => {
            let (until, renewal) = (time(live.expires_at).0, time(live.renew_at).0);
            let warning = live.warning.map(|warning| format!("; {}", advice::warning_message(warning)));
            let refresh_token = expiring_refresh_token(live).map(|at| format!("; {}", refresh_token_expires(at)));
            let query = observed.sends_secrets_in_query().then(|| SECRETS_IN_QUERY.to_owned());
            let notes = warning.into_iter().chain(refresh_token).chain(query).collect::<String>();
            let message = format!("the token is valid until {until} and will be renewed at {renewal}{notes}");
            condition(READY, true, Reason::TokenValid, message)
        }
        (Some(live), _, Some(problem)) => {
            let message = format!("the token is valid until {}, but: {}", time(live.expires_at).0, problem.message);
            condition(READY, true, problem.reason, message)
        }
        (None, Some(dead), Some(problem)) => {
            let message = format!("the token expired at {}: {}", time(dead.expires_at).0, problem.message);
            condition(READY, false, problem.reason, message)
        }
        (None, Some(dead), None) => {
            let message = format!("the token expired at {}", time(dead.expires_at).0);
            condition(READY, false, Reason::TokenExpired, message)
        }
        (None, None, Some(problem)) => condition(READY, false, problem.reason, problem.message.clone()),
        (None, None, None) => condition(READY, false, Reason::TargetMissing, "there is no token yet".to_owned()),
    }
}

/// The condition with what users should know about the expiry of the credentials, and with the address of the page about its
/// reason. Both are always contained in full: the first shows that it was reported, and the second is a link.
fn with_end(mut condition: Condition, note: Option<&str>, page: Option<Reason>) -> Condition {
    let note = note.map(|note| format!("; {note}"));
    let end: String = note.into_iter().chain(page.map(|reason| format!("; see {}", reason.page()))).collect();
    truncate(&mut condition.message, MESSAGE_LENGTH.saturating_sub(end.chars().count()));
    condition.message += &end;
    condition
}

/// When the refresh token expires, if it does so soon and renewals no longer extend it.
#[must_use]
pub fn expiring_refresh_token(times: TokenTimes) -> Option<Timestamp> {
    let expires_at = times.refresh_token_expires_at.filter(|_| times.session_ends)?;
    (expires_at.duration_since(times.issued_at) < EXPIRING).then_some(expires_at)
}

/// What the message of `Ready` says about a token, although it is valid.
fn warning(times: TokenTimes) -> Option<Reason> {
    times.warning.or_else(|| expiring_refresh_token(times).map(|_| Reason::RefreshTokenExpiring))
}

/// The message about it.
#[must_use]
pub fn refresh_token_expires(at: Timestamp) -> String {
    format!(
        "the refresh token expires at {} and is not extended: put a new one into the credentials Secret",
        time(at).0
    )
}

/// `Stalled` if a user must change something, `Reconciling` if the operator continues on its own.
fn progress_condition(problem: &Problem) -> Option<Condition> {
    let type_ = match (problem.reason, problem.reason.class()) {
        // Nothing is in progress, and nothing is awaited.
        (Reason::Suspended | Reason::TokenLifetimeTooShort, _) => return None,
        (_, FailureClass::Configuration) => STALLED,
        (_, FailureClass::Rejected | FailureClass::Transient | FailureClass::NotAFailure) => RECONCILING,
    };
    Some(with_end(condition(type_, true, problem.reason, problem.message.clone()), None, Some(problem.reason)))
}

fn condition(type_: &str, status: bool, reason: Reason, mut message: String) -> Condition {
    truncate(&mut message, MESSAGE_LENGTH);
    Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: None,
        last_transition_time: time(Timestamp::UNIX_EPOCH),
    }
}

fn truncate(message: &mut String, characters: usize) {
    if let Some((end, _)) = message.char_indices().nth(characters) {
        message.truncate(end);
    }
}

/// The transition time of a condition: unchanged if its status is the same.
fn last_transition_time(before: &OAuthIntegrationStatus, condition: &Condition, now: Timestamp) -> Time {
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

/// Whether a status reports `Ready`.
#[must_use]
pub fn is_ready(status: &OAuthIntegrationStatus) -> bool {
    find(status, READY).is_some_and(is_true)
}

/// Whether a status reports `Ready` for a token that has expired.
#[must_use]
pub fn is_ready_outdated(status: &OAuthIntegrationStatus, now: Timestamp) -> bool {
    is_ready(status) && status.expires_at.as_ref().is_none_or(|at| at.0 <= now)
}

/// Whether a status already has the condition for this reason.
#[must_use]
pub fn has_true_condition(status: &OAuthIntegrationStatus, type_: &str, reason: Reason) -> bool {
    find(status, type_).is_some_and(|condition| is_true(condition) && condition.reason == reason.as_str())
}

/// Whether a condition, True or False, is present for this reason.
#[must_use]
pub fn has_reason(status: &OAuthIntegrationStatus, type_: &str, reason: Reason) -> bool {
    find(status, type_).is_some_and(|condition| condition.reason == reason.as_str())
}

/// Whether the message of `Ready` contains a text.
#[must_use]
pub fn ready_says(status: &OAuthIntegrationStatus, text: &str) -> bool {
    find(status, READY).is_some_and(|condition| condition.message.contains(text))
}

/// A time in whole seconds, as in a status, so that the value that is read back equals the written one.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
