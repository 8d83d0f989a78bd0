//! What an answer of a token endpoint means: its tokens, or why it has none.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;
use secrecy::SecretString;

use super::body::Member;
use super::expression::Bindings;
use super::redact::shown;
use super::{Ask, Expression, Expressions, Grant};
use crate::api::{ClientAuthenticationMethod as Method, Format, Reason};
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
    /// The end of its life, by the endpoint's own clock, where the response told that.
    pub expires_at: Option<Timestamp>,
    /// More values, by their key in the target.
    pub extra: BTreeMap<String, SecretString>,
    /// When it was given, by the endpoint's own clock (`Date`; RFC 9110, section 6.6.1).
    pub date: Option<Timestamp>,
}

/// An answer, as it came.
#[derive(Debug)]
pub struct Raw {
    /// The HTTP status code.
    pub status: u16,
    /// The headers: names in small letters, and values that are text.
    pub headers: Vec<(String, String)>,
    /// The body, at most [`super::client::MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

impl Raw {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What expressions may use beside the body.
    #[must_use]
    pub fn bindings(&self) -> Bindings<'_> {
        Bindings { status: self.status, headers: &self.headers }
    }
}

/// Reads an answer. Evaluates expressions, so it may block for some seconds at worst.
///
/// # Errors
///
/// A [`Failure`] for every answer without a usable access token.
pub fn read(raw: &Raw, ask: &Ask, sent: &[Member], now: Timestamp) -> Result<Answer, Failure> {
    let body = parse(&raw.body);
    let told = Told::of(body.as_ref(), sent);
    let date = raw.header("date").and_then(http_date);
    let retry_after = || retry_after(raw.header("retry-after"), date.unwrap_or(now));
    match raw.status {
        200..300 => {
            let body = match body {
                Some(body) => body,
                // All that is wanted may stand in the headers.
                None if ask.expressions.access_token.text().contains("$headers") => JValue::Null,
                None => return Err(not_json(raw, ask)),
            };
            if let Some(success) = &ask.expressions.success {
                succeeded(success, &body, raw, &told)?;
            }
            let tokens = tokens(&body, raw, &ask.expressions).map(|answer| Answer { date, ..answer });
            tokens.map_err(|problem| Failure {
                refresh_token: refresh_token(&ask.expressions, &body, raw).ok().flatten().map(KeptToken),
                ..no_token(raw.status, &problem, &told)
            })
        }
        300..400 => Err(Failure::new(
            Reason::Redirected,
            format!(
                "the endpoint answered {} with a redirect, which is not followed: set {} to the final address",
                raw.status, ask.endpoint.field
            ),
        )),
        408 | 429 | 500.. => Err(Failure {
            retry_after: retry_after(),
            ..Failure::new(Reason::EndpointUnavailable, format!("the endpoint answered {}{told}", raw.status))
        }),
        _ => Err(Failure {
            retry_after: retry_after(),
            invalid_grant: told.error.as_deref() == Some("invalid_grant"),
            ..Failure::new(
                Reason::RequestRefused,
                format!(
                    "the endpoint refused the request with {}{told}{}{}",
                    raw.status,
                    hint(raw.status, &told, ask),
                    date.map(|date| clocks(date, now, ask)).unwrap_or_default(),
                ),
            )
        }),
    }
}

/// The body by its shape: JSON, else a form as GitHub sends it (real servers send JSON as `text/plain`).
#[must_use]
pub fn parse(body: &[u8]) -> Option<JValue> {
    let text = std::str::from_utf8(body).ok()?;
    JValue::from_json_str(text).ok().or_else(|| {
        let text = text.trim();
        let is_form =
            text.contains('=') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>{}\"".contains(&byte));
        let members: serde_json::Map<String, serde_json::Value> = is_form.then(|| {
            url::form_urlencoded::parse(text.as_bytes())
                .map(|(name, value)| (name.into_owned(), value.into()))
                .collect()
        })?;
        JValue::from_json_str(&serde_json::Value::Object(members).to_string()).ok()
    })
}

/// Whether a server that answers 200 with an error inside means a success.
fn succeeded(success: &Expression, body: &JValue, raw: &Raw, told: &Told) -> Result<(), Failure> {
    let text = success.text();
    let value = success.evaluate(body, raw.bindings()).map_err(|error| {
        Failure::new(Reason::InvalidResponse, format!("spec.response.success ({text}) ends in {error} on the body"))
    })?;
    let holds = match &value {
        JValue::Undefined | JValue::Null | JValue::Bool(false) => false,
        JValue::Number(number) => *number != 0.0,
        JValue::String(text) => !text.is_empty(),
        JValue::Array(items) => !items.is_empty(),
        JValue::Object(members) => !members.is_empty(),
        _ => true,
    };
    if holds {
        return Ok(());
    }
    Err(Failure {
        invalid_grant: told.error.as_deref() == Some("invalid_grant"),
        ..Failure::new(
            Reason::RequestRefused,
            format!("the endpoint answered {} and spec.response.success ({text}) does not hold{told}", raw.status),
        )
    })
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
        (_, _, Some("invalid_grant")) if ask.grant.is_refresh() => {
            "; the refresh token is not valid (any more): put a new one into the credentials Secret"
        }
        (_, _, Some("invalid_client" | "unauthorized_client")) | (_, 401, _) => match (&ask.grant, ask.client.method) {
            (Grant::UserPassword, _) => "; check user name and password in the credentials Secret",
            (_, Method::ClientSecretJwt | Method::ClientSecretBasic) => {
                "; check client id and client secret in the credentials Secret, and spec.clientAuthentication.method"
            }
            (_, Method::PrivateKeyJwt) => {
                "; check client id, private key, and spec.clientAuthentication.assertion (keyId, audience, algorithm)"
            }
            (_, Method::TlsClientAuth) => "; check client id and certificate, and that the server knows them",
            (_, Method::ServiceAccountToken) => {
                "; check client id and spec.serviceAccountToken.audience, and that the server trusts the cluster's issuer"
            }
            (_, Method::None) => "; the client may have to show who it is: set spec.clientAuthentication.method",
            (_, Method::ClientSecretPost) => "; check client id and client secret in the credentials Secret",
        },
        (_, 404 | 405, _) => "; check spec.tokenEndpoint",
        _ => "",
    }
}

/// Whether the endpoint wants to see a nonce of its own in the proof (RFC 9449, section 8).
#[must_use]
pub fn wants_nonce(raw: &Raw) -> bool {
    matches!(raw.status, 400 | 401)
        && parse(&raw.body).and_then(|body| text(&body, "error")).as_deref() == Some("use_dpop_nonce")
}

/// What the answer of a revocation endpoint means (RFC 7009, section 2.2).
///
/// # Errors
///
/// A [`Failure`] for every answer but a success.
pub fn revoked(raw: &Raw, sent: &[Member]) -> Result<(), Failure> {
    let told = Told::of(parse(&raw.body).as_ref(), sent);
    let reason = match raw.status {
        200..300 => return Ok(()),
        300..400 => Reason::Redirected,
        408 | 429 | 500.. => Reason::EndpointUnavailable,
        _ => Reason::RequestRefused,
    };
    Err(Failure::new(reason, format!("the revocation endpoint answered {}{told}", raw.status)))
}

/// What is signed with a time is refused by a server whose clock is another one, in words that seldom say so.
fn clocks(date: Timestamp, now: Timestamp, ask: &Ask) -> String {
    const TOLERATED: SignedDuration = SignedDuration::from_secs(30);
    let ahead = date.duration_since(now);
    if !ask.signs() || ahead.abs() < TOLERATED {
        return String::new();
    }
    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    format!("; the endpoint's clock is {} s {direction} this machine's: set the clocks", ahead.abs().as_secs())
}

fn not_json(raw: &Raw, ask: &Ask) -> Failure {
    let what = if raw.body.is_empty() { "is empty" } else { "is not JSON" };
    Failure::new(
        Reason::InvalidResponse,
        format!(
            "the body of the answer ({}) {what}: check that {} is the token endpoint{}",
            raw.status,
            ask.endpoint.field,
            if ask.endpoint.url.is_some() { "" } else { "'s issuer" },
        ),
    )
}

fn no_token(status: u16, problem: &str, told: &Told) -> Failure {
    let told = match &told.error {
        Some(_) => format!("; the answer ({status}) tells{told}"),
        None => format!(" of the answer ({status})"),
    };
    Failure::new(Reason::InvalidResponse, format!("{problem}{told}"))
}

fn tokens(body: &JValue, raw: &Raw, expressions: &Expressions) -> Result<Answer, String> {
    let Expressions { access_token, refresh_token: _, expires_in, expires_at, success: _, extra } = expressions;
    let access = token("spec.response.accessToken", access_token, body, raw)?
        .ok_or_else(|| format!("spec.response.accessToken ({}) yields nothing in the body", access_token.text()))?;
    Ok(Answer {
        access_token: access,
        refresh_token: self::refresh_token(expressions, body, raw)?,
        expires_in: seconds(expires_in, body, raw),
        expires_at: expires_at.as_ref().and_then(|expression| moment(expression, body, raw)),
        token_type: text(body, "token_type"),
        scope: text(body, "scope"),
        extra: extra
            .iter()
            .filter_map(|(key, expression)| value(key, expression, body, raw).transpose())
            .collect::<Result<_, _>>()?,
        date: None,
    })
}

fn refresh_token(expressions: &Expressions, body: &JValue, raw: &Raw) -> Result<Option<SecretString>, String> {
    token("spec.response.refreshToken", &expressions.refresh_token, body, raw)
}

/// The token that an expression yields; `None` where it yields nothing or an empty string.
fn token(field: &str, expression: &Expression, body: &JValue, raw: &Raw) -> Result<Option<SecretString>, String> {
    let value = expression
        .evaluate(body, raw.bindings())
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

/// One more value for the target, as text. It may be as secret as a token.
fn value(
    key: &str,
    expression: &Expression,
    body: &JValue,
    raw: &Raw,
) -> Result<Option<(String, SecretString)>, String> {
    let field = format!("spec.response.extra.{key} ({})", expression.text());
    let value =
        expression.evaluate(body, raw.bindings()).map_err(|error| format!("{field} ends in {error} on the body"))?;
    let text = match &value {
        JValue::Undefined | JValue::Null => return Ok(None),
        JValue::String(text) => text.to_string(),
        other => other.to_json_string().map_err(|_| format!("{field} yields what cannot be written as text"))?,
    };
    Ok(Some((key.to_owned(), text.into())))
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
fn seconds(expression: &Expression, body: &JValue, raw: &Raw) -> Option<SignedDuration> {
    let seconds = match expression.evaluate(body, raw.bindings()).ok()? {
        JValue::Number(seconds) => seconds,
        JValue::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    SignedDuration::try_from_secs_f64(seconds).ok().filter(SignedDuration::is_positive)
}

/// A moment: RFC 3339, or a number of seconds since 1970, or of milliseconds where it is too large for that (the year 5138).
fn moment(expression: &Expression, body: &JValue, raw: &Raw) -> Option<Timestamp> {
    const LARGEST_SECONDS: f64 = 1e11;
    let number = match expression.evaluate(body, raw.bindings()).ok()? {
        JValue::Number(number) => number,
        JValue::String(text) => match text.trim().parse::<Timestamp>() {
            Ok(moment) => return Some(moment),
            Err(_) => text.trim().parse().ok()?,
        },
        _ => return None,
    };
    let seconds = if number.abs() < LARGEST_SECONDS { number } else { number / 1_000.0 };
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
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
