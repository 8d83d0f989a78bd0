//! Why an expression has no value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An expression cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidExpression {
    /// Its field in the spec, such as `response.accessToken`.
    pub field: String,
    /// The reason.
    pub error: ExpressionError,
}

/// Why an expression has no value. The messages never quote the response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ExpressionError {
    /// The text is longer than the CRD allows, in characters.
    #[error("it is longer than {0} characters")]
    TooLong(usize),
    /// The parser's message, and the position in characters from 1.
    #[error("{message} (at character {position})")]
    Syntax {
        /// The message, which may quote the expression.
        message: String,
        /// The position.
        position: usize,
    },
    /// The JSONata error code, if there is one.
    #[error("{}", .0.as_ref().map_or_else(|| "a JSONata error".to_owned(), |code| format!("JSONata error {code}")))]
    Failed(Option<String>),
    /// The value has no representation in JSON: for example, it is a function.
    #[error("a value that cannot be written as JSON")]
    NotJson,
    /// The values of all expressions are too large.
    #[error("more data than can be kept")]
    ValuesTooLarge,
    /// The type of the Secret requires a JSON object.
    #[error("text that is not a JSON object")]
    NotAnObject,
    /// The type of the Secret requires a value.
    #[error("nothing, although the type of the Secret requires a value")]
    Required,
    /// The headers are too large, limit in KiB.
    #[error("more than {0} KiB of headers")]
    HeadersTooLarge(usize),
    /// The worker exceeded its memory, in MiB.
    #[error("an exceeded memory limit ({0} MiB)")]
    OutOfMemory(u64),
    /// The evaluation took too long.
    #[error("a timeout ({0:?})")]
    TimedOut(Duration),
    /// Other expressions of the namespace used all of its time.
    #[error("a timeout in the queue: other expressions of the namespace use all of its time")]
    QueueTimedOut,
    /// No worker could be started.
    #[error("a failure to start a worker ({0})")]
    NotStarted(String),
}

impl ExpressionError {
    /// Whether the expression was not evaluated, for reasons that depend neither on it nor on the response.
    #[must_use]
    pub const fn is_not_evaluated(&self) -> bool {
        matches!(self, Self::QueueTimedOut | Self::NotStarted(_))
    }
}

/// Why expressions could not be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Parsing them exceeds a limit.
    #[error("the check ended with {0}")]
    LimitExceeded(ExpressionError),
    /// No worker could be started, which does not depend on them.
    #[error("failed to start a worker: {0}")]
    NotStarted(String),
}
