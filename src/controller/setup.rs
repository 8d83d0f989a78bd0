//! Builds the shared state of the operator from its configuration.

use std::sync::{Arc, OnceLock};

use kube::Client;
use kube::runtime::events::Reporter;
use tokio::sync::OnceCell;
use tracing::warn;

use crate::api::names::MANAGER;
use crate::controller::budget::Budgets;
use crate::controller::cache::initial_tokens::InitialTokens;
use crate::controller::cache::references::SecretReferences;
use crate::controller::cache::state::IntegrationStates;
use crate::controller::cache::targets::TargetCache;
use crate::controller::checks::Checks;
use crate::controller::config::Config;
use crate::controller::context::Context;
use crate::controller::integrations::IntegrationStores;
use crate::controller::memory::MemoryBound;
use crate::controller::metrics::counters::Metrics;
use crate::controller::observe::key_files;
use crate::controller::providers;
use crate::controller::providers::checks::ProviderChecks;
use crate::controller::providers::secrets::ProviderSecrets;
use crate::controller::providers::store::Providers;
use crate::controller::queue::ReconcileTriggers;
use crate::controller::readiness::CacheSync;
use crate::controller::restarts;
use crate::controller::restarts::shared::Restarts;
use crate::controller::restarts::workload::Workloads;
use crate::controller::revoker::Revoker;
use crate::controller::slots::NamespaceSlots;
use crate::controller::watches;
use crate::controller::watches::share::Shares;
use crate::election::leadership::Leadership;
use crate::kube_api::calls::ApiCalls;
use crate::limiter::request_limiter::RequestLimiter;
use crate::limiter::types::Waiter;
use crate::oauth::client as oauth_client;

/// Creates the context of an operator that has not started yet.
pub(crate) fn new_context(
    config: &Config,
    client: Client,
    oauth_client: oauth_client::Client,
    calls: &ApiCalls,
) -> Context {
    let own = || client.default_namespace().to_owned();
    let provider_namespace =
        config.cluster_providers.as_ref().map(|providers| providers.namespace.clone().unwrap_or_else(own));
    let integrations = Arc::new(IntegrationStores::default());
    let triggers = Arc::new(ReconcileTriggers::default());
    let trigger = || {
        let triggers = Arc::clone(&triggers);
        move |namespace: &str, name: &str| triggers.one(namespace, name)
    };
    oauth_client.sandbox().call(Arc::new(trigger()));
    let wake = trigger();
    let wake_waiter = move |waiter: &Waiter| wake(&waiter.namespace, &waiter.name);
    let limiter = Arc::new(RequestLimiter::new(config.limits, Box::new(wake_waiter)));
    let leadership =
        Arc::new(if config.election.is_some() { Leadership::standby() } else { Leadership::without_election() });
    let metrics = Metrics::new(config.server.object_metrics, calls);
    let slots = config.shares_reconciliations().then(|| {
        let total = config.max_concurrent_reconciles().into();
        Arc::new(NamespaceSlots::new(total, true, Box::new(trigger())))
    });
    let several_namespaces = config.limits.several_namespaces;
    let responses = NamespaceSlots::new(response_slots(config), several_namespaces, Box::new(trigger()));
    Context {
        reporter: reporter(config),
        client,
        revoker: Revoker::new(oauth_client.clone(), metrics.revocations.clone(), Box::new(trigger())),
        checks: Checks::new(oauth_client.clone(), Arc::clone(&triggers)),
        oauth_client,
        api_audiences: OnceCell::new(),
        target_policy: config.targets.clone(),
        targets: TargetCache::new(MemoryBound::of_targets(config.memory_limit, several_namespaces)),
        initial_tokens: InitialTokens::default(),
        secret_references: SecretReferences::default(),
        providers: Providers::default(),
        provider_secrets: ProviderSecrets::default(),
        provider_checks: ProviderChecks::default(),
        shares: Shares::new(MemoryBound::of_integrations(config.memory_limit, several_namespaces)),
        states: IntegrationStates::default(),
        budgets: Budgets::new(config.budgets),
        settings_hash: config.egress.fingerprint().into(),
        min_renewal_interval: config.min_renewal_interval,
        metrics,
        tracer: OnceLock::new(),
        cache_sync: CacheSync::new(
            config
                .scopes
                .iter()
                .flat_map(|scope| watches::names(scope.as_deref()))
                .chain(providers::watch::names(&config.scopes, provider_namespace.as_deref()))
                .collect(),
        ),
        provider_namespace,
        leadership,
        limiter,
        responses: Arc::new(responses),
        slots,
        key_derivation: key_files::queue(),
        restarts: config.restarts_at_once.map(|at_once| Arc::new(new_restarts(config, at_once))),
        triggers,
        integrations,
    }
}

fn new_restarts(config: &Config, at_once: usize) -> Restarts {
    let watches = config.scopes.iter().flat_map(|scope| restarts::watch::names(scope.as_deref()));
    Restarts {
        workloads: Workloads::default(),
        sync: CacheSync::new(watches.collect()),
        at_once,
        several_namespaces: config.limits.several_namespaces,
    }
}

/// The reporter of events: the identity of this replica.
pub(crate) fn reporter(config: &Config) -> Reporter {
    match &config.identity {
        Some(identity) => Reporter { controller: MANAGER.to_owned(), instance: Some(identity.clone()) },
        None => Reporter::from(MANAGER),
    }
}

/// How many responses fit into memory at the same time.
fn response_slots(config: &Config) -> usize {
    let (responses, max_in_flight) = (oauth_client::responses_at_once(config.max_response_size), config.limits.total);
    if responses < max_in_flight {
        warn!(
            responses,
            max_in_flight,
            "there is memory for fewer responses of --max-response-size than requests may be in flight: some requests wait for memory before they are sent"
        );
    }
    responses
}
