//! The promise: `fetch` tries a configuration without a cluster, says what would be written, and ends with a code that
//! tells what went wrong.

#![allow(missing_docs)]
// A test that cannot go on has failed.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::endpoint::{Endpoint, Reply, Request};
use common::process::free_port;
use common::record;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Stands in every credential and every token, and in no name.
const CANARY: &str = "KANARIENVOGEL";

/// How an endpoint answers.
type Answer = fn(&Request) -> Reply;

/// What a run of the binary printed, and how it ended.
struct Run {
    code: i32,
    out: String,
    err: String,
}

/// Runs `oauth-operator fetch` with arguments, in a folder, with a text as its standard input.
fn fetch_in(folder: &TempDir, arguments: &[&str], input: &str) -> Run {
    fetch_with(folder, arguments, input, &[])
}

/// The same, with more in its environment.
fn fetch_with(folder: &TempDir, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oauth-operator"));
    command.arg("fetch").args(arguments).current_dir(folder.path());
    // What the machine has set for people must not reach the binary under test.
    for name in
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "OAUTH_OPERATOR_LOG"]
    {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary");
    // Whoever does not read standard input may be gone before it is written.
    let _ = child.stdin.take().expect("standard input").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let run = Run { code: output.status.code().expect("a code"), out: text(output.stdout), err: text(output.stderr) };
    record::keep("given", CANARY);
    record::keep("fetch", &run.err);
    // With this it prints what it was asked to print.
    if !arguments.contains(&"--show-tokens") {
        record::keep("fetch", &run.out);
    }
    run
}

/// Runs `fetch` on one file with these documents.
fn fetch(documents: &[Value], arguments: &[&str]) -> Run {
    let folder = TempDir::new().expect("a folder");
    write(&folder, "all.yaml", documents);
    fetch_in(&folder, &[&["all.yaml"], arguments].concat(), "")
}

/// JSON is YAML; the documents are parted as in YAML.
fn write(folder: &TempDir, name: &str, documents: &[Value]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text(documents)).expect("a file");
    path
}

fn text(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("---\n{document:#}\n")).collect()
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

/// An endpoint that gives a token with a refresh token.
fn endpoint() -> Endpoint {
    Endpoint::start(|_| {
        let (access, refresh) = (format!("{CANARY}-access"), format!("{CANARY}-refresh"));
        Reply::json(
            200,
            &json!({"access_token": access, "refresh_token": refresh, "expires_in": 60, "scope": "granted"}),
        )
    })
}

fn has_no_secret(case: &str, run: &Run) {
    for (name, text) in [("output", &run.out), ("standard error", &run.err)] {
        assert!(!text.contains(CANARY), "{case}: a secret in the {name}: {text}");
        assert!(!text.contains(&STANDARD.encode(CANARY)[..16]), "{case}: a secret in base64 in the {name}: {text}");
    }
}

/// The Secrets that were printed.
fn printed(run: &Run) -> Vec<Value> {
    serde_saphyr::from_multiple(&run.out).unwrap_or_else(|why| panic!("no YAML: {why}\n{}", run.out))
}

#[test]
fn the_secret_is_printed_with_its_tokens_masked() {
    let endpoint = endpoint();
    let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), credentials()], &[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    has_no_secret("masked", &run);
    let secrets = printed(&run);
    assert_eq!(secrets.len(), 1);
    assert_eq!((&secrets[0]["kind"], &secrets[0]["metadata"]["name"]), (&json!("Secret"), &json!("erp")));
    assert_eq!(secrets[0]["stringData"]["access_token"], "*** (20 characters)");
    assert_eq!(secrets[0]["stringData"]["refresh_token"], "*** (21 characters)");
    assert_eq!(secrets[0]["metadata"]["labels"]["app.kubernetes.io/managed-by"], "oauth-operator");
    assert_eq!(
        endpoint.requests()[0].member("client_secret"),
        format!("{CANARY} secret/&"),
        "the real secret was sent"
    );
}

#[test]
fn the_tokens_are_printed_when_they_are_asked_for() {
    let endpoint = endpoint();
    let target = json!({"target": {"secretName": "tokens", "keys": {"accessToken": "at", "refreshToken": "rt", "scope": "scope"}}});
    let documents = [integration("erp", &endpoint.url(), &target), credentials()];
    let shown = &printed(&fetch(&documents, &["--show-tokens"]))[0];
    assert_eq!(shown["metadata"]["name"], "tokens");
    let expected = json!({"at": format!("{CANARY}-access"), "rt": format!("{CANARY}-refresh"), "scope": "granted"});
    assert_eq!(shown["stringData"], expected);
    let run = fetch(&documents, &[]);
    has_no_secret("other keys", &run);
    assert_eq!(printed(&run)[0]["stringData"]["scope"], "granted", "what is no token is not masked");
}

#[test]
fn what_is_printed_is_a_secret_that_can_be_applied() {
    let endpoint = endpoint();
    let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), credentials()], &["--show-tokens"]);
    let printed = &printed(&run)[0];
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(printed.clone()).expect("a Secret");
    assert_eq!(secret.metadata.namespace, None, "the files name none");
    assert_eq!(secret.metadata.owner_references, None, "an owner without a uid would be refused");
}

#[test]
fn several_integrations_in_several_files_are_all_tried() {
    let (endpoint, folder) = (endpoint(), TempDir::new().expect("a folder"));
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}});
    write(&folder, "a.yaml", &[integration("one", &endpoint.url(), &json!({})), other]);
    write(&folder, "b.yaml", &[credentials(), integration("two", &endpoint.url(), &json!({}))]);
    let run = fetch_in(&folder, &["a.yaml", "b.yaml"], "");
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let names: Vec<Value> = printed(&run).iter().map(|secret| secret["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn standard_input_is_a_file_too() {
    let (endpoint, folder) = (endpoint(), TempDir::new().expect("a folder"));
    write(&folder, "secret.yaml", &[credentials()]);
    let run = fetch_in(&folder, &["-", "secret.yaml"], &text(&[integration("erp", &endpoint.url(), &json!({}))]));
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert_eq!(printed(&run)[0]["metadata"]["name"], "erp");
}

#[test]
fn the_worst_code_counts_and_the_good_ones_are_printed() {
    let (good, bad) = (endpoint(), Endpoint::start(|_| Reply::refused(401, "invalid_client", "no")));
    let nobody = format!("http://127.0.0.1:{}/token", free_port());
    let documents = [
        integration("refused", &bad.url(), &json!({})),
        integration("nobody", &nobody, &json!({})),
        integration("good", &good.url(), &json!({})),
        credentials(),
    ];
    let run = fetch(&documents, &[]);
    assert_eq!(run.code, 4, "{}", run.err);
    let errors: Vec<&str> = run.err.lines().collect();
    assert_eq!(errors.len(), 2, "one line for each: {errors:?}");
    assert!(errors[0].starts_with("error: refused: RequestRefused: "), "{errors:?}");
    assert!(errors[1].starts_with("error: nobody: EndpointUnreachable: "), "{errors:?}");
    assert_eq!(printed(&run)[0]["metadata"]["name"], "good");
    has_no_secret("several", &run);
}

#[test]
fn a_life_that_is_not_as_written_is_a_warning() {
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
    assert!(warnings[0].starts_with("warning: too-long: TokenLifeTooLong"), "{warnings:?}");
    assert!(warnings[1].starts_with("warning: unknown: TokenLifeUnknown"), "{warnings:?}");
    has_no_secret("warnings", &run);
}

#[test]
fn an_endpoint_that_does_not_answer_as_expected_ends_with_1() {
    let nobody = format!("http://127.0.0.1:{}/token", free_port());
    let cases: [(&str, Answer, &[&str]); 6] = [
        ("a page of HTML", |_| Reply::text(200, CANARY), &["InvalidResponse", "is not JSON", "spec.tokenEndpoint"]),
        (
            "no token",
            |_| Reply::json(200, &json!({"token": CANARY})),
            &["InvalidResponse", "spec.response.accessToken"],
        ),
        ("an error with 200", |_| Reply::json(200, &json!({"ok": false, "error": "invalid_auth"})), &["invalid_auth"]),
        ("503", |request| Reply::refused(503, "later", &request.body), &["EndpointUnavailable", "503"]),
        ("silence", |_| Reply::Never, &["RequestTimedOut", "spec.request.timeout"]),
        ("a connection that ends", |_| Reply::Close, &["EndpointUnreachable"]),
    ];
    for (case, answer, says) in cases {
        let endpoint = Endpoint::start(answer);
        ends_with(1, case, &endpoint.url(), &json!({"request": {"timeout": "1s"}}), &credentials(), says);
        assert_eq!(endpoint.count(), 1, "{case}: tried once");
    }
    let says = ["EndpointUnreachable", "failed to connect to 127.0.0.1", "spec.tokenEndpoint"];
    ends_with(1, "nobody there", &nobody, &json!({}), &credentials(), &says);
}

#[test]
fn a_configuration_that_cannot_work_ends_with_3_and_nothing_is_sent() {
    let endpoint = endpoint();
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}});
    let lacking = secret(&json!({"client_id": CANARY}));
    let empty = secret(&json!({"client_id": CANARY, "client_secret": ""}));
    let binary = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "data": {
        "client_id": STANDARD.encode(b"KANARIENVOGEL\xff\xfe"), "client_secret": STANDARD.encode(CANARY),
    }});
    let good = credentials();
    let cases: [(&str, Value, &Value, &[&str]); 9] = [
        ("no Secret", json!({}), &none, &["CredentialsMissing", "Secret credentials", "spec.credentials.secretName"]),
        ("no key", json!({}), &lacking, &["CredentialsMissing", "client_secret", "spec.credentials.keys.clientSecret"]),
        ("an empty value", json!({}), &empty, &["client_secret", "spec.credentials.keys.clientSecret"]),
        ("a value that is no text", json!({}), &binary, &["client_id", "not UTF-8"]),
        ("no refresh token", json!({"grantType": "refresh_token"}), &good, &["spec.credentials.keys.refreshToken"]),
        (
            "no expression",
            json!({"response": {"accessToken": "a.("}}),
            &good,
            &["InvalidSpec", "spec.response.accessToken"],
        ),
        ("no URL", json!({"tokenEndpoint": "login"}), &good, &["InvalidSpec", "spec.tokenEndpoint"]),
        ("another scheme", json!({"tokenEndpoint": "ftp://a/b"}), &good, &["InvalidSpec", "spec.tokenEndpoint"]),
        (
            "times that cannot be",
            json!({"tokenLife": "1m", "renewBefore": "2m"}),
            &good,
            &["InvalidSpec", "spec.renewBefore"],
        ),
    ];
    for (case, changes, secret, says) in cases {
        ends_with(3, case, &endpoint.url(), &changes, secret, says);
    }
    assert_eq!(endpoint.count(), 0);
}

#[test]
fn a_refusal_ends_with_4() {
    let elsewhere = endpoint();
    let location = elsewhere.url();
    let redirect = Endpoint::start(move |_| Reply::text(302, "").with_header("Location", &location));
    ends_with(4, "a redirect", &redirect.url(), &json!({}), &credentials(), &["Redirected", "spec.tokenEndpoint"]);
    assert_eq!(elsewhere.connections(), 0, "a redirect is not followed");
    let refuse = |error: &'static str| {
        Endpoint::start(move |request| {
            Reply::refused(400, error, &format!("{} {}", request.member("client_id"), request.body))
        })
    };
    let cases: [(&str, &[&str]); 4] = [
        ("invalid_client", &["RequestRefused", "400: invalid_client: [client_id]", "credentials Secret"]),
        ("invalid_grant", &["RequestRefused", "invalid_grant"]),
        ("invalid_request", &["spec.request.format: form"]),
        ("unsupported_grant_type", &["spec.request.format: form"]),
    ];
    for (error, says) in cases {
        ends_with(4, error, &refuse(error).url(), &json!({}), &credentials(), says);
    }
    let with_break = secret(&json!({"client_id": CANARY, "client_secret": format!("{CANARY}\n")}));
    let says = ["client_secret", "line break"];
    ends_with(4, "a line break", &refuse("invalid_client").url(), &json!({}), &with_break, &says);
}

/// Runs `fetch` on one integration and its Secret: the code, the words on standard error, nothing on standard output and
/// nothing secret on either.
fn ends_with(code: i32, case: &str, endpoint: &str, changes: &Value, secret: &Value, says: &[&str]) {
    let run = fetch(&[integration("it", endpoint, changes), secret.clone()], &[]);
    assert_eq!((run.code, run.out.as_str()), (code, ""), "{case}: {}", run.err);
    assert!(run.err.starts_with("error: it: "), "{case}: {}", run.err);
    for part in says {
        assert!(run.err.contains(part), "{case}: {part:?} is not in {}", run.err);
    }
    has_no_secret(case, &run);
}

#[test]
fn wrong_usage_and_files_that_cannot_be_read_end_with_2() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("broken.yaml"), format!("kind: Secret\nstringData: {{password: {CANARY}\n"))
        .expect("a file");
    fs::write(folder.path().join("binary.yaml"), [0xff, 0xfe, 0x00]).expect("a file");
    fs::write(folder.path().join("empty.yaml"), "").expect("a file");
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"password": format!("{CANARY}!")}});
    write(&folder, "not-base64.yaml", &[wrong]);
    write(&folder, "secret-only.yaml", &[credentials()]);
    write(&folder, "no-grant.yaml", &[integration("it", "http://127.0.0.1/", &json!({"grantType": "magic"}))]);
    write(&folder, "negative.yaml", &[integration("it", "http://127.0.0.1/", &json!({"tokenLife": "5s-3s"}))]);
    write(
        &folder,
        "endless.yaml",
        &[integration("it", "http://127.0.0.1/", &json!({"renewBefore": "9".repeat(30) + "h"}))],
    );
    let cases: [(&str, &[&str], &[&str]); 11] = [
        ("no file", &[], &["<FILE>"]),
        ("a flag that there is not", &["--tokens", "secret-only.yaml"], &["--tokens"]),
        ("a file that is not there", &["nowhere.yaml"], &["nowhere.yaml"]),
        ("a file that is no YAML", &["broken.yaml"], &["broken.yaml"]),
        ("a file that is no text", &["binary.yaml"], &["binary.yaml"]),
        ("a Secret that is not base64", &["not-base64.yaml"], &["not-base64.yaml", "base64"]),
        ("nothing to try", &["secret-only.yaml"], &["hold no OAuthIntegration"]),
        ("an empty file", &["empty.yaml"], &["hold no OAuthIntegration"]),
        ("a duration with a sign inside", &["negative.yaml"], &["negative.yaml", "5s-3s", "such as 90s"]),
        ("a duration without end", &["endless.yaml"], &["endless.yaml", "such as 90s"]),
        ("a grant that there is not", &["no-grant.yaml"], &["no-grant.yaml", "magic", "client_credentials"]),
    ];
    for (case, arguments, says) in cases {
        let run = fetch_in(&folder, arguments, "");
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{case}: {}", run.err);
        for part in says {
            assert!(run.err.contains(part), "{case}: {part:?} is not in {}", run.err);
        }
        has_no_secret(case, &run);
    }
}

#[test]
fn an_answer_is_explained_by_its_shape_and_by_what_each_expression_yields() {
    let endpoint = Endpoint::start(|_| {
        let session = json!({"jwt": format!("{CANARY}-access"), "ttl": 15, "roles": [CANARY, CANARY], "admin": false});
        Reply::json(200, &json!({"data": {"session": session}, "trace": null})).with_header("X-Request-Id", CANARY)
    });
    let response = json!({
        "accessToken": "data.session.jwt", "refreshToken": "data.session.renew", "expiresIn": "data.session.ttl * 60",
        "success": "$status = 200", "extra": {"roles": "$join(data.session.roles, ',')", "bad": "data.session.jwt + 1"},
    });
    let documents = [integration("erp", &endpoint.url(), &json!({"response": response})), credentials()];
    let run = fetch(&documents, &["--explain"]);
    has_no_secret("explained", &run);
    let expected = [
        "# the answer to client_credentials: status 200",
        "#   header x-request-id: *** (13 characters)",
        "#   body: an object with 2 members",
        "#     \"data\": an object with 1 members",
        "#       \"session\": an object with 4 members",
        "#         \"jwt\": *** (20 characters)",
        "#         \"ttl\": a number",
        "#         \"roles\": a list of 2 items",
        "#           [0]: *** (13 characters)",
        "#         \"admin\": false",
        "#     \"trace\": null",
        "# spec.response.accessToken (data.session.jwt) yields *** (20 characters)",
        "# spec.response.refreshToken (data.session.renew) yields nothing",
        "# spec.response.expiresIn (data.session.ttl * 60) yields the number 900",
        "# spec.response.success ($status = 200) yields true",
        "# spec.response.extra.bad (data.session.jwt + 1) yields JSONata error T2001",
        "# spec.response.extra.roles ($join(data.session.roles, ',')) yields *** (27 characters)",
    ];
    for line in expected {
        assert!(run.err.lines().any(|found| found == line), "no line {line:?} in\n{}", run.err);
    }
    assert!(
        run.err.contains("spec.response.extra.bad (data.session.jwt + 1) ends in JSONata error T2001"),
        "{}",
        run.err
    );
    assert_eq!(run.code, 1, "the answer is of no use");
}

#[test]
fn a_refusal_is_explained_too() {
    let endpoint = Endpoint::start(|_| Reply::json(401, &json!({"error": "invalid_client", "detail": CANARY})));
    let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), credentials()], &["--explain"]);
    has_no_secret("refused", &run);
    assert!(run.err.contains("status 401") && run.err.contains("\"detail\": *** (13 characters)"), "{}", run.err);
    let page = Endpoint::start(|_| Reply::text(502, "<html>no</html>"));
    let run = fetch(&[integration("erp", &page.url(), &json!({})), credentials()], &["--explain"]);
    assert!(run.err.contains("body: 15 bytes that are neither JSON nor a form"), "{}", run.err);
}

#[test]
fn what_stands_in_no_secret_comes_from_the_files_as_well() {
    let endpoint = endpoint();
    let changes = json!({"connection": {"caBundle": {"name": "authority"}}});
    let documents = [integration("erp", &endpoint.url(), &changes), credentials()];
    let run = fetch(&documents, &[]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("the files hold no ConfigMap authority with a text under key ca.crt"), "{}", run.err);
    let pem = common::keys::Authority::new().pem;
    let authority =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"}, "data": {"ca.crt": pem}});
    let run = fetch(&[&documents[..], &[authority]].concat(), &[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    // A ServiceAccount's token is nothing that files could hold.
    let changes = json!({
        "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "workload", "audience": "https://login.example.com"},
    });
    let run = fetch(&[integration("erp", &endpoint.url(), &changes), credentials()], &[]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("run where there is a cluster"), "{}", run.err);
}

#[test]
fn the_proxy_of_the_environment_is_gone_through_but_for_what_it_leaves_out() {
    let (proxy, direct) = (endpoint(), endpoint());
    let folder = TempDir::new().expect("a folder");
    let documents = [
        integration("far", "http://login.erp.invalid/token", &json!({})),
        integration("near", &direct.url(), &json!({})),
        credentials(),
    ];
    write(&folder, "all.yaml", &documents);
    let address = format!("http://{}", proxy.address());
    let environment = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", "127.0.0.1")];
    let run = fetch_with(&folder, &["all.yaml"], "", &environment);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let paths = |endpoint: &Endpoint| endpoint.requests().into_iter().map(|request| request.path).collect::<Vec<_>>();
    assert_eq!(paths(&proxy), ["http://login.erp.invalid/token"]);
    assert_eq!(paths(&direct), ["/token"]);
}

/// The API server refuses these; files are checked by nobody else.
#[test]
fn a_header_that_would_split_the_request_is_refused_and_nothing_is_sent() {
    let endpoint = endpoint();
    for headers in [json!({"X-Tenant": "a\r\nX-Injected: b"}), json!({"X Tenant": "a"}), json!({"X-Tenant\n": "a"})] {
        let changes = json!({"request": {"headers": headers}});
        let run = fetch(&[integration("erp", &endpoint.url(), &changes), credentials()], &[]);
        assert_eq!(run.code, 3, "{headers}: {}", run.err);
        assert!(run.err.contains("spec.request.headers"), "{headers}: {}", run.err);
    }
    assert_eq!(endpoint.count(), 0);
}

#[test]
fn a_token_that_is_a_number_or_a_text_of_base64_is_not_explained() {
    let number = Endpoint::start(|_| Reply::json(200, &json!({"token": 48_151_623, "ttl": 60})));
    let response = json!({"response": {"accessToken": "token", "expiresIn": "ttl"}});
    let run = fetch(&[integration("erp", &number.url(), &response), credentials()], &["--explain"]);
    assert!(!run.err.contains("48151623"), "{}", run.err);
    assert!(run.err.contains("spec.response.accessToken (token) yields a number"), "{}", run.err);
    assert!(run.err.contains("spec.response.expiresIn (ttl) yields the number 60"), "{}", run.err);
    for body in [STANDARD.encode(CANARY), format!("{}==", STANDARD.encode("KANARI").trim_end_matches('='))] {
        let text = Endpoint::start(move |_| Reply::text(200, &body));
        let run = fetch(&[integration("erp", &text.url(), &json!({})), credentials()], &["--explain"]);
        assert!(!run.err.contains(&STANDARD.encode("KANARI")[..8]), "{}", run.err);
        assert!(run.err.contains("neither JSON nor a form"), "{}", run.err);
    }
}
