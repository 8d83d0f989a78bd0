//! The command line: flags, logs, the `crd`, `fetch` and `import` subcommands, exit codes. May use every layer below `main`.

pub mod args;
pub(crate) mod config;
pub mod crd;
pub mod exit;
pub mod fetch;
pub mod import;
pub mod telemetry;
