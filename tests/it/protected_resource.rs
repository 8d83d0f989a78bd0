//! Guarantee: the metadata of a protected resource names the authorization server, and provides the defaults of the
//! request; but not where credentials go, unless the author of the spec or their owner says so.

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::keys::{self, claims};
use test_support::oidc_provider::{OidcProvider, secret};
use test_support::{World, eventually};

/// The URL of a resource with a path.
fn resource_of(endpoint: &Endpoint) -> String {
    format!("http://{}/mcp", endpoint.address())
}

/// A resource server whose metadata names these authorization servers.
fn resource_server(servers: Value, scopes: Value) -> Endpoint {
    Endpoint::start(move |request| match request.path.as_str() {
        "/.well-known/oauth-protected-resource/mcp" => Reply::json(
            200,
            &json!({
                "resource": format!("http://{}/mcp", request.headers["host"]),
                "authorization_servers": servers,
                "scopes_supported": scopes,
            }),
        ),
        _ => Reply::text(404, "not here"),
    })
}

/// An authorization server; its issuer is its origin.
fn authorization_server() -> Endpoint {
    Endpoint::start(|request| {
        let issuer = format!("http://{}", request.headers["host"]);
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/oauth/token") => Reply::token(9),
            ("GET", "/.well-known/oauth-authorization-server") => {
                Reply::json(200, &json!({"issuer": issuer, "token_endpoint": format!("{issuer}/oauth/token")}))
            }
            _ => Reply::text(404, "not here"),
        }
    })
}

fn origin(endpoint: &Endpoint) -> String {
    format!("http://{}", endpoint.address())
}

fn spec(resource: &str, more: Value) -> Value {
    let mut spec = json!({
        "protectedResource": resource,
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

fn by_method(endpoint: &Endpoint, method: &str) -> Vec<Request> {
    endpoint.requests().into_iter().filter(|request| request.method == method).collect()
}

#[tokio::test]
async fn the_resource_names_its_server_and_the_defaults_of_the_request() {
    let server = authorization_server();
    let resource = resource_server(json!([origin(&server)]), json!(["read", "write"]));
    let world = World::new("resource").await;
    world.credentials().await;
    world.pin("credentials", &origin(&server)).await;
    let more = json!({
        "request": {"headers": {"User-Agent": "orders/1.0", "X-Tenant": "one", "Accept": "application/vnd.one+json"}},
        "target": {"keys": {"scope": "scope"}},
    });
    world.integration("it", &spec(&resource_of(&resource), more)).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.wait_for_change("it", "access_token", &first).await;
    let sent = by_method(&server, "POST");
    assert!(sent.len() >= 2, "{sent:?}");
    for request in &sent {
        assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
        assert_eq!(request.parameter("resource"), resource_of(&resource), "RFC 8707");
        assert_eq!(request.parameter("scope"), "read write");
        assert_eq!(request.headers["accept"], "application/vnd.one+json");
    }
    assert_eq!(world.value("it", "scope").await, "read write", "the scope that was requested");
    let reads: Vec<Request> = [by_method(&resource, "GET"), by_method(&server, "GET")].concat();
    let paths: Vec<&str> = reads.iter().map(|request| request.path.as_str()).collect();
    let expected = [
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ];
    assert_eq!(paths, expected, "each document is read once");
    for read in &reads {
        assert_eq!((&*read.headers["user-agent"], &*read.headers["x-tenant"]), ("orders/1.0", "one"));
        assert_eq!(read.headers["accept"], "application/json");
        assert!(read.body.is_empty() && !read.headers.contains_key("authorization"), "{read:?}");
    }
}

#[tokio::test]
async fn the_spec_replaces_the_defaults() {
    let server = authorization_server();
    let resource = resource_server(json!([origin(&server), "http://127.0.0.1:1"]), json!(["read", "admin"]));
    let world = World::new("resource-spec").await;
    world.credentials().await;
    let more = json!({
        "issuer": origin(&server),
        "scope": "read",
        "resource": {"key": "audience", "value": "orders"},
        "request": {"format": "json"},
    });
    world.integration("it", &spec(&resource_of(&resource), more)).await;
    world.ready("it").await;
    let request = by_method(&server, "POST").remove(0);
    let mut expected = json!({"grant_type": "client_credentials", "audience": "orders", "scope": "read"});
    expected["client_id"] = json!("the-client");
    expected["client_secret"] = json!("the-client-secret");
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn credentials_are_not_sent_to_a_server_that_only_the_resource_names() {
    let server = authorization_server();
    let resource = resource_server(json!([origin(&server)]), json!(null));
    let world = World::new("resource-unpinned").await;
    world.credentials().await;
    world.integration("it", &spec(&resource_of(&resource), json!({}))).await;
    let stalled = world.condition("it", "Ready", "False", "EndpointNotAllowed").await;
    for part in [
        "Secret credentials does not restrict where it may be sent",
        &origin(&server),
        "set spec.issuer to it",
        "oauth.evolutionx.io/allowed-endpoints",
    ] {
        assert!(stalled.message.contains(part), "{part}: {}", stalled.message);
    }
    assert_eq!(server.count(), 0, "not even its metadata is read");
    // Each of the two remedies of the message works.
    world.change("it", &json!({"spec": {"issuer": origin(&server)}})).await;
    world.ready("it").await;
    world.delete("it").await;
    world.pin("credentials", &origin(&server)).await;
    world.integration("pinned", &spec(&resource_of(&resource), json!({}))).await;
    world.ready("pinned").await;
    // And the pin is still a pin.
    world.pin("credentials", "https://login.example.com").await;
    let before = by_method(&server, "POST").len();
    world.integration("elsewhere", &spec(&resource_of(&resource), json!({}))).await;
    let stalled = world.condition("elsewhere", "Ready", "False", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("may be sent only to https://login.example.com"), "{}", stalled.message);
    assert!(by_method(&server, "POST").len() <= before + 1, "only a renewal of the other integration");
}

#[tokio::test]
async fn without_an_integrations_credentials_the_administrator_decides() {
    let server = authorization_server();
    let resource = resource_server(json!([origin(&server)]), json!(null));
    let world = World::with("resource-anonymous", &["--allow-anonymous-host=127.0.0.1"]).await;
    let mut anonymous =
        spec(&resource_of(&resource), json!({"clientId": "public", "clientAuthentication": {"method": "none"}}));
    anonymous.as_object_mut().expect("an object").remove("credentials");
    world.integration("it", &anonymous).await;
    world.ready("it").await;
    assert_eq!(by_method(&server, "POST")[0].parameter("client_id"), "public");
}

/// A FHIR server with a SMART configuration, which is also its authorization server.
fn fhir_server() -> Endpoint {
    Endpoint::start(|request| {
        let origin = format!("http://{}", request.headers["host"]);
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/auth/token") => Reply::token(300),
            ("GET", "/fhir/r4/.well-known/smart-configuration") => Reply::json(
                200,
                &json!({
                    "issuer": origin,
                    "token_endpoint": format!("{origin}/auth/token"),
                    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                    "scopes_supported": ["openid", "user/*.cruds", "system/*.rs"],
                }),
            ),
            _ => Reply::text(404, "not here"),
        }
    })
}

#[tokio::test]
async fn a_fhir_server_names_its_endpoint_in_its_smart_configuration() {
    let server = fhir_server();
    let base = format!("{}/fhir/r4", origin(&server));
    let world = World::new("resource-smart").await;
    world.secret("credentials", &[("client_id", "fhir-client"), ("private_key", &keys::rsa().pem)]).await;
    world.pin("credentials", &origin(&server)).await;
    let method = json!({"method": "private_key_jwt", "assertion": {"algorithm": "RS384"}});
    let mut smart = spec(&base, json!({"clientAuthentication": method}));
    world.integration("no-scope", &smart).await;
    let stalled = world.condition("no-scope", "Ready", "False", "InvalidSpec").await;
    assert!(stalled.message.ends_with("which has no default scope: set spec.scope"), "{}", stalled.message);
    smart["scope"] = json!("system/Patient.rs");
    for (name, issuer) in [("it", json!(null)), ("with-issuer", json!(origin(&server)))] {
        smart["issuer"] = issuer;
        let before = by_method(&server, "POST").len();
        world.integration(name, &smart).await;
        world.ready(name).await;
        let request = by_method(&server, "POST").remove(before);
        let assertion = claims(&request.parameter("client_assertion"));
        assert_eq!(assertion["aud"], format!("{}/auth/token", origin(&server)), "SMART Backend Services");
        assert_eq!(
            (request.parameter("scope").as_str(), request.parameter("resource").as_str()),
            ("system/Patient.rs", "")
        );
    }
    smart["issuer"] = json!("https://login.example.com");
    world.integration("other-issuer", &smart).await;
    let failed = world.condition("other-issuer", "Ready", "False", "InvalidIssuerMetadata").await;
    assert!(failed.message.contains("which does not match: check spec.issuer"), "{}", failed.message);
}

#[tokio::test]
async fn with_an_invalid_document_nothing_is_sent() {
    let server = authorization_server();
    let named = origin(&server);
    let world = World::new("resource-bad").await;
    world.credentials().await;
    world.pin("credentials", &named).await;
    type Document = Box<dyn Fn(&str) -> Reply + Send + Sync>;
    let document = |servers: Value| -> Document {
        Box::new(move |own: &str| Reply::json(200, &json!({"resource": own, "authorization_servers": servers})))
    };
    let of = |resource: &'static str| -> Document {
        let servers = json!([named]);
        Box::new(move |own: &str| {
            let resource = resource.replace("OWN", own);
            Reply::json(200, &json!({"resource": resource, "authorization_servers": servers}))
        })
    };
    let cases: Vec<(&str, Document, &str, &str)> = vec![
        ("another resource", of("https://evil.example.com/mcp"), "InvalidIssuerMetadata", "has another scheme"),
        ("a slash", of("OWN/"), "InvalidIssuerMetadata", "ends with a slash that the configured one does not have"),
        (
            "several servers",
            document(json!([named, "https://login.example.com"])),
            "InvalidIssuerMetadata",
            "lists 2 authorization servers",
        ),
        ("no server", document(json!([])), "InvalidIssuerMetadata", "set spec.issuer or spec.tokenEndpoint instead"),
        (
            "a server without metadata",
            document(json!([format!("{named}/x")])),
            "InvalidIssuerMetadata",
            "names the issuer",
        ),
        ("a redirect", Box::new(|_| Reply::text(302, "")), "InvalidIssuerMetadata", "responded with 302"),
        ("nothing", Box::new(|_| Reply::text(404, "")), "InvalidIssuerMetadata", "check spec.protectedResource"),
        ("a page", Box::new(|_| Reply::text(200, "<html>")), "InvalidIssuerMetadata", "is not valid (RFC 9728"),
        ("10 MB", Box::new(|_| Reply::Oversized(10 << 20)), "InvalidIssuerMetadata", "larger than 64 KiB"),
        ("an overloaded server", Box::new(|_| Reply::text(429, "")), "EndpointUnavailable", "responded with 429"),
        ("a server error", Box::new(|_| Reply::text(503, "")), "EndpointUnavailable", "responded with 503"),
    ];
    for (number, (case, reply, reason, message)) in cases.into_iter().enumerate() {
        let resource = Endpoint::start(move |request| match request.path.as_str() {
            "/.well-known/oauth-protected-resource/mcp" => reply(&format!("http://{}/mcp", request.headers["host"])),
            _ => Reply::text(404, ""),
        });
        let name = format!("it-{number}");
        world.integration(&name, &spec(&resource_of(&resource), json!({}))).await;
        let ready = world.condition(&name, "Ready", "False", reason).await;
        assert!(ready.message.contains(message), "{case}: {}", ready.message);
        let is_transient = reason == "EndpointUnavailable";
        assert!(!is_transient || resource.requests().iter().all(|request| !request.path.contains("smart")), "{case}");
    }
    assert!(by_method(&server, "POST").is_empty(), "a request was sent");
}

#[tokio::test]
async fn metadata_is_read_again_after_its_server_has_moved() {
    let (old, new) = (authorization_server(), authorization_server());
    let resource = resource_server(json!([origin(&old)]), json!(null));
    let world = World::new("resource-moved").await;
    world.credentials().await;
    world.pin("credentials", &format!("{} {}", origin(&old), origin(&new))).await;
    world.integration("it", &spec(&resource_of(&resource), json!({}))).await;
    world.ready("it").await;
    let moved = origin(&new);
    resource.respond(move |request| {
        let resource = format!("http://{}/mcp", request.headers["host"]);
        Reply::json(200, &json!({"resource": resource, "authorization_servers": [moved]}))
    });
    old.respond(|_| Reply::text(404, "moved"));
    eventually("a token of the new server", std::time::Duration::from_secs(60), async || {
        if by_method(&new, "POST").is_empty() { Err(world.operator.logs()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn oidc_provider_issues_a_token_for_the_resource_that_names_it() {
    let provider = OidcProvider::shared();
    let resource = resource_server(json!([provider.issuer()]), json!(["read"]));
    let world = World::new("resource-provider").await;
    world.config_map("ca", "ca.crt", &provider.ca.pem).await;
    let connection = json!({"caBundle": {"name": "ca"}});
    // The author of the spec names the issuer.
    world.secret("secret", &[("client_id", "plain"), ("client_secret", &secret("plain"))]).await;
    let by_secret = json!({
        "issuer": provider.issuer(),
        "connection": connection,
        "credentials": {"secretName": "secret"},
        "clientAuthentication": {"method": "client_secret_basic"},
    });
    // The owner of the key allows it.
    world.secret("key", &[("client_id", "key"), ("private_key", &provider.ec.pem)]).await;
    world.pin("key", provider.issuer()).await;
    world.allow_ca_bundle("key").await;
    let by_key = json!({
        "connection": connection,
        "credentials": {"secretName": "key"},
        "clientAuthentication": {"method": "private_key_jwt", "assertion": {"keyId": "ec"}},
    });
    for (name, more) in [("by-secret", by_secret), ("by-key", by_key)] {
        world.integration(name, &spec(&resource_of(&resource), more)).await;
        world.ready(name).await;
        let token = claims(&world.value(name, "access_token").await);
        assert_eq!((&token["aud"], &token["scope"]), (&json!(resource_of(&resource)), &json!("read")), "{name}");
        assert_eq!(token["iss"], provider.issuer(), "{name}");
    }
}
