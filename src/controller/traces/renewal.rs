//! The trace of one renewal: a span for it, and one for each of its steps. Without an exporter, nothing is done.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context as SpanContext, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use crate::acquisition::SentRequest;
use crate::api::reason::Reason;
use crate::controller::metrics::counters::TraceLabels;
use crate::decision::outcome::{Outcome, Plan};

/// The trace of a renewal, if it is traced.
#[derive(Debug)]
pub(crate) struct RenewalTrace {
    started: Option<(SdkTracer, SpanContext)>,
}

impl Drop for RenewalTrace {
    /// Dropped before its end, the renewal has failed in a step of the operator itself, such as a write of the status.
    fn drop(&mut self) {
        if let Some((_, context)) = self.started.take() {
            context.span().set_status(Status::error("failed; will be tried again"));
        }
    }
}

impl RenewalTrace {
    /// Begins a trace if the plan is a renewal. `begun` is when its inputs began to be read.
    pub(crate) fn begin(
        tracer: Option<&SdkTracer>,
        (namespace, name): (&str, &str),
        plan: &Plan,
        begun: SystemTime,
    ) -> Self {
        let (Some(tracer), Plan::Renew { reason }) = (tracer, plan) else { return Self { started: None } };
        let attributes = [
            KeyValue::new("k8s.namespace.name", namespace.to_owned()),
            KeyValue::new("oauth_operator.integration", name.to_owned()),
            KeyValue::new("oauth_operator.trigger", reason.as_str()),
        ];
        let span = tracer.span_builder("renewal").with_start_time(begun).with_attributes(attributes).start(tracer);
        let trace = Self { started: Some((tracer.clone(), SpanContext::new().with_span(span))) };
        trace.step("read inputs", begun, None);
        trace
    }

    /// The trace ID for log lines and exemplars; `None` if the trace is not exported.
    pub(crate) fn id(&self) -> Option<String> {
        let (_, context) = self.started.as_ref()?;
        let span = context.span();
        let context = span.span_context();
        context.is_sampled().then(|| context.trace_id().to_string())
    }

    /// The same for metrics.
    pub(crate) fn labels(&self) -> Option<TraceLabels> {
        self.id().map(|trace_id| TraceLabels { trace_id })
    }

    /// Records a step that ends now.
    pub(crate) fn step(&self, name: &'static str, begun: SystemTime, failure: Option<Reason>) {
        self.record(name, SpanKind::Internal, (begun, SystemTime::now()), failure, Vec::new());
    }

    /// Records a token request.
    pub(crate) fn request(&self, request: &SentRequest) {
        let SentRequest { grant, failure, duration, sent_at, host_class, host } = request;
        if self.started.is_none() {
            return;
        }
        let begun = SystemTime::from(*sent_at);
        let ended = begun + Duration::try_from(*duration).unwrap_or_default();
        let mut attributes = vec![
            KeyValue::new("oauth_operator.grant_type", grant.as_str()),
            KeyValue::new("oauth_operator.host_class", host_class.as_str()),
        ];
        attributes.extend(host.clone().map(|host| KeyValue::new("server.address", host)));
        self.record("token request", SpanKind::Client, (begun, ended), *failure, attributes);
    }

    /// Ends the trace with the outcome of the renewal.
    pub(crate) fn end(mut self, outcome: &Outcome) {
        let Some((_, context)) = self.started.take() else { return };
        let span = context.span();
        match outcome {
            Outcome::Failed(failure) => span.set_status(status_of(failure.reason)),
            Outcome::Written(_) => span.set_status(Status::Ok),
            // Something else has to happen first, or another replica has written a newer token: not a failure.
            _ => span.set_attribute(KeyValue::new("oauth_operator.outcome", "nothing written")),
        }
        span.end();
    }

    fn record(
        &self,
        name: &'static str,
        kind: SpanKind,
        (begun, ended): (SystemTime, SystemTime),
        failure: Option<Reason>,
        attributes: Vec<KeyValue>,
    ) {
        let Some((tracer, context)) = &self.started else { return };
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(begun).with_attributes(attributes);
        let mut span = builder.start_with_context(tracer, context);
        if let Some(reason) = failure {
            span.set_status(status_of(reason));
        }
        span.end_with_timestamp(ended);
    }
}

/// The reason, without its message: that is in the status and in the log, where it is redacted and bounded.
fn status_of(reason: Reason) -> Status {
    Status::error(reason.as_str())
}
