//! What to do next: `plan`, a pure function over what was observed.
//!
//! In the manner of cert-manager's policy chain: an ordered list of small checks; the first that speaks decides, and
//! names its reason. The time is a field of the input; no clock, client or random source is read here.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::{OAuthIntegrationStatus, Reason};
use crate::cache::LONGEST_SPACING;
use crate::fingerprint;
use crate::gate::Closed;
use crate::oauth::Credentials;
use crate::oauth::life::Times;
use crate::settle;
use crate::target::{Content, Facts, Shape};
use crate::validated::{Validated, hashed_parts};

/// The least time between a failure and an attempt with changed inputs, so that a Secret which somebody rewrites all
/// the time does not become a stream of requests.
const LEAST_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// The most by which the clocks of two nodes of a healthy cluster differ.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What was seen of one integration and the Secrets around it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen, and they go together in any way")]
pub struct Observed {
    /// The wall clock.
    pub now: Timestamp,
    /// The integration's uid.
    pub uid: String,
    /// The integration's `metadata.generation`.
    pub generation: i64,
    /// Whether the integration is being deleted.
    pub deleting: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// The value of the `renew-requested-at` annotation.
    pub renew_requested_at: Option<String>,
    /// The spec, parsed; or a sentence that says what to change in it.
    pub spec: Result<Arc<Validated>, String>,
    /// The credentials Secret.
    pub credentials: CredentialsSeen,
    /// The target Secret.
    pub target: TargetSeen,
    /// What the target holds.
    pub holding: Holding,
    /// Secrets of this integration that are no longer its target.
    pub former_targets: Vec<Arc<Facts>>,
    /// Whether an answer of the endpoint is held that has not reached the Secret.
    pub answer_held: bool,
    /// Until when no further token is asked for, after requests that followed each other at once.
    pub not_before: Option<Timestamp>,
    /// Whether this process may act: it is alone, or holds the lease.
    pub leads: bool,
    /// Why the endpoint may not be asked right now; `None` where it may, or where nobody has asked yet.
    pub closed: Option<Closed>,
    /// Whether the endpoint's host failed for everyone and has answered since this integration's last attempt.
    pub endpoint_back: bool,
    /// The status, as it was last written.
    pub status: OAuthIntegrationStatus,
}

/// What was seen of the credentials Secret.
#[derive(Clone, Debug)]
pub enum CredentialsSeen {
    /// Not looked into; its version, where it is known.
    Unread(Option<String>),
    /// It or a key of it is not there; the sentence says which.
    Missing(String),
    /// The API server does not let the operator read it.
    Unreadable(String),
    /// Its values, and its version.
    Read(Arc<Credentials>, String),
}

impl CredentialsSeen {
    /// The version that was seen.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::Unread(version) => version.as_deref().unwrap_or("unknown"),
            Self::Missing(_) => "missing",
            Self::Unreadable(_) => "unreadable",
            Self::Read(_, version) => version,
        }
    }
}

/// What was seen of the target Secret.
#[derive(Clone, Debug)]
pub enum TargetSeen {
    /// There is none, or it was not looked for yet.
    Absent,
    /// A Secret of that name that this integration did not make.
    Foreign,
    /// The one that this integration made.
    Ours(Arc<Facts>),
}

/// What was read of the data of the target, or of the one before it where there is none yet; only where a grant or
/// a write needs it.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// All that it holds, where it is whole.
    pub content: Option<Arc<Content>>,
    /// Its refresh token.
    pub refresh_token: Option<SecretString>,
    /// Fingerprint of the credentials' refresh token with which the chain of renewals began.
    pub first_hash: Option<String>,
}

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
    observed.deleting.then_some(Plan::Wait { reason: Reason::Deleting, until: None })
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
            !fingerprint::matches(&origin.credentials_hash, &hashed_parts(credentials))
                || brings_refresh_token(credentials, origin.refresh_token_hash.as_deref())
        }
        CredentialsSeen::Missing(_) | CredentialsSeen::Unreadable(_) => false,
    };
    changed.then_some(Plan::Renew { reason: Reason::CredentialsChanged })
}

/// Whether the credentials hold a refresh token other than the one that was the first. One that was taken away since
/// changes nothing: the target has its own.
fn brings_refresh_token(credentials: &Credentials, first: Option<&str>) -> bool {
    credentials
        .refresh_token
        .as_ref()
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
        (!facts.wears(shape)).then_some(Plan::Write { reason })
    }
}

fn renewal_due(observed: &Observed) -> Option<Plan> {
    let Times { issued_at, renew_at, .. } = observed.facts()?.times?;
    (renew_at <= observed.now || observed.is_ahead(issued_at)).then_some(Plan::Renew { reason: Reason::RenewalDue })
}

impl Observed {
    /// What is remembered of the target, where it is this integration's.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match &self.target {
            TargetSeen::Ours(facts) => Some(facts),
            TargetSeen::Absent | TargetSeen::Foreign => None,
        }
    }

    /// The shape that the target should have.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.spec.as_ref().ok().map(|spec| &spec.shape)
    }

    /// Whether a time of something done lies ahead, which says that the clock was set back since: nobody can tell how long
    /// ago it really was.
    fn is_ahead(&self, done: Timestamp) -> bool {
        done.duration_since(self.now) > SKEW
    }

    /// When the token ends that is there; now, where there is none.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.facts().and_then(|facts| facts.times).map_or(self.now, |times| times.expires_at)
    }

    fn renew_at(&self) -> Option<Timestamp> {
        Some(self.facts()?.times?.renew_at)
    }

    /// Fingerprint of what an attempt is made with. Holds versions, not values: status is readable by many.
    #[must_use]
    pub fn inputs(&self) -> String {
        let mut text = fingerprint::plain(&serde_json::json!([
            self.generation,
            self.credentials.version(),
            self.renew_requested_at,
        ]));
        text.truncate(16);
        text
    }

    /// The refresh token to send: the one in the target, because servers rotate it; the one in the credentials is the
    /// first, and again when it was changed there.
    #[must_use]
    pub fn refresh_token(&self) -> Option<SecretString> {
        let first = match &self.credentials {
            CredentialsSeen::Read(credentials, _) => credentials.refresh_token.clone(),
            _ => None,
        };
        let Holding { refresh_token: current, first_hash, content: _ } = &self.holding;
        match (first, current) {
            (first, None) => first,
            (Some(first), Some(_)) if is_other(&first, first_hash.as_deref()) => Some(first),
            (_, Some(current)) => Some(current.clone()),
        }
    }
}

/// Whether the credentials' refresh token is not the one with which the chain of renewals began. Where nothing is known
/// of the beginning (somebody took the annotations away), the chain goes on: a first token sent twice could end it.
fn is_other(first: &SecretString, known: Option<&str>) -> bool {
    known.is_some_and(|known| !fingerprint::matches(known, &[first.expose_secret()]))
}
