//! The data that the controller keeps in memory between two reconciliations: targets, references to Secrets, and the
//! state of each integration. May use `decision` and the layers below it.

pub(crate) mod initial_tokens;
pub(crate) mod lock;
pub(crate) mod references;
pub(crate) mod state;
pub(crate) mod targets;
