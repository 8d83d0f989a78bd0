//! Logs: human-readable text or JSON, always to standard error.
//!
//! Only the operator itself logs. Libraries log what they send and receive: the client of the API server logs whole
//! bodies that it cannot parse, which may be lists of Secrets. Their events and spans are therefore never enabled,
//! regardless of `--log`.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::cli::args::LogFormat;

/// The prefix of every log target of this crate.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// Starts logging. `filter` is in the syntax of `tracing`'s `EnvFilter`, such as `info` or `oauth_operator=debug`.
///
/// # Errors
///
/// If the filter is invalid, or would enable nothing because it names no level and no module of the operator.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    check(filter)?;
    let wanted = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let filter = filter_fn(|metadata| is_own(metadata.target())).and(wanted);
    let log = fmt::layer().with_writer(stderr);
    match format {
        LogFormat::Text => {
            let log = log.with_ansi(stderr().is_terminal()).with_filter(filter);
            tracing_subscriber::registry().with(log).init();
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter(filter);
            tracing_subscriber::registry().with(log).init();
        }
    }
    Ok(())
}

/// `EnvFilter` takes every word that is not a level for a module: with `warning`, nothing would be logged.
fn check(filter: &str) -> Result<(), String> {
    let directives = filter.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    for directive in directives {
        let module = directive.split(['=', '[']).next().unwrap_or_default();
        if directive.parse::<LevelFilter>().is_err() && !is_own(module) {
            return Err(format!(
                "--log {filter}: `{directive}` is neither a level (off, error, warn, info, debug, trace) nor a module of \
                 the operator with a level, such as {OWN}::controller=debug"
            ));
        }
    }
    Ok(())
}

fn is_own(target: &str) -> bool {
    target.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_enable_nothing_is_rejected() {
        for filter in
            ["info", "WARN", "off", "", "oauth_operator=debug", "oauth_operator::controller::watches=debug,warn"]
        {
            assert_eq!(check(filter), Ok(()), "{filter}");
        }
        for filter in ["warning", "verbose", "hyper=debug", "info,kube=trace", "oauth_operatorx=info"] {
            assert!(check(filter).is_err_and(|text| text.contains("neither a level")), "{filter}");
        }
    }

    #[test]
    fn libraries_do_not_log() {
        assert!(is_own("oauth_operator"));
        assert!(is_own("oauth_operator::controller::watches"));
        for library in ["kube_client::client", "oauth_operator_x", "hyper", "", "kube_runtime::watcher"] {
            assert!(!is_own(library), "{library}");
        }
    }
}
