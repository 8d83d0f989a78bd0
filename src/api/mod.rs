//! The API: `OAuthIntegration` as users write and read it, its validation, and the reasons. Does not use other
//! layers, tokio or a client.

pub(crate) mod beside;
pub mod client_authentication;
pub(crate) mod connection;
pub mod crd;
pub(crate) mod credentials;
pub mod duration;
pub(crate) mod grant;
pub(crate) mod headers;
pub(crate) mod names;
pub mod provider;
pub mod reason;
pub(crate) mod renewal;
pub mod request;
pub(crate) mod response;
pub(crate) mod revocation;
pub(crate) mod schema;
pub mod shared_spec;
pub mod signed_jwt;
pub mod sparse;
pub mod spec;
pub mod status;
pub(crate) mod target;
pub(crate) mod validation;
