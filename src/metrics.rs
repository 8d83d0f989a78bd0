//! What can be counted, in the OpenMetrics format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::SignedDuration;
use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::{GrantType, OAuthIntegrationStatus, Reason};
use crate::context::Integrations;
use crate::error::{Error, Failure};
use crate::gate::{Gate, Picture};
use crate::leadership::Leadership;
use crate::status::is_ready;

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

/// The operator's counters. What is known of each integration is not counted but read from the watch at each scrape,
/// so that nothing is kept for it and nothing is left of one that was deleted.
pub struct Metrics {
    registry: Mutex<Registry>,
    token_requests: Family<RequestLabels, Counter>,
    token_request_seconds: Family<GrantLabels, Histogram>,
    reconciles: Family<DecisionLabels, Counter>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    /// Tokens that were given back.
    pub revocations: RevocationCounter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Counts tokens that were given back. Clones share the counter.
#[derive(Clone, Debug, Default)]
pub struct RevocationCounter(Family<OutcomeLabels, Counter>);

impl RevocationCounter {
    /// Counts one.
    pub fn count(&self, failure: Option<&Failure>) {
        let outcome = outcome(failure);
        self.0.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

/// `Success`, or the reason of the failure.
fn outcome(failure: Option<&Failure>) -> &'static str {
    failure.map_or("Success", |failure| failure.reason.as_str())
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// From a healthy endpoint's 20 ms to the longest time-out of 60 s.
const REQUEST_BUCKETS: [f64; 11] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

impl Metrics {
    /// All counters at zero, and a view on the integrations.
    #[must_use]
    pub fn new(integrations: Arc<Integrations>, gate: Arc<Gate>, leadership: Arc<Leadership>) -> Self {
        let mut registry = Registry::with_prefix("oauth_operator");
        let token_requests = Family::default();
        registry.register("token_requests", "Token requests, by grant and by outcome", token_requests.clone());
        let token_request_seconds =
            Family::<GrantLabels, Histogram>::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS));
        registry.register_with_unit(
            "token_request_duration",
            "Time from sending a token request to having read its answer",
            Unit::Seconds,
            token_request_seconds.clone(),
        );
        let reconciles = Family::default();
        registry.register("reconciles", "Looks at an integration, by what was decided", reconciles.clone());
        let reconcile_errors = Family::default();
        registry.register(
            "reconcile_errors",
            "Looks at an integration that failed, by the step",
            reconcile_errors.clone(),
        );
        let revocations = RevocationCounter::default();
        registry.register("revocations", "Tokens that were given back, by outcome", revocations.0.clone());
        registry.register_collector(Box::new(IntegrationMetrics { integrations }));
        registry.register_collector(Box::new(ProcessMetrics { gate, leadership }));
        let registry = Mutex::new(registry);
        Self { registry, token_requests, token_request_seconds, reconciles, reconcile_errors, revocations }
    }

    /// Counts a token request.
    pub fn token_request(&self, grant: GrantType, failure: Option<&Failure>, duration: SignedDuration) {
        let (grant, outcome) = (grant.as_str(), outcome(failure));
        self.token_requests.get_or_create(&RequestLabels { grant, outcome }).inc();
        self.token_request_seconds.get_or_create(&GrantLabels { grant }).observe(duration.as_secs_f64());
    }

    /// Counts a look at an integration.
    pub fn reconciled(&self, reason: Reason) {
        self.reconciles.get_or_create(&DecisionLabels { reason: reason.as_str() }).inc();
    }

    /// Counts a look that failed.
    pub fn failed(&self, error: &Error) {
        self.reconcile_errors.get_or_create(&ErrorLabels { error: error.label() }).inc();
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
    integrations: Arc<Integrations>,
}

impl Collector for IntegrationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let expiry = |status: &OAuthIntegrationStatus| status.expires_at.as_ref().map(|at| at.0.as_second());
        self.gauge(&mut encoder, "token_expiry_timestamp_seconds", "When the access token ends, in Unix time", expiry)?;
        let ready = |status: &OAuthIntegrationStatus| Some(i64::from(is_ready(status)));
        self.gauge(
            &mut encoder,
            "integration_ready",
            "1 while the target holds an unexpired token for the current spec",
            ready,
        )
    }
}

/// What is known of the process itself, read at each scrape.
#[derive(Debug)]
struct ProcessMetrics {
    gate: Arc<Gate>,
    leadership: Arc<Leadership>,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Picture { under_way, waiting, failing } = self.gate.picture();
        let mut gauge = |name: &str, help: &str, value: i64| {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(family)
        };
        gauge("leader", "1 while this process may act", self.leadership.leads().into())?;
        gauge("token_requests_in_flight", "Token requests under way, with the reads before them", count(under_way))?;
        gauge("token_requests_waiting", "Integrations that wait for a place at their token endpoint", count(waiting))?;
        let help = "1 for a host that fails for everyone and is asked by one at a time until it answers";
        let mut family = encoder.encode_descriptor("endpoint_failing", help, None, MetricType::Gauge)?;
        for host in failing {
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
