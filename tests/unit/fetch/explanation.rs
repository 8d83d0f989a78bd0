//! `--explain` shows the structure of a response and the result of each expression, without secret values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use test_support::endpoint::{Endpoint, Reply};

use super::{CANARY, assert_no_secret, credentials, fetch, integration};

#[test]
fn explain_prints_the_structure_of_a_response_and_the_result_of_each_expression() {
    let endpoint = Endpoint::start(|_| {
        let session = json!({"jwt": format!("{CANARY}-access"), "ttl": 15, "roles": [CANARY, CANARY], "admin": false});
        Reply::json(200, &json!({"data": {"session": session}, "trace": null})).with_header("X-Request-Id", CANARY)
    });
    let response = json!({
        "accessToken": "data.session.jwt", "refreshToken": "data.session.renew", "expiresIn": "data.session.ttl * 60",
        "success": "$status = 200",
    });
    let target = json!({"data": {
        "admin": "response.data.session.admin", "bad": "response.data.session.jwt + 1",
        "roles": "$join(response.data.session.roles, ',')",
    }});
    let documents =
        [integration("erp", &endpoint.url(), &json!({"response": response, "target": target})), credentials()];
    let run = fetch(&documents, &["--explain"]);
    assert_no_secret("explained", &run);
    let expected = [
        "# the response to client_credentials: status 200",
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
        "# spec.target.data.admin (response.data.session.admin) yields false",
        "# spec.target.data.bad (response.data.session.jwt + 1) yields JSONata error T2001",
        "# spec.target.data.roles ($join(response.data.session.roles, ',')) yields *** (27 characters)",
    ];
    for line in expected {
        assert!(run.err.lines().any(|found| found == line), "no line {line:?} in\n{}", run.err);
    }
    assert!(run.err.contains("does not yield a usable value"), "{}", run.err);
    assert_eq!(run.code, 1, "the response is invalid");
}

#[test]
fn the_expiry_of_the_credentials_is_explained_and_an_early_one_is_a_warning() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let run = |expiry: &str, flags: &[&str]| {
        let mut secret = credentials();
        secret["metadata"]["annotations"] = json!({"oauth.evolutionx.io/credentials-expire-at": expiry});
        let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), secret], flags);
        assert_eq!(run.code, 0, "{}", run.err);
        run.err
    };
    let far = "# the credentials of erp expire at 2090-03-01T00:00:00Z\n";
    assert!(run("2090-03-01", &["--explain"]).contains(far));
    let without = run("2090-03-01", &[]);
    assert!(!without.contains("expire"), "{without}");
    for (expiry, says) in [
        (
            "2020-03-01",
            "warning: erp: CredentialsExpiring: the credentials in Secret credentials expired at 2020-03-01",
        ),
        ("soon", "warning: erp: CredentialsExpiryInvalid: the annotation"),
    ] {
        let found = run(expiry, &[]);
        assert!(found.contains(says), "{found}");
    }
}

#[test]
fn a_rejection_is_explained_too() {
    let endpoint = Endpoint::start(|_| Reply::json(401, &json!({"error": "invalid_client", "detail": CANARY})));
    let run = fetch(&[integration("erp", &endpoint.url(), &json!({})), credentials()], &["--explain"]);
    assert_no_secret("rejected", &run);
    assert!(run.err.contains("status 401") && run.err.contains("\"detail\": *** (13 characters)"), "{}", run.err);
    let page = Endpoint::start(|_| Reply::text(502, "<html>no</html>"));
    let run = fetch(&[integration("erp", &page.url(), &json!({})), credentials()], &["--explain"]);
    assert!(run.err.contains("body: 15 bytes that are neither JSON nor a form"), "{}", run.err);
}

#[test]
fn a_token_that_is_a_number_or_in_base64_is_masked() {
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
