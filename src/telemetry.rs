//! Logs: text for people, JSON for machines, always on standard error.

use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::config::LogFormat;

/// Starts logging. `filter` is in the syntax of `tracing`'s `EnvFilter`, such as `info` or `oauth_operator=debug`.
///
/// # Errors
///
/// When the filter cannot be understood.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    // Each call that fails is told by the one who made it, with what it was for.
    let filter = filter
        .add_directive(Directive::from_str("kube_client::client::builder=off").map_err(|error| error.to_string())?);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
