//! What to do next: `plan`, a pure function over what was observed.
//!
//! In the manner of cert-manager's policy chain: an ordered list of small checks; the first that speaks decides, and
//! names its reason. The time is a field of the input; no clock, client or random source is read here.

#![deny(clippy::disallowed_methods)]

mod observed;

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use crate::api::Reason;
use crate::cache::LONGEST_SPACING;
use crate::fingerprint;
use crate::gate::Closed;
use crate::oauth::life::Times;
use crate::oauth::{Credential, Credentials};
use crate::settle;

pub use observed::{CredentialsSeen, Holding, Observed, TargetSeen};

/// The least time between a failure and an attempt with changed inputs, so that a Secret which somebody rewrites all
/// the time does not become a stream of requests.
const LEAST_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing until then; without a time, nothing until something changes.
    Wait {
        /// Why.
        reason: Reason,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// Ask for a token and write it.
    Renew {
        /// Why.
        reason: Reason,
    },
    /// Write a token that is at hand: in memory, or in the Secret itself.
    Write {
        /// Why.
        reason: Reason,
    },
    /// Give back the tokens that are at hand, and let the integration go.
    GiveBack {
        /// Why.
        reason: Reason,
    },
    /// Nothing can be done until somebody changes something.
    Refuse {
        /// Why.
        reason: Reason,
        /// What to change.
        message: String,
    },
}

/// The checks, in the order in which they decide.
const CHECKS: &[fn(&Observed) -> Option<Plan>] = &[
    deleting,
    answer_held,
    standing_by,
    suspended,
    invalid_spec,
    credentials_missing,
    target_conflict,
    backing_off,
    target_missing,
    spec_changed,
    credentials_changed,
    renewal_requested,
    target_drifted,
    renewal_due,
];

/// Decides what to do next.
#[must_use]
pub fn plan(observed: &Observed) -> Plan {
    let decided = CHECKS
        .iter()
        .find_map(|check| check(observed))
        .unwrap_or(Plan::Wait { reason: Reason::TokenValid, until: observed.renew_at() });
    match decided {
        Plan::Renew { .. } => too_soon(observed).or_else(|| closed(observed)).unwrap_or(decided),
        _ => decided,
    }
}

/// A time further ahead than [`LONGEST_SPACING`] says that the clock was set back since.
fn too_soon(observed: &Observed) -> Option<Plan> {
    let not_before = observed.not_before?;
    let left = not_before.duration_since(observed.now);
    (left.is_positive() && left <= LONGEST_SPACING)
        .then_some(Plan::Wait { reason: Reason::TooSoon, until: Some(not_before) })
}

/// Comes last: only who would ask has to wait for a place. The gate calls those who wait.
fn closed(observed: &Observed) -> Option<Plan> {
    let reason = match observed.closed? {
        Closed::Busy => Reason::Queued,
        Closed::Failing(_) => Reason::EndpointFailing,
    };
    Some(Plan::Wait { reason, until: None })
}

fn deleting(observed: &Observed) -> Option<Plan> {
    let reason = Reason::Deleting;
    let waits_for_us = observed.finalizer && observed.leads;
    let plan = if waits_for_us { Plan::GiveBack { reason } } else { Plan::Wait { reason, until: None } };
    observed.deleting.then_some(plan)
}

/// Comes before all else: the answer may hold the only copy of a refresh token.
fn answer_held(observed: &Observed) -> Option<Plan> {
    if !observed.answer_held || matches!(observed.target, TargetSeen::Foreign) {
        return None;
    }
    let last = observed.status.last_failure.as_ref().filter(|last| last.reason == Reason::TargetNotWritten.as_str());
    match last.map(|last| last.retry_at.0) {
        Some(retry_at) if observed.now < retry_at => {
            Some(Plan::Wait { reason: Reason::AnswerHeld, until: Some(retry_at) })
        }
        _ => Some(Plan::Write { reason: Reason::AnswerHeld }),
    }
}

/// Comes after what is held, which is lost with this process: a write that is too late does no harm.
fn standing_by(observed: &Observed) -> Option<Plan> {
    (!observed.leads).then_some(Plan::Wait { reason: Reason::StandingBy, until: None })
}

fn suspended(observed: &Observed) -> Option<Plan> {
    observed.suspend.then_some(Plan::Wait { reason: Reason::Suspended, until: None })
}

fn invalid_spec(observed: &Observed) -> Option<Plan> {
    let message = observed.spec.as_ref().err()?.clone();
    Some(Plan::Refuse { reason: Reason::InvalidSpec, message })
}

fn credentials_missing(observed: &Observed) -> Option<Plan> {
    match &observed.credentials {
        CredentialsSeen::Missing(message) => {
            Some(Plan::Refuse { reason: Reason::CredentialsMissing, message: message.clone() })
        }
        CredentialsSeen::Unreadable(message) => {
            Some(Plan::Refuse { reason: Reason::CredentialsUnreadable, message: message.clone() })
        }
        CredentialsSeen::DependencyMissing(message) => {
            Some(Plan::Refuse { reason: Reason::DependencyMissing, message: message.clone() })
        }
        CredentialsSeen::Unread(_) | CredentialsSeen::Read(..) => None,
    }
}

fn target_conflict(observed: &Observed) -> Option<Plan> {
    let name = &observed.shape()?.secret_name;
    matches!(observed.target, TargetSeen::Foreign).then(|| Plan::Refuse {
        reason: Reason::TargetConflict,
        message: format!(
            "Secret {name} exists and was not made by this integration: delete it, or name another in spec.target.secretName"
        ),
    })
}

/// Only while what failed is what would be tried again. Where the whole host had failed and is back, nobody waits longer; but
/// an endpoint that asked for a pause gets it.
fn backing_off(observed: &Observed) -> Option<Plan> {
    let last = observed.status.last_failure.as_ref()?;
    if observed.is_ahead(last.time.0) || (observed.endpoint_back && !settle::was_asked_for(last, &observed.uid)) {
        return None;
    }
    let until =
        if last.inputs == observed.inputs() { last.retry_at.0 } else { last.time.0.checked_add(LEAST_PAUSE).ok()? };
    (observed.now < until).then_some(Plan::Wait { reason: Reason::BackingOff, until: Some(until) })
}

fn target_missing(observed: &Observed) -> Option<Plan> {
    matches!(observed.target, TargetSeen::Absent).then_some(Plan::Renew { reason: Reason::TargetMissing })
}

fn spec_changed(observed: &Observed) -> Option<Plan> {
    let (spec, facts) = (observed.spec.as_ref().ok()?, observed.facts()?);
    let reason = Reason::SpecChanged;
    if facts.origin.spec_hash.is_empty() {
        // Somebody took the annotations away, which is not the spec's doing.
        None
    } else if facts.origin.spec_hash != spec.spec_hash {
        Some(Plan::Renew { reason })
    } else {
        let whole = facts.intact && facts.times.is_some();
        (facts.shape_hash != spec.shape.hash && whole).then_some(Plan::Write { reason })
    }
}

/// Another version of the Secret is only a reason to look into it; its values decide.
fn credentials_changed(observed: &Observed) -> Option<Plan> {
    let origin = &observed.facts()?.origin;
    let changed = match &observed.credentials {
        CredentialsSeen::Unread(version) => {
            version.as_ref().is_none_or(|version| *version != origin.credentials_version)
        }
        CredentialsSeen::Read(credentials, _) => {
            !fingerprint::matches(&origin.credentials_hash, &credentials.hashed_parts())
                || brings_refresh_token(credentials, origin.refresh_token_hash.as_deref())
        }
        CredentialsSeen::Missing(_) | CredentialsSeen::Unreadable(_) | CredentialsSeen::DependencyMissing(_) => false,
    };
    changed.then_some(Plan::Renew { reason: Reason::CredentialsChanged })
}

/// Whether the credentials hold a refresh token other than the one that was the first. One that was taken away since
/// changes nothing: the target has its own.
fn brings_refresh_token(credentials: &Credentials, first: Option<&str>) -> bool {
    credentials
        .get(Credential::RefreshToken)
        .is_some_and(|token| !first.is_some_and(|first| fingerprint::matches(first, &[token.expose_secret()])))
}

fn renewal_requested(observed: &Observed) -> Option<Plan> {
    let requested = observed.renew_requested_at.as_ref()?;
    let followed = observed.facts()?.origin.renew_requested_at.as_ref();
    (followed != Some(requested)).then_some(Plan::Renew { reason: Reason::RenewalRequested })
}

/// Lost tokens are asked for anew; lost looks are put on again.
fn target_drifted(observed: &Observed) -> Option<Plan> {
    let (facts, shape) = (observed.facts()?, observed.shape()?);
    let reason = Reason::TargetDrifted;
    if !facts.intact || facts.times.is_none() {
        Some(Plan::Renew { reason })
    } else {
        // One that was kept for an integration of this name is taken over.
        let is_of_another = facts.integration_uid != observed.uid;
        (is_of_another || !facts.wears(shape)).then_some(Plan::Write { reason })
    }
}

fn renewal_due(observed: &Observed) -> Option<Plan> {
    let Times { issued_at, renew_at, .. } = observed.facts()?.times?;
    (renew_at <= observed.now || observed.is_ahead(issued_at)).then_some(Plan::Renew { reason: Reason::RenewalDue })
}
