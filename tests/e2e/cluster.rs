//! The cluster and what is outside of it: two nodes, a registry, an identity provider and a protected API.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::keycloak::Keycloak;
use test_support::keys::LOGIN_HOST;
use test_support::node::{self, Node, OUTSIDE};
use test_support::process::WorkDir;
use test_support::{ControlPlane, tools};

use crate::Timeline;
use crate::api::Api;
use crate::release::Registry;

/// The port of the protected API.
pub const API_PORT: u16 = 8080;

/// A running cluster. The fields are in the order of termination.
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The control plane.
    pub control_plane: ControlPlane,
    /// The protected API.
    pub api: Api,
    /// Commands of a user: `helm` with the registry and the values of this environment.
    work: WorkDir,
    _keycloak: Keycloak,
}

impl Cluster {
    /// Starts everything, except the operator. Users have this binary of it as a command.
    pub fn start(timeline: &Timeline, command: &[u8]) -> Self {
        push_images();
        node::resolve_outside(LOGIN_HOST);
        node::forward(port_of(Registry::NAME), Registry::NAME.parse().expect("an address"));
        let keycloak = Keycloak::start(None);
        node::forward(443, keycloak.secure_address());
        let issuer = format!("https://{LOGIN_HOST}/realms/example");
        let api = Api::start(format!("{issuer}/protocol/openid-connect/token/introspect"));
        node::forward(API_PORT, api.address());
        timeline.add("outside the cluster: a registry, Keycloak at https://login.example.com, a protected API");
        let control_plane = node::control_plane();
        let nodes = [1, 2].map(|number| Node::start(&control_plane, number, Registry::NAME)).into();
        timeline.add("a control plane, and two nodes that are Ready");
        let work = WorkDir::new("user");
        let cluster = Self { nodes, control_plane, api, work, _keycloak: keycloak };
        cluster.make_commands(command);
        cluster
    }

    /// The values of this environment: a private CA, and a name that no DNS server knows.
    fn make_commands(&self, command: &[u8]) {
        let path = |name: &str| self.work.path().join(name);
        let mut values = json!({
            "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/etc/company-ca/ca.pem"}],
            "extraVolumes": [{"name": "company-ca", "configMap": {"name": "company-ca"}}],
            "extraVolumeMounts": [{"name": "company-ca", "mountPath": "/etc/company-ca", "readOnly": true}],
        });
        // For a chart that has no `hostAliases`.
        fs::write(path("private-ca.json"), values.to_string()).expect("the values");
        values["hostAliases"] = json!([{"ip": OUTSIDE.to_string(), "hostnames": [LOGIN_HOST]}]);
        fs::write(path("values.json"), values.to_string()).expect("the values");
        fs::write(path("ca.pem"), &self._keycloak.ca.pem).expect("the CA");
        let helm = tools::install("helm").join("helm");
        let script = format!(
            "#!/bin/sh\ncase $1 in install|upgrade) set -- \"$@\" --plain-http --values {} ;; esac\nexec {} \"$@\"\n",
            path("values.json").display(),
            helm.display()
        );
        fs::create_dir(path("bin")).expect("a directory");
        for (name, content) in [("bin/helm", script.as_bytes()), ("bin/oauth-operator", command)] {
            fs::write(path(name), content).expect("a command");
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).expect("executable");
        }
    }

    /// The CA of the identity provider, as a file.
    pub fn ca_file(&self) -> PathBuf {
        self.work.path().join("ca.pem")
    }

    /// The values for a private CA, as a file.
    pub fn private_ca_values(&self) -> PathBuf {
        self.work.path().join("private-ca.json")
    }

    /// Runs a script as a user with `kubectl`, `helm` and `crane` would, in the root of the project.
    pub fn run(&self, script: &str) -> Output {
        let directories = ["kubernetes", "crane", "jq"].map(|name| tools::install(name).display().to_string());
        let own = self.work.path().join("bin").display().to_string();
        let path = format!("{own}:{}:{}", directories.join(":"), std::env::var("PATH").unwrap_or_default());
        if ["uninstall", "upgrade", "rollout", "delete", "drain"].iter().any(|word| script.contains(word)) {
            self.nodes.iter().for_each(Node::record_logs);
        }
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(tools::root());
        tools::remove_cargo_variables(&mut command);
        command.env("PATH", path).env("KUBECONFIG", self.control_plane.admin_kubeconfig());
        command.env("HOME", self.work.path()).envs(toolchain());
        command.env("SSL_CERT_FILE", self.ca_file()).env("CARGO_NET_OFFLINE", "true");
        command.output().expect("bash")
    }

    /// The same; panics if it fails.
    pub fn succeed(&self, script: &str) -> String {
        let output = self.run(script);
        let text = tools::printed(&output);
        assert!(output.status.success(), "{script}\n{text}\n{}", self.state());
        text
    }

    /// Objects of the API, as JSON.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let printed = self.control_plane.kubectl(&[&["get", "--output=json"], arguments].concat());
        serde_json::from_str(&printed).expect("JSON")
    }

    /// What helps to find the cause of a failure.
    pub fn state(&self) -> String {
        let show = |arguments: &[&str]| {
            String::from_utf8_lossy(&self.control_plane.try_kubectl(arguments).stdout).into_owned()
        };
        let pods = show(&["get", "pods", "--all-namespaces", "--output=wide"]);
        let integrations =
            show(&["get", "oauthintegrations", "--all-namespaces", "--output=jsonpath={.items[*].status}"]);
        let events = show(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
        let events: Vec<&str> = events.lines().collect();
        let nodes: String = self.nodes.iter().map(Node::log_tail).collect();
        format!("{pods}\n{integrations}\n{}\n{nodes}", events[events.len().saturating_sub(20)..].join("\n"))
    }
}

/// `HOME` of a user has no toolchain: these variables name the real one.
fn toolchain() -> Vec<(&'static str, String)> {
    let home = std::env::var("HOME").unwrap_or_default();
    let default = |name: &str, directory: &str| std::env::var(name).unwrap_or_else(|_| format!("{home}/{directory}"));
    vec![
        ("CARGO_HOME", default("CARGO_HOME", ".cargo")),
        ("RUSTUP_HOME", default("RUSTUP_HOME", ".rustup")),
        ("XDG_CACHE_HOME", default("XDG_CACHE_HOME", ".cache")),
    ]
}

/// The port of `host:port`.
pub fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// Images that no release contains: the pause image of the nodes, and busybox under the name that it has on Docker Hub.
fn push_images() {
    let work = tempfile::TempDir::new().expect("a directory");
    let script = r#"
        mkdir bin
        cp "$(command -v busybox)" bin/busybox
        for name in sh cat cut sleep wget wc; do ln -s busybox "bin/$name"; done
        tar --owner=0 --group=0 --numeric-owner -cf layer.tar bin
        push() { crane append --oci-empty-base --platform linux/amd64 -f layer.tar -t "$1" && crane mutate "$1" -t "$1" --set-platform linux/amd64 "${@:2}"; }
        push "$REGISTRY/library/busybox:stable" --cmd /bin/sh
        push "$REGISTRY/pause:1" --entrypoint=/bin/sleep --cmd=1000000
    "#;
    let mut command = Command::new("bash");
    let path = format!("{}:{}", tools::install("crane").display(), std::env::var("PATH").unwrap_or_default());
    command.args(["-euo", "pipefail", "-c", script]).current_dir(work.path());
    let output = command.env("PATH", path).env("REGISTRY", Registry::NAME).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The time for something that needs a few seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
