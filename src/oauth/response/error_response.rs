//! The error response of an endpoint, and hints for the user.

use jiff::Timestamp;

use crate::api::client_authentication::ClientAuthenticationMethod as Method;
use crate::api::request::Format;
use crate::oauth::body::Parameter;
use crate::oauth::error::Advice;
use crate::oauth::expression::document::Document;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::http::clock_offsets;
use crate::oauth::redaction::redact::redact;
use crate::oauth::request::{Grant, TokenRequest};
use crate::oauth::response::raw::HttpResponse;
use crate::oauth::response::server_message::{is_html, server_message};

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

/// The error that a response contains: the OAuth fields of the body (RFC 6749, section 5.2), or else the server's own
/// message. They are looked up and redacted only when they are displayed, so that successful responses do not pay for it.
#[derive(Clone, Copy)]
pub(crate) struct ErrorResponse<'a> {
    raw: &'a HttpResponse,
    document: &'a Document,
    place: Option<&'a Expression>,
    sent: &'a [Parameter],
}

impl<'a> ErrorResponse<'a> {
    /// `place` is where the spec says that the server's message is.
    pub(crate) const fn of(
        raw: &'a HttpResponse,
        document: &'a Document,
        place: Option<&'a Expression>,
        sent: &'a [Parameter],
    ) -> Self {
        Self { raw, document, place, sent }
    }

    /// `error`, as received: for comparisons, not for display.
    pub(crate) fn error(&self) -> Option<&'a str> {
        self.document.error.as_deref()
    }

    /// Whether `error` is a code of RFC 6749, which says clearly what is wrong.
    fn is_standard(&self) -> bool {
        self.error().is_some_and(|word| STANDARD_ERROR_CODES.contains(&word))
    }

    /// Whether the server rejects the client (RFC 6749, section 5.2); some name another code together with 401.
    pub(crate) fn is_invalid_client(&self, status: u16) -> bool {
        self.error() == Some("invalid_client") || (status == 401 && self.error() == Some("unauthorized_client"))
    }

    /// Another text of the server, redacted.
    pub(crate) fn redacted(&self, text: &str) -> String {
        redact(text, self.sent)
    }

    /// The server's message, not redacted.
    fn message(&self) -> Option<String> {
        let described = self.document.error_description.clone().filter(|_| self.place.is_none());
        described.or_else(|| server_message(self.raw, self.place))
    }

    /// The client authentication method that the server's message names, if it is not the one that was used.
    fn named_method(&self, used: Method) -> Option<Method> {
        const METHODS: [Method; 5] = [
            Method::ClientSecretBasic,
            Method::ClientSecretPost,
            Method::ClientSecretJwt,
            Method::PrivateKeyJwt,
            Method::TlsClientAuth,
        ];
        let message = self.message()?;
        METHODS.into_iter().find(|method| *method != used && message.contains(method.as_str()))
    }

    /// Whether the server's message names a parameter of assertions of clients (RFC 7521, section 4.2).
    fn expects_assertion(&self) -> bool {
        self.message().is_some_and(|message| message.contains("client_assertion"))
    }
}

impl std::fmt::Display for ErrorResponse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error() {
            Some(word) if STANDARD_ERROR_CODES.contains(&word) => write!(f, ": {word}")?,
            Some(word) => write!(f, ": {}", redact(word, self.sent))?,
            None => {}
        }
        match self.message() {
            Some(text) if Some(text.as_str()) == self.error() => Ok(()),
            // The advice follows, after a semicolon.
            Some(text) if is_html(self.raw) => write!(f, ": an HTML page: {}", trimmed(&redact(&text, self.sent))),
            Some(text) => write!(f, ": {}", trimmed(&redact(&text, self.sent))),
            None if is_html(self.raw) => f.write_str(": an HTML page"),
            None => Ok(()),
        }
    }
}

/// The text without the period at its end.
fn trimmed(text: &str) -> &str {
    text.strip_suffix('.').filter(|text| !text.ends_with('.')).unwrap_or(text)
}

/// The advice to the user. The most common mistake is the wrong body format, which the errors of endpoints do not
/// explain.
pub(crate) fn advice(status: u16, error: ErrorResponse<'_>, request: &TokenRequest) -> Vec<Advice> {
    let other_format = match request.format {
        Format::Json => Advice::TryForm,
        Format::Form => Advice::TryJson,
    };
    // A query has no format, and a body of the spec has its own.
    let has_format = !request.sends_query() && request.body.is_none();
    let mut advice = Vec::new();
    if let Some(method) = error.named_method(request.client.method) {
        advice.push(Advice::UseMethod(method));
        return advice;
    }
    if error.expects_assertion() && !request.client.method.sends_assertion() {
        advice.push(Advice::UseAssertion);
        return advice;
    }
    match (status, error.error()) {
        (415, _) | (_, Some("unsupported_grant_type")) if has_format => advice.push(other_format.clone()),
        (_, Some("invalid_request")) if has_format && request.format == Format::Json => {
            advice.push(other_format.clone());
        }
        (_, Some("invalid_scope")) => advice.push(Advice::CheckScope),
        (_, Some("invalid_target")) => advice.push(Advice::CheckResource),
        (_, Some("access_denied")) if request.resource.is_none() => advice.push(Advice::CheckResource),
        (400 | 403, Some("unauthorized_client")) => advice.push(Advice::AllowGrant(request.grant.kind())),
        (_, Some("invalid_grant")) => advice.push(match request.grant {
            Grant::RefreshToken => Advice::ReplaceRefreshToken,
            Grant::Password | Grant::UserPassword => Advice::CheckUser,
            Grant::ClientCredentials | Grant::JwtBearer(_) | Grant::TokenExchange(_) | Grant::SelfSignedJwt(_) => {
                Advice::CheckGrantToken
            }
        }),
        (_, Some("invalid_client" | "unauthorized_client")) | (401, _) => advice.extend(client_advice(request)),
        (404 | 405, _) => advice.push(Advice::CheckUrl(request.endpoint.kind())),
        _ if is_html(error.raw) => advice.push(Advice::CheckGateway),
        _ => {}
    }
    // Many servers answer a body in a format that they cannot read with an error about the client, or with none.
    if has_format && matches!(status, 400 | 401 | 406) && !error.is_standard() && !advice.contains(&other_format) {
        advice.push(other_format);
    }
    advice
}

/// The advice if the server rejects the client.
fn client_advice(request: &TokenRequest) -> Vec<Advice> {
    if request.grant == Grant::UserPassword {
        return vec![Advice::CheckUser];
    }
    match request.client.method {
        Method::ClientSecretPost | Method::ClientSecretJwt => {
            vec![Advice::CheckClient, Advice::TryMethod(Method::ClientSecretBasic)]
        }
        Method::ClientSecretBasic => vec![Advice::CheckClient, Advice::TryMethod(Method::ClientSecretPost)],
        Method::PrivateKeyJwt => vec![Advice::CheckAssertion],
        Method::TlsClientAuth => vec![Advice::CheckCertificate],
        Method::ServiceAccountToken => vec![Advice::CheckServiceAccountToken],
        Method::None => vec![Advice::Authenticate],
    }
}

/// A hint about clocks: a server rejects a signed JWT if the clocks differ, but its error rarely says so.
pub(crate) fn clock_skew_hint(date: Timestamp, now: Timestamp, request: &TokenRequest) -> String {
    let ahead = date.duration_since(now);
    if !request.sends_signed_jwt() || ahead.abs() < clock_offsets::TOLERATED {
        return String::new();
    }
    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    let next = if ahead.abs() <= clock_offsets::MAX_OFFSET { "the next JWT will be dated by it; " } else { "" };
    format!("; the endpoint's clock is {} s {direction} this machine's: {next}set the clocks", ahead.abs().as_secs())
}
