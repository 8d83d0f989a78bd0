//! Guarantee: a request can have any body (`request.body`) or none (`request.method: GET`); an expression cannot read the
//! secrets that it places, and a URL with secrets is never shown.

use serde_json::{Value, json};
use test_support::World;
use test_support::endpoint::{Endpoint, Reply};
use test_support::world::client_credentials;

const PASSWORD: &str = "kanarie \"quoted\" pass&word+%";

async fn write_credentials(world: &World) {
    let values =
        [("client_id", "the-client"), ("client_secret", PASSWORD), ("project", "kanarie-project-of-credentials")];
    world.secret("credentials", &values).await;
}

fn with_body(endpoint: &Endpoint, body: &str) -> Value {
    let mut spec = client_credentials(&endpoint.url());
    spec["scope"] = json!("orders");
    spec["request"] = json!({"body": body, "parameters": {"limits": {"days": 7}}});
    spec
}

#[tokio::test]
async fn an_expression_builds_the_body_from_the_parameters_and_the_credentials() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("custom-body").await;
    write_credentials(&world).await;
    let body = r#"{"auth": {"user": $members.client_id, "password": "x-" & $members.client_secret}, "scope": $members.scope,
        "days": $members.limits.days + 1, "project": $credentials.project, "grant": $grant}"#;
    world.integration("it", &with_body(&endpoint, body)).await;
    world.ready("it").await;
    let request = endpoint.requests().remove(0);
    let expected = json!({
        "auth": {"user": "the-client", "password": format!("x-{PASSWORD}")}, "scope": "orders", "days": 8,
        "grant": "client_credentials", "project": "kanarie-project-of-credentials",
    });
    assert_eq!(request.json(), expected);
    assert_eq!((request.method.as_str(), request.headers["content-type"].as_str()), ("POST", "application/json"));
    // A change of any value of the Secret is a reason to renew.
    let first = world.value("it", "access_token").await;
    let values = [("client_id", "the-client"), ("client_secret", PASSWORD), ("project", "kanarie-next-project")];
    world.secret("credentials", &values).await;
    world.wait_for_change("it", "access_token", &first).await;
    assert_eq!(endpoint.requests()[1].json()["project"], "kanarie-next-project");
}

#[tokio::test]
async fn a_text_is_sent_as_it_is() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("custom-body-text").await;
    write_credentials(&world).await;
    let mut spec = with_body(&endpoint, "$credentials.project");
    spec["request"]["contentType"] = json!("text/plain");
    world.integration("it", &spec).await;
    world.ready("it").await;
    let request = endpoint.requests().remove(0);
    assert_eq!(request.body, "kanarie-project-of-credentials");
    assert_eq!(request.headers["content-type"], "text/plain");
}

/// Whether a request succeeds is public: an expression that depends on a secret would reveal it bit by bit.
#[tokio::test]
async fn an_expression_learns_nothing_about_a_secret() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("custom-body-secrets").await;
    write_credentials(&world).await;
    let body = r#"{"length": $length($members.client_secret), "is_k": $substring($members.client_secret, 0, 1) = "k",
        "known": $contains($members.client_secret, "kanarie"), "guessed": $members.client_secret = $members.scope,
        "seen": $members.scope = "orders"}"#;
    let mut spec = with_body(&endpoint, body);
    // Also not by a text of the spec that equals it.
    spec["scope"] = json!(PASSWORD);
    spec["resource"] = json!({"value": "orders"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let seen = endpoint.requests()[0].json();
    for member in ["is_k", "known", "guessed", "seen"] {
        assert_eq!(seen[member], json!(false), "{seen}");
    }
    assert_ne!(seen["length"], json!(PASSWORD.len()), "the length of the placeholder");
    // A part of a secret cannot be sent either.
    let part = r#"{"first": $substring($members.client_secret, 0, 20)}"#;
    world.integration("part", &with_body(&endpoint, part)).await;
    let stalled = world.condition("part", "Ready", "False", "InvalidSpec").await;
    assert!(stalled.message.contains("changes a text of $members or $credentials"), "{}", stalled.message);
    assert!(stalled.message.contains("correct spec.request.body"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 1, "nothing was sent for it");
}

#[tokio::test]
async fn an_expression_without_a_usable_result_sends_nothing() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("custom-body-unusable").await;
    write_credentials(&world).await;
    for (name, body, reason, expected) in [
        ("syntax", "{\"a\": ", "InvalidSpec", "spec.request.body is not a JSONata expression"),
        ("nothing", "$members.nothing", "InvalidSpec", "has no result"),
        ("number", "1 + 1", "InvalidSpec", "neither an object nor a list nor a text"),
        ("failing", "$error($members.client_secret)", "InvalidSpec", "results in JSONata error D3137"),
        ("endless", "($f := function($n) { 1 + $f($n + 1) }; $f(1))", "InvalidSpec", "results in"),
        ("many", "$join([1..20].($string($) & $$.client_secret))", "InvalidSpec", "places more than 16 texts"),
        ("large", "$pad(\"x\", 2000000000)", "RequestNotBuilt", "memory limit"),
    ] {
        world.integration(name, &with_body(&endpoint, body)).await;
        let ready = world.condition(name, "Ready", "False", reason).await;
        assert!(ready.message.contains(expected), "{name}: {}", ready.message);
    }
    assert_eq!(endpoint.count(), 0);
    assert!(!world.observable_output().await.contains(PASSWORD), "the password is visible");
}

fn with_get(endpoint: &Endpoint) -> Value {
    let mut spec = client_credentials(&format!("{}?version=2", endpoint.url()));
    spec["scope"] = json!("orders write");
    spec["request"] =
        json!({"method": "GET", "secretsInQuery": true, "query": {"page": "1"}, "parameters": {"limits": {"days": 7}}});
    spec
}

#[tokio::test]
async fn with_get_the_parameters_are_in_the_query() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("get").await;
    write_credentials(&world).await;
    world.integration("it", &with_get(&endpoint)).await;
    world.ready("it").await;
    let request = endpoint.requests().remove(0);
    let expected = json!({
        "version": "2", "page": "1", "grant_type": "client_credentials", "client_id": "the-client",
        "client_secret": PASSWORD, "scope": "orders write", "limits": "{\"days\":7}",
    });
    assert_eq!((request.method.as_str(), json!(request.query())), ("GET", expected));
    assert_eq!((request.body.as_str(), request.headers.get("content-type")), ("", None));
    assert_eq!(request.headers["cache-control"], "no-store");
    let ready = world.condition("it", "Ready", "True", "TokenValid").await;
    assert!(ready.message.contains("secrets are sent in the URL"), "{}", ready.message);
}

#[tokio::test]
async fn a_url_with_secrets_is_never_shown() {
    let encoded = |secret: &str| url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    let endpoint = Endpoint::start(|request| match request.path.as_str() {
        path if path.starts_with("/redirect") => {
            Reply::json(302, &json!({})).with_header("Location", &format!("http://127.0.0.1:1{path}"))
        }
        path => Reply::rejected(400, "invalid_request", &format!("cannot GET {path}")),
    });
    let world = World::new("get-shown").await;
    write_credentials(&world).await;
    world.integration("rejected", &with_get(&endpoint)).await;
    let ready = world.condition("rejected", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("[withheld: it repeats data from the request]"), "{}", ready.message);
    let mut redirected = with_get(&endpoint);
    redirected["tokenEndpoint"] = json!(format!("http://{}/redirect", endpoint.address()));
    world.integration("redirected", &redirected).await;
    world.condition("redirected", "Ready", "False", "UnexpectedRedirect").await;
    let mut unreachable = with_get(&endpoint);
    unreachable["tokenEndpoint"] = json!("http://127.0.0.1:1/token");
    world.integration("unreachable", &unreachable).await;
    world.condition("unreachable", "Ready", "False", "EndpointUnreachable").await;
    let shown = world.observable_output().await;
    for secret in [PASSWORD.to_owned(), encoded(PASSWORD)] {
        assert!(!shown.contains(&secret), "{secret} is visible");
    }
}

/// The spec chooses the parameters, so a query that the owner of the credentials has pinned could be overridden.
#[tokio::test]
async fn get_is_not_sent_to_an_endpoint_whose_query_is_pinned() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("get-pinned").await;
    write_credentials(&world).await;
    world.pin("credentials", &format!("{}?version=2&page=1", endpoint.url())).await;
    world.integration("it", &with_get(&endpoint)).await;
    let ready = world.condition("it", "Ready", "False", "EndpointNotAllowed").await;
    assert!(!ready.message.contains("client_secret"), "{}", ready.message);
    assert_eq!(endpoint.count(), 0);
    world.pin("credentials", &endpoint.url()).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1);
}
