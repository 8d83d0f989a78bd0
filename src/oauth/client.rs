//! Sends token requests over HTTP.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use jiff::Timestamp;
use reqwest::Body;
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::tls::Certificate;
use secrecy::SecretString;

use super::body::{self, Member};
use super::redact::shown;
use super::response::{self, Answer, Raw};
use super::{Ask, Credentials};
use crate::api::Reason;
use crate::error::{Error, Failure, chain};
use crate::leadership::Moment;

/// The largest body that is read of an answer, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// How long a connection without a request is kept: longer than the distance of two renewals of a short-lived
/// token, shorter than what common load balancers keep.
const IDLE: Duration = Duration::from_secs(50);
/// A time-out that fires later than this was held up: the process was frozen, or has no processor time.
const FROZEN: Duration = Duration::from_millis(500);
/// A body up to this many bytes is parsed in less time than another thread takes to wake up.
const SMALL: usize = 1 << 16;
/// For a look at what has come in meanwhile.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Sends token requests. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// A client that trusts Mozilla's root certificates, which are compiled in, and those of the system (or of
    /// `SSL_CERT_FILE`), which a private authority needs. Redirects are not followed: the request holds secrets.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        // Fails only where the process has a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("oauth-operator/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .tls_certs_only(roots())
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(Error::MakeHttpClient)?;
        Ok(Self { http })
    }

    /// Runs a grant: sends one request and reads its answer. Nothing is repeated here.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that names what to change and holds nothing secret.
    pub async fn fetch(&self, ask: &Ask, credentials: &Credentials) -> Result<Answer, Failure> {
        let mut sent = body::members(ask, credentials);
        let raw = self.send_in_time(ask, &sent).await?;
        sent.extend(ask.headers.iter().map(|(name, value)| (name.clone(), SecretString::from(value.as_str()))));
        if ask.expressions.are_paths() && raw.as_ref().is_ok_and(|raw| raw.body.len() <= SMALL) {
            return response::read(&raw?, ask, &sent, Timestamp::now());
        }
        let ask = ask.clone();
        // An expression may keep a thread busy for a second, which must not be one that serves others.
        tokio::task::spawn_blocking(move || response::read(&raw?, &ask, &sent, Timestamp::now())).await.unwrap_or_else(
            |_| Err(Failure::new(Reason::InvalidResponse, "reading the answer failed: please report this")),
        )
    }

    /// The time-out is ours and not the HTTP client's: of a process that was frozen meanwhile, the answer may be there although
    /// the time is over, and it may be the only copy of a refresh token.
    async fn send_in_time(&self, ask: &Ask, sent: &[Member]) -> Result<Result<Raw, Failure>, Failure> {
        let begun = Moment::now();
        let sending = self.send(ask, sent, begun);
        tokio::pin!(sending);
        let answered = match tokio::time::timeout(ask.timeout, &mut sending).await {
            Err(_) if begun.passed() > ask.timeout + FROZEN => tokio::time::timeout(LAST_LOOK, sending).await,
            done => done,
        };
        match answered {
            Ok(Ok(raw)) => Ok(raw),
            Ok(Err(error)) => Err(unanswered(&error, ask, sent)),
            Err(_) => Err(timed_out(ask)),
        }
    }

    async fn send(&self, ask: &Ask, members: &[Member], begun: Moment) -> Result<Result<Raw, Failure>, reqwest::Error> {
        let body = Timely { bytes: Some(body::encode(ask.format, members).into()), begun, timeout: ask.timeout };
        let mut request = self
            .http
            .post(ask.endpoint.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, body::content_type(ask.format))
            .body(Body::wrap(body));
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send().await?;
        let status = answer.status().as_u16();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let (retry_after, date) = (header(RETRY_AFTER), header(DATE));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Ok(Err(too_large(status)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Ok(Raw { status, retry_after, date, body }))
    }
}

/// The root certificates; what the system has and cannot be read is left out, as there may be no system at all.
fn roots() -> Vec<Certificate> {
    let system = rustls_native_certs::load_native_certs().certs;
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .chain(&system)
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

fn too_large(status: u16) -> Failure {
    Failure::new(
        Reason::InvalidResponse,
        format!(
            "the body of the answer ({status}) is larger than 1 MiB: check that spec.tokenEndpoint is the token endpoint"
        ),
    )
}

/// A body that is handed out only in time. Between the decision to send and the sending, a process may be frozen for so long
/// that another replica has taken over and spent the same refresh token.
#[derive(Debug)]
struct Timely {
    bytes: Option<Bytes>,
    begun: Moment,
    timeout: Duration,
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        if self.bytes.is_some() && self.begun.passed() > self.timeout {
            return Poll::Ready(Some(Err(TooLate)));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Nothing was sent, since the time for it is over.
#[derive(Debug, thiserror::Error)]
#[error("the time for the request was over before it was sent")]
struct TooLate;

fn timed_out(ask: &Ask) -> Failure {
    let (host, timeout) = (ask.endpoint.host_str().unwrap_or_default(), ask.timeout);
    Failure::new(
        Reason::RequestTimedOut,
        format!("{host} did not answer within {timeout:?}: check spec.tokenEndpoint, or raise spec.request.timeout"),
    )
}

/// Why there is no answer.
fn unanswered(error: &reqwest::Error, ask: &Ask, sent: &[Member]) -> Failure {
    let host = ask.endpoint.host_str().unwrap_or_default();
    // The outermost error repeats the URL; what happened is in its causes.
    let cause = error.source().map_or_else(|| error.to_string(), chain);
    let cause = shown(&cause, sent);
    if error.is_builder() {
        Failure::new(
            Reason::InvalidSpec,
            format!("the request could not be built: {cause}: check spec.request.headers"),
        )
    } else if error.is_connect() {
        Failure::new(
            Reason::EndpointUnreachable,
            format!("failed to connect to {host}: {cause}: check spec.tokenEndpoint"),
        )
    } else {
        Failure::new(Reason::EndpointUnreachable, format!("the connection to {host} broke off: {cause}"))
    }
}
