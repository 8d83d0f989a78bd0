//! Guarantee: soon after any fault, every token is valid again, and no refresh token is lost or used twice
//! unnecessarily.
//!
//! A hundred integrations with token lifetimes of 10 to 60 s use rotating refresh tokens, at a server that revokes the
//! family of a reused one. Each has a username and a password for its fallback, so that a lost family is counted as a
//! login. The faults are injected one after another, and after each of them the fleet must be healthy.
//!
//! `FAULT_SECONDS` is the duration of each fault (default 3); `FAULTS` selects faults by a substring of their names;
//! `FAULTS_SHORT=1` skips most of those that wait until a lease expires.

mod apart;
mod inject;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::json;
use test_support::api_front::{ApiFault, ApiServerProxy};
use test_support::certificate::Identity;
use test_support::endpoint::{Endpoint, PASSWORD, Reply, Request, RotatingTokenServer};
use test_support::manifests::OPERATOR;
use test_support::preload::Names;
use test_support::proxy::{Network, Proxy};
use test_support::{ControlPlane, Operator, eventually};

const INTEGRATIONS: usize = 100;
/// The name of the endpoint, which only the operators can resolve.
const HOST: &str = "login.faults.test";
/// The end of the name of a Secret for a refresh token.
const APART: &str = "-refresh-token";
const LIFETIMES: [u64; 4] = [10, 20, 30, 60];
/// Timeout for the lease of a lost leader to expire and for the pending renewals.
const TAKEOVER: Duration = Duration::from_secs(45);
/// Timeout for everything else, even on a busy machine.
const SHORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether the refresh token of an integration is in a Secret of its own.
fn is_apart(number: usize) -> bool {
    number % 8 >= 4
}

/// The kind of fault.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The leader crashes at a failpoint, and two new replicas are started.
    CrashAt(&'static str),
    KilledAlone,
    KilledWithStandby,
    TerminatedAlone,
    TerminatedWithStandby,
    StandbyKilled,
    /// As a Deployment does it: a third replica is ready before one of the old ones is stopped.
    RollingUpdate,
    FrozenBriefly,
    FrozenUntilAnotherLeads,
    Api(Network),
    ApiCutUntilLeaseExpires,
    ApiResponds(ApiFault),
    Endpoint(Network),
    CertificateExpired,
    NameUnresolvable,
    BothCut,
    Responses(EndpointFault),
    ApiServerRestarts,
    EtcdRestarts,
    PermissionsRemoved,
    SecretsEdited,
    CredentialsTouched,
    CrdTouched,
}

/// A fault in the responses of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndpointFault {
    None,
    TooMany,
    Unavailable,
    Broken,
    NotJson,
    NoToken,
    Empty,
    Closed,
    Truncated,
    Overlong,
    Slow,
}

/// The name of a fault, the fault, whether it may lose a refresh token (because the response does not reach the
/// operator, or is lost with it), and the maximum time to recovery.
struct Case(&'static str, Fault, bool, Duration);

impl Case {
    /// Whether it is part of a short run, which includes only two of the faults that wait until a lease expires.
    fn is_short(&self) -> bool {
        self.3 < TAKEOVER || matches!(self.1, Fault::CrashAt("after-response") | Fault::FrozenUntilAnotherLeads)
    }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("killed after the reads", Fault::CrashAt("after-reads"), false, TAKEOVER),
    Case("killed before a request", Fault::CrashAt("before-request"), false, TAKEOVER),
    Case("killed with a pending response", Fault::CrashAt("after-response"), true, TAKEOVER),
    Case("killed before the Secret is written", Fault::CrashAt("before-secret"), true, TAKEOVER),
    Case("killed between the refresh token and the target", Fault::CrashAt("after-refresh-token"), true, TAKEOVER),
    Case("killed after the Secret is written", Fault::CrashAt("after-secret"), true, TAKEOVER),
    Case("killed after the status is written", Fault::CrashAt("after-status"), true, TAKEOVER),
    Case("killed after the event", Fault::CrashAt("after-report"), true, TAKEOVER),
    Case("killed, alone", Fault::KilledAlone, true, TAKEOVER),
    Case("killed, with a standby", Fault::KilledWithStandby, true, TAKEOVER),
    Case("graceful shutdown, alone", Fault::TerminatedAlone, false, SHORT_TIMEOUT),
    Case("graceful shutdown, with a standby", Fault::TerminatedWithStandby, false, SHORT_TIMEOUT),
    Case("standby killed", Fault::StandbyKilled, false, SHORT_TIMEOUT),
    Case("rolling update", Fault::RollingUpdate, false, SHORT_TIMEOUT),
    Case("leader frozen briefly", Fault::FrozenBriefly, false, SHORT_TIMEOUT),
    Case("leader frozen until another leads", Fault::FrozenUntilAnotherLeads, true, TAKEOVER),
    Case("API server cut off", Fault::Api(Network::Cut), false, SHORT_TIMEOUT),
    Case("API server silent", Fault::Api(Network::Silent), false, SHORT_TIMEOUT),
    Case("API server slow", Fault::Api(Network::Slow(Duration::from_millis(100))), false, SHORT_TIMEOUT),
    Case("responses of the API server lost", Fault::Api(Network::ResponsesLost), false, SHORT_TIMEOUT),
    Case("API server returns 429", Fault::ApiResponds(ApiFault::TooManyRequests), false, SHORT_TIMEOUT),
    Case("API server returns 500", Fault::ApiResponds(ApiFault::InternalError), false, SHORT_TIMEOUT),
    Case("API server returns 410 to watches", Fault::ApiResponds(ApiFault::WatchExpired), false, SHORT_TIMEOUT),
    Case("API server cut off until the lease expires", Fault::ApiCutUntilLeaseExpires, true, TAKEOVER),
    Case("endpoint cut off", Fault::Endpoint(Network::Cut), true, SHORT_TIMEOUT),
    Case("endpoint silent", Fault::Endpoint(Network::Silent), true, SHORT_TIMEOUT),
    Case("endpoint slow", Fault::Endpoint(Network::Slow(Duration::from_millis(300))), false, SHORT_TIMEOUT),
    Case("responses of the endpoint byte by byte", Fault::Endpoint(Network::Trickle(Duration::from_millis(3))), true, SHORT_TIMEOUT),
    Case("responses of the endpoint lost", Fault::Endpoint(Network::ResponsesLost), true, SHORT_TIMEOUT),
    Case("certificate of the endpoint expired", Fault::CertificateExpired, true, SHORT_TIMEOUT),
    Case("name of the endpoint unresolvable", Fault::NameUnresolvable, true, SHORT_TIMEOUT),
    Case("API server and endpoint cut off", Fault::BothCut, true, SHORT_TIMEOUT),
    Case("429 with Retry-After", Fault::Responses(EndpointFault::TooMany), false, SHORT_TIMEOUT),
    Case("503", Fault::Responses(EndpointFault::Unavailable), false, SHORT_TIMEOUT),
    Case("500 with an HTML page", Fault::Responses(EndpointFault::Broken), false, SHORT_TIMEOUT),
    Case("200 with an HTML page", Fault::Responses(EndpointFault::NotJson), false, SHORT_TIMEOUT),
    Case("200 without a token", Fault::Responses(EndpointFault::NoToken), false, SHORT_TIMEOUT),
    Case("200 with an empty body", Fault::Responses(EndpointFault::Empty), false, SHORT_TIMEOUT),
    Case("connections closed without a response", Fault::Responses(EndpointFault::Closed), false, SHORT_TIMEOUT),
    Case("responses shorter than their declared length", Fault::Responses(EndpointFault::Truncated), false, SHORT_TIMEOUT),
    Case("responses longer than their declared length", Fault::Responses(EndpointFault::Overlong), false, SHORT_TIMEOUT),
    Case("responses after two seconds", Fault::Responses(EndpointFault::Slow), false, SHORT_TIMEOUT),
    Case("API server killed and restarted", Fault::ApiServerRestarts, false, SHORT_TIMEOUT),
    Case("etcd killed and restarted", Fault::EtcdRestarts, false, SHORT_TIMEOUT),
    Case("permission to write Secrets removed", Fault::PermissionsRemoved, false, SHORT_TIMEOUT),
    Case("Secrets edited by others", Fault::SecretsEdited, false, SHORT_TIMEOUT),
    Case("all credentials rewritten unchanged", Fault::CredentialsTouched, false, SHORT_TIMEOUT),
    Case("CRD rewritten", Fault::CrdTouched, false, SHORT_TIMEOUT),
];

/// The counters of the server, for comparison.
#[derive(Clone, Copy, Debug)]
struct Counts {
    logins: usize,
    reused: usize,
    renewed: usize,
}

struct Fleet {
    control_plane: ControlPlane,
    client: Client,
    namespace: String,
    servers: Arc<HashMap<u64, Arc<RotatingTokenServer>>>,
    endpoint_fault: Arc<Mutex<EndpointFault>>,
    _endpoint: Endpoint,
    identity: Identity,
    names: Names,
    endpoint_network: Proxy,
    api_front: ApiServerProxy,
    api_network: Proxy,
    through_network: PathBuf,
    direct: PathBuf,
    leader: Operator,
    standby: Operator,
}

impl Fleet {
    async fn start() -> Self {
        let control_plane = ControlPlane::start();
        test_support::manifests::install_crd(&control_plane);
        let namespace = control_plane.namespace("faults").await;
        test_support::manifests::install_permissions_in(&control_plane, &namespace);
        let client = control_plane.client().await;
        let servers: Arc<HashMap<_, _>> =
            Arc::new(LIFETIMES.iter().map(|lifetime| (*lifetime, RotatingTokenServer::new(*lifetime))).collect());
        let endpoint_fault = Arc::new(Mutex::new(EndpointFault::None));
        let (responding, shared_fault) = (Arc::clone(&servers), Arc::clone(&endpoint_fault));
        let identity = Identity::new(HOST);
        let endpoint = Endpoint::start_tls(identity.server(), move |request| {
            let fault = *shared_fault.lock().expect("no panic");
            respond(&responding, fault, request)
        });
        let endpoint_network = Proxy::start(endpoint.address());
        let api_front = ApiServerProxy::start(&control_plane.url(), &control_plane.certificate());
        let api_network = Proxy::start(api_front.address());
        let url = format!("http://127.0.0.1:{}", api_network.port());
        let through_network = control_plane.kubeconfig_at(&namespace, OPERATOR, &url).await;
        let names = Names::new(HOST);
        let direct = control_plane.kubeconfig_for(&namespace, OPERATOR).await;
        let environment = environment(&names, &identity, "");
        let leader = replica(&through_network, &namespace, &environment).await;
        eventually("the first leads", TAKEOVER, async || if leader.leads() { Ok(()) } else { Err(leader.logs()) })
            .await;
        let standby = replica(&direct, &namespace, &environment).await;
        let fleet = Self {
            control_plane,
            client,
            namespace,
            servers,
            endpoint_fault,
            _endpoint: endpoint,
            identity,
            names,
            endpoint_network,
            api_front,
            api_network,
            through_network,
            direct,
            leader,
            standby,
        };
        futures::stream::iter(0..INTEGRATIONS).for_each_concurrent(8, |number| fleet.integration(number)).await;
        fleet
    }

    async fn integration(&self, number: usize) {
        let lifetime = LIFETIMES[number % LIFETIMES.len()];
        let first = self.servers[&lifetime].first();
        let name = format!("it-{number}");
        let values = json!({"client_id": "c", "refresh_token": first, "username": name, "password": PASSWORD});
        let credentials = json!({"metadata": {"name": format!("{name}-credentials")}, "stringData": values});
        let credentials: Secret = serde_json::from_value(credentials).expect("a Secret");
        self.secrets().create(&PostParams::default(), &credentials).await.expect("credentials");
        let mut spec = json!({
            "tokenEndpoint": format!("https://{HOST}:{}/{lifetime}", self.endpoint_network.port()),
            "grantType": "refresh_token",
            "credentials": {"secretName": format!("{name}-credentials")},
            "renewal": {"fallback": {"grantType": "user_password"}},
            "request": {"timeout": "5s"},
        });
        if is_apart(number) {
            spec["target"] = json!({"refreshTokenSecretName": format!("{name}{APART}")});
        }
        let integration = OAuthIntegration::new(&name, serde_json::from_value(spec).expect("a spec"));
        let integrations = Api::<OAuthIntegration>::namespaced(self.client.clone(), &self.namespace);
        integrations.create(&PostParams::default(), &integration).await.expect("an integration");
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn counts(&self) -> Counts {
        let sum = |of: fn(&RotatingTokenServer) -> usize| self.servers.values().map(|server| of(server)).sum();
        Counts {
            logins: sum(RotatingTokenServer::logins),
            reused: sum(|server| server.reused().len()),
            renewed: sum(RotatingTokenServer::renewed),
        }
    }

    /// Whether every Secret contains an unexpired access token and the current refresh token.
    async fn check_tokens(&self) -> Result<(), String> {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=oauth-operator");
        let list = tokio::time::timeout(Duration::from_secs(5), self.secrets().list(&ours)).await;
        let secrets = list.map_err(|_| "no list".to_owned())?.map_err(|error| error.to_string())?.items;
        let now = Timestamp::now();
        let mut bad = vec![];
        let by_name: HashMap<String, &Secret> = secrets.iter().map(|secret| (secret.name_any(), secret)).collect();
        let value = |name: &str, key: &str| {
            let data = by_name.get(name).and_then(|secret| secret.data.as_ref()?.get(key)).map(|value| value.0.clone());
            data.map(|data| String::from_utf8(data).expect("text"))
        };
        for number in 0..INTEGRATIONS {
            let name = format!("it-{number}");
            let Some(target) = by_name.get(&name) else {
                bad.push(format!("{name} does not exist"));
                continue;
            };
            let holder = if is_apart(number) { format!("{name}{APART}") } else { name.clone() };
            assert!(!is_apart(number) || value(&name, "refresh_token").is_none(), "{name} has a refresh token");
            let (access, refresh) = (value(&name, "access_token"), value(&holder, "refresh_token"));
            let (Some(_), Some(refresh)) = (access, refresh) else { panic!("{name} or {holder} was emptied") };
            let expires_at = target.annotations().get("oauth.evolutionx.io/expires-at").and_then(|at| at.parse().ok());
            if !self.servers.values().any(|server| server.is_current(&refresh)) {
                bad.push(format!("{holder}: the refresh token is not the current one"));
            } else if expires_at.is_none_or(|at: Timestamp| at <= now) {
                bad.push(format!("{name}: expired at {expires_at:?}"));
            }
        }
        match bad.as_slice() {
            [] => Ok(()),
            bad => Err(format!("{} are not valid, such as {}", bad.len(), bad[0])),
        }
    }
}

/// The environment of the operators: trusted CAs, names, and the failpoint.
fn environment(names: &Names, identity: &Identity, failpoint: &str) -> Vec<(String, String)> {
    let mut environment = names.environment();
    environment.push(("SSL_CERT_FILE".to_owned(), identity.ca_file().display().to_string()));
    environment.push(("OAUTH_OPERATOR_FAILPOINT".to_owned(), failpoint.to_owned()));
    environment
}

async fn replica(kubeconfig: &std::path::Path, namespace: &str, environment: &[(String, String)]) -> Operator {
    let arguments = ["--namespace", namespace, "--leader-elect", "--lease-namespace", namespace];
    let operator = Operator::start_in(kubeconfig, &arguments, environment);
    operator.until_ready().await;
    operator
}

fn respond(servers: &HashMap<u64, Arc<RotatingTokenServer>>, fault: EndpointFault, request: &Request) -> Reply {
    let lifetime = request.path.trim_start_matches('/').parse().unwrap_or(60);
    let page = "<html>error</html>";
    match fault {
        EndpointFault::None => servers[&lifetime].reply(request),
        EndpointFault::TooMany => Reply::text(429, page).with_header("Retry-After", "2"),
        EndpointFault::Unavailable => Reply::text(503, page),
        EndpointFault::Broken => Reply::text(500, page),
        EndpointFault::NotJson => Reply::text(200, page),
        EndpointFault::NoToken => Reply::json(200, &json!({"ok": false})),
        EndpointFault::Empty => Reply::text(200, ""),
        EndpointFault::Closed => Reply::Close,
        EndpointFault::Truncated => Reply::Truncated,
        EndpointFault::Overlong => Reply::Overlong,
        EndpointFault::Slow => Reply::Delayed(Duration::from_secs(2), Box::new(servers[&lifetime].reply(request))),
    }
}

#[tokio::test]
async fn every_token_is_valid_again_after_every_fault() {
    let lasts = std::env::var("FAULT_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(3);
    let only = std::env::var("FAULTS").unwrap_or_default();
    let mut fleet = Fleet::start().await;
    eventually("all tokens are issued", TAKEOVER, async || fleet.check_tokens().await).await;
    assert_eq!(fleet.counts().logins, 0);
    let short = std::env::var("FAULTS_SHORT").is_ok_and(|short| short == "1");
    let chosen = CASES.iter().filter(|case| case.0.contains(&only) && (!short || case.is_short()));
    let mut failures = vec![];
    for Case(name, fault, may_lose, within) in chosen {
        let before = fleet.counts();
        let begun = Instant::now();
        fleet.inject(*fault, Duration::from_secs(lasts)).await;
        let took = begun.elapsed();
        let recovered = Instant::now();
        let mut last = fleet.check_tokens().await;
        while last.is_err() && recovered.elapsed() < *within {
            tokio::time::sleep(Duration::from_millis(100)).await;
            last = fleet.check_tokens().await;
        }
        let recovery = recovered.elapsed();
        // Renewals continue: 20 of them would reveal a refresh token that is used twice.
        let renewed = fleet.counts().renewed;
        eventually("renewals continue", SHORT_TIMEOUT, async || {
            if fleet.counts().renewed >= renewed + 20 { Ok(()) } else { Err("few".to_owned()) }
        })
        .await;
        let after = fleet.counts();
        let (lost, reused) = (after.logins - before.logins, after.reused - before.reused);
        println!(
            "{name}: lasted {:.1} s, all valid {:.1} s later; {lost} families lost, {reused} refresh tokens used twice",
            took.as_secs_f64(),
            recovery.as_secs_f64(),
        );
        if let Err(why) = last {
            failures.push(format!("{name}: {why}"));
        }
        if !may_lose && lost + reused > 0 {
            failures.push(format!("{name}: lost {lost}, used twice {reused}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{}\n{}",
        failures.join("\n"),
        fleet.leader.logs().lines().rev().take(20).collect::<Vec<_>>().join("\n")
    );
}
