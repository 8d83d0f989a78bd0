//! What an answer of a token endpoint means: its tokens, or why it has none.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;
use secrecy::SecretString;

use super::body::Member;
use super::redact::shown;
use super::{Ask, Expression, Expressions};
use crate::api::{Format, GrantType, Reason};
use crate::error::{Failure, KeptToken};

/// The longest wait that an endpoint may ask for; one that asks for more is asked again after a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The tokens of an answer, and what it told of them.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The access token: RFC 6749's `1*VSCHAR`.
    pub access_token: SecretString,
    /// The refresh token, where there was one.
    pub refresh_token: Option<SecretString>,
    /// The life that the response told.
    pub expires_in: Option<SignedDuration>,
    /// `token_type`, such as `Bearer`.
    pub token_type: Option<String>,
    /// `scope`, as granted.
    pub scope: Option<String>,
    /// When it was given, by the endpoint's own clock (`Date`; RFC 9110, section 6.6.1).
    pub date: Option<Timestamp>,
}

/// An answer, as it came.
#[derive(Debug)]
pub struct Raw {
    /// The HTTP status code.
    pub status: u16,
    /// `Retry-After` (RFC 9110, section 10.2.3), as it came.
    pub retry_after: Option<String>,
    /// `Date` (RFC 9110, section 6.6.1), as it came.
    pub date: Option<String>,
    /// The body, at most [`super::client::MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

/// Reads an answer. Evaluates expressions, so it may block for some seconds at worst.
///
/// # Errors
///
/// A [`Failure`] for every answer without a usable access token.
pub fn read(raw: &Raw, ask: &Ask, sent: &[Member], now: Timestamp) -> Result<Answer, Failure> {
    let body = std::str::from_utf8(&raw.body).ok().and_then(|text| JValue::from_json_str(text).ok());
    let told = Told::of(body.as_ref(), sent);
    let date = raw.date.as_deref().and_then(http_date);
    match raw.status {
        200..300 => {
            let body = body.ok_or_else(|| not_json(raw))?;
            let tokens = tokens(&body, &ask.expressions).map(|answer| Answer { date, ..answer });
            tokens.map_err(|problem| Failure {
                refresh_token: refresh_token(&ask.expressions, &body).ok().flatten().map(KeptToken),
                ..no_token(raw.status, &problem, &told)
            })
        }
        300..400 => Err(Failure::new(
            Reason::Redirected,
            format!(
                "the endpoint answered {} with a redirect, which is not followed: set spec.tokenEndpoint to the final address",
                raw.status
            ),
        )),
        408 | 429 | 500.. => Err(Failure {
            retry_after: retry_after(raw.retry_after.as_deref(), date.unwrap_or(now)),
            ..Failure::new(Reason::EndpointUnavailable, format!("the endpoint answered {}{told}", raw.status))
        }),
        _ => Err(Failure {
            retry_after: retry_after(raw.retry_after.as_deref(), date.unwrap_or(now)),
            invalid_grant: told.error.as_deref() == Some("invalid_grant"),
            ..Failure::new(
                Reason::RequestRefused,
                format!("the endpoint refused the request with {}{told}{}", raw.status, hint(raw.status, &told, ask)),
            )
        }),
    }
}

/// The errors of RFC 6749, section 5.2. They tell nothing of what was sent, not even where a client is called `client`.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// The OAuth error fields of a body (RFC 6749, section 5.2), made safe to be shown.
#[derive(Debug, Default)]
struct Told {
    error: Option<String>,
    description: Option<String>,
}

impl Told {
    fn of(body: Option<&JValue>, sent: &[Member]) -> Self {
        let field = |name| body.and_then(|body| text(body, name));
        let error = field("error").map(|word| if ERRORS.contains(&word.as_str()) { word } else { shown(&word, sent) });
        Self { error, description: field("error_description").map(|text| shown(&text, sent)) }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.error, &self.description].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

fn text(body: &JValue, name: &str) -> Option<String> {
    let JValue::Object(members) = body else { return None };
    members.get(name)?.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// The commonest mistake is the wrong body format, and endpoints do not say so in words that help.
fn hint(status: u16, told: &Told, ask: &Ask) -> &'static str {
    match (ask.format, status, told.error.as_deref()) {
        (Format::Json, 415, _) | (Format::Json, _, Some("invalid_request" | "unsupported_grant_type")) => {
            "; the endpoint may not take JSON: try spec.request.format: form"
        }
        (Format::Form, 415, _) | (Format::Form, _, Some("unsupported_grant_type")) => {
            "; the endpoint may not take forms: try spec.request.format: json"
        }
        (_, _, Some("invalid_grant")) if ask.grant == GrantType::RefreshToken => {
            "; the refresh token is not valid (any more): put a new one into the credentials Secret"
        }
        (_, _, Some("invalid_client" | "unauthorized_client")) | (_, 401, _) => match ask.grant {
            GrantType::UserPassword => "; check user name and password in the credentials Secret",
            GrantType::ClientCredentials | GrantType::RefreshToken => {
                "; check client id and client secret in the credentials Secret"
            }
        },
        (_, 404 | 405, _) => "; check spec.tokenEndpoint",
        _ => "",
    }
}

fn not_json(raw: &Raw) -> Failure {
    let what = if raw.body.is_empty() { "is empty" } else { "is not JSON" };
    Failure::new(
        Reason::InvalidResponse,
        format!("the body of the answer ({}) {what}: check that spec.tokenEndpoint is the token endpoint", raw.status),
    )
}

fn no_token(status: u16, problem: &str, told: &Told) -> Failure {
    let told = match &told.error {
        Some(_) => format!("; the answer ({status}) tells{told}"),
        None => format!(" of the answer ({status})"),
    };
    Failure::new(Reason::InvalidResponse, format!("{problem}{told}"))
}

fn tokens(body: &JValue, expressions: &Expressions) -> Result<Answer, String> {
    let Expressions { access_token, refresh_token: _, expires_in } = expressions;
    let access = token("spec.response.accessToken", access_token, body)?
        .ok_or_else(|| format!("spec.response.accessToken ({}) yields nothing in the body", access_token.text()))?;
    Ok(Answer {
        access_token: access,
        refresh_token: self::refresh_token(expressions, body)?,
        expires_in: seconds(expires_in, body),
        token_type: text(body, "token_type"),
        scope: text(body, "scope"),
        date: None,
    })
}

fn refresh_token(expressions: &Expressions, body: &JValue) -> Result<Option<SecretString>, String> {
    token("spec.response.refreshToken", &expressions.refresh_token, body)
}

/// The token that an expression yields; `None` where it yields nothing or an empty string.
fn token(field: &str, expression: &Expression, body: &JValue) -> Result<Option<SecretString>, String> {
    let value = expression
        .evaluate(body)
        .map_err(|error| format!("{field} ({}) ends in {error} on the body", expression.text()))?;
    let token = match &value {
        JValue::Undefined | JValue::Null => return Ok(None),
        JValue::String(token) if token.is_empty() => return Ok(None),
        JValue::String(token) => token,
        other => {
            let kind = kind(other);
            return Err(format!("{field} ({}) yields {kind} instead of a string in the body", expression.text()));
        }
    };
    // RFC 6749, appendix A: a token is of VSCHAR. A line break would split the header that carries it.
    if token.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        Ok(Some(SecretString::from(token.to_string())))
    } else {
        Err(format!(
            "{field} ({}) yields a token with characters that RFC 6749 does not allow in the body",
            expression.text()
        ))
    }
}

const fn kind(value: &JValue) -> &'static str {
    match value {
        JValue::Bool(_) => "a boolean",
        JValue::Number(_) => "a number",
        JValue::Array(_) => "a list",
        JValue::Object(_) => "an object",
        _ => "something else",
    }
}

/// The life in seconds, also where it comes as text. What cannot be understood is no reason to throw a good token
/// away (the old refresh token may be gone by now): it counts as not told.
fn seconds(expression: &Expression, body: &JValue) -> Option<SignedDuration> {
    let seconds = match expression.evaluate(body).ok()? {
        JValue::Number(seconds) => seconds,
        JValue::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    SignedDuration::try_from_secs_f64(seconds).ok().filter(SignedDuration::is_positive)
}

fn http_date(header: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header.trim()).ok()
}

/// Seconds or an HTTP date, as the time from `now`, which is the endpoint's own where it tells.
fn retry_after(header: Option<&str>, now: Timestamp) -> Option<Duration> {
    let header = header?.trim();
    let wait = if let Ok(seconds) = header.parse() {
        Duration::from_secs(seconds)
    } else {
        Duration::try_from(http_date(header)?.duration_since(now)).ok()?
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}
