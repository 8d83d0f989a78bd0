//! The only writer: token request, Secret, status, event; each with a time-out.
//!
//! The order is part of the promise. An answer is held in memory before it is written, and let go only when the Secret
//! has it. The Secret comes before the status, so that the status never tells of a token that is not there. The event
//! comes last, since nothing depends on it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::core::response::StatusCause;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;
use tracing::{info, warn};

use crate::api::{GrantType, MANAGER, OAuthIntegration, OAuthIntegrationStatus, Reason};
use crate::cache::HeldAnswer;
use crate::calls::in_time;
use crate::context::Context;
use crate::error::{ApiError, Error, Failure, KeptToken, chain};
use crate::gate::{Permit, Verdict};
use crate::grant::{self, Granted};
use crate::oauth::redact::shown;
use crate::observe::now;
use crate::plan::{Observed, Plan};
use crate::settle::{Announcement, Outcome, Settled, Written};
use crate::target::{self, Content, Facts};
use crate::validated::Validated;

/// Routine events are told at most so often for each integration, as client-go's recorder does with a series: the
/// renewals of a short-lived token are all in the metrics, and each costs three API calls rather than four.
const ROUTINE_EVENTS: SignedDuration = SignedDuration::from_mins(30);

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
    let outcome = match plan {
        Plan::Wait { .. } | Plan::Refuse { .. } => Outcome::Nothing,
        Plan::Renew { reason } => renew(context, integration, observed, *reason, permit).await,
        Plan::Write { .. } => write_again(context, integration, observed).await,
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
    let granted = grant::run(&context.http, observed, spec, &count).await;
    permit.end(verdict(granted.as_ref().err()));
    match granted {
        Ok(granted) => {
            let undone = matches!(reason, Reason::TargetMissing | Reason::TargetDrifted | Reason::CredentialsChanged);
            context.notes.given(&observed.uid, now(), undone);
            let held = hold(context, integration, observed, spec, granted);
            save(context, observed, &held, true).await
        }
        Err(failure) => {
            keep(context, integration, observed, spec, &failure).await;
            Outcome::Failed(failure)
        }
    }
}

/// What an attempt tells of the endpoint's host.
fn verdict(failure: Option<&Failure>) -> Verdict {
    let Some(failure) = failure else { return Verdict::Answers };
    match failure.reason {
        Reason::EndpointUnreachable | Reason::RequestTimedOut | Reason::EndpointUnavailable => {
            Verdict::Fails(failure.retry_after)
        }
        _ => Verdict::Answers,
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
    if spec.ask.grant != GrantType::RefreshToken || observed.facts().is_some() {
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
        let held = hold(context, integration, observed, spec, Granted { content, warning: None });
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
) -> Arc<HeldAnswer> {
    let held = Arc::new(to_write(integration, spec, granted));
    context.notes.hold(&observed.uid, Arc::clone(&held));
    held
}

fn to_write(integration: &OAuthIntegration, spec: &Validated, granted: Granted) -> HeldAnswer {
    HeldAnswer {
        namespace: integration.namespace().unwrap_or_default(),
        owner: integration.controller_owner_ref(&()).unwrap_or_default(),
        shape: spec.shape.clone(),
        granted,
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

async fn save(context: &Context, observed: &Observed, answer: &HeldAnswer, fresh: bool) -> Outcome {
    match write_secret(context, observed.facts(), answer).await {
        Ok(facts) => {
            context.targets.learn(facts);
            context.notes.release(&observed.uid);
            let Granted { content, warning } = &answer.granted;
            Outcome::Written(Written { times: content.times, fresh, warning: *warning })
        }
        Err(error) => {
            let lost = error.status().is_some_and(is_about_another);
            if let (true, Some(facts)) = (lost, observed.facts()) {
                // It is not the Secret that was looked at any more: the next look reads it anew.
                context.targets.forget(facts);
            }
            Outcome::Failed(not_written(&error, answer))
        }
    }
}

/// Whether the API server says that the Secret is gone or another one by now. It calls the uid of another object invalid, as
/// it calls all that a policy does not let through; only the field tells them apart.
fn is_about_another(status: &Status) -> bool {
    let about_uid = |cause: &StatusCause| cause.field == "metadata.uid";
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_conflict() || status.is_not_found() || (status.is_invalid() && causes.any(about_uid))
}

/// The first write is a create; every later one carries the uid of the Secret that was looked at. So there is no gap
/// between the look and the deed in which a Secret of others could be overwritten.
async fn write_secret(context: &Context, known: Option<&Facts>, answer: &HeldAnswer) -> Result<Facts, ApiError> {
    let HeldAnswer { namespace, owner, shape, granted } = answer;
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let known = known.filter(|known| known.name == shape.secret_name);
    let mut secret = target::secret(namespace, owner, known.map(|known| known.uid.as_str()), shape, &granted.content);
    let Some(known) = known else {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        return in_time(secrets.create(&params, &secret)).await.map(|written| Facts::of(&written));
    };
    if known.created {
        adopt(&secrets, known).await?;
    }
    if !context.leadership.leads() {
        // Another may have written since: what is newer stays, and what comes in between is seen.
        let live = Facts::of(&in_time(secrets.get(&known.name)).await?);
        if live.times.is_some_and(|times| times.issued_at > granted.content.times.issued_at) {
            return Ok(live);
        }
        secret.metadata.resource_version = Some(live.version.to_string());
    }
    let params = PatchParams::apply(MANAGER).force();
    let written = in_time(secrets.patch(&known.name, &params, &Patch::Apply(&secret))).await?;
    Ok(Facts::of(&written))
}

/// Turns the ownership of fields that came with the create into that of an apply, as `kubectl` does when it moves to
/// server-side apply: an apply takes away only what an apply has put there, and labels or values may have to go. Once for
/// each Secret, before its second write.
async fn adopt(secrets: &Api<Secret>, known: &Facts) -> Result<(), ApiError> {
    let live = in_time(secrets.get_metadata(&known.name)).await?;
    let mut fields = live.metadata.managed_fields.unwrap_or_default();
    // One entry for each manager and operation may be there; the apply that follows brings the whole set anew.
    let has_apply = fields.iter().any(|entry| is_own(entry, "Apply"));
    fields.retain(|entry| !(has_apply && is_own(entry, "Update")));
    for entry in fields.iter_mut().filter(|entry| is_own(entry, "Update")) {
        entry.operation = Some("Apply".to_owned());
    }
    let patch = json!({"metadata": {
        "uid": known.uid,
        "resourceVersion": live.metadata.resource_version,
        "managedFields": fields,
    }});
    in_time(secrets.patch_metadata(&known.name, &PatchParams::default(), &Patch::Merge(&patch))).await?;
    Ok(())
}

fn is_own(entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry, operation: &str) -> bool {
    entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some(operation)
}

fn not_written(error: &ApiError, answer: &HeldAnswer) -> Failure {
    let content = &answer.granted.content;
    let mut secrets: Vec<(String, SecretString)> = Vec::new();
    secrets.extend(content.access_token.clone().map(|token| ("access_token".to_owned(), token)));
    secrets.extend(content.refresh_token.clone().map(|token| ("refresh_token".to_owned(), token)));
    let name = &answer.shape.secret_name;
    let why = why(error, &secrets);
    Failure::new(
        Reason::TargetNotWritten,
        format!(
            "the token was received but Secret {name} could not be written ({why}); it is kept in memory and written when that is possible"
        ),
    )
}

/// What the API server or the way to it said, without anything secret.
fn why(error: &ApiError, secrets: &[(String, SecretString)]) -> String {
    shown(&error.status().map_or_else(|| chain(error), |status| status.message.clone()), secrets)
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

/// Writes the status, where it changed, then publishes the event.
///
/// # Errors
///
/// When the status cannot be written. An event that cannot be published is only logged.
pub async fn report(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    settled: &Settled,
) -> Result<(), Error> {
    let Settled { status, event, next: _ } = settled;
    if !context.leadership.leads() {
        return Ok(());
    }
    if *status != observed.status {
        write_status(context, integration, status).await?;
    }
    if let Some(event) = event {
        announce(context, integration, event, observed.now).await;
    }
    Ok(())
}

/// The part of an integration that the operator applies.
#[derive(Debug, Serialize)]
struct StatusPatch<'a> {
    #[serde(flatten)]
    types: kube::api::TypeMeta,
    metadata: serde_json::Value,
    status: &'a OAuthIntegrationStatus,
}

async fn write_status(
    context: &Context,
    integration: &OAuthIntegration,
    status: &OAuthIntegrationStatus,
) -> Result<(), Error> {
    let (name, uid) = (integration.name_any(), integration.uid().unwrap_or_default());
    let api = Api::<OAuthIntegration>::namespaced(context.client.clone(), &integration.namespace().unwrap_or_default());
    let patch = StatusPatch {
        types: kube::api::TypeMeta::resource::<OAuthIntegration>(),
        metadata: json!({"name": name, "uid": uid}),
        status,
    };
    let params = PatchParams::apply(MANAGER).force();
    match in_time(api.patch_status(&name, &params, &Patch::Apply(&patch))).await {
        Ok(written) => {
            context.notes.status_written(&uid, target::version(&written.metadata), status.clone());
            Ok(())
        }
        // Deleted, or deleted and made anew, in the meantime: there is nothing to report on.
        Err(error) if error.status().is_some_and(|status| status.is_not_found() || status.is_conflict()) => {
            info!(%name, "the integration is gone: status not written");
            Ok(())
        }
        Err(error) => Err(Error::WriteStatus(Box::new(error))),
    }
}

async fn announce(context: &Context, integration: &OAuthIntegration, event: &Announcement, at: Timestamp) {
    let Announcement { warning, reason, cause, note, routine } = event;
    let uid = integration.uid().unwrap_or_default();
    if *warning {
        warn!(%reason, %cause, "{note}");
    } else {
        info!(%reason, %cause, "{note}");
    }
    if *routine && !context.notes.routine_event_is_due(&uid, at, ROUTINE_EVENTS) {
        return;
    }
    let event = Event {
        type_: if *warning { EventType::Warning } else { EventType::Normal },
        reason: reason.as_str().to_owned(),
        note: Some(note.clone()),
        action: cause.as_str().to_owned(),
        secondary: None,
    };
    let reference = integration.object_ref(&());
    if let Err(error) = in_time(context.recorder.publish(&event, &reference)).await {
        warn!(error = chain(&error), "failed to publish event");
    }
}

/// Writes all answers that are still held, for as long as there is time: the last deed of a process that ends.
pub async fn flush(context: &Context) {
    loop {
        let held = context.notes.all_held();
        if held.is_empty() {
            return;
        }
        for (uid, answer) in held {
            let known = context.targets.of(&uid).into_iter().find(|facts| facts.name == answer.shape.secret_name);
            match write_secret(context, known.as_deref(), &answer).await {
                Ok(_) => context.notes.release(&uid),
                // The namespace is gone, and with it the place and the need for the answer.
                Err(error) if error.status().is_some_and(Status::is_not_found) => {
                    context.notes.release(&uid);
                }
                Err(error) => warn!(error = chain(&error), "failed to write a received token while shutting down"),
            }
        }
        tokio::time::sleep(FLUSH_PAUSE).await;
    }
}

/// Between two attempts to write what is held while shutting down: short, as the grace period is.
const FLUSH_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
