//! Parses the response of a token endpoint: the tokens, or the error.

use jiff::Timestamp;
use url::Url;

use crate::api::reason::Reason;
use crate::oauth::body::Parameter;
use crate::oauth::error::{Advice, RequestError, ResponseField, RotatedRefreshToken};
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::set::ResponseMapping;
use crate::oauth::expression::value::Value;
use crate::oauth::expression::{document, public};
use crate::oauth::redaction::redact::redact;
use crate::oauth::request::TokenRequest;
use crate::oauth::response::error_response::{ErrorResponse, advice, clock_skew_hint};
use crate::oauth::response::evaluation::EvaluatedExpressions;
use crate::oauth::response::extract::{ExtractError, Values};
use crate::oauth::response::raw::{HttpResponse, http_date, retry_after};
use crate::oauth::response::server_message::is_html;
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
    let error = ErrorResponse::of(raw, evaluated.document(), request.expressions.error.as_ref(), sent);
    let date = raw.header("date").and_then(http_date);
    let response = match raw.status {
        200..300 => parse_success(raw, request, error, date, evaluated),
        300..400 => Err(redirect(raw, request, sent)),
        // For servers that return 500 for a wrong password, which locks the account if it is repeated.
        500.. if is_rejected(request, evaluated) => Err(rejected(raw, error, request, evaluated, "")),
        408 | 429 | 500.. => Err(RequestError::new(
            Reason::EndpointUnavailable,
            format!("the endpoint responded with {}{error}", raw.status),
        )),
        _ => {
            let hint = date.map(|date| clock_skew_hint(date, now, request)).unwrap_or_default();
            Err(rejected(raw, error, request, evaluated, &hint))
        }
    };
    response.map_err(|error| RequestError {
        status: Some(raw.status),
        retry_after: if matches!(raw.status, 400..) { retry_after(raw, date.unwrap_or(now)) } else { None },
        ..error
    })
}

/// An error response: the endpoint has read the request, and will not accept it as it is.
fn rejected(
    raw: &HttpResponse,
    error: ErrorResponse<'_>,
    request: &TokenRequest,
    evaluated: &EvaluatedExpressions,
    hint: &str,
) -> RequestError {
    RequestError {
        invalid_grant: is_invalid_grant(error, request, evaluated),
        invalid_client: error.is_invalid_client(raw.status),
        advice: advice(raw.status, error, request),
        ..RequestError::new(
            Reason::RequestRejected,
            format!("the endpoint rejected the request with {}{error}{hint}", raw.status),
        )
    }
}

/// Whether the expression for the success is false, and not only without a result, in the body of an error.
fn is_rejected(request: &TokenRequest, evaluated: &EvaluatedExpressions) -> bool {
    let success = request.expressions.success.as_ref().filter(|_| evaluated.document().is_readable);
    success.is_some_and(|success| matches!(evaluated.get_public(success), Ok(Value::Bool(false))))
}

/// Whether the grant that was sent is no longer valid: by RFC 6749, or by the expression of the spec.
fn is_invalid_grant(error: ErrorResponse<'_>, request: &TokenRequest, evaluated: &EvaluatedExpressions) -> bool {
    let is_true = |expression| evaluated.get_public(expression).is_ok_and(|value| is_truthy(&value));
    error.error() == Some("invalid_grant") || request.expressions.invalid_grant.as_ref().is_some_and(is_true)
}

/// The target of a redirect is shown without its query, which may repeat what was sent.
fn redirect(raw: &HttpResponse, request: &TokenRequest, sent: &[Parameter]) -> RequestError {
    let target = raw.header("location").map(|location| {
        let location = location.split(['?', '#']).next().unwrap_or_default();
        match Url::parse(location) {
            Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            Err(_) => location.to_owned(),
        }
    });
    let target = target.map(|target| format!(" to {}", redact(&target, sent))).unwrap_or_default();
    let message = format!("the endpoint responded with {}, a redirect{target}, which is not followed", raw.status);
    RequestError::new(Reason::UnexpectedRedirect, message).with_advice(Advice::SetFinalUrl(request.endpoint.kind()))
}

/// Parses a response with a success status, which may still contain an error.
fn parse_success(
    raw: &HttpResponse,
    request: &TokenRequest,
    error: ErrorResponse<'_>,
    date: Option<Timestamp>,
    evaluated: &EvaluatedExpressions,
) -> Result<TokenResponse, RequestError> {
    // The access token may be in a header, or in a body of another format.
    let text = request.expressions.access_token.text();
    let is_elsewhere = text.contains("$headers") || text.contains("$body");
    if !evaluated.document().is_readable && !is_elsewhere {
        return Err(not_json(raw, request, error));
    }
    let values = Values { raw, expressions: &request.expressions, evaluated };
    let read = || {
        if let Some(success) = &request.expressions.success {
            check_success(success, raw, error, request, evaluated)?;
        }
        let tokens = values.tokens().map(|response| TokenResponse { date, ..response });
        tokens.map_err(|problem| match (&problem, error.error()) {
            // Some servers return errors with 200.
            (problem, Some(_)) if problem.is_missing_access_token() => rejected(raw, error, request, evaluated, ""),
            _ => no_token(raw, &problem, error),
        })
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
    error: ErrorResponse<'_>,
    request: &TokenRequest,
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
    if is_truthy(&value) {
        return Ok(());
    }
    Err(RequestError {
        invalid_grant: is_invalid_grant(error, request, evaluated),
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

/// Whether a result counts as true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Nothing | Value::Null | Value::Bool(false) => false,
        Value::Number(number) => *number != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::List(length, _) | Value::Object(length, _) => *length > 0,
        Value::Bool(true) | Value::Other => true,
    }
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
    let error = ErrorResponse::of(raw, evaluated.document(), None, sent);
    Err(RequestError::new(reason, format!("the revocation endpoint responded with {}{error}", raw.status)))
}

fn not_json(raw: &HttpResponse, request: &TokenRequest, error: ErrorResponse<'_>) -> RequestError {
    let what = match raw.header("content-type").and_then(|text| text.split(';').next()).map(str::trim) {
        _ if raw.body.is_empty() => "is empty".to_owned(),
        // The message about an HTML page says what it is.
        Some(media_type) if is_media_type(media_type) && !is_html(raw) => {
            format!("is not JSON but {}{error}", error.redacted(media_type))
        }
        _ => format!("is not JSON{error}"),
    };
    RequestError::new(Reason::InvalidResponse, format!("the response body ({}) {what}", raw.status))
        .with_advice(Advice::CheckTokenEndpoint(request.endpoint.named_by()))
}

/// Whether a text has the form of a media type, so that it says nothing else.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    text.len() <= 64
        && text != "application/json"
        && text.split_once('/').is_some_and(|(left, right)| is_name(left) && is_name(right))
}

fn no_token(raw: &HttpResponse, problem: &ExtractError, error: ErrorResponse<'_>) -> RequestError {
    let status = raw.status;
    let error_text = match error.error() {
        Some(_) => format!("; the response ({status}) says{error}"),
        None => format!(" of the response ({status})"),
    };
    let members = if problem.is_missing() { members(raw) } else { String::new() };
    let failure = RequestError::new(Reason::InvalidResponse, format!("{problem}{error_text}{members}"));
    problem.advice().into_iter().fold(failure, RequestError::with_advice)
}

/// The names of the members that there are instead.
fn members(raw: &HttpResponse) -> String {
    // A name may itself be a secret, for example in a map from tokens to their lifetimes.
    let is_shown = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) && public::is_public("", name)
    };
    let names = document::member_names(&raw.body, is_shown);
    if names.is_empty() { String::new() } else { format!(", which has: {}", names.join(", ")) }
}
