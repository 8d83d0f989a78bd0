//! Command-line arguments and environment variables, as given.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use url::Url;

use crate::api::duration;
use crate::oauth::http::egress::HostPattern;
use crate::target::policy::MetadataPattern;
use crate::target::policy::parse_type;

/// Keeps OAuth 2.0 tokens fresh in Kubernetes Secrets.
#[derive(Debug, Parser)]
#[command(name = "oauth-operator", version, about)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,

    /// Format of the log on standard error.
    #[arg(long, global = true, env = "OAUTH_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Log filter: levels and modules of the operator, such as `info` or
    /// `oauth_operator::controller::watches=debug,warn`. Libraries never log, because their logs may contain Secrets
    #[arg(long, global = true, env = "OAUTH_OPERATOR_LOG", default_value = "info")]
    pub log: String,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions
    Crd {
        /// The plural name of a single one, such as `oauthintegrations`
        name: Option<String>,
    },
    /// Print the version and the commit
    Version,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Request tokens once for local manifests, without a cluster, and print the resulting Secrets
    #[command(after_help = FETCH_HELP)]
    Fetch(FetchArgs),
    /// Print integrations for Webhook generators of the External Secrets Operator
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// Manifests of the generators and of the ExternalSecrets that use them, or `-` for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

const IMPORT_HELP: &str = "\
For example: kubectl get webhooks,clustergenerators,externalsecrets --output yaml | oauth-operator import -

The integrations are printed as YAML on standard output; what to do and to check is printed on standard error. Secrets in
the files are ignored. A credential in plain text is not printed if its name looks like that of a credential.

Exit codes: 0 everything was translated; 2 wrong usage or a file that cannot be read; 3 something could not be translated.";

const FETCH_HELP: &str = "\
The files contain one or more OAuthIntegrations and the Secrets that they reference, as you would apply them. Pass the
flags of your operator: what it rejects is also rejected here. Unknown fields are errors. The CEL rules and patterns of
the CRD are not checked; `kubectl apply --dry-run=server` does that.

A refresh token is not sent without --spend-refresh-token and --write.

Exit codes: 0 all tokens were fetched; 1 an endpoint could not be reached or did not respond as expected;
2 wrong usage or a file that cannot be read; 3 the configuration cannot work; 4 an endpoint rejected a request.
With several integrations, the highest code is returned.";

/// Flags of `run`, as given.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Namespace to watch; may be repeated, or comma-separated. Default: all namespaces
    #[arg(long = "namespace", env = "OAUTH_OPERATOR_NAMESPACE", value_delimiter = ',', value_name = "NAME")]
    pub namespaces: Vec<String>,

    /// Label selector for the integrations to watch, such as `team=erp`. Default: all
    #[arg(long, env = "OAUTH_OPERATOR_SELECTOR")]
    pub selector: Option<String>,

    /// Flags for health, readiness and metrics.
    #[command(flatten)]
    pub server: ServerArgs,

    /// URL of a collector to which traces of renewals are sent (OTLP over HTTP), such as
    /// `http://collector.monitoring:4318`. Default: traces are not recorded
    #[arg(long, env = "OAUTH_OPERATOR_OTLP_ENDPOINT", value_name = "URL", value_parser = collector)]
    pub otlp_endpoint: Option<Url>,

    /// Flags for concurrency, sizes and budgets.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Flags that restrict where requests may be sent.
    #[command(flatten)]
    pub egress: EgressArgs,

    /// Flags that restrict which target Secrets are allowed.
    #[command(flatten)]
    pub targets: TargetArgs,

    /// Flags for restarts of workloads.
    #[command(flatten)]
    pub restarts: RestartArgs,

    /// Flags for providers.
    #[command(flatten)]
    pub providers: ProviderArgs,

    /// Flags for leader election.
    #[command(flatten)]
    pub election: ElectionArgs,
}

/// Flags for health, readiness and metrics.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Address for health and readiness
    #[arg(long, env = "OAUTH_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Address for metrics
    #[arg(long, env = "OAUTH_OPERATOR_METRICS_LISTEN", default_value = "0.0.0.0:8443")]
    pub metrics_listen: SocketAddr,

    /// Serve metrics over HTTPS, and only to clients whose bearer token the API server authenticates and authorizes
    /// to get the non-resource URL /metrics
    #[arg(long, env = "OAUTH_OPERATOR_METRICS_AUTH", num_args = 0..=1, default_value_t = true,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub metrics_auth: bool,

    /// Certificate chain (PEM) for metrics over HTTPS, reloaded every minute. Default: self-signed at every start, if
    /// --metrics-auth is on
    #[arg(long, env = "OAUTH_OPERATOR_METRICS_CERT_FILE", value_name = "FILE", requires = "metrics_key_file")]
    pub metrics_cert_file: Option<PathBuf>,

    /// Private key (PEM) of the metrics certificate
    #[arg(long, env = "OAUTH_OPERATOR_METRICS_KEY_FILE", value_name = "FILE", requires = "metrics_cert_file")]
    pub metrics_key_file: Option<PathBuf>,

    /// Serve metrics for each integration and provider. If false, only aggregates are served, so that the number of series
    /// does not grow with the integrations
    #[arg(long, env = "OAUTH_OPERATOR_OBJECT_METRICS", num_args = 0..=1, default_value_t = true,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub object_metrics: bool,
}

/// Flags for concurrency, sizes and budgets.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// Maximum number of concurrent reconciliations; per watched namespace if --namespace is set
    #[arg(long, env = "OAUTH_OPERATOR_CONCURRENCY", default_value = "64")]
    pub concurrency: NonZeroU16,

    /// Maximum token requests in flight per host. If several namespaces are watched, each leaves at least as many
    /// permits free as it holds
    #[arg(long, env = "OAUTH_OPERATOR_MAX_IN_FLIGHT_PER_HOST", default_value = "8")]
    pub max_in_flight_per_host: NonZeroU16,

    /// Maximum token requests in flight in total, shared by namespaces in the same way
    #[arg(long, env = "OAUTH_OPERATOR_MAX_IN_FLIGHT", default_value = "64")]
    pub max_in_flight: NonZeroU16,

    /// Maximum size of a token response, such as `65536` or `64KiB`: 4KiB to 1MiB
    #[arg(
        long,
        env = "OAUTH_OPERATOR_MAX_RESPONSE_SIZE",
        default_value = "64KiB",
        value_name = "SIZE",
        overrides_with = "max_response_size"
    )]
    pub max_response_size: ByteSize,

    /// Memory that the process may use, such as `512MiB` or `2GiB`. It bounds how many integrations are kept, about 9,000 of
    /// typical size with the default
    #[arg(long, env = "OAUTH_OPERATOR_MEMORY_LIMIT", default_value = "128MiB", value_name = "SIZE", value_parser = memory)]
    pub memory_limit: usize,

    /// Minimum time between two due renewals of one integration, such as `10s`; `0s` for none. Tokens with a shorter
    /// lifetime are expired until the next renewal
    #[arg(long, env = "OAUTH_OPERATOR_MIN_RENEWAL_INTERVAL", default_value = "10s", value_name = "DURATION")]
    pub min_renewal_interval: duration::Duration,

    /// Maximum writes to the API server per second on average for one namespace; 0 for no limit
    #[arg(long, env = "OAUTH_OPERATOR_MAX_WRITES_PER_NAMESPACE", default_value = "50")]
    pub max_writes_per_namespace: u32,

    /// Maximum writes to the API server per second on average for all namespaces together; beyond it, namespaces that
    /// have used more than half of their own budget wait; 0 for no limit
    #[arg(long, env = "OAUTH_OPERATOR_MAX_WRITES", default_value = "200")]
    pub max_writes: u32,

    /// Maximum events per minute on average for one namespace; 0 for no limit
    #[arg(long, env = "OAUTH_OPERATOR_MAX_EVENTS_PER_NAMESPACE", default_value = "300")]
    pub max_events_per_namespace: u32,
}

/// Flags that restrict where requests may be sent.
#[derive(Args, Clone, Debug)]
pub struct EgressArgs {
    /// Allow token endpoints without TLS (http://)
    #[arg(long, env = "OAUTH_OPERATOR_ALLOW_HTTP", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub allow_http: bool,

    /// CIDRs to allow although they are loopback, link-local, a metadata service or the API server; may be repeated,
    /// or comma-separated
    #[arg(long = "allow-cidr", env = "OAUTH_OPERATOR_ALLOW_CIDR", value_delimiter = ',', value_name = "CIDR", value_parser = cidr)]
    pub allow_cidrs: Vec<IpNet>,

    /// CIDRs to deny, even if another flag allows them; may be repeated, or comma-separated
    #[arg(long = "deny-cidr", env = "OAUTH_OPERATOR_DENY_CIDR", value_delimiter = ',', value_name = "CIDR", value_parser = cidr)]
    pub deny_cidrs: Vec<IpNet>,

    /// Hosts to allow, such as `login.example.com` or `*.example.com`; may be repeated, or comma-separated. Default:
    /// all
    #[arg(long = "allow-host", env = "OAUTH_OPERATOR_ALLOW_HOST", value_delimiter = ',', value_name = "HOST")]
    pub allow_hosts: Vec<HostPattern>,

    /// Send credentials only to the endpoints in their annotation oauth.evolutionx.io/allowed-endpoints
    #[arg(long, env = "OAUTH_OPERATOR_REQUIRE_ALLOWED_ENDPOINTS", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub require_allowed_endpoints: bool,

    /// Hosts to allow for integrations without any credentials, if --require-allowed-endpoints is set, such as
    /// `login.example.com` or `*.example.com`; may be repeated, or comma-separated. Default: none
    #[arg(
        long = "allow-anonymous-host",
        env = "OAUTH_OPERATOR_ALLOW_ANONYMOUS_HOST",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub allow_anonymous_hosts: Vec<HostPattern>,

    /// Deny private networks (RFC 1918, RFC 6598, unique local IPv6) except for those of --allow-cidr
    #[arg(long, env = "OAUTH_OPERATOR_DENY_PRIVATE", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub deny_private: bool,
}

/// Flags that restrict which target Secrets are allowed.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// Type that target Secrets may have in addition to Opaque and kubernetes.io/basic-auth, tls, dockerconfigjson
    /// and ssh-auth; may be repeated, or comma-separated
    #[arg(long = "allow-target-type", env = "OAUTH_OPERATOR_ALLOW_TARGET_TYPE", value_delimiter = ',', value_name = "TYPE",
          value_parser = parse_type)]
    pub allow_target_types: Vec<String>,

    /// Label or annotation that target Secrets may have in addition to app.kubernetes.io/name, component and version:
    /// its key, or all keys with a prefix, such as `example.com/*`; may be repeated, or comma-separated
    #[arg(
        long = "allow-target-metadata",
        env = "OAUTH_OPERATOR_ALLOW_TARGET_METADATA",
        value_delimiter = ',',
        value_name = "KEY"
    )]
    pub allow_target_metadata: Vec<MetadataPattern>,
}

/// Flags for restarts of workloads.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Restart Deployments, StatefulSets and DaemonSets after renewals, if their annotation
    /// oauth.evolutionx.io/restart-on-renewal names the target Secret
    #[arg(long, env = "OAUTH_OPERATOR_RESTARTS", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub restarts: bool,

    /// Maximum number of workloads that are being restarted at once
    #[arg(long, env = "OAUTH_OPERATOR_RESTARTS_AT_ONCE", default_value = "5")]
    pub restarts_at_once: NonZeroU16,
}

/// Flags for providers.
#[derive(Args, Clone, Debug)]
pub struct ProviderArgs {
    /// Use ClusterOAuthProviders
    #[arg(long, env = "OAUTH_OPERATOR_CLUSTER_PROVIDERS", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub cluster_providers: bool,

    /// Namespace of the Secrets, ConfigMaps and ServiceAccounts that ClusterOAuthProviders name. Default: the one this
    /// process runs in
    #[arg(long, env = "OAUTH_OPERATOR_CLUSTER_PROVIDER_NAMESPACE", value_name = "NAME")]
    pub cluster_provider_namespace: Option<String>,
}

/// Flags for leader election.
#[derive(Args, Clone, Debug)]
pub struct ElectionArgs {
    /// Take part in leader election: one of several replicas leads, the others are on standby
    #[arg(long, env = "OAUTH_OPERATOR_LEADER_ELECT", num_args = 0..=1, default_value_t = false,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,

    /// Name of the leader-election Lease
    #[arg(long, env = "OAUTH_OPERATOR_LEASE_NAME", default_value = "oauth-operator")]
    pub lease_name: String,

    /// Namespace of the Lease. Default: the one this process runs in
    #[arg(long, env = "OAUTH_OPERATOR_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of this process in events and in the lease. Default: POD_NAME, else the host name
    #[arg(long, env = "OAUTH_OPERATOR_IDENTITY")]
    pub identity: Option<String>,
}

/// Flags of `fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Files with manifests (YAML or JSON); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Print the tokens unmasked
    #[arg(long)]
    pub show_tokens: bool,

    /// Print the structure of each response with masked values, and the result of each expression of spec.response
    #[arg(long)]
    pub explain: bool,

    /// Send a refresh token from the given files, although many servers accept it only once: the Secret with the new
    /// one is written to --write
    #[arg(long, requires = "write")]
    pub spend_refresh_token: bool,

    /// New file for the credentials Secrets with their new refresh tokens, to be applied or passed to the next fetch
    #[arg(long, value_name = "FILE", requires = "spend_refresh_token")]
    pub write: Option<PathBuf>,

    /// Flags that restrict where requests may be sent, as of `run`.
    #[command(flatten)]
    pub egress: EgressArgs,

    /// Flags that restrict which target Secrets are allowed, as of `run`.
    #[command(flatten)]
    pub targets: TargetArgs,
}

/// The URL of a collector. It may have no credentials, which would be visible in the list of processes.
fn collector(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}: write it as http://host:4318"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("it must be an http or https URL, such as http://host:4318".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not contain credentials: set the variable OTEL_EXPORTER_OTLP_HEADERS instead".to_owned());
    }
    Ok(url)
}

/// An address alone is more often a mistake than a network of one address.
fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| match text.parse::<std::net::IpAddr>() {
        Ok(address) => format!("it has no prefix length: write {address}/{}", if address.is_ipv4() { 32 } else { 128 }),
        Err(_) => "it is not a network such as 10.0.0.0/8".to_owned(),
    })
}

/// A size: in bytes, or with one of the suffixes `KiB` and `MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl ByteSize {
    const MIN: usize = 4 << 10;
    const MAX: usize = 1 << 20;
}

/// The bytes of a size with or without a unit.
fn bytes(text: &str) -> Option<usize> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let unit = units.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1_usize));
    number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit))
}

/// A limit of memory. Any size is accepted, because it may be that of a container.
fn memory(text: &str) -> Result<usize, String> {
    bytes(text).ok_or_else(|| "must be a size, in bytes or with the suffix KiB, MiB or GiB".to_owned())
}

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match bytes(text) {
            Some(bytes) if (Self::MIN..=Self::MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err("must be a size from 4KiB to 1MiB, in bytes or with the suffix KiB or MiB".to_owned()),
        }
    }
}

/// The log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable.
    Text,
    /// One JSON object per line.
    Json,
}
