//! Guarantee: values of the credentials Secret are sent as parameters and headers under any name, only where they may be
//! sent, and are never shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::keycloak::Keycloak;
use test_support::oidc_provider::{OidcProvider, secret};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{World, eventually, keys};

const ACCOUNT: &str = "kanarie-account-4711";
const GATEWAY_KEY: &str = "kanarie-gateway-key";
const ASSERTION: &str = "kanarie-ready-made-assertion";

async fn write_credentials(world: &World, gateway_key: &str) {
    let values = [
        ("client_id", "the-client"),
        ("client_secret", "kanarie-client-secret"),
        ("account", ACCOUNT),
        ("gateway_key", gateway_key),
        ("authorization", "Bearer kanarie-ready-made-assertion"),
    ];
    world.secret("credentials", &values).await;
}

fn spec(endpoint: &Endpoint) -> Value {
    let mut spec = client_credentials(&endpoint.url());
    spec["request"] = json!({
        "parametersFrom": {"account_id": {"key": "account"}, "client_secret": {"key": "account"}},
        "headersFrom": {"X-Api-Key": {"key": "gateway_key"}, "Authorization": {"key": "authorization"}},
    });
    spec
}

#[tokio::test]
async fn values_of_the_secret_are_sent_under_any_name_and_a_change_is_a_reason_to_renew() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("secret-values").await;
    write_credentials(&world, GATEWAY_KEY).await;
    world.integration("it", &spec(&endpoint)).await;
    world.ready("it").await;
    let request = endpoint.requests().remove(0);
    let expected = json!({
        "grant_type": "client_credentials", "client_id": "the-client", "client_secret": ACCOUNT, "account_id": ACCOUNT,
    });
    assert_eq!(request.json(), expected);
    assert_eq!(request.headers["x-api-key"], GATEWAY_KEY);
    assert_eq!(request.headers["authorization"], format!("Bearer {ASSERTION}"));
    let first = world.value("it", "access_token").await;
    write_credentials(&world, "kanarie-next-gateway-key").await;
    world.wait_for_change("it", "access_token", &first).await;
    assert_eq!(endpoint.requests()[1].headers["x-api-key"], "kanarie-next-gateway-key");
    // A key that is missing.
    let without = Patch::Merge(json!({"data": {"account": null}}));
    world.secrets().patch("credentials", &PatchParams::default(), &without).await.expect("a change");
    let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(stalled.message.contains("no value under key account"), "{}", stalled.message);
    assert!(stalled.message.contains("spec.request.parametersFrom"), "{}", stalled.message);
}

#[tokio::test]
async fn a_server_that_repeats_the_values_does_not_reveal_them() {
    let endpoint = Endpoint::start(|request| {
        let repeated = format!(
            "account {}, key {}, token {}",
            request.parameter("account_id"),
            request.headers["x-api-key"],
            request.headers["authorization"].trim_start_matches("Bearer "),
        );
        Reply::rejected(401, "invalid_client", &repeated)
    });
    let world = World::new("secret-values-repeated").await;
    write_credentials(&world, GATEWAY_KEY).await;
    world.integration("it", &spec(&endpoint)).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("[withheld: it repeats data from the request]"), "{}", ready.message);
    let text = world.observable_output().await;
    for value in [ACCOUNT, GATEWAY_KEY, ASSERTION] {
        assert!(!text.contains(value), "{value} is visible");
    }
}

/// A server that decodes a header for HTTP Basic knows the password in plain text.
#[tokio::test]
async fn a_password_in_an_authorization_header_is_not_revealed_either() {
    let password = "kanarie-password-of-basic";
    let endpoint = Endpoint::start(move |_| Reply::rejected(401, "invalid_client", &format!("{password} is wrong")));
    let world = World::new("secret-values-basic").await;
    let header = format!("Basic {}", STANDARD.encode(format!("ada:{password}")));
    world.secret("credentials", &[("authorization", header.as_str())]).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["clientAuthentication"] = json!({"method": "none"});
    spec["request"] = json!({"headersFrom": {"Authorization": {"key": "authorization"}}});
    world.integration("it", &spec).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("[withheld: it repeats data from the request]"), "{}", ready.message);
    assert_eq!(endpoint.requests()[0].headers["authorization"], header);
    assert!(!world.observable_output().await.contains(password), "the password is visible");
}

#[tokio::test]
async fn a_value_that_would_split_the_request_is_not_sent() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("secret-values-split").await;
    write_credentials(&world, "kanarie-key\r\nX-Forwarded-For: 10.0.0.1").await;
    world.integration("it", &spec(&endpoint)).await;
    let ready = world.condition("it", "Ready", "False", "CredentialsInvalid").await;
    assert!(ready.message.contains("key gateway_key cannot be sent in header X-Api-Key"), "{}", ready.message);
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn below_a_pinned_path_only_harmless_headers_are_sent() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("secret-values-pinned").await;
    write_credentials(&world, GATEWAY_KEY).await;
    world.pin("credentials", &endpoint.url()).await;
    let mut spec = spec(&endpoint);
    world.integration("allowed", &spec).await;
    world.ready("allowed").await;
    spec["request"]["headersFrom"] = json!({"X-Unknown-To-Us": {"key": "gateway_key"}});
    world.integration("denied", &spec).await;
    let stalled = world.condition("denied", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("X-Unknown-To-Us"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn large_values_are_not_sent() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("secret-values-large").await;
    let large = "kanarie-large-value-".repeat(500);
    let values = [("client_id", "the-client"), ("client_secret", "kanarie-client-secret"), ("large", large.as_str())];
    world.secret("credentials", &values).await;
    // Ten kilobytes, eight times.
    let names = (0..8).map(|number| (format!("p{number}"), json!({"key": "large"}))).collect::<serde_json::Map<_, _>>();
    for (name, request) in [
        ("parameters", json!({"parametersFrom": names})),
        ("headers", json!({"headersFrom": {"X-Key": {"key": "large"}}})),
    ] {
        let mut spec = client_credentials(&endpoint.url());
        spec["request"] = request;
        world.integration(name, &spec).await;
        let stalled = world.condition(name, "Stalled", "True", "CredentialsInvalid").await;
        assert!(stalled.message.contains(&format!("spec.request.{name}From exceed")), "{}", stalled.message);
    }
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn an_annotation_that_is_not_a_url_is_named() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("invalid-pin").await;
    write_credentials(&world, GATEWAY_KEY).await;
    world.pin("credentials", "login.example.com:443").await;
    world.integration("it", &spec(&endpoint)).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(stalled.message.contains("\"login.example.com:443\""), "{}", stalled.message);
    assert!(stalled.message.contains("write https://host/path"), "{}", stalled.message);
    world.pin("credentials", "https://ada:kanarie-in-a-url@login.example.com").await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    eventually("the entry is not shown", SHORT_TIMEOUT, async || {
        let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
        if stalled.message.contains("an entry with a username") { Ok(()) } else { Err(stalled.message) }
    })
    .await;
    assert!(!stalled.message.contains("kanarie-in-a-url"), "{}", stalled.message);
}

#[tokio::test]
async fn a_client_certificate_is_presented_beside_a_client_secret() {
    let provider = OidcProvider::shared();
    let world = World::new("certificate-and-secret").await;
    world.config_map("ca", "ca.crt", &provider.ca.pem).await;
    let (own, secret) = (provider.ca.client("provider-client"), secret("certified"));
    let values = [
        ("client_id", "certified"),
        ("client_secret", secret.as_str()),
        ("tls.crt", own.pem.as_str()),
        ("tls.key", own.key.as_str()),
    ];
    world.secret("credentials", &values).await;
    let spec = json!({
        "issuer": provider.issuer(), "grantType": "client_credentials", "credentials": {"secretName": "credentials"},
        "clientAuthentication": {"method": "client_secret_basic"},
        "connection": {"caBundle": {"name": "ca"}, "clientCertificate": true},
        // With a resource, the token is a JWT that can be inspected (RFC 8707).
        "resource": {"value": "https://orders.example.com"}, "scope": "read",
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = keys::claims(&world.value("it", "access_token").await);
    assert_eq!(token["cnf"]["x5t#S256"], json!(keys::thumbprint(&own.pem)), "RFC 8705, section 3.1");
}

/// Keycloak with the secret of another client as the current one: the rotation of a client secret, from its middle on.
#[tokio::test]
async fn the_next_client_secret_is_used_when_the_server_rejects_the_current_one() {
    let keycloak = Keycloak::shared();
    let world = World::new("next-client-secret").await;
    let values = [
        ("client_id", "service-short"),
        ("client_secret", "kanarie-the-previous-secret"),
        ("client_secret_next", "service-short-secret"),
    ];
    world.secret("credentials", &values).await;
    let mut spec = client_credentials(&keycloak.token_endpoint());
    spec["request"] = json!({"format": "form"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let event = world.event("it", "NextClientSecretUsed").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let first = world.value("it", "access_token").await;
    let second = world.wait_for_change("it", "access_token", &first).await;
    let rejected = || world.operator.sum("oauth_operator_token_requests_total", "outcome=\"RequestRejected\"");
    assert_eq!(rejected(), 1.0, "the renewal begins with the secret that works");
    // The rotation ends.
    let patch = json!({"stringData": {"client_secret": "service-short-secret"}, "data": {"client_secret_next": null}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(patch)).await.expect("a change");
    world.wait_for_change("it", "access_token", &second).await;
    world.ready("it").await;
    assert_eq!(rejected(), 1.0);
}
