//! The controller: watches, caches, reconciliations, metrics and the HTTP server of one process. Depends on all other
//! layers except `cli`.

pub(crate) mod budget;
pub(crate) mod cache;
pub(crate) mod checks;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod control_runtime;
pub(crate) mod error;
pub(crate) mod heartbeat;
pub(crate) mod integrations;
pub mod memory;
pub mod metrics;
pub(crate) mod observe;
pub(crate) mod perform;
pub(crate) mod providers;
pub(crate) mod queue;
pub(crate) mod readiness;
pub(crate) mod reconcile;
pub(crate) mod restarts;
pub(crate) mod revoker;
pub mod run;
pub mod server;
pub(crate) mod setup;
pub mod shutdown;
pub mod slots;
pub(crate) mod traces;
pub(crate) mod watches;
