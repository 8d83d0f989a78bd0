//! What was typed (flags, environment) and what it means.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps OAuth 2.0 tokens fresh in Kubernetes Secrets.
#[derive(Debug, Parser)]
#[command(name = "oauth-operator", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Format of the log on standard error.
    #[arg(long, global = true, env = "OAUTH_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged, by level and module, such as `info`, `debug` or `oauth_operator=debug,warn`.
    #[arg(long, global = true, env = "OAUTH_OPERATOR_LOG", default_value = "info")]
    pub log: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator
    Run(RunArguments),
    /// Print the CustomResourceDefinition
    Crd,
    /// Run the same code once on manifests from disk, without a cluster, and print the Secret it would write
    #[command(after_help = FETCH_HELP)]
    Fetch(FetchArguments),
}

const FETCH_HELP: &str = "\
The files hold one or more OAuthIntegration and the Secrets they name, as you would apply them.

Exit codes: 0 all tokens were fetched; 1 an endpoint could not be reached or did not answer as expected;
2 wrong usage or a file that cannot be read; 3 the configuration cannot work; 4 an endpoint refused a request.
With several integrations, the highest code counts.";

/// Flags of `run`, as they were typed.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Namespace to watch; may be given more than once, or with commas. Default: all namespaces
    #[arg(long = "namespace", env = "OAUTH_OPERATOR_NAMESPACE", value_delimiter = ',', value_name = "NAME")]
    pub namespaces: Vec<String>,

    /// Label selector for the integrations to look after, such as `team=erp`. Default: all
    #[arg(long, env = "OAUTH_OPERATOR_SELECTOR")]
    pub selector: Option<String>,

    /// Address for health, readiness and metrics
    #[arg(long, env = "OAUTH_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// How many integrations are worked on at once, in each watched namespace where some are named
    #[arg(long, env = "OAUTH_OPERATOR_CONCURRENCY", default_value = "64")]
    pub concurrency: NonZeroU16,

    /// Name of this process in events. Default: POD_NAME, else the host name
    #[arg(long, env = "OAUTH_OPERATOR_IDENTITY")]
    pub identity: Option<String>,
}

/// Flags of `fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArguments {
    /// Files with manifests (YAML or JSON); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Print the tokens themselves instead of a mask
    #[arg(long)]
    pub show_tokens: bool,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the flags of `run` mean.
#[derive(Clone, Debug)]
pub struct Config {
    /// The watched namespaces; `None` stands for all of them together.
    pub scopes: Vec<Option<String>>,
    /// Label selector for the integrations.
    pub selector: Option<String>,
    /// Address for health, readiness and metrics.
    pub listen: SocketAddr,
    /// How many integrations are worked on at once, in each scope.
    pub concurrency: NonZeroU16,
    /// Name of this process in events.
    pub identity: Option<String>,
}

impl From<RunArguments> for Config {
    fn from(arguments: RunArguments) -> Self {
        let RunArguments { namespaces, selector, listen, concurrency, identity } = arguments;
        let named: BTreeSet<String> = namespaces.into_iter().filter(|name| !name.is_empty()).collect();
        let scopes = if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() };
        let non_empty = |value: Option<String>| value.filter(|text| !text.is_empty());
        let identity = non_empty(identity).or_else(|| non_empty(std::env::var("POD_NAME").ok()));
        Self { scopes, selector: non_empty(selector), listen, concurrency, identity }
    }
}
