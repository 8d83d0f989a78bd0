//! The clients, caches and limits that all parts of the operator share.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use jiff::SignedDuration;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, ResourceExt};
use opentelemetry_sdk::trace::SdkTracer;
use tokio::sync::OnceCell;
use tracing::warn;

use crate::api::provider::ProviderKind;
use crate::controller::budget::Budgets;
use crate::controller::cache::initial_tokens::InitialTokens;
use crate::controller::cache::references::SecretReferences;
use crate::controller::cache::state::IntegrationStates;
use crate::controller::cache::targets::TargetCache;
use crate::controller::checks::Checks;
use crate::controller::integrations::IntegrationStores;
use crate::controller::metrics::counters::Metrics;
use crate::controller::providers::checks::{CheckResult, ProviderChecks};
use crate::controller::providers::secrets::ProviderSecrets;
use crate::controller::providers::store::{ProviderKey, Providers};
use crate::controller::queue::ReconcileTriggers;
use crate::controller::readiness::CacheSync;
use crate::controller::restarts::shared::Restarts;
use crate::controller::revoker::Revoker;
use crate::controller::slots::NamespaceSlots;
use crate::controller::watches::share::Shares;
use crate::election::leadership::Leadership;
use crate::limiter::fair_queue::FairQueue;
use crate::limiter::request_limiter::RequestLimiter;
use crate::oauth::client as oauth_client;
use crate::target::policy::TargetPolicy;

/// The clients, caches and limits that all reconciliations share.
pub struct Context {
    /// The client for the API server.
    pub client: Client,
    /// The client for token endpoints.
    pub oauth_client: oauth_client::Client,
    /// The audiences of the API server's own tokens, after they were requested.
    pub api_audiences: OnceCell<Vec<String>>,
    /// Restricts which target Secrets are allowed.
    pub target_policy: TargetPolicy,
    /// Revokes tokens.
    pub revoker: Revoker,
    /// The Secrets that the operator has written.
    pub targets: TargetCache,
    /// The initial refresh tokens that are being used.
    pub initial_tokens: InitialTokens,
    /// The Secrets that integrations reference.
    pub secret_references: SecretReferences,
    /// The providers, and who uses them.
    pub providers: Providers,
    /// The Secrets of providers that were just read.
    pub provider_secrets: ProviderSecrets,
    /// The providers whose status is to be written.
    pub provider_checks: ProviderChecks,
    /// The namespace of the Secrets of cluster-scoped providers; `None` if those are not used.
    pub provider_namespace: Option<String>,
    /// The memory of the integrations of each namespace.
    pub shares: Shares,
    /// The state of each integration between reconciliations.
    pub states: IntegrationStates,
    /// Whether the expressions of each integration can be parsed.
    pub checks: Checks,
    /// The budgets of writes, events and log lines of each namespace.
    pub budgets: Budgets,
    /// Hash of the settings on which the result of an attempt depends: where requests may be sent.
    pub settings_hash: Arc<str>,
    /// The minimum interval between two scheduled renewals of one integration.
    pub min_renewal_interval: SignedDuration,
    /// The reporter of events.
    pub reporter: Reporter,
    /// The metrics.
    pub metrics: Metrics,
    /// Where traces of renewals begin; unset if they are not exported.
    pub tracer: OnceLock<SdkTracer>,
    /// Which watches have received their initial list.
    pub cache_sync: CacheSync,
    /// Whether this process is the leader.
    pub leadership: Arc<Leadership>,
    /// Limits the requests to token endpoints.
    pub limiter: Arc<RequestLimiter>,
    /// The concurrent reconciliations, shared by namespace; `None` if each namespace has its own controller.
    pub slots: Option<Arc<NamespaceSlots>>,
    /// Memory for the responses of token endpoints, one slot per response.
    pub responses: Arc<NamespaceSlots>,
    /// The turns of namespaces to derive keys from passphrases.
    pub key_derivation: FairQueue,
    /// The workloads that are restarted after renewals; `None` if restarts are off.
    pub restarts: Option<Arc<Restarts>>,
    /// Triggers reconciliations.
    pub triggers: Arc<ReconcileTriggers>,
    /// The watched integrations.
    pub integrations: Arc<IntegrationStores>,
}

impl Context {
    /// Reconciles all integrations of all watched namespaces, and checks all providers.
    pub fn reconcile_all(&self) {
        self.provider_checks.forget_written();
        self.providers.forget_trust();
        for kind in [ProviderKind::Namespaced, ProviderKind::Cluster] {
            self.providers.all(kind, None).iter().for_each(|provider| self.provider_checks.request(provider));
        }
        for watched in self.integrations.all() {
            self.triggers.one(&watched.namespace().unwrap_or_default(), &watched.name_any());
        }
    }

    /// The providers that this instance has checked; none if it is not the leader.
    pub(crate) fn checked_providers(&self) -> Vec<(ProviderKey, CheckResult)> {
        if self.leadership.is_leader() { self.provider_checks.results() } else { Vec::new() }
    }

    /// A new recorder of events. A shared recorder would keep each event for some minutes to aggregate repetitions: 4
    /// KB per integration, although events are not repeated.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.client.clone(), self.reporter.clone())
    }

    /// Counts a write to the API server for a namespace.
    pub fn count_write(&self, namespace: &str) {
        self.budgets.spend_write(namespace, Instant::now());
    }

    /// Whether a namespace may log another line, so that a namespace whose integrations keep failing does not flood
    /// the log. The number of omitted lines is logged with the next line.
    #[must_use]
    pub fn may_log(&self, namespace: &str) -> bool {
        let omitted = self.budgets.take_warning(namespace, Instant::now());
        match omitted {
            Some(0) => {}
            Some(lines) => warn!(namespace, lines, "omitted log lines of this namespace: there were too many"),
            None => self.metrics.log_line_dropped(),
        }
        omitted.is_some()
    }
}
