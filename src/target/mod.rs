//! The target Secret as data: what is written, and what is read from it. Pure. May use `oauth` and the layers below it.

pub(crate) mod annotations;
pub mod content;
pub mod integrity;
pub mod looks;
pub mod policy;
pub(crate) mod read;
pub(crate) mod secret;
pub mod snapshot;
pub(crate) mod template;
