//! Every shell block of the README and the documentation is executed, and every YAML block is applied.

use std::fs;
use std::path::PathBuf;

use test_support::docs::blocks;
use test_support::manifests::temporary_file;
use test_support::tools;

use crate::Timeline;
use crate::cluster::Cluster;
use crate::release::Registry;

/// Blocks that this test cannot execute, by their first line, with the reason.
const NOT_EXECUTED: [(&str, &str); 4] = [
    ("make demo", "CI runs `make test`, which runs this test; the demo is a test of its own"),
    ("make version VERSION=1.2.3", "changes the version in the files of the checkout"),
    ("make release VERSION=1.2.3", "`release.rs` runs it, with the version of the checkout"),
    ("cosign verify ghcr.io", "needs the public transparency log; `release.rs` verifies signatures by a key"),
];

/// A block with only the registries and the credentials replaced.
pub fn for_this_cluster(block: &str, (id, secret): (&str, &str)) -> String {
    block
        .replace(&format!("ghcr.io/{}", tools::owner()), Registry::NAME)
        .replace("registry.example.com", Registry::NAME)
        .replace("replace-with-your-client-id", id)
        .replace("replace-with-your-client-secret", secret)
}

/// The README and all pages, in the order in which they are executed.
fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for directory in ["docs", "docs/providers"] {
        for entry in fs::read_dir(tools::root().join(directory)).expect("the documentation") {
            let name = entry.expect("a page").file_name().to_string_lossy().into_owned();
            // The quickstart was executed first.
            if name.ends_with(".md") && name != "quickstart.md" {
                pages.push(format!("{directory}/{name}"));
            }
        }
    }
    pages.sort();
    ["README.md", "charts/oauth-operator/README.md"].map(ToOwned::to_owned).into_iter().chain(pages).collect()
}

/// Executes and applies everything; each page begins with the operator installed as the one before left it.
pub fn every_command_and_manifest_works(cluster: &Cluster, timeline: &Timeline) {
    let files = Files::new(cluster);
    let prometheus = tools::install("prometheus-operator");
    cluster.succeed(&format!("kubectl create --filename {}", prometheus.display()));
    // For values that name namespaces, and for manifests.
    cluster.succeed("kubectl delete oauthintegration/my-api secret/my-api-credentials");
    cluster.succeed("for name in erp billing documentation; do kubectl create namespace $name; done");
    let (mut executed, mut skipped, mut applied) = (0, 0, 0);
    for page in pages() {
        for block in blocks(&page, "sh") {
            let first = block.lines().next().unwrap_or_default();
            if NOT_EXECUTED.iter().any(|(start, _)| first.starts_with(start)) {
                skipped += 1;
                continue;
            }
            prepare(cluster, &block);
            let script = files.replace(&for_this_cluster(&block, crate::install::CLIENT));
            succeed(cluster, &page, &block, &script);
            executed += 1;
        }
    }
    assert_eq!(skipped, NOT_EXECUTED.len(), "blocks that are not executed");
    cluster.succeed(&format!(
        "helm upgrade --install {RELEASE} charts/oauth-operator --set replicaCount=0 --set {ALLOWED}"
    ));
    // A leader that still runs would add finalizers to what is applied below.
    let gone = "--for=delete --selector app.kubernetes.io/name=oauth-operator --namespace oauth-operator --timeout=90s";
    cluster.succeed(&format!("kubectl wait pod {gone}"));
    for page in pages() {
        for block in blocks(&page, "yaml") {
            let block = if block.starts_with("target:") { with_target(&block, applied) } else { block };
            let file = temporary_file(&block);
            let path = file.path().display();
            let names_namespace = block.lines().any(|line| line.starts_with("  namespace: "));
            let namespace = if names_namespace { "" } else { "--namespace documentation" };
            let script = match block.lines().any(|line| line.starts_with("kind:")) {
                true => format!("kubectl apply --validate=strict {namespace} --filename {path}"),
                // The values of the chart. Not by the user's `helm`, whose values would replace these.
                false => format!(
                    "{} template {RELEASE} charts/oauth-operator --values {path} | kubectl apply --dry-run=server --filename -",
                    tools::install("helm").join("helm").display()
                ),
            };
            let text = succeed(cluster, &page, &block, &script);
            assert!(!text.contains("Warning: unknown field"), "{page}:\n{block}\n{text}");
            applied += 1;
        }
    }
    // While no operator runs that would add finalizers.
    cluster.succeed("kubectl delete namespace documentation --timeout=60s");
    timeline.add(&format!("documentation: {executed} shell blocks executed, {applied} YAML blocks applied"));
    assert!(executed >= 15 && applied >= 55, "the documentation has fewer blocks than expected");
}

/// An integration with this part of a spec.
fn with_target(target: &str, number: usize) -> String {
    let head = format!(
        "apiVersion: oauth.evolutionx.io/v1alpha1\nkind: OAuthIntegration\nmetadata:\n  name: target-{number}\nspec:\n  \
        tokenEndpoint: https://login.example.com/token\n  grantType: client_credentials\n  credentials:\n    \
        secretName: credentials\n"
    );
    let target: String = target.lines().map(|line| format!("  {line}\n")).collect();
    head + &target
}

/// Runs what a block says; panics with the block if it fails.
fn succeed(cluster: &Cluster, page: &str, block: &str, script: &str) -> String {
    let output = cluster.run(script);
    let text = tools::printed(&output);
    assert!(output.status.success(), "{page}:\n{block}\n{text}\n{}", cluster.state());
    text
}

/// What the page about targets asks an administrator to allow.
const ALLOWED: &str = "'targets.allowMetadata={argocd.argoproj.io/secret-type}'";
const RELEASE: &str = "oauth-operator --namespace oauth-operator";

/// What a page assumes: an alternative to the installation that came before it, or an installed operator.
fn prepare(cluster: &Cluster, block: &str) {
    if block.contains("helm install") {
        cluster.succeed(&format!("helm uninstall {RELEASE} --ignore-not-found --wait"));
    }
    if block.contains("create configmap company-ca") {
        cluster.succeed("kubectl delete configmap company-ca --namespace oauth-operator");
    }
    if block.contains("rollout restart") {
        let chart = format!("oci://{}/charts/oauth-operator", Registry::NAME);
        cluster.succeed(&format!("helm upgrade --install {RELEASE} {chart} --wait"));
    }
}

/// Files that the documentation names and a user would have.
struct Files {
    integration: tempfile::NamedTempFile,
    ca: PathBuf,
}

impl Files {
    fn new(cluster: &Cluster) -> Self {
        let example = fs::read_to_string(tools::root().join("examples/quickstart.yaml")).expect("the example");
        let integration = temporary_file(&for_this_cluster(&example, crate::install::CLIENT));
        Self { integration, ca: cluster.ca_file() }
    }

    fn replace(&self, block: &str) -> String {
        block
            .replace("examples/quickstart.yaml", &self.integration.path().display().to_string())
            .replace("/etc/ssl/certs/company-ca.pem", &self.ca.display().to_string())
    }
}
