//! All metrics: name, type, labels and meaning. They are registered with these, and the documentation is generated from them.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric as Registrable, Registry};

/// The prefix of all metrics except those of the process.
pub const PREFIX: &str = "oauth_operator";

/// When a series exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Always: the number of series is bounded.
    Always,
    /// One for each integration or provider: only with `--object-metrics`.
    Object,
    /// For the process, without the prefix.
    Process,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name without prefix, and without the suffix of its type.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricType,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, as in the comment of a scrape.
    pub help: &'static str,
    /// When it exists.
    pub scope: Scope,
}

const fn metric(name: &'static str, kind: MetricType, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help, scope: Scope::Always }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    metric(name, MetricType::Gauge, &[], help)
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    metric(name, MetricType::Counter, labels, help)
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    metric(name, MetricType::Histogram, labels, help)
}

const fn of_integration(name: &'static str, help: &'static str) -> Metric {
    Metric { scope: Scope::Object, ..metric(name, MetricType::Gauge, &["namespace", "name"], help) }
}

const fn of_provider(name: &'static str, help: &'static str) -> Metric {
    Metric { scope: Scope::Object, ..metric(name, MetricType::Gauge, &["kind", "namespace", "name"], help) }
}

const fn of_process(name: &'static str, kind: MetricType, help: &'static str) -> Metric {
    Metric { scope: Scope::Process, ..metric(name, kind, &[], help) }
}

macro_rules! metrics {
    ($($id:ident = $metric:expr;)*) => {
        $(pub(crate) const $id: Metric = $metric;)*
        /// All metrics, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    INTEGRATION_READY = of_integration(
        "integration_ready", "1 while the target holds an unexpired token for the current spec (condition Ready)");
    INTEGRATION_FAILING = Metric {
        labels: &["namespace", "name", "reason"],
        ..of_integration(
            "integration_failing",
            "1 while the last attempt has failed, requests are held back, or nothing is sent until something changes")
    };
    INTEGRATION_SUSPENDED = of_integration(
        "integration_suspended", "1 while spec.suspend is true; there is no series for others");
    TOKEN_EXPIRY = of_integration("token_expiry_timestamp_seconds", "When the access token expires, in Unix time");
    TOKEN_LIFETIME = of_integration("token_lifetime_seconds", "The time from the issue of the access token to its expiry");
    TOKEN_RENEWAL = of_integration("token_renewal_timestamp_seconds", "When the next renewal is planned, in Unix time");
    REFRESH_TOKEN_EXPIRY = of_integration(
        "refresh_token_expiry_timestamp_seconds",
        "When the refresh token expires, in Unix time, if the endpoint says so");
    CREDENTIALS_EXPIRY = of_integration(
        "credentials_expiry_timestamp_seconds",
        "When the credentials expire at the provider, in Unix time, if their Secret or their certificate says so");
    PROVIDER_READY = of_provider(
        "provider_ready", "1 while the provider can be used, according to the last check; only on the leader");
    PROVIDER_INTEGRATIONS = of_provider("provider_integrations", "Integrations that use the provider; only on the leader");
    PROVIDER_CREDENTIALS_EXPIRY = of_provider(
        "provider_credentials_expiry_timestamp_seconds",
        "When the credentials of the provider expire, in Unix time, if their Secret or their certificate says so; only on the leader");
    INTEGRATIONS = metric(
        "integrations", MetricType::Gauge, &["ready", "reason"],
        "Integrations that are not being deleted, by status and reason of the condition Ready");
    TOKENS_EXPIRED = gauge(
        "tokens_expired", "Integrations whose token has expired, without those that are suspended or being deleted");
    TOKENS_AT_RISK = gauge(
        "tokens_at_risk",
        "Integrations that have less than a quarter of the lifetime of their token left, and whose renewal has failed or is overdue by a minute; without those that are suspended or being deleted");
    REFRESH_TOKENS_EXPIRED = gauge("refresh_tokens_expired", "Integrations whose refresh token has expired");
    CREDENTIALS_EXPIRED = gauge("credentials_expired", "Integrations whose credentials have expired at the provider");
    NEXT_TOKEN_EXPIRY =
        gauge("next_token_expiry_timestamp_seconds", "The earliest expiry of an access token that has not expired, in Unix time");
    NEXT_REFRESH_TOKEN_EXPIRY =
        gauge("next_refresh_token_expiry_timestamp_seconds", "The earliest expiry of a refresh token that has not expired, in Unix time");
    NEXT_CREDENTIALS_EXPIRY =
        gauge("next_credentials_expiry_timestamp_seconds", "The earliest expiry of credentials that have not expired, in Unix time");
    PROVIDERS = metric(
        "providers", MetricType::Gauge, &["kind", "ready", "reason"],
        "Providers, by kind, and by status and reason of the condition Ready; only on the leader");
    PROVIDER_CREDENTIALS_EXPIRED = metric(
        "provider_credentials_expired", MetricType::Gauge, &["kind"],
        "Providers whose credentials have expired, by kind; only on the leader");
    NEXT_PROVIDER_CREDENTIALS_EXPIRY = metric(
        "next_provider_credentials_expiry_timestamp_seconds", MetricType::Gauge, &["kind"],
        "The earliest expiry of credentials of a provider that have not expired, by kind, in Unix time; only on the leader");
    TOKEN_REQUESTS = counter(
        "token_requests", &["grant", "outcome", "host_class"],
        "Token requests; outcome is Success or the reason of the failure, host_class is cluster for a name without a dot or ending in .svc or .svc.cluster.local, otherwise external");
    TOKEN_REQUEST_DURATION = histogram(
        "token_request_duration_seconds", &["grant"],
        "Time from sending a token request until its response has been read");
    RENEWAL_LATENESS = histogram(
        "renewal_lateness_seconds", &[], "Time from the planned time of a renewal until its token was written");
    RECONCILES = counter("reconciles", &["reason"], "Reconciliations, by decision");
    RECONCILE_DURATION = histogram(
        "reconcile_duration_seconds", &["outcome"],
        "Duration of reconciliations with their requests; outcome is ok or error");
    RECONCILE_ERRORS = counter(
        "reconcile_errors", &["error"],
        "Failed reconciliations, by step; malformed counts integrations that could not be parsed");
    RECONCILES_QUEUED = gauge(
        "reconciles_queued",
        "Integrations that wait until another one of their namespace has been reconciled; only if all namespaces are watched");
    TOKEN_REQUESTS_IN_FLIGHT =
        gauge("token_requests_in_flight", "Token requests in flight, including the reads before them");
    TOKEN_REQUESTS_QUEUED =
        gauge("token_requests_queued", "Integrations that wait for a permit for their token endpoint");
    CIRCUIT_BREAKER_OPEN = metric(
        "circuit_breaker_open", MetricType::Gauge, &["host"],
        "1 for a host whose circuit is open for all namespaces: one request at a time probes it; at most 32 hosts, only on the leader");
    NAMESPACE_CIRCUIT_BREAKERS_OPEN = gauge(
        "namespace_circuit_breakers_open",
        "Circuits that are open for one namespace only, because its own requests failed");
    PENDING_WRITES = gauge(
        "pending_writes",
        "Responses of token endpoints that are not written to their Secret yet; each may be the only copy of a token");
    OLDEST_PENDING_WRITE_AGE = gauge(
        "oldest_pending_write_age_seconds", "How long the oldest of these has been waiting; 0 without one");
    API_REQUESTS = counter(
        "api_requests", &["verb", "resource", "code"],
        "Calls to the API server, by verb and resource in the words of RBAC, and by status code (none: no response)");
    LEADER = gauge("leader", "1 while this instance is the leader");
    LEADER_ELECTIONS = counter(
        "leader_elections", &["outcome"], "How often this instance has become the leader (acquired) or stopped being it (lost)");
    LEASE_RENEWAL = gauge(
        "lease_renewal_timestamp_seconds",
        "When this instance last acquired or renewed the lease, in Unix time; only on the leader");
    WORKLOAD_RESTARTS = counter(
        "workload_restarts", &["outcome"], "Restarts of workloads; outcome is Success or RestartFailed");
    REVOCATIONS = counter("revocations", &["outcome"], "Token revocations; outcome is Success or the reason of the failure");
    REVOCATIONS_DROPPED = counter(
        "revocations_dropped", &["cause"],
        "Revocations after a renewal that are no longer tried: too many are pending (limit), or the integration was deleted (deleted)");
    REVOCATIONS_WAITING = gauge("revocations_waiting", "Pending revocations after a renewal");
    EVENTS_DROPPED = counter(
        "events_dropped", &[], "Events that were not published because there were too many in their namespace");
    LOG_LINES_DROPPED = counter(
        "log_lines_dropped", &[],
        "Lines that were not logged because there were too many for their namespace (20 at once, then one per second)");
    BUILD = metric("build", MetricType::Info, &["version"], "The version of the operator");
    PROCESS_CPU =
        of_process("process_cpu_seconds", MetricType::Counter, "Total user and system CPU time spent in seconds");
    PROCESS_RESIDENT_MEMORY =
        of_process("process_resident_memory_bytes", MetricType::Gauge, "Resident memory size in bytes");
    PROCESS_VIRTUAL_MEMORY =
        of_process("process_virtual_memory_bytes", MetricType::Gauge, "Virtual memory size in bytes");
    PROCESS_THREADS = of_process("process_threads", MetricType::Gauge, "Number of threads");
    PROCESS_OPEN_FDS = of_process("process_open_fds", MetricType::Gauge, "Number of open file descriptors");
    PROCESS_MAX_FDS = of_process("process_max_fds", MetricType::Gauge, "Maximum number of open file descriptors");
    PROCESS_START_TIME = of_process(
        "process_start_time_seconds", MetricType::Gauge, "Start time of the process since Unix epoch in seconds");
}

impl Metric {
    /// Registers a metric that is kept.
    pub(crate) fn register(&self, registry: &mut Registry, metric: impl Registrable) {
        registry.register(self.name, self.help, metric);
    }

    /// Starts to encode a metric that is read at each scrape.
    pub(crate) fn encode<'a>(&'a self, encoder: &'a mut DescriptorEncoder) -> Result<MetricEncoder<'a>, fmt::Error> {
        // With a full stop, as in the descriptors of registered metrics.
        encoder.encode_descriptor(self.name, &format!("{}.", self.help), None, self.kind)
    }

    /// Encodes a gauge without labels.
    pub(crate) fn encode_value(&self, encoder: &mut DescriptorEncoder, value: i64) -> Result<(), fmt::Error> {
        ConstGauge::new(value).encode(self.encode(encoder)?)
    }

    /// The name of its samples in a query; that of a histogram without `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn sample_name(&self) -> String {
        let prefix = if self.scope == Scope::Process { String::new() } else { format!("{PREFIX}_") };
        let suffix = match self.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => "",
        };
        format!("{prefix}{}{suffix}", self.name)
    }
}
