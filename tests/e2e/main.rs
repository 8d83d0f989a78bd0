//! Guarantee: a stranger installs a release in five minutes, and no workload ever sees an expired token.
//!
//! On this machine, in a network of its own: a release is built and pushed to a registry, installed by Helm on two real
//! nodes, and used as docs/quickstart.md says. A workload pod calls a protected API with the mounted token during five
//! renewals, a rolling update, the deletion of the leader's pod and a drain. Then every command and manifest of the
//! documentation is executed on the same cluster.

mod api;
mod cluster;
mod docs;
mod install;
mod load;
mod operations;
mod release;
mod upgrade;

use std::time::Instant;

use test_support::{node, tools};

#[test]
fn a_release_is_installed_on_real_nodes_and_survives_operations() {
    if !node::is_in_network() {
        // These need the network of the machine; what follows has none.
        for tool in ["kubernetes", "node", "helm", "crane", "cosign", "buildah", "qemu", "jq", "keycloak"] {
            tools::install(tool);
        }
        release::build_binaries();
    }
    node::in_network("a_release_is_installed_on_real_nodes_and_survives_operations", || {
        let timeline = Timeline::new();
        let _registry = release::Registry::start();
        let command = release::publish_and_verify(&timeline);
        let cluster = cluster::Cluster::start(&timeline, &command);
        install::by_the_quickstart(&cluster, &timeline);
        operations::without_an_expired_token(&cluster, &timeline);
        load::stays_within_the_requests(&cluster, &timeline);
        docs::every_command_and_manifest_works(&cluster, &timeline);
        upgrade::from_the_previous_chart(&cluster, &timeline);
        timeline.print();
    });
}

/// What happened when, printed as it happens and once more at the end.
pub struct Timeline {
    started: Instant,
    lines: std::sync::Mutex<Vec<String>>,
}

impl Timeline {
    fn new() -> Self {
        Self { started: Instant::now(), lines: std::sync::Mutex::default() }
    }

    /// Adds a line.
    pub fn add(&self, what: &str) {
        let line = format!("{:>6.1} s  {what}", self.started.elapsed().as_secs_f64());
        println!("{line}");
        self.lines.lock().expect("the timeline").push(line);
    }

    fn print(&self) {
        println!("\nTimeline\n{}", self.lines.lock().expect("the timeline").join("\n"));
    }
}
