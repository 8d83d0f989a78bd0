//! From an answer to its Secret.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::core::response::StatusCause;
use secrecy::SecretString;
use serde_json::json;
use tracing::warn;

use crate::api::{MANAGER, Reason};
use crate::cache::HeldAnswer;
use crate::calls::in_time;
use crate::context::Context;
use crate::error::{ApiError, Failure, chain};
use crate::failpoints::failpoint;
use crate::grant::Granted;
use crate::oauth::redact::shown;
use crate::plan::Observed;
use crate::settle::{Outcome, Written};
use crate::target::{self, Facts, Fields};

/// Between two attempts to write what is held while shutting down: short, as the grace period is.
const FLUSH_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Writes an answer, and lets it go once the Secret has it.
pub(super) async fn save(context: &Context, observed: &Observed, answer: &HeldAnswer, fresh: bool) -> Outcome {
    match write_secret(context, observed.facts(), answer).await {
        Ok(facts) => {
            // One that was kept for an integration of this name was known as that of the one before.
            if let Some(before) = observed.facts().filter(|before| before.integration_uid != facts.integration_uid) {
                context.targets.forget(before);
            }
            context.targets.learn(facts);
            context.notes.release(&observed.uid);
            // Not before its successor is where the workloads look.
            if let Some((after, deed)) = answer.former.clone() {
                context.revocations.later(after, deed);
            }
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
    let HeldAnswer { namespace, owner, shape, granted, former: _ } = answer;
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let known = known.filter(|known| known.name == shape.secret_name);
    let mut secret = target::secret(namespace, owner, known.map(|known| known.uid.as_str()), shape, &granted.content);
    let Some(known) = known else {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        return in_time(secrets.create(&params, &secret)).await.map(|written| Facts::of(&written));
    };
    if known.created && known.fields.lose_any_to(Fields::of(&secret)) {
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
    failpoint!("after-secret");
    Ok(Facts::of(&written))
}

/// Turns the ownership of fields that came with the create into that of an apply, as `kubectl` does when it moves to
/// server-side apply: an apply takes away only what an apply has put there. At most once for each Secret, before the first
/// write that takes a field away.
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

fn is_own(entry: &ManagedFieldsEntry, operation: &str) -> bool {
    entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some(operation)
}

fn not_written(error: &ApiError, answer: &HeldAnswer) -> Failure {
    let content = &answer.granted.content;
    let mut secrets: Vec<(String, SecretString)> = Vec::new();
    secrets.extend(content.access_token.clone().map(|token| ("access_token".to_owned(), token)));
    secrets.extend(content.refresh_token.clone().map(|token| ("refresh_token".to_owned(), token)));
    secrets.extend(content.dpop_key.clone().map(|key| ("dpop_key".to_owned(), key)));
    secrets.extend(content.extra.clone());
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
pub(super) fn why(error: &ApiError, secrets: &[(String, SecretString)]) -> String {
    shown(&error.status().map_or_else(|| chain(error), |status| status.message.clone()), secrets)
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
