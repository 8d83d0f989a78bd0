//! What was typed (flags, environment) and what it means.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::gate::Limits;
use crate::oauth::reach::{HostPattern, Reach};

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
    Run(Box<RunArguments>),
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

    /// How many token requests are under way at once to one host
    #[arg(long, env = "OAUTH_OPERATOR_MAX_IN_FLIGHT_PER_HOST", default_value = "8")]
    pub max_in_flight_per_host: NonZeroU16,

    /// How many token requests are under way at once to all hosts
    #[arg(long, env = "OAUTH_OPERATOR_MAX_IN_FLIGHT", default_value = "64")]
    pub max_in_flight: NonZeroU16,

    /// Ask endpoints without TLS as well
    #[arg(long, env = "OAUTH_OPERATOR_ALLOW_HTTP", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub allow_http: bool,

    /// Addresses that may be asked although they are loopback, link-local, a metadata service or the API server;
    /// may be given more than once, or with commas
    #[arg(long = "allow-cidr", env = "OAUTH_OPERATOR_ALLOW_CIDR", value_delimiter = ',', value_name = "CIDR")]
    pub allow_cidrs: Vec<IpNet>,

    /// Addresses that may not be asked, whatever else is said; may be given more than once, or with commas
    #[arg(long = "deny-cidr", env = "OAUTH_OPERATOR_DENY_CIDR", value_delimiter = ',', value_name = "CIDR")]
    pub deny_cidrs: Vec<IpNet>,

    /// Hosts that may be asked, such as `login.example.com` or `*.example.com`; may be given more than once, or with
    /// commas. Default: all
    #[arg(long = "allow-host", env = "OAUTH_OPERATOR_ALLOW_HOST", value_delimiter = ',', value_name = "HOST")]
    pub allow_hosts: Vec<HostPattern>,

    /// Send credentials only where their own annotation oauth.evolutionx.io/allowed-endpoints says
    #[arg(long, env = "OAUTH_OPERATOR_REQUIRE_ENDPOINT_PIN", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub require_endpoint_pin: bool,

    /// Take part in a leader election: of several replicas one acts, the others stand by
    #[arg(long, env = "OAUTH_OPERATOR_LEADER_ELECT", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// Name of the lease that is held by the leader
    #[arg(long, env = "OAUTH_OPERATOR_LEASE_NAME", default_value = "oauth-operator")]
    pub lease_name: String,

    /// Namespace of the lease. Default: the one this process runs in
    #[arg(long, env = "OAUTH_OPERATOR_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of this process in events and in the lease. Default: POD_NAME, else the host name
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

    /// Print the shape of each answer, its values masked, and what each expression of spec.response yields
    #[arg(long)]
    pub explain: bool,
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
    /// Limits of token requests.
    pub limits: Limits,
    /// Where requests may go; the API server's own addresses come later.
    pub reach: Reach,
    /// The leader election; `None` where this process is alone.
    pub election: Option<Election>,
    /// Name of this process in events and in the lease.
    pub identity: Option<String>,
}

/// The leader election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// Name of the lease.
    pub name: String,
    /// Its namespace; `None`: the one this process runs in.
    pub namespace: Option<String>,
}

impl Config {
    /// How many looks are under way at once in each scope. Those that wait for an endpoint take no place from the others.
    #[must_use]
    pub fn looks_at_once(&self) -> u16 {
        let waiting = u16::try_from(self.limits.total).unwrap_or(u16::MAX);
        self.concurrency.get().saturating_add(waiting)
    }
}

impl From<RunArguments> for Config {
    fn from(arguments: RunArguments) -> Self {
        let RunArguments {
            namespaces,
            selector,
            listen,
            concurrency,
            max_in_flight_per_host,
            max_in_flight,
            allow_http,
            allow_cidrs,
            deny_cidrs,
            allow_hosts,
            require_endpoint_pin,
            leader_elect,
            lease_name,
            lease_namespace,
            identity,
        } = arguments;
        let named: BTreeSet<String> = namespaces.into_iter().filter(|name| !name.is_empty()).collect();
        let scopes = if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() };
        let non_empty = |value: Option<String>| value.filter(|text| !text.is_empty());
        let identity = non_empty(identity).or_else(|| non_empty(std::env::var("POD_NAME").ok()));
        let limits = Limits { per_host: max_in_flight_per_host.get().into(), total: max_in_flight.get().into() };
        let reach = Reach {
            allow_http,
            allow: allow_cidrs,
            deny: deny_cidrs,
            hosts: allow_hosts,
            require_pin: require_endpoint_pin,
            ..Reach::default()
        };
        let election = leader_elect.then(|| Election { name: lease_name, namespace: non_empty(lease_namespace) });
        Self { scopes, selector: non_empty(selector), listen, concurrency, limits, reach, election, identity }
    }
}
