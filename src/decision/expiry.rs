//! When the credentials expire, and what is reported about it. Pure.
//!
//! It is reported once when they expire in less than 14 days, once when they expire in less than 3 days, and once
//! when they have expired. What has been reported already is in the condition `Ready`, which contains the same text
//! for as long as it is true, so it is known after a restart as well.

#![deny(clippy::disallowed_methods)]

use jiff::{SignedDuration, Timestamp};

use crate::api::names::CREDENTIALS_EXPIRE_AT;
use crate::api::reason::Reason;
use crate::decision::observed::{CredentialsState, Observed};
use crate::oauth::lifetime::TokenTimes;
use crate::spec::expiry::DeclaredExpiry;
use crate::spec::sources::CredentialsSource;

/// The remaining days at which the expiry is reported.
const REPORTED_DAYS: [i64; 2] = [14, 3];

/// The expiry of the credentials of an integration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsExpiry {
    /// When they expire, if that is known.
    pub at: Option<Timestamp>,
    /// What users should know about it now.
    pub note: Option<ExpiryNote>,
    /// When there is something else to report.
    pub next: Option<Timestamp>,
}

/// What users should know about the expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryNote {
    /// The reason of the event.
    pub reason: Reason,
    /// The text of the event, and the end of the message of `Ready`. It is the same until there is something else to
    /// report.
    pub message: String,
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The client certificate.
    Certificate,
    /// The annotation of the Secret.
    Annotation,
}

/// The expiry of the credentials, by the annotation of their Secret or by the client certificate with which the token
/// was requested; the earlier one if both are known.
#[must_use]
pub fn credentials_expiry(observed: &Observed, times: Option<TokenTimes>, now: Timestamp) -> CredentialsExpiry {
    let found = earliest(observed, times);
    let at = found.map(|(at, _)| at);
    let name = observed.spec.as_ref().ok().and_then(|spec| own_secret(&spec.credentials));
    let note =
        name.and_then(|name| found.and_then(|found| expiring(name, found, now)).or_else(|| invalid(observed, name)));
    CredentialsExpiry { at, note, next: at.and_then(|at| next_report(at, now)) }
}

/// The Secret of the integration itself. The expiry of that of a provider is reported there, once for all integrations.
fn own_secret(source: &CredentialsSource) -> Option<&str> {
    let name = if source.provider.is_some() { &source.user_secret_name } else { &source.secret_name };
    name.as_deref()
}

fn earliest(observed: &Observed, times: Option<TokenTimes>) -> Option<(Timestamp, Source)> {
    let declared = match (observed.declared_expiry, &observed.credentials) {
        (Some(declared), _) => declared.at(),
        (None, CredentialsState::Missing(_)) => None,
        // The Secret has not been seen yet: what was reported stays.
        (None, _) => observed.status.credentials_expire_at.as_ref().map(|at| at.0),
    };
    let is_own = observed.spec.as_ref().map_or(true, |spec| spec.credentials.provider.is_none());
    let certificate = times.filter(|_| is_own).and_then(|times| times.certificate_expires_at);
    let certificate = certificate.map(|at| (at, Source::Certificate));
    let declared = declared.map(|at| (at, Source::Annotation));
    // If both are equal, it is the certificate.
    [certificate, declared].into_iter().flatten().min_by_key(|(at, _)| *at)
}

fn expiring(name: &str, (at, source): (Timestamp, Source), now: Timestamp) -> Option<ExpiryNote> {
    let left = at.duration_since(now);
    let is_near = |days: &&i64| left <= duration(**days);
    let (ends, end) = match REPORTED_DAYS.iter().rev().find(is_near) {
        _ if !left.is_positive() => (format!("expired at {at}"), format!("expired at {at}")),
        Some(days) => {
            (format!("expires in less than {days} days, at {at}"), format!("expire in less than {days} days, at {at}"))
        }
        None => return None,
    };
    let message = match source {
        Source::Certificate => format!("the client certificate in Secret {name} {ends}: replace it"),
        Source::Annotation => format!(
            "the credentials in Secret {name} {end} (annotation {CREDENTIALS_EXPIRE_AT}): replace them, and set the annotation to the time at which the new ones expire"
        ),
    };
    Some(ExpiryNote { reason: Reason::CredentialsExpiring, message })
}

/// The token is renewed nevertheless.
fn invalid(observed: &Observed, name: &str) -> Option<ExpiryNote> {
    let is_invalid = observed.declared_expiry == Some(DeclaredExpiry::Invalid);
    is_invalid.then(|| ExpiryNote {
        reason: Reason::CredentialsExpiryInvalid,
        message: format!(
            "the annotation {CREDENTIALS_EXPIRE_AT} of Secret {name} is neither a time nor a date, and is ignored: write it like 2027-03-01T00:00:00Z or 2027-03-01"
        ),
    })
}

fn next_report(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let before = |days: &i64| at.checked_sub(duration(*days)).ok();
    REPORTED_DAYS.iter().filter_map(before).chain([at]).find(|due| *due > now)
}

fn duration(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}
