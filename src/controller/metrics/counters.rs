//! What is counted and measured while the operator works.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use jiff::SignedDuration;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::acquisition::SentRequest;
use crate::api::reason::Reason;
use crate::controller::error::Error;
use crate::controller::metrics::reference;
use crate::controller::metrics::reference::PREFIX;
use crate::kube_api::calls::ApiCalls;
use crate::oauth::error::RequestError;

/// From 20 ms, the latency of a healthy endpoint, to 60 s, the maximum timeout.
const REQUEST_BUCKETS: [f64; 11] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// From a renewal on time to one after an outage of hours.
const LATENESS_BUCKETS: [f64; 11] = [0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];
/// From a decision without any call to a request that times out.
const RECONCILE_BUCKETS: [f64; 9] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    grant: &'static str,
    outcome: &'static str,
    host_class: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Links a sample to a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TraceLabels {
    /// The trace ID, as 32 hex digits.
    pub trace_id: String,
}

/// What is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Whether there are series for each integration and provider.
    pub(crate) has_objects: bool,
    token_requests: Family<RequestLabels, Counter>,
    token_request_seconds:
        Family<GrantLabels, HistogramWithExemplars<TraceLabels>, fn() -> HistogramWithExemplars<TraceLabels>>,
    renewal_lateness: Histogram,
    reconciles: Family<DecisionLabels, Counter>,
    reconcile_seconds: Family<OutcomeLabels, Histogram, fn() -> Histogram>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    workload_restarts: Family<OutcomeLabels, Counter>,
    events_dropped: Counter,
    log_lines_dropped: Counter,
    /// Tokens that were revoked.
    pub revocations: RevocationCounter,
}

/// Counts tokens that were revoked, and those that were not. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct RevocationCounter {
    done: Family<OutcomeLabels, Counter>,
    dropped: Family<CauseLabels, Counter>,
    waiting: Gauge,
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
        reference::REVOCATIONS.register(registry, self.done.clone());
        reference::REVOCATIONS_DROPPED.register(registry, self.dropped.clone());
        reference::REVOCATIONS_WAITING.register(registry, self.waiting.clone());
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

impl Metrics {
    /// All counters at zero. `has_objects`: whether there are series for each integration and provider.
    #[must_use]
    pub fn new(has_objects: bool, api_calls: &ApiCalls) -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix(PREFIX)),
            has_objects,
            token_requests: Family::default(),
            token_request_seconds: Family::new_with_constructor(|| {
                HistogramWithExemplars::new(REQUEST_BUCKETS.into_iter())
            }),
            renewal_lateness: Histogram::new(LATENESS_BUCKETS),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| Histogram::new(RECONCILE_BUCKETS)),
            reconcile_errors: Family::default(),
            workload_restarts: Family::default(),
            events_dropped: Counter::default(),
            log_lines_dropped: Counter::default(),
            revocations: RevocationCounter::default(),
        };
        metrics.register(api_calls);
        metrics
    }

    fn register(&self, api_calls: &ApiCalls) {
        let registry = &mut self.registry();
        reference::TOKEN_REQUESTS.register(registry, self.token_requests.clone());
        reference::TOKEN_REQUEST_DURATION.register(registry, self.token_request_seconds.clone());
        reference::RENEWAL_LATENESS.register(registry, self.renewal_lateness.clone());
        reference::RECONCILES.register(registry, self.reconciles.clone());
        reference::RECONCILE_DURATION.register(registry, self.reconcile_seconds.clone());
        reference::RECONCILE_ERRORS.register(registry, self.reconcile_errors.clone());
        reference::API_REQUESTS.register(registry, api_calls.family().clone());
        reference::WORKLOAD_RESTARTS.register(registry, self.workload_restarts.clone());
        reference::EVENTS_DROPPED.register(registry, self.events_dropped.clone());
        reference::LOG_LINES_DROPPED.register(registry, self.log_lines_dropped.clone());
        self.revocations.register(registry);
        reference::BUILD.register(registry, Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") }));
    }

    /// Counts a token request.
    pub(crate) fn record_token_request(&self, request: &SentRequest, trace: Option<TraceLabels>) {
        let SentRequest { grant, failure, duration, host_class, sent_at: _, host: _ } = request;
        let (grant, outcome, host_class) = (grant.as_str(), outcome(*failure), host_class.as_str());
        self.token_requests.get_or_create(&RequestLabels { grant, outcome, host_class }).inc();
        let histogram = self.token_request_seconds.get_or_create(&GrantLabels { grant });
        histogram.observe(duration.as_secs_f64(), trace, Some(SystemTime::now()));
    }

    /// Records how late a token was written. A renewal before its time is not late.
    pub(crate) fn record_lateness(&self, late: SignedDuration) {
        self.renewal_lateness.observe(late.as_secs_f64().max(0.0));
    }

    /// Counts a reconciliation of an integration.
    pub fn record_reconcile(&self, reason: Reason) {
        self.reconciles.get_or_create(&DecisionLabels { reason: reason.as_str() }).inc();
    }

    /// Starts to measure the duration of a reconciliation.
    pub(crate) fn time_reconcile(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { metrics: self, begun: Instant::now(), outcome: "error" }
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

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records the duration of a reconciliation when it is dropped, as a failure unless it has succeeded.
pub(crate) struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    begun: Instant,
    outcome: &'static str,
}

impl ReconcileTimer<'_> {
    /// Ends a reconciliation that has succeeded.
    pub(crate) fn succeeded(mut self) {
        self.outcome = "ok";
    }
}

impl Drop for ReconcileTimer<'_> {
    fn drop(&mut self) {
        let labels = OutcomeLabels { outcome: self.outcome };
        self.metrics.reconcile_seconds.get_or_create(&labels).observe(self.begun.elapsed().as_secs_f64());
    }
}

/// A number as the value of a gauge.
pub(crate) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
