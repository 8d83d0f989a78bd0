//! The response of a token endpoint as text: the status, headers, an empty line, the body.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::SignedDuration;
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::expression::document;
use oauth_operator::oauth::expression::jsonata::Expression;
use oauth_operator::oauth::expression::value::Value;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::{Jitter, Known};
use oauth_operator::oauth::request::TokenRequest;
use oauth_operator::oauth::response::evaluation::EvaluatedExpressions;
use oauth_operator::oauth::response::parse;
use oauth_operator::oauth::response::raw::HttpResponse;
use oauth_operator::oauth::response::token::TokenResponse;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{NOW, check_message, head_and_body, sent, usual, validated};

/// Requests: with paths only, with expressions, and for a refresh.
static REQUESTS: LazyLock<[TokenRequest; 3]> = LazyLock::new(|| {
    let mut expressions = usual();
    expressions["response"] = json!({
        "accessToken": "data.token ? data.token : $headers.\"x-token\"",
        "expiresAt": "data.until",
        "success": "ok",
        "extra": {"url": "instance_url", "all": "data"},
    });
    let mut refresh = usual();
    refresh["grantType"] = json!("refresh_token");
    refresh["request"] = json!({"format": "form"});
    [usual(), expressions, refresh].map(|spec| validated(spec).token_request)
});

/// Reads a response.
pub fn response(data: &[u8]) {
    let Some(raw) = raw(data) else { return };
    for token_request in REQUESTS.iter() {
        check_paths(&raw, token_request);
        let evaluated = EvaluatedExpressions::in_this_process(&raw, &token_request.expressions);
        match parse::parse_token_response(&raw, token_request, &sent(), *NOW, &evaluated) {
            Ok(response) => check_response(&response, &raw),
            Err(failure) => check_failure(&failure),
        }
    }
    if let Err(failure) = parse::parse_revocation_response(&raw, &sent()) {
        check_failure(&failure);
    }
    assert!(!parse::is_use_dpop_nonce(&raw) || matches!(raw.status, 400 | 401));
}

/// The values read from the bytes are those that JSONata finds in the parsed document.
fn check_paths(raw: &HttpResponse, token_request: &TokenRequest) {
    let Some(body) = document::parse(&raw.body) else { return };
    let document = document::read(&raw.body, token_request.expressions.all());
    assert!(document.is_readable, "a document that was not read");
    for (text, found) in &document.values {
        let expression = Expression::parse(text).expect("a path");
        let expected = expression.evaluate(&body, raw.bindings()).expect("a value");
        assert_eq!(*found, Value::of(&expected).expect("JSON"), "{text}");
    }
}

fn raw(data: &[u8]) -> Option<HttpResponse> {
    let (head, body) = head_and_body(data)?;
    let mut lines = head.lines();
    let status = lines.next()?.trim().parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(HttpResponse { status, headers: lines.filter_map(header).collect(), body: body.to_vec().into() })
}

fn check_response(response: &TokenResponse, raw: &HttpResponse) {
    assert!((200..300).contains(&raw.status), "tokens of a response with {}", raw.status);
    check_token(&response.access_token);
    response.refresh_token.iter().for_each(check_token);
    let lifetimes = [response.expires_in, response.expires_at.map(|end| end.duration_since(*NOW))];
    assert!(lifetimes[0].is_none_or(|lifetime| lifetime.is_positive()));
    let known = Known {
        problem: None,
        issued_at: response.date.unwrap_or(*NOW),
        token_lifetime: None,
        expires_in: response.expires_in,
        expires_at: response.expires_at,
        is_computed: !response.is_verbatim,
        access_token: response.access_token.expose_secret(),
    };
    let length = lifetime::resolve(&known).length;
    assert!(length.is_positive() && length <= SignedDuration::from_hours(8_760), "a lifetime of {length}");
    let times = lifetime::schedule("uid", *NOW, length, None.into(), Jitter::Wide);
    assert!(*NOW <= times.renew_at && times.renew_at <= times.expires_at, "{times:?}");
}

/// RFC 6749, appendix A.12.
fn check_token(token: &SecretString) {
    let token = token.expose_secret();
    assert!(!token.is_empty() && token.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "a token {token:?}");
}

fn check_failure(failure: &RequestError) {
    check_message(&failure.message);
    assert!(failure.retry_after.is_none_or(|wait| wait <= Duration::from_hours(24)));
    if let Some(kept) = &failure.refresh_token {
        check_token(&kept.0);
    }
}
