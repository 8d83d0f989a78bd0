//! Reports the outcome: the status, and the event.

use std::time::{Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;
use tracing::{info, warn};

use crate::api::names::MANAGER;
use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::api::status::OAuthIntegrationStatus;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::traces::renewal::RenewalTrace;
use crate::decision::observed::{InitialRefreshToken, Observed, Sibling};
use crate::decision::outcome::{EventDraft, Settled};
use crate::decision::status::is_ready;
use crate::error_report::chain;
use crate::failpoints::failpoint;
use crate::kube_api::call::{ApiError, with_timeout};
use crate::target::annotations;

/// The minimum interval between a routine event of an integration and its previous event, like the event series of
/// client-go: all renewals of a short-lived token are counted in the metrics, and most cost three API calls instead
/// of four.
const ROUTINE_EVENT_INTERVAL: SignedDuration = SignedDuration::from_mins(30);

/// Writes the status if it changed, then publishes the events. If the namespace has used up its budget and the status
/// can wait, nothing is written, and the time of the next try is returned.
///
/// # Errors
///
/// When the status cannot be written. An event that cannot be published is only logged.
pub async fn report(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    settled: &Settled,
    trace: &RenewalTrace,
) -> Result<Option<Timestamp>, Error> {
    let Settled { status, event, expiry_event, next: _ } = settled;
    if !context.leadership.is_leader() {
        return Ok(None);
    }
    let namespace = integration.namespace().unwrap_or_default();
    if *status != observed.status {
        if can_wait(&observed.status, status)
            && let Some(delay) = context.budgets.status_delay(&namespace, &observed.uid, Instant::now())
        {
            return Ok(SignedDuration::try_from(delay).ok().and_then(|delay| observed.now.checked_add(delay).ok()));
        }
        let begun = SystemTime::now();
        write_status(context, integration, status).await?;
        trace.step("write status", begun, None);
    }
    failpoint!("after-status");
    if let Some(event) = event {
        log_event(context, integration, event, status, trace);
        publish_event(context, integration, event, observed.now).await;
        if let InitialRefreshToken::Spent(sibling) = &observed.initial_refresh_token {
            publish_sibling_event(context, integration, sibling).await;
        }
    }
    if let Some(event) = expiry_event {
        log_event(context, integration, event, status, trace);
        publish_event(context, integration, event, observed.now).await;
    }
    failpoint!("after-report");
    Ok(None)
}

/// Whether a status may be written later. The status after a renewal was admitted together with the renewal, and the
/// expiry of a token must be reported at once. The same is true of a failure, because back-off and `Retry-After` are
/// stored only in the status.
fn can_wait(before: &OAuthIntegrationStatus, after: &OAuthIntegrationStatus) -> bool {
    after.issued_at == before.issued_at
        && after.last_failure == before.last_failure
        && is_ready(after) == is_ready(before)
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
    let namespace = integration.namespace().unwrap_or_default();
    let api = Api::<OAuthIntegration>::namespaced(context.client.clone(), &namespace);
    let patch = StatusPatch {
        types: kube::api::TypeMeta::resource::<OAuthIntegration>(),
        metadata: json!({"name": name, "uid": uid}),
        status,
    };
    let params = PatchParams::apply(MANAGER).force();
    context.count_write(&namespace);
    let mut written = with_timeout(api.patch_status(&name, &params, &Patch::Apply(&patch))).await;
    if written.as_ref().is_err_and(is_undeclared_field) {
        // The CRD is that of an earlier release: a merge patch drops the fields that it does not have.
        context.count_write(&namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        written = with_timeout(api.patch_status(&name, &params, &Patch::Merge(&patch))).await;
    }
    match written {
        Ok(written) => {
            context.states.status_written(&uid, annotations::version(&written.metadata), status.clone());
            Ok(())
        }
        // Deleted, or deleted and created again, in the meantime: there is nothing to report on.
        Err(error) if error.status().is_some_and(|status| status.is_not_found() || status.is_conflict()) => {
            info!(namespace, name, "the integration is gone: status not written");
            Ok(())
        }
        Err(error) => Err(Error::WriteStatus(Box::new(error))),
    }
}

/// Whether the API server rejects an apply because its CRD does not have one of the fields.
fn is_undeclared_field(error: &ApiError) -> bool {
    error.status().is_some_and(|status| status.message.contains("field not declared in schema"))
}

/// One line for each renewal, failure and change. Its fields are documented.
fn log_event(
    context: &Context,
    integration: &OAuthIntegration,
    event: &EventDraft,
    status: &OAuthIntegrationStatus,
    trace: &RenewalTrace,
) {
    let EventDraft { warning, reason, trigger, note, is_routine: _ } = event;
    let (name, namespace) = (integration.name_any(), integration.namespace().unwrap_or_default());
    if !context.may_log(&namespace) {
        return;
    }
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0.to_string());
    let (expires_at, renew_at) = (time(&status.expires_at), time(&status.renew_at));
    let retry_at = status.last_failure.as_ref().map(|last| last.retry_at.0.to_string());
    let trace_id = trace.id();
    if *warning {
        warn!(namespace, name, %reason, %trigger, expires_at, renew_at, retry_at, trace_id, "{note}");
    } else {
        info!(namespace, name, %reason, %trigger, expires_at, renew_at, trace_id, "{note}");
    }
}

async fn publish_event(context: &Context, integration: &OAuthIntegration, event: &EventDraft, at: Timestamp) {
    let EventDraft { warning, reason, trigger, note, is_routine } = event;
    let uid = integration.uid().unwrap_or_default();
    if !context.states.event_is_due(&uid, at, *is_routine, ROUTINE_EVENT_INTERVAL) {
        return;
    }
    let event = Event {
        type_: if *warning { EventType::Warning } else { EventType::Normal },
        reason: reason.as_str().to_owned(),
        note: Some(note.clone()),
        action: trigger.as_str().to_owned(),
        secondary: None,
    };
    let reference = integration.object_ref(&());
    send_event(context, integration, &event, &reference).await;
}

/// The event of the integration that has used the initial refresh token of this one.
async fn publish_sibling_event(context: &Context, integration: &OAuthIntegration, sibling: &Sibling) {
    let name = integration.name_any();
    let event = Event {
        type_: EventType::Warning,
        reason: Reason::RefreshTokenShared.as_str().to_owned(),
        note: Some(format!(
            "OAuthIntegration {name} has the same initial refresh token, and does not send it: obtain a separate refresh token for {name}, or delete one of the two"
        )),
        action: Reason::RefreshTokenShared.as_str().to_owned(),
        secondary: Some(integration.object_ref(&())),
    };
    let reference = ObjectReference {
        name: Some(sibling.name.clone()),
        uid: Some(sibling.uid.clone()),
        resource_version: None,
        ..integration.object_ref(&())
    };
    send_event(context, integration, &event, &reference).await;
}

/// Publishes an event about an object that concerns an integration, within the budget of its namespace.
async fn send_event(context: &Context, integration: &OAuthIntegration, event: &Event, about: &ObjectReference) {
    let namespace = integration.namespace().unwrap_or_default();
    if !context.budgets.take_event(&namespace, Instant::now()) {
        context.metrics.event_dropped();
        return;
    }
    if let Err(error) = with_timeout(context.recorder().publish(event, about)).await
        && context.may_log(&namespace)
    {
        warn!(namespace, name = integration.name_any(), error = chain(&error), "failed to publish event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::LastFailure;
    use crate::decision::status::time;

    fn failed(attempts: i32) -> OAuthIntegrationStatus {
        let at = time(Timestamp::UNIX_EPOCH);
        let failure = LastFailure {
            time: at.clone(),
            reason: "EndpointRateLimited".to_owned(),
            message: "429".to_owned(),
            attempts,
            retry_at: at,
            inputs_hash: String::new(),
        };
        OAuthIntegrationStatus { last_failure: Some(Box::new(failure)), ..OAuthIntegrationStatus::default() }
    }

    #[test]
    fn only_changes_other_than_failures_and_renewals_are_postponed() {
        let before = OAuthIntegrationStatus::default();
        assert!(!can_wait(&before, &failed(1)), "the first failure");
        assert!(!can_wait(&failed(1), &failed(2)), "one more attempt");
        assert!(!can_wait(&failed(1), &before), "a resolved failure");
        let issued = OAuthIntegrationStatus { issued_at: Some(time(Timestamp::UNIX_EPOCH)), ..before.clone() };
        assert!(!can_wait(&before, &issued), "a renewal");
        let generation = OAuthIntegrationStatus { observed_generation: Some(2), ..failed(1) };
        assert!(can_wait(&failed(1), &generation));
    }
}
