//! Guarantee: each expression of the cookbook returns the documented result. This test reads the page.

use oauth_operator::oauth::expression::jsonata::Expression;
use oauth_operator::oauth::expression::public::View;
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/jsonata.md");

/// One example of the page.
#[derive(Default)]
struct Example<'a> {
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<&'a str>,
    expression: &'a str,
    yields: &'a str,
}

fn examples() -> Vec<Example<'static>> {
    let blocks = PAGE.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(example).collect()
}

fn example(block: &'static str) -> Example<'static> {
    let mut example = Example { status: 200, ..Example::default() };
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("invalid line: {line}"));
        let value = value.trim();
        match name {
            "status" => example.status = value.parse().expect("a status code"),
            "header" => {
                let (name, value) = value.split_once(": ").expect("a header");
                example.headers.push((name.to_owned(), value.to_owned()));
            }
            // The input of `target.data` is not a body, but is parsed as one here.
            "body" | "input" => example.body = Some(value),
            "expression" => example.expression = value,
            "yields" => example.yields = value,
            other => panic!("unknown name: {other}"),
        }
    }
    assert!(!example.expression.is_empty() && !example.yields.is_empty(), "incomplete example: {block}");
    example
}

#[test]
fn each_expression_returns_the_documented_result() {
    let mut wrong = Vec::new();
    for Example { status, headers, body, expression, yields } in examples() {
        let view = View::whole(body.unwrap_or_default(), &headers);
        let parsed = Expression::parse(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
        let evaluated = parsed.evaluate(&view.body, view.bindings(status));
        let found = evaluated.map_err(|error| error.to_string()).and_then(|value| {
            let text = value.to_json_string().map_err(|_| "not JSON".to_owned())?;
            serde_json::from_str::<Value>(&text).map_err(|error| format!("{text}: {error}"))
        });
        let expected: Value = serde_json::from_str(yields).unwrap_or_else(|why| panic!("{yields}: {why}"));
        let same = match (&found, &expected) {
            // JSON has only one number type.
            (Ok(Value::Number(found)), Value::Number(expected)) => found.as_f64() == expected.as_f64(),
            (Ok(Value::Object(found)), Value::Object(expected)) => {
                let text =
                    |value: &Value| value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string());
                found.len() == expected.len()
                    && found.iter().all(|(name, value)| expected.get(name).map(text) == Some(text(value)))
            }
            (Ok(found), expected) => found == expected,
            (Err(_), _) => false,
        };
        if !same {
            wrong.push(format!("{expression} yields {found:?} and not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_states_the_number_of_its_examples() {
    let count = examples().len();
    assert!(count >= 40, "{count}");
    assert!(PAGE.contains(&format!("Here are {count} expressions")), "{count}");
}
