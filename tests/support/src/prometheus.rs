//! A real Prometheus, and its promtool.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Process, WorkDir, free_port};
use crate::{http, tools};

/// A Prometheus that scrapes and evaluates every second. When dropped, it is killed.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: String,
}

impl Prometheus {
    /// Starts it with these jobs, and with these files of rules.
    pub fn start(jobs: &[&str], rules: &[String]) -> Self {
        let dir = WorkDir::new("prometheus");
        for (number, rules) in rules.iter().enumerate() {
            fs::write(dir.path().join(format!("rules-{number}.yaml")), rules).expect("a file of rules");
        }
        // As with the ServiceMonitor of the chart, the label namespace of a metric is kept.
        let scrape = |job: &&str| {
            let targets = [json!({"files": [format!("{job}.json")], "refresh_interval": "1s"})];
            json!({"job_name": job, "honor_labels": true, "file_sd_configs": targets})
        };
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules-*.yaml"],
            "scrape_configs": jobs.iter().map(scrape).collect::<Vec<_>>(),
        });
        fs::write(dir.path().join("prometheus.yaml"), config.to_string()).expect("a configuration");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(tools::install("prometheus").join("prometheus"));
        command
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", dir, command);
        let address = format!("http://{address}");
        process
            .wait_until("it is ready", Duration::from_secs(60), || http::get(&format!("{address}/-/ready")).0 == 200);
        Self { process, address }
    }

    /// Its URL, without a path.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets the only target of a job, an address as host and port. It runs in the namespace `oauth-operator`.
    pub fn scrape(&self, job: &str, address: &str) {
        let groups = json!([{"targets": [address], "labels": {"namespace": "oauth-operator"}}]);
        let new = self.process.dir().join(format!("{job}.new"));
        fs::write(&new, groups.to_string()).expect("a file of targets");
        fs::rename(&new, self.process.dir().join(format!("{job}.json"))).expect("a file of targets");
    }

    /// The series that an expression returns now.
    ///
    /// # Errors
    ///
    /// The response, if the expression is wrong.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let (status, body) = http::post_form(&format!("{}/api/v1/query", self.address), &[("query", expression)]);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        let series = response["data"]["result"].as_array().cloned();
        series.filter(|_| status == 200).ok_or(body)
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> Vec<Value> {
        let body = http::get(&format!("{}/api/v1/alerts", self.address)).1;
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        response["data"]["alerts"].as_array().cloned().unwrap_or_else(|| panic!("no alerts: {body}"))
    }
}

/// Runs the unit tests of rules in a file of the directory; panics with the output if one fails.
pub fn test_rules(dir: &Path, file: &str) {
    let promtool = tools::install("prometheus").join("promtool");
    let output = Command::new(promtool).args(["test", "rules", file]).current_dir(dir).output().expect("promtool");
    assert!(output.status.success(), "{file}: {}", tools::printed(&output));
}
