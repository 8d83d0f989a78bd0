//! Requests in flight: requests of one namespace that fail or hang do not delay another namespace.

use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::siege::{Preload, Siege, User, Victim, client_credentials};
use test_support::certificate::Identity;
use test_support::endpoint::{Endpoint, Reply, Request, canary};
use test_support::process::free_port;

const LIFETIME_SECONDS: u64 = 8;

/// A spec without credentials, with the maximum timeout that the API server accepts.
fn attacking(endpoint: &str) -> Value {
    json!({
        "tokenEndpoint": endpoint, "grantType": "client_credentials", "clientId": "alice",
        "clientAuthentication": {"method": "none"}, "request": {"timeout": "60s"},
    })
}

async fn create_all(user: &User, integrations: Vec<(String, Value)>) {
    stream::iter(integrations)
        .for_each_concurrent(8, async |(name, spec)| {
            user.integration(&name, &spec).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        })
        .await;
}

/// The response of an honest provider: the token contains its expiry, which the harness reads.
fn token() -> Reply {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let expires = since.as_millis() + u128::from(LIFETIME_SECONDS) * 1000;
    Reply::json(200, &json!({"access_token": format!("victim-{expires}-{}", canary()), "expires_in": LIFETIME_SECONDS}))
}

/// A provider that serves its tenants, and misbehaves for some requests by their path.
fn provider(request: &Request) -> Reply {
    match request.path.as_str() {
        "/rate-limited" => Reply::json(429, &json!({"error": "slow_down"})).with_header("Retry-After", "300"),
        "/silent" => Reply::NoResponse,
        _ => token(),
    }
}

/// The victim's provider rate-limits and ignores requests of alice, and 250 other hosts accept her requests and never
/// respond.
#[tokio::test]
async fn requests_of_one_namespace_that_fail_or_hang_do_not_delay_others() {
    let siege = Siege::new().await;
    let victim = siege.victim(LIFETIME_SECONDS).await;
    victim.endpoint.respond(provider);
    let shared = format!("http://{}", victim.endpoint.address());
    let silent: Vec<TcpListener> = (0..250).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let limited = (0..60).map(|number| (format!("limited-{number}"), attacking(&format!("{shared}/rate-limited"))));
    let hanging = (0..60).map(|number| (format!("hanging-{number}"), attacking(&format!("{shared}/silent"))));
    let elsewhere = silent.iter().enumerate().map(|(number, listener)| {
        let address = listener.local_addr().expect("an address");
        (format!("elsewhere-{number}"), attacking(&format!("http://{address}/token")))
    });
    create_all(&siege.alice, limited.chain(hanging).chain(elsewhere).collect()).await;
    siege.observe(&victim, Duration::from_secs(25)).await.assert_unharmed();
    // A new integration gets its first token in the meantime.
    siege.bob.integration("newcomer", &client_credentials(&victim.endpoint.url(), "credentials")).await.expect("bob's");
    siege.bob.wait_for_ready("newcomer", "True", "TokenValid").await;
    let metrics = siege.operator.metrics();
    assert!(
        !metrics.contains("oauth_operator_circuit_breaker_open{"),
        "one namespace opened the circuit of a host for all:\n{metrics}"
    );
    let in_flight = siege.operator.metric("oauth_operator_token_requests_in_flight", "").unwrap_or_default();
    assert!((16.0..=40.0).contains(&in_flight), "the attack is running and has its share: {in_flight}");
    let queued = siege.operator.metric("oauth_operator_token_requests_queued", "").unwrap_or_default();
    assert!(queued > 0.0, "the other requests of the attack are queued");
}

/// Alice's own proxies reject all requests to the victim's provider, and the name servers of 400 other hosts are
/// silent.
#[tokio::test]
async fn failing_proxies_and_unresolved_names_do_not_delay_others() {
    let flags = ["--allow-anonymous-host=localhost", "--allow-anonymous-host=*.silent.test"];
    let mut siege = Siege::with(&flags).await;
    let identity = Identity::new("localhost");
    let silence = Preload::build("silent_names.c");
    siege
        .restart_operator_in(&[
            ("LD_PRELOAD".to_owned(), silence.path()),
            ("SSL_CERT_FILE".to_owned(), identity.ca_file().display().to_string()),
        ])
        .await;
    let victim = victim_by_name(&siege, &identity).await;
    let shared = format!("https://localhost:{}/token", victim.endpoint.address().port());
    let proxied = (0..60).map(|number| {
        let mut spec = attacking(&shared);
        spec["connection"] = json!({"proxy": format!("http://127.0.0.1:{}/{number}", free_port())});
        (format!("proxied-{number}"), spec)
    });
    let silent = (0..400).map(|number| {
        let endpoint = format!("https://n{number}.silent.test/token");
        (format!("silent-{number}"), attacking(&endpoint))
    });
    create_all(&siege.alice, proxied.chain(silent).collect()).await;
    siege.observe(&victim, Duration::from_secs(25)).await.assert_unharmed();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", siege.operator.pid())).expect("threads").count();
    assert!((2..48).contains(&tasks), "{tasks} threads: names are resolved in a bounded number of threads");
    siege.bob.integration("newcomer", &client_credentials(&shared, "credentials")).await.expect("bob's");
    siege.bob.wait_for_ready("newcomer", "True", "TokenValid").await;
}

/// An integration of bob with a TLS endpoint that is configured by name.
async fn victim_by_name(siege: &Siege, identity: &Identity) -> Victim {
    let endpoint = Endpoint::start_tls(identity.server(), provider);
    let origin = format!("https://localhost:{}", endpoint.address().port());
    let values = [("client_id", "bob"), ("client_secret", "kanarie-secret-of-bob")];
    siege.bob.pinned_secret("credentials", &values, &origin).await;
    let spec = client_credentials(&format!("{origin}/token"), "credentials");
    siege.bob.integration("victim", &spec).await.expect("bob's integration");
    siege.bob.wait_for_ready("victim", "True", "TokenValid").await;
    Victim { endpoint, name: "victim".to_owned() }
}
