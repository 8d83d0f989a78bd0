//! Token responses: the raw response, the values in it, and error responses.

pub(crate) mod error_response;
pub mod evaluation;
pub(crate) mod extract;
pub mod parse;
pub mod raw;
pub(crate) mod server_message;
pub mod time;
pub mod token;
