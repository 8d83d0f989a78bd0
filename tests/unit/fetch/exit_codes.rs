//! The exit code tells which kind of failure occurred.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::endpoint::{Endpoint, Reply};
use test_support::process::free_port;

use super::{CANARY, Response, assert_no_secret, credentials, endpoint, fetch, fetch_in, integration, secret, write};

#[test]
fn an_endpoint_that_does_not_respond_as_expected_exits_with_1() {
    let unreachable = format!("http://127.0.0.1:{}/token", free_port());
    let cases: [(&str, Response, &[&str]); 5] = [
        ("a page of HTML", |_| Reply::text(200, CANARY), &["InvalidResponse", "is not JSON", "spec.tokenEndpoint"]),
        (
            "no token",
            |_| Reply::json(200, &json!({"token": CANARY})),
            &["InvalidResponse", "spec.response.accessToken"],
        ),
        ("503", |request| Reply::rejected(503, "later", &request.body), &["EndpointUnavailable", "503"]),
        ("silence", |_| Reply::NoResponse, &["RequestTimedOut", "spec.request.timeout"]),
        ("a connection that closes", |_| Reply::Close, &["EndpointUnreachable"]),
    ];
    for (case, response, parts) in cases {
        let endpoint = Endpoint::start(response);
        assert_exit(1, case, &endpoint.url(), &json!({"request": {"timeout": "1s"}}), &credentials(), parts);
        assert_eq!(endpoint.count(), 1, "{case}: one attempt");
    }
    let parts = ["EndpointUnreachable", "failed to connect to 127.0.0.1", "spec.tokenEndpoint"];
    assert_exit(1, "no server", &unreachable, &json!({}), &credentials(), &parts);
}

#[test]
fn an_invalid_configuration_exits_with_3_and_nothing_is_sent() {
    let endpoint = endpoint();
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}});
    let incomplete = secret(&json!({"client_id": CANARY}));
    let empty = secret(&json!({"client_id": CANARY, "client_secret": ""}));
    let binary = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "data": {
        "client_id": STANDARD.encode(b"KANARIENVOGEL\xff\xfe"), "client_secret": STANDARD.encode(CANARY),
    }});
    let good = credentials();
    let cases: [(&str, Value, &Value, &[&str]); 9] = [
        ("no Secret", json!({}), &none, &["CredentialsMissing", "Secret credentials", "spec.credentials.secretName"]),
        (
            "no key",
            json!({}),
            &incomplete,
            &["CredentialsMissing", "client_secret", "spec.credentials.keys.clientSecret"],
        ),
        ("an empty value", json!({}), &empty, &["client_secret", "spec.credentials.keys.clientSecret"]),
        ("a value that is not text", json!({}), &binary, &["client_id", "not UTF-8"]),
        ("no refresh token", json!({"grantType": "refresh_token"}), &good, &["spec.credentials.keys.refreshToken"]),
        (
            "no expression",
            json!({"response": {"accessToken": "a.("}}),
            &good,
            &["InvalidSpec", "spec.response.accessToken"],
        ),
        ("not a URL", json!({"tokenEndpoint": "login"}), &good, &["InvalidSpec", "spec.tokenEndpoint"]),
        ("another scheme", json!({"tokenEndpoint": "ftp://a/b"}), &good, &["InvalidSpec", "spec.tokenEndpoint"]),
        (
            "contradictory times",
            json!({"tokenLife": "1m", "renewBefore": "2m"}),
            &good,
            &["InvalidSpec", "spec.renewBefore"],
        ),
    ];
    for (case, changes, secret, parts) in cases {
        assert_exit(3, case, &endpoint.url(), &changes, secret, parts);
    }
    assert_eq!(endpoint.count(), 0);
}

#[test]
fn a_rejection_exits_with_4() {
    let elsewhere = endpoint();
    let location = elsewhere.url();
    let redirect = Endpoint::start(move |_| Reply::text(302, "").with_header("Location", &location));
    assert_exit(
        4,
        "a redirect",
        &redirect.url(),
        &json!({}),
        &credentials(),
        &["UnexpectedRedirect", "spec.tokenEndpoint"],
    );
    assert_eq!(elsewhere.connections(), 0, "a redirect is not followed");
    let with_200 = Endpoint::start(|_| Reply::json(200, &json!({"ok": false, "error": "invalid_auth"})));
    let parts = ["RequestRejected", "invalid_auth"];
    assert_exit(4, "an error with 200", &with_200.url(), &json!({}), &credentials(), &parts);
    let rejecting = |error: &'static str| {
        Endpoint::start(move |request| {
            Reply::rejected(400, error, &format!("{} {}", request.parameter("client_id"), request.body))
        })
    };
    let cases: [(&str, &[&str]); 4] = [
        (
            "invalid_client",
            &[
                "RequestRejected",
                "400: invalid_client: [withheld: it repeats data from the request]",
                "credentials Secret",
            ],
        ),
        ("invalid_grant", &["RequestRejected", "invalid_grant"]),
        ("invalid_request", &["spec.request.format: form"]),
        ("unsupported_grant_type", &["spec.request.format: form"]),
    ];
    for (error, parts) in cases {
        assert_exit(4, error, &rejecting(error).url(), &json!({}), &credentials(), parts);
    }
    let with_break = secret(&json!({"client_id": CANARY, "client_secret": format!("{CANARY}\n")}));
    let parts = ["client_secret", "line break"];
    assert_exit(4, "a line break", &rejecting("invalid_client").url(), &json!({}), &with_break, &parts);
}

/// Runs `fetch` on one integration and its Secret; checks the exit code, the parts of the message on standard error,
/// that standard output is empty, and that neither contains a secret.
fn assert_exit(code: i32, case: &str, endpoint: &str, changes: &Value, secret: &Value, parts: &[&str]) {
    let run = fetch(&[integration("it", endpoint, changes), secret.clone()], &[]);
    assert_eq!((run.code, run.out.as_str()), (code, ""), "{case}: {}", run.err);
    assert!(run.err.starts_with("error: it: "), "{case}: {}", run.err);
    for part in parts {
        assert!(run.err.contains(part), "{case}: {part:?} is not in {}", run.err);
    }
    assert_no_secret(case, &run);
}

#[test]
fn wrong_usage_and_unreadable_files_exit_with_2() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("broken.yaml"), format!("kind: Secret\nstringData: {{password: {CANARY}\n"))
        .expect("a file");
    fs::write(dir.path().join("binary.yaml"), [0xff, 0xfe, 0x00]).expect("a file");
    fs::write(dir.path().join("empty.yaml"), "").expect("a file");
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"password": format!("{CANARY}!")}});
    write(&dir, "not-base64.yaml", &[wrong]);
    write(&dir, "secret-only.yaml", &[credentials()]);
    write(&dir, "no-grant.yaml", &[integration("it", "http://127.0.0.1/", &json!({"grantType": "magic"}))]);
    write(&dir, "negative.yaml", &[integration("it", "http://127.0.0.1/", &json!({"tokenLife": "5s-3s"}))]);
    write(
        &dir,
        "endless.yaml",
        &[integration("it", "http://127.0.0.1/", &json!({"renewBefore": "9".repeat(30) + "h"}))],
    );
    let cases: [(&str, &[&str], &[&str]); 11] = [
        ("no file", &[], &["<FILE>"]),
        ("an unknown flag", &["--tokens", "secret-only.yaml"], &["--tokens"]),
        ("a missing file", &["nowhere.yaml"], &["nowhere.yaml"]),
        ("a file that is not YAML", &["broken.yaml"], &["broken.yaml"]),
        ("a file that is not text", &["binary.yaml"], &["binary.yaml"]),
        ("a Secret that is not base64", &["not-base64.yaml"], &["not-base64.yaml", "base64"]),
        ("no integration", &["secret-only.yaml"], &["contain no OAuthIntegration"]),
        ("an empty file", &["empty.yaml"], &["contain no OAuthIntegration"]),
        ("a duration with a sign inside", &["negative.yaml"], &["negative.yaml", "5s-3s", "such as 90s"]),
        ("a duration that is too long", &["endless.yaml"], &["endless.yaml", "such as 90s"]),
        ("an unknown grant", &["no-grant.yaml"], &["no-grant.yaml", "magic", "client_credentials"]),
    ];
    for (case, arguments, parts) in cases {
        let run = fetch_in(&dir, arguments, "");
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{case}: {}", run.err);
        for part in parts {
            assert!(run.err.contains(part), "{case}: {part:?} is not in {}", run.err);
        }
        assert_no_secret(case, &run);
    }
}
