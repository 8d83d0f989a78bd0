//! JSONata expressions, and the bounds of their cost.

use std::time::Duration;

use jsonata_core::value::JValue;
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::expression::jsonata::{Bindings, Expression};
use oauth_operator::oauth::response::evaluation::EvaluatedExpressions;
use oauth_operator::oauth::response::parse;
use oauth_operator::oauth::response::raw::HttpResponse;
use oauth_operator::spec::advice::explain;
use oauth_operator::spec::validated::ValidatedSpec;
use serde_json::json;
use test_support::cpu::thread_time;

use super::{NOW, request_of};

fn evaluated(text: &str, body: &str) -> Result<JValue, String> {
    let body = JValue::from_json_str(body).expect("JSON");
    Expression::parse(text)
        .unwrap_or_else(|why| panic!("{text}: {why}"))
        .evaluate(&body, NONE)
        .map_err(|error| error.to_string())
}

const NONE: Bindings<'static> = Bindings { status: 200, headers: &[], body: "" };

#[test]
fn a_path_of_names_is_evaluated_without_a_worker() {
    for (text, is_path) in [
        ("access_token", true),
        ("data.token", true),
        ("a.b.c_1", true),
        ("", false),
        ("a.", false),
        ("1a", false),
        ("a[0]", false),
        ("$f()", false),
        ("a & b", false),
        ("a.*", false),
        ("a.**", false),
        ("`a b`", false),
    ] {
        let parsed = Expression::parse(text);
        assert_eq!(parsed.is_ok_and(|expression| expression.is_path()), is_path, "{text}");
    }
}

#[test]
fn bodies_of_all_shapes_can_be_read() {
    let cases = [
        ("a path", "data.token", r#"{"data":{"token":"at"}}"#),
        ("a name that needs quoting", "`x-token`", r#"{"x-token":"at"}"#),
        (
            "a filter",
            "tokens[kind='access'].value",
            r#"{"tokens":[{"kind":"id","value":"x"},{"kind":"access","value":"at"}]}"#,
        ),
        ("the first of several", "tokens[0]", r#"{"tokens":["at","x"]}"#),
        ("the first of two that exists", "token ? token : jwt", r#"{"jwt":"at"}"#),
        ("a part of a string", "$substringAfter(header, 'Bearer ')", r#"{"header":"Bearer at"}"#),
    ];
    for (case, text, body) in cases {
        let value = evaluated(text, body).unwrap_or_else(|why| panic!("{case}: {why}"));
        assert_eq!(value.as_str(), Some("at"), "{case}");
    }
}

/// Expressions are parsed in a worker: `ValidatedSpec::parse` does not reject a spec because of an expression.
#[test]
fn an_invalid_expression_is_rejected_and_not_parsed_in_this_process() {
    for text in ["data.", "[", "$$(", "a b", "\"open", "{"] {
        assert!(Expression::parse(text).is_err(), "{text} is accepted");
        let spec = json!({
            "tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
            "credentials": {"secretName": "credentials"}, "response": {"accessToken": text},
        });
        let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
        let validated = ValidatedSpec::parse("it", &spec).expect("expressions are not parsed");
        assert!(!validated.token_request.expressions.are_simple_paths());
    }
    let long = "a".repeat(4_097);
    assert!(Expression::unchecked(&long).is_err_and(|why| why.to_string().contains("longer")));
}

#[test]
fn an_invalid_expression_is_rejected_with_code_and_position() {
    let cases = [
        ("data.", "S0207", 5),
        ("[", "S0207", 1),
        ("a b", "S0201", 3),
        ("tokens[kind=].value", "S0", 13),
        ("\"open", "S0101", 5),
        ("a.b.(c", "S0203", 6),
        ("token)", "S0201", 6),
        ("a + * b", "S0201", 7),
        ("a ? b :", "S0207", 7),
        ("tokens[0", "S0203", 8),
        ("`open", "S0105", 5),
        ("ü.ö b", "S0201", 5),
    ];
    for (text, code, place) in cases {
        let message = Expression::parse(text).expect_err(text).to_string();
        assert!(message.contains(code), "{text}: {message}");
        assert!(message.ends_with(&format!("(at character {place})")), "{text}: {message}");
    }
}

#[test]
fn deeply_nested_text_is_rejected_or_parsed_without_a_crash() {
    for (open, close) in [("(", ")"), ("[", "]"), ("{\"a\":", "}"), ("-", "1"), ("$not(", ")")] {
        // The API accepts at most 4,096 characters.
        let depth = 4096 / (open.len() + close.len());
        let _ = Expression::parse(&format!("{}1{}", open.repeat(depth), close.repeat(depth)));
    }
}

#[test]
fn a_failed_evaluation_shows_the_code_but_no_value() {
    let body = r#"{"token":"hidden","list":["hidden"]}"#;
    for text in ["token + 1", "$number(token)", "$error(token)", "token()", "$sum(list)", "$toMillis(token)"] {
        let error = evaluated(text, body).expect_err(text);
        assert!(!error.contains("hidden"), "{text}: {error}");
        assert!(error.contains("JSONata error"), "{text}: {error}");
    }
    let token_request = request_of(json!({"response": {"accessToken": "$number(token)"}}));
    let raw = HttpResponse { status: 200, headers: vec![], body: body.as_bytes().to_vec().into() };
    let evaluated = EvaluatedExpressions::in_this_process(&raw, &token_request.expressions);
    let failure =
        explain(parse::parse_token_response(&raw, &token_request, &[], NOW, &evaluated).expect_err("a failure"));
    assert!(failure.message.contains("fetch --explain` shows which one"), "{}", failure.message);
    assert!(!failure.message.contains("hidden") && !failure.message.contains("JSONata"), "{}", failure.message);
}

#[test]
fn an_infinite_evaluation_is_stopped() {
    let cases = [
        ("infinite recursion", "($f := function($x) { $f($x + 1) + 1 }; $f(1))"),
        ("tail recursion", "($f := function($x) { $f($x + 1) }; $f(1))"),
        ("a list that is too long", "[1..9999999]"),
        ("lists of lists", "[1..3000].[1..3000]"),
        ("a pattern with backtracking", "$match($join([1..40].'a') & '!', /^(a+)+$/)"),
    ];
    for (case, text) in cases {
        let started = thread_time();
        let _ = evaluated(text, "{}");
        let spent = thread_time() - started;
        assert!(spent < Duration::from_secs(5), "{case}: {spent:?} of CPU time");
    }
}

#[test]
fn a_response_is_not_evaluated_as_an_expression() {
    let body = r#"{"access_token":"($f := function() { $f() }; $f())"}"#;
    let value = evaluated("access_token", body).expect("a value");
    assert_eq!(value.as_str(), Some("($f := function() { $f() }; $f())"));
}
