//! Metrics in the OpenMetrics format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::acquisition::SentRequest;
use crate::api::reason::Reason;
use crate::api::status::OAuthIntegrationStatus;
use crate::controller::error::Error;
use crate::controller::integrations::IntegrationStores;
use crate::decision::status::is_ready;
use crate::election::leadership::Leadership;
use crate::limiter::request_limiter::RequestLimiter;
use crate::limiter::types::LimiterStats;
use crate::oauth::error::RequestError;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    grant: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrantLabels {
    grant: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    error: &'static str,
}

/// The operator's counters. The state of each integration is read from the watch at each scrape, so that nothing is
/// stored per integration, and deleted integrations leave no series.
pub struct Metrics {
    registry: Mutex<Registry>,
    token_requests: Family<RequestLabels, Counter>,
    token_request_seconds: Family<GrantLabels, Histogram>,
    reconciles: Family<DecisionLabels, Counter>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    workload_restarts: Family<OutcomeLabels, Counter>,
    events_dropped: Counter,
    log_lines_dropped: Counter,
    /// Tokens that were revoked.
    pub revocations: RevocationCounter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Counts tokens that were revoked, and those that were not. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct RevocationCounter {
    done: Family<OutcomeLabels, Counter>,
    dropped: Family<CauseLabels, Counter>,
    waiting: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

impl RevocationCounter {
    /// Counts one revocation.
    pub fn count(&self, failure: Option<&RequestError>) {
        let outcome = outcome(failure.map(|failure| failure.reason));
        self.done.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts revocations that are no longer attempted; `cause` is `limit` or `deleted`.
    pub fn dropped(&self, cause: &'static str, number: usize) {
        self.dropped.get_or_create(&CauseLabels { cause }).inc_by(u64::try_from(number).unwrap_or(u64::MAX));
    }

    /// Sets the number of pending revocations.
    pub fn waiting(&self, number: usize) {
        self.waiting.set(count(number));
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("revocations", "Token revocations, by outcome", self.done.clone());
        let help = "Revocations after a renewal that were dropped, by cause";
        registry.register("revocations_dropped", help, self.dropped.clone());
        registry.register("revocations_waiting", "Pending revocations after a renewal", self.waiting.clone());
    }
}

/// The label of an outcome: `Success`, or the reason of the failure.
fn outcome(failure: Option<Reason>) -> &'static str {
    failure.as_ref().map_or("Success", |reason| reason.as_str())
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// From 20 ms, the latency of a healthy endpoint, to 60 s, the maximum timeout.
const REQUEST_BUCKETS: [f64; 11] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

impl Metrics {
    /// All counters at zero, and a view of the integrations.
    #[must_use]
    pub fn new(
        integrations: Arc<IntegrationStores>,
        limiter: Arc<RequestLimiter>,
        leadership: Arc<Leadership>,
    ) -> Self {
        let mut registry = Registry::with_prefix("oauth_operator");
        let token_requests = Family::default();
        registry.register("token_requests", "Token requests, by grant and by outcome", token_requests.clone());
        let token_request_seconds =
            Family::<GrantLabels, Histogram>::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS));
        registry.register_with_unit(
            "token_request_duration",
            "Time from sending a token request to reading its response",
            Unit::Seconds,
            token_request_seconds.clone(),
        );
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciliations, by decision", reconciles.clone());
        let reconcile_errors = Family::default();
        registry.register("reconcile_errors", "Failed reconciliations, by step", reconcile_errors.clone());
        let workload_restarts = Family::default();
        registry.register("workload_restarts", "Restarts of workloads, by outcome", workload_restarts.clone());
        let events_dropped = Counter::default();
        let help = "Events that were not published because there were too many in their namespace";
        registry.register("events_dropped", help, events_dropped.clone());
        let log_lines_dropped = Counter::default();
        let help = "Lines that were not logged because there were too many for their namespace";
        registry.register("log_lines_dropped", help, log_lines_dropped.clone());
        let revocations = RevocationCounter::default();
        revocations.register(&mut registry);
        registry.register_collector(Box::new(IntegrationMetrics { integrations }));
        registry.register_collector(Box::new(ProcessMetrics { limiter, leadership }));
        let registry = Mutex::new(registry);
        Self {
            registry,
            token_requests,
            token_request_seconds,
            reconciles,
            reconcile_errors,
            workload_restarts,
            events_dropped,
            log_lines_dropped,
            revocations,
        }
    }

    /// Counts a token request.
    pub(crate) fn record_token_request(&self, request: &SentRequest) {
        let SentRequest { grant, failure, duration } = request;
        let (grant, outcome) = (grant.as_str(), outcome(*failure));
        self.token_requests.get_or_create(&RequestLabels { grant, outcome }).inc();
        self.token_request_seconds.get_or_create(&GrantLabels { grant }).observe(duration.as_secs_f64());
    }

    /// Counts a reconciliation of an integration.
    pub fn record_reconcile(&self, reason: Reason) {
        self.reconciles.get_or_create(&DecisionLabels { reason: reason.as_str() }).inc();
    }

    /// Counts a failed reconciliation.
    pub fn record_reconcile_error(&self, error: &Error) {
        self.reconcile_errors.get_or_create(&ErrorLabels { error: error.label() }).inc();
    }

    /// Counts a reconciliation of an integration that could not be parsed.
    pub fn record_invalid_object(&self) {
        self.reconcile_errors.get_or_create(&ErrorLabels { error: "malformed" }).inc();
    }

    /// Counts a restart of a workload.
    pub fn record_restart(&self, failure: Option<Reason>) {
        self.workload_restarts.get_or_create(&OutcomeLabels { outcome: outcome(failure) }).inc();
    }

    /// Counts an event that was not published.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Counts a line that was not logged.
    pub fn log_line_dropped(&self) {
        self.log_lines_dropped.inc();
    }

    /// The text for a scrape.
    ///
    /// # Errors
    ///
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct IntegrationMetrics {
    integrations: Arc<IntegrationStores>,
}

impl Collector for IntegrationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let expiry = |status: &OAuthIntegrationStatus| status.expires_at.as_ref().map(|at| at.0.as_second());
        self.gauge(
            &mut encoder,
            "token_expiry_timestamp_seconds",
            "When the access token expires, in Unix time",
            expiry,
        )?;
        let refresh_token =
            |status: &OAuthIntegrationStatus| status.refresh_token_expires_at.as_ref().map(|at| at.0.as_second());
        self.gauge(
            &mut encoder,
            "refresh_token_expiry_timestamp_seconds",
            "When the refresh token expires, in Unix time, if the endpoint says so",
            refresh_token,
        )?;
        let credentials =
            |status: &OAuthIntegrationStatus| status.credentials_expire_at.as_ref().map(|at| at.0.as_second());
        self.gauge(
            &mut encoder,
            "credentials_expiry_timestamp_seconds",
            "When the credentials expire at the provider, in Unix time, if their Secret or their certificate says so",
            credentials,
        )?;
        let ready = |status: &OAuthIntegrationStatus| Some(i64::from(is_ready(status)));
        self.gauge(
            &mut encoder,
            "integration_ready",
            "1 while the target holds an unexpired token for the current spec",
            ready,
        )
    }
}

/// The state of the process itself, read at each scrape.
#[derive(Debug)]
struct ProcessMetrics {
    limiter: Arc<RequestLimiter>,
    leadership: Arc<Leadership>,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let LimiterStats { in_flight, queued, failing_hosts, namespace_circuits } = self.limiter.stats();
        let mut gauge = |name: &str, help: &str, value: i64| {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(family)
        };
        gauge("leader", "1 while this instance is the leader", self.leadership.is_leader().into())?;
        gauge(
            "token_requests_in_flight",
            "Token requests in flight, including the reads before them",
            count(in_flight),
        )?;
        gauge("token_requests_queued", "Integrations queued for a permit for their token endpoint", count(queued))?;
        let help = "Circuits that are open for one namespace only, because its own requests failed";
        gauge("namespace_circuit_breakers_open", help, count(namespace_circuits))?;
        let help =
            "1 for a host whose circuit is open: it fails for several namespaces, and one request at a time probes it";
        let mut family = encoder.encode_descriptor("circuit_breaker_open", help, None, MetricType::Gauge)?;
        for host in failing_hosts {
            ConstGauge::new(1_i64).encode(family.encode_family(&[("host", host)])?)?;
        }
        Ok(())
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl IntegrationMetrics {
    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        help: &str,
        value: impl Fn(&OAuthIntegrationStatus) -> Option<i64>,
    ) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for watched in self.integrations.all() {
            let status = watched.0.as_ref().ok().and_then(|integration| integration.status.as_ref());
            let Some(value) = status.and_then(&value) else { continue };
            let labels = [("namespace", watched.namespace().unwrap_or_default()), ("name", watched.name_any())];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
