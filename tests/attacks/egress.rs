//! Egress: a tenant cannot use the operator to reach an address that the tenant cannot reach directly.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::siege::{Preload, SHORT_TIMEOUT, Siege, User, client_credentials};
use test_support::endpoint::{Endpoint, Reply};
use test_support::eventually;
use test_support::process::free_port;

/// An address that no administrator has allowed for integrations without credentials: the harness allows 127.0.0.1.
const INTERNAL: &str = "127.0.0.2";

/// Client credentials without client authentication, with additional fields.
fn anonymous(more: &Value) -> Value {
    let mut spec = json!({"grantType": "client_credentials", "clientAuthentication": {"method": "none"}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// The message of the condition Ready.
async fn message(user: &User, name: &str) -> String {
    let found = user.dynamic_integrations().get(name).await.expect("the integration");
    let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
    ready["message"].as_str().unwrap_or_default().to_owned()
}

/// Without an admission policy, so that the operator must prevent it. The response of an internal server would be
/// sent as a token to the attacker's revocation endpoint.
#[tokio::test]
async fn an_integration_without_credentials_reaches_only_allowed_hosts() {
    let siege = Siege::without_policy(&[]).await;
    let inner = Endpoint::start_at(INTERNAL, |_| Reply::json(200, &json!({"internal": "kanarie-internal-document"})));
    let evil = Endpoint::start(|_| Reply::token(3600));
    let (inside, outside) = (format!("http://{}", inner.address()), format!("http://{}", evil.address()));
    let response = json!({"accessToken": "$string($)"});
    let all = json!({"data": {"all": "$string(response)"}});
    let attacks = [
        (
            "token-endpoint",
            json!({"tokenEndpoint": format!("{inside}/secrets"), "response": response, "target": all,
            "revocation": {"endpoint": format!("{inside}/revoke"), "afterRenewal": "1s", "onDeletion": true}}),
        ),
        ("issuer", json!({"issuer": format!("{inside}/realm")})),
        ("proxy", json!({"tokenEndpoint": format!("{outside}/token"), "connection": {"proxy": inside}})),
        ("own-proxy", json!({"tokenEndpoint": format!("{inside}/secrets"), "connection": {"proxy": outside}})),
    ];
    let mut elsewhere = anonymous(&attacks[0].1);
    elsewhere["revocation"]["endpoint"] = json!(format!("{outside}/revoke"));
    let rejected =
        siege.mallory.integration("elsewhere", &elsewhere).await.expect_err("a revocation elsewhere").to_string();
    assert!(rejected.contains("revocation.endpoint must have the origin"), "{rejected}");
    for (name, spec) in &attacks {
        siege.mallory.integration(name, &anonymous(spec)).await.expect("an integration");
        siege.mallory.wait_for_ready(name, "False", "EndpointNotAllowed").await;
        let reported = message(&siege.mallory, name).await;
        assert!(reported.contains("--allow-anonymous-host") && reported.contains(INTERNAL), "{name}: {reported}");
        siege.mallory.dynamic_integrations().delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    assert_eq!((inner.count(), inner.connections(), evil.count()), (0, 0, 0), "a request was sent");
    // A token of an allowed server is not sent to one that is not: the API server already rejects such a spec.
    let spec = json!({"tokenEndpoint": evil.url(), "revocation": {"endpoint": format!("{inside}/revoke"), "onDeletion": true}});
    let rejected =
        siege.mallory.integration("allowed", &anonymous(&spec)).await.expect_err("another origin").to_string();
    assert!(rejected.contains("revocation.endpoint must have the origin"), "{rejected}");
    siege
        .mallory
        .integration("allowed", &anonymous(&json!({"tokenEndpoint": evil.url()})))
        .await
        .expect("an integration");
    siege.mallory.wait_for_ready("allowed", "True", "TokenValid").await;
    assert_eq!(inner.connections(), 0, "the token was sent to the internal server");
    assert!(!siege.operator.logs().contains("kanarie-internal-document"));
}

/// Accepts connections at a forbidden address, and counts them.
fn forbidden(port: u16) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((INTERNAL, port)).expect("the port is also free at the other address");
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

/// Names that resolve to an allowed address when they are checked and to a forbidden one on connect, or to both at
/// once: each name is resolved once per request, and the operator connects to the addresses that were checked.
#[tokio::test]
async fn dns_rebinding_cannot_reach_a_forbidden_address() {
    const NAMES: usize = 12;
    let mut siege =
        Siege::with(&["--allow-cidr=127.0.0.1/32", "--allow-anonymous-host=*.rebinding.test,*.both.test"]).await;
    let names = Preload::build("changing_names.c");
    siege.restart_operator_in(&[("LD_PRELOAD".to_owned(), names.path())]).await;
    // Each success is soon followed by another request, when the name resolves to another address.
    let allowed = Endpoint::start(|_| Reply::token(2));
    let open = allowed.address().port();
    let closed = free_port();
    let reached = [forbidden(open), forbidden(closed)];
    let at = |name: &str, port: u16| anonymous(&json!({"tokenEndpoint": format!("http://{name}:{port}/token")}));
    for number in 0..NAMES {
        let spec = at(&format!("n{number}.rebinding.test"), open);
        siege.alice.integration(&format!("it-{number}"), &spec).await.expect("an integration");
    }
    // The allowed one of its two addresses accepts no connections; the other one is not tried instead.
    siege.alice.integration("both", &at("it.both.test", closed)).await.expect("an integration");
    siege.alice.wait_for_ready("both", "False", "EndpointUnreachable").await;
    let all = async || siege.alice.dynamic_integrations().list(&ListParams::default()).await.expect("a list").items;
    eventually("at least half of the names are eventually rejected", SHORT_TIMEOUT, async || {
        let rejected = all().await.into_iter().filter(|object| {
            let failure = &object.data["status"]["lastFailure"];
            failure["reason"] == "EndpointNotAllowed"
                && failure["message"].as_str().is_some_and(|text| text.contains(INTERNAL))
        });
        let rejected = rejected.count();
        if rejected * 2 >= NAMES { Ok(()) } else { Err(format!("{rejected} are rejected")) }
    })
    .await;
    assert!(allowed.count() > 0, "no request was sent to the allowed address");
    let reached = reached.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(reached, [0, 0], "a forbidden address was connected to");
}

/// A Secret that is pinned to a path cannot be sent to another path, even if a server interprets a path or a header in
/// an unusual way.
#[tokio::test]
async fn a_secret_that_is_pinned_to_a_path_is_not_sent_to_another_path() {
    let siege = Siege::new().await;
    let gateway = Endpoint::start(|_| Reply::token(3600));
    let base = format!("http://{}", gateway.address());
    let values = [("client_id", "bob"), ("client_secret", "kanarie-secret-of-bob")];
    siege.bob.pinned_secret("credentials", &values, &format!("{base}/api?tenant=bob")).await;
    let ways = [
        "/api/..%00/admin?tenant=bob",
        "/api/..%20/admin?tenant=bob",
        "/api/.%00./admin?tenant=bob",
        "/api/%c0%ae%c0%ae/admin?tenant=bob",
        "/api/..%3f/admin?tenant=bob",
        "/api/..;/admin?tenant=bob",
        "/api/..%5cadmin?tenant=bob",
        "/api?tenant=alice",
        "/api",
    ];
    for (number, way) in ways.iter().enumerate() {
        let name = format!("way-{number}");
        let spec = client_credentials(&format!("{base}{way}"), "credentials");
        siege.bob.integration(&name, &spec).await.expect("an integration");
        siege.bob.wait_for_ready(&name, "False", "EndpointNotAllowed").await;
    }
    let mut spec = client_credentials(&format!("{base}/api?tenant=bob"), "credentials");
    for header in
        ["X-Original-URL", "x-rewrite-url", "X-HTTP-Method-Override", "X-Forwarded-Prefix", "X-SSL-Client-Cert"]
    {
        spec["request"] = json!({"headers": {header: "/admin"}});
        let rejected = siege.bob.integration("header", &spec).await.expect_err(header).to_string();
        assert!(rejected.contains("request.headers must not set"), "{rejected}");
    }
    spec["request"] = json!({"headers": {"X-Unknown-To-Us": "/admin"}});
    siege.bob.integration("header", &spec).await.expect("an integration");
    siege.bob.wait_for_ready("header", "False", "EndpointNotAllowed").await;
    assert_eq!(gateway.count(), 0, "the secret was sent: {:?}", gateway.requests());
    spec["request"] = json!({"headers": {"X-Api-Version": "2"}});
    siege.bob.integration("header", &spec).await.expect("an integration");
    siege.bob.wait_for_ready("header", "True", "TokenValid").await;
}

/// A tenant without the permission to read the target can still read the status of the integration.
#[tokio::test]
async fn a_lifetime_reveals_nothing_about_a_token() {
    let siege = Siege::without_policy(&[]).await;
    let serve = |token: &'static str| {
        Endpoint::start(move |_| Reply::json(200, &json!({"access_token": token, "expires_in": 3600})))
    };
    let (one, other) = (serve("aKanarie1x2Y3z4W5v6U"), serve("zKanarie6U5v4W3z2Y1x"));
    let pins = format!("{} {}", one.url(), other.url());
    siege
        .bob
        .pinned_secret("credentials", &[("client_id", "bob"), ("client_secret", "kanarie-secret-of-bob")], &pins)
        .await;
    let attacks = [
        ("expires-in", json!({"expiresIn": "access_token > 'n' ? 600 : 6000"})),
        (
            "expires-at",
            json!({"expiresAt": "$toMillis('2030-01-01T00:00:00.000Z') / 1000 + ($contains($string($), 'zKan') ? 0 : 1e6)",
            "expiresIn": "none"}),
        ),
        ("success", json!({"success": "access_token < 'n'"})),
        (
            "claims",
            json!({"expiresIn": "none",
            "accessToken": "'e30.' & $base64encode('{\"exp\":' & ($toMillis('2030-01-01T00:00:00.000Z') / 1000 + (access_token > 'n' ? 0 : 1e6)) & '}') & '.x'"}),
        ),
    ];
    for (name, response) in &attacks {
        let mut shown = Vec::new();
        for (number, endpoint) in [&one, &other].into_iter().enumerate() {
            let name = format!("{name}-{number}");
            let mut spec = client_credentials(&endpoint.url(), "credentials");
            spec["response"] = response.clone();
            siege.bob.integration(&name, &spec).await.expect("an integration");
            siege.bob.wait_for_ready(&name, "True", "TokenValid").await;
            shown.push(lifetime(&siege.bob, &name).await);
        }
        assert_eq!(shown[0], shown[1], "{name}: the lifetime reveals which token was issued");
    }
}

/// The seconds between the last renewal and the expiry, according to the status.
async fn lifetime(user: &User, name: &str) -> i64 {
    let found = user.dynamic_integrations().get(name).await.expect("the integration");
    let time = |field: &str| {
        let text = found.data["status"][field].as_str().unwrap_or_else(|| panic!("{field}: {}", found.data["status"]));
        text.parse::<jiff::Timestamp>().expect("a time").as_second()
    };
    time("expiresAt") - time("issuedAt")
}
