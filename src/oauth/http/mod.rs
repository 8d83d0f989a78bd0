//! HTTP for token requests: name resolution, egress policy, connections, metadata of issuers and protected resources,
//! DPoP nonces, clock offsets, and the caches that namespaces share. May use the layers below `oauth`, and the modules of
//! `oauth` that describe a request.

pub(crate) mod addresses;
pub mod auth_methods;
pub mod authorization;
pub(crate) mod bounded_stream;
pub(crate) mod cache;
pub(crate) mod clock_offsets;
pub mod connections;
pub(crate) mod custom_ca;
pub mod decode;
pub mod denied;
pub(crate) mod dial;
pub mod discovery;
pub mod documents;
pub mod egress;
pub(crate) mod errors;
pub mod name_resolution;
pub(crate) mod nonces;
pub mod protected_resource;
pub mod send;
pub(crate) mod server_certificate;
pub(crate) mod trust_stores;
