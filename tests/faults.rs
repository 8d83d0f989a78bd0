//! The promise: whatever goes wrong, every token is fresh again soon after, and no refresh token is lost or used twice that
//! need not be.
//!
//! A hundred integrations with lives of 10 to 60 s renew by refresh tokens that rotate, at a server that revokes the family of
//! one that comes again. Each has a user name and a password to fall back on, so that a family that is lost shows as a log-in,
//! and is counted. One fault after the other is put in, and after each the fleet must be whole.
//!
//! `FAULT_SECONDS` says how long each lasts (default 3); `FAULTS` picks those whose names hold a text; `FAULTS_SHORT=1`
//! leaves out most of those that wait for the end of a lease.

mod common;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::api_front::{ApiFront, Says};
use common::certificate::Identity;
use common::endpoint::{Endpoint, PASSWORD, Reply, Request, Rotating};
use common::manifests::OPERATOR;
use common::preload::Names;
use common::proxy::{Network, Proxy};
use common::{ControlPlane, Operator, eventually};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use oauth_operator::api::OAuthIntegration;
use serde_json::json;

const INTEGRATIONS: usize = 100;
/// The name of the endpoint, which only the operators know.
const HOST: &str = "login.faults.test";
const LIVES: [u64; 4] = [10, 20, 30, 60];
/// For the lease of a leader that is gone, and what it has left undone.
const TAKEOVER: Duration = Duration::from_secs(45);
/// For everything else, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The leader dies at a place in its code, and another process is started.
    Dies(&'static str),
    KilledAlone,
    KilledWithStandby,
    EndedAlone,
    EndedWithStandby,
    StandbyKilled,
    FrozenForAMoment,
    FrozenUntilAnotherLeads,
    Api(Network),
    ApiCutUntilLeaseEnds,
    ApiSays(Says),
    Endpoint(Network),
    CertificateExpired,
    NameGone,
    BothCut,
    Answers(Trouble),
    ApiServerRestarts,
    EtcdRestarts,
    RightsGone,
    SecretsEdited,
    CredentialsTouched,
    CrdTouched,
}

/// What the endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
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

/// A fault, by name, whether it may lose a refresh token (its answer never comes to the operator, or dies with it), and the
/// time within which all is well again.
struct Case(&'static str, Fault, bool, Duration);

impl Case {
    /// Whether it is part of the short form: of those that wait for the end of a lease, two are.
    fn is_short(&self) -> bool {
        self.3 < TAKEOVER || matches!(self.1, Fault::Dies("after-answer") | Fault::FrozenUntilAnotherLeads)
    }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("killed after the reads", Fault::Dies("after-reads"), false, TAKEOVER),
    Case("killed before a request", Fault::Dies("before-request"), false, TAKEOVER),
    Case("killed with an answer in hand", Fault::Dies("after-answer"), true, TAKEOVER),
    Case("killed before the Secret is written", Fault::Dies("before-secret"), true, TAKEOVER),
    Case("killed after the Secret is written", Fault::Dies("after-secret"), true, TAKEOVER),
    Case("killed after the status is written", Fault::Dies("after-status"), true, TAKEOVER),
    Case("killed after the event", Fault::Dies("after-report"), true, TAKEOVER),
    Case("killed, alone", Fault::KilledAlone, true, TAKEOVER),
    Case("killed, with a standby", Fault::KilledWithStandby, true, TAKEOVER),
    Case("ended in order, alone", Fault::EndedAlone, false, SOON),
    Case("ended in order, with a standby", Fault::EndedWithStandby, false, SOON),
    Case("standby killed", Fault::StandbyKilled, false, SOON),
    Case("leader frozen for a moment", Fault::FrozenForAMoment, false, SOON),
    Case("leader frozen until another leads", Fault::FrozenUntilAnotherLeads, true, TAKEOVER),
    Case("API server cut off", Fault::Api(Network::Cut), false, SOON),
    Case("API server silent", Fault::Api(Network::Silent), false, SOON),
    Case("API server slow", Fault::Api(Network::Slow(Duration::from_millis(100))), false, SOON),
    Case("answers of the API server lost", Fault::Api(Network::AnswersLost), false, SOON),
    Case("API server answers 429", Fault::ApiSays(Says::TooMany), false, SOON),
    Case("API server answers 500", Fault::ApiSays(Says::Broken), false, SOON),
    Case("API server answers 410 to watches", Fault::ApiSays(Says::Gone), false, SOON),
    Case("API server cut off until the lease ends", Fault::ApiCutUntilLeaseEnds, true, TAKEOVER),
    Case("endpoint cut off", Fault::Endpoint(Network::Cut), true, SOON),
    Case("endpoint silent", Fault::Endpoint(Network::Silent), true, SOON),
    Case("endpoint slow", Fault::Endpoint(Network::Slow(Duration::from_millis(300))), false, SOON),
    Case("answers of the endpoint byte by byte", Fault::Endpoint(Network::Trickle(Duration::from_millis(3))), true, SOON),
    Case("answers of the endpoint lost", Fault::Endpoint(Network::AnswersLost), true, SOON),
    Case("certificate of the endpoint expired", Fault::CertificateExpired, true, SOON),
    Case("name of the endpoint gone", Fault::NameGone, true, SOON),
    Case("API server and endpoint cut off", Fault::BothCut, true, SOON),
    Case("429 with Retry-After", Fault::Answers(Trouble::TooMany), false, SOON),
    Case("503", Fault::Answers(Trouble::Unavailable), false, SOON),
    Case("500 with a page", Fault::Answers(Trouble::Broken), false, SOON),
    Case("200 with a page", Fault::Answers(Trouble::NotJson), false, SOON),
    Case("200 without a token", Fault::Answers(Trouble::NoToken), false, SOON),
    Case("200 with nothing", Fault::Answers(Trouble::Empty), false, SOON),
    Case("connections closed without an answer", Fault::Answers(Trouble::Closed), false, SOON),
    Case("answers cut short of their length", Fault::Answers(Trouble::Truncated), false, SOON),
    Case("answers longer than their length", Fault::Answers(Trouble::Overlong), false, SOON),
    Case("answers after two seconds", Fault::Answers(Trouble::Slow), false, SOON),
    Case("API server killed and started again", Fault::ApiServerRestarts, false, SOON),
    Case("etcd killed and started again", Fault::EtcdRestarts, false, SOON),
    Case("right to write Secrets taken away", Fault::RightsGone, false, SOON),
    Case("Secrets edited by others", Fault::SecretsEdited, false, SOON),
    Case("all credentials written anew, the same", Fault::CredentialsTouched, false, SOON),
    Case("CRD written anew", Fault::CrdTouched, false, SOON),
];

/// What the server has seen, to be compared.
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
    servers: Arc<HashMap<u64, Arc<Rotating>>>,
    trouble: Arc<Mutex<Trouble>>,
    _endpoint: Endpoint,
    identity: Identity,
    names: Names,
    endpoint_network: Proxy,
    api_front: ApiFront,
    api_network: Proxy,
    through_network: PathBuf,
    direct: PathBuf,
    leader: Operator,
    standby: Operator,
}

impl Fleet {
    async fn start() -> Self {
        let control_plane = ControlPlane::start();
        common::manifests::install_crd(&control_plane);
        let namespace = control_plane.namespace("faults").await;
        common::manifests::install_rights_in(&control_plane, &namespace);
        let client = control_plane.client().await;
        let servers: Arc<HashMap<_, _>> = Arc::new(LIVES.iter().map(|life| (*life, Rotating::new(*life))).collect());
        let trouble = Arc::new(Mutex::new(Trouble::None));
        let (answering, troubled) = (Arc::clone(&servers), Arc::clone(&trouble));
        let identity = Identity::new(HOST);
        let endpoint = Endpoint::start_tls(identity.server(), move |request| {
            let trouble = *troubled.lock().expect("no panic");
            answer(&answering, trouble, request)
        });
        let endpoint_network = Proxy::start(endpoint.address());
        let api_front = ApiFront::start(&control_plane.url(), &control_plane.certificate());
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
            trouble,
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
        let life = LIVES[number % LIVES.len()];
        let first = self.servers[&life].first();
        let name = format!("it-{number}");
        let values = json!({"client_id": "c", "refresh_token": first, "username": name, "password": PASSWORD});
        let credentials = json!({"metadata": {"name": format!("{name}-credentials")}, "stringData": values});
        let credentials: Secret = serde_json::from_value(credentials).expect("a Secret");
        self.secrets().create(&PostParams::default(), &credentials).await.expect("credentials");
        let spec = json!({
            "tokenEndpoint": format!("https://{HOST}:{}/{life}", self.endpoint_network.port()),
            "grantType": "refresh_token",
            "credentials": {"secretName": format!("{name}-credentials")},
            "renewal": {"fallback": {"grantType": "user_password"}},
            "request": {"timeout": "5s"},
        });
        let integration = OAuthIntegration::new(&name, serde_json::from_value(spec).expect("a spec"));
        let integrations = Api::<OAuthIntegration>::namespaced(self.client.clone(), &self.namespace);
        integrations.create(&PostParams::default(), &integration).await.expect("an integration");
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn counts(&self) -> Counts {
        let sum = |of: fn(&Rotating) -> usize| self.servers.values().map(|server| of(server)).sum();
        Counts {
            logins: sum(Rotating::logins),
            reused: sum(|server| server.reused().len()),
            renewed: sum(Rotating::renewed),
        }
    }

    /// Whether every Secret holds an access token that has not ended and the refresh token that goes on.
    async fn is_whole(&self) -> Result<(), String> {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=oauth-operator");
        let list = tokio::time::timeout(Duration::from_secs(5), self.secrets().list(&ours)).await;
        let secrets = list.map_err(|_| "no list".to_owned())?.map_err(|error| error.to_string())?.items;
        let now = Timestamp::now();
        let mut bad = vec![];
        for secret in &secrets {
            let value = |key: &str| {
                let data = secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.clone());
                String::from_utf8(data.unwrap_or_default()).expect("text")
            };
            let (access, refresh) = (value("access_token"), value("refresh_token"));
            assert!(!access.is_empty() && !refresh.is_empty(), "{} was emptied", secret.name_any());
            let ends = secret.annotations().get("oauth.evolutionx.io/expires-at").and_then(|at| at.parse().ok());
            if !self.servers.values().any(|server| server.is_current(&refresh)) {
                bad.push(format!("{}: the refresh token is not the one that goes on", secret.name_any()));
            } else if ends.is_none_or(|at: Timestamp| at <= now) {
                bad.push(format!("{}: ended at {ends:?}", secret.name_any()));
            }
        }
        match (secrets.len(), bad.as_slice()) {
            (INTEGRATIONS, []) => Ok(()),
            (INTEGRATIONS, bad) => Err(format!("{} are not fresh, such as {}", bad.len(), bad[0])),
            (some, _) => Err(format!("{some} Secrets")),
        }
    }

    async fn inject(&mut self, fault: Fault, lasts: Duration) {
        match fault {
            Fault::Dies(place) => self.dies(place).await,
            Fault::KilledAlone => {
                self.standby.terminate(SOON);
                self.leader.kill();
                self.both().await;
            }
            Fault::KilledWithStandby => {
                self.leader.kill();
                self.restore_standby().await;
            }
            Fault::EndedAlone => {
                self.standby.terminate(SOON);
                self.leader.terminate(SOON);
                self.both().await;
            }
            Fault::EndedWithStandby => {
                self.leader.terminate(SOON);
                self.restore_standby().await;
            }
            Fault::StandbyKilled => {
                self.standby.kill();
                self.standby = self.start_replica(&self.direct, "").await;
            }
            Fault::FrozenForAMoment => {
                self.leader.signal("STOP");
                tokio::time::sleep(lasts).await;
                self.leader.signal("CONT");
            }
            Fault::FrozenUntilAnotherLeads => {
                self.leader.signal("STOP");
                self.standby_leads().await;
                self.leader.signal("CONT");
                self.swap().await;
            }
            Fault::Api(network) => {
                self.api_network.set(network);
                tokio::time::sleep(lasts).await;
                self.api_network.set(Network::Up);
            }
            Fault::ApiCutUntilLeaseEnds => {
                self.api_network.set(Network::Cut);
                self.standby_leads().await;
                self.api_network.set(Network::Up);
                self.swap().await;
            }
            Fault::Endpoint(network) => {
                self.endpoint_network.set(network);
                tokio::time::sleep(lasts).await;
                self.endpoint_network.set(Network::Up);
            }
            Fault::ApiSays(says) => {
                self.api_front.set(says);
                tokio::time::sleep(lasts).await;
                self.api_front.set(Says::TheTruth);
            }
            Fault::CertificateExpired => {
                self.identity.set_expired(true);
                self.reset_endpoint();
                tokio::time::sleep(lasts).await;
                self.identity.set_expired(false);
            }
            Fault::NameGone => {
                self.names.set_known(false);
                self.reset_endpoint();
                tokio::time::sleep(lasts).await;
                self.names.set_known(true);
            }
            Fault::BothCut => {
                self.endpoint_network.set(Network::Cut);
                self.api_network.set(Network::Cut);
                tokio::time::sleep(lasts).await;
                self.endpoint_network.set(Network::Up);
                self.api_network.set(Network::Up);
            }
            Fault::Answers(trouble) => {
                *self.trouble.lock().expect("no panic") = trouble;
                tokio::time::sleep(lasts).await;
                *self.trouble.lock().expect("no panic") = Trouble::None;
            }
            Fault::ApiServerRestarts => self.control_plane.restart_apiserver(),
            Fault::EtcdRestarts => self.control_plane.restart_etcd(),
            Fault::RightsGone => self.rights_gone(lasts).await,
            Fault::SecretsEdited => self.edit_secrets().await,
            Fault::CredentialsTouched => self.touch_credentials().await,
            Fault::CrdTouched => common::manifests::install_crd(&self.control_plane),
        }
    }

    /// Cuts the connections that are there, so that new ones have to be made.
    fn reset_endpoint(&self) {
        self.endpoint_network.set(Network::Cut);
        self.endpoint_network.set(Network::Up);
    }

    /// One that goes through the network that can be cut, to lead; or one beside it.
    async fn start_replica(&self, kubeconfig: &std::path::Path, failpoint: &str) -> Operator {
        replica(kubeconfig, &self.namespace, &environment(&self.names, &self.identity, failpoint)).await
    }

    /// A process that leads dies when it comes by a place; the standby takes over.
    async fn dies(&mut self, place: &str) {
        self.standby.terminate(SOON);
        self.standby = self.start_replica(&self.through_network, place).await;
        self.leader.terminate(SOON);
        self.standby.wait_for_death(SOON);
        self.both().await;
    }

    /// Starts two, the first of which will lead.
    async fn both(&mut self) {
        self.leader = self.start_replica(&self.through_network, "").await;
        let leader = &self.leader;
        eventually("it leads", TAKEOVER, async || if leader.leads() { Ok(()) } else { Err(leader.get("/readyz").1) })
            .await;
        self.standby = self.start_replica(&self.direct, "").await;
    }

    async fn standby_leads(&self) {
        let standby = &self.standby;
        eventually(
            "the standby leads",
            TAKEOVER,
            async || {
                if standby.leads() { Ok(()) } else { Err(standby.get("/readyz").1) }
            },
        )
        .await;
    }

    /// After the leader has gone: the standby leads, and then a leader behind the network that can be cut.
    async fn restore_standby(&mut self) {
        self.standby_leads().await;
        self.leader = self.start_replica(&self.through_network, "").await;
        self.swap().await;
    }

    /// The standby gives the lease back in order.
    async fn swap(&mut self) {
        self.standby.terminate(SOON);
        let leader = &self.leader;
        eventually(
            "it leads again",
            TAKEOVER,
            async || if leader.leads() { Ok(()) } else { Err(leader.get("/readyz").1) },
        )
        .await;
        self.standby = self.start_replica(&self.direct, "").await;
    }

    async fn rights_gone(&self, lasts: Duration) {
        let roles = Api::<Role>::namespaced(self.client.clone(), &self.namespace);
        let role = roles.get(OPERATOR).await.expect("the role");
        let mut less = role.clone();
        less.metadata.managed_fields = None;
        for rule in less.rules.iter_mut().flatten() {
            if rule.resources.as_ref().is_some_and(|resources| resources.contains(&"secrets".to_owned())) {
                rule.verbs.retain(|verb| !["create", "patch"].contains(&verb.as_str()));
            }
        }
        let written = roles.replace(OPERATOR, &PostParams::default(), &less).await.expect("fewer rights");
        tokio::time::sleep(lasts).await;
        let mut back = role;
        back.metadata.resource_version = written.metadata.resource_version;
        roles.replace(OPERATOR, &PostParams::default(), &back).await.expect("all rights");
    }

    /// Another takes the operator's annotations away from every tenth, and the access token from others.
    async fn edit_secrets(&self) {
        for number in (0..INTEGRATIONS).step_by(10) {
            let annotations = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-at": null}}});
            let data = json!({"data": {"access_token": "a2FuYXJpZS1vdGhlcg=="}});
            for (offset, patch) in [(0, annotations), (1, data)] {
                let name = format!("it-{}", number + offset);
                self.secrets().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("an edit");
            }
        }
    }

    async fn touch_credentials(&self) {
        for number in 0..INTEGRATIONS {
            let patch = json!({"metadata": {"annotations": {"touched": Timestamp::now().to_string()}}});
            let name = format!("it-{number}-credentials");
            self.secrets().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a touch");
        }
    }
}

/// What the operators are started with: who is to be trusted, which names there are, and where to die.
fn environment(names: &Names, identity: &Identity, failpoint: &str) -> Vec<(String, String)> {
    let mut environment = names.environment();
    environment.push(("SSL_CERT_FILE".to_owned(), identity.authority_file().display().to_string()));
    environment.push(("OAUTH_OPERATOR_FAILPOINT".to_owned(), failpoint.to_owned()));
    environment
}

async fn replica(kubeconfig: &std::path::Path, namespace: &str, environment: &[(String, String)]) -> Operator {
    let arguments = ["--namespace", namespace, "--leader-elect", "--lease-namespace", namespace];
    let operator = Operator::start_in(kubeconfig, &arguments, environment);
    operator.until_ready().await;
    operator
}

fn answer(servers: &HashMap<u64, Arc<Rotating>>, trouble: Trouble, request: &Request) -> Reply {
    let life = request.path.trim_start_matches('/').parse().unwrap_or(60);
    let page = "<html>in trouble</html>";
    match trouble {
        Trouble::None => servers[&life].reply(request),
        Trouble::TooMany => Reply::text(429, page).with_header("Retry-After", "2"),
        Trouble::Unavailable => Reply::text(503, page),
        Trouble::Broken => Reply::text(500, page),
        Trouble::NotJson => Reply::text(200, page),
        Trouble::NoToken => Reply::json(200, &json!({"ok": false})),
        Trouble::Empty => Reply::text(200, ""),
        Trouble::Closed => Reply::Close,
        Trouble::Truncated => Reply::Truncated,
        Trouble::Overlong => Reply::Overlong,
        Trouble::Slow => Reply::Late(Duration::from_secs(2), Box::new(servers[&life].reply(request))),
    }
}

#[tokio::test]
async fn every_token_is_fresh_again_after_every_fault() {
    let lasts = std::env::var("FAULT_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(3);
    let only = std::env::var("FAULTS").unwrap_or_default();
    let mut fleet = Fleet::start().await;
    eventually("all tokens are there", TAKEOVER, async || fleet.is_whole().await).await;
    assert_eq!(fleet.counts().logins, 0);
    let short = std::env::var("FAULTS_SHORT").is_ok_and(|short| short == "1");
    let chosen = CASES.iter().filter(|case| case.0.contains(&only) && (!short || case.is_short()));
    let mut failures = vec![];
    for Case(name, fault, may_lose, within) in chosen {
        let before = fleet.counts();
        let begun = Instant::now();
        fleet.inject(*fault, Duration::from_secs(lasts)).await;
        let took = begun.elapsed();
        let mended = Instant::now();
        let mut last = fleet.is_whole().await;
        while last.is_err() && mended.elapsed() < *within {
            tokio::time::sleep(Duration::from_millis(100)).await;
            last = fleet.is_whole().await;
        }
        let recovery = mended.elapsed();
        // The fleet goes on: this many renewals would show a token that was about to be used twice.
        let renewed = fleet.counts().renewed;
        eventually("renewals go on", SOON, async || {
            if fleet.counts().renewed >= renewed + 20 { Ok(()) } else { Err("few".to_owned()) }
        })
        .await;
        let after = fleet.counts();
        let (lost, reused) = (after.logins - before.logins, after.reused - before.reused);
        println!(
            "{name}: lasted {:.1} s, all fresh {:.1} s later; {lost} families lost, {reused} refresh tokens used twice",
            took.as_secs_f64(),
            recovery.as_secs_f64(),
        );
        if let Err(why) = last {
            println!("DBG {why}");
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
