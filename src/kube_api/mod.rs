//! The client of the API server. Its responses are bounded before they are parsed, so that whatever one object contains, only that
//! object is affected. May use `oauth` for the addresses of the egress policy.

pub(crate) mod api_server;
pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod error_response;
pub(crate) mod errors;
pub mod filter;
pub mod lenient;
pub(crate) mod pages;
pub mod rules;
