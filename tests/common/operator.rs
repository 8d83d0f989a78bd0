//! The operator itself: the binary, with the chart's rights, on a control plane.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::control_plane::ControlPlane;
use super::manifests::OPERATOR;
use super::process::{Process, WorkDir};
use super::record;

/// The first lists of a busy control plane included.
const READY: Duration = Duration::from_secs(30);

/// A running operator. Dropped: ended.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    address: String,
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
            match super::http::get(&url) {
                (200, _) => return,
                (status, why) => {
                    let in_time = std::time::Instant::now() < deadline && operator.process.is_alive();
                    assert!(in_time, "the operator is not ready: {status} {why}\n{}", operator.process.log_tail());
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts the operator and waits only until it listens.
    pub fn start_unready(kubeconfig: &Path, arguments: &[&str]) -> Self {
        Self::start_in(kubeconfig, arguments, &[])
    }

    /// The same, with more in its environment.
    pub fn start_in(kubeconfig: &Path, arguments: &[&str], environment: &[(String, String)]) -> Self {
        // The tests of a release build, such as the benchmarks, name it; all others run what cargo built for them.
        let binary = std::env::var("OAUTH_OPERATOR_BINARY").unwrap_or_else(|_| binary().to_owned());
        let mut command = Command::new(binary);
        command
            .arg("run")
            .args(arguments)
            // By environment, so that a test may give any of them as a flag.
            .env("OAUTH_OPERATOR_LISTEN", "127.0.0.1:0")
            // The endpoints of the tests are on loopback.
            .env("OAUTH_OPERATOR_ALLOW_HTTP", "true")
            .env("OAUTH_OPERATOR_ALLOW_CIDR", "127.0.0.0/8")
            .env("OAUTH_OPERATOR_LOG_FORMAT", "json")
            .env("OAUTH_OPERATOR_LOG", "oauth_operator=debug,info")
            .env("KUBECONFIG", kubeconfig)
            .envs(environment.iter().cloned())
            // What the machine has set for people must not reach the operator under test.
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy");
        let process = Process::start("oauth-operator", WorkDir::new("oauth-operator"), command);
        let address = Mutex::new(None);
        process.wait_until("it listens", READY, || {
            let found = listening(&process.log());
            *address.lock().expect("one thread") = found;
            address.lock().expect("one thread").is_some()
        });
        let address = address.into_inner().expect("one thread").expect("found above");
        Self { process, address: format!("http://{address}") }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All that it has logged.
    pub fn logs(&self) -> String {
        self.process.log()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        super::http::get(&format!("{}{path}", self.address))
    }

    /// What it has counted.
    pub fn metrics(&self) -> String {
        let metrics = self.get("/metrics").1;
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

    /// Whether it says that it leads.
    pub fn leads(&self) -> bool {
        self.get("/readyz").1 == "ok: leading"
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&self, within: Duration) -> i32 {
        self.record();
        self.process.signal("TERM");
        self.process.wait_for_end(within)
    }

    /// Waits until it has died by itself.
    pub fn wait_for_death(&self, within: Duration) {
        self.process.wait_for_end(within);
    }

    /// Keeps what it has counted, where a record is made and it is there to tell.
    fn record(&self) {
        if record::folder("metrics").is_some() && self.process.is_running() {
            self.metrics();
        }
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill(&self) {
        self.process.signal("KILL");
        self.process.wait_for_end(Duration::from_secs(10));
    }

    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
    }

    /// Seconds of processor time, in hundredths.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }
}

/// The kubeconfig of the operator's own service account.
pub async fn kubeconfig(control_plane: &ControlPlane) -> std::path::PathBuf {
    control_plane.kubeconfig_for(OPERATOR, OPERATOR).await
}

/// The binary that cargo built for this test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_oauth-operator")
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.record();
    }
}

fn listening(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "listening").then(|| line["address"].as_str().map(ToOwned::to_owned))?
    })
}
