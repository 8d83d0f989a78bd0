//! The command line: flags, logs, the `crd` and `fetch` subcommands, exit codes. May use every layer below `main`.

pub mod args;
pub(crate) mod config;
pub mod crd;
pub mod exit;
pub mod fetch;
pub mod telemetry;
