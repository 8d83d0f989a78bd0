//! A cluster with an operator as the chart installs it, and three users: `alice` has the ClusterRole `edit` in her
//! namespace, `mallory` may only write integrations in hers, and `bob` is the tenant who must not be affected.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};

use crate::chart::Chart;
use test_support::endpoint::{Reply, canary};
use test_support::manifests::{self, OPERATOR};
use test_support::{ControlPlane, Endpoint, Operator, eventually};

/// The timeout for everything that should happen immediately, even on a busy machine.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval between two observations of the victim.
const INTERVAL: Duration = Duration::from_millis(100);

/// A client of the API server with a user's permissions, in that user's namespace.
pub struct User {
    pub client: Client,
    pub namespace: String,
}

impl User {
    /// The API for a namespaced kind in the user's own namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates or changes a Secret that may be sent to `endpoints`.
    pub async fn pinned_secret(&self, name: &str, values: &[(&str, &str)], endpoints: &str) {
        let data: std::collections::BTreeMap<_, _> = values.iter().copied().collect();
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        if !endpoints.is_empty() {
            secret["metadata"]["annotations"] = json!({"oauth.evolutionx.io/allowed-endpoints": endpoints});
        }
        let written = self.api::<Secret>().patch(name, &apply(), &Patch::Apply(&secret)).await;
        written.unwrap_or_else(|error| panic!("Secret {name} cannot be written: {error}"));
    }

    /// Creates an integration, or replaces the fields that this user applied before.
    ///
    /// # Errors
    ///
    /// If the API server rejects it.
    pub async fn integration(&self, name: &str, spec: &Value) -> Result<(), kube::Error> {
        let object = json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
            "metadata": {"name": name}, "spec": spec,
        });
        self.dynamic_integrations().patch(name, &apply(), &Patch::Apply(&object)).await.map(|_| ())
    }

    /// Changes an integration by a merge patch.
    ///
    /// # Errors
    ///
    /// If the API server rejects it.
    pub async fn patch_integration(&self, name: &str, patch: &Value) -> Result<(), kube::Error> {
        let patch = Patch::Merge(patch);
        self.dynamic_integrations().patch(name, &PatchParams::default(), &patch).await.map(|_| ())
    }

    /// The API for integrations as JSON: those of an attacker might not match the types of the operator.
    pub fn dynamic_integrations(&self) -> Api<DynamicObject> {
        let kind = kube::api::ApiResource::erase::<OAuthIntegration>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// Waits until the condition Ready of an integration has this status and reason.
    pub async fn wait_for_ready(&self, name: &str, status: &str, reason: &str) {
        eventually(&format!("{name} Ready={status} {reason}"), SHORT_TIMEOUT, async || {
            let found = self.dynamic_integrations().get(name).await.map_err(|error| error.to_string())?;
            let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
            let generation = found.metadata.generation.unwrap_or_default();
            let is_current = ready["observedGeneration"] == generation;
            if is_current && ready["status"] == status && ready["reason"] == reason {
                Ok(())
            } else {
                Err(found.data["status"].to_string())
            }
        })
        .await;
    }
}

fn apply() -> PatchParams {
    PatchParams::apply("tenant").force()
}

/// The cluster, the operator and the users.
pub struct Siege {
    pub control_plane: ControlPlane,
    pub operator: Operator,
    pub admin: Client,
    pub alice: User,
    pub mallory: User,
    pub bob: User,
    /// The memory limit of the chart, in bytes.
    pub memory_limit: u64,
    /// The timeout of the chart's liveness probe.
    probe_timeout: Duration,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
}

impl Siege {
    /// The operator as the chart installs it with its defaults, except that loopback endpoints without TLS are allowed.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// As [`Self::new`], with additional flags.
    pub async fn with(flags: &[&str]) -> Self {
        Self::build(ControlPlane::start(), flags, true).await
    }

    /// As [`Self::new`], without the admission policy, as if a GitOps controller with full permissions wrote the
    /// integrations.
    pub async fn without_policy(flags: &[&str]) -> Self {
        Self::build(ControlPlane::start(), flags, false).await
    }

    /// As [`Self::new`], on this control plane.
    pub async fn on(control_plane: ControlPlane) -> Self {
        Self::build(control_plane, &[], true).await
    }

    async fn build(control_plane: ControlPlane, flags: &[&str], policy: bool) -> Self {
        manifests::install_crd(&control_plane);
        manifests::install_permissions(&control_plane);
        if policy {
            manifests::install_admission_policy(&control_plane);
        }
        for namespace in ["alice", "mallory", "bob"] {
            control_plane.kubectl(&["create", "namespace", namespace]);
        }
        manifests::apply(&control_plane, "mallory", MALLORYS_ROLE);
        bind(&control_plane, "alice", "clusterrole=edit");
        bind(&control_plane, "bob", "clusterrole=edit");
        bind(&control_plane, "mallory", "role=integration-author");
        let chart = Chart::rendered();
        let mut arguments = chart.arguments;
        for flag in flags {
            // A flag replaces the chart's own.
            let name = flag.split_once('=').map_or(*flag, |(name, _)| name);
            arguments.retain(|known| known.split_once('=').map_or(known.as_str(), |(known, _)| known) != name);
            arguments.push((*flag).to_owned());
        }
        let kubeconfig = control_plane.kubeconfig_for(OPERATOR, OPERATOR).await;
        let operator = start(&kubeconfig, &arguments).await;
        let [alice, mallory, bob] = [
            user(&control_plane, "alice").await,
            user(&control_plane, "mallory").await,
            user(&control_plane, "bob").await,
        ];
        let admin = control_plane.client().await;
        let siege = Self {
            control_plane,
            operator,
            admin,
            alice,
            mallory,
            bob,
            memory_limit: chart.memory_limit,
            probe_timeout: chart.probe_timeout,
            kubeconfig,
            arguments,
        };
        siege.permissions_in_force(policy).await;
        siege
    }

    /// Waits until the permissions and the policy have taken effect, which happens some time after they are written.
    async fn permissions_in_force(&self, policy: bool) {
        for user in [&self.alice, &self.bob] {
            eventually("the role edit applies to integrations", SHORT_TIMEOUT, async || {
                let listed = user.dynamic_integrations().list(&kube::api::ListParams::default()).await;
                listed.map_err(|error| error.to_string())?;
                // The aggregation of roles adds the permission to write later than the permission to read.
                let spec = json!({"tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
                    "credentials": {"secretName": "probe-credentials"}, "suspend": true});
                user.integration("probe", &spec).await.map_err(|error| error.to_string())
            })
            .await;
            user.dynamic_integrations().delete("probe", &kube::api::DeleteParams::default()).await.expect("deleted");
        }
        if policy {
            let spec = json!({"tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
                "credentials": {"secretName": "not-hers"}, "suspend": true});
            eventually("the admission policy is in force", SHORT_TIMEOUT, async || {
                match self.mallory.integration("probe", &spec).await {
                    Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
                    other => {
                        // The policy is evaluated only if a spec changes: the next attempt must be a create again.
                        let _ = self
                            .mallory
                            .dynamic_integrations()
                            .delete("probe", &kube::api::DeleteParams::default())
                            .await;
                        Err(format!("{other:?}"))
                    }
                }
            })
            .await;
        }
    }

    /// Kills the operator, as the kernel does when it is out of memory, and starts it again. Returns when it listens.
    pub fn restart_operator(&mut self) {
        self.operator.kill();
        self.operator = start_unready(&self.kubeconfig, &self.arguments);
    }

    /// As [`Self::restart_operator`], with additional environment variables. Returns when it leads.
    pub async fn restart_operator_in(&mut self, environment: &[(String, String)]) {
        self.operator.kill();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.operator = Operator::start_in(&self.kubeconfig, &arguments, environment);
        until_leading(&self.operator).await;
    }

    /// An integration of bob with an honest endpoint and this token lifetime, in seconds.
    pub async fn victim(&self, lifetime_seconds: u64) -> Victim {
        let endpoint = Endpoint::start(move |_| {
            // The token itself contains its expiry, so that the test does not rely on data that the operator writes.
            let expires = unix_milliseconds() + u128::from(lifetime_seconds) * 1000;
            Reply::json(
                200,
                &json!({"access_token": format!("victim-{expires}-{}", canary()), "expires_in": lifetime_seconds}),
            )
        });
        let origin = format!("http://{}", endpoint.address());
        let values = [("client_id", "bob"), ("client_secret", "kanarie-secret-of-bob")];
        self.bob.pinned_secret("credentials", &values, &origin).await;
        self.bob
            .integration("victim", &client_credentials(&endpoint.url(), "credentials"))
            .await
            .expect("bob's integration");
        self.bob.wait_for_ready("victim", "True", "TokenValid").await;
        Victim { endpoint, name: "victim".to_owned() }
    }

    /// The token that a workload of the victim would read now; empty if there is none.
    pub async fn token_of(&self, victim: &Victim) -> String {
        let secrets = Api::<Secret>::namespaced(self.admin.clone(), &self.bob.namespace);
        let secret = secrets.get_opt(&victim.name).await.expect("a read of the victim's Secret");
        let token = secret.and_then(|secret| secret.data).and_then(|mut data| data.remove("access_token"));
        token.map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
    }

    /// Observes the victim's token, the operator's health and its memory for some time.
    pub async fn observe(&self, victim: &Victim, time: Duration) -> Observation {
        let stopped = Arc::new(AtomicBool::new(false));
        let healthz = self.sample_healthz(&stopped);
        let memory = self.sample_memory(&stopped);
        let mut observation = Observation {
            memory_limit: self.memory_limit,
            probe_timeout: self.probe_timeout,
            ..Observation::default()
        };
        let mut tokens = BTreeSet::new();
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let token = self.token_of(victim).await;
            let expires = token.split('-').nth(1).and_then(|part| part.parse::<u128>().ok()).unwrap_or_default();
            observation.total += 1;
            observation.expired += usize::from(expires <= unix_milliseconds());
            tokens.insert(token);
            tokio::time::sleep(INTERVAL).await;
        }
        stopped.store(true, Ordering::Relaxed);
        observation.tokens = tokens.len();
        observation.slowest_healthz = healthz.join().expect("the sampling of /healthz");
        observation.peak_memory = memory.join().expect("the sampling of memory");
        observation.died = !self.operator.is_alive();
        observation
    }

    fn sample_healthz(&self, stopped: &Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
        let (address, stopped) = (self.operator.address().to_owned(), Arc::clone(stopped));
        std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                slowest = slowest.max(healthz(&address));
                std::thread::sleep(INTERVAL);
            }
            slowest
        })
    }

    /// The peak memory of the operator and its workers, as counted by the limit of a container: the pages of the binary, which
    /// all workers share, once.
    fn sample_memory(&self, stopped: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
        let (pid, stopped) = (self.operator.pid(), Arc::clone(stopped));
        std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                let workers = workers(pid);
                let own: u64 = workers.iter().map(|worker| memory(worker, "RssAnon:")).sum();
                let shared = workers.iter().map(|worker| memory(worker, "RssFile:")).max().unwrap_or_default();
                peak = peak.max(memory(&pid.to_string(), "VmHWM:") + own + shared);
                std::thread::sleep(INTERVAL);
            }
            peak
        })
    }
}

/// A preloaded library that replaces the resolver of the operator.
pub struct Preload {
    library: PathBuf,
    _dir: tempfile::TempDir,
}

impl Preload {
    /// Builds it from its source in `tests/attacks`.
    pub fn build(source: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let library = dir.path().join("libpreload.so");
        let source = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks")).join(source);
        let built = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cc is needed, as for building the operator");
        Self { library, _dir: dir }
    }

    /// The value of `LD_PRELOAD`.
    pub fn path(&self) -> String {
        self.library.display().to_string()
    }
}

/// The victim's integration, which must not be affected.
pub struct Victim {
    pub endpoint: Endpoint,
    pub name: String,
}

/// The observations of the victim and of the kubelet.
#[derive(Debug, Default)]
pub struct Observation {
    /// Reads of the victim's Secret.
    pub total: usize,
    /// Reads that found no token, or an expired one.
    pub expired: usize,
    /// The number of different tokens.
    pub tokens: usize,
    /// The maximum response time of `/healthz`.
    pub slowest_healthz: Duration,
    /// The peak memory of the operator and its workers, in bytes.
    pub peak_memory: u64,
    /// The memory limit of the chart, in bytes.
    pub memory_limit: u64,
    /// The timeout of the chart's liveness probe.
    pub probe_timeout: Duration,
    /// Whether the operator has exited.
    pub died: bool,
}

impl Observation {
    /// Asserts that no token expired, the probes succeeded in time, and the container would not have been killed.
    pub fn assert_unharmed(&self) {
        println!("{self:?}");
        assert!(!self.died, "the operator has exited: {self:?}");
        assert!(self.total > 0, "nothing was observed");
        assert_eq!(self.expired, 0, "the victim's token was expired: {self:?}");
        assert!(self.slowest_healthz < self.probe_timeout, "/healthz was slow: {self:?}");
        assert!(self.peak_memory < self.memory_limit, "the container would have been killed: {self:?}");
    }
}

/// A spec for client credentials.
pub fn client_credentials(endpoint: &str, secret: &str) -> Value {
    json!({"tokenEndpoint": endpoint, "grantType": "client_credentials", "credentials": {"secretName": secret}})
}

fn unix_milliseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis()).unwrap_or_default()
}

/// The child processes that have executed their program.
///
/// A child that has not done so yet shares all memory of its parent (`vfork(2)`), and the kernel reports it for both,
/// although a container is charged only once.
fn workers(pid: u32) -> Vec<String> {
    let command_line = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let operator = command_line(&pid.to_string());
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let mut children: Vec<String> =
        children.flat_map(|all| all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    children.retain(|child| command_line(child) != operator);
    children
}

fn memory(pid: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// The response time of `/healthz`, limited to `MAX_WAIT`.
fn healthz(address: &str) -> Duration {
    const MAX_WAIT: Duration = Duration::from_secs(10);
    let started = Instant::now();
    let call = || -> std::io::Result<bool> {
        let host = address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(MAX_WAIT))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response.starts_with("HTTP/1.1 200"))
    };
    match call() {
        Ok(true) => started.elapsed(),
        // A failed probe counts like one without a response.
        Ok(false) | Err(_) => MAX_WAIT,
    }
}

fn start_unready(kubeconfig: &std::path::Path, arguments: &[String]) -> Operator {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Operator::start_unready(kubeconfig, &arguments)
}

async fn start(kubeconfig: &std::path::Path, arguments: &[String]) -> Operator {
    let operator = start_unready(kubeconfig, arguments);
    until_leading(&operator).await;
    operator
}

async fn until_leading(operator: &Operator) {
    operator.until_ready().await;
    eventually("the operator leads", SHORT_TIMEOUT, async || {
        if operator.leads() { Ok(()) } else { Err(operator.get("/readyz").1) }
    })
    .await;
}

/// The permission to write integrations, without any permission on Secrets.
const MALLORYS_ROLE: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: integration-author
rules:
  - apiGroups: [oauth.evolutionx.io]
    resources: [oauthintegrations]
    verbs: [get, list, watch, create, update, patch, delete]
"#;

fn bind(control_plane: &ControlPlane, name: &str, role: &str) {
    control_plane.kubectl(&[
        "create",
        "rolebinding",
        name,
        &format!("--{role}"),
        &format!("--user={name}"),
        &format!("--namespace={name}"),
    ]);
}

/// A user by impersonation: the API server authorizes them like a real user of that name.
async fn user(control_plane: &ControlPlane, name: &str) -> User {
    let mut kubeconfig = Kubeconfig::read_from(control_plane.admin_kubeconfig()).expect("the kubeconfig");
    for named in &mut kubeconfig.auth_infos {
        named.auth_info.get_or_insert_default().impersonate = Some(name.to_owned());
    }
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
    User { client: Client::try_from(config).expect("a client"), namespace: name.to_owned() }
}
