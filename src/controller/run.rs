//! Connects the steps: watch → observe → plan → perform → settle → requeue.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::api::ListParams;
use kube::runtime::controller::applier;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::runtime::{controller, watcher};
use kube::{Api, Client};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::names::MANAGER;
use crate::api::spec::OAuthIntegration;
use crate::clock;
use crate::controller::config::{Config, LeaderElectionConfig};
use crate::controller::context::Context;
use crate::controller::control_runtime::ControlRuntime;
use crate::controller::error::Error;
use crate::controller::heartbeat::Heartbeat;
use crate::controller::perform::save;
use crate::controller::queue::{GuardedIntegration, Request};
use crate::controller::reconcile::{Finished, error_policy, log, reconcile};
use crate::controller::setup::{new_context, reporter};
use crate::controller::traces::export::SHUTDOWN_TIMEOUT;
use crate::controller::{providers, restarts, server, traces, watches};
use crate::election::lease::LeaderElector;
#[cfg(feature = "failpoints")]
use crate::failpoints;

use crate::error_report::chain;
use crate::kube_api::call::with_timeout;
use crate::kube_api::calls::ApiCalls;
use crate::kube_api::{api_server, client};
use crate::oauth::client as oauth_client;
use crate::oauth::http::egress::{Addresses, EgressPolicy};

/// How long a graceful shutdown may take; the chart's grace period is 30 s.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(25);
/// The minimum time for writing received tokens, even if the grace period is used up.
const MIN_FLUSH_TIME: Duration = Duration::from_secs(3);

/// Runs the operator until shutdown.
///
/// # Errors
///
/// When it cannot start. After that, it runs until shutdown.
pub async fn run(config: Config, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
    #[cfg(feature = "failpoints")]
    failpoints::arm();
    Operator::start(config).await?.run(stop).await;
    Ok(())
}

/// Only the API server can parse a label selector. Everything else about the first lists is left to the watches.
async fn check_selector(config: &Config, client: &Client) -> Result<(), Error> {
    let Some(selector) = &config.selector else { return Ok(()) };
    let api: Api<OAuthIntegration> = match config.scopes.first() {
        Some(Some(namespace)) => Api::namespaced(client.clone(), namespace),
        _ => Api::all(client.clone()),
    };
    let params = ListParams::default().labels(selector).limit(1);
    match with_timeout(api.list_metadata(&params)).await {
        Err(error) if error.status().is_some_and(|status| status.code == 400) => {
            Err(Error::InvalidSelector(selector.clone(), chain(&error)))
        }
        _ => Ok(()),
    }
}

/// An operator that serves probes and metrics, and does not reconcile yet.
struct Operator {
    config: Config,
    context: Arc<Context>,
    heartbeat: Arc<Heartbeat>,
    /// Runs the work that must not wait for the main loop: probes, metrics and the lease.
    control: ControlRuntime,
    /// A client for the API server whose connections belong to the control runtime.
    control_client: Client,
    /// The addresses of the API server, to which no token request is sent.
    api_server: Addresses,
    /// Exports traces, on a runtime of its own: the name of a collector that cannot be resolved blocks a thread.
    traces: Option<(SdkTracerProvider, ControlRuntime)>,
}

impl Operator {
    /// Connects to the API server, and starts the server for probes and metrics.
    async fn start(config: Config) -> Result<Self, Error> {
        let mut kube_config = kube::Config::infer().await.map_err(|error| Error::InferKubeConfig(Box::new(error)))?;
        // Each call has its own timeout, and the caller decides about retries: the client's own retries (up to 15)
        // would block the queue.
        kube_config.default_retry = false;
        let host = kube_config.cluster_url.host().map(ToOwned::to_owned);
        let calls = ApiCalls::default();
        let client = connect(kube_config.clone(), &calls)?;
        check_selector(&config, &client).await?;
        let api_server = api_server::discover_addresses(host, &client).await;
        let egress = EgressPolicy { api_server: api_server.clone(), ..config.egress.clone() };
        let oauth_client = oauth_client::Client::new(egress)?.with_max_response_size(config.max_response_size);
        let context = Arc::new(new_context(&config, client, oauth_client, &calls));
        let control = ControlRuntime::start()?;
        let heartbeat = Arc::new(Heartbeat::default());
        let traces = start_traces(&config, &context)?;
        let control_client = serve(&control, &config, &context, &heartbeat, (kube_config, calls)).await?;
        Ok(Self { config, context, heartbeat, control, control_client, api_server, traces })
    }

    /// Reconciles until `stop`; then finishes the reconciliations in flight and releases the lease.
    async fn run(self, stop: impl Future<Output = ()> + Send) {
        let Self { config, context, heartbeat, control, control_client, api_server, traces } = self;
        let mut background = vec![
            tokio::spawn(run_limiter(Arc::clone(&context))),
            tokio::spawn(run_revoker(Arc::clone(&context))),
            tokio::spawn(resync_on_clock_step(Arc::clone(&context))),
            tokio::spawn(api_server::refresh_addresses(api_server, context.client.clone())),
        ];
        background.extend(run_restarts(&config, &context));
        background.push(tokio::spawn(providers::watch::run(Arc::clone(&context), config.scopes.clone())));
        background.push(tokio::spawn(providers::report::run(Arc::clone(&context))));
        let finished = CancellationToken::new();
        let election = config.election.as_ref().map(|election| {
            let namespace = context.client.default_namespace();
            let candidate = candidate(control_client, election, namespace, &config);
            control.spawn(run_leader_election(
                Arc::clone(&context),
                candidate,
                Arc::clone(&heartbeat),
                finished.clone(),
            ))
        });
        run_reconcilers(&config, &context, &heartbeat, stop).await;
        finished.cancel();
        if let Some(election) = election {
            // A panic in the election was already logged, and the lease then expires.
            let _ = election.await;
        }
        background.iter().for_each(JoinHandle::abort);
        if let Some((traces, _runtime)) = traces {
            // Waits for the last batch. A failure was already logged.
            let _ = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(SHUTDOWN_TIMEOUT)).await;
        }
        info!("stopped");
    }
}

/// Starts to export traces, if an endpoint is configured.
fn start_traces(config: &Config, context: &Context) -> Result<Option<(SdkTracerProvider, ControlRuntime)>, Error> {
    let Some(endpoint) = &config.traces else { return Ok(None) };
    let runtime = ControlRuntime::start()?;
    let instance = reporter(config).instance.unwrap_or_else(|| MANAGER.to_owned());
    let provider = traces::export::start(endpoint, &instance, runtime.handle())?;
    // Set once, here.
    let _ = context.tracer.set(provider.tracer(MANAGER));
    Ok(Some((provider, runtime)))
}

/// Connects to the API server. The connections belong to the current runtime.
fn connect(config: kube::Config, calls: &ApiCalls) -> Result<Client, Error> {
    client::connect(config, calls).map_err(|error| Error::MakeKubeClient(Box::new(error)))
}

/// Serves probes and metrics on the control runtime, and returns a client for the API server that belongs to it.
async fn serve(
    control: &ControlRuntime,
    config: &Config,
    context: &Arc<Context>,
    heartbeat: &Arc<Heartbeat>,
    (kube_config, calls): (kube::Config, ApiCalls),
) -> Result<Client, Error> {
    let (server, context, heartbeat) = (config.server.clone(), Arc::clone(context), Arc::clone(heartbeat));
    let started = control.spawn(async move {
        let client = connect(kube_config, &calls)?;
        server::start(&server, context, heartbeat, client.clone()).map(|()| client)
    });
    started.await.unwrap_or(Err(Error::Panicked))
}

/// Watches and restarts workloads, unless restarts are off.
fn run_restarts(config: &Config, context: &Arc<Context>) -> Vec<JoinHandle<()>> {
    let Some(restarts) = &context.restarts else { return Vec::new() };
    let watches = config
        .scopes
        .iter()
        .map(|scope| tokio::spawn(restarts::watch::run(Arc::clone(context), Arc::clone(restarts), scope.clone())));
    watches.chain([tokio::spawn(restarts::run::run(Arc::clone(context), Arc::clone(restarts)))]).collect()
}

async fn run_limiter(context: Arc<Context>) {
    context.limiter.run().await;
}

async fn run_revoker(context: Arc<Context>) {
    let logging = Arc::clone(&context);
    context.revoker.run(Arc::new(move |namespace| logging.may_log(namespace))).await;
}

/// If the clock was set back, stored tokens seem younger than they are; if it was set forward, or the machine was
/// suspended, they may be due before any timer fires.
async fn resync_on_clock_step(context: Arc<Context>) {
    clock::watch_for_steps(|step| {
        warn!(
            seconds = step.as_secs_f64(),
            "the wall clock was set, or the machine suspended: resyncing all integrations"
        );
        if step.is_negative() {
            context.targets.shift_times(step);
        }
        context.reconcile_all();
    })
    .await;
}

fn candidate(client: Client, election: &LeaderElectionConfig, namespace: &str, config: &Config) -> LeaderElector {
    let LeaderElectionConfig { name, namespace: wanted } = election;
    let namespace = wanted.as_deref().unwrap_or(namespace);
    let identity = config.identity.clone().or_else(|| reporter(config).instance).unwrap_or_else(|| MANAGER.to_owned());
    let recorder = Recorder::new(client.clone(), reporter(config));
    LeaderElector::new(client, namespace, name, &identity, recorder)
}

/// Takes part in the election after the caches are synced, because a leader without caches could not renew tokens.
/// While the main loop is stuck, the lease is not renewed and expires.
async fn run_leader_election(
    context: Arc<Context>,
    mut candidate: LeaderElector,
    heartbeat: Arc<Heartbeat>,
    finished: CancellationToken,
) {
    tokio::select! {
        () = context.cache_sync.wait_for_all() => {}
        () = finished.cancelled() => return,
    }
    let on_started_leading = || context.reconcile_all();
    let may_lead = || !heartbeat.is_stalled();
    candidate.campaign(&context.leadership, on_started_leading, may_lead, finished.cancelled()).await;
    candidate.release(&context.leadership).await;
}

/// Reconciles until `stop`, then shuts down gracefully: reconciliations in flight are finished, and received tokens
/// are written.
async fn run_reconcilers(
    config: &Config,
    context: &Arc<Context>,
    heartbeat: &Heartbeat,
    stop: impl Future<Output = ()> + Send,
) {
    let stopping = CancellationToken::new();
    let mut stores = Vec::new();
    let mut loops = Vec::new();
    for scope in &config.scopes {
        let (store, requests) = watches::reconcile_requests(context, scope.as_deref(), config.selector.as_deref());
        stores.push(store.clone());
        let requests = requests.take_until(stopping.clone().cancelled_owned());
        loops.push(Box::pin(reconcile_stream(
            Arc::clone(context),
            store,
            requests,
            config.max_concurrent_reconciles(),
        )));
    }
    context.integrations.set(stores);
    let mut results = stream::select_all(loops);
    let beating = heartbeat.keep();
    tokio::pin!(stop, beating);
    loop {
        tokio::select! {
            () = &mut stop => break,
            // Never completes; polled here, it reports that this loop is alive.
            () = &mut beating => {}
            Some(result) = results.next() => log(context, &result),
        }
    }
    info!("stopping: finishing the reconciliations in flight");
    let deadline = Instant::now() + SHUTDOWN_GRACE_PERIOD;
    stopping.cancel();
    // Before the caches are synced, no reconciliation has anything in flight.
    if context.cache_sync.missing().is_empty() {
        let finishing = async {
            while let Some(result) = results.next().await {
                log(context, &result);
            }
        };
        if tokio::time::timeout_at(deadline, finishing).await.is_err() {
            warn!("the grace period is over: reconciliations in flight were dropped");
        }
    }
    if tokio::time::timeout_at(deadline.max(Instant::now() + MIN_FLUSH_TIME), save::flush(context)).await.is_err() {
        for (_, pending) in context.states.all_pending() {
            let (namespace, name) = (&pending.namespace, &pending.owner.name);
            error!(
                namespace,
                name, "shutting down with unsaved tokens: a received token could not be written to its Secret"
            );
        }
    }
}

fn reconcile_stream(
    context: Arc<Context>,
    store: Store<GuardedIntegration>,
    requests: impl Stream<Item = Result<Request, watcher::Error>> + Send + 'static,
    concurrency: u16,
) -> impl Stream<Item = Finished> {
    let config = controller::Config::default().concurrency(concurrency);
    let reconcile = |watched: Arc<GuardedIntegration>, context: Arc<Context>| {
        let task = tokio::spawn(tracing::Instrument::in_current_span(reconcile(watched, context)));
        // A panic in the task counts as a failed reconciliation: it is logged and retried.
        Box::pin(async move { task.await.unwrap_or(Err(Error::Panicked)) })
    };
    applier(reconcile, error_policy, context, store, requests, config).map(|result| result.map(|_| ()))
}
