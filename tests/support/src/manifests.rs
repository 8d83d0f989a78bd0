//! Manifests that are applied to a control plane: the CRDs, the chart's permissions, the examples.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::ControlPlane;
use crate::tools;

/// The timeout for the CRD to be established.
const ESTABLISHED: Duration = Duration::from_secs(60);
/// The namespace of the operator and the name of its service account, as in the chart for a release of this name.
pub const OPERATOR: &str = "oauth-operator";

/// Applies the CRDs of the repository.
pub fn install_crd(control_plane: &ControlPlane) {
    let files = tools::root().join("crds");
    control_plane.kubectl(&["apply", "--server-side", "-f", &files.display().to_string()]);
    for name in ["oauthintegrations", "oauthproviders", "clusteroauthproviders"] {
        wait_until_established(control_plane, &format!("{name}.oauth.evolutionx.io"));
    }
}

/// Waits until objects of a CRD can be created. `kubectl wait` fails if the CRD has no conditions yet.
pub fn wait_until_established(control_plane: &ControlPlane, name: &str) {
    let established = r#"jsonpath={.status.conditions[?(@.type=="Established")].status}"#;
    let get = ["get", "crd", name, "-o", established];
    let deadline = Instant::now() + ESTABLISHED;
    while control_plane.try_kubectl(&get).stdout != b"True" {
        assert!(Instant::now() < deadline, "CRD {name} is not established");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Applies only the chart's service account, roles and bindings: operators in tests have exactly these permissions.
pub fn install_permissions(control_plane: &ControlPlane) {
    control_plane.kubectl(&["create", "namespace", OPERATOR]);
    apply(control_plane, OPERATOR, &permissions(&helm_template(&[])));
}

/// Applies the chart's admission policy, for all namespaces.
pub fn install_admission_policy(control_plane: &ControlPlane) {
    apply_admission_policy(control_plane, &[]);
}

/// Applies the chart's admission policy for these namespaces, like a release that watches only them, with every restriction.
pub fn install_admission_policy_for(control_plane: &ControlPlane, namespaces: &[&str]) {
    let watched = format!("watchNamespaces={{{}}}", namespaces.join(","));
    apply_admission_policy(control_plane, &["--set", &watched, "--set", "admissionPolicy.forbidSecretsInQuery=true"]);
}

/// Applies the chart's admission policy, rendered with these arguments of helm.
pub fn apply_admission_policy(control_plane: &ControlPlane, arguments: &[&str]) {
    let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
    apply(control_plane, OPERATOR, &of_kinds(&helm_template(arguments), &kinds));
}

/// Applies the chart's permissions, including the one to request tokens of ServiceAccounts.
///
/// One test at a time: concurrent applies of the same new object would conflict.
pub fn install_permissions_with_service_accounts(control_plane: &ControlPlane) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    apply(control_plane, OPERATOR, &permissions(&helm_template(&["--set", "serviceAccountTokens.enabled=true"])));
}

/// Applies all permissions that the operator can have, also those to restart workloads.
pub fn install_all_permissions(control_plane: &ControlPlane) {
    let all = ["--set", "serviceAccountTokens.enabled=true", "--set", "restarts.enabled=true"];
    apply(control_plane, OPERATOR, &permissions(&helm_template(&all)));
}

/// Applies the permissions of a release that watches only its own namespace.
pub fn install_permissions_in(control_plane: &ControlPlane, namespace: &str) {
    let own = format!("watchNamespaces={{{namespace}}}");
    install_permissions_with(control_plane, namespace, &["--set", &own]);
}

/// The same, including those to restart workloads.
pub fn install_permissions_with_restarts_in(control_plane: &ControlPlane, namespace: &str) {
    let own = format!("watchNamespaces={{{namespace}}}");
    install_permissions_with(control_plane, namespace, &["--set", &own, "--set", "restarts.enabled=true"]);
}

/// Applies the permissions of a release in a namespace with these arguments of Helm.
pub fn install_permissions_with(control_plane: &ControlPlane, namespace: &str, arguments: &[&str]) {
    let own = ["--namespace", namespace, "--set", "rbac.aggregateRoles=false"];
    // The objects of several namespaces.
    let manifest = temporary_file(&permissions(&helm_template(&[&own[..], arguments].concat())));
    control_plane.kubectl(&["apply", "--filename", &manifest.path().display().to_string()]);
}

fn permissions(rendered: &str) -> String {
    of_kinds(rendered, &["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"])
}

/// The rendered documents of these kinds.
fn of_kinds(rendered: &str, kinds: &[&str]) -> String {
    rendered
        .split("\n---")
        .filter(|document| {
            let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
            kinds.contains(&kind.trim())
        })
        .collect::<Vec<_>>()
        .join("\n---")
}

/// The chart, rendered.
pub fn helm_template(arguments: &[&str]) -> String {
    let output = Command::new(tools::install("helm").join("helm"))
        .args(["template", OPERATOR])
        .arg(tools::root().join("charts/oauth-operator"))
        .args(["--namespace", OPERATOR])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("helm cannot be run: {error}"));
    assert!(output.status.success(), "helm template failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Applies manifests given as text.
pub fn apply(control_plane: &ControlPlane, namespace: &str, text: &str) {
    let output = try_apply(control_plane, namespace, text);
    assert!(output.0, "kubectl apply failed: {}", output.1);
}

/// A file with this text, for a program that reads files; it is deleted when it is dropped.
pub fn temporary_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("a temporary file is written");
    file
}

/// Applies manifests given as text, and returns whether it succeeded, with the output.
pub fn try_apply(control_plane: &ControlPlane, namespace: &str, text: &str) -> (bool, String) {
    let file = temporary_file(text);
    let output = control_plane.try_kubectl(&["apply", "-n", namespace, "-f", &file.path().display().to_string()]);
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
    )
}

/// An example of the repository, with its endpoint replaced.
pub fn example(name: &str, endpoint: &str) -> String {
    let path = tools::root().join("examples").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // The endpoint, and the allowed endpoints of the credentials.
    let replaced = |line: &str| match ["tokenEndpoint:", "oauth.evolutionx.io/allowed-endpoints:"]
        .iter()
        .find_map(|name| Some((line.split_once(name)?.0, name)))
    {
        Some((indent, name)) => format!("{indent}{name} {endpoint}"),
        None => line.to_owned(),
    };
    text.lines().map(replaced).collect::<Vec<_>>().join("\n")
}
