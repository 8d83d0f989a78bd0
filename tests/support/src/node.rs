//! Real nodes on this machine: containerd, kubelet and kube-proxy, each node in namespaces of its own.
//!
//! They need root. The cluster is in a network namespace ([`in_network`]) that is connected to nothing, so its addresses
//! and ports are fixed, several checkouts can run at once, and nothing remains on the machine when it ends.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, WorkDir};
use crate::{ControlPlane, record, tools};

/// The address of the machine in the network of the nodes, on which the API server listens.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// Another address of the machine, for servers outside the cluster: the operator sends no requests to the API server's.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);
const BRIDGE: &str = "cluster";
/// Contains the pid of the process that made the network.
const MARKER: &str = "OAUTH_OPERATOR_TEST_NETWORK";
/// The prefix of directories and control groups, before this pid.
const PREFIX: &str = "oauth-operator-cluster-";
/// Exists once the body has run.
const DONE: &str = "done";
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Includes a cold start of containerd and kubelet on a busy machine.
const BOOT: Duration = Duration::from_secs(90);

/// Whether this process has a network of its own.
pub fn is_in_network() -> bool {
    std::env::var_os(MARKER).is_some()
}

/// Lets this process and its children resolve a name to [`OUTSIDE`], by a hosts file of their own mount namespace.
pub fn resolve_outside(name: &str) {
    let hosts = std::env::temp_dir().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{OUTSIDE} {name}\n")).expect("a hosts file");
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["--bind", &hosts.display().to_string(), "/etc/hosts"]);
}

/// Runs `body` in a new process with its own network, in which [`GATEWAY`] is an address of this machine. The calling
/// test continues only to report the result.
///
/// # Panics
///
/// Without root, which nodes need; it says so.
pub fn in_network(test: &str, body: impl FnOnce()) {
    if is_in_network() {
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "add", BRIDGE, "type", "bridge"]);
        for address in [GATEWAY, OUTSIDE] {
            run("ip", &["address", "add", &format!("{address}/24"), "dev", BRIDGE]);
        }
        run("ip", &["link", "set", BRIDGE, "up"]);
        body();
        fs::write(std::env::temp_dir().join(DONE), "").expect("a file");
        return;
    }
    let user = Command::new("id").arg("-u").output().expect("id");
    assert_eq!(user.stdout, b"0\n", "a node needs root (namespaces, mounts, cgroups): run this test as root");
    remove_leftovers();
    let program = std::env::current_exe().expect("this test binary");
    let work = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir_all(&work).expect("a directory");
    // Ends when this thread does, however that happens.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]).args(NAMESPACES).arg(program);
    command.args(["--exact", test, "--nocapture"]);
    // Pids, and the names of directories that contain them, are not unique across namespaces.
    command.env(MARKER, std::process::id().to_string()).env("TMPDIR", &work);
    let status = command.status().expect("setpriv is needed: sudo apt-get install util-linux");
    let is_done = work.join(DONE).exists();
    remove_leftovers_of(std::process::id());
    assert!(status.success(), "{test} failed in its own network; see its output above");
    assert!(is_done, "{test} is not the name of the calling test: nothing was run");
}

/// Removes what runs that were killed have left: their processes ended with them, but not directories and control groups.
fn remove_leftovers() {
    let found = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
    let names = found(std::env::temp_dir()).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = names.filter_map(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
    pids.filter(|pid| !Path::new(&format!("/proc/{pid}")).exists()).for_each(remove_leftovers_of);
}

fn remove_leftovers_of(pid: u32) {
    for number in 0..=u8::MAX {
        let name = format!("{PREFIX}{pid}-node-{number}");
        if cgroups(&name).next().is_none() && number > 2 {
            break;
        }
        remove_cgroups(&name);
    }
    let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("{PREFIX}{pid}")));
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", arguments.join(" "));
}

/// What the containers of a pod have used since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The highest memory use so far, in bytes, including the page cache.
    pub peak_memory: u64,
    /// The CPU time.
    pub cpu: Duration,
}

/// A node. When it is dropped, its containers are killed.
pub struct Node {
    name: String,
    dir: PathBuf,
    cgroup: String,
    process: Process,
}

impl Node {
    /// Starts a node, which pulls images of `registry` (`127.0.0.1:port`) and of Docker Hub from the same port of
    /// [`OUTSIDE`].
    pub fn start(control_plane: &ControlPlane, number: u8, registry: &str) -> Self {
        let (name, address) = (format!("node-{number}"), Ipv4Addr::new(10, 213, 0, 10 + number));
        let work = WorkDir::new(&name);
        let dir = work.path().to_owned();
        let binaries = tools::install("node");
        fs::copy(control_plane.admin_kubeconfig(), dir.join("kubeconfig")).expect("the kubeconfig");
        let cgroup = format!("{PREFIX}{}-{name}", std::env::var(MARKER).expect("called in `in_network`"));
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("unshare");
        command
            .args(NAMESPACES)
            .arg(tools::root().join("tests/support/node/start"))
            .arg(&dir)
            .args([&name, &address.to_string(), &GATEWAY.to_string(), &format!("10.244.{number}.0/24")])
            .args([registry, &OUTSIDE.to_string(), &cgroup])
            .env("PATH", path);
        let process = Process::start(&name, work, command);
        let child = first_child(&process);
        let interface = format!("to-{name}");
        run("ip", &["link", "add", &interface, "type", "veth", "peer", "name", "node", "netns", &child]);
        run("ip", &["link", "set", &interface, "master", BRIDGE, "up"]);
        let node = Self { name, dir, cgroup, process };
        let condition = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        node.process.wait_until("the node is ready", BOOT, || {
            control_plane.try_kubectl(&["get", "node", &node.name, "-o", condition]).stdout == b"True"
        });
        node
    }

    /// What a pod with this UID has used; `None` if it does not run on this node.
    pub fn usage(&self, uid: &str) -> Option<Usage> {
        let root = Path::new("/sys/fs/cgroup");
        // One hierarchy for each controller, or one for all. The class of the pod follows from its resources.
        let file = |controller: &str, name: &str| {
            [root.join(controller), root.to_owned()]
                .iter()
                .flat_map(|root| ["kubepods", "kubepods/burstable", "kubepods/besteffort"].map(|class| (root, class)))
                .find_map(|(root, class)| {
                    let group = root.join(&self.cgroup).join(class).join(format!("pod{uid}"));
                    fs::read_to_string(group.join(name)).ok()
                })
        };
        let peak = file("memory", "memory.max_usage_in_bytes").or_else(|| file("memory", "memory.peak"))?;
        let cpu = match file("cpuacct", "cpuacct.usage") {
            Some(nanoseconds) => Duration::from_nanos(nanoseconds.trim().parse().ok()?),
            None => {
                let stat = file("cpu", "cpu.stat")?;
                let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
                Duration::from_micros(line.trim().parse().ok()?)
            }
        };
        Some(Usage { peak_memory: peak.trim().parse().ok()?, cpu })
    }

    /// Adds the logs of the operator's pods to the record in which secrets are searched. The kubelet deletes them with the
    /// pods: call it before pods are deleted.
    pub fn record_logs(&self) {
        for pod in fs::read_dir(self.dir.join("pods")).into_iter().flatten().flatten() {
            if pod.file_name().to_string_lossy().starts_with("oauth-operator_") {
                for file in fs::read_dir(pod.path().join("operator")).into_iter().flatten().flatten() {
                    record::keep("logs", &fs::read_to_string(file.path()).unwrap_or_default());
                }
            }
        }
    }

    /// The end of the logs of its components, for a panic message.
    pub fn log_tail(&self) -> String {
        let tail = |name: &str| {
            let text = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("{} {name}:\n{}\n", self.name, lines[lines.len().saturating_sub(3)..].join("\n"))
        };
        ["containerd.log", "kubelet.log", "kube-proxy.log"].map(tail).concat()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.record_logs();
        self.process.signal("KILL");
        self.process.wait_for_exit(BOOT);
        remove_cgroups(&self.cgroup);
    }
}

/// The control groups of this name: one for each controller, or one for all.
fn cgroups(name: &str) -> impl Iterator<Item = PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = name.to_owned();
    controllers.chain([root.to_owned()]).map(move |path| path.join(&name)).filter(|path| path.is_dir())
}

/// Removes the empty control groups that the kubelet leaves.
fn remove_cgroups(name: &str) {
    for group in cgroups(name) {
        // Children first. A process that was just killed may still be listed for a moment; the next run removes it then.
        let _ = Command::new("find").arg(&group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).output();
    }
}

/// The pid of the process in the namespaces, which `unshare` starts.
fn first_child(process: &Process) -> String {
    let path = format!("/proc/{0}/task/{0}/children", process.pid());
    let mut child = String::new();
    process.wait_until("its first child exists", BOOT, || {
        fs::read_to_string(&path)
            .unwrap_or_default()
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .clone_into(&mut child);
        !child.is_empty()
    });
    child
}

/// Makes a server on loopback reachable for the nodes, at [`OUTSIDE`].
///
/// The threads end with the process.
pub fn forward(port: u16, server: SocketAddr) {
    let listener = TcpListener::bind((OUTSIDE, port)).unwrap_or_else(|error| panic!("{OUTSIDE}:{port}: {error}"));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(server) else { continue };
            for (mut from, mut to) in [(&client, &server), (&server, &client)]
                .map(|(from, to)| (from.try_clone().expect("a socket"), to.try_clone().expect("a socket")))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

/// The control plane of a cluster with nodes.
pub fn control_plane() -> ControlPlane {
    ControlPlane::start_for_nodes(IpAddr::V4(GATEWAY))
}
