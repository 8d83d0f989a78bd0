//! Obtains a token for one integration: from the observation to the content of its Secret. Shared by the operator and
//! by `fetch`; independent of the cluster. May use `decision` and the layers below it.

pub mod adopted;
pub mod attempt;
pub mod content;
pub(crate) mod data;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::acquisition::attempt::{Attempt, IssuedToken, Progress};
use crate::api::grant::GrantType;
use crate::api::reason::{FailureClass, Reason};
use crate::clock::{Stopwatch, now};
use crate::decision::observed::Observed;
use crate::limiter::request_limiter::Permit;
use crate::limiter::types::HostOutcome;
use crate::oauth::client::Client;
use crate::oauth::error::RequestError;
use crate::oauth::host_class::HostClass;
use crate::oauth::jwt::JwtStamp;
use crate::oauth::request::Grant;
use crate::oauth::self_signed;
use crate::oauth::signing_key::SigningKey;
use crate::spec::advice;
use crate::spec::validated::ValidatedSpec;

/// The result of an attempt.
#[derive(Debug)]
pub(crate) struct Acquired {
    /// The token, or a [`RequestError`] that names what to change and contains no secrets.
    pub(crate) result: Result<Box<IssuedToken>, RequestError>,
    /// The requests that were sent, in this order.
    pub(crate) requests: Vec<SentRequest>,
}

/// A request that was sent, for the metrics.
#[derive(Debug)]
pub(crate) struct SentRequest {
    pub(crate) grant: GrantType,
    /// The reason of its failure; `None` if it returned a token.
    pub(crate) failure: Option<Reason>,
    /// The time from just before it was sent until its response was evaluated.
    pub(crate) duration: SignedDuration,
    /// When it was sent.
    pub(crate) sent_at: Timestamp,
    /// Whether the host is in the cluster.
    pub(crate) host_class: HostClass,
    /// The host of the endpoint; `None` if it is discovered.
    pub(crate) host: Option<String>,
}

/// Requests a token: one request, or two if a refresh token is rejected and the spec has a fallback. The permit is
/// returned as soon as there is a successful response, because its evaluation does not involve the endpoint.
pub(crate) async fn acquire_token(
    client: &Client,
    observed: &Observed,
    spec: &ValidatedSpec,
    mut permit: Option<Permit>,
) -> Acquired {
    let begun = Stopwatch::now();
    let mut requests = Vec::new();
    let attempt = dpop_key(observed, spec).and_then(|dpop_key| Attempt::new(observed, spec, dpop_key));
    let mut attempt = match attempt {
        Ok(attempt) => attempt,
        Err(error) => return Acquired { result: Err(error), requests },
    };
    let mut source = None;
    let mut result = loop {
        let (request, credentials) = attempt.next_request();
        let sent_at = now();
        if let Grant::SelfSignedJwt(jwt) = &request.grant {
            let signed = self_signed::sign(jwt, &credentials, &JwtStamp::new(sent_at)).map_err(advice::explain);
            match attempt.record(signed, sent_at, begun.elapsed()) {
                Progress::Done(result) => break result,
                Progress::Continue => continue,
            }
        }
        let response = match client.send(request, &credentials).await {
            Ok(received) => {
                if received.is_success() {
                    permit.take().into_iter().for_each(|permit| permit.complete(HostOutcome::Responded));
                }
                client.read(request, &credentials, received).await
            }
            Err(error) => Err(error),
        };
        let mut response = response.map_err(advice::explain);
        let failure = response.as_ref().err().map(|error| error.reason);
        if !failure.is_some_and(is_not_sent) {
            let duration = now().duration_since(sent_at);
            let known = request.endpoint.known();
            requests.push(SentRequest {
                grant: request.grant.kind(),
                failure,
                duration,
                sent_at,
                host_class: HostClass::of(known),
                host: request.endpoint.url.as_ref().and_then(Url::host_str).map(ToOwned::to_owned),
            });
        }
        source = response.as_mut().ok().and_then(|response| response.source.take());
        if let Progress::Done(result) = attempt.record(response, sent_at, begun.elapsed()) {
            break result;
        }
    };
    if let Ok(issued) = &mut result
        && let Err(error) = data::add_to(client, observed, spec, &mut issued.content, source.as_ref()).await
    {
        result = Err(advice::explain(error));
    }
    if let (Some(permit), Some(outcome)) = (permit, host_outcome(result.as_ref().err())) {
        permit.complete(outcome);
    }
    Acquired { result, requests }
}

/// Whether a failure means that no token request was sent.
fn is_not_sent(failure: Reason) -> bool {
    failure.class() == FailureClass::Configuration
        || matches!(failure, Reason::InvalidIssuerMetadata | Reason::RequestNotBuilt)
}

/// The outcome for the endpoint's host; `None` if nothing was sent.
fn host_outcome(error: Option<&RequestError>) -> Option<HostOutcome> {
    match error.map(|error| (error.reason, error.reason.class(), error.retry_after)) {
        Some((Reason::RequestNotBuilt, _, _) | (_, FailureClass::Configuration, _)) => None,
        Some((Reason::EndpointUnreachable | Reason::RequestTimedOut | Reason::EndpointUnavailable, _, retry_after)) => {
            Some(HostOutcome::Failed { retry_after })
        }
        _ => Some(HostOutcome::Responded),
    }
}

/// The key that the tokens are bound to (RFC 9449): the stored one, or a new one if there is none or it is damaged.
fn dpop_key(observed: &Observed, spec: &ValidatedSpec) -> Result<Option<SecretString>, RequestError> {
    if !spec.token_request.dpop {
        return Ok(None);
    }
    let usable = |key: &&SecretString| {
        SigningKey::from_pem(key.expose_secret()).is_ok_and(|key| key.p256_coordinates().is_some())
    };
    if let Some(key) = observed.stored.dpop_key.as_ref().filter(usable) {
        return Ok(Some(key.clone()));
    }
    SigningKey::generate()
        .map(Some)
        .map_err(|error| RequestError::new(Reason::CredentialsInvalid, format!("spec.dpop: {error}")))
}
