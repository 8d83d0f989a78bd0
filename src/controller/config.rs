//! The configuration of the controller, set by the flags.

use std::num::NonZeroU16;

use jiff::SignedDuration;
use url::Url;

use crate::controller::budget::BudgetLimits;
use crate::controller::server::ServerConfig;
use crate::limiter::types::Limits;
use crate::oauth::http::egress::EgressPolicy;
use crate::target::policy::TargetPolicy;

/// The configuration of `run`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The watched namespaces; `None` means all of them together.
    pub scopes: Vec<Option<String>>,
    /// Label selector for the integrations.
    pub selector: Option<String>,
    /// The server for health, readiness and metrics.
    pub server: ServerConfig,
    /// Maximum number of concurrent reconciliations in each scope.
    pub concurrency: NonZeroU16,
    /// Limits of token requests.
    pub limits: Limits,
    /// The minimum interval between two scheduled renewals of one integration.
    pub min_renewal_interval: SignedDuration,
    /// Budgets of writes and events.
    pub budgets: BudgetLimits,
    /// Restricts where requests may be sent; the addresses of the API server are added at startup.
    pub egress: EgressPolicy,
    /// Restricts which target Secrets are allowed.
    pub targets: TargetPolicy,
    /// The memory that the process may use, in bytes; it bounds how many integrations are kept.
    pub memory_limit: usize,
    /// The maximum size of a token response, in bytes.
    pub max_response_size: usize,
    /// The maximum number of rollouts at once, if workloads that opt in are restarted.
    pub restarts_at_once: Option<usize>,
    /// Cluster-scoped providers; `None` if they are not used.
    pub cluster_providers: Option<ClusterProvidersConfig>,
    /// The leader election; `None` if there is only one replica.
    pub election: Option<LeaderElectionConfig>,
    /// Where traces are exported to; `None` if they are not.
    pub traces: Option<Url>,
    /// Name of this process in events and in the lease.
    pub identity: Option<String>,
}

/// Cluster-scoped providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterProvidersConfig {
    /// The namespace of the objects that they name; `None` means the namespace that this process runs in.
    pub namespace: Option<String>,
}

/// The leader election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElectionConfig {
    /// Name of the lease.
    pub name: String,
    /// Its namespace; `None` means the namespace that this process runs in.
    pub namespace: Option<String>,
}

impl Config {
    /// Maximum number of concurrent reconciliations in each scope. Reconciliations that wait for an endpoint are
    /// added to the configured number.
    #[must_use]
    pub fn max_concurrent_reconciles(&self) -> u16 {
        let waiting = u16::try_from(self.limits.total).unwrap_or(u16::MAX);
        self.concurrency.get().saturating_add(waiting)
    }

    /// Whether one controller reconciles several namespaces. If namespaces are watched individually, each has its own
    /// controller.
    #[must_use]
    pub fn shares_reconciliations(&self) -> bool {
        self.scopes.contains(&None)
    }
}
