//! Restarts of workloads whose Secrets have changed, for those that have opted in (`--restarts`).
//!
//! ```text
//!   watches (metadata) ──► workloads ─┐
//!                                     ├──► decide (pure) ──► slots ──► apply ──► events
//!   cached targets, integrations ─────┘
//! ```
//!
//! Once per second, the leader decides about each workload that has opted in, from memory. What was done is recorded on the
//! workload itself, so that another leader, or the next process, does nothing again.

pub(crate) mod apply;
pub(crate) mod report;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod slots;
pub(crate) mod targets;
pub(crate) mod watch;
pub(crate) mod workload;
