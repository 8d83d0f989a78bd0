//! Parses the response of a token endpoint: the tokens, or the error.

use jiff::Timestamp;

use crate::api::reason::Reason;
use crate::oauth::body::Parameter;
use crate::oauth::error::{Advice, RequestError, ResponseField, RotatedRefreshToken, UrlKind};
use crate::oauth::expression::document;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::set::ResponseMapping;
use crate::oauth::expression::value::Value;
use crate::oauth::request::TokenRequest;
use crate::oauth::response::error_response::{ErrorResponse, advice, clock_skew_hint};
use crate::oauth::response::evaluation::EvaluatedExpressions;
use crate::oauth::response::extract::{ExtractError, Values};
use crate::oauth::response::raw::{HttpResponse, http_date, retry_after};
use crate::oauth::response::token::TokenResponse;

/// Reads a response whose expressions are `evaluated`.
///
/// # Errors
///
/// A [`RequestError`] for every response without a usable access token.
pub fn parse_token_response(
    raw: &HttpResponse,
    request: &TokenRequest,
    sent: &[Parameter],
    now: Timestamp,
    evaluated: &EvaluatedExpressions,
) -> Result<TokenResponse, RequestError> {
    let error = ErrorResponse::of(evaluated.document(), sent);
    let date = raw.header("date").and_then(http_date);
    let retry_after = || retry_after(raw.header("retry-after"), date.unwrap_or(now));
    match raw.status {
        200..300 => parse_success(raw, request, &error, date, evaluated),
        300..400 => Err(RequestError::new(
            Reason::UnexpectedRedirect,
            format!("the endpoint responded with {} with a redirect, which is not followed", raw.status),
        )
        .with_advice(Advice::SetFinalUrl(request.endpoint.kind()))),
        408 | 429 | 500.. => Err(RequestError {
            retry_after: retry_after(),
            ..RequestError::new(
                Reason::EndpointUnavailable,
                format!("the endpoint responded with {}{error}", raw.status),
            )
        }),
        _ => Err(RequestError {
            retry_after: retry_after(),
            invalid_grant: error.error() == Some("invalid_grant"),
            advice: advice(raw.status, error, request),
            ..RequestError::new(
                Reason::RequestRejected,
                format!(
                    "the endpoint rejected the request with {}{error}{}",
                    raw.status,
                    date.map(|date| clock_skew_hint(date, now, request)).unwrap_or_default(),
                ),
            )
        }),
    }
}

/// Parses a response with a success status, which may still contain an error.
fn parse_success(
    raw: &HttpResponse,
    request: &TokenRequest,
    error: &ErrorResponse<'_>,
    date: Option<Timestamp>,
    evaluated: &EvaluatedExpressions,
) -> Result<TokenResponse, RequestError> {
    // The access token may be in a header.
    let in_headers = request.expressions.access_token.text().contains("$headers");
    if !evaluated.document().is_readable && !in_headers {
        return Err(not_json(raw, request));
    }
    let values = Values { raw, expressions: &request.expressions, evaluated };
    let read = || {
        if let Some(success) = &request.expressions.success {
            check_success(success, raw, error, evaluated)?;
        }
        let tokens = values.tokens().map(|response| TokenResponse { date, ..response });
        tokens.map_err(|problem| no_token(raw.status, &problem, error))
    };
    // Even if the response is invalid, the refresh token that was sent may already be invalid.
    let kept = || values.refresh_token().ok().flatten().map(RotatedRefreshToken);
    read().map_err(|error| RequestError { refresh_token: kept(), ..error })
}

/// The refresh token in the beginning of a response that is too large, if it is complete there. The one that was sent
/// may already be invalid.
#[must_use]
pub fn rotated_refresh_token_of_prefix(
    raw: &HttpResponse,
    expressions: &ResponseMapping,
) -> Option<RotatedRefreshToken> {
    let evaluated = EvaluatedExpressions::rotated_refresh_token_of_prefix(&raw.body, &expressions.refresh_token);
    let values = Values { raw, expressions, evaluated: &evaluated };
    values.refresh_token().ok().flatten().map(RotatedRefreshToken)
}

/// Checks `success`, for servers that respond to errors with 200.
fn check_success(
    success: &Expression,
    raw: &HttpResponse,
    error: &ErrorResponse<'_>,
    evaluated: &EvaluatedExpressions,
) -> Result<(), RequestError> {
    let text = success.text();
    let value = evaluated.get_public(success).map_err(|error| {
        RequestError::new(
            Reason::InvalidResponse,
            format!("the expression {text} for {} results in {error} for the body", ResponseField::Success),
        )
        .with_advice(Advice::CheckExpression(ResponseField::Success))
    })?;
    let holds = match &value {
        Value::Nothing | Value::Null | Value::Bool(false) => false,
        Value::Number(number) => *number != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::List(length, _) | Value::Object(length, _) => *length > 0,
        Value::Bool(true) | Value::Other => true,
    };
    if holds {
        return Ok(());
    }
    Err(RequestError {
        invalid_grant: error.error() == Some("invalid_grant"),
        ..RequestError::new(
            Reason::RequestRejected,
            format!(
                "the endpoint responded with {} and the expression for {} ({text}) is not true{error}",
                raw.status,
                ResponseField::Success
            ),
        )
        .with_advice(Advice::CheckExpression(ResponseField::Success))
    })
}

/// Whether the endpoint requires a nonce in the DPoP proof (RFC 9449, section 8).
#[must_use]
pub fn is_use_dpop_nonce(raw: &HttpResponse) -> bool {
    matches!(raw.status, 400 | 401) && document::error(&raw.body).as_deref() == Some("use_dpop_nonce")
}

/// Parses the response of a revocation endpoint (RFC 7009, section 2.2).
///
/// # Errors
///
/// A [`RequestError`] for every response except a success.
pub fn parse_revocation_response(raw: &HttpResponse, sent: &[Parameter]) -> Result<(), RequestError> {
    let reason = match raw.status {
        200..300 => return Ok(()),
        300..400 => Reason::UnexpectedRedirect,
        408 | 429 | 500.. => Reason::EndpointUnavailable,
        _ => Reason::RequestRejected,
    };
    let evaluated = EvaluatedExpressions::of_error(&raw.body);
    let error = ErrorResponse::of(evaluated.document(), sent);
    Err(RequestError::new(reason, format!("the revocation endpoint responded with {}{error}", raw.status)))
}

fn not_json(raw: &HttpResponse, request: &TokenRequest) -> RequestError {
    let what = if raw.body.is_empty() { "is empty" } else { "is not JSON" };
    let url = if request.endpoint.url.is_some() { request.endpoint.kind() } else { UrlKind::Issuer };
    RequestError::new(Reason::InvalidResponse, format!("the response body ({}) {what}", raw.status))
        .with_advice(Advice::CheckTokenEndpoint(url))
}

fn no_token(status: u16, problem: &ExtractError, error: &ErrorResponse<'_>) -> RequestError {
    let error = match error.error() {
        Some(_) => format!("; the response ({status}) says{error}"),
        None => format!(" of the response ({status})"),
    };
    let advice = problem.advice();
    RequestError { advice, ..RequestError::new(Reason::InvalidResponse, format!("{problem}{error}")) }
}
