//! Decides what to do, and what follows from the result: pure functions of an observation, without a clock, tokio or
//! a client for the API server.

pub(crate) mod backoff;
pub mod expiry;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod provider_status;
pub mod reads;
pub mod restarts;
pub mod settle;
pub mod status;
pub(crate) mod stored_tokens;
