//! Decides what to do next: `plan`, a pure function of the observation.
//!
//! Like cert-manager's policy chain, it is an ordered list of small checks; the first check that returns a plan
//! decides, and states its reason. The time is a field of the input; clocks, clients and random sources are not used
//! here.

#![deny(clippy::disallowed_methods)]

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use crate::api::reason::Reason;
use crate::decision::backoff::MAX_REQUEST_INTERVAL;
use crate::decision::observed::{Conflict, CredentialsState, InitialRefreshToken, Observed, TargetState};
use crate::decision::outcome::Plan;
use crate::fingerprint;
use crate::limiter::types::Delay;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::expression::data;
use crate::oauth::lifetime::TokenTimes;
use crate::spec::{chain, credentials_version};
use crate::target::annotations::ADOPT_BY;
use crate::target::snapshot::TargetSnapshot;

/// The minimum interval between a failure and an attempt with changed inputs, so that a Secret that is constantly
/// rewritten does not cause a stream of requests.
const MIN_RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// The maximum time until the memory for responses is checked again. Queued integrations are normally woken earlier.
const MEMORY_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// The time until it is checked again whether another integration has used the initial refresh token.
const SHARED_TOKEN_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// The checks, in the order in which they decide.
const POLICY_CHAIN: &[fn(&Observed) -> Option<Plan>] = &[
    deleting,
    write_pending,
    not_leader,
    suspended,
    provider_not_found,
    invalid_spec,
    not_allowed,
    target_not_allowed,
    dependency_cycle,
    credentials_missing,
    target_conflict,
    refresh_token_shared,
    backing_off,
    target_adopted,
    target_missing,
    token_missing,
    spec_changed,
    credentials_changed,
    renewal_requested,
    target_drifted,
    renewal_due,
];

/// Decides what to do next.
#[must_use]
pub fn plan(observed: &Observed) -> Plan {
    let decided = POLICY_CHAIN
        .iter()
        .find_map(|check| check(observed))
        .unwrap_or(Plan::Wait { reason: Reason::TokenValid, until: observed.renew_at() });
    match decided {
        Plan::Renew { .. } => wait_until(observed, observed.not_before)
            .or_else(|| throttled(observed))
            .or_else(|| delayed_by_limiter(observed))
            .unwrap_or(decided),
        // Another writer has modified the target, and it must be read. Its renewal does not wait for that.
        Plan::Wait { reason: Reason::TokenValid, until: renew_at } => match throttled(observed) {
            Some(Plan::Wait { reason, until }) => {
                Plan::Wait { reason, until: [until, renew_at].into_iter().flatten().min() }
            }
            _ => decided,
        },
        // Without this limit, anything that reverts each write immediately, such as a mutating webhook, would keep
        // the operator busy forever.
        Plan::Rewrite { reason: Reason::SpecChanged | Reason::TargetDrifted | Reason::TargetAdopted } => {
            wait_until(observed, observed.rewrite_not_before).or_else(|| throttled(observed)).unwrap_or(decided)
        }
        _ => decided,
    }
}

/// Checked before the token is requested, so that a received token is always written immediately.
fn throttled(observed: &Observed) -> Option<Plan> {
    let until = observed.throttled_until.filter(|until| observed.now < *until)?;
    Some(Plan::Wait { reason: Reason::NamespaceThrottled, until: Some(until) })
}

/// A time further ahead than [`MAX_REQUEST_INTERVAL`] means that the clock was set back, and is ignored.
fn wait_until(observed: &Observed, not_before: Option<Timestamp>) -> Option<Plan> {
    let not_before = not_before?;
    let left = not_before.duration_since(observed.now);
    (left.is_positive() && left <= MAX_REQUEST_INTERVAL)
        .then_some(Plan::Wait { reason: Reason::RateLimited, until: Some(not_before) })
}

/// Checked last, because only plans that send a request must wait for a permit. The limiter wakes waiting
/// integrations.
fn delayed_by_limiter(observed: &Observed) -> Option<Plan> {
    let (reason, until) = match observed.delayed? {
        Delay::LimitReached => (Reason::Queued, None),
        // A woken integration does not necessarily use the free slot, and then the next one would not be woken.
        Delay::NoMemory => (Reason::Queued, observed.now.checked_add(MEMORY_PAUSE).ok()),
        Delay::CircuitOpen { .. } => (Reason::CircuitBreakerOpen, None),
    };
    Some(Plan::Wait { reason, until })
}

fn deleting(observed: &Observed) -> Option<Plan> {
    let reason = Reason::Deleting;
    let waits_for_us = observed.finalizer && observed.is_leader;
    let plan = if waits_for_us { Plan::Revoke { reason } } else { Plan::Wait { reason, until: None } };
    observed.deleting.then_some(plan)
}

/// Checked early: the response may contain the only copy of a refresh token.
fn write_pending(observed: &Observed) -> Option<Plan> {
    let is_foreign = |target: &TargetState| matches!(target, TargetState::NotOwned(_));
    if !observed.write_pending || is_foreign(&observed.target) || is_foreign(&observed.refresh_token_target) {
        return None;
    }
    let last = observed.status.last_failure.as_ref().filter(|last| last.reason == Reason::TargetWriteFailed.as_str());
    match last.map(|last| last.retry_at.0) {
        Some(retry_at) if observed.now < retry_at => {
            Some(Plan::Wait { reason: Reason::WritePending, until: Some(retry_at) })
        }
        _ => Some(Plan::Rewrite { reason: Reason::WritePending }),
    }
}

/// Checked after the pending write, which would be lost when this process exits: a late write is harmless.
fn not_leader(observed: &Observed) -> Option<Plan> {
    (!observed.is_leader).then_some(Plan::Wait { reason: Reason::NotLeader, until: None })
}

fn suspended(observed: &Observed) -> Option<Plan> {
    observed.suspend.then_some(Plan::Wait { reason: Reason::Suspended, until: None })
}

fn provider_not_found(observed: &Observed) -> Option<Plan> {
    let message = observed.provider_not_found.clone()?;
    Some(Plan::Stall { reason: Reason::ProviderNotFound, message })
}

/// At each renewal, so that a rule that is taken back stops the next one.
fn not_allowed(observed: &Observed) -> Option<Plan> {
    let message = observed.spec.as_ref().ok()?.not_allowed.clone()?;
    Some(Plan::Stall { reason: Reason::NotAllowed, message })
}

fn invalid_spec(observed: &Observed) -> Option<Plan> {
    let message = observed.spec.as_ref().err()?.clone();
    Some(Plan::Stall { reason: Reason::InvalidSpec, message })
}

/// The existing Secret is not changed.
fn target_not_allowed(observed: &Observed) -> Option<Plan> {
    let message = observed.target_not_allowed.clone()?;
    Some(Plan::Stall { reason: Reason::TargetNotAllowed, message })
}

fn dependency_cycle(observed: &Observed) -> Option<Plan> {
    let message = observed.dependency_cycle.clone()?;
    Some(Plan::Stall { reason: Reason::DependencyCycle, message })
}

fn credentials_missing(observed: &Observed) -> Option<Plan> {
    match &observed.credentials {
        CredentialsState::Missing(message) => {
            Some(Plan::Stall { reason: Reason::CredentialsMissing, message: message.clone() })
        }
        CredentialsState::Invalid(message) => {
            Some(Plan::Stall { reason: Reason::CredentialsInvalid, message: message.clone() })
        }
        CredentialsState::AccessDenied(message) => {
            Some(Plan::Stall { reason: Reason::CredentialsAccessDenied, message: message.clone() })
        }
        CredentialsState::DependencyMissing(message) => {
            Some(Plan::Stall { reason: Reason::DependencyMissing, message: message.clone() })
        }
        CredentialsState::NotRead(_) | CredentialsState::Resolved(..) => None,
    }
}

fn target_conflict(observed: &Observed) -> Option<Plan> {
    let template = observed.template()?;
    let name = &template.secret_name;
    if let (Some(name), TargetState::NotOwned(conflict)) =
        (&template.refresh_token_secret, &observed.refresh_token_target)
        && !matches!(observed.target, TargetState::NotOwned(_))
    {
        let owner = match conflict {
            Conflict::OtherIntegration(owner) => format!("is a Secret of OAuthIntegration {owner}"),
            _ => "exists and does not belong to an integration".to_owned(),
        };
        let message = format!("Secret {name} {owner}: name another Secret in spec.target.refreshTokenSecretName");
        return Some(Plan::Stall { reason: Reason::TargetConflict, message });
    }
    let TargetState::NotOwned(conflict) = &observed.target else { return None };
    let integration = &observed.name;
    let message = match conflict {
        Conflict::OtherIntegration(owner) => format!(
            "Secret {name} is the target of OAuthIntegration {owner}: name another Secret in spec.target.secretName of one of them"
        ),
        Conflict::Foreign => format!(
            "Secret {name} exists and does not belong to an integration: name another Secret in spec.target.secretName, or, if nothing needs this one, delete it. To have it taken over with its tokens, stop whatever writes it, and let someone who may change it set the annotation {ADOPT_BY}={integration} on it; a retained Secret is also taken over with the same credentials"
        ),
        Conflict::HandedToAnother => format!(
            "Secret {name} exists, and its annotation {ADOPT_BY} names another integration: let someone who may change the Secret set {ADOPT_BY}={integration} on it, or name another Secret in spec.target.secretName"
        ),
        Conflict::NotAdoptable(message) => message.clone(),
    };
    Some(Plan::Stall { reason: Reason::TargetConflict, message })
}

/// Servers that replace refresh tokens take the second use of one for a theft, and revoke all tokens of its family. With
/// `renewal.fallback`, the integration goes on without it.
fn refresh_token_shared(observed: &Observed) -> Option<Plan> {
    match &observed.initial_refresh_token {
        InitialRefreshToken::Unshared => None,
        InitialRefreshToken::InUse => {
            Some(Plan::Wait { reason: Reason::Queued, until: observed.now.checked_add(SHARED_TOKEN_PAUSE).ok() })
        }
        InitialRefreshToken::Spent(other) => {
            let spec = observed.spec.as_ref().ok().filter(|spec| spec.needs_refresh_token())?;
            let secret = spec.credentials.secret_of(Credential::RefreshToken).unwrap_or_default();
            Some(Plan::Stall {
                reason: Reason::RefreshTokenShared,
                message: format!(
                    "OAuthIntegration {} has used the refresh token in Secret {secret} and received another one for it, so it is not sent again: obtain a refresh token for this integration alone, and put it into a Secret that no other integration uses",
                    other.name
                ),
            })
        }
    }
}

/// Applies only while the retry would use the inputs that failed. If the circuit of the host was open and the host
/// has recovered, there is no further wait, except for a pause that the endpoint requested.
fn backing_off(observed: &Observed) -> Option<Plan> {
    let last = observed.status.last_failure.as_ref()?;
    let has_paused = observed.requested_pause_until.is_none_or(|until| until <= observed.now);
    if observed.is_in_future(last.time.0) || (observed.host_recovered && has_paused) {
        return None;
    }
    let until = if last.inputs_hash == observed.inputs_hash() {
        last.retry_at.0
    } else {
        last.time.0.checked_add(MIN_RETRY_INTERVAL).ok()?
    };
    (observed.now < until).then_some(Plan::Wait { reason: Reason::BackingOff, until: Some(until) })
}

/// The Secret is written with its own tokens before anything is sent: its refresh token is then bound to the endpoints
/// and credentials of this spec, and a crash loses nothing.
fn target_adopted(observed: &Observed) -> Option<Plan> {
    matches!(observed.target, TargetState::Adoptable(_)).then_some(Plan::Rewrite { reason: Reason::TargetAdopted })
}

fn target_missing(observed: &Observed) -> Option<Plan> {
    matches!(observed.target, TargetState::Absent).then_some(Plan::Renew { reason: Reason::TargetMissing })
}

/// Checked before a change of the spec, which could otherwise be written without one of the tokens: the refresh token was
/// deleted, or the target is the Secret in which the refresh token has been so far.
fn token_missing(observed: &Observed) -> Option<Plan> {
    let is_missing = observed.missing_refresh_token_secret().is_some()
        || observed.snapshot().is_some_and(TargetSnapshot::is_for_refresh_token);
    is_missing.then_some(Plan::Renew { reason: Reason::TargetDrifted })
}

fn spec_changed(observed: &Observed) -> Option<Plan> {
    let (spec, snapshot) = (observed.spec.as_ref().ok()?, observed.snapshot()?);
    let reason = Reason::SpecChanged;
    if snapshot.provenance.spec_hash.is_empty() {
        // The annotations were removed, so the spec is not the cause.
        None
    } else if snapshot.provenance.spec_hash != spec.spec_hash {
        Some(Plan::Renew { reason })
    } else {
        let template = &spec.template;
        let is_whole = !snapshot.is_changed() && snapshot.times.is_some();
        let differs = snapshot.template_hash != template.hash || !snapshot.has_template_data(template);
        let mut missing = snapshot.missing_data(template);
        let needs_token = missing.any(|data| observed.lacks_data || data::needs_response(&data.expression));
        (differs && is_whole).then_some(if needs_token { Plan::Renew { reason } } else { Plan::Rewrite { reason } })
    }
}

/// A new version of the Secret is only a reason to read it; a renewal depends on its values.
fn credentials_changed(observed: &Observed) -> Option<Plan> {
    let provenance = &observed.snapshot()?.provenance;
    let changed = match &observed.credentials {
        CredentialsState::NotRead(version) => version
            .as_ref()
            .is_none_or(|version| credentials_version::differs(version, &provenance.credentials_version)),
        CredentialsState::Resolved(credentials, version) => {
            !fingerprint::matches(&provenance.credentials_hash, &credentials.hashed_parts())
                || chain::token_part(version) != chain::token_part(&provenance.credentials_version)
                || credentials_version::trust_differs(version, &provenance.credentials_version)
                || has_new_initial_refresh_token(credentials, provenance.refresh_token_hash.as_deref())
        }
        CredentialsState::Missing(_)
        | CredentialsState::Invalid(_)
        | CredentialsState::AccessDenied(_)
        | CredentialsState::DependencyMissing(_) => false,
    };
    changed.then_some(Plan::Renew { reason: Reason::CredentialsChanged })
}

/// Whether the credentials contain a refresh token other than the initial one. Removing it has no effect, because the
/// target has its own.
fn has_new_initial_refresh_token(credentials: &Credentials, first: Option<&str>) -> bool {
    credentials
        .get(Credential::RefreshToken)
        .is_some_and(|token| !first.is_some_and(|first| fingerprint::matches(first, &[token.expose_secret()])))
}

fn renewal_requested(observed: &Observed) -> Option<Plan> {
    let requested = observed.renew_requested_at.as_ref()?;
    let followed = observed.snapshot()?.provenance.renew_requested_at.as_ref();
    (followed != Some(requested)).then_some(Plan::Renew { reason: Reason::RenewalRequested })
}

/// Tokens that were lost are requested again; labels and annotations that were lost are restored.
fn target_drifted(observed: &Observed) -> Option<Plan> {
    let (snapshot, template) = (observed.snapshot()?, observed.template()?);
    let reason = Reason::TargetDrifted;
    let is_changed = |snapshot: &TargetSnapshot| snapshot.is_changed() || snapshot.times.is_none();
    if is_changed(snapshot) || observed.refresh_token_snapshot().is_some_and(|secret| is_changed(secret)) {
        Some(Plan::Renew { reason })
    } else {
        // A Secret that was retained for an integration with this name is taken over; one that its owner has handed
        // over is then owned like any other.
        let is_of_another = snapshot.integration_uid != observed.uid;
        let is_handed_over =
            snapshot.retained && !template.retained && snapshot.adopt_by.as_deref() == Some(observed.name.as_str());
        // After a crash and a change of the spec, the latest refresh token may be in a Secret that is no longer named.
        let is_left_over = observed.former_refresh_token_secrets().next().is_some();
        (is_of_another || is_handed_over || is_left_over || !snapshot.has_template_metadata(template))
            .then_some(Plan::Rewrite { reason })
    }
}

fn renewal_due(observed: &Observed) -> Option<Plan> {
    let TokenTimes { issued_at, renew_at, .. } = observed.times()?;
    (renew_at <= observed.now || observed.is_in_future(issued_at)).then_some(Plan::Renew { reason: Reason::RenewalDue })
}
