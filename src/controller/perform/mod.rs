//! The only module that writes: token request, Secret, status, event; each with a timeout.
//!
//! The order matters. A response is held in memory before it is written, and dropped only after the Secret contains
//! it. The Secret is written before the status, so that the status never reports a token that is not stored. The
//! event is last, since nothing depends on it.

pub(crate) mod adopt;
pub(crate) mod finalizer;
pub(crate) mod invalid;
pub(crate) mod report;
pub(crate) mod revoke;
pub(crate) mod save;
pub(crate) mod work;
pub(crate) mod write_error;

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::acquisition;
use crate::acquisition::Acquired;
use crate::acquisition::attempt::IssuedToken;
use crate::acquisition::content;
use crate::acquisition::data;
use crate::acquisition::data::DataError;
use crate::api::names::MANAGER;
use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::clock::now;
use crate::controller::cache::initial_tokens::TokenClaim;
use crate::controller::cache::state::PendingWrite;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::admission::Reserved;
use crate::controller::perform::save::save;
use crate::controller::perform::work::Work;
use crate::controller::perform::write_error::describe_api_error;
use crate::controller::traces::renewal::RenewalTrace;
use crate::decision::observed::Observed;
use crate::decision::outcome::{Outcome, Plan};
use crate::decision::reads::missing_reads;
use crate::decision::status;
use crate::failpoints::failpoint;
use crate::kube_api::call::with_timeout;
use crate::oauth::error::{RequestError, RotatedRefreshToken};
use crate::target::content::TargetContent;
use crate::target::secret;

/// Executes the plan.
///
/// # Errors
///
/// When a previous target cannot be deleted, or a finalizer cannot be written. Failures to obtain or write the token
/// are part of the [`Outcome`].
pub async fn execute(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    plan: &Plan,
    reserved: Option<Reserved>,
    trace: &RenewalTrace,
) -> Result<Outcome, Error> {
    finalizer::sync(context, integration, observed).await?;
    let work = Work::new(context, integration, observed);
    let outcome = match (plan, &work) {
        (Plan::Revoke { .. }, _) => return revoke::all(context, integration, observed, reserved).await,
        // What was not read is not the same as what does not exist.
        (Plan::Renew { .. }, Some(_)) if missing_reads(observed, plan).is_some() => Outcome::Nothing,
        (Plan::Renew { reason }, Some(work)) => renew(work, *reason, reserved, trace).await,
        (Plan::Rewrite { reason: Reason::TargetAdopted }, Some(work)) => adopt::adopt(work).await,
        (Plan::Rewrite { .. }, Some(work)) => rewrite(work).await,
        // The response was requested for a valid spec, and may be the only copy of a refresh token.
        (Plan::Rewrite { reason: Reason::WritePending }, None) => {
            match context.states.pending(&observed.uid) {
                // Not a success: the status is that of an integration without a valid spec.
                Some(pending) => match save(context, observed, &pending, true).await {
                    Outcome::Written(_) => Outcome::Nothing,
                    other => other,
                },
                None => Outcome::Nothing,
            }
        }
        // Without a valid spec there is nothing else to request or write.
        (Plan::Renew { .. } | Plan::Rewrite { .. }, None) | (Plan::Wait { .. } | Plan::Stall { .. }, _) => {
            Outcome::Nothing
        }
    };
    let is_current =
        matches!(outcome, Outcome::Written(_)) || matches!(plan, Plan::Wait { reason: Reason::TokenValid, .. });
    if is_current {
        delete_previous_targets(context, observed).await?;
    }
    Ok(outcome)
}

async fn renew(work: &Work<'_>, reason: Reason, reserved: Option<Reserved>, trace: &RenewalTrace) -> Outcome {
    let Work { context, observed, spec, .. } = *work;
    let Some(Reserved::Request { permit, memory, claim }) = reserved else { return Outcome::Nothing };
    if let Err(error) = dry_run_write(work).await {
        return Outcome::Failed(error);
    }
    // Held until the response is written.
    let Some(_fence) = context.leadership.fence(observed.max_attempt_duration(spec)).await else {
        return Outcome::Nothing;
    };
    failpoint!("before-request");
    let Acquired { result, requests } = acquisition::acquire_token(&context.oauth_client, observed, spec, permit).await;
    drop(memory);
    failpoint!("after-response");
    for request in &requests {
        context.metrics.record_token_request(request, trace.labels());
        trace.request(request);
    }
    match result {
        Ok(issued) => {
            let was_lost = matches!(reason, Reason::TargetMissing | Reason::TargetDrifted | Reason::CredentialsChanged);
            context.states.record_issued(&observed.uid, now(), was_lost);
            let superseded = revoke::superseded(work, &issued.content);
            let pending = work.set_pending(*issued, superseded, claim, planned_at(observed, reason));
            failpoint!("before-secret");
            let begun = SystemTime::now();
            let outcome = save(work.context, work.observed, &pending, true).await;
            trace.step("write Secret", begun, outcome.failure());
            outcome
        }
        Err(error) => {
            context.states.record_requested_pause(&observed.uid, now(), error.retry_after);
            save_rotated_refresh_token(work, &error, claim).await;
            Outcome::Failed(error)
        }
    }
}

/// When a renewal was planned; `None` if it is not one on schedule, or is the first one after a suspension.
fn planned_at(observed: &Observed, reason: Reason) -> Option<Timestamp> {
    let is_on_schedule =
        reason == Reason::RenewalDue && !status::has_reason(&observed.status, status::READY, Reason::Suspended);
    observed.renew_at().filter(|_| is_on_schedule)
}

/// Before a refresh token is sent, it must be certain that its successor can be written. This is assumed for a target
/// that was written before. The first write is tested with a dry run, so that a quota, a policy or a missing
/// permission prevents the request instead of losing its response.
async fn dry_run_write(work: &Work<'_>) -> Result<(), RequestError> {
    let Work { context, observed, spec, namespace, owner, .. } = work;
    if !spec.token_request.grant.is_refresh() || observed.refresh_token().is_none() {
        return Ok(());
    }
    let content = TargetContent::placeholder(observed.now);
    let target = || secret::build_secret(namespace, owner, None, &spec.template, &content, observed.now);
    let target = observed.snapshot().is_none().then(target);
    let is_known = observed.refresh_token_snapshot().is_some();
    let refresh_token =
        secret::build_refresh_token_secret(namespace, owner, None, &spec.template, &content, observed.now);
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    for secret in refresh_token.filter(|_| !is_known).into_iter().chain(target) {
        context.count_write(namespace);
        let params = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
        with_timeout(secrets.create(&params, &secret)).await.map_err(|error| {
            let (name, problem) = (secret.name_any(), describe_api_error(&error, &[]));
            RequestError::new(
                Reason::TargetDryRunFailed,
                format!(
                    "Secret {name} could not be written ({problem}): the refresh token was not sent, because its successor would be lost"
                ),
            )
        })?;
    }
    Ok(())
}

/// Saves the new refresh token of a response that is otherwise unusable: the next attempt needs it. If it cannot be
/// written now, it stays pending like any other response.
async fn save_rotated_refresh_token(work: &Work<'_>, error: &RequestError, claim: Option<TokenClaim>) {
    let Some(RotatedRefreshToken(token)) = &error.refresh_token else { return };
    let content = content::content_with_rotated_refresh_token(work.observed, work.spec, token.clone(), now());
    if let Some(content) = content {
        let pending = work.set_pending(IssuedToken { content, warning: None }, None, claim, None);
        save(work.context, work.observed, &pending, false).await;
    }
}

/// A pending response with the template of the current spec: whoever cannot make the API server accept the Secret of that
/// time can name another one, or change its labels or its type. Former Secrets are deleted after that, so they must not be
/// the ones that get the token.
fn with_current_template(work: &Work<'_>, pending: &Arc<PendingWrite>) -> Arc<PendingWrite> {
    let Work { context, observed, spec, .. } = work;
    if observed.target_not_allowed.is_some() {
        return Arc::clone(pending);
    }
    let current = Arc::new(PendingWrite { template: spec.template.clone(), ..PendingWrite::clone(pending) });
    context.states.set_pending(&observed.uid, Arc::clone(&current));
    current
}

/// Writes the pending response; without one, the stored tokens.
async fn rewrite(work: &Work<'_>) -> Outcome {
    let Work { context, observed, spec, .. } = *work;
    if let Some(pending) = context.states.pending(&observed.uid) {
        let pending = with_current_template(work, &pending);
        return match save(work.context, work.observed, &pending, true).await {
            // Only the refresh token of the response was usable: the attempt itself must still succeed.
            Outcome::Written(_) if pending.issued.content.access_token.is_none() => Outcome::Nothing,
            outcome => outcome,
        };
    }
    let Some(stored) = &observed.stored.content else { return Outcome::Nothing };
    let content = content::rescheduled(observed, spec, stored);
    let data = match data::of_stored(&context.oauth_client, observed, spec, &content).await {
        Ok(data) => data,
        Err(error @ (DataError::NotEvaluated(_) | DataError::RefreshToken)) => {
            return Outcome::Failed(error.explained());
        }
        // A new token is requested instead of reporting this: the author of the spec, who may change the expressions as
        // often as they like, is not necessarily allowed to read the token.
        Err(DataError::Unusable) => {
            context.states.record_lack_of_data(&observed.uid, content.provenance.access_token_hash.as_deref());
            context.triggers.one(&work.namespace, &work.name);
            return Outcome::Nothing;
        }
    };
    let issued = IssuedToken { content: TargetContent { data, ..content }, warning: None };
    context.states.record_rewrite(&observed.uid, now());
    save(work.context, work.observed, &work.to_pending(issued), false).await
}

async fn delete_previous_targets(context: &Context, observed: &Observed) -> Result<(), Error> {
    for previous in &observed.previous_targets {
        let is_kept = previous.is_retained_by_another(&observed.name, &observed.uid)
            // Its refresh token may be the latest one.
            || previous.is_for_refresh_token() && !observed.refresh_tokens_were_read;
        if is_kept || !previous.is_owned_by(&observed.uid) {
            continue;
        }
        let secrets = Api::<Secret>::namespaced(context.client.clone(), &previous.namespace);
        let preconditions = Preconditions { uid: Some(previous.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        context.count_write(&previous.namespace);
        let deleted = with_timeout(secrets.delete(&previous.name, &params)).await;
        match deleted {
            Err(source) if !source.status().is_some_and(|status| status.is_not_found() || status.is_conflict()) => {
                return Err(Error::DeletePreviousTarget { name: previous.name.clone(), source: Box::new(source) });
            }
            _ => context.targets.remove(previous),
        }
    }
    Ok(())
}
