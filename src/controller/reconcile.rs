//! One reconciliation: observe, plan, perform, settle, report.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kube::core::{CustomResourceExt, DeserializeGuard};
use kube::runtime::controller::Action;
use kube::runtime::{controller, watcher};
use kube::{Resource, ResourceExt};
use tracing::{debug, warn};

use crate::api::names::FINALIZER;
use crate::api::spec::OAuthIntegration;
use crate::clock;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::perform::{finalizer, invalid, report};
use crate::controller::queue::GuardedIntegration;
use crate::controller::traces::renewal::RenewalTrace;
use crate::controller::watches::restart::is_crd_missing;
use crate::controller::{observe, perform};
use crate::decision::observed::Observed;
use crate::decision::outcome::Plan;
use crate::decision::plan::plan;
use crate::decision::settle::settle;
use crate::error_report::chain;
use crate::kube_api::errors;

/// The delay after a failed reconciliation, doubled after each consecutive failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The maximum delay.
const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// The maximum delay while the API server is unavailable: short, because due renewals are waiting.
const BACKOFF_MAX_API_UNAVAILABLE: Duration = Duration::from_secs(5);
/// The maximum delay while a write is pending that may hold the only copy of a refresh token.
const BACKOFF_MAX_WRITE_PENDING: Duration = Duration::from_secs(2);

/// A reconciliation without a slot is triggered when a slot is free, and requeued after this time in any case.
const SLOT_RETRY: Duration = Duration::from_secs(5);

pub(crate) type Finished = Result<(), controller::Error<Error, watcher::Error>>;

/// One reconciliation of one integration.
pub(crate) async fn reconcile(watched: Arc<GuardedIntegration>, context: Arc<Context>) -> Result<Action, Error> {
    let slots = context.slots.as_ref();
    let slot = slots.map(|slots| slots.try_acquire(&watched.namespace().unwrap_or_default(), &watched.name_any()));
    if let Some(None) = slot {
        return Ok(Action::requeue(SLOT_RETRY));
    }
    let DeserializeGuard(Ok(integration)) = watched.as_ref() else {
        return handle_invalid_object(&watched, &context).await;
    };
    context.cache_sync.wait_for_all().await;
    let (timer, begun) = (context.metrics.time_reconcile(), SystemTime::now());
    let (observed, reserved) = observe::observe(&context, integration).await?; // reads
    let plan = plan(&observed); // pure
    let trace = begin_trace(&context, integration, &plan, begun);
    let outcome = perform::execute(&context, integration, &observed, &plan, reserved, &trace).await?; // writes
    let settled = settle(&observed, &plan, &outcome, clock::now()); // pure
    let again = report::report(&context, integration, &observed, &settled, &trace).await?; // writes
    trace.end(&outcome);
    record_decision(&context, integration, &observed, &plan);
    timer.succeeded();
    Ok(requeue([settled.next, again].into_iter().flatten().min(), clock::now()))
}

fn begin_trace(context: &Context, integration: &OAuthIntegration, plan: &Plan, begun: SystemTime) -> RenewalTrace {
    let tracer = context.tracer.get();
    RenewalTrace::begin(tracer, (&integration.namespace().unwrap_or_default(), &integration.name_any()), plan, begun)
}

/// Handles an object that the API server accepted but that cannot be parsed: only a change can fix it. Its deletion
/// is not delayed.
async fn handle_invalid_object(watched: &GuardedIntegration, context: &Context) -> Result<Action, Error> {
    let waits = watched.finalizers().iter().any(|name| name == FINALIZER);
    if watched.meta().deletion_timestamp.is_some() && waits && context.leadership.is_leader() {
        finalizer::remove(context, watched).await?;
        return Ok(Action::await_change());
    }
    let message = watched.0.as_ref().err().map(|invalid| invalid.error.clone()).unwrap_or_default();
    let again = invalid::report_invalid(context, watched, &message).await?;
    context.metrics.record_invalid_object();
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

fn record_decision(context: &Context, integration: &OAuthIntegration, observed: &Observed, plan: &Plan) {
    let (Plan::Wait { reason, .. }
    | Plan::Renew { reason }
    | Plan::Rewrite { reason }
    | Plan::Revoke { reason }
    | Plan::Stall { reason, .. }) = plan;
    let namespace = integration.namespace().unwrap_or_default();
    debug!(namespace, name = observed.name, %reason, "decided");
    context.metrics.record_reconcile(*reason);
    context.states.succeeded(&observed.uid);
}

fn requeue(next: Option<Timestamp>, now: Timestamp) -> Action {
    match next {
        Some(next) => Action::requeue(Duration::try_from(next.duration_since(now)).unwrap_or_default()),
        None => Action::await_change(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the applier requires")]
pub(crate) fn error_policy(watched: Arc<GuardedIntegration>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.record_reconcile_error(error);
    let uid = watched.uid().unwrap_or_default();
    let failures = context.states.failed(&uid);
    let max = match error {
        _ if context.states.pending(&uid).is_some() => BACKOFF_MAX_WRITE_PENDING,
        error if error.is_api_server_unavailable() => BACKOFF_MAX_API_UNAVAILABLE,
        _ => BACKOFF_MAX,
    };
    Action::requeue(BACKOFF_MIN.saturating_mul(1 << (failures - 1).min(6)).min(max))
}

pub(crate) fn log(context: &Context, result: &Finished) {
    match result {
        // Not found: deleted between the event and the reconciliation, or not watched. There is nothing left to do.
        Ok(()) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            let (namespace, name) = (object.namespace.as_deref().unwrap_or_default(), &object.name);
            if context.may_log(namespace) {
                warn!(namespace, name, error = chain(error), "failed; will be tried again");
            }
        }
        Err(controller::Error::QueueError(error)) if is_crd_missing(error) => warn!(
            "the API server knows no {}: the CustomResourceDefinition is not installed yet (kubectl apply --server-side -f \
             crds/, or the Helm chart); waiting for it",
            OAuthIntegration::crd_name(),
        ),
        Err(controller::Error::QueueError(error)) => {
            warn!(error = errors::describe(error), "watch failed; will be tried again");
        }
        Err(error) => warn!(error = chain(error), "failed; will be tried again"),
    }
}
