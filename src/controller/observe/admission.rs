//! Checks whether a plan can be executed now: expressions, budget of the namespace, permit for the endpoint, memory.
//! Makes no API calls.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use secrecy::ExposeSecret;
use tracing::debug;

use crate::api::spec::OAuthIntegration;
use crate::controller::cache::initial_tokens::TokenClaim;
use crate::controller::checks::Checked;
use crate::controller::context::Context;
use crate::controller::revoker::deletions::DeletionPermit;
use crate::controller::slots::Slot;
use crate::decision::observed::{InitialRefreshToken, Observed, Sibling};
use crate::decision::outcome::Plan;
use crate::decision::plan::plan;
use crate::fingerprint;
use crate::limiter::request_limiter::{Admission, Permit};
use crate::limiter::types::{Delay, Waiter};
use crate::spec::validated::ValidatedSpec;

/// The resources that are acquired before anything is read for a request.
#[derive(Debug)]
pub enum Reserved {
    /// For a token request.
    Request {
        /// The permission to send it; `None` if nothing is sent.
        permit: Option<Permit>,
        /// Memory for its response, which may contain the only copy of a refresh token.
        memory: Option<Slot>,
        /// For the initial refresh token, if that is sent.
        claim: Option<TokenClaim>,
    },
    /// For the revocations of an integration that is being deleted.
    Deletion(#[expect(dead_code, reason = "held until the end of the reconciliation")] DeletionPermit),
}

/// Acquires what the plan needs. If something is not available, `observed` records the reason, which changes the
/// plan: nothing is sent, and nothing is counted as a failure.
pub(crate) fn admit(context: &Context, integration: &OAuthIntegration, observed: &mut Observed) -> Option<Reserved> {
    if let (Plan::Renew { .. }, Ok(spec)) = (plan(observed), observed.spec.clone()) {
        check_expressions(context, integration, observed, &spec);
    }
    // The budget is checked last and charged once: an integration that is queued for a permit is not charged again.
    if !context.limiter.is_waiting(&observed.uid) && observed.throttled_until.is_none() {
        throttle(context, integration, observed);
    }
    let plan = plan(observed);
    if let (Plan::Renew { .. }, Ok(spec)) = (&plan, observed.spec.clone()) {
        return reserve_request(context, integration, observed, &spec);
    }
    context.limiter.cancel(&observed.uid);
    let revokes = observed.spec.as_ref().map_or(true, |spec| spec.revokes_on_deletion());
    if !(matches!(plan, Plan::Revoke { .. }) && revokes) {
        return None;
    }
    // If many integrations are deleted at once, those that wait for a permit read nothing.
    let (namespace, name) = (integration.namespace().unwrap_or_default(), integration.name_any());
    context.revoker.try_acquire_deletion(&namespace, &name).map(Reserved::Deletion)
}

/// Delays a request whose response could not be evaluated: its expressions have not been parsed yet, or too many
/// responses of the namespace are being evaluated. An integration that waits is triggered later.
fn check_expressions(context: &Context, integration: &OAuthIntegration, observed: &mut Observed, spec: &ValidatedSpec) {
    let request = &spec.token_request;
    if !request.needs_worker() {
        return;
    }
    let (namespace, name) = (integration.namespace().unwrap_or_default(), integration.name_any());
    let is_known = context.checks.seen(&observed.uid, request) != Checked::Unknown;
    if !is_known {
        context.checks.start(&namespace, &name, &observed.uid, request);
    }
    if !(is_known && context.oauth_client.sandbox().has_room(&namespace, &name)) {
        observed.delayed = Some(Delay::LimitReached);
    }
}

/// Charges the budget of the namespace for a write that can wait.
fn throttle(context: &Context, integration: &OAuthIntegration, observed: &mut Observed) {
    if !matches!(plan(observed), Plan::Renew { .. } | Plan::Rewrite { .. }) {
        return;
    }
    let namespace = integration.namespace().unwrap_or_default();
    let turn = context.budgets.admit(&namespace, &observed.uid, Instant::now());
    observed.throttled_until = turn.and_then(|turn| to_wall_clock(observed, turn));
    if turn.is_some() {
        debug!(%namespace, "the namespace has used up its budget of writes to the API server");
    }
}

/// A turn of the budget, by the wall clock.
pub(crate) fn to_wall_clock(observed: &Observed, turn: Instant) -> Option<Timestamp> {
    let wait = turn.saturating_duration_since(Instant::now());
    SignedDuration::try_from(wait).ok().and_then(|wait| observed.now.checked_add(wait).ok())
}

/// Claims the initial refresh token, if that is sent. First the claim, and then the look-up: another integration
/// releases its claim only after its Secret is in the cache.
pub(crate) fn claim_initial_token(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &mut Observed,
) -> Option<TokenClaim> {
    let token = observed.initial_refresh_token_to_send()?;
    let namespace = integration.namespace().unwrap_or_default();
    let Some(claim) = context.initial_tokens.claim(&namespace, &token) else {
        context.budgets.refund(&namespace, Instant::now());
        observed.initial_refresh_token = InitialRefreshToken::InUse;
        return None;
    };
    let fingerprint = fingerprint::in_namespace(&namespace, token.expose_secret());
    if let Some((name, uid)) = context.targets.spent_by(&namespace, &observed.uid, &fingerprint) {
        observed.initial_refresh_token = InitialRefreshToken::Spent(Sibling { name, uid });
        return None;
    }
    Some(claim)
}

/// Acquires a permit for the endpoint, and memory for the response.
fn reserve_request(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &mut Observed,
    spec: &ValidatedSpec,
) -> Option<Reserved> {
    let waiter = Waiter {
        namespace: integration.namespace().unwrap_or_default(),
        name: integration.name_any(),
        uid: observed.uid.clone(),
    };
    let Some(host) = spec.host_key(&waiter.namespace) else {
        return Some(Reserved::Request { permit: None, memory: None, claim: None });
    };
    match context.limiter.acquire(&waiter, &host, observed.token_expiry()) {
        Admission::Granted(permit) => {
            let memory = context.responses.try_acquire(&waiter.namespace, &waiter.name);
            if memory.is_none() {
                context.budgets.refund(&waiter.namespace, Instant::now());
                observed.delayed = Some(Delay::NoMemory);
            }
            memory.map(|memory| Reserved::Request { permit: Some(permit), memory: Some(memory), claim: None })
        }
        Admission::Queued(delay) => {
            observed.delayed = Some(delay);
            None
        }
    }
}
