//! How a token response or an error response is parsed.

use std::time::Duration;

use oauth_operator::api::reason::{FailureClass, Reason};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::request::TokenRequest;
use oauth_operator::oauth::response::evaluation::EvaluatedExpressions;
use oauth_operator::oauth::response::parse;
use oauth_operator::oauth::response::raw::HttpResponse;
use oauth_operator::oauth::response::token::TokenResponse;
use oauth_operator::spec::advice::explain;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{NOW, members, request_of, seconds};

/// Names and values.
type Headers = &'static [(&'static str, &'static str)];

fn raw(status: u16, body: &str) -> HttpResponse {
    raw_with(status, &[], body)
}

fn raw_with(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HttpResponse { status, headers, body: body.as_bytes().to_vec().into() }
}

fn read(raw: &HttpResponse, token_request: &TokenRequest) -> Result<TokenResponse, RequestError> {
    let sent = members(&[("client_id", "the-client"), ("client_secret", "the-client-secret")]);
    let evaluated = EvaluatedExpressions::in_this_process(raw, &token_request.expressions);
    parse::parse_token_response(raw, token_request, &sent, NOW, &evaluated).map_err(explain)
}

fn failure(raw: &HttpResponse, token_request: &TokenRequest) -> RequestError {
    read(raw, token_request).err().unwrap_or_else(|| panic!("{} was accepted as a token response", raw.status))
}

/// Everything that the status reveals about a response: its success or error message, and the lifetime.
fn shown_of(token: &str, response: &Value) -> String {
    let body = json!({"access_token": token, "expires_in": 3600, "session": {"key": token}, "nested": [{"x": token}]});
    let headers = [("x-subject-token", token), ("etag", token), ("cache-control", "max-age=600")];
    let token_request = request_of(json!({"response": response}));
    match read(&raw_with(200, &headers, &body.to_string()), &token_request) {
        Ok(tokens) => {
            let known = lifetime::Known {
                problem: None,
                issued_at: NOW,
                token_lifetime: None,
                expires_in: tokens.expires_in,
                expires_at: tokens.expires_at,
                is_computed: !token_request.expressions.times_are_paths(),
                access_token: if tokens.is_verbatim { tokens.access_token.expose_secret() } else { "" },
            };
            format!("{:?}", lifetime::resolve(&known))
        }
        Err(failure) => format!("{:?}: {}", failure.reason, failure.message),
    }
}

#[test]
fn nothing_that_is_shown_depends_on_the_characters_of_a_token() {
    let code = "$toMillis('2030-01-01T00:00:00.000Z') / 1000";
    let hostile = [
        json!({"expiresIn": "$sum($map($split($substring(access_token, 0, 4), ''), function($c) { $length($c) * ($c > 'n' ? 1000 : 10) }))"}),
        json!({"expiresIn": "$substring(access_token, 0, 1) = 'a' ? 100 : 200"}),
        json!({"expiresIn": "$substring($string($), 17, 1) = 'a' ? 100 : 200"}),
        json!({"expiresIn": "$contains($string($headers), 'a1B2') ? 100 : 200"}),
        json!({"expiresIn": "session.key > 'n' ? 100 : 200"}),
        json!({"expiresIn": "nested.x > 'n' ? 100 : 200"}),
        json!({"expiresIn": "nested[0].x in ['a1B2c3D4e5F6g7H8i9J0'] ? 100 : 200"}),
        json!({"expiresIn": "access_token"}),
        json!({"expiresIn": "nested.x"}),
        json!({"expiresAt": format!("{code} + (access_token > 'n' ? 100 : 200)")}),
        json!({"expiresAt": "access_token"}),
        json!({"success": "access_token > 'n'"}),
        json!({"success": "$match($string($), /a1B2/)"}),
        json!({"success": "$headers.etag > 'n'"}),
        json!({"success": "$headers.`x-subject-token` > 'n'"}),
        // A computed token with an expiry that depends on the real token.
        json!({"accessToken": "'e30.' & $base64encode('{\"exp\":' & (access_token > 'n' ? 1767312000 : 1767225900) & '}') & '.x'", "expiresIn": "none"}),
    ];
    // Expressions that see the token, and fail in as many ways as possible.
    let index = "$length($substringBefore('abcdefghijklmnopqrstuvwxyz', $substring(access_token, 0, 1)))";
    let failing = [
        format!("$pad('x', 65537 + {index})"),
        "access_token > 'n' ? 5 : true".to_owned(),
        "access_token > 'n' ? [1] : {'a': 1}".to_owned(),
        "access_token > 'n' ? 'ä' : $pad('x', 65537)".to_owned(),
        "access_token > 'n' ? $number('x') : $error('x')".to_owned(),
        "access_token > 'n' ? $toMillis('x') : 5".to_owned(),
        "access_token > 'n' ? $pad('x', 140000) : $sum".to_owned(),
    ];
    let of_failing = failing.iter().flat_map(|text| [json!({"accessToken": text}), json!({"refreshToken": text})]);
    let which = json!({
        "accessToken": "access_token > 'n' ? $error('x') : 'a'",
        "refreshToken": "access_token > 'n' ? 'b' : $error('x')",
    });
    let nothing = json!({"accessToken": "access_token > 'n' ? $error('x') : null"});
    for response in hostile.into_iter().chain(of_failing).chain([which, nothing]) {
        let [one, other] = ["a1B2c3D4e5F6g7H8i9J0", "z9Y8x7W6v5U4t3S2r1Q0"].map(|token| shown_of(token, &response));
        assert_eq!(one, other, "{response}");
    }
    // Legitimate expressions still work.
    let shown = |response: Value| shown_of("a1B2c3D4e5F6g7H8i9J0", &response);
    assert!(shown(json!({})).contains("1h"), "{}", shown(json!({})));
    for response in [
        json!({"expiresIn": "expires_in / 2"}),
        json!({"expiresIn": "$number($match($headers.`cache-control`, /max-age=([0-9]+)/).groups[0])"}),
        json!({"success": "$exists(access_token) and access_token != '' and expires_in > 0"}),
    ] {
        assert!(shown(response.clone()).starts_with("Life"), "{response}: {}", shown(response.clone()));
    }
}

#[test]
fn tokens_are_read_from_a_standard_response() {
    let rfc = r#"{"access_token":"at","refresh_token":"rt","expires_in":120,"token_type":"Bearer","scope":"a b"}"#;
    let cases = [
        ("the members of RFC 6749", rfc, Some("rt"), Some(120)),
        ("only an access token", r#"{"access_token":"at"}"#, None, None),
        ("an empty refresh token", r#"{"access_token":"at","refresh_token":""}"#, None, None),
        ("null", r#"{"access_token":"at","refresh_token":null,"expires_in":null}"#, None, None),
        ("expires_in as text", r#"{"access_token":"at","expires_in":" 120 "}"#, None, Some(120)),
        ("expires_in of zero", r#"{"access_token":"at","expires_in":0}"#, None, None),
        ("expires_in below zero", r#"{"access_token":"at","expires_in":-5}"#, None, None),
        ("expires_in that is a word", r#"{"access_token":"at","expires_in":"soon"}"#, None, None),
        ("expires_in of the wrong type", r#"{"access_token":"at","expires_in":{}}"#, None, None),
        ("expires_in beyond the range of integers", r#"{"access_token":"at","expires_in":1e300}"#, None, None),
        ("expires_in that is NaN", r#"{"access_token":"at","expires_in":"NaN"}"#, None, None),
        ("an error next to a token", r#"{"access_token":"at","error":"none"}"#, None, None),
        ("a list with one object in it", r#"[{"access_token":"at"}]"#, None, None),
    ];
    for (case, body, refresh, lifetime) in cases {
        let token = read(&raw(200, body), &request_of(json!({}))).unwrap_or_else(|why| panic!("{case}: {why:?}"));
        assert_eq!(token.access_token.expose_secret(), "at", "{case}");
        assert_eq!(token.refresh_token.as_ref().map(ExposeSecret::expose_secret), refresh, "{case}");
        assert_eq!(token.expires_in, lifetime.map(seconds), "{case}");
    }
    let token = read(&raw(201, rfc), &request_of(json!({}))).expect("201 is a success too");
    assert_eq!((token.token_type.as_deref(), token.scope.as_deref()), (Some("Bearer"), Some("a b")));
}

#[test]
fn a_non_standard_body_is_read_with_expressions() {
    let body = json!({"data": {
        "session": {"jwt": "at"},
        "tokens": [{"kind": "id", "value": "it"}, {"kind": "refresh", "value": "rt"}],
        "ttl": 2,
    }});
    let token_request = request_of(json!({"response": {
        "accessToken": "data.session.jwt",
        "refreshToken": "data.tokens[kind='refresh'].value",
        "expiresIn": "data.ttl * 60",
    }}));
    let token = read(&raw(200, &body.to_string()), &token_request).expect("a token");
    assert_eq!(token.access_token.expose_secret(), "at");
    assert_eq!(token.refresh_token.expect("a refresh token").expose_secret(), "rt");
    assert_eq!(token.expires_in, Some(seconds(120)));
}

/// Found by fuzzing.
#[test]
fn a_media_type_that_repeats_a_secret_is_withheld() {
    // The second one is base64, directly between other letters.
    for media_type in ["text/the-client-secret", "applicatidGhlLWNsaWVudC1zZWNyZXQon/json"] {
        let failure = failure(&raw_with(200, &[("content-type", media_type)], "x"), &request_of(json!({})));
        assert!(failure.message.contains("is not JSON but [withheld"), "{}", failure.message);
    }
    let failure =
        failure(&raw_with(200, &[("content-type", "text/plain; charset=utf-8")], "x"), &request_of(json!({})));
    assert!(failure.message.contains("is not JSON but text/plain"), "{}", failure.message);
}

#[test]
fn a_response_without_a_usable_token_names_the_expression() {
    let nested = "[".repeat(60_000);
    let cases: &[(&str, &str, &[&str])] = &[
        ("an empty body", "", &["is empty", "spec.tokenEndpoint"]),
        ("a page of HTML", "<html>", &["is not JSON", "spec.tokenEndpoint"]),
        ("JSON nested 60,000 deep", &nested, &["is not JSON"]),
        ("data after the JSON", r#"{"access_token":"at"} trailing"#, &["is not JSON"]),
        (
            "no access token",
            "{}",
            &["access_token for the access token yields nothing", "check spec.response.accessToken"],
        ),
        ("null", r#"{"access_token":null}"#, &["yields nothing"]),
        ("an empty token", r#"{"access_token":""}"#, &["yields nothing"]),
        ("a number", r#"{"access_token":12345678}"#, &["a number instead of a string", "$string()"]),
        ("a token with a line break at its end", r#"{"access_token":"at\n"}"#, &["whitespace", "$trim()"]),
        (
            "another name",
            r#"{"acess_token":"at","ttl":5,"at-0f3a9c81d2e4b7a6c5d4":{},"a b":1}"#,
            &["yields nothing", "which has: acess_token, ttl; check"],
        ),
        ("a boolean", r#"{"access_token":true}"#, &["a boolean instead of a string"]),
        ("a list", r#"{"access_token":["a","b"]}"#, &["a list instead of a string"]),
        ("an object", r#"{"access_token":{"value":"x"}}"#, &["an object instead of a string"]),
        ("a line break", r#"{"access_token":"a\r\nX-Injected: b"}"#, &["characters", "RFC 6749"]),
        ("a NUL", r#"{"access_token":"a\u0000b"}"#, &["characters", "RFC 6749"]),
        ("a letter that is not ASCII", r#"{"access_token":"schlüssel"}"#, &["characters", "RFC 6749"]),
        ("a body that is a text", r#""access_token""#, &["yields nothing"]),
    ];
    for (case, body, expected) in cases {
        let failure = failure(&raw(200, body), &request_of(json!({})));
        assert_eq!((failure.reason, failure.retry_after), (Reason::InvalidResponse, None), "{case}");
        for part in *expected {
            assert!(failure.message.contains(part), "{case}: {}", failure.message);
        }
    }
}

#[test]
fn the_refresh_token_of_an_invalid_response_is_kept() {
    let cases = [
        ("no access token", 200, r#"{"refresh_token":"rt-1"}"#, Some("rt-1")),
        ("an access token of the wrong type", 200, r#"{"access_token":5,"refresh_token":"rt-1"}"#, Some("rt-1")),
        ("a refresh token with a line break", 200, r#"{"refresh_token":"rt\n1"}"#, None),
        ("neither", 200, "{}", None),
        ("a rejection", 400, r#"{"refresh_token":"rt-1"}"#, None),
    ];
    for (case, status, body, expected) in cases {
        let failure = failure(&raw(status, body), &request_of(json!({"grantType": "refresh_token"})));
        assert!(!format!("{failure:?}").contains("rt-1"), "{case}: {failure:?}");
        let kept = failure.refresh_token.as_ref().map(|kept| kept.0.expose_secret());
        assert_eq!(kept, expected, "{case}");
    }
}

#[test]
fn the_refresh_token_of_a_truncated_response_is_kept_if_it_is_complete() {
    let padding = "ä".repeat(100);
    let at_the_end = format!(r#"{{"id_token":"{padding}","refresh_token":"rt-1"}}"#);
    let whole = format!(r#"{{"access_token":"at","refresh_token":"rt-1","id_token":"{padding}"#);
    let cases = [
        ("before the truncation", "refresh_token", whole.as_bytes(), Some("rt-1")),
        ("truncated inside a character", "refresh_token", &whole.as_bytes()[..whole.len() - 1], Some("rt-1")),
        ("truncated inside the token", "refresh_token", br#"{"refresh_token":"rt-1"#.as_slice(), None),
        ("after the truncation", "refresh_token", &at_the_end.as_bytes()[..50], None),
        ("in an object", "data.rt", br#"{"data":{"rt":"rt-1","id_token":"xyz"#.as_slice(), Some("rt-1")),
        ("in a list", "data.rt", br#"{"data":[{"rt":"rt-1","id_token":"xyz"#.as_slice(), None),
        ("an expression", "$.refresh_token", whole.as_bytes(), None),
        ("an HTML page", "refresh_token", b"<html><body>refresh_token".as_slice(), None),
    ];
    for (case, path, body, expected) in cases {
        let token_request = request_of(json!({"grantType": "refresh_token", "response": {"refreshToken": path}}));
        let raw = HttpResponse { status: 200, headers: vec![], body: body.to_vec().into() };
        let kept = parse::rotated_refresh_token_of_prefix(&raw, &token_request.expressions);
        assert_eq!(kept.as_ref().map(|kept| kept.0.expose_secret()), expected, "{case}");
    }
}

#[test]
fn only_the_error_of_a_body_is_shown() {
    let bodies = [
        r#"{"access_token":["hidden"],"refresh_token":"hidden"}"#,
        r#"{"access_token":{"hidden":"hidden"}}"#,
        r#"{"access_token":"hid\nden hidden"}"#,
        r#"{"access_token":5,"id_token":"hidden","error":"shown","note":"hidden"}"#,
        "hidden",
    ];
    for body in bodies {
        for status in [200, 302, 400, 401, 429, 500] {
            let message = failure(&raw(status, body), &request_of(json!({}))).message;
            assert!(!message.contains("hid"), "{status} {body}: {message}");
        }
    }
}

#[test]
fn an_error_with_a_success_status_is_a_rejection() {
    let request = request_of(json!({"grantType": "refresh_token"}));
    for (body, invalid_grant, says) in [
        (r#"{"ok":false,"error":"invalid_auth"}"#, false, "rejected the request with 200: invalid_auth"),
        (r#"{"error":"invalid_grant","error_description":"spent"}"#, true, "200: invalid_grant: spent"),
        ("error=bad_refresh_token&error_description=wrong", false, "200: bad_refresh_token: wrong"),
        (r#"{"error":"e1","error_description":"the-client-secret is old"}"#, false, "e1: [withheld"),
    ] {
        let failure = failure(&raw(200, body), &request);
        assert_eq!((failure.reason, failure.invalid_grant), (Reason::RequestRejected, invalid_grant), "{body}");
        assert!(failure.message.contains(says), "{body}: {}", failure.message);
    }
    // A token counts, whatever else there is.
    assert!(read(&raw(200, r#"{"access_token":"at","error":""}"#), &request).is_ok());
    assert!(read(&raw(200, r#"{"access_token":"at","error":"none"}"#), &request).is_ok());
}

#[test]
fn expressions_decide_about_errors_with_any_status() {
    let request = request_of(json!({"grantType": "refresh_token", "response": {
        "success": "$not($exists(Code))", "invalidGrant": "Code = 'TokenInvalid'", "error": "Reasons.Text",
    }}));
    let wrong = r#"{"Code":"AccountPasswordInvalid","Reasons":[{"Text":"wrong password"}]}"#;
    for status in [200, 400, 500] {
        let failure = failure(&raw(status, wrong), &request);
        assert_eq!((failure.reason, failure.invalid_grant), (Reason::RequestRejected, false), "{status}");
        assert!(failure.message.contains(": wrong password"), "{status}: {}", failure.message);
    }
    assert!(failure(&raw(500, r#"{"Code":"TokenInvalid"}"#), &request).invalid_grant);
    // An outage is not a rejection: the expression is true, or has no result.
    for body in ["", "<html>", r#"{"message":"down"}"#] {
        assert_eq!(failure(&raw(503, body), &request).reason, Reason::EndpointUnavailable, "{body}");
    }
    let ok = request_of(json!({"response": {"success": "ok"}}));
    assert_eq!(failure(&raw(503, r#"{"message":"down"}"#), &ok).reason, Reason::EndpointUnavailable);
}

#[test]
fn the_servers_message_is_shown_wherever_it_is() {
    let long = format!("{} must be tls_client_auth", "x".repeat(300));
    let cases: &[(u16, Headers, &str, &str)] = &[
        (400, &[], r#"{"message":"the account is locked"}"#, "400: the account is locked"),
        (400, &[], r#"{"error":{"message":"the account is locked","code":7}}"#, "400: the account is locked"),
        (400, &[], r#"{"errors":[{"message":"the account is locked"},{}]}"#, "400: the account is locked"),
        (400, &[], r#"{"errors":["the account is locked"]}"#, "400: the account is locked"),
        (
            400,
            &[],
            r#"{"type":"about:blank","title":"No","detail":"the account is locked"}"#,
            "400: the account is locked",
        ),
        (400, &[], r#"{"error":"e","message":"the account is locked"}"#, "400: e: the account is locked"),
        (400, &[], "<e><message>the account\n is &lt;locked&gt;</message></e>", "400: the account is <locked>"),
        (
            401,
            &[("www-authenticate", r#"Bearer realm="x", error="invalid_token", error_description="it is old""#)],
            "",
            "401: it is old",
        ),
        (403, &[], "<!DOCTYPE html><html><title>Blocked</title>", "403: an HTML page: Blocked; a proxy or firewall"),
        (
            400,
            &[],
            &json!({"error": "invalid_client", "error_description": long}).to_string(),
            "tls_client_auth; set spec.clientAuthentication.method to tls_client_auth",
        ),
    ];
    for (status, headers, body, expected) in cases {
        let failure = failure(&raw_with(*status, headers, body), &request_of(json!({})));
        assert!(failure.message.contains(expected), "{body}: {}", failure.message);
    }
    // A success may contain a token anywhere, which the author of the spec may not be allowed to read.
    let message =
        failure(&raw(200, r#"{"error":"no","message":"token 0f3a9c81d2e4b7a6c5d4 expired"}"#), &request_of(json!({})));
    assert!(message.message.contains("200: no: token … expired"), "{}", message.message);
}

#[test]
fn a_rate_limit_is_obeyed_wherever_it_is() {
    // In 90 s.
    assert_eq!(NOW.as_second(), 1_767_225_600);
    let cases: &[(u16, Headers, Option<u64>)] = &[
        (429, &[], None),
        (429, &[("retry-after", "7"), ("ratelimit-reset", "9")], Some(7)),
        (429, &[("ratelimit-reset", "30")], Some(30)),
        (429, &[("x-ratelimit-reset", "1767225690")], Some(90)),
        (429, &[("x-rate-limit-reset", "1767225690")], Some(90)),
        (429, &[("ratelimit", r#""default";r=0;t=45"#)], Some(45)),
        (429, &[("ratelimit", "limit=10, remaining=0, reset=50")], Some(50)),
        (403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767225690")], Some(90)),
        (403, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1767225690")], None),
        (500, &[("ratelimit-reset", "30")], None),
    ];
    for (status, headers, expected) in cases {
        let failure = failure(&raw_with(*status, headers, "{}"), &request_of(json!({})));
        assert_eq!(failure.retry_after, expected.map(Duration::from_secs), "{status} {headers:?}");
        assert_eq!(failure.status, Some(*status));
    }
}

#[test]
fn a_good_access_token_is_not_discarded_because_of_the_refresh_token() {
    for refresh_token in ["7", r#"{"value":"rt"}"#, r#""a b\n""#] {
        let body = format!(r#"{{"access_token":"at","refresh_token":{refresh_token}}}"#);
        let token = read(&raw(200, &body), &request_of(json!({}))).expect("a token");
        assert_eq!((token.refresh_token.is_none(), token.warning), (true, Some(Reason::RefreshTokenIgnored)), "{body}");
    }
}

#[test]
fn a_scope_may_be_a_list() {
    let body = r#"{"access_token":"at","scope":["read",7,"write"]}"#;
    assert_eq!(read(&raw(200, body), &request_of(json!({}))).expect("a token").scope.as_deref(), Some("read write"));
}

#[test]
fn the_lifetime_of_the_refresh_token_is_read() {
    let by = |response: Value, body: &str| {
        let token = read(&raw(200, body), &request_of(json!({"response": response}))).expect("a token");
        (token.refresh_token_expires_in, token.refresh_token_expires_at)
    };
    for name in ["refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in"] {
        let body = format!(r#"{{"access_token":"at","{name}":1800}}"#);
        assert_eq!(by(json!({}), &body), (Some(seconds(1800)), None), "{name}");
    }
    let body = r#"{"access_token":"at","ttl":{"refresh":5},"until":"2026-01-01T00:00:00Z"}"#;
    let response = json!({"refreshTokenExpiresIn": "ttl.refresh * 60", "refreshTokenExpiresAt": "until"});
    assert_eq!(by(response, body), (Some(seconds(300)), Some(NOW)));
    assert_eq!(by(json!({}), r#"{"access_token":"at","refresh_expires_in":0}"#), (None, None));
}

#[test]
fn bodies_of_other_formats_and_repeated_headers_are_reachable() {
    let token = |expression: &str, headers: &[(&str, &str)], body: &str| {
        let request = request_of(json!({"response": {"accessToken": expression}}));
        read(&raw_with(200, headers, body), &request).expect("a token").access_token.expose_secret().to_owned()
    };
    assert_eq!(token("$trim($body)", &[], "eyJhbGciOi.x.y\n"), "eyJhbGciOi.x.y");
    assert_eq!(token("$match($body, /<token>(.*)<\\/token>/).groups[0]", &[], "<a><token>at</token></a>"), "at");
    assert_eq!(token("$eval($substringAfter($body, ',')).t", &[], ")]}',\n{\"t\":\"at\"}"), "at");
    let cookies = [("set-cookie", "session=at; Path=/"), ("set-cookie", "lb=node1")];
    assert_eq!(token("$match($headers.`set-cookie`, /session=([^;]+)/).groups[0]", &cookies, "{}"), "at");
    assert_eq!(token("$match($headers.`set-cookie`, /lb=([^;]+)/).groups[0]", &cookies, "{}"), "node1");
}

#[test]
fn the_target_of_a_redirect_is_shown_without_its_query() {
    for (location, shown) in [
        ("https://other.example.com/a/token?code=hidden#x", "a redirect to https://other.example.com/a/token, which"),
        ("/a/token?code=hidden", "a redirect to /a/token, which"),
        ("https://user:word@other.example.com/token", "a redirect to https://other.example.com/token, which"),
    ] {
        let message = failure(&raw_with(307, &[("location", location)], ""), &request_of(json!({}))).message;
        assert!(message.contains(shown), "{message}");
    }
}

#[test]
fn each_status_has_its_class() {
    let (rejected, transient) = (FailureClass::Rejected, FailureClass::Transient);
    let cases: &[(u16, Reason, FailureClass)] = &[
        (199, Reason::RequestRejected, rejected),
        (301, Reason::UnexpectedRedirect, rejected),
        (302, Reason::UnexpectedRedirect, rejected),
        (307, Reason::UnexpectedRedirect, rejected),
        (400, Reason::RequestRejected, rejected),
        (401, Reason::RequestRejected, rejected),
        (403, Reason::RequestRejected, rejected),
        (404, Reason::RequestRejected, rejected),
        (408, Reason::EndpointUnavailable, transient),
        (415, Reason::RequestRejected, rejected),
        (429, Reason::EndpointUnavailable, transient),
        (500, Reason::EndpointUnavailable, transient),
        (503, Reason::EndpointUnavailable, transient),
        (599, Reason::EndpointUnavailable, transient),
    ];
    for (status, reason, class) in cases {
        let failure = failure(&raw(*status, r#"{"access_token":"at"}"#), &request_of(json!({})));
        assert_eq!((failure.reason, failure.reason.class()), (*reason, *class), "{status}");
        assert!(failure.message.contains(&status.to_string()), "{status}: {}", failure.message);
    }
}

#[test]
fn a_rejection_explains_what_to_change() {
    let form = json!({"request": {"format": "form"}});
    let json_ = json!({});
    let cases: &[(&str, &Value, u16, &str, &str)] = &[
        ("JSON is not a valid request", &json_, 400, "invalid_request", "spec.request.format: form"),
        (
            "the grant type in JSON is not recognized",
            &json_,
            400,
            "unsupported_grant_type",
            "spec.request.format: form",
        ),
        ("JSON is not an accepted media type", &json_, 415, "x", "spec.request.format: form"),
        (
            "the grant type in a form is not recognized",
            &form,
            400,
            "unsupported_grant_type",
            "spec.request.format: json",
        ),
        ("a form is not an accepted media type", &form, 415, "x", "spec.request.format: json"),
        ("the client is not known", &form, 401, "invalid_client", "client secret in the credentials Secret"),
        ("the client is not allowed", &json_, 400, "unauthorized_client", "allow the client to use client_credentials"),
        ("the client is not known to Keycloak", &form, 401, "unauthorized_client", "client secret in the credentials"),
        ("another method", &form, 401, "invalid_client", "try spec.clientAuthentication.method: client_secret_basic"),
        ("the scope", &form, 400, "invalid_scope", "check spec.scope"),
        ("the resource", &form, 400, "invalid_target", "check spec.resource"),
        ("no audience", &form, 403, "access_denied", "check spec.resource"),
        ("a bare 401 to JSON", &json_, 401, "Unauthorized", "spec.request.format: form"),
        ("a bare 406 to a form", &form, 406, "x", "spec.request.format: json"),
        ("401 with another error code", &json_, 401, "x", "client secret in the credentials Secret"),
        ("the URL does not exist", &json_, 404, "x", "spec.tokenEndpoint"),
        ("POST is not allowed", &json_, 405, "x", "spec.tokenEndpoint"),
    ];
    for (case, spec, status, error, expected) in cases {
        let body = json!({"error": error, "error_description": "why"}).to_string();
        let message = failure(&raw(*status, &body), &request_of((*spec).clone())).message;
        assert!(message.contains(expected), "{case}: {message}");
        assert!(message.contains(&format!("{error}: why")), "{case}: {message}");
    }
}

#[test]
fn the_error_codes_of_the_rfc_are_never_redacted() {
    let sent = members(&[("client_id", "client"), ("scope", "invalid")]);
    let body = r#"{"error":"invalid_client","error_description":"client is unknown"}"#;
    let (raw, token_request) = (raw(400, body), request_of(json!({})));
    let evaluated = EvaluatedExpressions::in_this_process(&raw, &token_request.expressions);
    let failure =
        explain(parse::parse_token_response(&raw, &token_request, &sent, NOW, &evaluated).expect_err("a failure"));
    assert!(failure.message.contains("invalid_client: client is unknown"), "{}", failure.message);
    assert!(failure.message.contains("credentials Secret"), "{}", failure.message);
}

#[test]
fn retry_after_is_parsed_in_both_formats() {
    let day = 86_400;
    let cases: &[(&str, &str, Option<u64>)] = &[
        ("seconds", "30", Some(30)),
        ("zero seconds", "0", Some(0)),
        ("surrounding spaces", " 30 ", Some(30)),
        ("a date", "Thu, 01 Jan 2026 00:01:30 GMT", Some(90)),
        ("a date of RFC 850", "Thursday, 01-Jan-26 00:01:30 GMT", Some(90)),
        ("a date of asctime()", "Thu Jan  1 00:01:30 2026", Some(90)),
        ("a date that has passed", "Wed, 31 Dec 2025 23:59:00 GMT", None),
        ("more than a day", "100000", Some(day)),
        ("a date beyond a day", "Thu, 01 Jan 2032 00:00:00 GMT", Some(day)),
        ("a negative number", "-5", None),
        ("an empty value", "", None),
        ("words", "in a while", None),
        ("a number that is too large", "99999999999999999999999", None),
    ];
    for (case, header, expected) in cases {
        for status in [400, 429, 503] {
            let raw = raw_with(status, &[("retry-after", header)], "");
            let retry_after = failure(&raw, &request_of(json!({}))).retry_after;
            assert_eq!(retry_after, expected.map(Duration::from_secs), "{case} with {status}");
        }
    }
}

#[test]
fn a_date_is_relative_to_the_clock_of_the_endpoint() {
    let ahead = "Thu, 01 Jan 2026 01:00:00 GMT";
    let raw = raw_with(503, &[("retry-after", "Thu, 01 Jan 2026 01:01:30 GMT"), ("date", ahead)], "");
    assert_eq!(failure(&raw, &request_of(json!({}))).retry_after, Some(Duration::from_secs(90)));
    let raw = raw_with(200, &[("date", ahead)], r#"{"access_token": "a"}"#);
    let token = read(&raw, &request_of(json!({}))).expect("a response");
    assert_eq!(token.date, Some("2026-01-01T01:00:00Z".parse().expect("a time")));
}

#[test]
fn invalid_grant_is_recognized() {
    for (error, known) in [("invalid_grant", true), ("invalid_client", false)] {
        let failure = failure(&raw(400, &json!({"error": error}).to_string()), &request_of(json!({})));
        assert_eq!(failure.invalid_grant, known, "{error}");
    }
    assert!(
        !failure(&raw(500, r#"{"error": "invalid_grant"}"#), &request_of(json!({}))).invalid_grant,
        "a server error"
    );
}

proptest! {
    #[test]
    fn parsing_a_response_never_panics(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..200), header in prop::option::of(".*")) {
        let headers = header.map(|value| ("retry-after".to_owned(), value)).into_iter().collect();
        let _ = read(&HttpResponse { status, headers, body: body.into() }, &request_of(json!({})));
    }
}
