//! The values of an answer, by the expressions of the spec.

use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;
use secrecy::SecretString;

use super::super::{Expression, Expressions};
use super::{Answer, Evaluated, Raw, text};

/// An answer, and the expressions that tell where its values stand.
pub(super) struct Values<'a> {
    pub(super) body: &'a JValue,
    pub(super) raw: &'a Raw,
    pub(super) expressions: &'a Expressions,
    pub(super) evaluated: &'a Evaluated,
}

impl Values<'_> {
    pub(super) fn tokens(&self) -> Result<Answer, String> {
        let Expressions { access_token, refresh_token: _, expires_in, expires_at, success: _, extra } =
            self.expressions;
        let access = self
            .token("spec.response.accessToken", access_token)?
            .ok_or_else(|| format!("spec.response.accessToken ({}) yields nothing in the body", access_token.text()))?;
        Ok(Answer {
            access_token: access,
            refresh_token: self.refresh_token()?,
            expires_in: self.seconds(expires_in),
            expires_at: expires_at.as_ref().and_then(|expression| self.moment(expression)),
            token_type: text(self.body, "token_type"),
            scope: text(self.body, "scope"),
            extra: extra
                .iter()
                .filter_map(|(key, expression)| self.value(key, expression).transpose())
                .collect::<Result<_, _>>()?,
            date: None,
        })
    }

    pub(super) fn refresh_token(&self) -> Result<Option<SecretString>, String> {
        self.token("spec.response.refreshToken", &self.expressions.refresh_token)
    }

    fn yielded(&self, expression: &Expression) -> Result<JValue, String> {
        self.evaluated.get(expression, self.body, self.raw)
    }

    /// The token that an expression yields; `None` where it yields nothing or an empty string.
    fn token(&self, field: &str, expression: &Expression) -> Result<Option<SecretString>, String> {
        let value = self
            .yielded(expression)
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
    fn value(&self, key: &str, expression: &Expression) -> Result<Option<(String, SecretString)>, String> {
        let field = format!("spec.response.extra.{key} ({})", expression.text());
        let value = self.yielded(expression).map_err(|error| format!("{field} ends in {error} on the body"))?;
        let text = match &value {
            JValue::Undefined | JValue::Null => return Ok(None),
            JValue::String(text) => text.to_string(),
            other => other.to_json_string().map_err(|_| format!("{field} yields what cannot be written as text"))?,
        };
        Ok(Some((key.to_owned(), text.into())))
    }

    /// The life in seconds, also where it comes as text. What cannot be understood is no reason to throw a good token
    /// away (the old refresh token may be gone by now): it counts as not told.
    fn seconds(&self, expression: &Expression) -> Option<SignedDuration> {
        let seconds = match self.yielded(expression).ok()? {
            JValue::Number(seconds) => seconds,
            JValue::String(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        SignedDuration::try_from_secs_f64(seconds).ok().filter(SignedDuration::is_positive)
    }

    /// A moment: RFC 3339, or a number of seconds since 1970, or of milliseconds where it is too large for that (the year
    /// 5138).
    fn moment(&self, expression: &Expression) -> Option<Timestamp> {
        const LARGEST_SECONDS: f64 = 1e11;
        let number = match self.yielded(expression).ok()? {
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
