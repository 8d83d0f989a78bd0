//! One request: what is sent, in time, and what came of it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use jiff::Timestamp;
use reqwest::Body;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use super::super::body::{self, Member};
use super::super::jwt::{self, Fresh};
use super::super::key::Key;
use super::super::prepare::{self, Prepared, Purpose};
use super::super::response::Raw;
use super::super::transport::Connection;
use super::super::{Ask, Credentials};
use super::{MAX_BODY, unanswered};
use crate::api::Reason;
use crate::error::Failure;
use crate::leadership::Moment;

/// A time-out that fires later than this was held up: the process was frozen, or has no processor time.
const FROZEN: Duration = Duration::from_millis(500);
/// For a look at what has come in meanwhile.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// The headers of an answer that the operator itself looks at.
const OWN_HEADERS: [&str; 3] = ["date", "dpop-nonce", "retry-after"];
/// RFC 9449, section 4.1.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// One request, which may have to be sent a second time.
pub(super) struct Sending<'a> {
    pub(super) connection: &'a Connection,
    pub(super) url: &'a Url,
    pub(super) ask: &'a Ask,
    pub(super) credentials: &'a Credentials,
    pub(super) purpose: &'a Purpose<'a>,
    /// When all of it began, with the look for the endpoint.
    pub(super) whole: Moment,
}

impl Sending<'_> {
    /// Sends it, and returns the answer and all that must not be shown.
    pub(super) async fn send(&self, nonce: Option<&str>) -> Result<(Raw, Vec<Member>), Failure> {
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
            let name: HeaderName =
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
        // Each request has its time, unless the process was frozen before: the whole must not outlast the fence.
        let begun = Moment::now();
        let timeout = self.ask.timeout.min(self.ask.longest().saturating_sub(self.whole.passed()));
        let sending = self.post(prepared, headers, begun, timeout);
        tokio::pin!(sending);
        let answered = match tokio::time::timeout(timeout, &mut sending).await {
            Err(_) if begun.passed() > timeout + FROZEN => tokio::time::timeout(LAST_LOOK, sending).await,
            done => done,
        };
        match answered {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => Sent::Broken(error),
            Err(_) => Sent::TimedOut,
        }
    }

    async fn post(
        &self,
        prepared: &Prepared,
        headers: HeaderMap,
        begun: Moment,
        timeout: Duration,
    ) -> Result<Sent, reqwest::Error> {
        let lists: &[&str] = if self.ask.scope_as_list { &["scope"] } else { &[] };
        let bytes = Bytes::from_owner(Wiped(body::encode(self.ask.format, &prepared.members, lists)));
        let body = Timely { bytes: Some(bytes), begun, timeout };
        let request = self.connection.http.post(self.url.clone()).headers(headers).body(Body::wrap(body));
        let mut answer = request.send().await?;
        let status = answer.status().as_u16();
        let headers = self.headers_of(&answer);
        // With room for all where its length is told, so that no part of it is left behind where it grew.
        let length = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let mut body = Zeroizing::new(Vec::with_capacity(length.min(MAX_BODY)));
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Ok(Sent::TooLarge(status));
            }
            extend(&mut body, &chunk);
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

/// Adds to a body. Where it has to grow, what it leaves behind is wiped.
fn extend(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let needed = body.len() + chunk.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * body.capacity())));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

/// Bytes that are wiped when the last one who sends them lets them go.
struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

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
