//! Health, readiness and metrics over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::info;

use crate::context::Context;
use crate::error::Error;

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens at once, so that a taken port ends the process before anything is done, and serves until it is dropped.
///
/// # Errors
///
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, context: Arc<Context>) -> Result<impl Future<Output = ()>, Error> {
    let listen = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    info!(%address, "listening");
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context);
    Ok(async move {
        // `axum::serve` answers until it is dropped and returns no error.
        let _ = axum::serve(listener, router).await;
    })
}

/// Ready once every watch has had its first list: from then on decisions rest on what is there.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match context.synced.missing() {
        missing if missing.is_empty() => (StatusCode::OK, standing(&context).to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for the first list of: {}", missing.join(", "))),
    }
}

/// A replica that stands by is ready too: it takes over with its watches warm.
fn standing(context: &Context) -> &'static str {
    if context.leadership.leads() { "ok: leading" } else { "ok: standing by" }
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    match context.metrics.encode() {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}
