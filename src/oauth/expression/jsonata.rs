//! JSONata expressions: paths are recognized by their text; all others are parsed and evaluated with limits, in
//! worker processes.

use std::fmt;
use std::sync::Arc;

use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;

use crate::oauth::expression::error::ExpressionError;

/// The timeout of one evaluation, in milliseconds.
const TIMEOUT_MS: u64 = 1_000;
/// The maximum depth of function calls.
const MAX_STACK_DEPTH: usize = 500;
/// The maximum length of a sequence.
const MAX_SEQUENCE_LENGTH: usize = 100_000;
/// The maximum length of an expression, in characters, as in the CRD.
const MAX_LENGTH: usize = 4_096;
/// The maximum length of a message of the parser, in characters: it may quote the expression.
const MAX_MESSAGE: usize = 300;
/// The maximum number of names in a path that is looked up without JSONata.
const MAX_NAMES: usize = 16;

/// An expression. Clones share its text.
///
/// Parsing a text of 4 KiB can take many milliseconds, and the syntax tree a hundred times the memory of the text.
/// Therefore only [`Expression::check`] and [`Expression::evaluate`] parse it, and the operator calls both only in
/// worker processes.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    is_path: bool,
}

/// The variables that an expression may use in addition to the body.
#[derive(Clone, Copy, Debug)]
pub struct Bindings<'a> {
    /// `$status`.
    pub status: u16,
    /// `$headers`: names in lower case, and values. The values of headers with the same name are joined by line breaks.
    pub headers: &'a [(String, String)],
    /// `$body`: the text of the body, for bodies that are neither JSON nor a form.
    pub body: &'a str,
}

impl Bindings<'_> {
    fn context(&self) -> Context {
        let mut context = Context::new();
        context.bind("status".to_owned(), JValue::from(f64::from(self.status)));
        let mut joined = std::collections::BTreeMap::<&str, String>::new();
        for (name, value) in self.headers {
            joined
                .entry(name)
                .and_modify(|known| {
                    known.push('\n');
                    known.push_str(value);
                })
                .or_insert_with(|| value.clone());
        }
        let headers = serde_json::json!(joined).to_string();
        context.bind("headers".to_owned(), JValue::from_json_str(&headers).unwrap_or(JValue::Undefined));
        context.bind("body".to_owned(), JValue::string(self.body));
        context
    }
}

impl Expression {
    /// An expression that has not been parsed; [`Expression::check`] checks whether it is valid.
    ///
    /// # Errors
    ///
    /// When it is longer than the CRD allows.
    pub fn unchecked(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_LENGTH && text.chars().count() > MAX_LENGTH {
            return Err(ExpressionError::TooLong(MAX_LENGTH));
        }
        Ok(Self { text: text.into(), is_path: is_path(text) })
    }

    /// Parses an expression. Must not be called in the operator's own process: to locate an error, the text is parsed
    /// up to 14 times.
    ///
    /// # Errors
    ///
    /// As [`Expression::check`].
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let expression = Self::unchecked(text)?;
        expression.check().map(|()| expression)
    }

    /// Checks whether it can be parsed. A path is valid without parsing.
    ///
    /// # Errors
    ///
    /// The parser's own message, with the JSONata code if there is one, and the position.
    pub fn check(&self) -> Result<(), ExpressionError> {
        if self.is_path {
            return Ok(());
        }
        self.ast().map(|_| ()).map_err(|error| ExpressionError::Syntax {
            message: error.to_string().chars().take(MAX_MESSAGE).collect(),
            position: position(&self.text),
        })
    }

    fn ast(&self) -> Result<AstNode, parser::ParserError> {
        parser::parse(&self.text)
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is a name, or a path of a few names, which is looked up without a parser.
    #[must_use]
    pub fn is_path(&self) -> bool {
        self.is_path
    }

    /// The names of a path.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.text.split('.')
    }

    /// Evaluates the expression over a response body. Blocks for up to [`TIMEOUT_MS`].
    ///
    /// # Errors
    ///
    /// The JSONata code of the error, or a generic message: the full message may quote values of the response, which
    /// are secret.
    pub fn evaluate(&self, body: &JValue, bindings: Bindings<'_>) -> Result<JValue, ExpressionError> {
        // Headers are bound only if they may be used: nearly all expressions do not use them.
        let context = if self.text.contains('$') { bindings.context() } else { Context::new() };
        self.evaluate_in(body, context)
    }

    /// Evaluates an expression that builds a request body. `members` is also its input; `variables` are JSON.
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`].
    pub fn build(&self, members: &str, variables: &[(String, String)]) -> Result<JValue, ExpressionError> {
        let parse = |json: &str| JValue::from_json_str(json).map_err(|_| ExpressionError::NotJson);
        let members = parse(members)?;
        let mut context = Context::new();
        context.bind("members".to_owned(), members.clone());
        for (name, json) in variables {
            context.bind(name.clone(), parse(json)?);
        }
        self.evaluate_in(&members, context)
    }

    fn evaluate_in(&self, input: &JValue, context: Context) -> Result<JValue, ExpressionError> {
        let options = EvaluatorOptions {
            timeout_ms: Some(TIMEOUT_MS),
            max_stack_depth: Some(MAX_STACK_DEPTH),
            max_sequence_length: Some(MAX_SEQUENCE_LENGTH),
            ..EvaluatorOptions::default()
        };
        let parsed = self.ast().map_err(|_| ExpressionError::Failed(None))?;
        Evaluator::with_options(context, options)
            .evaluate(&parsed, input)
            .map_err(|error| ExpressionError::Failed(code(error.message())))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// Whether a text is a name, or a path of a few names.
fn is_path(text: &str) -> bool {
    text.split('.').count() <= MAX_NAMES
        && text.split('.').all(|name| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !["and", "or", "in", "null", "true", "false", "function"].contains(&name)
        })
}

/// The position of the first error, in characters from 1: the end of the shortest prefix that cannot be completed to
/// a valid expression. The parser does not report it. No longer prefix can be completed either, so a binary search
/// finds it.
fn position(text: &str) -> usize {
    let is_unfinished = |beginning: &str| match parser::parse(beginning) {
        Ok(_) => true,
        Err(error) => UNFINISHED.iter().any(|word| error.to_string().contains(word)),
    };
    let ends: Vec<usize> = text.char_indices().map(|(start, c)| start + c.len_utf8()).collect();
    let wrong = ends.partition_point(|end| is_unfinished(&text[..*end]));
    (wrong + 1).min(ends.len())
}

/// The errors of the parser for a text that is incomplete.
const UNFINISHED: [&str; 7] = ["S0207", "S0101", "S0105", "S0106", "S0302", "Unclosed", "end of expression"];

/// The JSONata error code (a letter and four digits) at the beginning of a message.
fn code(message: &str) -> Option<String> {
    let lead: String = message.chars().take_while(char::is_ascii_alphanumeric).collect();
    let is_code = lead.len() == 5
        && lead.starts_with(|c: char| c.is_ascii_uppercase())
        && lead.chars().skip(1).all(|c| c.is_ascii_digit());
    is_code.then_some(lead)
}
