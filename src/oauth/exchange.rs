//! One request to an endpoint: builds it, sends it within its deadline, and receives the response.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zeroize::Zeroizing;

use crate::api::reason::Reason;
use crate::api::request::Format;
use crate::clock::Stopwatch;
use crate::oauth::body::{JsonTypes, Parameter};
use crate::oauth::credentials::Credentials;
use crate::oauth::custom_body::{CustomBody, Placeholders};
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::sandbox::Sandbox;
use crate::oauth::http::connections::Connection;
use crate::oauth::http::decode::DecodeError;
use crate::oauth::http::documents::parse_header;
use crate::oauth::http::errors::{SendError, no_response};
use crate::oauth::http::send::Reading;
use crate::oauth::jwt::JwtStamp;
use crate::oauth::key_error::KeyError;
use crate::oauth::parameters::{Authorization, RequestKind, RequestParts};
use crate::oauth::request::TokenRequest;
use crate::oauth::response::parse;
use crate::oauth::response::raw::{HttpResponse, REMAINING, RESET};
use crate::oauth::sent_values::{sensitive_parts, values_to_redact};
use crate::oauth::signing_key::SigningKey;
use crate::oauth::{body, jwt, parameters};

/// A timeout that fires late by more than this was delayed: the process was frozen, or had no CPU time.
const SUSPEND_THRESHOLD: Duration = Duration::from_millis(500);
/// The time to receive a response that arrived while the process was frozen.
const FINAL_POLL: Duration = Duration::from_secs(1);
/// The response headers that the operator itself reads.
const OWN_HEADERS: [&str; 7] =
    ["content-type", "date", "dpop-nonce", "location", "ratelimit", "retry-after", "www-authenticate"];
/// RFC 9449, section 4.1.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// One request, which may need to be sent a second time.
pub(crate) struct Exchange<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) url: &'a Url,
    pub(crate) request: &'a TokenRequest,
    pub(crate) credentials: &'a Credentials,
    pub(crate) kind: &'a RequestKind<'a>,
    /// Started before the discovery of the endpoint.
    pub(crate) since: Stopwatch,
    /// The maximum size of a response body, in bytes.
    pub(crate) max_response_size: usize,
    /// Evaluates the expression for the body.
    pub(crate) sandbox: &'a Sandbox,
    /// How far the server's clock is ahead of this machine's.
    pub(crate) clock_offset: SignedDuration,
}

impl Exchange<'_> {
    /// Sends it, and returns the response with the values that must not be shown.
    pub(crate) async fn send(&self, nonce: Option<&str>) -> Result<(HttpResponse, Vec<Parameter>), RequestError> {
        let now = Timestamp::now();
        let stamp = JwtStamp::new(now.checked_add(self.clock_offset).unwrap_or(now));
        let parts = parameters::build_request(self.request, self.credentials, self.kind, &stamp)?;
        let dpop_proof = self.dpop_proof(nonce, &stamp)?;
        let headers = self.headers(&parts, dpop_proof.as_ref())?;
        let message = self.message(&parts).await?;
        let mut sent = values_to_redact(self.request, self.credentials, self.kind, &parts, dpop_proof.as_ref());
        sent.extend(message.placed.iter().flat_map(|text| sensitive_parts(text.expose_secret())));
        match self.send_with_deadline(message, headers).await {
            Sent::Received(raw) => Ok((raw, sent)),
            Sent::Incomplete(beginning, error) => Err(self.incomplete(&beginning, &error)),
            Sent::Failed(error) => Err(no_response(&error, self.url, self.url_kind(), &sent)),
            Sent::TimedOut => Err(self.timed_out()),
        }
    }

    /// A revocation has a body (RFC 7009, section 2.1).
    fn sends_query(&self) -> bool {
        self.request.sends_query() && self.is_token_request()
    }

    const fn is_token_request(&self) -> bool {
        matches!(self.kind, RequestKind::Token)
    }

    fn method(&self) -> Method {
        if self.sends_query() { Method::GET } else { Method::POST }
    }

    const fn url_kind(&self) -> UrlKind {
        self.kind.url_kind(self.request)
    }

    /// Proves possession of the key that the token will be bound to.
    fn dpop_proof(&self, nonce: Option<&str>, stamp: &JwtStamp) -> Result<Option<SecretString>, RequestError> {
        if !self.request.dpop {
            return Ok(None);
        }
        let unusable = |error: KeyError| {
            RequestError::new(Reason::CredentialsInvalid, format!("the DPoP proof cannot be created: {error}"))
        };
        let missing = || RequestError::new(Reason::CredentialsInvalid, "the DPoP key is missing: please report this");
        let pem = self.credentials.dpop_key.as_ref().ok_or_else(missing)?;
        let key = SigningKey::from_pem(pem.expose_secret()).map_err(unusable)?;
        // RFC 9449, section 4.2: without query and fragment.
        let address = &self.url[..url::Position::AfterPath];
        jwt::dpop_proof(&key, self.method().as_str(), address, nonce, stamp).map(Some).map_err(unusable)
    }

    fn headers(&self, parts: &RequestParts, dpop_proof: Option<&SecretString>) -> Result<HeaderMap, RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if self.sends_query() {
            // Another token must not come from a cache.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(body::content_type(self.request.format)));
        }
        let own = self.request.content_type.as_ref().filter(|_| self.is_token_request());
        let invalid = |problem: &str| {
            let message = format!("the request could not be built: {problem}");
            RequestError::new(Reason::InvalidSpec, message).with_advice(Advice::CheckHeaders)
        };
        if let Some(own) = own {
            headers.insert(CONTENT_TYPE, own.parse().map_err(|_| invalid("the content type is not valid"))?);
        }
        for (name, value) in &self.request.headers {
            let (name, value) = parse_header(name, value)?;
            headers.insert(name, value);
        }
        for (name, key) in &self.request.headers_from {
            let header: HeaderName = name.parse().map_err(|_| invalid("a header name is not valid"))?;
            let value = self.credentials.others.get(key).map_or("", ExposeSecret::expose_secret);
            let mut value: HeaderValue = value.parse().map_err(|_| {
                let message = format!(
                    "the value under key {key} cannot be sent in header {name}: it contains a line break or a control character"
                );
                RequestError::new(Reason::CredentialsInvalid, message)
            })?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let authorization = parts.authorization.as_ref().map(Authorization::header);
        for (name, value) in [(AUTHORIZATION, authorization.as_ref()), (DPOP, dpop_proof)] {
            let Some(value) = value else { continue };
            let mut value: HeaderValue = value.expose_secret().parse().map_err(|_| {
                let message = "the request could not be built: check the credentials, which are not valid in a header";
                RequestError::new(Reason::InvalidSpec, message)
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// The timeout is enforced here and not by the HTTP client: if the process was frozen, the response may have
    /// arrived although the timeout has passed, and it may contain the only copy of a refresh token.
    async fn send_with_deadline(&self, message: Message, headers: HeaderMap) -> Sent {
        // Each request has the full timeout, unless the process was frozen earlier: the whole attempt must end before
        // the lease can expire.
        let started = Stopwatch::now();
        let timeout = self.request.timeout.min(self.request.max_duration().saturating_sub(self.since.elapsed()));
        let sending = self.exchange(message, headers, started, timeout);
        tokio::pin!(sending);
        let result = match tokio::time::timeout(timeout, &mut sending).await {
            Err(_) if started.elapsed() > timeout + SUSPEND_THRESHOLD => {
                tokio::time::timeout(FINAL_POLL, sending).await
            }
            done => done,
        };
        match result {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => Sent::Failed(error),
            Err(_) => Sent::TimedOut,
        }
    }

    /// The parameters as they are sent: in the query, or in the body, which an expression may build.
    async fn message(&self, parts: &RequestParts) -> Result<Message, RequestError> {
        let lists: &[&str] = if self.request.scope_as_list { &["scope"] } else { &[] };
        let TokenRequest { json_parameters, parameters_from, format, .. } = self.request;
        let json = json_parameters.iter().filter(|name| !parameters_from.contains_key(*name)).map(String::as_str);
        // A revocation contains no parameters of the spec.
        let json: Vec<&str> = json.filter(|_| self.is_token_request()).collect();
        let types = JsonTypes { lists, json: &json };
        match &self.request.body {
            Some(expression) if self.is_token_request() => {
                let CustomBody { body, placed } = self.custom_body(expression, parts, types).await?;
                Ok(Message { url: self.url.clone(), body, placed })
            }
            _ if self.sends_query() => {
                Ok(Message { url: with_query(self.url, &parts.parameters), body: Zeroizing::default(), placed: vec![] })
            }
            _ => {
                let body = body::encode(*format, &parts.parameters, types);
                Ok(Message { url: self.url.clone(), body, placed: vec![] })
            }
        }
    }

    async fn custom_body(
        &self,
        expression: &Expression,
        parts: &RequestParts,
        types: JsonTypes<'_>,
    ) -> Result<CustomBody, RequestError> {
        let mut placeholders = Placeholders::new(hex::encode(rand::random::<[u8; 16]>()));
        let Credentials { others, tenant, .. } = self.credentials;
        let grant = self.request.grant.kind();
        let job = placeholders.evaluation(expression.text(), &parts.parameters, types, others, grant);
        placeholders.body(self.sandbox.evaluate(tenant, &job).await)
    }

    async fn exchange(
        &self,
        message: Message,
        headers: HeaderMap,
        started: Stopwatch,
        timeout: Duration,
    ) -> Result<Sent, SendError> {
        let Message { url, body, placed: _ } = message;
        let body = DeadlineBody { bytes: Some(Bytes::from_owner(ZeroizedBytes(body))), started, timeout };
        let reading = Reading { max_body: self.max_response_size, reads: |_| true };
        let in_time = || started.elapsed() <= timeout;
        let response = self.connection.send(self.method(), &url, headers, body, in_time, reading).await?;
        let headers = self.headers_of(&response.headers);
        let raw = HttpResponse { status: response.status.as_u16(), headers, body: response.body };
        Ok(match response.error {
            // Of an error response, the status is enough.
            Some(error) if response.status.is_success() => Sent::Incomplete(raw, error),
            _ => Sent::Received(raw),
        })
    }

    /// All headers are kept only if an expression may read them.
    fn headers_of(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let all = self.request.expressions.use_bindings();
        let is_own = |name: &str| OWN_HEADERS.contains(&name) || REMAINING.contains(&name) || RESET.contains(&name);
        let headers = headers.iter().filter(|(name, _)| all || is_own(name.as_str()));
        // A value that is not UTF-8 is Latin-1 (RFC 9110, section 5.5).
        let text = |value: &HeaderValue| {
            std::str::from_utf8(value.as_bytes())
                .map_or_else(|_| value.as_bytes().iter().copied().map(char::from).collect(), ToOwned::to_owned)
        };
        headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
    }

    fn incomplete(&self, beginning: &HttpResponse, error: &DecodeError) -> RequestError {
        let (max, status) = (self.max_response_size, beginning.status);
        let (problem, advice) = match error {
            DecodeError::TooLarge => {
                (format!("is larger than {max} bytes"), Advice::CheckUrlOrSizeLimit(self.url_kind()))
            }
            error => (error.to_string(), Advice::CheckTokenEndpoint(self.url_kind())),
        };
        let message = format!("the body of the response ({status}) {problem}");
        let failure = RequestError::new(Reason::InvalidResponse, message).with_advice(advice);
        let refresh_token = if matches!(self.kind, RequestKind::Token) {
            parse::rotated_refresh_token_of_prefix(beginning, &self.request.expressions)
        } else {
            None
        };
        RequestError { refresh_token, ..failure }
    }

    fn timed_out(&self) -> RequestError {
        let (host, timeout) = (self.url.host_str().unwrap_or_default(), self.request.timeout);
        RequestError::new(Reason::RequestTimedOut, format!("{host} did not respond within {timeout:?}"))
            .with_advice(Advice::CheckUrlOrTimeout(self.url_kind()))
    }
}

/// The parameters of a request, encoded.
struct Message {
    url: Url,
    body: Zeroizing<Vec<u8>>,
    /// The texts that an expression has placed in the body.
    placed: Vec<SecretString>,
}

/// The URL with the parameters in its query. It must not be shown.
fn with_query(url: &Url, parameters: &[Parameter]) -> Url {
    let query = body::encode(Format::Form, parameters, JsonTypes::default());
    let before = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&")).unwrap_or_default();
    let mut url = url.clone();
    url.set_query(Some(&Zeroizing::new(format!("{before}{}", String::from_utf8_lossy(&query)))));
    url
}

/// Bytes that are zeroized when the last reference to them is dropped.
struct ZeroizedBytes(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for ZeroizedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The result of sending a request.
enum Sent {
    Received(HttpResponse),
    /// A success whose body exceeds the limit or cannot be decoded; this is its beginning.
    Incomplete(HttpResponse, DecodeError),
    Failed(SendError),
    TimedOut,
}

/// A body that is sent only before its deadline. Between the decision to send and the actual sending, a process may
/// be frozen for so long that another replica becomes the leader and uses the same refresh token.
#[derive(Debug)]
struct DeadlineBody {
    bytes: Option<Bytes>,
    started: Stopwatch,
    timeout: Duration,
}

impl http_body::Body for DeadlineBody {
    type Data = Bytes;
    type Error = DeadlineExceeded;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DeadlineExceeded>>> {
        if self.bytes.is_some() && self.started.elapsed() > self.timeout {
            return Poll::Ready(Some(Err(DeadlineExceeded)));
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

/// Nothing was sent, because the deadline has passed.
#[derive(Debug, thiserror::Error)]
#[error("the deadline of the request passed before it was sent")]
struct DeadlineExceeded;
