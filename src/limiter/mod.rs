//! Limits of shared resources: token requests per host and in total, circuit breakers, and queues that are fair by
//! namespace. Uses no other layer.

pub(crate) mod fair_queue;
pub(crate) mod host;
pub(crate) mod parked;
pub(crate) mod request_limiter;
pub(crate) mod share;
pub mod state;
pub mod types;
