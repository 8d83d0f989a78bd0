//! JSONata expressions: parsed and evaluated in worker processes, with bounded time, memory and size.

pub mod data;
pub mod document;
pub mod error;
pub mod jsonata;
pub mod protocol;
pub mod public;
pub mod sandbox;
pub(crate) mod set;
pub mod value;
pub mod worker;
pub(crate) mod worker_process;
