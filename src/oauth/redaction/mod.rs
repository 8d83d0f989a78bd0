//! Keeps secrets out of messages.

pub(crate) mod decode;
pub(crate) mod pieces;
pub mod redact;
