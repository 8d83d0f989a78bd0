//! The client for the API server. Responses are bounded before they are parsed, so that the content of an object can
//! affect only that object. May use `oauth` for the addresses of the egress policy.

pub(crate) mod api_server;
pub(crate) mod call;
pub mod calls;
pub(crate) mod client;
pub(crate) mod error_response;
pub(crate) mod errors;
pub mod filter;
pub mod lenient;
pub(crate) mod pages;
pub mod rules;
