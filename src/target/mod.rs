//! The target Secret as data: how it is written and read. Pure. May use `oauth` and the layers below it.

pub mod adoption;
pub(crate) mod annotations;
pub mod content;
pub mod integrity;
pub mod looks;
pub mod policy;
pub mod read;
pub mod secret;
pub mod snapshot;
pub(crate) mod template;
pub(crate) mod types;
pub mod version;
