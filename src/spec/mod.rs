//! The spec, parsed: requests, credential references and hashes. Pure. May use `target` and the layers below it.

pub mod advice;
pub mod allow;
pub(crate) mod binding;
pub mod chain;
pub mod chained_token;
pub(crate) mod connection_settings;
pub(crate) mod credentials;
pub mod credentials_version;
pub(crate) mod endpoint;
pub mod expiry;
pub(crate) mod hash;
pub(crate) mod key_files;
pub mod provider;
pub mod renewal;
pub(crate) mod requests;
pub(crate) mod secret_values;
pub(crate) mod sources;
pub mod validated;
