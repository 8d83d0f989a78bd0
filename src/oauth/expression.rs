//! JSONata expressions: parsed once for each text, evaluated with limits.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;

/// How long one evaluation may take.
const TIMEOUT_MS: u64 = 1_000;
/// How deep functions may call each other.
const MAX_STACK_DEPTH: usize = 500;
/// How long a sequence may become.
const MAX_SEQUENCE_LENGTH: usize = 100_000;
/// How many characters of texts are remembered that have been parsed. Nearly all integrations share the defaults; past this
/// everything is parsed anew.
const REMEMBERED: usize = 1 << 19;

static PARSED: LazyLock<Mutex<Parsed>> = LazyLock::new(Mutex::default);

/// What was parsed already.
#[derive(Default)]
struct Parsed {
    known: HashMap<String, Expression>,
    characters: usize,
}

/// An expression that can be parsed. Clones share the parsed form.
///
/// That of a path of names is kept. Of all others, which are evaluated elsewhere, it is not: it can be a hundred times as large
/// as its text.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    ast: Option<Arc<AstNode>>,
}

/// What an expression may use beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Bindings<'a> {
    /// `$status`.
    pub status: u16,
    /// `$headers`: names in small letters, and values.
    pub headers: &'a [(String, String)],
}

impl Bindings<'_> {
    fn context(&self) -> Context {
        let mut context = Context::new();
        context.bind("status".to_owned(), JValue::from(f64::from(self.status)));
        let headers: serde_json::Map<String, serde_json::Value> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let headers = JValue::from_json_str(&serde_json::Value::Object(headers).to_string());
        context.bind("headers".to_owned(), headers.unwrap_or(JValue::Undefined));
        context
    }
}

impl Expression {
    /// Parses an expression, or takes it from what was parsed before.
    ///
    /// # Errors
    ///
    /// The parser's own message, with its JSONata code where it has one, and the position.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A poisoned lock means that a parse panicked; the map itself is still whole.
        let mut parsed = PARSED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed.known.get(text) {
            return Ok(known.clone());
        }
        let ast = parser::parse(text).map_err(|error| format!("{error} (at character {})", position(text)))?;
        let ast = is_path(text).then(|| Arc::new(ast));
        let expression = Self { text: text.into(), ast };
        if parsed.characters + text.len() > REMEMBERED {
            *parsed = Parsed::default();
        }
        parsed.characters += text.len();
        parsed.known.insert(text.to_owned(), expression.clone());
        Ok(expression)
    }

    /// The text that was parsed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it only names a member, or a path of members: looking that up takes no time worth speaking of.
    #[must_use]
    pub fn is_path(&self) -> bool {
        self.ast.is_some()
    }

    /// Evaluates the expression over a response body. Blocks for at most [`TIMEOUT_MS`].
    ///
    /// # Errors
    ///
    /// The JSONata code of the failure, or a general word for it: the full message may quote values of the
    /// response, which are secret.
    pub fn evaluate(&self, body: &JValue, bindings: Bindings<'_>) -> Result<JValue, String> {
        let options = EvaluatorOptions {
            timeout_ms: Some(TIMEOUT_MS),
            max_stack_depth: Some(MAX_STACK_DEPTH),
            max_sequence_length: Some(MAX_SEQUENCE_LENGTH),
            ..EvaluatorOptions::default()
        };
        // Headers are not looked at in vain: nearly all expressions are paths.
        let context = if self.text.contains('$') { bindings.context() } else { Context::new() };
        let parsed = match &self.ast {
            Some(known) => Arc::clone(known),
            None => Arc::new(parser::parse(&self.text).map_err(|_| "a JSONata error".to_owned())?),
        };
        Evaluator::with_options(context, options).evaluate(&parsed, body).map_err(|error| code(error.message()))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// Whether a text is a name, or a path of names.
fn is_path(text: &str) -> bool {
    text.split('.').all(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !["and", "or", "in", "null", "true", "false", "function"].contains(&name)
    })
}

/// Where a text stops being an expression, counted in characters from 1: at the end of the shortest beginning that nothing
/// could follow to make one. The parser does not tell. What follows such a beginning makes it no better, so halving finds it.
fn position(text: &str) -> usize {
    let is_unfinished = |beginning: &str| match parser::parse(beginning) {
        Ok(_) => true,
        Err(error) => UNFINISHED.iter().any(|word| error.to_string().contains(word)),
    };
    let ends: Vec<usize> = text.char_indices().map(|(start, c)| start + c.len_utf8()).collect();
    let wrong = ends.partition_point(|end| is_unfinished(&text[..*end]));
    (wrong + 1).min(ends.len())
}

/// What the parser says of a text that only goes on too short.
const UNFINISHED: [&str; 7] = ["S0207", "S0101", "S0105", "S0106", "S0302", "Unclosed", "end of expression"];

/// The JSONata error code (a letter and four digits) that leads a message.
fn code(message: &str) -> String {
    let lead: String = message.chars().take_while(char::is_ascii_alphanumeric).collect();
    let is_code = lead.len() == 5
        && lead.starts_with(|c: char| c.is_ascii_uppercase())
        && lead.chars().skip(1).all(|c| c.is_ascii_digit());
    if is_code { format!("JSONata error {lead}") } else { "a JSONata error".to_owned() }
}
