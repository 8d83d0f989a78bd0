//! Guarantee: a user who follows the notes that Helm prints gets a token.

use std::process::{Command, Output};

use test_support::keycloak::Keycloak;
use test_support::manifests::OPERATOR;
use test_support::{ControlPlane, Operator, World, tools};

/// Runs a program with the permissions of an administrator of the cluster, as the user who installs the chart.
fn run(control_plane: &ControlPlane, program: &str, arguments: &[&str]) -> Output {
    let binaries =
        [tools::install("kubernetes"), tools::install("helm")].map(|directory| directory.display().to_string());
    let path = format!("{}:{}", binaries.join(":"), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path).env("KUBECONFIG", control_plane.admin_kubeconfig());
    command.output().unwrap_or_else(|error| panic!("{program} cannot be run: {error}"))
}

fn succeed(control_plane: &ControlPlane, program: &str, arguments: &[&str]) -> String {
    let output = run(control_plane, program, arguments);
    let text = tools::printed(&output);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// The commands in the notes, as a user pastes them: each starts in the first column, and a here-document belongs to
/// its command.
fn commands(notes: &str) -> String {
    let mut script = String::new();
    let mut is_document = false;
    for line in notes.lines() {
        if is_document || line.starts_with("kubectl ") {
            script.push_str(line);
            script.push('\n');
        }
        is_document = (is_document || line.ends_with("<<EOF")) && line != "EOF";
    }
    script
}

/// Installs the chart, runs the commands of its notes with only the host and the credentials replaced, and returns the
/// access token.
async fn token_by_notes(values: &[&str], flags: &[&str], namespace: &str) -> String {
    let keycloak = Keycloak::shared();
    let control_plane = ControlPlane::start();
    if namespace != "default" {
        control_plane.kubectl(&["create", "namespace", namespace]);
    }
    let chart = tools::root().join("charts/oauth-operator").display().to_string();
    let install =
        ["install", OPERATOR, &chart, "--namespace", OPERATOR, "--create-namespace"].into_iter().chain(values.to_vec());
    let printed = succeed(&control_plane, "helm", &install.collect::<Vec<_>>());
    let kubeconfig = control_plane.kubeconfig_for(OPERATOR, OPERATOR).await;
    let operator = Operator::start_with(&kubeconfig, flags).await;
    let notes = printed.split_once("NOTES:").expect("notes").1;
    let script = commands(notes);
    assert!(script.contains("https://login.example.com"), "{script}");
    let origin = url::Url::parse(keycloak.issuer()).expect("the issuer's URL").origin().ascii_serialization();
    let script = script
        .replace("https://login.example.com", &origin)
        .replace("replace-with-your-client-id", "service")
        .replace("replace-with-your-client-secret", "service-secret");
    succeed(&control_plane, "bash", &["-euc", &script]);
    let world = World { client: control_plane.client().await, namespace: namespace.to_owned(), operator, kubeconfig };
    world.value("my-api-token", "access_token").await
}

#[tokio::test]
async fn the_commands_of_the_notes_lead_to_a_token() {
    let token = token_by_notes(&[], &["--require-allowed-endpoints"], "default").await;
    assert!(Keycloak::shared().is_active(&token), "the server does not know the token");
}

#[tokio::test]
async fn the_commands_of_the_notes_lead_to_a_token_in_a_watched_namespace_with_a_selector() {
    let values = ["--set", "watchNamespaces={erp}", "--set-string", "selector=team=erp\\,stage==prod"];
    let flags = ["--namespace", "erp", "--selector", "team=erp,stage==prod"];
    let token = token_by_notes(&values, &flags, "erp").await;
    assert!(Keycloak::shared().is_active(&token), "the server does not know the token");
}
