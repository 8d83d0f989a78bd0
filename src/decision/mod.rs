//! What to do, and what follows from what was done: pure functions of an observation. No clock, no tokio, no client of the API
//! server.

pub(crate) mod backoff;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod reads;
pub mod settle;
pub mod status;
pub(crate) mod stored_tokens;
