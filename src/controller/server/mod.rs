//! Health and readiness over HTTP for the kubelet; metrics over HTTPS on a separate port, with authentication and
//! authorization.
//!
//! Everything runs on the control runtime, so that a busy main loop neither fails a probe nor delays a scrape.

pub(crate) mod authentication;
pub(crate) mod connections;
pub(crate) mod listener;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube::Client;
use tokio::sync::Mutex;

use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::heartbeat::{Heartbeat, STALL_LIMIT};
use crate::controller::metrics::scrape;
use crate::controller::metrics::text::Format;
use crate::controller::server::authentication::Authentication;
use crate::controller::server::listener::Listener;
use crate::controller::server::tls::{CertificateFiles, Tls};

/// The addresses of the server, and the access to metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address for health and readiness.
    pub probes: SocketAddr,
    /// Address for metrics.
    pub metrics: SocketAddr,
    /// Whether metrics require a bearer token that the API server accepts; they are then served over HTTPS.
    pub authenticate: bool,
    /// The certificate for HTTPS. Without one, metrics with authentication use a self-signed certificate, and metrics
    /// without authentication are served over plain HTTP.
    pub certificate: Option<CertificateFiles>,
    /// Whether there are metrics for each integration and provider.
    pub object_metrics: bool,
}

/// Binds the addresses, and serves as long as the current runtime exists. Must be called in that runtime, to which `client` must
/// belong.
///
/// # Errors
///
/// When an address cannot be bound, or the certificate cannot be used.
pub fn start(
    config: &ServerConfig,
    context: Arc<Context>,
    heartbeat: Arc<Heartbeat>,
    client: Client,
) -> Result<(), Error> {
    let tls = match &config.certificate {
        Some(files) => Some(Tls::from_files(files)?),
        None if config.authenticate => Some(Tls::self_signed()?),
        None => None,
    };
    // Users and tests find the address in the log by this word.
    let probes = Listener::bind(config.probes, None, "listening")?;
    let metrics = Listener::bind(config.metrics, tls, "listening for metrics")?;
    let health = Arc::new(Health { context: Arc::clone(&context), heartbeat });
    let router = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    tokio::spawn(probes.serve(router));
    let authentication = config.authenticate.then(|| Authentication::new(client));
    let scrapes = Arc::new(Scrapes { context, authentication, turn: Mutex::new(0) });
    tokio::spawn(metrics.serve(Router::new().route("/metrics", get(scrape)).with_state(scrapes)));
    Ok(())
}

struct Health {
    context: Arc<Context>,
    heartbeat: Arc<Heartbeat>,
}

/// Fails only if the main loop has made no progress for so long that a restart is needed.
async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let silent = health.heartbeat.silent_for();
    if silent < STALL_LIMIT {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the main loop has made no progress for {} s", silent.as_secs()))
    }
}

/// Ready after all caches are synced: from then on, decisions are based on the state of the cluster.
async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let context = &health.context;
    match context.cache_sync.missing() {
        missing if missing.is_empty() => (StatusCode::OK, leader_state(context).to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for cache sync: {}", missing.join(", "))),
    }
}

/// A standby replica is also ready: its caches are synced, so it can take over.
fn leader_state(context: &Context) -> &'static str {
    if context.leadership.is_leader() { "ok: leader" } else { "ok: standby" }
}

struct Scrapes {
    context: Arc<Context>,
    authentication: Option<Authentication>,
    /// Scrapes are encoded one at a time, because each contains all integrations. The length of the last one, in bytes.
    turn: Mutex<usize>,
}

async fn scrape(State(scrapes): State<Arc<Scrapes>>, headers: HeaderMap) -> Response {
    if let Some(authentication) = &scrapes.authentication {
        let status = authentication.check(&headers).await;
        if status == StatusCode::UNAUTHORIZED {
            let challenge = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return (status, [challenge], "a bearer token is required").into_response();
        }
        if status != StatusCode::OK {
            return (status, "no permission to get /metrics").into_response();
        }
    }
    let mut length = scrapes.turn.lock().await;
    let (context, last) = (Arc::clone(&scrapes.context), *length);
    let accept = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept);
    // Not encoded on the thread that serves the kubelet.
    let encode = move || scrape::encode(&context, last).map(|text| (text.len(), format.of(text)));
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok((encoded, text))) => {
            *length = encoded;
            (StatusCode::OK, [(CONTENT_TYPE, format.content_type())], text).into_response()
        }
        Ok(Err(_)) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed to encode the metrics").into_response(),
    }
}
