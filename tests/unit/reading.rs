//! Guarantee: the values that are read directly from the bytes of a response are those that JSONata finds in the whole
//! document; all other paths are left to JSONata.

use oauth_operator::oauth::expression::document;
use oauth_operator::oauth::expression::jsonata::Bindings;
use oauth_operator::oauth::expression::jsonata::Expression;
use oauth_operator::oauth::expression::value::Value;
use proptest::prelude::*;

const NONE: Bindings<'static> = Bindings { status: 200, headers: &[], body: "" };

fn paths(texts: &[&str]) -> Vec<Expression> {
    let path = |text: &&str| {
        let expression = Expression::unchecked(text).expect("an expression");
        assert!(expression.is_path(), "{text}");
        expression
    };
    texts.iter().map(path).collect()
}

/// Compares all paths; returns the number of paths that were left to JSONata.
fn compare(body: &str, paths: &[Expression]) -> usize {
    let document = document::read(body.as_bytes(), paths.iter());
    let Some(whole) = document::parse(body.as_bytes()) else { return 0 };
    assert!(document.is_readable, "{body}");
    let mut left = 0;
    for path in paths {
        let expected = path.evaluate(&whole, NONE).and_then(|value| Value::of(&value));
        match document.values.get(path.text()) {
            Some(found) => assert_eq!(Ok(found), expected.as_ref(), "{} in {body}", path.text()),
            None => left += 1,
        }
    }
    left
}

#[test]
fn paths_are_evaluated_without_jsonata() {
    let paths = paths(&["access_token", "data.token", "data", "data.token.more", "missing"]);
    let cases = [
        (r#"{"access_token":"at"}"#, 0),
        (r#"{"access_token":1.5,"data":{"token":"at"}}"#, 1),
        (r#"{"access_token":null,"data":{"token":true}}"#, 1),
        (r#"{"access_token":-3,"data":null}"#, 0),
        (r#"{"access_token":18446744073709551615,"data":"text"}"#, 0),
        (r#"{"access_token":1e300,"data":false}"#, 0),
        (r#"{"access_token":"one","access_token":"two"}"#, 0),
        (r#"{"data":{"token":"one"},"data":{}}"#, 1),
        (r#"{"data":{"token":"one"},"data":{"other":1}}"#, 1),
        (r#"{"data":{"token":{"more":"x"}},"data":{"token":"two"}}"#, 1),
        (r#"{"data":{"token":"one"},"data":7}"#, 0),
        (r#"{"\u0061ccess_token":"\u00e9\n"}"#, 0),
        (r#"{"data":[{"token":"at"}]}"#, 3),
        (r#"[{"access_token":"at"}]"#, 5),
        (r#""access_token""#, 0),
        ("null", 0),
        ("7", 0),
        ("access_token=at&scope=a+b", 0),
        ("access_token=one&access_token=two", 0),
    ];
    for (body, left) in cases {
        assert_eq!(compare(body, &paths), left, "{body}");
    }
}

#[test]
fn the_fields_of_the_rfc_are_read_if_they_are_strings() {
    let body = r#"{"error":"invalid_grant","error_description":"why","token_type":7,"scope":""}"#;
    let document = document::read(body.as_bytes(), std::iter::empty());
    assert_eq!(document.error.as_deref(), Some("invalid_grant"));
    assert_eq!(document.error_description.as_deref(), Some("why"));
    assert_eq!((document.token_type, document.scope), (None, None));
    assert!(document::error(br#"[{"error":"x"}]"#).is_none());
    for unreadable in ["", "{", r#"{"error":"x"} more"#, "<html>", "\u{1}"] {
        let document = document::read(unreadable.as_bytes(), std::iter::empty());
        assert!(!document.is_readable && document.error.is_none(), "{unreadable}");
    }
}

#[test]
fn unused_values_may_be_nested_arbitrarily_deep() {
    let deep = format!(r#"{{"x":{}{},"access_token":"at"}}"#, "[".repeat(60_000), "]".repeat(60_000));
    let paths = paths(&["access_token"]);
    let document = document::read(deep.as_bytes(), paths.iter());
    assert_eq!(document.values.get("access_token"), Some(&Value::Text("at".to_owned())));
}

/// A document with only a few different names, so that paths often have a result.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("JSON", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        ".{0,5}".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            // Names may occur twice.
            prop::collection::vec((name(), inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn paths_have_the_same_result_as_in_jsonata(body in json()) {
        compare(&body, &paths(&["a", "b", "a.b", "a.a", "a.b.c", "a.b.a", "b.a.a.a", "c.c"]));
    }

    #[test]
    fn parsing_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = document::read(&body, paths(&["a", "a.b"]).iter());
    }
}
