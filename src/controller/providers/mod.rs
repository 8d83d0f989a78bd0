//! Providers: their watches, who uses them, their Secrets, and their status.

pub(crate) mod check;
pub(crate) mod checks;
pub(crate) mod named;
pub(crate) mod report;
pub(crate) mod secrets;
pub mod store;
pub(crate) mod watch;
