//! HTTP for token requests: name resolution, egress policy, connections, issuer metadata, DPoP nonces, and the caches
//! that namespaces share. May use the layers below `oauth`, and the modules of `oauth` that describe a request.

pub(crate) mod addresses;
pub mod authorization;
pub(crate) mod bounded_stream;
pub(crate) mod cache;
pub mod connections;
pub(crate) mod custom_ca;
pub mod decode;
pub mod denied;
pub(crate) mod dial;
pub mod discovery;
pub mod egress;
pub(crate) mod errors;
pub mod name_resolution;
pub(crate) mod nonces;
pub(crate) mod send;
pub(crate) mod server_certificate;
pub(crate) mod trust_stores;
