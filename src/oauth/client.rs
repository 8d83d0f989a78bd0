//! Sends requests to token and revocation endpoints over HTTP.

use std::collections::HashMap;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use jiff::Timestamp;
use reqwest::Body;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::body::{self, Member};
use super::discovery::Discovery;
use super::jwt::{self, Fresh};
use super::key::Key;
use super::prepare::{self, Prepared, Purpose};
use super::redact::shown;
use super::response::{self, Answer, Raw};
use super::transport::{Connection, Transport};
use super::{Ask, Credentials};
use crate::api::Reason;
use crate::error::{Error, Failure, chain};
use crate::leadership::Moment;

/// The largest body that is read of an answer, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// A time-out that fires later than this was held up: the process was frozen, or has no processor time.
const FROZEN: Duration = Duration::from_millis(500);
/// A body up to this many bytes is parsed in less time than another thread takes to wake up.
const SMALL: usize = 1 << 16;
/// For a look at what has come in meanwhile.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// The headers of an answer that the operator itself looks at.
const OWN_HEADERS: [&str; 3] = ["date", "dpop-nonce", "retry-after"];
/// How many origins are remembered with their nonce; past this number all give a new one.
const NONCES: usize = 1_024;

/// Sends requests. Clones share the connections, and what is known of issuers.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    discovery: Discovery,
    /// The nonces that origins want to see in proofs (RFC 9449, section 8.2).
    nonces: Arc<Mutex<HashMap<String, String>>>,
    witness: Option<Arc<Witness>>,
}

/// Sees each answer as it came: for `fetch --explain`.
pub type Witness = dyn Fn(&Ask, &Raw) + Send + Sync;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A token that is given back (RFC 7009).
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The revocation endpoint, where the issuer's metadata do not tell it.
    pub endpoint: Option<Url>,
    /// The token.
    pub token: SecretString,
    /// `token_type_hint` (RFC 7009, section 2.1): `access_token` or `refresh_token`.
    pub hint: &'static str,
}

impl Client {
    /// A client; see [`Transport::new`].
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::new()?,
            discovery: Discovery::default(),
            nonces: Arc::default(),
            witness: None,
        })
    }

    /// The same, with somebody who sees each answer.
    #[must_use]
    pub fn seen_by(self, witness: Arc<Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// Runs a grant: sends one request and reads its answer. Nothing is repeated here, but for a server that asks for a nonce.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that names what to change and holds nothing secret.
    pub async fn fetch(&self, ask: &Ask, credentials: &Credentials) -> Result<Answer, Failure> {
        let (raw, sent) = self.exchange(ask, credentials, &Purpose::Token).await?;
        if let Some(witness) = &self.witness {
            witness(ask, &raw);
        }
        if ask.expressions.are_paths() && raw.body.len() <= SMALL {
            return response::read(&raw, ask, &sent, Timestamp::now());
        }
        let ask = ask.clone();
        // An expression may keep a thread busy for a second, which must not be one that serves others.
        tokio::task::spawn_blocking(move || response::read(&raw, &ask, &sent, Timestamp::now())).await.unwrap_or_else(
            |_| Err(Failure::new(Reason::InvalidResponse, "reading the answer failed: please report this")),
        )
    }

    /// Gives a token back.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that holds nothing secret. A token that the server does not know is none (RFC 7009, section 2.2).
    pub async fn revoke(&self, ask: &Ask, credentials: &Credentials, revocation: &Revocation) -> Result<(), Failure> {
        let (raw, sent) = self.exchange(ask, credentials, &Purpose::Revocation(revocation)).await?;
        response::revoked(&raw, &sent)
    }

    /// Sends a request, and once more where the server wants a nonce of its own in the proof: of the first it has used
    /// nothing then (RFC 9449, section 8).
    async fn exchange(
        &self,
        ask: &Ask,
        credentials: &Credentials,
        purpose: &Purpose<'_>,
    ) -> Result<(Raw, Vec<Member>), Failure> {
        let begun = Moment::now();
        let connection = self.transport.connection(ask, credentials)?;
        let url = self.address(&connection, ask, purpose).await?;
        let origin = url.origin().ascii_serialization();
        let nonce = if ask.dpop { self.nonce(&origin) } else { None };
        let sending = Sending { connection: &connection, url: &url, ask, credentials, purpose, begun };
        let (mut raw, mut sent) = sending.send(nonce.as_deref()).await.inspect_err(|failure| {
            // The endpoint may have moved.
            if failure.reason == Reason::EndpointUnreachable {
                self.discovery.forget(&connection, &ask.endpoint);
            }
        })?;
        if ask.dpop
            && let Some(wanted) = raw.header("dpop-nonce").map(ToOwned::to_owned)
        {
            self.remember(&origin, &wanted);
            if response::wants_nonce(&raw) && nonce.as_deref() != Some(wanted.as_str()) {
                (raw, sent) = sending.send(Some(&wanted)).await?;
            }
        }
        if matches!(raw.status, 300..400 | 404 | 405 | 410) {
            self.discovery.forget(&connection, &ask.endpoint);
        }
        Ok((raw, sent))
    }

    /// Where the request goes; the issuer is asked for it where the spec does not say.
    async fn address(&self, connection: &Connection, ask: &Ask, purpose: &Purpose<'_>) -> Result<Url, Failure> {
        let given = match purpose {
            Purpose::Token => &ask.endpoint.url,
            Purpose::Revocation(revocation) => &revocation.endpoint,
        };
        if let Some(url) = given {
            return Ok(url.clone());
        }
        let Some(issuer) = &ask.endpoint.issuer else {
            return Err(Failure::new(
                Reason::InvalidSpec,
                "neither an endpoint nor an issuer is given: set spec.tokenEndpoint or spec.issuer",
            ));
        };
        let metadata = self.discovery.metadata(connection, issuer, &ask.endpoint.audience, ask.timeout).await?;
        match purpose {
            Purpose::Token => metadata.token_endpoint(ask),
            Purpose::Revocation(_) => metadata.revocation_endpoint(ask),
        }
    }

    fn nonce(&self, origin: &str) -> Option<String> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned()
    }

    fn remember(&self, origin: &str, nonce: &str) {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() >= NONCES {
            nonces.clear();
        }
        nonces.insert(origin.to_owned(), nonce.to_owned());
    }
}

/// One request, which may have to be sent a second time.
struct Sending<'a> {
    connection: &'a Connection,
    url: &'a Url,
    ask: &'a Ask,
    credentials: &'a Credentials,
    purpose: &'a Purpose<'a>,
    begun: Moment,
}

impl Sending<'_> {
    /// Sends it, and returns the answer and all that must not be shown.
    async fn send(&self, nonce: Option<&str>) -> Result<(Raw, Vec<Member>), Failure> {
        let fresh = Fresh::new(Timestamp::now());
        let prepared = prepare::prepare(self.ask, self.credentials, self.purpose, &fresh)?;
        let proof = self.proof(nonce, &fresh)?;
        let sent = self.all_sent(&prepared, proof.as_ref());
        let headers = self.headers(&prepared, proof.as_ref())?;
        match self.send_in_time(&prepared, headers).await {
            Sent::Answered(raw) => Ok((raw, sent)),
            Sent::TooLarge(status) => Err(self.too_large(status)),
            Sent::Broken(error) => {
                Err(unanswered(&error, self.url.host_str().unwrap_or_default(), self.field(), &sent))
            }
            Sent::TimedOut => Err(self.timed_out()),
        }
    }

    fn field(&self) -> &'static str {
        match self.purpose {
            Purpose::Token => self.ask.endpoint.field,
            Purpose::Revocation(_) => "spec.revocation.endpoint",
        }
    }

    /// Shows that the key is at hand to which the token is to be bound.
    fn proof(&self, nonce: Option<&str>, fresh: &Fresh) -> Result<Option<SecretString>, Failure> {
        if !self.ask.dpop {
            return Ok(None);
        }
        let unusable = |problem: &str| {
            Failure::new(Reason::CredentialsUnusable, format!("the key of spec.dpop in the target Secret {problem}"))
        };
        let pem = self.credentials.dpop_key.as_ref().ok_or_else(|| unusable("is not there: please report this"))?;
        let key = Key::from_pem(pem.expose_secret()).map_err(|problem| unusable(&problem))?;
        // RFC 9449, section 4.2: without query and fragment.
        let address = &self.url[..url::Position::AfterPath];
        jwt::proof(&key, "POST", address, nonce, fresh).map(Some).map_err(|problem| unusable(&problem))
    }

    fn headers(&self, prepared: &Prepared, proof: Option<&SecretString>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(body::content_type(self.ask.format)));
        let problem =
            |what: &str| Failure::new(Reason::InvalidSpec, format!("the request could not be built: check {what}"));
        for (name, value) in &self.ask.headers {
            let name: reqwest::header::HeaderName =
                name.parse().map_err(|_| problem("spec.request.headers: a name is not that of a header"))?;
            let value = value
                .parse()
                .map_err(|_| problem(&format!("spec.request.headers: the value of {name} cannot stand in a header")))?;
            headers.insert(name, value);
        }
        let secrets = [(AUTHORIZATION, prepared.authorization.as_ref()), (DPOP, proof)];
        for (name, value) in secrets {
            let Some(value) = value else { continue };
            let mut value: HeaderValue = value
                .expose_secret()
                .parse()
                .map_err(|_| problem("the credentials, which cannot stand in a header"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// All that was sent or signed with, for what must not be shown of an answer.
    fn all_sent(&self, prepared: &Prepared, proof: Option<&SecretString>) -> Vec<Member> {
        let mut sent = prepared.members.clone();
        let headers = self.ask.headers.iter().map(|(name, value)| (name.clone(), SecretString::from(value.as_str())));
        sent.extend(headers);
        let header = |name: &str, value: &SecretString| {
            let text = value.expose_secret();
            let value = text.rsplit_once(' ').map_or(text, |(_, value)| value);
            (name.to_owned(), SecretString::from(value))
        };
        sent.extend(prepared.authorization.iter().map(|value| header("authorization", value)));
        sent.extend(proof.iter().map(|value| header("dpop", value)));
        let known = |value: &SecretString, sent: &[Member]| {
            sent.iter().any(|(_, other)| other.expose_secret() == value.expose_secret())
        };
        for (credential, value) in self.credentials.iter() {
            if !known(value, &sent) {
                sent.push((credential.key().to_owned(), value.clone()));
            }
        }
        sent
    }

    /// The time-out is ours and not the HTTP client's: of a process that was frozen meanwhile, the answer may be there although
    /// the time is over, and it may be the only copy of a refresh token.
    async fn send_in_time(&self, prepared: &Prepared, headers: HeaderMap) -> Sent {
        let timeout = self.ask.timeout;
        let sending = self.post(prepared, headers);
        tokio::pin!(sending);
        let left = timeout.saturating_sub(self.begun.passed());
        let answered = match tokio::time::timeout(left, &mut sending).await {
            Err(_) if self.begun.passed() > timeout + FROZEN => tokio::time::timeout(LAST_LOOK, sending).await,
            done => done,
        };
        match answered {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => Sent::Broken(error),
            Err(_) => Sent::TimedOut,
        }
    }

    async fn post(&self, prepared: &Prepared, headers: HeaderMap) -> Result<Sent, reqwest::Error> {
        let lists: &[&str] = if self.ask.scope_as_list { &["scope"] } else { &[] };
        let bytes = body::encode(self.ask.format, &prepared.members, lists).into();
        let body = Timely { bytes: Some(bytes), begun: self.begun, timeout: self.ask.timeout };
        let request = self.connection.http.post(self.url.clone()).headers(headers).body(Body::wrap(body));
        let mut answer = request.send().await?;
        let status = answer.status().as_u16();
        let headers = self.headers_of(&answer);
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Ok(Sent::TooLarge(status));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Sent::Answered(Raw { status, headers, body }))
    }

    /// All headers are kept only where an expression may look at them.
    fn headers_of(&self, answer: &reqwest::Response) -> Vec<(String, String)> {
        let all = self.ask.expressions.use_variables();
        let headers = answer.headers().iter().filter(|(name, _)| all || OWN_HEADERS.contains(&name.as_str()));
        headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect()
    }

    fn too_large(&self, status: u16) -> Failure {
        let field = self.field();
        Failure::new(
            Reason::InvalidResponse,
            format!("the body of the answer ({status}) is larger than 1 MiB: check that {field} is right"),
        )
    }

    fn timed_out(&self) -> Failure {
        let (host, timeout, field) = (self.url.host_str().unwrap_or_default(), self.ask.timeout, self.field());
        Failure::new(
            Reason::RequestTimedOut,
            format!("{host} did not answer within {timeout:?}: check {field}, or raise spec.request.timeout"),
        )
    }
}

const DPOP: reqwest::header::HeaderName = reqwest::header::HeaderName::from_static("dpop");

/// What came of sending.
enum Sent {
    Answered(Raw),
    /// The body was larger than is read; this is its status.
    TooLarge(u16),
    Broken(reqwest::Error),
    TimedOut,
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

/// Why there is no answer. `field` is the member of the spec that tells where it was sent.
pub(super) fn unanswered(error: &reqwest::Error, host: &str, field: &str, sent: &[Member]) -> Failure {
    // The outermost error repeats the URL; what happened is in its causes.
    let cause = error.source().map_or_else(|| error.to_string(), chain);
    let cause = shown(&cause, sent);
    if error.is_builder() {
        Failure::new(Reason::InvalidSpec, format!("the request could not be built: {cause}: check {field}"))
    } else if error.is_connect() {
        Failure::new(Reason::EndpointUnreachable, format!("failed to connect to {host}: {cause}: check {field}"))
    } else {
        Failure::new(Reason::EndpointUnreachable, format!("the connection to {host} broke off: {cause}"))
    }
}
