//! A real control plane: etcd, kube-apiserver and kube-controller-manager on loopback.
//!
//! The controller-manager is needed for garbage collection by owner references, deletion of namespaces and default
//! service accounts. There is no scheduler and no kubelet: pods are admitted, not run, unless the control plane is
//! started for nodes ([`crate::node`]).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;

use crate::process::{Process, WorkDir, free_port};
use crate::{manifests, record, tools};

/// Includes cold starts on a busy machine.
const BOOT: Duration = Duration::from_secs(60);
const ADMIN_TOKEN: &str = "admin-token-of-a-control-plane-on-loopback";
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                           resourcequota-controller,clusterrole-aggregation-controller";
/// What pods, and the Services in front of them, also need.
const CONTROLLERS_FOR_NODES: &str = "node-lifecycle-controller,deployment-controller,replicaset-controller,disruption-controller,\
                                     endpointslice-controller,root-ca-certificate-publisher-controller";

/// A control plane. When dropped, all its processes are killed.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    address: IpAddr,
    port: u16,
    etcd_port: u16,
    /// Additional arguments for the API server.
    arguments: Vec<String>,
    // In the order of termination: a process comes before those that it depends on.
    processes: Mutex<Vec<Process>>,
}

/// The number of calls by verb, resource and subresource.
pub type Calls = BTreeMap<(String, String, String), u64>;

impl ControlPlane {
    /// The control plane of this test binary, with the CRD and the chart's permissions, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(|| {
            let control_plane = Self::start();
            manifests::install_crd(&control_plane);
            manifests::install_permissions(&control_plane);
            control_plane
        })
    }

    /// A separate, empty control plane.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A separate control plane whose API server has additional arguments.
    pub fn start_with(arguments: &[String]) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), arguments)
    }

    /// A separate control plane with a scheduler and the controllers of pods, whose API server listens on an address
    /// that nodes can reach.
    pub fn start_for_nodes(address: IpAddr) -> Self {
        let control_plane = Self::start_on(address, &["--kubelet-preferred-address-types=InternalIP".to_owned()]);
        let scheduler = control_plane.start_scheduler();
        control_plane.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(0, scheduler);
        control_plane
    }

    /// A separate control plane with the controllers of Deployments, whose pods are never scheduled.
    pub fn start_with_deployments() -> Self {
        Self::start_with_controllers(Ipv4Addr::LOCALHOST.into(), &[], "deployment-controller,replicaset-controller")
    }

    fn start_on(address: IpAddr, arguments: &[String]) -> Self {
        let more = if address.is_loopback() { "" } else { CONTROLLERS_FOR_NODES };
        Self::start_with_controllers(address, arguments, more)
    }

    /// `more`: the controllers in addition to those of every control plane.
    fn start_with_controllers(address: IpAddr, arguments: &[String], more: &str) -> Self {
        let work = WorkDir::new("control-plane");
        let dir = work.path().to_owned();
        let control_plane = Self {
            dir,
            address,
            port: free_port(),
            etcd_port: free_port(),
            arguments: arguments.to_vec(),
            processes: Mutex::default(),
        };
        fs::write(control_plane.path("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))
            .unwrap_or_else(|error| panic!("the token file cannot be written: {error}"));
        let etcd = control_plane.start_etcd(work);
        let apiserver = control_plane.start_apiserver();
        control_plane.write_kubeconfig();
        let manager = control_plane.start_controller_manager(more);
        *control_plane.processes.lock().unwrap_or_else(PoisonError::into_inner) = vec![manager, apiserver, etcd];
        control_plane
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The common directory is removed with etcd, which exits last.
    fn start_etcd(&self, work: WorkDir) -> Process {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new(tools::install("kubernetes").join("etcd"));
        command
            .arg("--data-dir")
            .arg(self.path("etcd"))
            // The data is temporary and does not have to survive a power failure.
            .args(["--unsafe-no-fsync", "--log-level=warn", "--name=default"])
            .args([&format!("--listen-client-urls={client}"), &format!("--advertise-client-urls={client}")])
            .args([&format!("--listen-peer-urls={peer}"), &format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=default={peer}"));
        let etcd = Process::start("etcd", work, command);
        let port = self.etcd_port;
        etcd.wait_until("it listens", BOOT, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        etcd
    }

    fn start_apiserver(&self) -> Process {
        let key = self.service_account_key();
        let mut command = Command::new(tools::install("kubernetes").join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .args([&format!("--secure-port={}", self.port), &format!("--bind-address={}", self.address)])
            .arg(format!("--cert-dir={}", self.path("certificates").display()))
            .arg(format!("--token-auth-file={}", self.path("tokens.csv").display()))
            .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"])
            // An identity provider can reach this URL.
            .args([
                &format!("--service-account-issuer={}", self.url()),
                "--api-audiences=https://kubernetes.default.svc",
            ])
            .arg(format!("--service-account-jwks-uri={}/openid/v1/jwks", self.url()))
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            // Tests send many requests at once; priority and fairness would only slow them down.
            .arg("--enable-priority-and-fairness=false")
            .args(&self.arguments);
        if !self.arguments.iter().any(|argument| argument.starts_with("--audit")) {
            command.args(record::audit());
        }
        let apiserver = Process::start("kube-apiserver", WorkDir::new("kube-apiserver"), command);
        apiserver.wait_until("it is ready", BOOT, || {
            self.kubectl_with(&["get", "--raw=/readyz"], &self.connection()).status.success()
        });
        apiserver
    }

    fn start_controller_manager(&self, more: &str) -> Process {
        let controllers = [CONTROLLERS, more].join(",");
        let controllers = controllers.trim_end_matches(',');
        let mut command = Command::new(tools::install("kubernetes").join("kube-controller-manager"));
        command
            .arg(format!("--kubeconfig={}", self.admin_kubeconfig().display()))
            .arg(format!("--service-account-private-key-file={}", self.service_account_key().display()))
            // Pods verify the API server with it.
            .arg(format!("--root-ca-file={}", self.certificate().display()))
            .arg(format!("--cert-dir={}", self.path("controller-manager").display()))
            .args(["--use-service-account-credentials=false", "--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", free_port()))
            .arg(format!("--controllers={controllers}"));
        Process::start("kube-controller-manager", WorkDir::new("kube-controller-manager"), command)
    }

    fn start_scheduler(&self) -> Process {
        let mut command = Command::new(tools::install("node").join("kube-scheduler"));
        command
            .arg(format!("--kubeconfig={}", self.admin_kubeconfig().display()))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", free_port()));
        Process::start("kube-scheduler", WorkDir::new("kube-scheduler"), command)
    }

    /// The key that signs the tokens of service accounts, created once.
    fn service_account_key(&self) -> PathBuf {
        let key = self.path("service-account.key");
        if !key.exists() {
            let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
            assert!(made.is_ok_and(|made| made.status.success()), "openssl is needed: sudo apt-get install openssl");
        }
        key
    }

    /// The arguments for `kubectl` while there is no kubeconfig yet.
    fn connection(&self) -> Vec<String> {
        vec![
            format!("--server={}", self.url()),
            "--insecure-skip-tls-verify".to_owned(),
            format!("--token={ADMIN_TOKEN}"),
        ]
    }

    fn write_kubeconfig(&self) {
        fs::write(self.admin_kubeconfig(), self.kubeconfig(ADMIN_TOKEN))
            .unwrap_or_else(|error| panic!("the kubeconfig cannot be written: {error}"));
    }

    fn kubeconfig(&self, token: &str) -> String {
        self.kubeconfig_by(token, &self.url())
    }

    /// The URL of the API server.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// The file with the API server's certificate, which is self-signed.
    pub fn certificate(&self) -> PathBuf {
        self.path("certificates").join("apiserver.crt")
    }

    fn kubeconfig_by(&self, token: &str, url: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {
                "server": url,
                "certificate-authority": self.certificate(),
            }}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
            "current-context": "local",
        })
        .to_string()
    }

    /// The cluster-admin kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// A cluster-admin client, for the runtime of the calling test.
    pub async fn client(&self) -> Client {
        client(&self.admin_kubeconfig()).await
    }

    /// A new namespace that no other test uses.
    pub async fn namespace(&self, prefix: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        let made = Api::all(self.client().await).create(&PostParams::default(), &namespace).await;
        made.unwrap_or_else(|error| panic!("namespace {name} cannot be created: {error}"));
        name
    }

    /// A kubeconfig with the permissions of a service account.
    pub async fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> PathBuf {
        self.kubeconfig_at(namespace, service_account, &self.url()).await
    }

    /// Kills a process and waits until it has exited.
    fn kill(&self, name: &str) {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let process = processes.iter().rev().find(|process| process.name() == name && process.is_alive());
        let process = process.unwrap_or_else(|| panic!("{name} is not running"));
        process.signal("KILL");
        process.wait_for_exit(BOOT);
    }

    /// Kills the API server and starts it again.
    pub fn restart_apiserver(&self) {
        self.kill("kube-apiserver");
        let apiserver = self.start_apiserver();
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(1, apiserver);
    }

    /// Kills etcd and starts it again with its data.
    pub fn restart_etcd(&self) {
        self.kill("etcd");
        // The common directory belongs to the first process, which stays in the list.
        let etcd = self.start_etcd(WorkDir::new("etcd"));
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let first = processes.len() - 1;
        processes.insert(first, etcd);
    }

    /// The address of the API server, for a proxy in front of it.
    pub fn address(&self) -> std::net::SocketAddr {
        (self.address, self.port).into()
    }

    /// The same as [`Self::kubeconfig_for`], through a port on which a proxy listens.
    pub async fn kubeconfig_through(&self, namespace: &str, service_account: &str, port: u16) -> PathBuf {
        self.kubeconfig_at(namespace, service_account, &format!("https://127.0.0.1:{port}")).await
    }

    /// The same as [`Self::kubeconfig_for`], through another URL.
    pub async fn kubeconfig_at(&self, namespace: &str, service_account: &str, url: &str) -> PathBuf {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(86_400), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let issued = accounts.create_token_request(service_account, &PostParams::default(), &request).await;
        let issued = issued.unwrap_or_else(|error| panic!("no token for {namespace}/{service_account}: {error}"));
        let token = issued.status.map(|status| status.token).unwrap_or_default();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.path(&format!("{namespace}-{service_account}-{number}.kubeconfig"));
        fs::write(&path, self.kubeconfig_by(&token, url))
            .unwrap_or_else(|error| panic!("the kubeconfig cannot be written: {error}"));
        path
    }

    /// Runs `kubectl` as cluster-admin and returns its output; panics if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {} failed: {errors}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `kubectl` as cluster-admin.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_with(arguments, &[format!("--kubeconfig={}", self.admin_kubeconfig().display())])
    }

    fn kubectl_with(&self, arguments: &[&str], connection: &[String]) -> Output {
        let mut command = Command::new(tools::install("kubernetes").join("kubectl"));
        command.args(connection).args(arguments).env("HOME", &self.dir).env_remove("KUBECONFIG");
        command.output().unwrap_or_else(|error| panic!("kubectl cannot be run: {error}"))
    }

    /// The calls that the API server has counted; a watch is counted when it begins.
    pub async fn calls(&self) -> Calls {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let text = self.client().await.request_text(request).await.expect("the API server's metrics");
        let mut calls = Calls::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let rest = line.split_once(&format!("{name}=\"")).map(|(_, rest)| rest).unwrap_or_default();
                rest.split('"').next().unwrap_or_default().to_owned()
            };
            let count: f64 = line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = count as u64;
            *calls.entry((label("verb"), label("resource"), label("subresource"))).or_default() += count;
        }
        calls
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // One after another, in order: if etcd exited first, the API server would wait for it.
        for process in self.processes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(process);
        }
    }
}

/// A client for a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = Kubeconfig::read_from(kubeconfig).unwrap_or_else(|error| panic!("{}: {error}", kubeconfig.display()));
    let config = kube::Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await;
    let config = config.unwrap_or_else(|error| panic!("{}: {error}", kubeconfig.display()));
    Client::try_from(config).unwrap_or_else(|error| panic!("no client: {error}"))
}
