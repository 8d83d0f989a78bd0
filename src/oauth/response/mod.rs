//! Token responses: what was received, what is read from it, and what an error response says.

pub(crate) mod error_response;
pub mod evaluation;
pub(crate) mod extract;
pub mod parse;
pub mod raw;
pub mod token;
