//! Ties the steps together: watch → observe → plan → perform → settle → requeue.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::core::{CustomResourceExt, DeserializeGuard};
use kube::runtime::controller::{self, Action, applier};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::api::{FINALIZER, MANAGER, OAuthIntegration};
use crate::cache::{Named, Notes, Targets};
use crate::clock;
use crate::config::{Config, Election};
use crate::context::{Context, Integrations, Nudges, Synced};
use crate::error::{Error, chain};
use crate::gate::Gate;
use crate::leadership::Leadership;
use crate::lease::Candidate;
use crate::metrics::Metrics;
use crate::oauth;
use crate::oauth::reach::Reach;
use crate::plan::{Observed, Plan, plan};
use crate::revocation::Revocations;
use crate::settle::settle;
use crate::watches::{self, Request, Watched};
use crate::{api_server, observe, perform, server};

/// How long an orderly end may take; the chart's grace period is 30 s.
const GRACE: Duration = Duration::from_secs(25);
/// A received token gets at least this long to reach its Secret, also where the grace is used up.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);
/// First pause after a look that failed, doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Longest such pause while the API server has a bad time: once that is over, what is due has waited long enough.
const LONGEST_PAUSE_IN_BAD_TIME: Duration = Duration::from_secs(5);
/// Longest such pause while an answer is held that may be the only copy of a refresh token.
const LONGEST_PAUSE_WITH_ANSWER: Duration = Duration::from_secs(2);

/// Runs the operator until it is told to end.
///
/// # Errors
///
/// When it cannot be started; once it runs, it goes on whatever happens.
pub async fn run(config: Config, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
    #[cfg(feature = "failpoints")]
    crate::failpoints::arm();
    let mut kube_config = kube::Config::infer().await.map_err(|error| Error::InferKubeConfig(Box::new(error)))?;
    // Each call has its own time-out here, and what is retried is decided here: the client's own retries of up to 15
    // attempts would hold on to a place in the queue.
    kube_config.default_retry = false;
    let host = kube_config.cluster_url.host().map(ToOwned::to_owned);
    let client = Client::try_from(kube_config).map_err(|error| Error::MakeKubeClient(Box::new(error)))?;
    let known = api_server::look(host, &client).await;
    let http = oauth::Client::new(Reach { api_server: known.clone(), ..config.reach.clone() })?;
    let namespace = client.default_namespace().to_owned();
    let integrations = Arc::new(Integrations::default());
    let nudges = Arc::new(Nudges::default());
    let called = Arc::clone(&nudges);
    let gate = Arc::new(Gate::new(config.limits, Box::new(move |caller| called.one(&caller.namespace, &caller.name))));
    let leadership = Arc::new(if config.election.is_some() { Leadership::standby() } else { Leadership::alone() });
    let metrics = Metrics::new(Arc::clone(&integrations), Arc::clone(&gate), Arc::clone(&leadership));
    let context = Arc::new(Context {
        reporter: reporter(&config),
        client: client.clone(),
        revocations: Revocations::new(http.clone(), metrics.revocations.clone()),
        http,
        api_audiences: OnceCell::new(),
        targets: Targets::default(),
        named: Named::default(),
        notes: Notes::default(),
        metrics,
        synced: Synced::new(config.scopes.iter().flat_map(|scope| watches::names(scope.as_deref())).collect()),
        leadership,
        gate,
        nudges,
        integrations,
    });
    let server = tokio::spawn(server::serve(config.listen, Arc::clone(&context)).await?);
    let looking_after = [
        tokio::spawn(run_gate(Arc::clone(&context))),
        tokio::spawn(watch_clock(Arc::clone(&context))),
        tokio::spawn(api_server::keep_looking(known, client)),
    ];
    let (finished, until_finished) = watch::channel(false);
    let election = config.election.clone().map(|election| {
        let candidate = candidate(&context, &election, &namespace, &config);
        tokio::spawn(elect(Arc::clone(&context), candidate, until_finished))
    });
    work(&config, &context, stop).await;
    finished.send_replace(true);
    if let Some(election) = election {
        // A panic in there has been told already; the lease runs out by itself.
        let _ = election.await;
    }
    looking_after.iter().for_each(JoinHandle::abort);
    server.abort();
    info!("stopped");
    Ok(())
}

async fn run_gate(context: Arc<Context>) {
    context.gate.run().await;
}

/// A clock that was set back makes the tokens that are there seem younger than they are; one that was set forward, or went on
/// while the machine was suspended, makes them due before any timer knows.
async fn watch_clock(context: Arc<Context>) {
    clock::watch(|step| {
        warn!(
            seconds = step.as_secs_f64(),
            "the wall clock was set, or the machine suspended: looking at everything again"
        );
        if step.is_negative() {
            context.targets.shift(step);
        }
        context.nudges.all(&context.integrations);
    })
    .await;
}

fn candidate(context: &Context, election: &Election, namespace: &str, config: &Config) -> Candidate {
    let Election { name, namespace: wanted } = election;
    let namespace = wanted.as_deref().unwrap_or(namespace);
    let identity = config.identity.clone().or_else(|| reporter(config).instance).unwrap_or_else(|| MANAGER.to_owned());
    Candidate::new(context.client.clone(), namespace, name, &identity, context.recorder())
}

/// Takes part in the election once the watches are synced: a leader that knows nothing is of no use.
async fn elect(context: Arc<Context>, mut candidate: Candidate, finished: watch::Receiver<bool>) {
    tokio::select! {
        () = context.synced.until_all_done() => {}
        () = stopped(finished.clone()) => return,
    }
    let gained = || context.nudges.all(&context.integrations);
    candidate.campaign(&context.leadership, gained, stopped(finished)).await;
    candidate.release(&context.leadership).await;
}

fn reporter(config: &Config) -> Reporter {
    match &config.identity {
        Some(identity) => Reporter { controller: MANAGER.to_owned(), instance: Some(identity.clone()) },
        None => Reporter::from(MANAGER),
    }
}

/// Works until `stop`, then ends in order: what is in flight is finished, and what was received is written.
async fn work(config: &Config, context: &Arc<Context>, stop: impl Future<Output = ()> + Send) {
    let (stopping, _) = watch::channel(false);
    let mut stores = Vec::new();
    let mut loops = Vec::new();
    for scope in &config.scopes {
        let (store, requests) = watches::requests(context, scope.as_deref(), config.selector.as_deref());
        stores.push(store.clone());
        let requests = requests.take_until(stopped(stopping.subscribe()));
        loops.push(Box::pin(reconcile_all(Arc::clone(context), store, requests, config.looks_at_once())));
    }
    context.integrations.set(stores);
    let mut results = stream::select_all(loops);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(result) = results.next() => log(&result),
        }
    }
    info!("stopping: finishing what is in flight");
    let deadline = Instant::now() + GRACE;
    stopping.send_replace(true);
    // Before the first lists no look gets far enough to have anything in flight.
    if context.synced.missing().is_empty() {
        let finishing = async {
            while let Some(result) = results.next().await {
                log(&result);
            }
        };
        if tokio::time::timeout_at(deadline, finishing).await.is_err() {
            warn!("the time to finish is over");
        }
    }
    if tokio::time::timeout_at(deadline.max(Instant::now() + LAST_ATTEMPT), perform::flush(context)).await.is_err() {
        error!("a received token could not be written before the end");
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error says that the sender is gone, which is an end too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

type Finished = Result<(), controller::Error<Error, watcher::Error>>;

fn reconcile_all(
    context: Arc<Context>,
    store: Store<Watched>,
    requests: impl Stream<Item = Result<Request, watcher::Error>> + Send + 'static,
    concurrency: u16,
) -> impl Stream<Item = Finished> {
    let config = controller::Config::default().concurrency(concurrency);
    let reconcile = |watched: Arc<Watched>, context: Arc<Context>| {
        let task = tokio::spawn(tracing::Instrument::in_current_span(reconcile(watched, context)));
        // A task that panicked counts as a look that failed: it is logged and tried again.
        Box::pin(async move { task.await.unwrap_or(Err(Error::Panicked)) })
    };
    applier(reconcile, retry, context, store, requests, config).map(|result| result.map(|_| ()))
}

/// One look at one integration.
async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, Error> {
    let DeserializeGuard(Ok(integration)) = watched.as_ref() else { return malformed(&watched, &context).await };
    context.synced.until_all_done().await;
    let (observed, permit) = observe::observe(&context, integration).await?; // reads
    let plan = plan(&observed); // pure
    let outcome = perform::carry_out(&context, integration, &observed, &plan, permit).await?; // writes
    let settled = settle(&observed, &plan, &outcome, observe::now()); // pure
    perform::report(&context, integration, &observed, &settled).await?; // writes
    count(&context, &observed, &plan);
    Ok(requeue(settled.next, observe::now()))
}

/// The API server let something through that is no integration: only a change can mend it. Its deletion waits for nobody.
async fn malformed(watched: &Watched, context: &Context) -> Result<Action, Error> {
    let waits = watched.finalizers().iter().any(|name| name == FINALIZER);
    if watched.meta().deletion_timestamp.is_some() && waits && context.leadership.leads() {
        perform::release(context, watched).await?;
        return Ok(Action::await_change());
    }
    let message = watched.0.as_ref().err().map(|invalid| invalid.error.clone()).unwrap_or_default();
    Err(Error::Malformed(message))
}

fn count(context: &Context, observed: &Observed, plan: &Plan) {
    let (Plan::Wait { reason, .. }
    | Plan::Renew { reason }
    | Plan::Write { reason }
    | Plan::GiveBack { reason }
    | Plan::Refuse { reason, .. }) = plan;
    debug!(%reason, "decided");
    context.metrics.reconciled(*reason);
    context.notes.succeeded(&observed.uid);
}

fn requeue(next: Option<Timestamp>, now: Timestamp) -> Action {
    match next {
        Some(next) => Action::requeue(Duration::try_from(next.duration_since(now)).unwrap_or_default()),
        None => Action::await_change(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the applier asks for")]
fn retry(watched: Arc<Watched>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.failed(error);
    if matches!(error, Error::Malformed(_)) {
        return Action::await_change();
    }
    let uid = watched.uid().unwrap_or_default();
    let failures = context.notes.failed(&uid);
    let longest = match error {
        _ if context.notes.held(&uid).is_some() => LONGEST_PAUSE_WITH_ANSWER,
        error if error.is_bad_time() => LONGEST_PAUSE_IN_BAD_TIME,
        _ => LONGEST_PAUSE,
    };
    Action::requeue(FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(6)).min(longest))
}

fn log(result: &Finished) {
    match result {
        // Not found: deleted between the event and the look, or not ours to look after. Nothing is left to do.
        Ok(()) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            warn!(%object, error = chain(error), "failed; will be tried again");
        }
        Err(controller::Error::QueueError(error)) if watches::lacks_crd(error) => warn!(
            "the API server knows no {}: the CustomResourceDefinition is not installed yet (kubectl apply --server-side -f \
             crds/oauthintegrations.yaml, or the Helm chart); waiting for it",
            OAuthIntegration::crd_name(),
        ),
        Err(error) => warn!(error = chain(error), "watch failed; will be tried again"),
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// When the system does not let signals be listened for.
pub fn signals() -> Result<impl Future<Output = ()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::ListenForSignals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::ListenForSignals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
