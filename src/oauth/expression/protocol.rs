//! The messages between the operator and its expression workers.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::value::Value;

/// The memory limit of a worker, in bytes.
pub(crate) const MEMORY: u64 = 24 << 20;

/// The task of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Check whether the expressions can be parsed. The result of each is nothing, or the parser's message.
    Check,
    /// Evaluate the expressions on a response.
    Evaluate,
    /// Evaluate the expression that builds the body of a request.
    Build,
}

/// A response, and the expressions to evaluate on it; or the inputs of a request body.
#[derive(Debug, Serialize, Deserialize)]
pub struct EvaluationRequest {
    /// What to do with the expressions.
    pub task: Task,
    /// The expressions.
    pub expressions: Vec<String>,
    /// How many of the last expressions see the response without possible secrets.
    pub public: usize,
    /// The HTTP status code.
    pub status: u16,
    /// The headers; for [`Task::Build`], the variables other than `$members`, as JSON.
    pub headers: Vec<(String, String)>,
    /// The body; empty if it is not text. For [`Task::Build`], `$members` as JSON.
    pub body: String,
    /// The input of the expressions, as the members of a JSON object, of which the parsed body becomes the member
    /// `response`; `None` if the body is the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

impl Drop for EvaluationRequest {
    fn drop(&mut self) {
        self.body.zeroize();
        self.input.zeroize();
    }
}

/// The value of an expression, or its error.
pub type EvaluationResult = Result<Value, ExpressionError>;
