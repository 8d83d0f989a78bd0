//! The value of an expression, as it is passed between the operator and its workers.

use jsonata_core::value::JValue;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::oauth::expression::error::ExpressionError;

/// The value of an expression. Lists and objects are kept as JSON text: they are only written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// JSONata's `undefined`: there is no value.
    Nothing,
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// A list: its number of items, and its JSON text.
    List(usize, String),
    /// An object: its number of members, and its JSON text.
    Object(usize, String),
    /// A value without a representation in JSON, such as a function.
    Other,
}

impl Value {
    /// Converts a value of JSONata.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON.
    pub fn of(value: &JValue) -> Result<Self, ExpressionError> {
        let json = || value.to_json_string().map_err(|_| ExpressionError::NotJson);
        Ok(match value {
            JValue::Undefined => Self::Nothing,
            JValue::Null => Self::Null,
            JValue::Bool(value) => Self::Bool(*value),
            JValue::Number(value) => Self::Number(*value),
            JValue::String(text) => Self::Text(text.to_string()),
            JValue::Array(items) => Self::List(items.len(), json()?),
            JValue::Object(members) => Self::Object(members.len(), json()?),
            _ => Self::Other,
        })
    }

    /// The length of its text in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) | Self::List(_, text) | Self::Object(_, text) => text.len(),
            _ => 0,
        }
    }

    /// The text to store: strings unchanged, anything else as in JSON; `None` if there is no value.
    ///
    /// # Errors
    ///
    /// When it has no representation in JSON.
    pub fn text(&self) -> Result<Option<SecretString>, NotText> {
        Ok(Some(match self {
            Self::Nothing | Self::Null => return Ok(None),
            Self::Text(text) | Self::List(_, text) | Self::Object(_, text) => text.as_str().into(),
            Self::Bool(value) => value.to_string().into(),
            Self::Number(number) => JValue::Number(*number).to_json_string().map_err(|_| NotText)?.into(),
            Self::Other => return Err(NotText),
        }))
    }
}

/// A value that cannot be written as text, such as a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;
