//! The spec, parsed: requests, credential references and hashes. Pure. May use `target` and the layers below it.

pub mod advice;
pub(crate) mod binding;
pub(crate) mod connection_settings;
pub(crate) mod credentials;
pub(crate) mod endpoint;
pub(crate) mod hash;
pub mod renewal;
pub(crate) mod requests;
pub(crate) mod sources;
pub mod validated;
