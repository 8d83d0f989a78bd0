//! Sends spans to a collector: OTLP over HTTP, with protobuf. The SDK batches them, and drops those that do not fit into its
//! queue, so that a collector that does not respond costs nothing else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{info, warn};
use url::Url;

use crate::api::names::MANAGER;
use crate::controller::error::Error;
use crate::error_report::chain;
use crate::oauth::http::connections;

/// The path of the traces of a collector whose URL has none.
const PATH: &str = "v1/traces";
/// The maximum time for one batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum length of the collector's response, which is empty, or lists rejected spans.
const MAX_RESPONSE: usize = 64 << 10;
/// How long the last batch may take when the process stops.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts to export spans to a collector. The connections belong to the runtime of `handle`.
///
/// Of the standard variables, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER` are used.
///
/// # Errors
///
/// If the exporter cannot be built, for example because of an invalid header.
pub(crate) fn start(endpoint: &Url, instance: &str, handle: Handle) -> Result<SdkTracerProvider, Error> {
    let failed = |error: String| Error::StartTraces(error);
    let tls = connections::default_tls().map_err(|error| failed(error.to_string()))?;
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(CollectorClient { handle, client, is_failing: Arc::default() })
        .with_endpoint(url_of(endpoint))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(MANAGER)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The URL for traces: with the path of the specification, unless the administrator has chosen one.
fn url_of(endpoint: &Url) -> String {
    let mut url = endpoint.clone();
    if url.path() == "/" {
        url.set_path(PATH);
    }
    url.to_string()
}

/// Sends batches on a runtime, because the SDK exports them on a thread without one.
#[derive(Clone, Debug)]
struct CollectorClient {
    handle: Handle,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Whether the last batch was not accepted, which is logged once.
    is_failing: Arc<AtomicBool>,
}

impl CollectorClient {
    async fn send(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = async {
            let response = self.client.request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_RESPONSE).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        let result = tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|elapsed| Err(elapsed.into()));
        self.note(&result);
        result
    }

    fn note(&self, result: &Result<Response<Bytes>, HttpError>) {
        let problem = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector responds with {}", response.status())),
            Err(error) => Some(chain(error.as_ref())),
        };
        match (self.is_failing.swap(problem.is_some(), Ordering::Relaxed), problem) {
            (false, Some(error)) => {
                warn!(error, "traces are not exported, and are lost until the collector accepts them");
            }
            (true, None) => info!("traces are exported again"),
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let sent = self.handle.spawn(self.clone().send(request));
        Box::pin(async move { sent.await.unwrap_or_else(|error| Err(error.into())) })
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_specification_is_added_unless_there_is_one() {
        for (endpoint, expected) in [
            ("http://collector.monitoring:4318", "http://collector.monitoring:4318/v1/traces"),
            ("https://collector.example.com/", "https://collector.example.com/v1/traces"),
            ("https://collector.example.com/otlp/v1/traces", "https://collector.example.com/otlp/v1/traces"),
        ] {
            assert_eq!(url_of(&endpoint.parse().expect("a URL")), expected);
        }
    }
}
