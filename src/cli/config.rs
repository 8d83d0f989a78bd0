//! Converts the flags of `run` into the configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use crate::cli::args::{
    ByteSize, EgressArgs, ElectionArgs, LimitArgs, ProviderArgs, RestartArgs, RunArgs, ServerArgs, TargetArgs,
};
use crate::controller::budget::BudgetLimits;
use crate::controller::config::{ClusterProvidersConfig, Config, LeaderElectionConfig};
use crate::controller::server::ServerConfig;
use crate::controller::server::tls::CertificateFiles;
use crate::limiter::types::Limits;
use crate::oauth::http::egress::EgressPolicy;
use crate::target::policy::TargetPolicy;

impl From<RunArgs> for Config {
    fn from(arguments: RunArgs) -> Self {
        let RunArgs {
            namespaces,
            selector,
            server,
            otlp_endpoint,
            limits,
            egress,
            targets,
            restarts,
            providers,
            election,
        } = arguments;
        let named: BTreeSet<String> = namespaces.into_iter().filter(|name| !name.is_empty()).collect();
        let scopes = if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() };
        let LimitArgs {
            concurrency,
            max_in_flight_per_host,
            max_in_flight,
            max_response_size: ByteSize(max_response_size),
            memory_limit,
            min_renewal_interval,
            max_writes_per_namespace,
            max_writes,
            max_events_per_namespace,
        } = limits;
        let TargetArgs { allow_target_types, allow_target_metadata } = targets;
        let RestartArgs { restarts, restarts_at_once } = restarts;
        let ProviderArgs { cluster_providers, cluster_provider_namespace } = providers;
        let ElectionArgs { leader_elect, lease_name, lease_namespace, identity } = election;
        Self {
            limits: Limits {
                per_host: max_in_flight_per_host.get().into(),
                total: max_in_flight.get().into(),
                several_namespaces: scopes.len() > 1 || scopes.contains(&None),
            },
            scopes,
            selector: non_empty(selector),
            server: server.into(),
            traces: otlp_endpoint,
            concurrency,
            min_renewal_interval: SignedDuration::try_from(Duration::from(min_renewal_interval)).unwrap_or_default(),
            budgets: BudgetLimits {
                writes_per_namespace: max_writes_per_namespace,
                writes: max_writes,
                events_per_namespace: max_events_per_namespace,
            },
            egress: egress.into(),
            targets: TargetPolicy::new(allow_target_types, allow_target_metadata),
            max_response_size,
            memory_limit,
            restarts_at_once: restarts.then(|| restarts_at_once.get().into()),
            cluster_providers: cluster_providers
                .then(|| ClusterProvidersConfig { namespace: non_empty(cluster_provider_namespace) }),
            election: leader_elect
                .then(|| LeaderElectionConfig { name: lease_name, namespace: non_empty(lease_namespace) }),
            identity: non_empty(identity).or_else(|| non_empty(std::env::var("POD_NAME").ok())),
        }
    }
}

impl From<ServerArgs> for ServerConfig {
    fn from(arguments: ServerArgs) -> Self {
        let ServerArgs { listen, metrics_listen, metrics_auth, metrics_cert_file, metrics_key_file, object_metrics } =
            arguments;
        let certificate = metrics_cert_file.zip(metrics_key_file);
        Self {
            probes: listen,
            metrics: metrics_listen,
            authenticate: metrics_auth,
            object_metrics,
            certificate: certificate.map(|(certificate, key)| CertificateFiles { certificate, key }),
        }
    }
}

impl From<EgressArgs> for EgressPolicy {
    fn from(arguments: EgressArgs) -> Self {
        let EgressArgs {
            allow_http,
            allow_cidrs,
            deny_cidrs,
            allow_hosts,
            require_allowed_endpoints,
            allow_anonymous_hosts,
            deny_private,
        } = arguments;
        Self {
            allow_http,
            allow: allow_cidrs,
            deny: deny_cidrs,
            hosts: allow_hosts,
            require_pin: require_allowed_endpoints,
            anonymous_hosts: allow_anonymous_hosts,
            deny_private,
            ..Self::default()
        }
    }
}

/// The chart sets unused variables to an empty value, which means unset.
fn non_empty(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

#[cfg(test)]
#[expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::net::IpAddr;

    use clap::Parser;
    use url::Url;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn config(flags: &[&str]) -> Config {
        let arguments = ["oauth-operator", "run"].iter().chain(flags);
        match Cli::try_parse_from(arguments).expect("valid flags").command {
            Command::Run(arguments) => (*arguments).into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_set_the_limits_of_requests_in_flight() {
        let Config { limits, .. } = config(&["--max-in-flight=7", "--max-in-flight-per-host=3"]);
        assert_eq!((limits.total, limits.per_host, limits.several_namespaces), (7, 3, true));
        let Config { limits, scopes, .. } = config(&["--namespace=one"]);
        assert_eq!((scopes.as_slice(), limits.several_namespaces), (&[Some("one".to_owned())][..], false));
    }

    #[test]
    fn flags_set_the_budgets() {
        let flags = ["--max-writes-per-namespace=1", "--max-writes=2", "--max-events-per-namespace=3"];
        let expected = BudgetLimits { writes_per_namespace: 1, writes: 2, events_per_namespace: 3 };
        assert_eq!(config(&flags).budgets, expected);
    }

    #[test]
    fn workloads_are_restarted_only_if_a_flag_says_so() {
        let at_once = |flags: &[&str]| config(flags).restarts_at_once;
        assert_eq!(at_once(&[]), None);
        assert_eq!(at_once(&["--restarts-at-once=7"]), None);
        assert_eq!(at_once(&["--restarts"]), Some(5));
        assert_eq!(at_once(&["--restarts", "--restarts-at-once=7"]), Some(7));
    }

    #[test]
    fn a_denied_network_stays_denied_if_it_is_also_allowed() {
        let Config { egress, .. } =
            config(&["--allow-cidr=10.0.0.0/8,127.0.0.0/8", "--deny-cidr=10.1.0.0/16", "--deny-private"]);
        let allows = |text: &str| egress.check_ip(text.parse::<IpAddr>().expect("an address")).is_ok();
        assert!(allows("10.2.0.1"), "an allowed private network");
        assert!(allows("127.0.0.1"), "allowed loopback");
        assert!(!allows("10.1.0.1"), "a denied part of the allowed network");
        assert!(!allows("192.168.0.1"), "another private network");
        assert!(allows("192.0.32.7"), "a public address");
    }

    #[test]
    fn hosts_that_match_no_pattern_are_denied() {
        let Config { egress, .. } = config(&["--allow-host=login.example.com", "--allow-host=*.example.org"]);
        let allows = |text: &str| egress.check_url(&Url::parse(text).expect("a URL")).is_ok();
        assert!(allows("https://login.example.com/token"));
        assert!(allows("https://any.example.org/token"));
        assert!(!allows("https://other.example.com/token"));
        assert!(!allows("http://login.example.com/token"), "without TLS");
    }

    #[test]
    fn an_empty_value_from_the_chart_means_unset() {
        let Config { selector, election, .. } =
            config(&["--selector=", "--leader-elect", "--lease-namespace=", "--identity="]);
        assert_eq!(selector, None);
        assert_eq!(election, Some(LeaderElectionConfig { name: "oauth-operator".to_owned(), namespace: None }));
    }
}
