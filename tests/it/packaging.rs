//! Guarantee: the chart can be installed with real Helm and grants exactly the required permissions, and the image
//! contains a binary that runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::{OPERATOR, helm_template, temporary_file, wait_until_established};
use test_support::process::{Process, WorkDir, free_port};
use test_support::tools::{self, printed};
use test_support::world::client_credentials;
use test_support::{ControlPlane, Operator, World, http};

fn helm(control_plane: &ControlPlane, arguments: &[&str]) -> Output {
    Command::new(tools::install("helm").join("helm"))
        .args(arguments)
        .env("KUBECONFIG", control_plane.admin_kubeconfig())
        .output()
        .unwrap_or_else(|error| panic!("helm cannot be run: {error}"))
}

fn chart() -> String {
    tools::root().join("charts/oauth-operator").display().to_string()
}

#[test]
fn helm_lint_reports_nothing() {
    let output = Command::new(tools::install("helm").join("helm")).args(["lint", "--strict", &chart()]).output();
    let output = output.expect("helm");
    assert!(output.status.success(), "{}", printed(&output));
}

fn object(control_plane: &ControlPlane, arguments: &[&str]) -> Value {
    let printed = control_plane.kubectl(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&printed).expect("JSON")
}

#[test]
fn every_base_image_is_pinned_by_its_digest() {
    let dockerfile = std::fs::read_to_string(tools::root().join("Dockerfile")).expect("the Dockerfile");
    let bases: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
        .filter_map(|line| line.split_whitespace().find(|word| !word.starts_with("--")))
        .collect();
    assert!(bases.len() >= 2, "{bases:?}");
    for base in bases {
        let digest = base.split_once("@sha256:").map_or("", |(_, digest)| digest);
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(base == "scratch" || is_digest, "{base} is not pinned by its digest");
    }
}

#[test]
fn egress_values_are_passed_to_the_operator() {
    let rendered = helm_template(&[
        "--set",
        "egress.allowAnonymousHosts={a.example,*.b.example}",
        "--set",
        "egress.denyPrivate=true",
    ]);
    for argument in ["--allow-anonymous-host=a.example", "--allow-anonymous-host=*.b.example", "--deny-private"] {
        assert!(rendered.contains(argument), "{argument}");
    }
    let rendered = helm_template(&[]);
    assert!(!rendered.contains("--allow-anonymous-host") && !rendered.contains("--deny-private"));
}

/// All permissions of a role, one line per resource.
fn rules(role: &Value) -> Vec<String> {
    let list = |value: &Value| {
        let mut all: Vec<String> =
            value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(ToOwned::to_owned)).collect();
        all.sort();
        all.join(",")
    };
    let mut rules: Vec<String> = role["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| format!("{}/{}: {}", list(&rule["apiGroups"]), list(&rule["resources"]), list(&rule["verbs"])))
        .collect();
    rules.sort();
    rules
}

const RULES: [&str; 8] = [
    "/configmaps: get,list,watch",
    "/secrets: create,delete,get,list,patch,watch",
    "events.k8s.io/events: create",
    "oauth.evolutionx.io/oauthintegrations/status: patch",
    "oauth.evolutionx.io/oauthintegrations: get,patch",
    "oauth.evolutionx.io/oauthintegrations: list,watch",
    "oauth.evolutionx.io/oauthproviders/status: patch",
    "oauth.evolutionx.io/oauthproviders: get,list,watch",
];
/// The rules for cluster-scoped providers.
const CLUSTER_RULES: [&str; 3] = [
    "/namespaces: list,watch",
    "oauth.evolutionx.io/clusteroauthproviders/status: patch",
    "oauth.evolutionx.io/clusteroauthproviders: get,list,watch",
];

/// The arguments of the container as rendered by the chart, except the address, because the port is chosen at run time.
fn arguments(deployment: &Value) -> Vec<String> {
    let all = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("arguments").clone();
    let all = all.iter().filter_map(Value::as_str).filter(|argument| !argument.contains("listen="));
    // The harness adds `run`.
    all.filter(|argument| *argument != "run").map(ToOwned::to_owned).collect()
}

async fn issue(control_plane: &ControlPlane, namespace: &str, arguments: &[String]) -> World {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let config = control_plane.kubeconfig_for(OPERATOR, OPERATOR).await;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let operator = Operator::start_with(&config, &arguments).await;
    let world =
        World { client: control_plane.client().await, namespace: namespace.to_owned(), operator, kubeconfig: config };
    world.credentials().await;
    world.pin("credentials", &endpoint.url()).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world.event("it", "Issued").await;
    let log = world.operator.logs().to_lowercase();
    assert!(!log.contains("forbidden"), "a permission is missing: {log}");
    world
}

#[tokio::test]
async fn install_upgrade_and_uninstall_with_real_helm() {
    let control_plane = ControlPlane::start();
    control_plane.kubectl(&["create", "namespace", OPERATOR]);
    control_plane.kubectl(&["label", "namespace", OPERATOR, "pod-security.kubernetes.io/enforce=restricted"]);
    let installed = helm(&control_plane, &["install", OPERATOR, &chart(), "--namespace", OPERATOR]);
    assert!(installed.status.success(), "{}", printed(&installed));
    let crd = "oauthintegrations.oauth.evolutionx.io";
    wait_until_established(&control_plane, crd);
    let deployment = object(&control_plane, &["get", "deployment", OPERATOR, "-n", OPERATOR]);
    for object in ["serviceaccount/oauth-operator", "service/oauth-operator-metrics"] {
        control_plane.kubectl(&["get", object, "-n", OPERATOR]);
    }
    let mut expected = [&RULES[..], &CLUSTER_RULES[..]].concat();
    expected.sort_unstable();
    assert_eq!(rules(&object(&control_plane, &["get", "clusterrole", OPERATOR])), expected);
    admitted(&control_plane, &deployment);

    control_plane.kubectl(&["create", "namespace", "erp"]);
    let world = issue(&control_plane, "erp", &arguments(&deployment)).await;

    let upgraded =
        helm(&control_plane, &["upgrade", OPERATOR, &chart(), "--namespace", OPERATOR, "--set", "log.filter=debug"]);
    assert!(upgraded.status.success(), "{}", printed(&upgraded));
    let deployment = object(&control_plane, &["get", "deployment", OPERATOR, "-n", OPERATOR]);
    assert!(arguments(&deployment).contains(&"--log=debug".to_owned()));

    let removed = helm(&control_plane, &["uninstall", OPERATOR, "--namespace", OPERATOR]);
    assert!(removed.status.success(), "{}", printed(&removed));
    control_plane.kubectl(&["get", "crd", crd]);
    assert!(world.values("it").await.is_some(), "tokens outlive the operator");
}

/// Checks that a pod, as the ReplicaSet of the Deployment would create it, is admitted in a namespace with the
/// restricted Pod Security Standard.
pub fn admitted(control_plane: &ControlPlane, deployment: &Value) {
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("operator");
    let file = temporary_file(&pod.to_string());
    let create = ["create", "--dry-run=server", "--validate=strict", "-n", OPERATOR, "-f"];
    control_plane.kubectl(&[&create[..], &[&file.path().display().to_string()]].concat());
}

#[tokio::test]
async fn watching_some_namespaces_does_not_require_a_cluster_role() {
    let control_plane = ControlPlane::start();
    for namespace in [OPERATOR, "erp", "evox"] {
        control_plane.kubectl(&["create", "namespace", namespace]);
    }
    // Authentication of metrics clients would require a ClusterRole, because reviews are cluster-scoped.
    let values = [
        ["--set", "watchNamespaces={erp,evox}"],
        ["--set", "rbac.aggregateRoles=false"],
        ["--set", "metrics.auth.enabled=false"],
    ]
    .concat();
    let rendered = helm_template(&values);
    assert!(!rendered.contains("kind: ClusterRole"), "{rendered}");
    let installed =
        helm(&control_plane, &[&["install", OPERATOR, &chart(), "--namespace", OPERATOR], &values[..]].concat());
    assert!(installed.status.success(), "{}", printed(&installed));
    wait_until_established(&control_plane, "oauthintegrations.oauth.evolutionx.io");
    for namespace in ["erp", "evox"] {
        assert_eq!(rules(&object(&control_plane, &["get", "role", OPERATOR, "-n", namespace])), RULES);
    }
    let deployment = object(&control_plane, &["get", "deployment", OPERATOR, "-n", OPERATOR]);
    issue(&control_plane, "evox", &arguments(&deployment)).await;
}

/// Builds the image and unpacks its archive: its metadata and its files.
fn image() -> (Value, WorkDir) {
    tools::install("buildah");
    let mut build = Command::new(tools::root().join("hack/image"));
    tools::remove_cargo_variables(&mut build);
    let built = build.output().expect("hack/image");
    assert!(built.status.success(), "{}", printed(&built));
    let work = WorkDir::new("image");
    let archive = tools::root().join("target/oauth-operator-image.tar");
    untar(&archive, work.path());
    let manifest: Value = read_json(&work.path().join("manifest.json"));
    let config = read_json(&work.path().join(manifest[0]["Config"].as_str().expect("a config")));
    let rootfs = work.path().join("rootfs");
    fs::create_dir(&rootfs).expect("a directory");
    for layer in manifest[0]["Layers"].as_array().expect("layers") {
        untar(&work.path().join(layer.as_str().expect("a layer")), &rootfs);
    }
    (config, work)
}

fn untar(archive: &Path, into: &Path) {
    let output = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).output().expect("tar");
    assert!(output.status.success(), "{}", printed(&output));
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file of the image")).expect("JSON")
}

/// Adds what a container runtime provides: random devices, and a kubeconfig with its certificate.
fn prepare_rootfs(control_plane: &ControlPlane, kubeconfig: &Path, rootfs: &Path) {
    fs::create_dir_all(rootfs.join("dev")).expect("/dev");
    for (name, minor) in [("random", "8"), ("urandom", "9")] {
        let device = rootfs.join("dev").join(name);
        let made = Command::new("mknod").arg("-m666").arg(device).args(["c", "1", minor]).output();
        assert!(made.is_ok_and(|made| made.status.success()), "mknod needs root: run this test as root");
    }
    let config = read_json(kubeconfig);
    let ca_file = PathBuf::from(config["clusters"][0]["cluster"]["certificate-authority"].as_str().expect("a path"));
    let mut config = config;
    config["clusters"][0]["cluster"]["certificate-authority"] = json!("/ca.crt");
    fs::copy(ca_file, rootfs.join("ca.crt")).expect("the certificate");
    fs::write(rootfs.join("kubeconfig"), config.to_string()).expect("the kubeconfig");
    for name in ["ca.crt", "kubeconfig"] {
        fs::set_permissions(rootfs.join(name), fs::Permissions::from_mode(0o444)).expect("readable");
    }
    assert!(control_plane.admin_kubeconfig().exists());
}

/// Copies the build context of `docker build` according to .dockerignore, which excludes everything except the lines
/// with an exclamation mark.
#[test]
fn cargo_can_load_the_docker_build_context() {
    let context = tempfile::TempDir::new().expect("a directory");
    let ignore = fs::read_to_string(tools::root().join(".dockerignore")).expect("the .dockerignore");
    assert!(ignore.lines().any(|line| line == "*"), "not everything is excluded by default");
    for path in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        let to = context.path().join(path);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        let copied = Command::new("cp").arg("-r").arg(tools::root().join(path)).arg(&to).output().expect("cp");
        assert!(copied.status.success(), "{}", printed(&copied));
    }
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(context.path());
    let metadata = metadata.output().expect("cargo metadata");
    assert!(metadata.status.success(), "{}", printed(&metadata));
}

/// The crates that an SBOM lists, each with its version, its license and its hash on crates.io.
fn listed(sbom: &Path) -> BTreeSet<String> {
    let sbom = read_json(sbom);
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    let component = &sbom["metadata"]["component"];
    assert_eq!(
        (&component["name"], &component["version"]),
        (&json!("oauth-operator"), &json!(env!("CARGO_PKG_VERSION")))
    );
    let crates = sbom["components"].as_array().expect("components");
    let name = |component: &Value| {
        let text = |name: &str| component[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(component["hashes"][0]["alg"], "SHA-256", "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        format!("{} v{}", text("name"), text("version"))
    };
    crates.iter().map(name).collect()
}

/// The crates that cargo compiles into the binary, or runs to generate its code.
fn compiled_in() -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--locked",
        "--package",
        "oauth-operator",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let tree = tree.current_dir(tools::root()).output().expect("cargo tree");
    assert!(tree.status.success(), "{}", printed(&tree));
    let own = format!("oauth-operator v{}", env!("CARGO_PKG_VERSION"));
    // After the version, cargo marks crates that generate code.
    let name = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    String::from_utf8_lossy(&tree.stdout).lines().map(name).filter(|name| *name != own).collect()
}

#[tokio::test]
async fn the_image_contains_only_its_sbom_and_a_binary_that_runs_unprivileged() {
    let (config, work) = image();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/oauth-operator"]));
    let rootfs = work.path().join("rootfs");
    let mut files: Vec<_> =
        fs::read_dir(&rootfs).expect("the files").map(|entry| entry.expect("a file").file_name()).collect();
    files.sort();
    assert_eq!(files, ["oauth-operator", "sbom.cdx.json"]);
    let (listed, compiled_in) = (listed(&rootfs.join("sbom.cdx.json")), compiled_in());
    assert_eq!(
        compiled_in.difference(&listed).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "crates are missing in the SBOM"
    );
    // The SBOM contains these although nothing enables them: jiff lists `jiff-static` to pin its version, behind a
    // condition that is never met, and yasna's feature `std` enables `bit-vec?/std`, which applies only if `bit-vec` is
    // enabled.
    let never_enabled = ["jiff-static ", "bit-vec "];
    let is_enabled = |name: &&String| !never_enabled.iter().any(|never| name.starts_with(never));
    let more: Vec<_> = listed.difference(&compiled_in).filter(is_enabled).collect();
    assert_eq!(more, Vec::<&String>::new(), "the SBOM lists crates that are not compiled in");

    let control_plane = ControlPlane::shared();
    let kubeconfig = control_plane.kubeconfig_for(OPERATOR, OPERATOR).await;
    prepare_rootfs(control_plane, &kubeconfig, &rootfs);
    let port = free_port();
    let mut command = Command::new("chroot");
    command.arg("--userspec=65532:65532").arg(&rootfs).args(["/oauth-operator", "run", "--listen"]);
    command
        .arg(format!("127.0.0.1:{port}"))
        .arg("--metrics-listen=127.0.0.1:0")
        .env("KUBECONFIG", "/kubeconfig")
        .env_clear()
        .env("KUBECONFIG", "/kubeconfig");
    // The watchdog's shell needs its own tools.
    command.env("PATH", std::env::var("PATH").unwrap_or_default());
    let operator = Process::start("image", work, command);
    let url = format!("http://127.0.0.1:{port}/readyz");
    operator.wait_until("it is ready", Duration::from_secs(30), || http::get(&url).0 == 200);
    operator.signal("TERM");
    assert_eq!(operator.wait_for_exit(Duration::from_secs(20)), 0, "{}", operator.log());
}
