//! One attempt to obtain a token, as a state machine: which request is sent, which one follows if the refresh token
//! is rejected, and how a response changes the target. Pure: it neither sends requests nor reads the clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::acquisition::content::{in_time, previous_token, provenance};
use crate::api::reason::Reason;
use crate::decision::observed::{CredentialsState, Observed};
use crate::fingerprint;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::error::RequestError;
use crate::oauth::http::connections::certificate_expiry;
use crate::oauth::lifetime;
use crate::oauth::lifetime::{Known, Lifetime, TokenTimes};
use crate::oauth::request::TokenRequest;
use crate::oauth::response::token::TokenResponse;
use crate::spec::credentials::{basic_encoding_hint, unusual_value_hint};
use crate::spec::renewal::Renewal;
use crate::spec::validated::ValidatedSpec;
use crate::target::content::{DataValue, TargetContent};

/// The `Date` header has whole seconds, and a response takes time: up to this difference, the two clocks are
/// considered equal.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// A token that expires later than the one before by no more than this has gained nothing: lifetimes have whole seconds.
const MIN_GAIN: SignedDuration = SignedDuration::from_secs(1);
/// How long after the end of a token another one is requested, if the endpoint returns the same one until then.
const AFTER_END: SignedDuration = SignedDuration::from_secs(1);

/// An issued token.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The content to write into the target.
    pub content: TargetContent,
    /// A warning about the token to report to users.
    pub warning: Option<Reason>,
}

/// The state of an attempt.
#[derive(Debug)]
pub struct Attempt<'a> {
    observed: &'a Observed,
    spec: &'a ValidatedSpec,
    credentials: &'a Credentials,
    version: &'a str,
    dpop_key: Option<SecretString>,
    step: Step<'a>,
    /// Whether the next client secret takes the place of the current one.
    uses_next_secret: bool,
    /// Whether the other client secret was tried.
    has_switched_secret: bool,
}

/// The request to send next.
#[derive(Debug)]
enum Step<'a> {
    /// [`ValidatedSpec::token_request`], with the refresh token if there is one.
    Main(&'a TokenRequest, Option<SecretString>),
    /// The fallback, with the error of the main request if that was sent.
    Fallback(&'a TokenRequest, Option<RequestError>),
}

/// The next step after a response.
#[derive(Debug)]
pub enum Progress {
    /// Another request must be sent.
    Continue,
    /// The attempt is over.
    Done(Result<Box<IssuedToken>, RequestError>),
}

impl<'a> Attempt<'a> {
    /// The attempt for an observation; `dpop_key` is the key that its tokens are bound to.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] if no request can be sent with these credentials.
    pub fn new(
        observed: &'a Observed,
        spec: &'a ValidatedSpec,
        dpop_key: Option<SecretString>,
    ) -> Result<Self, RequestError> {
        let CredentialsState::Resolved(credentials, version) = &observed.credentials else {
            let problem = "the credentials were not read: please report this";
            return Err(RequestError::new(Reason::CredentialsMissing, problem));
        };
        let step = match (observed.refresh_token(), spec.renewal.fallback()) {
            (None, Some(fallback)) => fallback_step(fallback, credentials, None)?,
            // The refresh token returns only tokens that expire with the session.
            (Some(_), Some(fallback)) if observed.session_ends() && has_credentials(fallback, credentials) => {
                Step::Fallback(fallback, None)
            }
            (refresh_token, _) => Step::Main(&spec.token_request, refresh_token),
        };
        let uses_next_secret = observed.uses_next_secret();
        Ok(Self { observed, spec, credentials, version, dpop_key, step, uses_next_secret, has_switched_secret: false })
    }

    /// The request to send now, and the credentials for it.
    #[must_use]
    pub fn next_request(&self) -> (&'a TokenRequest, Credentials) {
        let (request, refresh_token) = match &self.step {
            Step::Main(request, refresh_token) => (*request, refresh_token.clone()),
            Step::Fallback(request, _) => (*request, None),
        };
        let mut credentials = self.credentials.with_refresh_token(refresh_token.filter(|_| request.grant.is_refresh()));
        credentials.dpop_key.clone_from(&self.dpop_key);
        if self.uses_next_secret {
            credentials.use_next_secret();
        }
        (request, credentials)
    }

    /// Records the response to [`Attempt::next_request`], which was sent at `sent_at`. `elapsed` is the duration of
    /// the whole attempt so far, by a clock that also runs while the machine is suspended.
    pub fn record(
        &mut self,
        response: Result<TokenResponse, RequestError>,
        sent_at: Timestamp,
        elapsed: Duration,
    ) -> Progress {
        let error = match response {
            Ok(response) => return Progress::Done(Ok(Box::new(self.issued(response, sent_at)))),
            Err(error) => self.with_hint(error),
        };
        if self.may_switch_secret(&error, elapsed) {
            self.has_switched_secret = true;
            self.uses_next_secret = !self.uses_next_secret;
            return Progress::Continue;
        }
        match &mut self.step {
            Step::Main(request, Some(_))
                if is_refresh_token_rejected(&self.spec.renewal, &error)
                    // A process that was suspended in the meantime has no time for a second request, because another
                    // replica may already be the leader.
                    && elapsed <= request.max_duration() =>
            {
                let Some(fallback) = self.spec.renewal.fallback() else { return Progress::Done(Err(error)) };
                match fallback_step(fallback, self.credentials, Some(error)) {
                    Ok(step) => {
                        self.step = step;
                        Progress::Continue
                    }
                    Err(error) => Progress::Done(Err(error)),
                }
            }
            Step::Fallback(_, Some(_)) => {
                let name = if self.spec.renewal.is_refresh_first() { "grant" } else { "fallback" };
                let message = format!("the refresh token is no longer valid, and the {name} failed: {}", error.message);
                Progress::Done(Err(RequestError { message, ..error }))
            }
            Step::Main(..) | Step::Fallback(_, None) => Progress::Done(Err(error)),
        }
    }

    /// Whether the other client secret is tried. A server that rejects the client has not used the refresh token.
    fn may_switch_secret(&self, error: &RequestError, elapsed: Duration) -> bool {
        let (Step::Main(request, _) | Step::Fallback(request, _)) = &self.step;
        error.invalid_client
            && !self.has_switched_secret
            && request.optional_credentials().contains(&Credential::NextClientSecret)
            && self.credentials.has(Credential::NextClientSecret)
            && elapsed <= request.max_duration()
    }

    fn with_hint(&self, mut error: RequestError) -> RequestError {
        if error.reason == Reason::RequestRejected {
            let (request, credentials) = self.next_request();
            error.message += &unusual_value_hint(&self.spec.credentials, &credentials);
            if error.status == Some(401) {
                error.message += basic_encoding_hint(request, &credentials);
            }
        }
        error
    }

    fn issued(&self, response: TokenResponse, issued_at: Timestamp) -> IssuedToken {
        let Self { observed, spec, credentials, version, dpop_key, uses_next_secret, .. } = self;
        let (request, sent) = self.next_request();
        let mut times = self.times(request, &response, sent.get(Credential::RefreshToken), issued_at);
        let TokenResponse { access_token, refresh_token, token_type, scope, mut data, warning, .. } = response;
        let data = request.expressions.response_data.keys().filter_map(|key| {
            let fingerprint = spec.template.data.get(key)?.fingerprint.clone();
            // As for the refresh token: a value that is missing in the response to a refresh is kept.
            let stored = || observed.stored.data(key, &fingerprint).filter(|_| request.grant.is_refresh());
            let value = data.remove(key).or_else(|| stored()?.value.clone());
            Some((key.clone(), DataValue { fingerprint, value }))
        });
        let data = data.collect();
        let previous = previous_token(observed, spec, &access_token, issued_at);
        let mut provenance = provenance(observed, spec, credentials, version);
        provenance.uses_next_secret = *uses_next_secret;
        provenance.access_token_hash = Some(fingerprint::salted(&[access_token.expose_secret()]));
        // If a response contains no refresh token, the one that was sent stays valid (RFC 6749, section 6).
        let mut refresh_token = refresh_token.or_else(|| sent.get(Credential::RefreshToken).cloned());
        if let (None, Some((withheld, binding))) = (&refresh_token, observed.withheld_by_strategy()) {
            // The withheld token keeps its binding.
            (refresh_token, provenance.binding) = (Some(withheld), binding);
        }
        if refresh_token.is_none() {
            times.refresh_token_expires_at = None;
        }
        let certificate = credentials.get(Credential::TlsCertificate);
        times.certificate_expires_at = certificate.and_then(|pem| certificate_expiry(pem.expose_secret()));
        let content = TargetContent {
            access_token: Some(access_token),
            refresh_token,
            refresh_token_at: None,
            token_type,
            scope,
            data,
            previous,
            dpop_key: dpop_key.clone(),
            times: in_time(observed, spec, times),
            provenance,
        };
        let is_unexpected = matches!(&self.step, Step::Fallback(_, Some(_))) && !spec.renewal.is_refresh_first();
        let warning = match (is_unexpected, self.has_switched_secret && *uses_next_secret) {
            (true, _) => Some(Reason::FallbackUsed),
            (false, true) => Some(Reason::NextClientSecretUsed),
            (false, false) => warning.or(times.warning),
        };
        IssuedToken { content, warning }
    }

    /// The times of a token that was requested at `issued_at`, with this refresh token, if any.
    fn times(
        &self,
        request: &TokenRequest,
        response: &TokenResponse,
        sent: Option<&SecretString>,
        issued_at: Timestamp,
    ) -> TokenTimes {
        let Self { observed, spec, .. } = self;
        let date = response.date.filter(|date| date.duration_since(issued_at).abs() > CLOCK_TOLERANCE);
        let Lifetime { length, warning } = lifetime::resolve(&Known {
            issued_at: date.unwrap_or(issued_at),
            token_lifetime: spec.token_lifetime,
            expires_in: response.expires_in,
            expires_at: response.expires_at,
            problem: response.lifetime_problem,
            is_computed: !request.expressions.times_are_paths(),
            access_token: if response.is_verbatim { response.access_token.expose_secret() } else { "" },
        });
        let scheduled = lifetime::schedule(&observed.uid, issued_at, length, spec.renewal_time, observed.spread());
        let is_sent = |token: &SecretString| sent.is_some_and(|sent| sent.expose_secret() == token.expose_secret());
        // The response says nothing new about a refresh token that stays the same.
        let is_kept = sent.is_some() && response.refresh_token.as_ref().is_none_or(is_sent);
        let before = self.times_before();
        let known = before.filter(|_| is_kept).and_then(|before| before.refresh_token_expires_at);
        let refresh_token_expires_at =
            refresh_token_expiry(request, response, date.unwrap_or(issued_at), issued_at).or(known);
        let times = TokenTimes { refresh_token_expires_at, warning: warning.or(scheduled.warning), ..scheduled };
        match before {
            Some(before) if self.is_same_token(&response.access_token) => {
                same_token(times, before, spec.token_lifetime)
            }
            Some(before) if request.grant.is_refresh() => self.at_end_of_session(times, before),
            _ => times,
        }
    }

    /// The times of the token that is renewed, if it was issued for the same spec.
    fn times_before(&self) -> Option<TokenTimes> {
        let snapshot = self.observed.snapshot()?;
        (snapshot.provenance.spec_hash == self.spec.spec_hash).then_some(snapshot.times?)
    }

    fn is_same_token(&self, token: &SecretString) -> bool {
        let known = self.observed.snapshot().and_then(|snapshot| snapshot.provenance.access_token_hash.as_deref());
        known.is_some_and(|known| fingerprint::matches(known, &[token.expose_secret()]))
    }

    /// A refreshed token that does not expire later than the one before, because the session at the server ends then.
    /// Further refreshes would return tokens with shorter and shorter lifetimes, more and more often.
    fn at_end_of_session(&self, times: TokenTimes, before: TokenTimes) -> TokenTimes {
        let gain = |new: Timestamp, old: Timestamp| new.duration_since(old) > MIN_GAIN;
        let ends = match (times.refresh_token_expires_at, before.refresh_token_expires_at) {
            (Some(new), Some(old)) => !gain(new, old) && !gain(new, times.expires_at),
            _ => !gain(times.expires_at, before.expires_at),
        };
        // Two requests in quick succession, such as a requested renewal of a new token, gain little at any server.
        let is_quick = !before.session_ends && times.issued_at.duration_since(before.issued_at) <= 2 * MIN_GAIN;
        if !ends || is_quick {
            return times;
        }
        // The next renewal uses the other grant, or there is none.
        let renew_at = if self.spec.renewal.fallback().is_some() { times.renew_at } else { times.expires_at };
        TokenTimes { session_ends: true, renew_at, ..times }
    }
}

/// When the refresh token of a response expires, by the clock of this machine.
fn refresh_token_expiry(
    request: &TokenRequest,
    response: &TokenResponse,
    issued_at_by_endpoint: Timestamp,
    issued_at: Timestamp,
) -> Option<Timestamp> {
    let by_end = response.refresh_token_expires_at.map(|end| end.duration_since(issued_at_by_endpoint));
    let left = [response.refresh_token_expires_in, by_end].into_iter().flatten().min();
    let left = left.filter(SignedDuration::is_positive)?;
    let is_path = request.expressions.refresh_token_times_are_paths();
    issued_at.checked_add(if is_path { left } else { lifetime::rounded(left) }).ok()
}

/// The times of a token that the endpoint has returned again: it expires when it was known to expire, and the endpoint
/// returns another one only after that. If it returns the same one even then, it extends its tokens.
fn same_token(times: TokenTimes, before: TokenTimes, token_lifetime: Option<SignedDuration>) -> TokenTimes {
    let is_default =
        |times: TokenTimes| matches!(times.warning, Some(Reason::TokenLifetimeUnknown | Reason::TokenLifetimeInvalid));
    let is_assumed = is_default(before)
        || token_lifetime.is_some_and(|wanted| before.expires_at.duration_since(before.issued_at) >= wanted);
    let is_extended = times.issued_at >= before.expires_at && !is_default(times);
    if is_assumed || is_extended {
        return times;
    }
    let expires_at = times.expires_at.min(before.expires_at);
    let renew_at = expires_at.max(times.issued_at).checked_add(AFTER_END).unwrap_or(expires_at);
    let warning = before.warning;
    TokenTimes { expires_at, renew_at, warning, ..times }
}

/// Whether the refresh token was rejected. With `renewal.strategy` the grant can be run again after any rejection:
/// custom login endpoints do not use the error codes of RFC 6749.
fn is_refresh_token_rejected(renewal: &Renewal, error: &RequestError) -> bool {
    error.invalid_grant || (renewal.is_refresh_first() && error.reason == Reason::RequestRejected)
}

fn has_credentials(fallback: &TokenRequest, credentials: &Credentials) -> bool {
    fallback.required_credentials().iter().all(|credential| credentials.has(*credential))
}

/// The fallback, if its credentials are present.
fn fallback_step<'a>(
    fallback: &'a TokenRequest,
    credentials: &Credentials,
    rejected: Option<RequestError>,
) -> Result<Step<'a>, RequestError> {
    if has_credentials(fallback, credentials) {
        return Ok(Step::Fallback(fallback, rejected));
    }
    let required = fallback.required_credentials();
    let names: Vec<&str> = required.iter().map(|credential| credential.display_name()).collect();
    let message = format!("spec.renewal.fallback needs {}: add them to the credentials Secret", names.join(" and "));
    Err(match rejected {
        None => RequestError::new(Reason::CredentialsMissing, message),
        Some(rejected) => RequestError { message: format!("{}; {message}", rejected.message), ..rejected },
    })
}
