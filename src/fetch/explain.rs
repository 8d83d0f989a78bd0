//! `fetch --explain`: the shape of an answer, and what each expression makes of it. No value is shown: an answer is secret.

use std::fmt::Write as _;

use jsonata_core::value::JValue;

use crate::oauth::response::{self, Evaluated, Raw};
use crate::oauth::{Ask, Expression, Expressions};

/// How deep a shape is shown.
const DEPTH: usize = 8;
/// How many members or items of one value are shown.
const WIDTH: usize = 40;

/// The fields whose numbers are told.
const TOLD: [&str; 3] = ["expiresIn", "expiresAt", "success"];

/// Prints an answer to standard error, where it does not mix with the Secret.
pub fn print(ask: &Ask, raw: &Raw, evaluated: &Evaluated) {
    eprint!("{}", explained(ask, raw, evaluated));
}

/// The text that is printed.
#[must_use]
fn explained(ask: &Ask, raw: &Raw, evaluated: &Evaluated) -> String {
    let mut text = format!("# the answer to {}: status {}\n", ask.grant.kind().as_str(), raw.status);
    for (name, value) in &raw.headers {
        let _ = writeln!(text, "#   header {name}: {}", masked(value));
    }
    let body = response::parse(&raw.body);
    match &body {
        Some(body) => {
            let _ = write!(text, "#   body: ");
            shape(&mut text, body, 1);
        }
        None => {
            let _ = writeln!(text, "#   body: {} bytes that are neither JSON nor a form", raw.body.len());
        }
    }
    let body = body.unwrap_or(JValue::Null);
    for (field, expression) in fields(&ask.expressions) {
        let yields = match evaluated.get(expression, &body, raw) {
            // Lives, ends and a sign of success are told; what may be a token is not.
            Ok(JValue::Number(number)) if TOLD.contains(&field.as_str()) => format!("the number {number}"),
            Ok(value) => described(&value),
            Err(error) => error,
        };
        let _ = writeln!(text, "# spec.response.{field} ({}) yields {yields}", expression.text());
    }
    text
}

/// The expressions, by their member of `spec.response`.
fn fields(expressions: &Expressions) -> Vec<(String, &Expression)> {
    let Expressions { access_token, refresh_token, expires_in, expires_at, success, extra } = expressions;
    let always = [("accessToken", access_token), ("refreshToken", refresh_token), ("expiresIn", expires_in)];
    let sometimes = [("expiresAt", expires_at), ("success", success)];
    always
        .into_iter()
        .chain(sometimes.into_iter().filter_map(|(field, expression)| Some((field, expression.as_ref()?))))
        .map(|(field, expression)| (field.to_owned(), expression))
        .chain(extra.iter().map(|(key, expression)| (format!("extra.{key}"), expression)))
        .collect()
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

/// Writes what a value is made of: names and kinds.
fn shape(text: &mut String, value: &JValue, depth: usize) {
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
        shape(text, value, depth + 1);
    }
    if members.len() > WIDTH {
        let _ = writeln!(text, "# {indent}  and {} more", members.len() - WIDTH);
    }
}
