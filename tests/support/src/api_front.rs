//! An unreliable API server: a reverse proxy in front of the real one, for responses that a real one does not send on
//! demand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request, Response, StatusCode, header};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the proxy responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// The response of the real server.
    None,
    /// 429 with `Retry-After: 1`, to everything.
    TooManyRequests,
    /// 500, to everything.
    InternalError,
    /// 500, to reads of a single Secret.
    SecretsUnreadable,
    /// Changes of a single Secret wait until the next fault is set, and are then forwarded.
    SecretChangesHeld,
    /// 410 in the stream of each watch that resumes from a resource version; other calls are forwarded.
    WatchExpired,
}

/// The proxy. When dropped, it stops.
#[derive(Debug)]
pub struct ApiServerProxy {
    address: SocketAddr,
    fault: watch::Sender<ApiFault>,
    held: Arc<AtomicUsize>,
    // Its own runtime: dropping it ends the tasks without blocking the runtime of a test.
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    http: reqwest::Client,
    target: String,
    fault: watch::Receiver<ApiFault>,
    held: Arc<AtomicUsize>,
}

impl ApiServerProxy {
    /// A proxy in front of the API server at this URL, whose certificate is in this file.
    pub fn start(target: &str, certificate: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = std::fs::read(certificate).expect("the API server's certificate");
        let certificate = reqwest::Certificate::from_pem(&certificate).expect("a certificate");
        let http = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().build().expect("a client");
        let (fault, changes) = watch::channel(ApiFault::None);
        let held = Arc::new(AtomicUsize::new(0));
        let shared = Arc::new(Shared { http, target: target.to_owned(), fault: changes, held: Arc::clone(&held) });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a listener");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let router = Router::new().fallback(respond).with_state(shared);
            axum::serve(listener, router).await
        });
        Self { address, fault, held, runtime: Some(runtime) }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many changes have waited so far ([`ApiFault::SecretChangesHeld`]).
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Changes the response from now on. Watches in flight end.
    pub fn set(&self, fault: ApiFault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for ApiServerProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn respond(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let mut fault = *shared.fault.borrow();
    let changes_secret = request.method() == Method::PATCH && request.uri().path().contains("/secrets/");
    if fault == ApiFault::SecretChangesHeld {
        if changes_secret {
            shared.held.fetch_add(1, Ordering::SeqCst);
            let released =
                shared.fault.clone().wait_for(|fault| *fault != ApiFault::SecretChangesHeld).await.map(|fault| *fault);
            fault = released.unwrap_or(ApiFault::None);
        } else {
            fault = ApiFault::None;
        }
    }
    let query = request.uri().query().unwrap_or_default();
    let resumes = query.contains("watch=true") && query.contains("resourceVersion=");
    let reads_secret = request.method() == Method::GET && request.uri().path().contains("/secrets/");
    match fault {
        ApiFault::TooManyRequests => failure(429, "TooManyRequests", "too many requests, please try again later"),
        ApiFault::SecretsUnreadable if !reads_secret => forwarded(&shared, request).await,
        ApiFault::InternalError | ApiFault::SecretsUnreadable => {
            failure(500, "InternalError", "an error on the server has prevented the request from succeeding")
        }
        ApiFault::WatchExpired if resumes => {
            let gone = status(410, "Expired", "too old resource version");
            let event = json!({"type": "ERROR", "object": gone}).to_string() + "\n";
            Response::builder().header(header::CONTENT_TYPE, "application/json").body(event.into()).expect("a response")
        }
        ApiFault::WatchExpired | ApiFault::SecretChangesHeld | ApiFault::None => forwarded(&shared, request).await,
    }
}

async fn forwarded(shared: &Shared, request: Request<Body>) -> Response<Body> {
    forward(shared, request).await.unwrap_or_else(|error| {
        let error = error.to_string();
        failure(502, "BadGateway", &error)
    })
}

async fn forward(shared: &Shared, request: Request<Body>) -> Result<Response<Body>, reqwest::Error> {
    let (parts, body) = request.into_parts();
    let url = format!("{}{}", shared.target, parts.uri);
    let mut onward = shared.http.request(parts.method, url);
    for name in [header::AUTHORIZATION, header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let body = to_bytes(body, 1 << 24).await.unwrap_or_default();
    let upstream = onward.body(body).send().await?;
    let mut response = Response::builder().status(upstream.status());
    if let Some(type_) = upstream.headers().get(header::CONTENT_TYPE) {
        response = response.header(header::CONTENT_TYPE, type_);
    }
    let chunks = stream::unfold(upstream, async |mut upstream| {
        let chunk = upstream.chunk().await.transpose()?;
        Some((chunk, upstream))
    });
    let mut fault = shared.fault.clone();
    fault.mark_unchanged();
    let changed = async move {
        let _ = fault.changed().await;
    };
    Ok(response.body(Body::from_stream(chunks.take_until(Box::pin(changed)))).expect("a response"))
}

fn status(code: u16, reason: &str, message: &str) -> serde_json::Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "code": code, "reason": reason, "message": message})
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let response = Response::builder().status(StatusCode::from_u16(code).expect("a code"));
    let response = response.header(header::CONTENT_TYPE, "application/json").header(header::RETRY_AFTER, "1");
    response.body(status(code, reason, message).to_string().into()).expect("a response")
}
