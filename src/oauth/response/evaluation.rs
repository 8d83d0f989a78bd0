//! The results of the expressions of a spec on one response.

use std::collections::HashMap;

use crate::oauth::expression::document::Document;
use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::protocol::EvaluationResult;
use crate::oauth::expression::public::View;
use crate::oauth::expression::set::ResponseMapping;
use crate::oauth::expression::value::Value;
use crate::oauth::expression::{document, public};
use crate::oauth::response::raw::HttpResponse;

/// The values of a response: paths are read from its bytes, other expressions are evaluated in the sandbox.
#[derive(Clone, Debug, Default)]
pub struct EvaluatedExpressions {
    document: Document,
    results: HashMap<String, EvaluationResult>,
    /// The results of the expressions that see the response without possible secrets.
    public: HashMap<String, EvaluationResult>,
}

impl EvaluatedExpressions {
    /// Reads the members that RFC 6749 defines, and the values of all paths.
    #[must_use]
    pub fn read(body: &[u8], expressions: &ResponseMapping) -> Self {
        Self { document: document::read(body, expressions.all()), ..Self::default() }
    }

    /// Reads only the members that RFC 6749 defines.
    #[must_use]
    pub fn of_error(body: &[u8]) -> Self {
        Self { document: document::read(body, std::iter::empty()), ..Self::default() }
    }

    /// Reads the value of one path from the beginning of a body.
    #[must_use]
    pub fn rotated_refresh_token_of_prefix(body: &[u8], path: &Expression) -> Self {
        Self { document: document::read_beginning(body, path), ..Self::default() }
    }

    /// Reads a response and evaluates everything in this process, without the limits of a worker. For tests only.
    #[must_use]
    pub fn in_this_process(raw: &HttpResponse, expressions: &ResponseMapping) -> Self {
        let mut evaluated = Self::read(&raw.body, expressions);
        let (texts, public) = evaluated.remaining(expressions, matches!(raw.status, 200..300));
        let text = std::str::from_utf8(&raw.body).unwrap_or_default();
        let (whole, without_secrets) = (View::whole(text, &raw.headers), View::public(text, &raw.headers));
        let first_public = texts.len() - public;
        let evaluate = |(index, text): (usize, &String)| {
            let view = if index < first_public { &whole } else { &without_secrets };
            let value = Expression::unchecked(text)?.evaluate(&view.body, view.bindings(raw.status))?;
            Value::of(&value)
        };
        let results = texts.iter().enumerate().map(evaluate).collect();
        evaluated.add(&texts, public, Ok(results));
        evaluated
    }

    /// The expressions that have no value yet, without duplicates: those that are not paths, and paths through lists
    /// and to objects. The number is that of the last expressions that must see the response without possible
    /// secrets. If the response is not a success, only the expressions that say so are needed.
    #[must_use]
    pub fn remaining(&self, expressions: &ResponseMapping, is_success: bool) -> (Vec<String>, usize) {
        let missing = |expressions: Vec<&Expression>, known: &HashMap<String, EvaluationResult>| {
            let mut texts: Vec<String> = expressions.iter().map(|expression| expression.text().to_owned()).collect();
            texts.retain(|text| {
                !self.document.values.contains_key(text) && !known.contains_key(text) && self.is_needed(text)
            });
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        let (secret, public) = if is_success {
            let ResponseMapping { access_token, refresh_token, response_data, .. } = expressions;
            let secret = [access_token, refresh_token].into_iter().chain(response_data.values()).collect();
            (secret, expressions.public().collect())
        } else {
            (Vec::new(), expressions.of_failure().collect())
        };
        let (mut texts, public) = (missing(secret, &self.results), missing(public, &self.public));
        let number = public.len();
        texts.extend(public);
        (texts, number)
    }

    /// An unreadable body has no members, but expressions may use headers.
    fn is_needed(&self, text: &str) -> bool {
        self.document.is_readable || text.contains('$')
    }

    /// Adds results; the last `public` expressions saw the response without possible secrets. If the whole evaluation
    /// failed, each of them has its error.
    pub fn add(
        &mut self,
        expressions: &[String],
        public: usize,
        results: Result<Vec<EvaluationResult>, ExpressionError>,
    ) {
        let results = match results {
            Ok(results) => results,
            Err(error) => vec![Err(error); expressions.len()],
        };
        let first_public = expressions.len().saturating_sub(public);
        for (index, (text, result)) in expressions.iter().zip(results).enumerate() {
            let known = if index < first_public { &mut self.results } else { &mut self.public };
            known.insert(text.clone(), result);
        }
    }

    /// The values that were read from the body.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// The result of an expression.
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`], or the limit that the worker exceeded.
    pub fn get(&self, expression: &Expression) -> Result<&Value, ExpressionError> {
        self.found(expression, &self.results)
    }

    /// The result of an expression that affects public values, on the response without possible secrets.
    ///
    /// # Errors
    ///
    /// As [`EvaluatedExpressions::get`].
    pub fn get_public(&self, expression: &Expression) -> Result<Value, ExpressionError> {
        let value = self.found(expression, &self.public)?;
        let name = expression.text().rsplit('.').next().unwrap_or_default();
        Ok(match value {
            Value::Text(text) if expression.is_path() && !public::is_public(name, text) => {
                Value::Text(public::HIDDEN.to_owned())
            }
            Value::Number(number) if expression.is_path() && !public::is_public(name, &number.to_string()) => {
                Value::Text(public::HIDDEN.to_owned())
            }
            value => value.clone(),
        })
    }

    fn found<'a>(
        &'a self,
        expression: &Expression,
        results: &'a HashMap<String, EvaluationResult>,
    ) -> Result<&'a Value, ExpressionError> {
        let text = expression.text();
        match (self.document.values.get(text), results.get(text)) {
            (Some(value), _) | (None, Some(Ok(value))) => Ok(value),
            (None, Some(Err(error))) => Err(error.clone()),
            (None, None) => Ok(&Value::Nothing),
        }
    }
}
