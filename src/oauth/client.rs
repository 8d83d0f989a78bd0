//! Sends requests to token and revocation endpoints over HTTP.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::reason::Reason;
use crate::clock::Stopwatch;
use crate::oauth::address::{Address, Finder, MetadataCaches};
use crate::oauth::body::Parameter;
use crate::oauth::credentials::Credentials;
use crate::oauth::echo;
use crate::oauth::error::{BuildError, RequestError, RotatedRefreshToken};
use crate::oauth::exchange::Exchange;
use crate::oauth::expression::data;
use crate::oauth::expression::error::CheckError;
use crate::oauth::expression::error::{ExpressionError, InvalidExpression};
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::protocol::{EvaluationRequest, EvaluationResult, Task};
use crate::oauth::expression::sandbox::Sandbox;
use crate::oauth::http::authorization::{Destination, Restrictions};
use crate::oauth::http::clock_offsets::ClockOffsets;
use crate::oauth::http::connections::{HttpClients, Settings};
use crate::oauth::http::custom_ca::CustomCa;
use crate::oauth::http::egress::EgressPolicy;
use crate::oauth::http::errors::denied;
use crate::oauth::http::name_resolution;
use crate::oauth::http::nonces::{Nonces, is_nonce};
use crate::oauth::parameters::RequestKind;
use crate::oauth::request::TokenRequest;
use crate::oauth::response::evaluation::EvaluatedExpressions;
use crate::oauth::response::parse;
use crate::oauth::response::raw::{HttpResponse, http_date};
use crate::oauth::response::token::TokenResponse;
use crate::oauth::revocation::RevocationRequest;

/// The default maximum size of a token response, in bytes. The largest known responses have about 16 KiB.
pub const MAX_RESPONSE_SIZE: usize = 64 << 10;
/// The maximum total size of all responses that are being read or wait for evaluation, in bytes.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// The maximum size of the response headers that expressions can read, in bytes.
const MAX_HEADERS: usize = 64 << 10;
/// The minimum time for an evaluation that [`TokenRequest::max_duration`] does not include, namely that of a path through
/// a list.
const MIN_EVALUATION: Duration = Duration::from_millis(500);

/// Sends requests. Clones share caches and workers.
#[derive(Clone)]
pub struct Client {
    http: HttpClients,
    metadata: MetadataCaches,
    egress: Arc<EgressPolicy>,
    sandbox: Sandbox,
    /// The maximum size of a token response, in bytes.
    max_response_size: usize,
    nonces: Nonces,
    clock_offsets: ClockOffsets,
    observer: Option<Arc<ResponseObserver>>,
    data_observer: Option<Arc<DataObserver>>,
}

/// The response to a token request, not parsed yet.
#[derive(Debug)]
pub struct Received {
    response: HttpResponse,
    /// The values that were sent, which must be redacted.
    sent: Vec<Parameter>,
    /// The scope that was requested: that of the spec, or the default of the protected resource.
    scope: Option<String>,
    started: Stopwatch,
}

/// The response to a request.
struct Exchanged {
    response: HttpResponse,
    /// The values that were sent, which must be redacted.
    sent: Vec<Parameter>,
    /// The scope that was requested.
    scope: Option<String>,
}

impl Received {
    /// Whether its status is a success (2xx).
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.response.status, 200..300)
    }
}

/// Called with each response as it was received: for `fetch --explain`.
pub type ResponseObserver = dyn Fn(&TokenRequest, &HttpResponse, &EvaluatedExpressions) + Send + Sync;
/// Called with each expression for the target that a worker has evaluated, by its key: for `fetch --explain`.
pub type DataObserver = dyn Fn(&str, &Expression, &EvaluationResult) + Send + Sync;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that sends requests only to destinations that `egress` allows; see [`HttpClients::new`].
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(egress: EgressPolicy) -> Result<Self, BuildError> {
        let egress = Arc::new(egress);
        Ok(Self {
            http: HttpClients::new(Arc::clone(&egress))?,
            metadata: MetadataCaches::default(),
            egress,
            sandbox: Sandbox::new(),
            max_response_size: MAX_RESPONSE_SIZE,
            nonces: Nonces::default(),
            clock_offsets: ClockOffsets::default(),
            observer: None,
            data_observer: None,
        })
    }

    /// The same with another size limit for token responses, in bytes.
    #[must_use]
    pub fn with_max_response_size(self, bytes: usize) -> Self {
        Self { max_response_size: bytes, ..self }
    }

    /// The sandbox that evaluates expressions other than paths.
    #[must_use]
    pub const fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Checks the CA bundle of a namespace. An unchanged bundle is not parsed again.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that says why it cannot be used.
    pub async fn check_ca_bundle(&self, tenant: &str, bundle: &CustomCa) -> Result<(), RequestError> {
        self.http.check_ca_bundle(tenant, bundle).await
    }

    /// Checks whether expressions can be parsed, by their field in the spec; an error names the field. Waits without a
    /// timeout.
    ///
    /// # Errors
    ///
    /// Why they could not be checked.
    pub async fn check(
        &self,
        tenant: &str,
        expressions: &[(String, Expression)],
    ) -> Result<Result<(), InvalidExpression>, CheckError> {
        let texts: Vec<String> = expressions.iter().map(|(_, expression)| expression.text().to_owned()).collect();
        if texts.is_empty() {
            return Ok(Ok(()));
        }
        let checked = self.sandbox.check(tenant, texts).await?;
        let wrong = expressions
            .iter()
            .zip(checked)
            .find_map(|((field, _), checked)| Some(InvalidExpression { field: field.clone(), error: checked.err()? }));
        Ok(wrong.map_or(Ok(()), Err))
    }

    /// The same with observers that are called with each response, and with the data that is computed from it.
    #[must_use]
    pub fn with_observers(self, observer: Arc<ResponseObserver>, data_observer: Arc<DataObserver>) -> Self {
        Self { observer: Some(observer), data_observer: Some(data_observer), ..self }
    }

    /// Reports the result of an expression for the target to the observer, if there is one: the result is a copy of a
    /// secret value.
    pub fn observe_data(&self, key: &str, expression: &Expression, result: impl FnOnce() -> EvaluationResult) {
        if let Some(observer) = &self.data_observer {
            observer(key, expression, &result());
        }
    }

    /// Sends a token request and receives its response. Nothing is retried here, except if the server requires a DPoP
    /// nonce.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that names what to change and contains no secrets.
    pub async fn send(&self, request: &TokenRequest, credentials: &Credentials) -> Result<Received, RequestError> {
        let started = Stopwatch::now();
        let exchange = self.exchange(request, credentials, &RequestKind::Token);
        let Exchanged { response, sent, scope } = name_resolution::on_behalf_of(&credentials.tenant, exchange).await?;
        Ok(Received { response, sent, scope, started })
    }

    /// Parses a token response: evaluates the expressions of the spec and checks their results.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that names what to change and contains no secrets.
    pub async fn read(
        &self,
        request: &TokenRequest,
        credentials: &Credentials,
        received: Received,
    ) -> Result<TokenResponse, RequestError> {
        let is_success = received.is_success();
        let Received { response, sent, scope, started } = received;
        let mut evaluated = EvaluatedExpressions::read(&response.body, &request.expressions);
        if is_success || self.observer.is_some() || request.expressions.of_failure().next().is_some() {
            let time = request.max_duration().saturating_sub(started.elapsed()).max(MIN_EVALUATION);
            let all = is_success || self.observer.is_some();
            self.evaluate(&credentials.tenant, request, &response, &mut evaluated, all, time).await;
        }
        if let Some(observer) = &self.observer {
            observer(request, &response, &evaluated);
        }
        let token = parse::parse_token_response(&response, request, &sent, Timestamp::now(), &evaluated)?;
        let needs_response = request.expressions.computed_data.values().any(data::needs_response);
        let uses_response = needs_response || !request.expressions.response_data.is_empty();
        if uses_response && credentials.of_provider && echo::repeats_client(&response, request, credentials, &sent) {
            let message = "the response repeats credentials of the provider, which an expression for the target could write there: remove the expressions that use the response";
            let refresh_token = token.refresh_token.map(RotatedRefreshToken);
            return Err(RequestError { refresh_token, ..RequestError::new(Reason::InvalidResponse, message) });
        }
        let source = needs_response.then_some(response);
        // If a response contains no scope, it is the requested one (RFC 6749, section 5.1).
        Ok(TokenResponse { scope: token.scope.or(scope), source, ..token })
    }

    /// Evaluates the expressions other than paths, in the sandbox.
    async fn evaluate(
        &self,
        tenant: &str,
        request: &TokenRequest,
        response: &HttpResponse,
        evaluated: &mut EvaluatedExpressions,
        all: bool,
        time: Duration,
    ) {
        let (expressions, public) = evaluated.remaining(&request.expressions, all);
        if expressions.is_empty() {
            return;
        }
        if response.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_HEADERS {
            return evaluated.add(&expressions, public, Err(ExpressionError::HeadersTooLarge(MAX_HEADERS >> 10)));
        }
        let body = std::str::from_utf8(&response.body).unwrap_or_default().to_owned();
        let (status, headers) = (response.status, response.headers.clone());
        let task = Task::Evaluate;
        let job = EvaluationRequest { task, expressions, public, status, headers, body, input: None };
        // A refresh token that only an expression finds must not be lost because the queue is long. The timeout below
        // applies in any case.
        let finds_refresh_token = job.expressions.iter().any(|text| text == request.expressions.refresh_token.text());
        let evaluation = async {
            if finds_refresh_token {
                self.sandbox.evaluate_within(tenant, &job, time).await
            } else {
                self.sandbox.evaluate(tenant, &job).await
            }
        };
        let results = tokio::time::timeout(time, evaluation).await;
        let results = results.unwrap_or(Err(ExpressionError::TimedOut(time)));
        evaluated.add(&job.expressions, public, results);
    }

    /// Revokes a token.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] without secrets. A token that the server does not know is not an error (RFC 7009, section
    /// 2.2).
    pub async fn revoke(
        &self,
        request: &TokenRequest,
        credentials: &Credentials,
        revocation: &RevocationRequest,
    ) -> Result<(), RequestError> {
        let kind = RequestKind::Revocation(revocation);
        let exchange = self.exchange(request, credentials, &kind);
        let Exchanged { response, sent, scope: _ } =
            name_resolution::on_behalf_of(&credentials.tenant, exchange).await?;
        parse::parse_revocation_response(&response, &sent)
    }

    /// Checks that a request could be sent: finds the endpoint, and prepares the connection to it. Metadata are read, unless
    /// they are cached; nothing else is sent.
    ///
    /// # Errors
    ///
    /// What would prevent the request.
    pub async fn check_endpoint(&self, request: &TokenRequest, credentials: &Credentials) -> Result<(), RequestError> {
        let finder = Finder { http: &self.http, metadata: &self.metadata, egress: &self.egress, request, credentials };
        let find = Box::pin(finder.find(&RequestKind::Token));
        let Address { url, request: with_defaults, source: _ } =
            name_resolution::on_behalf_of(&credentials.cache_owner, find).await?;
        let request = with_defaults.as_deref().unwrap_or(request);
        let to = Destination::new(&url, request, credentials);
        let authorized = self.egress.authorize(&to, &Restrictions::of(credentials));
        authorized.map_err(|why| denied(RequestKind::Token.url_kind(request), &why))?;
        self.http.connection(&Settings::of(request, credentials)?, &credentials.cache_owner).await.map(drop)
    }

    /// Finds the endpoint, checks that the request may be sent to it, and sends it.
    async fn exchange(
        &self,
        request: &TokenRequest,
        credentials: &Credentials,
        kind: &RequestKind<'_>,
    ) -> Result<Exchanged, RequestError> {
        let since = Stopwatch::now();
        let namespace = credentials.cache_owner.as_str();
        let finder = Finder { http: &self.http, metadata: &self.metadata, egress: &self.egress, request, credentials };
        // Boxed, so that its memory is free again before the request is sent.
        let Address { mut url, request: with_defaults, source } = Box::pin(finder.find(kind)).await?;
        let request = with_defaults.as_deref().unwrap_or(request);
        if matches!(kind, RequestKind::Token) && !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let to = Destination::new(&url, request, credentials);
        let authorized = self.egress.authorize(&to, &Restrictions::of(credentials));
        authorized.map_err(|why| denied(kind.url_kind(request), &why))?;
        // Not earlier: only now is it certain that the client certificate may be sent to the endpoint.
        let connection = self.http.connection(&Settings::of(request, credentials)?, namespace).await?;
        // A revocation response is not kept; its limit does not grow with that of token responses, so that responses
        // in flight use little memory.
        let max_response_size = match kind {
            RequestKind::Token => self.max_response_size,
            RequestKind::Revocation(_) => self.max_response_size.min(MAX_RESPONSE_SIZE),
        };
        let sending = Exchange {
            connection: &connection,
            url: &url,
            request,
            credentials,
            kind,
            since,
            max_response_size,
            sandbox: &self.sandbox,
            clock_offset: self.clock_offsets.get(namespace, &connection, &url),
        };
        let (response, sent) = self.send_exchange(&sending).await.inspect_err(|error| {
            // The endpoint may have moved.
            if error.reason == Reason::EndpointUnreachable {
                self.metadata.forget(namespace, &source);
            }
        })?;
        if matches!(response.status, 300..400 | 404 | 405 | 410) {
            self.metadata.forget(namespace, &source);
        }
        Ok(Exchanged { response, sent, scope: request.scope.clone() })
    }

    /// Sends a request, and sends it once more if the server requires a nonce in the DPoP proof: the server has then
    /// rejected the first request without processing it (RFC 9449, section 8).
    async fn send_exchange(&self, exchange: &Exchange<'_>) -> Result<(HttpResponse, Vec<Parameter>), RequestError> {
        let Exchange { connection, url, request, credentials, .. } = *exchange;
        let namespace = credentials.cache_owner.as_str();
        let nonce = request.dpop.then(|| self.nonces.get(namespace, connection, url)).flatten();
        let sent_at = Timestamp::now();
        let first = exchange.send(nonce.as_deref()).await;
        let is_success = matches!(&first, Ok((response, _)) if matches!(response.status, 200..300));
        if nonce.is_some() && !is_success {
            self.nonces.forget(namespace, connection, url);
        }
        let (response, sent) = first?;
        if request.sends_signed_jwt()
            && let Some(date) = response.header("date").and_then(http_date)
        {
            self.clock_offsets.learn(namespace, connection, url, date, (sent_at, Timestamp::now()));
        }
        let offered =
            response.header("dpop-nonce").filter(|text| request.dpop && is_nonce(text)).map(ToOwned::to_owned);
        let is_required = offered.is_some() && parse::is_use_dpop_nonce(&response);
        let Some(offered) = offered.filter(|_| is_success || is_required) else { return Ok((response, sent)) };
        self.nonces.remember(namespace, connection, url, &offered);
        if !is_required || nonce.as_deref() == Some(offered.as_str()) {
            return Ok((response, sent));
        }
        let (response, sent) = exchange.send(Some(&offered)).await?;
        // The server may already offer the next one, even with a rejection.
        match response.header("dpop-nonce").filter(|text| is_nonce(text)) {
            Some(next) if matches!(response.status, 200..300) || parse::is_use_dpop_nonce(&response) => {
                self.nonces.remember(namespace, connection, url, next);
            }
            _ if !matches!(response.status, 200..300) => self.nonces.forget(namespace, connection, url),
            _ => {}
        }
        Ok((response, sent))
    }
}

/// How many responses of this size may be in memory at the same time. A request is sent only when there is memory for
/// its response.
#[must_use]
pub fn responses_at_once(max_response_size: usize) -> usize {
    (MAX_RESPONSE_BYTES / max_response_size.max(1)).max(2)
}
