//! Guarantee: `fetch` tries a configuration without a cluster, prints the Secret that would be written, and exits with
//! a code for the kind of failure.

mod exit_codes;
mod explanation;
mod providers;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::operator::binary;
use test_support::process::free_port;
use test_support::record;

/// A part of every credential and every token that does not occur in names.
const CANARY: &str = "KANARIENVOGEL";

/// The response of an endpoint.
type Response = fn(&Request) -> Reply;

/// The output and the exit code of a run of the binary.
struct Run {
    code: i32,
    out: String,
    err: String,
}

/// The endpoints of these tests have no TLS, and are on loopback.
const LOCAL: [&str; 2] = ["--allow-http", "--allow-cidr=127.0.0.0/8"];

/// Runs `oauth-operator fetch` with arguments and [`LOCAL`], in a directory, with this standard input.
fn fetch_in(dir: &TempDir, arguments: &[&str], input: &str) -> Run {
    fetch_with(dir, arguments, input, &[])
}

/// The same as [`fetch_in`], with additional environment variables.
fn fetch_with(dir: &TempDir, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> Run {
    let arguments = [arguments, &LOCAL].concat();
    let run = run_binary(dir, &[&["fetch"], &arguments[..]].concat(), input, environment);
    // Most of these Secrets are not pinned; one test is about that.
    let err = run.err.lines().filter(|line| !line.contains("has no annotation")).map(|line| format!("{line}\n"));
    Run { err: err.collect(), ..run }
}

fn run_binary(dir: &TempDir, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(dir.path());
    // The environment of the machine must not affect the binary under test.
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "OAUTH_OPERATOR_LOG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary");
    // A process that does not read standard input may have exited before it is written.
    let _ = child.stdin.take().expect("standard input").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the process exits");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let run = Run { code: output.status.code().expect("a code"), out: text(output.stdout), err: text(output.stderr) };
    record::keep("given", CANARY);
    record::keep("fetch", &run.err);
    // With this option, the output contains the tokens.
    if !arguments.contains(&"--show-tokens") {
        record::keep("fetch", &run.out);
    }
    run
}

#[test]
fn a_wrong_path_of_ca_certificates_is_reported() {
    let dir = TempDir::new().expect("a directory");
    for (path, problem) in [("/nonexistent/ca.pem", "/nonexistent/ca.pem"), ("/dev/null", "no certificate in PEM")] {
        let run = fetch_with(&dir, &["missing.yaml"], "", &[("SSL_CERT_FILE", path)]);
        assert!(run.err.contains("SSL_CERT_FILE") && run.err.contains(problem), "{}", run.err);
    }
    let run = fetch_with(&dir, &["missing.yaml"], "", &[]);
    assert!(!run.err.contains("SSL_CERT_FILE"), "{}", run.err);
}

/// Runs `fetch` on one file with these documents.
fn fetch(documents: &[Value], arguments: &[&str]) -> Run {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "all.yaml", documents);
    fetch_in(&dir, &[&["all.yaml"], arguments].concat(), "")
}

/// The same with exactly these flags; returns standard error.
pub fn fetch_documents(documents: &[Value], flags: &[&str]) -> String {
    let dir = TempDir::new().expect("a directory");
    write(&dir, "all.yaml", documents);
    run_binary(&dir, &[&["fetch", "all.yaml"], flags].concat(), "", &[]).err
}

/// Writes documents to a file: JSON is valid YAML, with the separators of YAML.
fn write(dir: &TempDir, name: &str, documents: &[Value]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text(documents)).expect("a file");
    path
}

fn text(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("---\n{document:#}\n")).collect()
}

pub fn integration_of(name: &str, endpoint: &str, changes: &Value) -> Value {
    integration(name, endpoint, changes)
}

/// A Secret with this name.
pub fn credentials_of(name: &str, values: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
}

fn integration(name: &str, endpoint: &str, changes: &Value) -> Value {
    let mut spec = json!({
        "tokenEndpoint": endpoint,
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": name}, "spec": spec})
}

fn secret(values: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "stringData": values})
}

fn credentials() -> Value {
    secret(&json!({"client_id": format!("{CANARY}-id"), "client_secret": format!("{CANARY} secret/&")}))
}

/// An endpoint that issues a token with a refresh token.
fn endpoint() -> Endpoint {
    Endpoint::start(|_| {
        let (access, refresh) = (format!("{CANARY}-access"), format!("{CANARY}-refresh"));
        Reply::json(
            200,
            &json!({"access_token": access, "refresh_token": refresh, "expires_in": 60, "scope": "granted"}),
        )
    })
}

fn assert_no_secret(case: &str, run: &Run) {
    for (name, text) in [("output", &run.out), ("standard error", &run.err)] {
        assert!(!text.contains(CANARY), "{case}: a secret in the {name}: {text}");
        assert!(!text.contains(&STANDARD.encode(CANARY)[..16]), "{case}: a secret in base64 in the {name}: {text}");
    }
}

/// The Secrets that were printed.
fn printed(run: &Run) -> Vec<Value> {
    serde_saphyr::from_multiple(&run.out).unwrap_or_else(|why| panic!("not YAML: {why}\n{}", run.out))
}

#[test]
fn the_secret_is_printed_with_its_tokens_masked() {
    let endpoint = endpoint();
    let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), credentials()], &[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert_no_secret("masked", &run);
    let secrets = printed(&run);
    assert_eq!(secrets.len(), 1);
    assert_eq!((&secrets[0]["kind"], &secrets[0]["metadata"]["name"]), (&json!("Secret"), &json!("erp")));
    assert_eq!(secrets[0]["stringData"]["access_token"], "*** (20 characters)");
    assert_eq!(secrets[0]["stringData"]["refresh_token"], "*** (21 characters)");
    assert_eq!(secrets[0]["metadata"], json!({"name": "erp"}), "no bookkeeping of the operator");
    assert_eq!(
        endpoint.requests()[0].parameter("client_secret"),
        format!("{CANARY} secret/&"),
        "the real secret was sent"
    );
}

#[test]
fn the_tokens_are_printed_on_request() {
    let endpoint = endpoint();
    let target = json!({"target": {"secretName": "tokens", "keys": {"accessToken": "at", "refreshToken": "rt", "scope": "scope"}}});
    let documents = [integration("erp", &endpoint.url(), &target), credentials()];
    let shown = &printed(&fetch(&documents, &["--show-tokens"]))[0];
    assert_eq!(shown["metadata"]["name"], "tokens");
    let expected = json!({"at": format!("{CANARY}-access"), "rt": format!("{CANARY}-refresh"), "scope": "granted"});
    assert_eq!(shown["stringData"], expected);
    let run = fetch(&documents, &[]);
    assert_no_secret("other keys", &run);
    assert_eq!(printed(&run)[0]["stringData"]["scope"], "granted", "only tokens are masked");
}

#[test]
fn the_output_is_a_secret_that_can_be_applied() {
    let endpoint = endpoint();
    let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), credentials()], &["--show-tokens"]);
    let printed = &printed(&run)[0];
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(printed.clone()).expect("a Secret");
    assert_eq!(secret.metadata.namespace, None, "the files do not contain a namespace");
    assert_eq!(secret.metadata.owner_references, None, "an owner without a UID would be rejected");
}

/// An endpoint that accepts each refresh token once.
fn rotating() -> Endpoint {
    let next = std::sync::atomic::AtomicU32::new(0);
    Endpoint::start(move |request| {
        let number = next.load(std::sync::atomic::Ordering::Relaxed);
        if request.parameter("refresh_token") != format!("{CANARY}-{number}") {
            return Reply::rejected(400, "invalid_grant", "spent");
        }
        next.store(number + 1, std::sync::atomic::Ordering::Relaxed);
        let token = format!("{CANARY}-{}", number + 1);
        Reply::json(200, &json!({"access_token": CANARY, "refresh_token": token, "expires_in": 60}))
    })
}

#[test]
fn a_refresh_token_is_not_spent_unless_the_next_one_is_kept() {
    let (endpoint, dir) = (rotating(), TempDir::new().expect("a directory"));
    let values = json!({"client_id": CANARY, "client_secret": CANARY, "rt": format!("{CANARY}-0")});
    let changes = json!({
        "grantType": "refresh_token",
        "credentials": {"secretName": "credentials", "keys": {"refreshToken": "rt"}},
    });
    let integration = integration("erp", &endpoint.url(), &changes);
    write(&dir, "it.yaml", std::slice::from_ref(&integration));
    write(&dir, "secret.yaml", &[secret(&values)]);
    let run = fetch_in(&dir, &["it.yaml", "secret.yaml"], "");
    assert_eq!((run.code, endpoint.count()), (3, 0), "{}", run.err);
    assert!(run.err.contains("--spend-refresh-token --write FILE"), "{}", run.err);
    let run = fetch_in(&dir, &["it.yaml", "secret.yaml", "--spend-refresh-token"], "");
    assert_eq!((run.code, endpoint.count()), (2, 0), "without a file: {}", run.err);

    // The result of each is the input of the next.
    for (from, to, number) in [("secret.yaml", "next.yaml", 1), ("next.yaml", "last.yaml", 2)] {
        let run = fetch_in(&dir, &["it.yaml", from, "--spend-refresh-token", "--write", to], "");
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{to}");
        assert_no_secret(to, &run);
        let path = dir.path().join(to);
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only for its owner");
        let text = fs::read_to_string(&path).expect("the file");
        let kept: k8s_openapi::api::core::v1::Secret = serde_saphyr::from_multiple(&text).expect("YAML").remove(0);
        assert_eq!(kept.metadata.name.as_deref(), Some("credentials"));
        let data = kept.data.expect("data");
        assert_eq!(data["rt"].0, format!("{CANARY}-{number}").into_bytes());
        assert_eq!(data["client_id"].0, CANARY.as_bytes());
    }
    // An existing file may hold the only copy of another token.
    let run = fetch_in(&dir, &["it.yaml", "last.yaml", "--spend-refresh-token", "--write", "next.yaml"], "");
    assert_eq!((run.code, endpoint.count()), (2, 2), "{}", run.err);
    assert!(run.err.contains("--write next.yaml"), "{}", run.err);
}

#[test]
fn what_the_operator_rejects_is_rejected_here() {
    let (endpoint, dir) = (endpoint(), TempDir::new().expect("a directory"));
    let documents = [integration("erp", &endpoint.url(), &json!({})), credentials()];
    write(&dir, "all.yaml", &documents);
    let labeled = json!({"target": {"labels": {"team": "erp"}}});
    write(&dir, "labeled.yaml", &[integration("erp", &endpoint.url(), &labeled), credentials()]);
    let cases: [(&str, &[&str], &str); 5] = [
        ("all.yaml", &[], "without TLS"),
        ("all.yaml", &["--allow-http"], "--allow-cidr"),
        ("all.yaml", &["--allow-http", "--allow-cidr=127.0.0.0/8", "--allow-host=other.example.com"], "--allow-host"),
        ("all.yaml", &["--allow-http", "--allow-cidr=127.0.0.0/8", "--require-allowed-endpoints"], "allowed-endpoints"),
        ("labeled.yaml", &["--allow-http", "--allow-cidr=127.0.0.0/8"], "TargetNotAllowed"),
    ];
    for (file, flags, says) in cases {
        let run = run_binary(&dir, &[&["fetch", file], flags].concat(), "", &[]);
        assert_eq!((run.code, run.out.as_str()), (3, ""), "{flags:?}: {}", run.err);
        assert!(run.err.contains(says), "{flags:?}: {}", run.err);
    }
    assert_eq!(endpoint.count(), 0);
    let run = run_binary(&dir, &[&["fetch", "all.yaml"], &LOCAL[..]].concat(), "", &[]);
    assert_eq!(run.code, 0);
    assert!(run.err.contains("warning: erp: Secret credentials has no annotation"), "{}", run.err);
}

#[test]
fn unknown_fields_and_wrong_types_are_named() {
    let endpoint = endpoint();
    for (changes, says) in [
        (
            json!({"audience": "x", "target": {"namespace": "y"}}),
            "erp: unknown fields: spec.audience, spec.target.namespace",
        ),
        (json!({"scope": ["a", "b"]}), "erp: spec.scope: invalid type: sequence"),
        (json!({"tokenLife": 3600}), "erp: spec.tokenLife: invalid type: integer"),
        (
            json!({"grantType": "jwt_bearer", "assertion": {"place": "Body", "audiance": "x", "keyId": "y"}}),
            "erp: unknown fields: spec.assertion.audiance",
        ),
        (json!({"assertion": {"keyId": "y", "lifetime": 60}}), "erp: spec.assertion.lifetime: invalid type: integer"),
        (json!({"assertion": {"keyId": "y", "place": "Header"}}), "erp: spec.assertion.place: unknown variant"),
        (json!({"grantType": "authorization_code"}), "erp: spec.grantType: unknown variant"),
    ] {
        let run = fetch(&[integration("erp", &endpoint.url(), &changes), credentials()], &[]);
        assert_eq!(run.code, 2, "{}", run.err);
        assert!(run.err.contains(says), "{}", run.err);
    }
    assert_eq!(endpoint.count(), 0);
}

#[test]
fn the_version_and_completions_are_printed() {
    let dir = TempDir::new().expect("a directory");
    let printed = |arguments: &[&str]| run_binary(&dir, arguments, "", &[]).out;
    let version = printed(&["version"]);
    assert!(version.starts_with(concat!("oauth-operator ", env!("CARGO_PKG_VERSION"), " (commit ")), "{version}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(printed(&["completions", shell]).contains("spend-refresh-token"), "{shell}");
    }
    assert!(printed(&["help", "fetch"]).contains("Exit codes"));
}

#[test]
fn all_integrations_in_all_files_are_tried() {
    let (endpoint, dir) = (endpoint(), TempDir::new().expect("a directory"));
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}});
    write(&dir, "a.yaml", &[integration("one", &endpoint.url(), &json!({})), other]);
    write(&dir, "b.yaml", &[credentials(), integration("two", &endpoint.url(), &json!({}))]);
    let run = fetch_in(&dir, &["a.yaml", "b.yaml"], "");
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let names: Vec<Value> = printed(&run).iter().map(|secret| secret["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn standard_input_is_accepted_as_a_file() {
    let (endpoint, dir) = (endpoint(), TempDir::new().expect("a directory"));
    write(&dir, "secret.yaml", &[credentials()]);
    let run = fetch_in(&dir, &["-", "secret.yaml"], &text(&[integration("erp", &endpoint.url(), &json!({}))]));
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert_eq!(printed(&run)[0]["metadata"]["name"], "erp");
}

#[test]
fn the_highest_code_is_returned_and_successful_results_are_printed() {
    let (good, bad) = (endpoint(), Endpoint::start(|_| Reply::rejected(401, "invalid_client", "no")));
    let unreachable = format!("http://127.0.0.1:{}/token", free_port());
    let documents = [
        integration("rejected", &bad.url(), &json!({})),
        integration("unreachable", &unreachable, &json!({})),
        integration("good", &good.url(), &json!({})),
        credentials(),
    ];
    let run = fetch(&documents, &[]);
    assert_eq!(run.code, 4, "{}", run.err);
    let errors: Vec<&str> = run.err.lines().collect();
    assert_eq!(errors.len(), 2, "one line for each: {errors:?}");
    assert!(errors[0].starts_with("error: rejected: RequestRejected: "), "{errors:?}");
    assert!(errors[1].starts_with("error: unreachable: EndpointUnreachable: "), "{errors:?}");
    assert_eq!(printed(&run)[0]["metadata"]["name"], "good");
    assert_no_secret("several", &run);
}

#[test]
fn a_lifetime_other_than_configured_is_a_warning() {
    let (known, silent) = (endpoint(), Endpoint::start(|_| Reply::json(200, &json!({"access_token": CANARY}))));
    let documents = [
        integration("too-long", &known.url(), &json!({"tokenLife": "1h"})),
        integration("unknown", &silent.url(), &json!({})),
        integration("fits", &known.url(), &json!({"tokenLife": "30s"})),
        credentials(),
    ];
    let run = fetch(&documents, &[]);
    assert_eq!(run.code, 0, "{}", run.err);
    let warnings: Vec<&str> = run.err.lines().collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("warning: too-long: TokenLifetimeTooLong"), "{warnings:?}");
    assert!(warnings[1].starts_with("warning: unknown: TokenLifetimeUnknown"), "{warnings:?}");
    assert_no_secret("warnings", &run);
}

#[test]
fn config_maps_are_also_read_from_the_files() {
    let endpoint = endpoint();
    let changes = json!({"connection": {"caBundle": {"name": "ca"}}});
    let documents = [integration("erp", &endpoint.url(), &changes), credentials()];
    let run = fetch(&documents, &[]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("ConfigMap ca with text under key ca.crt is not in the given files"), "{}", run.err);
    let pem = test_support::keys::CertificateAuthority::new().pem;
    let config_map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}});
    let run = fetch(&[&documents[..], &[config_map]].concat(), &[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    // A ServiceAccount token cannot be read from files.
    let changes = json!({
        "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "workload", "audience": "https://login.example.com"},
    });
    let run = fetch(&[integration("erp", &endpoint.url(), &changes), credentials()], &[]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("run against a cluster"), "{}", run.err);
}

#[test]
fn the_proxy_of_the_environment_is_used_except_for_no_proxy() {
    let (proxy, direct) = (endpoint(), endpoint());
    let dir = TempDir::new().expect("a directory");
    let documents = [
        integration("far", "http://login.erp.invalid/token", &json!({})),
        integration("near", &direct.url(), &json!({})),
        credentials(),
    ];
    write(&dir, "all.yaml", &documents);
    let address = format!("http://{}", proxy.address());
    let environment = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", "127.0.0.1")];
    let run = fetch_with(&dir, &["all.yaml"], "", &environment);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let paths = |endpoint: &Endpoint| endpoint.requests().into_iter().map(|request| request.path).collect::<Vec<_>>();
    assert_eq!(paths(&proxy), ["http://login.erp.invalid/token"]);
    assert_eq!(paths(&direct), ["/token"]);
}

/// The API server rejects these headers, but files are checked only by the operator.
#[test]
fn a_header_that_would_split_the_request_is_rejected_and_nothing_is_sent() {
    let endpoint = endpoint();
    for headers in [json!({"X-Tenant": "a\r\nX-Injected: b"}), json!({"X Tenant": "a"}), json!({"X-Tenant\n": "a"})] {
        let changes = json!({"request": {"headers": headers}});
        let run = fetch(&[integration("erp", &endpoint.url(), &changes), credentials()], &[]);
        assert_eq!(run.code, 3, "{headers}: {}", run.err);
        assert!(run.err.contains("spec.request.headers"), "{headers}: {}", run.err);
    }
    assert_eq!(endpoint.count(), 0);
}
