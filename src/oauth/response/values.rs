//! The values of an answer, by the expressions of the spec.

use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;
use secrecy::SecretString;

use super::super::{Expression, Expressions};
use super::{Answer, Raw, text};

pub(super) fn tokens(body: &JValue, raw: &Raw, expressions: &Expressions) -> Result<Answer, String> {
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

pub(super) fn refresh_token(
    expressions: &Expressions,
    body: &JValue,
    raw: &Raw,
) -> Result<Option<SecretString>, String> {
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
