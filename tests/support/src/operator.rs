//! The operator binary, with the chart's permissions, on a control plane.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::control_plane::ControlPlane;
use crate::manifests::OPERATOR;
use crate::process::{Process, WorkDir};
use crate::record;

/// Includes the initial lists on a busy control plane.
const READY: Duration = Duration::from_secs(30);

/// A running operator. When dropped, it is killed.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    address: String,
    metrics_address: String,
}

impl Operator {
    /// Starts the operator for one namespace and waits until it is ready.
    pub async fn start(control_plane: &ControlPlane, namespace: &str) -> Self {
        let kubeconfig = kubeconfig(control_plane).await;
        Self::start_with(&kubeconfig, &["--namespace", namespace]).await
    }

    /// Starts the operator with arguments and a kubeconfig, and waits until it is ready.
    pub async fn start_with(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let operator = Self::start_unready(kubeconfig, arguments);
        operator.until_ready().await;
        operator
    }

    /// Waits until it is ready.
    pub async fn until_ready(&self) {
        let operator = self;
        let url = format!("{}/readyz", operator.address);
        let deadline = std::time::Instant::now() + READY;
        loop {
            match crate::http::get(&url) {
                (200, _) => return,
                (status, body) => {
                    let with_timeout = std::time::Instant::now() < deadline && operator.process.is_alive();
                    assert!(
                        with_timeout,
                        "the operator is not ready: {status} {body}\n{}",
                        operator.process.log_tail()
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts the operator and waits only until it listens.
    pub fn start_unready(kubeconfig: &Path, arguments: &[&str]) -> Self {
        Self::start_in(kubeconfig, arguments, &[])
    }

    /// The same as [`Self::start_unready`], with additional environment variables.
    pub fn start_in(kubeconfig: &Path, arguments: &[&str], environment: &[(String, String)]) -> Self {
        // Tests of a release build, such as the benchmarks, set the path of the binary; all others run the one that
        // cargo built for them.
        let binary = std::env::var_os("OAUTH_OPERATOR_BINARY").map_or_else(binary, PathBuf::from);
        let mut command = Command::new(binary);
        command
            .arg("run")
            .args(arguments)
            // As environment variables, so that a test can override each with a flag.
            .env("OAUTH_OPERATOR_LISTEN", "127.0.0.1:0")
            .env("OAUTH_OPERATOR_METRICS_LISTEN", "127.0.0.1:0")
            // Access to metrics has its own tests; all other tests just read them.
            .env("OAUTH_OPERATOR_METRICS_AUTH", "false")
            // Many tests use token lifetimes of seconds.
            .env("OAUTH_OPERATOR_MIN_RENEWAL_INTERVAL", "0s")
            // The endpoints of the tests are on loopback.
            .env("OAUTH_OPERATOR_ALLOW_HTTP", "true")
            .env("OAUTH_OPERATOR_ALLOW_CIDR", "127.0.0.0/8")
            .env("OAUTH_OPERATOR_ALLOW_ANONYMOUS_HOST", "127.0.0.1")
            .env("OAUTH_OPERATOR_LOG_FORMAT", "json")
            // Logs everything, so that the search for secrets (`tests/canary.rs`) covers it.
            .env("OAUTH_OPERATOR_LOG", "trace")
            .env("KUBECONFIG", kubeconfig)
            .envs(environment.iter().cloned())
            // The environment of the machine must not affect the binary under test.
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy");
        let process = Process::start("oauth-operator", WorkDir::new("oauth-operator"), command);
        let found = Mutex::new(None);
        process.wait_until("it listens", READY, || {
            let log = process.log();
            *found.lock().expect("one thread") =
                listening(&log, "listening").zip(listening(&log, "listening for metrics"));
            found.lock().expect("one thread").is_some()
        });
        let (address, metrics) = found.into_inner().expect("one thread").expect("found above");
        Self { process, address: format!("http://{address}"), metrics_address: format!("http://{metrics}") }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The URL of its health port, without a path.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of its metrics port, as host and port.
    pub fn metrics_address(&self) -> &str {
        self.metrics_address.trim_start_matches("http://")
    }

    /// Whether it is still running.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Its log.
    pub fn logs(&self) -> String {
        self.process.log()
    }

    /// Sends a GET request to its health server: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        crate::http::get(&format!("{}{path}", self.address))
    }

    /// Its metrics.
    pub fn metrics(&self) -> String {
        let metrics = crate::http::get(&format!("{}/metrics", self.metrics_address)).1;
        record::keep("metrics", &metrics);
        metrics
    }

    /// Its metrics in the format for this `Accept` header.
    pub fn metrics_in(&self, accept: &str) -> String {
        let url = format!("{}/metrics", self.metrics_address);
        let metrics = crate::http::get_with_header(&url, "Accept", accept).1;
        record::keep("metrics", &metrics);
        metrics
    }

    /// The value of one metric, by name and all its labels, in any order (`a="b",c="d"`).
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let sorted = |labels: &str| {
            let mut labels: Vec<String> = labels.split(',').map(ToOwned::to_owned).collect();
            labels.sort();
            labels
        };
        let wanted = sorted(labels);
        self.metrics().lines().find_map(|line| {
            let (found, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            let found = if found.is_empty() { "" } else { found.strip_prefix('{')?.strip_suffix('}')? };
            (sorted(found) == wanted).then(|| value.parse().ok())?
        })
    }

    /// The sum of a metric over all labels that contain `part`.
    pub fn sum(&self, name: &str, part: &str) -> f64 {
        let metrics = self.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(part));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The number of token requests, and of those that succeeded, at one moment.
    pub fn token_requests(&self) -> (f64, f64) {
        let metrics = self.metrics();
        let lines = || metrics.lines().filter(|line| line.starts_with("oauth_operator_token_requests_total{"));
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        let succeeded = lines().filter(|line| line.contains("outcome=\"Success\""));
        (lines().filter_map(value).sum(), succeeded.filter_map(value).sum())
    }

    /// Whether it reports that it is the leader.
    pub fn leads(&self) -> bool {
        self.get("/readyz").1 == "ok: leader"
    }

    /// Sends SIGTERM, waits until it has exited, and returns the exit code.
    pub fn terminate(&self, within: Duration) -> i32 {
        self.record();
        self.process.signal("TERM");
        self.process.wait_for_exit(within)
    }

    /// Waits until it has exited, without sending a signal.
    pub fn wait_for_exit(&self, within: Duration) {
        self.process.wait_for_exit(within);
    }

    /// Records its metrics, if recording is enabled and it is still running.
    fn record(&self) {
        if record::dir("metrics").is_some() && self.process.is_running() {
            self.metrics();
        }
    }

    /// Kills it immediately.
    pub fn kill(&self) {
        self.process.signal("KILL");
        self.process.wait_for_exit(Duration::from_secs(10));
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
    }

    /// CPU time in seconds, with a resolution of 10 ms.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }
}

/// The kubeconfig of the operator's own service account.
pub async fn kubeconfig(control_plane: &ControlPlane) -> PathBuf {
    control_plane.kubeconfig_for(OPERATOR, OPERATOR).await
}

/// The binary that cargo built for this test.
///
/// Cargo sets its path for the tests and benchmarks of its own package; for those of other packages it is found
/// relative to the directory of the running test.
pub fn binary() -> PathBuf {
    if let Some(built) = std::env::var_os("CARGO_BIN_EXE_oauth-operator") {
        return built.into();
    }
    let test = std::env::current_exe().expect("the path of the running test");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    profile.join("oauth-operator")
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.record();
    }
}

/// The address in the log line with this message.
fn listening(log: &str, message: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == message).then(|| line["address"].as_str().map(ToOwned::to_owned))?
    })
}
