//! A collector of traces: it receives OTLP over HTTP, and parses it with the types of the specification.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::endpoint::{Endpoint, Reply, Request};
use crate::record;

/// The collector.
pub struct Collector {
    endpoint: Endpoint,
}

/// A span that was received.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    /// Its name.
    pub name: String,
    /// The trace ID, as hex digits.
    pub trace_id: String,
    /// Its ID, and that of its parent (empty: none), as hex digits.
    pub id: String,
    /// The parent's.
    pub parent: String,
    /// Begin and end, in nanoseconds of Unix time.
    pub time: (u64, u64),
    /// The message of its status, if that is an error.
    pub error: Option<String>,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// The attributes of the process.
    pub resource: BTreeMap<String, String>,
}

impl Collector {
    /// Starts it; each batch gets this response.
    pub fn start(respond: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        Self { endpoint: Endpoint::start(move |_: &Request| respond()) }
    }

    /// One that accepts everything.
    pub fn accepting() -> Self {
        Self::start(|| Reply::Http(200, vec![("Content-Type".into(), "application/x-protobuf".into())], String::new()))
    }

    /// The URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.endpoint.address())
    }

    /// The requests.
    pub fn requests(&self) -> Vec<Request> {
        self.endpoint.requests()
    }

    /// All spans that were received.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let spans: Vec<ReceivedSpan> =
            self.endpoint.requests().iter().flat_map(|request| parse(&request.bytes)).collect();
        record::keep("traces", &spans.iter().map(|span| format!("{span:?}\n")).collect::<String>());
        spans
    }
}

fn parse(bytes: &[u8]) -> Vec<ReceivedSpan> {
    let request = ExportTraceServiceRequest::decode(bytes).unwrap_or_else(|error| panic!("not OTLP: {error}"));
    let of_resource = |spans: opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
        let resource = spans.resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
        let spans = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(|span| received(span, &resource)).collect::<Vec<_>>()
    };
    request.resource_spans.into_iter().flat_map(of_resource).collect()
}

fn received(span: Span, resource: &BTreeMap<String, String>) -> ReceivedSpan {
    let error = span.status.filter(|status| status.code() == StatusCode::Error).map(|status| status.message);
    ReceivedSpan {
        name: span.name,
        trace_id: hex::encode(span.trace_id),
        id: hex::encode(span.span_id),
        parent: hex::encode(span.parent_span_id),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
        error,
        attributes: texts(&span.attributes),
        resource: resource.clone(),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &KeyValue| Some((pair.key.clone(), text(pair.value.as_ref()?.value.as_ref()?)));
    attributes.iter().filter_map(pair).collect()
}
