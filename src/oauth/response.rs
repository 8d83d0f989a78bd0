//! What an answer of a token endpoint means: its tokens, or why it has none.

mod told;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::body::Member;
use super::expression::Bindings;
use super::{Ask, Expression};
use crate::api::Reason;
use crate::error::{Failure, KeptToken};
use crate::sandbox::Yield;

use told::{Told, clocks, hint};
use values::Values;

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
    pub body: Zeroizing<Vec<u8>>,
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

/// What expressions yield that were evaluated elsewhere, by their text.
#[derive(Clone, Debug, Default)]
pub struct Evaluated(HashMap<String, Yield>);

impl Evaluated {
    /// What these expressions yield; where they took too much of something, none of them yields anything.
    #[must_use]
    pub fn of(expressions: &[String], yields: Result<Vec<Yield>, String>) -> Self {
        let yields = match yields {
            Ok(yields) => yields,
            Err(error) => vec![Err(error); expressions.len()],
        };
        Self(expressions.iter().cloned().zip(yields).collect())
    }

    /// What an expression yields on an answer.
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`].
    pub fn get(&self, expression: &Expression, body: &JValue, raw: &Raw) -> Result<JValue, String> {
        match self.0.get(expression.text()) {
            Some(Ok(None)) => Ok(JValue::Undefined),
            Some(Ok(Some(value))) => {
                JValue::from_json_str(&value.to_string()).map_err(|_| "what is no JSON".to_owned())
            }
            Some(Err(error)) => Err(error.clone()),
            None => expression.evaluate(body, raw.bindings()),
        }
    }
}

/// Reads an answer. Evaluates the expressions that are not `evaluated` yet.
///
/// # Errors
///
/// A [`Failure`] for every answer without a usable access token.
pub fn read(raw: &Raw, ask: &Ask, sent: &[Member], now: Timestamp, evaluated: &Evaluated) -> Result<Answer, Failure> {
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
            let values = Values { body: &body, raw, expressions: &ask.expressions, evaluated };
            let read = || {
                if let Some(success) = &ask.expressions.success {
                    succeeded(success, &body, raw, &told, evaluated)?;
                }
                let tokens = values.tokens().map(|answer| Answer { date, ..answer });
                tokens.map_err(|problem| no_token(raw.status, &problem, &told))
            };
            // Whatever is wrong with the rest of it, the refresh token that was sent may be worth nothing by now.
            let kept = || values.refresh_token().ok().flatten().map(KeptToken);
            read().map_err(|failure| Failure { refresh_token: kept(), ..failure })
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
        let is_form = is_form(text);
        let members: serde_json::Map<String, serde_json::Value> = is_form.then(|| {
            url::form_urlencoded::parse(text.as_bytes())
                .map(|(name, value)| (name.into_owned(), value.into()))
                .collect()
        })?;
        JValue::from_json_str(&serde_json::Value::Object(members).to_string()).ok()
    })
}

/// Whether a text is a form: names of letters, digits, `_`, `-` and `.`, and encoded values of which one at least is there. A
/// token in base64, with `=` at its end, is none.
fn is_form(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_value = |c: char| c.is_ascii_graphic() && !"<>{}\"=".contains(c);
    let mut members = text.split('&').map(|member| member.split_once('='));
    let whole = members.clone().all(|member| {
        member.is_some_and(|(name, value)| !name.is_empty() && name.chars().all(is_name) && value.chars().all(is_value))
    });
    whole && members.any(|member| member.is_some_and(|(_, value)| !value.is_empty()))
}

/// Whether a server that answers 200 with an error inside means a success.
fn succeeded(
    success: &Expression,
    body: &JValue,
    raw: &Raw,
    told: &Told,
    evaluated: &Evaluated,
) -> Result<(), Failure> {
    let text = success.text();
    let value = evaluated.get(success, body, raw).map_err(|error| {
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

fn text(body: &JValue, name: &str) -> Option<String> {
    let JValue::Object(members) = body else { return None };
    members.get(name)?.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
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
