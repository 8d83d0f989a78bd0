//! Guarantee: each recipe of docs/target.md writes what its consumer reads. The consumers are the programs themselves, or
//! their own code (`tests/tools/consumers`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::ResourceExt;
use serde_json::{Value, json};
use test_support::certificate::Identity;
use test_support::endpoint::{Endpoint, Reply};
use test_support::process::WorkDir;
use test_support::tools;
use test_support::world::{World, client_credentials};

/// With characters that a URL, a shell or a header could change.
const TOKEN: &str = "kanarie/of+the~recipes.1=";

/// A Secret as a pod sees it, and a server for the consumers that send requests.
struct Mounted {
    dir: WorkDir,
    values: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    type_: String,
    server: Endpoint,
}

impl Mounted {
    fn file(&self, key: &str) -> PathBuf {
        self.dir.path().join(key)
    }

    /// The last value of the Authorization header.
    fn authorization(&self) -> String {
        let requests = self.server.requests();
        requests.last().and_then(|request| request.headers.get("authorization")).cloned().unwrap_or_default()
    }
}

fn run(program: impl AsRef<Path>, arguments: &[&str]) -> String {
    let output = Command::new(program.as_ref()).args(arguments).env("HOME", "/nonexistent").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.as_ref().display()));
    assert!(output.status.success(), "{} {arguments:?}: {}", program.as_ref().display(), tools::printed(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// What a consumer sees of a file.
fn seen(consumer: &str, file: &Path, more: &str) -> Value {
    let program = tools::install("consumers").join("consumers");
    let output = run(program, &[consumer, &file.display().to_string(), more]);
    serde_json::from_str(&output).expect("JSON")
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("oauth2:{TOKEN}")))
}

/// A recipe by its heading, the names of its consumers, and the check of what they read.
type Consumer = (&'static str, &'static str, fn(&Mounted));

const CONSUMERS: [Consumer; 11] = [
    ("Header file", "curl", |mounted| {
        let file = format!("@{}", mounted.file("header").display());
        run("curl", &["--silent", "--show-error", "--header", &file, &mounted.server.url()]);
        assert_eq!(mounted.authorization(), format!("Bearer {TOKEN}"));
    }),
    (".netrc", "curl, Python's netrc", |mounted| {
        let (file, to) = (mounted.file("netrc").display().to_string(), format!("::{}", mounted.server.address()));
        let url = "http://api.example.com/";
        run("curl", &["--silent", "--show-error", "--netrc-file", &file, "--connect-to", &to, url]);
        assert_eq!(mounted.authorization(), basic());
        let script = "import netrc, sys; print(netrc.netrc(sys.argv[1]).authenticators('api.example.com')[2], end='')";
        assert_eq!(run("python3", &["-c", script, &file]), TOKEN);
    }),
    ("Environment file", "sh, node", |mounted| {
        let file = mounted.file("token.env").display().to_string();
        assert_eq!(run("sh", &["-c", r#". "$0"; printf %s "$ACCESS_TOKEN""#, &file]), TOKEN);
        let script = "process.stdout.write(process.env.ACCESS_TOKEN)";
        assert_eq!(run("node", &[&format!("--env-file={file}"), "-e", script]), TOKEN);
    }),
    ("Git credentials", "git", |mounted| {
        let helper = format!("credential.helper=store --file {}", mounted.file("git-credentials").display());
        let script =
            r#"printf 'protocol=https\nhost=git.example.com\n\n' | git -c credential.helper= -c "$0" credential fill"#;
        let login = run("sh", &["-c", script, &helper]);
        assert!(login.contains(&format!("username=oauth2\npassword={TOKEN}\n")), "{login}");
    }),
    ("Basic authentication", "the API server", |mounted| {
        assert_eq!(mounted.type_, "kubernetes.io/basic-auth");
        assert_eq!((mounted.values["username"].as_str(), mounted.values["password"].as_str()), ("oauth2", TOKEN));
    }),
    ("Container registry", "the API server, the Docker CLI", |mounted| {
        assert_eq!(mounted.type_, "kubernetes.io/dockerconfigjson");
        let login = seen("docker", &mounted.file(".dockerconfigjson"), "registry.example.com");
        assert_eq!(login, json!({"username": "oauth2", "password": TOKEN}));
    }),
    ("kubeconfig", "kubectl", |mounted| {
        let kubectl = tools::install("kubernetes").join("kubectl");
        let file = mounted.file("kubeconfig").display().to_string();
        // It sends tokens only over TLS.
        let server = Endpoint::start_tls(Identity::new("localhost").server(), |_| Reply::json(200, &json!({})));
        let url = format!("https://{}", server.address());
        let flags = ["--kubeconfig", &file, "--server", &url, "--insecure-skip-tls-verify", "get", "--raw", "/version"];
        run(&kubectl, &flags);
        assert_eq!(server.requests()[0].headers["authorization"], format!("Bearer {TOKEN}"));
        let url = run(
            &kubectl,
            &["--kubeconfig", &file, "config", "view", "--output=jsonpath={.clusters[0].cluster.server}"],
        );
        assert_eq!(url, "https://kubernetes.example.com");
    }),
    ("Prometheus", "Prometheus' HTTP client", |mounted| {
        seen("prometheus", &mounted.file("credentials"), &mounted.server.url());
        assert_eq!(mounted.authorization(), format!("Bearer {TOKEN}"));
    }),
    ("Envoy", "Envoy's Go types", |mounted| {
        let secret = seen("envoy", &mounted.file("sds.json"), "");
        assert_eq!(secret, json!({"name": "token", "secret": format!("Bearer {TOKEN}")}));
    }),
    ("Argo CD repository", "the documented fields", |mounted| {
        assert_eq!(mounted.labels["argocd.argoproj.io/secret-type"], "repository");
        let fields = ["type", "url", "username", "password"].map(|key| mounted.values[key].as_str());
        assert_eq!(fields, ["git", "https://git.example.com/shop/orders.git", "oauth2", TOKEN]);
    }),
    ("Argo CD cluster", "the documented fields, a copy of Argo CD's ClusterConfig", |mounted| {
        assert_eq!(mounted.labels["argocd.argoproj.io/secret-type"], "cluster");
        let fields = ["name", "server"].map(|key| mounted.values[key].as_str());
        assert_eq!(fields, ["production", "https://kubernetes.example.com"]);
        let config = seen("argocd-cluster", &mounted.file("config"), "");
        assert_eq!(config, json!({"bearerToken": TOKEN, "tlsClientConfig": {"insecure": false}}));
    }),
];

/// The recipes of the page: heading and target.
fn recipes() -> Vec<(String, Value)> {
    let page = fs::read_to_string(tools::root().join("docs/target.md")).expect("the page");
    let (_, recipes) = page.split_once("\n## Recipes\n").expect("recipes");
    let sections = recipes.split("\n### ").skip(1);
    let recipe = |section: &str| {
        let (heading, rest) = section.split_once('\n')?;
        let (_, yaml) = rest.split_once("```yaml\n")?;
        let (yaml, _) = yaml.split_once("```")?;
        let parsed: Value = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{heading}: {error}"));
        Some((heading.to_owned(), parsed["target"].clone()))
    };
    sections.filter_map(recipe).collect()
}

async fn mounted(world: &World, name: &str, target: &Value) -> Mounted {
    let token_endpoint = Endpoint::start(|_| Reply::json(200, &json!({"access_token": TOKEN, "expires_in": 3600})));
    let mut spec = client_credentials(&token_endpoint.url());
    spec["target"] = target.clone();
    world.integration(name, &spec).await;
    world.ready(name).await;
    let secret = world.secrets().get(name).await.expect("the target");
    let values = world.values(name).await.expect("the target");
    let dir = WorkDir::new(name);
    for (key, value) in &values {
        fs::write(dir.path().join(key), value).expect("a file");
    }
    let server = Endpoint::start(|_| Reply::json(200, &json!({"major": "1", "minor": "36"})));
    Mounted { dir, values, labels: secret.labels().clone(), type_: secret.type_.clone().unwrap_or_default(), server }
}

#[tokio::test]
async fn every_recipe_for_the_target_is_read_by_its_consumer() {
    let world = World::with("target-recipes", &["--allow-target-metadata=argocd.argoproj.io/secret-type"]).await;
    world.credentials().await;
    let recipes = recipes();
    let headings: Vec<&str> = recipes.iter().map(|(heading, _)| heading.as_str()).collect();
    assert_eq!(headings, CONSUMERS.map(|(heading, _, _)| heading), "each recipe has a consumer");
    println!("| recipe | read by |\n|---|---|");
    for (number, ((heading, target), (_, consumers, check))) in recipes.iter().zip(CONSUMERS).enumerate() {
        let mounted = mounted(&world, &format!("recipe-{number}"), target).await;
        check(&mounted);
        println!("| {heading} | {consumers} |");
    }
}
