//! What is applied to a control plane: the CRD, the chart's rights, the examples.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::ControlPlane;
use super::tools;

/// The longest time until a CRD can be used.
const ESTABLISHED: Duration = Duration::from_secs(60);
/// The namespace of the operator, and the name of its service account, as the chart makes them for a release of its name.
pub const OPERATOR: &str = "oauth-operator";

/// Applies the CRD as it stands in the repository.
pub fn install_crd(control_plane: &ControlPlane) {
    let file = tools::root().join("crds/oauthintegrations.yaml");
    control_plane.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()]);
    // Of an object that has no conditions yet, `kubectl` tells by an error.
    let established = r#"jsonpath={.status.conditions[?(@.type=="Established")].status}"#;
    let look = ["get", "crd/oauthintegrations.oauth.evolutionx.io", "-o", established];
    let deadline = Instant::now() + ESTABLISHED;
    while control_plane.try_kubectl(&look).stdout != b"True" {
        assert!(Instant::now() < deadline, "the CRD is not established");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Applies the chart's service account, roles and bindings, and nothing else of it: operators in tests run under exactly
/// these.
pub fn install_rights(control_plane: &ControlPlane) {
    control_plane.kubectl(&["create", "namespace", OPERATOR]);
    apply(control_plane, OPERATOR, &rights(&helm_template(&[])));
}

/// Applies the chart's admission policy.
pub fn install_admission_policy(control_plane: &ControlPlane) {
    apply(
        control_plane,
        OPERATOR,
        &of_kinds(&helm_template(&[]), &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]),
    );
}

/// The same, with the right to ask for tokens of ServiceAccounts.
pub fn install_rights_with_service_accounts(control_plane: &ControlPlane) {
    apply(control_plane, OPERATOR, &rights(&helm_template(&["--set", "serviceAccountTokens.enabled=true"])));
}

/// Applies the rights of a release that lives in a namespace of its own and looks after that namespace alone.
pub fn install_rights_in(control_plane: &ControlPlane, namespace: &str) {
    let own = format!("watchNamespaces={{{namespace}}}");
    let rendered = helm_template(&["--namespace", namespace, "--set", &own, "--set", "rbac.aggregateRoles=false"]);
    apply(control_plane, namespace, &rights(&rendered));
}

fn rights(rendered: &str) -> String {
    of_kinds(rendered, &["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"])
}

/// The documents of some kinds.
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

/// Applies manifests given as text, and tells whether that went well and what was said.
pub fn try_apply(control_plane: &ControlPlane, namespace: &str, text: &str) -> (bool, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file for manifests");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("manifests written");
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
    // The endpoint, and where the credentials may be sent.
    let replaced = |line: &str| match ["tokenEndpoint:", "oauth.evolutionx.io/allowed-endpoints:"]
        .iter()
        .find_map(|name| Some((line.split_once(name)?.0, name)))
    {
        Some((indent, name)) => format!("{indent}{name} {endpoint}"),
        None => line.to_owned(),
    };
    text.lines().map(replaced).collect::<Vec<_>>().join("\n")
}
