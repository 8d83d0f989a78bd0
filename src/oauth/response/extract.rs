//! Extracts the values of a response with the expressions of the spec.

use secrecy::{ExposeSecret, SecretString};

use crate::api::reason::Reason;
use crate::oauth::error::{Advice, ResponseField};
use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::set::ResponseMapping;
use crate::oauth::expression::value::{NotText, Value};
use crate::oauth::response::evaluation::EvaluatedExpressions;
use crate::oauth::response::raw::HttpResponse;
use crate::oauth::response::time;
use crate::oauth::response::time::Time;
use crate::oauth::response::token::TokenResponse;

/// The maximum length of a token, in bytes. A longer one does not fit into a header.
const MAX_TOKEN: usize = 64 << 10;
/// The maximum total size of all values of one response, in bytes. They are kept in memory until they are written to
/// the Secret, and the maximum size of a Secret is 1 MiB.
pub(crate) const MAX_VALUES: usize = 128 << 10;

/// Why the values of a response are unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExtractError {
    /// The expression of a value has no usable result.
    #[error("the expression {text} for {field} {problem}")]
    Value { field: ResponseField, text: String, problem: ValueError },
    /// An expression other than a path has no usable result. It sees the whole response: the kind of failure, and
    /// which expression fails, could be used to reveal a token to users who are not allowed to read it.
    #[error("an expression for the tokens does not yield a usable value in the body")]
    Computed,
    /// All values together are too large, in bytes.
    #[error("there are {0} bytes of values, more than the maximum of {MAX_VALUES}, in the body")]
    TooLarge(usize),
}

/// Why the result of an expression is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("results in {0} for the body")]
    Expression(#[from] ExpressionError),
    #[error("yields nothing in the body")]
    Nothing,
    #[error("yields {0} instead of a string in the body")]
    NotString(&'static str),
    #[error("yields a token of {0} bytes, more than the maximum of {MAX_TOKEN}, in the body")]
    TokenTooLong(usize),
    #[error("yields a token with invalid characters (RFC 6749, appendix A) in the body")]
    InvalidCharacters,
    #[error("yields a token with whitespace around it in the body")]
    Whitespace,
    #[error("yields a value that cannot be written as text in the body")]
    NotText,
}

impl ExtractError {
    /// The details for a path, [`ExtractError::Computed`] for all other expressions.
    fn of(field: &ResponseField, expression: &Expression, problem: ValueError) -> Self {
        // An error before the evaluation reveals nothing about the response.
        let is_revealing = !matches!(&problem, ValueError::Expression(error) if error.is_not_evaluated());
        if is_revealing && !expression.is_path() {
            return Self::Computed;
        }
        Self::Value { field: field.clone(), text: expression.text().to_owned(), problem }
    }

    pub(crate) fn advice(&self) -> Option<Advice> {
        match self {
            Self::Value { field, problem: ValueError::Whitespace, .. } => {
                Some(Advice::Convert(field.clone(), "$trim()"))
            }
            Self::Value { field, problem: ValueError::NotString(kind), .. } if *kind == NUMBER => {
                Some(Advice::Convert(field.clone(), "$string()"))
            }
            Self::Value { field, .. } => Some(Advice::CheckExpression(field.clone())),
            Self::Computed => Some(Advice::ExplainExpressions),
            Self::TooLarge(_) => None,
        }
    }

    /// Whether a path leads to nothing.
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(self, Self::Value { problem: ValueError::Nothing, .. })
    }

    /// Whether there is no access token.
    pub(crate) fn is_missing_access_token(&self) -> bool {
        // An expression that is not a path cannot be told from one that fails.
        matches!(
            self,
            Self::Value { field: ResponseField::AccessToken, problem: ValueError::Nothing, .. } | Self::Computed
        )
    }
}

/// A response, and the expressions that locate its values.
pub(crate) struct Values<'a> {
    pub(crate) raw: &'a HttpResponse,
    pub(crate) expressions: &'a ResponseMapping,
    pub(crate) evaluated: &'a EvaluatedExpressions,
}

impl Values<'_> {
    pub(crate) fn tokens(&self) -> Result<TokenResponse, ExtractError> {
        let ResponseMapping { access_token, expires_in, expires_at, response_data, .. } = self.expressions;
        let token = self.token(&ResponseField::AccessToken, access_token)?;
        let token =
            token.ok_or_else(|| ExtractError::of(&ResponseField::AccessToken, access_token, ValueError::Nothing))?;
        let document = self.evaluated.document();
        // A good access token is not discarded because of anything else.
        let (refresh_token, warning) = match self.refresh_token() {
            Ok(token) => (token, None),
            Err(ExtractError::Value { .. }) => (None, Some(Reason::RefreshTokenIgnored)),
            Err(error) => return Err(error),
        };
        let lifetime = self.time(expires_in, time::lifetime);
        let expiry = expires_at.as_ref().map_or(Time::Missing, |expression| self.time(expression, time::expiry));
        let times = [&lifetime, &expiry];
        let refresh_token_times = self.refresh_token_times();
        let response = TokenResponse {
            is_verbatim: access_token.is_path() || self.is_verbatim(&token),
            access_token: token,
            refresh_token,
            warning,
            expires_in: times.iter().find_map(|time| time.length()),
            expires_at: times.iter().filter_map(|time| time.end()).min(),
            lifetime_problem: times.iter().find_map(|time| time.problem()),
            refresh_token_expires_in: refresh_token_times.iter().find_map(Time::length),
            refresh_token_expires_at: refresh_token_times.iter().find_map(Time::end),
            token_type: document.token_type.clone(),
            scope: document.scope.clone(),
            data: response_data
                .iter()
                .filter_map(|(key, expression)| self.data(key, expression).transpose())
                .collect::<Result<_, _>>()?,
            date: None,
            source: None,
        };
        let is_computed = self.expressions.all().any(|expression| !expression.is_path());
        match size(&response) {
            size if size <= MAX_VALUES => Ok(response),
            _ if is_computed => Err(ExtractError::Computed),
            size => Err(ExtractError::TooLarge(size)),
        }
    }

    pub(crate) fn refresh_token(&self) -> Result<Option<SecretString>, ExtractError> {
        self.token(&ResponseField::RefreshToken, &self.expressions.refresh_token)
    }

    /// Whether the response contains the token verbatim, so that it was not computed.
    fn is_verbatim(&self, token: &SecretString) -> bool {
        let token = token.expose_secret();
        let body = std::str::from_utf8(&self.raw.body).unwrap_or_default();
        body.contains(token) || self.raw.headers.iter().any(|(_, value)| value.contains(token))
    }

    fn evaluate(&self, field: &ResponseField, expression: &Expression) -> Result<&Value, ExtractError> {
        self.evaluated.get(expression).map_err(|error| ExtractError::of(field, expression, error.into()))
    }

    /// The token that an expression returns; `None` if it returns nothing or an empty string.
    fn token(&self, field: &ResponseField, expression: &Expression) -> Result<Option<SecretString>, ExtractError> {
        let problem = |problem| Err(ExtractError::of(field, expression, problem));
        let token = match self.evaluate(field, expression)? {
            Value::Nothing | Value::Null => return Ok(None),
            Value::Text(token) if token.is_empty() => return Ok(None),
            Value::Text(token) if token.len() > MAX_TOKEN => return problem(ValueError::TokenTooLong(token.len())),
            Value::Text(token) => token,
            other => return problem(ValueError::NotString(kind(other))),
        };
        if token.trim() != token {
            return problem(ValueError::Whitespace);
        }
        // RFC 6749, appendix A: a token consists of VSCHAR. A line break would split the header that contains it.
        if token.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            Ok(Some(SecretString::from(token.as_str())))
        } else {
            problem(ValueError::InvalidCharacters)
        }
    }

    /// A value for the target, as text. It may be as secret as a token.
    fn data(&self, key: &str, expression: &Expression) -> Result<Option<(String, SecretString)>, ExtractError> {
        let field = ResponseField::Data(key.to_owned());
        let text = self.evaluate(&field, expression)?.text();
        let text = text.map_err(|NotText| ExtractError::of(&field, expression, ValueError::NotText))?;
        Ok(text.map(|text| (key.to_owned(), text)))
    }

    /// A lifetime or an expiry. An invalid value is ignored: it must not discard a good token, because the previous
    /// refresh token may already be invalid.
    fn time(&self, expression: &Expression, parse: fn(&Value) -> Time) -> Time {
        self.evaluated.get_public(expression).map_or(Time::Missing, |value| parse(&value))
    }

    /// The lifetime and the expiry of the refresh token.
    fn refresh_token_times(&self) -> [Time; 2] {
        let ResponseMapping { refresh_token_expires_in, refresh_token_expires_at, .. } = self.expressions;
        let lifetime = match refresh_token_expires_in {
            Some(expression) => self.time(expression, time::lifetime),
            None => self.evaluated.document().refresh_token_expires_in.as_ref().map_or(Time::Missing, time::lifetime),
        };
        let expiry = refresh_token_expires_at.as_ref();
        [lifetime, expiry.map_or(Time::Missing, |expression| self.time(expression, time::expiry))]
    }
}

/// The size of all values for the target, in bytes.
fn size(response: &TokenResponse) -> usize {
    let TokenResponse { access_token, refresh_token, token_type, scope, data, .. } = response;
    let secrets = [access_token].into_iter().chain(refresh_token).chain(data.values());
    let texts = [token_type, scope].into_iter().flatten();
    secrets.map(|secret| secret.expose_secret().len()).sum::<usize>() + texts.map(String::len).sum::<usize>()
}

const NUMBER: &str = "a number";

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "a boolean",
        Value::Number(_) => NUMBER,
        Value::List(..) => "a list",
        Value::Object(..) => "an object",
        _ => "something else",
    }
}
