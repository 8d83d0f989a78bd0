//! JWTs verified by another implementation: Node's `jose`, which oidc-provider uses.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::tools;

/// A JWT, and the public key as JWK; without one, the certificate in its header is used.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The JWT.
    pub jwt: String,
    /// The public key.
    pub key: Option<Value>,
}

/// Runs a script in Node, with an input, and returns its output.
pub fn node(script: &str, input: &str) -> String {
    let mut command = Command::new("node");
    command.args(["-e", script]);
    run(command, input)
}

fn run(mut command: Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("node starts");
    child.stdin.take().expect("standard input").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("node exits");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Verifies JWTs and returns their headers and claims; panics if one is not valid.
pub fn verify(all: &[Signed]) -> Vec<(Value, Value)> {
    let install = tools::install("oidc-provider");
    let input: Vec<Value> = all.iter().map(|Signed { jwt, key }| json!({"jwt": jwt, "key": key})).collect();
    let mut command = Command::new("node");
    command.arg(tools::root().join("tests/support/oidc-provider/verify.mjs"));
    command.env("PACKAGES", install.join("package.json"));
    let verified: Vec<Value> = serde_json::from_str(&run(command, &Value::from(input).to_string())).expect("JSON");
    verified.into_iter().map(|mut one| (one["header"].take(), one["payload"].take())).collect()
}
