//! What is told: the status, and the event.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;
use tracing::{info, warn};

use crate::api::{MANAGER, OAuthIntegration, OAuthIntegrationStatus};
use crate::calls::in_time;
use crate::context::Context;
use crate::error::{Error, chain};
use crate::failpoints::failpoint;
use crate::plan::Observed;
use crate::settle::{Announcement, Settled};
use crate::target;

/// Routine events are told at most so often for each integration, and so long after any other, as client-go's recorder does
/// with a series: the renewals of a short-lived token are all in the metrics, and each costs three API calls rather than four.
const ROUTINE_EVENTS: SignedDuration = SignedDuration::from_mins(30);

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
    failpoint!("after-status");
    if let Some(event) = event {
        announce(context, integration, event, observed.now).await;
    }
    failpoint!("after-report");
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
    if !context.notes.event_is_due(&uid, at, *routine, ROUTINE_EVENTS) {
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
    if let Err(error) = in_time(context.recorder().publish(&event, &reference)).await {
        warn!(error = chain(&error), "failed to publish event");
    }
}
