//! `fetch --explain`: the structure of a response, and the result of each expression. Values are masked, because a
//! response is secret.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jsonata_core::value::JValue;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::shared_spec::SharedSpec;
use crate::api::spec::OAuthIntegration;
use crate::oauth::expression::data::RESPONSE;
use crate::oauth::expression::document;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::protocol::EvaluationResult;
use crate::oauth::expression::set::{DATA_FIELD, data_field};
use crate::oauth::expression::value::Value as Evaluated;
use crate::oauth::request::TokenRequest;
use crate::oauth::response::evaluation::EvaluatedExpressions;
use crate::oauth::response::raw::HttpResponse;
use crate::spec::provider::Provider;

/// Maximum depth of the structure that is shown.
const DEPTH: usize = 8;
/// Maximum number of members or items of one value that are shown.
const WIDTH: usize = 40;

/// The fields whose values are shown unmasked.
const UNMASKED: [&str; 3] = ["response.expiresIn", "response.expiresAt", "response.success"];

/// Prints a response to standard error, separate from the Secret on standard output.
pub fn print(token_request: &TokenRequest, raw: &HttpResponse, evaluated: &EvaluatedExpressions) {
    eprint!("{}", explained(token_request, raw, evaluated));
}

/// Prints the result of an expression for the target, masked.
pub fn print_data(key: &str, expression: &Expression, result: &EvaluationResult) {
    let yields = result.as_ref().map_or_else(ToString::to_string, described_result);
    eprintln!("# spec.{} ({}) yields {yields}", data_field(key), expression.text());
}

/// Which fields of a spec come from the provider, and which from the integration.
#[must_use]
pub(crate) fn sources(integration: &OAuthIntegration, provider: &Provider) -> String {
    let defaults = members(&SharedSpec::default());
    let given = |all: Map<String, Value>| {
        let is_given = |(name, value): (String, Value)| {
            (defaults.get(&name) != Some(&value) && value != Value::Bool(false)).then_some(name)
        };
        all.into_iter().filter_map(is_given).collect::<BTreeSet<_>>()
    };
    let own = given(members(&integration.spec));
    let of_provider: BTreeSet<String> = given(members(&*provider.spec));
    // In both, the credentials are those of the user and those of the client.
    let from_provider = of_provider.iter().filter(|name| !own.contains(*name) || *name == "credentials");
    let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!(
        "# {} has these fields from {}: {}\n# and these of its own: {}\n",
        integration.name_any(),
        provider.origin.reference,
        list(from_provider.collect()),
        list(own.iter().collect())
    )
}

fn members(spec: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// The text that is printed.
#[must_use]
fn explained(token_request: &TokenRequest, raw: &HttpResponse, evaluated: &EvaluatedExpressions) -> String {
    let mut text = format!("# the response to {}: status {}\n", token_request.grant.kind().as_str(), raw.status);
    for (name, value) in &raw.headers {
        let _ = writeln!(text, "#   header {name}: {}", masked(value));
    }
    let body = document::parse(&raw.body);
    match &body {
        Some(body) => {
            let _ = write!(text, "#   body: ");
            write_structure(&mut text, body, 1);
        }
        None => {
            let _ = writeln!(text, "#   body: {} bytes that are neither JSON nor a form", raw.body.len());
        }
    }
    for (field, expression) in token_request.expressions.fields() {
        // The lifetime, the expiry and the success are shown; other values may be tokens.
        let is_unmasked = UNMASKED.contains(&field.as_str());
        let value = if is_unmasked { evaluated.get_public(expression) } else { evaluated.get(expression).cloned() };
        let yields = match value {
            Ok(Evaluated::Number(number)) if is_unmasked => format!("the number {number}"),
            Ok(value) => described_result(&value),
            Err(error) => error.to_string(),
        };
        // A plain path of the response is evaluated without its first name.
        let within = if field.starts_with(DATA_FIELD) { RESPONSE } else { "" };
        let _ = writeln!(text, "# spec.{field} ({within}{}) yields {yields}", expression.text());
    }
    text
}

/// The result of an expression, masked.
fn described_result(value: &Evaluated) -> String {
    match value {
        Evaluated::Nothing => "nothing".to_owned(),
        Evaluated::Null => "null".to_owned(),
        Evaluated::Bool(value) => format!("{value}"),
        Evaluated::Number(_) => "a number".to_owned(),
        Evaluated::Text(text) => masked(text),
        Evaluated::List(length, _) => format!("a list of {length} items"),
        Evaluated::Object(length, _) => format!("an object with {length} members"),
        Evaluated::Other => "something else".to_owned(),
    }
}

fn described(value: &JValue) -> String {
    match value {
        JValue::Undefined => "nothing".to_owned(),
        JValue::Object(members) => format!("an object with {} members", members.len()),
        JValue::Array(items) => format!("a list of {} items", items.len()),
        plain => leaf(plain),
    }
}

fn leaf(value: &JValue) -> String {
    match value {
        JValue::String(text) => masked(text),
        JValue::Number(_) => "a number".to_owned(),
        JValue::Bool(value) => format!("{value}"),
        JValue::Null => "null".to_owned(),
        _ => "something else".to_owned(),
    }
}

fn masked(text: &str) -> String {
    format!("*** ({} characters)", text.chars().count())
}

/// Writes the structure of a value: names and kinds.
fn write_structure(text: &mut String, value: &JValue, depth: usize) {
    let indent = "  ".repeat(depth);
    let members: Vec<(String, &JValue)> = match value {
        JValue::Object(members) => members.iter().map(|(name, value)| (format!("{name:?}"), value)).collect(),
        JValue::Array(items) => items.iter().enumerate().map(|(index, value)| (format!("[{index}]"), value)).collect(),
        plain => {
            let _ = writeln!(text, "{}", leaf(plain));
            return;
        }
    };
    let _ = writeln!(text, "{}", described(value));
    if depth > DEPTH {
        return;
    }
    for (name, value) in members.iter().take(WIDTH) {
        let _ = write!(text, "# {indent}  {name}: ");
        write_structure(text, value, depth + 1);
    }
    if members.len() > WIDTH {
        let _ = writeln!(text, "# {indent}  and {} more", members.len() - WIDTH);
    }
}
