//! What the chart installs by default.

use std::time::Duration;

use serde_json::Value;
use test_support::manifests::helm_template;

/// The arguments with which the chart starts the operator.
pub struct Chart {
    pub arguments: Vec<String>,
    /// In bytes.
    pub memory_limit: u64,
    /// The timeout of the liveness probe.
    pub probe_timeout: Duration,
}

impl Chart {
    /// The chart with its default values.
    pub fn rendered() -> Self {
        let rendered = helm_template(&[]);
        let documents = rendered.split("\n---").filter_map(|text| serde_saphyr::from_str::<Value>(text).ok());
        let deployment = documents.into_iter().find(|document| document["kind"] == "Deployment").expect("a Deployment");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let limit = container["resources"]["limits"]["memory"].as_str().expect("a memory limit");
        let mebibytes: u64 = limit.strip_suffix("Mi").and_then(|number| number.parse().ok()).expect("a limit in Mi");
        let timeout = container["livenessProbe"]["timeoutSeconds"].as_u64().expect("a timeout of the probe");
        let arguments = container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str);
        Self {
            // The first argument is the command; addresses are replaced by loopback addresses with a free port.
            arguments: arguments
                .skip(1)
                .map(|argument| match argument.split_once("=0.0.0.0:") {
                    Some((flag, _)) => format!("{flag}=127.0.0.1:0"),
                    None => argument.to_owned(),
                })
                .collect(),
            memory_limit: mebibytes << 20,
            probe_timeout: Duration::from_secs(timeout),
        }
    }
}
