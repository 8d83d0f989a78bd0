//! The only writer: token request, Secret, status, event; each with a time-out.
//!
//! The order is part of the promise. An answer is held in memory before it is written, and let go only when the Secret
//! has it. The Secret comes before the status, so that the status never tells of a token that is not there. The event
//! comes last, since nothing depends on it.

mod give_back;
mod report;
mod save;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};

use crate::api::{Class, GrantType, MANAGER, OAuthIntegration, Reason};
use crate::cache::HeldAnswer;
use crate::calls::in_time;
use crate::context::Context;
use crate::error::{Error, Failure, KeptToken};
use crate::failpoints::failpoint;
use crate::gate::{Permit, Verdict};
use crate::grant::{self, Granted};
use crate::observe::now;
use crate::plan::{Observed, Plan};
use crate::revocation::GiveBack;
use crate::settle::Outcome;
use crate::target::{self, Content};
use crate::validated::Validated;

pub use give_back::{is_overdue, release};
pub use report::report;
pub use save::flush;
use save::{save, why};

/// Does what was planned.
///
/// # Errors
///
/// When a former target cannot be deleted; what goes wrong with the token is an [`Outcome`].
pub async fn carry_out(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    plan: &Plan,
    permit: Option<Permit>,
) -> Result<Outcome, Error> {
    give_back::mark(context, integration, observed).await?;
    let outcome = match plan {
        Plan::Wait { .. } | Plan::Refuse { .. } => Outcome::Nothing,
        Plan::Renew { reason } => renew(context, integration, observed, *reason, permit).await,
        Plan::Write { .. } => write_again(context, integration, observed).await,
        Plan::GiveBack { .. } => return give_back::all(context, integration, observed).await,
    };
    let in_place =
        matches!(outcome, Outcome::Written(_)) || matches!(plan, Plan::Wait { reason: Reason::TokenValid, .. });
    if in_place {
        delete_former_targets(context, observed).await?;
    }
    Ok(outcome)
}

async fn renew(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    reason: Reason,
    permit: Option<Permit>,
) -> Outcome {
    let (Ok(spec), Some(permit)) = (&observed.spec, permit) else { return Outcome::Nothing };
    if let Err(failure) = rehearse(context, integration, observed, spec).await {
        return Outcome::Failed(failure);
    }
    // Held until the answer is written.
    let Some(_fence) = context.leadership.fence(spec.longest_attempt()).await else { return Outcome::Nothing };
    let count = |grant: GrantType, failure: Option<&Failure>, took| context.metrics.token_request(grant, failure, took);
    failpoint!("before-request");
    let permit = Mutex::new(Some(permit));
    let take = || permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    // What is done with a good answer takes no place at the endpoint.
    let answered = || take().into_iter().for_each(|permit| permit.end(Verdict::Answers));
    let granted = grant::run(&context.http, observed, spec, &count, &answered).await;
    failpoint!("after-answer");
    if let (Some(permit), Some(verdict)) = (take(), verdict(granted.as_ref().err())) {
        permit.end(verdict);
    }
    match granted {
        Ok(granted) => {
            let undone = matches!(reason, Reason::TargetMissing | Reason::TargetDrifted | Reason::CredentialsChanged);
            context.notes.given(&observed.uid, now(), undone);
            let former = give_back::former(integration, observed, &granted.content);
            let held = hold(context, integration, observed, spec, granted, former);
            failpoint!("before-secret");
            save(context, observed, &held, true).await
        }
        Err(failure) => {
            keep(context, integration, observed, spec, &failure).await;
            Outcome::Failed(failure)
        }
    }
}

/// What an attempt tells of the endpoint's host: nothing, where nothing was sent.
fn verdict(failure: Option<&Failure>) -> Option<Verdict> {
    match failure.map(|failure| (failure.reason, failure.reason.class(), failure.retry_after)) {
        Some((_, Class::Configuration, _)) => None,
        Some((Reason::EndpointUnreachable | Reason::RequestTimedOut | Reason::EndpointUnavailable, _, retry_after)) => {
            Some(Verdict::Fails(retry_after))
        }
        _ => Some(Verdict::Answers),
    }
}

/// Before a refresh token is spent, it must be known that its successor can be written. Of a target that was written before,
/// it is; the first write is tried without effect, so that a quota, a policy or a missing right stops the request rather than
/// loses its answer.
async fn rehearse(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    spec: &Validated,
) -> Result<(), Failure> {
    let spends = spec.ask.grant.is_refresh() && observed.refresh_token().is_some();
    if !spends || observed.facts().is_some() {
        return Ok(());
    }
    let namespace = integration.namespace().unwrap_or_default();
    let owner = integration.controller_owner_ref(&()).unwrap_or_default();
    let secret = target::secret(&namespace, &owner, None, &spec.shape, &Content::placeholder(observed.now));
    let params = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    in_time(secrets.create(&params, &secret)).await.map(|_| ()).map_err(|error| {
        let name = &spec.shape.secret_name;
        let why = why(&error, &[]);
        Failure::new(
            Reason::TargetNotWritable,
            format!(
                "Secret {name} could not be written ({why}): no refresh token was sent, whose successor would be lost"
            ),
        )
    })
}

/// Saves the new refresh token of an answer that is of no use otherwise: the next attempt needs it. Where it cannot be
/// written now, it is held like any answer.
async fn keep(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    spec: &Validated,
    failure: &Failure,
) {
    let Some(KeptToken(token)) = &failure.refresh_token else { return };
    if let Some(content) = grant::kept(observed, spec, token.clone(), now()) {
        let held = hold(context, integration, observed, spec, Granted { content, warning: None }, None);
        save(context, observed, &held, false).await;
    }
}

/// Until the Secret has it, this is the only copy in the world.
fn hold(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    spec: &Validated,
    granted: Granted,
    former: Option<(Duration, GiveBack)>,
) -> Arc<HeldAnswer> {
    let held = Arc::new(HeldAnswer { former, ..to_write(integration, spec, granted) });
    context.notes.hold(&observed.uid, Arc::clone(&held));
    held
}

fn to_write(integration: &OAuthIntegration, spec: &Validated, granted: Granted) -> HeldAnswer {
    HeldAnswer {
        namespace: integration.namespace().unwrap_or_default(),
        owner: integration.controller_owner_ref(&()).unwrap_or_default(),
        shape: spec.shape.clone(),
        granted,
        former: None,
    }
}

/// Writes the answer that is held; without one, the tokens that the target has.
async fn write_again(context: &Context, integration: &OAuthIntegration, observed: &Observed) -> Outcome {
    if let Some(held) = context.notes.held(&observed.uid) {
        return match save(context, observed, &held, true).await {
            // All that could be kept of the answer was its refresh token: the attempt itself still has to succeed.
            Outcome::Written(_) if held.granted.content.access_token.is_none() => Outcome::Nothing,
            outcome => outcome,
        };
    }
    let (Ok(spec), Some(content)) = (&observed.spec, &observed.holding.content) else {
        return Outcome::Nothing;
    };
    let granted = Granted { content: grant::rewritten(observed, spec, content), warning: None };
    save(context, observed, &to_write(integration, spec, granted), false).await
}

async fn delete_former_targets(context: &Context, observed: &Observed) -> Result<(), Error> {
    for former in &observed.former_targets {
        if !former.is_owned_by(&observed.uid) {
            continue;
        }
        let secrets = Api::<Secret>::namespaced(context.client.clone(), &former.namespace);
        let preconditions = Preconditions { uid: Some(former.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = in_time(secrets.delete(&former.name, &params)).await;
        match deleted {
            Err(source) if !source.status().is_some_and(|status| status.is_not_found() || status.is_conflict()) => {
                return Err(Error::DeleteFormerTarget { name: former.name.clone(), source: Box::new(source) });
            }
            _ => context.targets.forget(former),
        }
    }
    Ok(())
}
