//! Reports integrations that could not be parsed: once per generation, on the object itself.

use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, PartialObjectMeta, Patch, PatchParams, TypeMeta};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::warn;

use crate::api::names::MANAGER;
use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::clock::now;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::queue::GuardedIntegration;
use crate::decision::status;
use crate::decision::status::STALLED;
use crate::error_report::chain;
use crate::kube_api::call::with_timeout;

/// Writes the conditions and publishes the event, unless that was already done for this generation. `message` quotes
/// nothing from the object. If the namespace has used up its budget of writes, nothing is done, and the delay before
/// the next try is returned.
///
/// # Errors
///
/// When the status cannot be written. An event that cannot be published is only logged.
pub async fn report_invalid(
    context: &Context,
    watched: &GuardedIntegration,
    message: &str,
) -> Result<Option<Duration>, Error> {
    let (name, namespace) = (watched.name_any(), watched.namespace().unwrap_or_default());
    let uid = watched.uid().unwrap_or_default();
    let generation = watched.meta().generation.unwrap_or_default();
    if !context.leadership.is_leader() || context.states.is_reported_invalid(&uid, generation, message) {
        return Ok(None);
    }
    let checked_at = Instant::now();
    if let Some(turn) = context.budgets.admit(&namespace, &uid, checked_at) {
        return Ok(Some(turn.saturating_duration_since(checked_at)));
    }
    let note = format!("the integration cannot be read and is ignored: {message}");
    let stated = format!("{note}; see {}", Reason::InvalidSpec.page());
    if is_reported(context, &namespace, &name, generation, &stated).await {
        context.states.reported_invalid(&uid, generation, message);
        return Ok(None);
    }
    if context.may_log(&namespace) {
        warn!(%namespace, %name, reason = %Reason::InvalidSpec, "{note}");
    }
    write_conditions(context, watched, generation, &stated).await?;
    context.states.reported_invalid(&uid, generation, message);
    publish(context, watched, note).await;
    Ok(None)
}

/// Whether the status already reports it, for example after a restart or a change of the leader.
async fn is_reported(context: &Context, namespace: &str, name: &str, generation: i64, note: &str) -> bool {
    let resource = ApiResource::erase::<OAuthIntegration>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), namespace, &resource);
    context.count_write(namespace);
    // If the status cannot be read, the problem is reported again.
    with_timeout(api.get(name)).await.is_ok_and(|found| has_condition(&found.data, generation, note))
}

fn has_condition(object: &Value, generation: i64, note: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == STALLED
            && condition["status"] == "True"
            && condition["reason"] == Reason::InvalidSpec.as_str()
            && condition["observedGeneration"] == generation
            && condition["message"] == note
    })
}

async fn write_conditions(
    context: &Context,
    watched: &GuardedIntegration,
    generation: i64,
    note: &str,
) -> Result<(), Error> {
    let (name, namespace) = (watched.name_any(), watched.namespace().unwrap_or_default());
    let types = TypeMeta::resource::<OAuthIntegration>();
    let patch = json!({
        "apiVersion": types.api_version,
        "kind": types.kind,
        "metadata": {"name": name, "uid": watched.uid()},
        "status": status::unreadable(generation, note, now()),
    });
    let api = Api::<PartialObjectMeta<OAuthIntegration>>::namespaced(context.client.clone(), &namespace);
    let params = PatchParams::apply(MANAGER).force();
    context.count_write(&namespace);
    match with_timeout(api.patch_status(&name, &params, &Patch::Apply(&patch))).await {
        Ok(_) => Ok(()),
        // Deleted, or deleted and created again, in the meantime: there is nothing to report on.
        Err(error) if error.status().is_some_and(|status| status.is_not_found() || status.is_conflict()) => Ok(()),
        Err(error) => Err(Error::WriteStatus(Box::new(error))),
    }
}

async fn publish(context: &Context, watched: &GuardedIntegration, note: String) {
    let namespace = watched.namespace().unwrap_or_default();
    if !context.budgets.take_event(&namespace, Instant::now()) {
        context.metrics.event_dropped();
        return;
    }
    let event = Event {
        type_: EventType::Warning,
        reason: Reason::InvalidSpec.as_str().to_owned(),
        note: Some(note),
        action: Reason::InvalidSpec.as_str().to_owned(),
        secondary: None,
    };
    if let Err(error) = with_timeout(context.recorder().publish(&event, &watched.object_ref(&()))).await
        && context.may_log(&namespace)
    {
        warn!(namespace, name = watched.name_any(), error = chain(&error), "failed to publish event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_problem_is_reported_once() {
        let condition = json!({
            "type": "Stalled", "status": "True", "reason": "InvalidSpec", "observedGeneration": 3, "message": "cannot be read",
        });
        let ready = json!({"type": "Ready", "status": "False"});
        let object = json!({"status": {"conditions": [ready, condition]}});
        assert!(has_condition(&object, 3, "cannot be read"));
        assert!(!has_condition(&object, 4, "cannot be read"), "the spec has changed");
        assert!(!has_condition(&object, 3, "another reason"));
        assert!(!has_condition(&json!({"spec": {}}), 3, "cannot be read"));
    }
}
