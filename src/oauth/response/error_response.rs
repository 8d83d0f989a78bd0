//! The error response of an endpoint, and hints for the user.

use jiff::{SignedDuration, Timestamp};

use crate::api::client_authentication::ClientAuthenticationMethod as Method;
use crate::api::request::Format;
use crate::oauth::body::Parameter;
use crate::oauth::error::Advice;
use crate::oauth::expression::document::Document;
use crate::oauth::redaction::redact::redact;
use crate::oauth::request::{Grant, TokenRequest};

/// The error codes of RFC 6749, section 5.2. They do not reveal the values that were sent, even if the client ID is
/// `client`.
const STANDARD_ERROR_CODES: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// The OAuth error fields of a body (RFC 6749, section 5.2). They are redacted only when they are displayed, so that
/// successful responses do not pay for it.
#[derive(Clone, Copy)]
pub(crate) struct ErrorResponse<'a> {
    document: &'a Document,
    sent: &'a [Parameter],
}

impl<'a> ErrorResponse<'a> {
    pub(crate) const fn of(document: &'a Document, sent: &'a [Parameter]) -> Self {
        Self { document, sent }
    }

    /// `error`, as received: for comparisons, not for display.
    pub(crate) fn error(&self) -> Option<&'a str> {
        self.document.error.as_deref()
    }
}

impl std::fmt::Display for ErrorResponse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error() {
            Some(word) if STANDARD_ERROR_CODES.contains(&word) => write!(f, ": {word}")?,
            Some(word) => write!(f, ": {}", redact(word, self.sent))?,
            None => {}
        }
        match &self.document.error_description {
            Some(text) => write!(f, ": {}", redact(text, self.sent)),
            None => Ok(()),
        }
    }
}

/// The advice to the user. The most common mistake is the wrong body format, which the errors of endpoints do not
/// explain.
pub(crate) fn advice(status: u16, error: ErrorResponse<'_>, request: &TokenRequest) -> Option<Advice> {
    Some(match (request.format, status, error.error()) {
        (Format::Json, 415, _) | (Format::Json, _, Some("invalid_request" | "unsupported_grant_type")) => {
            Advice::TryForm
        }
        (Format::Form, 415, _) | (Format::Form, _, Some("unsupported_grant_type")) => Advice::TryJson,
        (_, _, Some("invalid_grant")) if request.grant.is_refresh() => Advice::ReplaceRefreshToken,
        (_, _, Some("invalid_client" | "unauthorized_client")) | (_, 401, _) => {
            match (&request.grant, request.client.method) {
                (Grant::UserPassword, _) => Advice::CheckUser,
                (_, Method::ClientSecretJwt | Method::ClientSecretBasic) => Advice::CheckClientAndMethod,
                (_, Method::PrivateKeyJwt) => Advice::CheckAssertion,
                (_, Method::TlsClientAuth) => Advice::CheckCertificate,
                (_, Method::ServiceAccountToken) => Advice::CheckServiceAccountToken,
                (_, Method::None) => Advice::Authenticate,
                (_, Method::ClientSecretPost) => Advice::CheckClient,
            }
        }
        (_, 404 | 405, _) => Advice::CheckUrl(request.endpoint.kind()),
        _ => return None,
    })
}

/// A hint about clocks: a server rejects a signed JWT if the clocks differ, but its error rarely says so.
pub(crate) fn clock_skew_hint(date: Timestamp, now: Timestamp, request: &TokenRequest) -> String {
    const TOLERATED: SignedDuration = SignedDuration::from_secs(30);
    let ahead = date.duration_since(now);
    if !request.sends_signed_jwt() || ahead.abs() < TOLERATED {
        return String::new();
    }
    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    format!("; the endpoint's clock is {} s {direction} this machine's: set the clocks", ahead.abs().as_secs())
}
