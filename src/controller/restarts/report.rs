//! Events about restarts, on the workload and on the integration; metrics and log lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType};
use tracing::{info, warn};

use crate::api::reason::Reason;
use crate::controller::context::Context;
use crate::controller::restarts::targets::Targets;
use crate::controller::restarts::workload::{Workload, WorkloadId};
use crate::decision::restarts::Cause;
use crate::error_report::chain;
use crate::kube_api::call::with_timeout;

/// The maximum length of the note of an event; the API server allows 1,024 bytes.
const MAX_NOTE: usize = 1_000;

/// A workload, and why it is restarted.
pub(crate) type Due = (WorkloadId, Arc<Workload>, Cause);

/// Reports workloads that were restarted together: one event each, and one for each integration.
pub(crate) async fn restarted(context: &Context, targets: &Targets, all: &[Due]) {
    let mut by_integration: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (id, workload, cause) in all {
        context.metrics.record_restart(None);
        let integrations = cause.secrets.iter().filter_map(|secret| targets.integration(&id.namespace, secret));
        let first = integrations.clone().next().and_then(|name| reference(context, &id.namespace, name));
        for integration in integrations {
            let names = by_integration.entry((&id.namespace, integration)).or_default();
            names.push(format!("{} {}", id.kind.as_str(), id.name));
        }
        let note = format!("restarted, because {} changed", secrets(cause));
        if context.may_log(&id.namespace) {
            info!(namespace = id.namespace, kind = id.kind.as_str(), name = id.name, reason = %Reason::WorkloadRestarted, "{note}");
        }
        publish(context, &workload.reference(id), Reason::WorkloadRestarted, note, first).await;
    }
    for ((namespace, integration), mut names) in by_integration {
        names.dedup();
        let Some(reference) = reference(context, namespace, integration) else { continue };
        let note = format!("restarted {}, which read its target", names.join(", "));
        publish(context, &reference, Reason::WorkloadRestarted, note, None).await;
    }
}

/// Reports that a restart failed.
pub(crate) async fn failed(context: &Context, targets: &Targets, (id, workload, cause): &Due, problem: &str) {
    let integration = cause.secrets.iter().find_map(|secret| targets.integration(&id.namespace, secret));
    let integration = integration.and_then(|name| reference(context, &id.namespace, name));
    let (kind, name) = (id.kind.as_str(), &id.name);
    let note = format!("the restart for {} failed, and is tried again: {problem}", secrets(cause));
    if context.may_log(&id.namespace) {
        warn!(namespace = id.namespace, kind, name, reason = %Reason::RestartFailed, "{note}");
    }
    publish(context, &workload.reference(id), Reason::RestartFailed, note, integration.clone()).await;
    if let Some(reference) = integration {
        let note = format!("the restart of {kind} {name} failed, and is tried again: {problem}");
        publish(context, &reference, Reason::RestartFailed, note, Some(workload.reference(id))).await;
    }
}

/// Reports what is wrong with the annotations of a workload.
pub(crate) async fn problem(context: &Context, id: &WorkloadId, workload: &Workload, reason: Reason, note: String) {
    if context.may_log(&id.namespace) {
        warn!(namespace = id.namespace, kind = id.kind.as_str(), name = id.name, %reason, "{note}");
    }
    publish(context, &workload.reference(id), reason, note, None).await;
}

fn secrets(cause: &Cause) -> String {
    let noun = if cause.secrets.len() == 1 { "Secret" } else { "Secrets" };
    format!("{noun} {}", cause.secrets.join(", "))
}

fn reference(context: &Context, namespace: &str, integration: &str) -> Option<ObjectReference> {
    let watched = context.integrations.find(namespace, integration)?;
    watched.0.as_ref().ok().map(|integration| integration.object_ref(&()))
}

async fn publish(
    context: &Context,
    about: &ObjectReference,
    reason: Reason,
    mut note: String,
    secondary: Option<ObjectReference>,
) {
    let namespace = about.namespace.as_deref().unwrap_or_default();
    if !context.budgets.take_event(namespace, Instant::now()) {
        context.metrics.event_dropped();
        return;
    }
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    let is_warning = reason != Reason::WorkloadRestarted;
    let event = Event {
        type_: if is_warning { EventType::Warning } else { EventType::Normal },
        reason: reason.as_str().to_owned(),
        note: Some(note),
        action: "Restart".to_owned(),
        secondary,
    };
    if let Err(error) = with_timeout(context.recorder().publish(&event, about)).await
        && context.may_log(namespace)
    {
        warn!(namespace, name = about.name, error = chain(&error), "failed to publish event");
    }
}
