//! A resource server that is compromised names the authorization server that receives credentials and refresh tokens.

use std::time::Duration;

use oauth_operator::oauth::allowed_endpoints::AllowedEndpoints;
use oauth_operator::oauth::client::Client;
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::http::egress::EgressPolicy;
use oauth_operator::oauth::request::TokenRequest;
use secrecy::SecretString;
use serde_json::{Value, json};
use test_support::Endpoint;
use test_support::endpoint::{Reply, Request};
use test_support::spec::{request_token, validated};

use crate::siege::{Siege, client_credentials};

/// The number of lies.
const LIES: usize = 5;
/// The number of the attacker's resources.
const RESOURCES: usize = 48;

fn client() -> Client {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    Client::new(EgressPolicy { allow_http: true, allow: vec![loopback], ..EgressPolicy::default() }).expect("a client")
}

/// Credentials that may be sent to these endpoints; without any, their owner says nothing about it.
fn credentials(allowed: &[String]) -> Credentials {
    let values = [(Credential::ClientId, "id"), (Credential::ClientSecret, "kanarie-client-secret")];
    let mut credentials: Credentials =
        values.into_iter().map(|(credential, value)| (credential, SecretString::from(value))).collect();
    if allowed.is_empty() {
        credentials.unpinned = vec!["Secret credentials".to_owned()];
    } else {
        let pin = AllowedEndpoints::parse("Secret credentials", Some("credentials"), &allowed.join(" "), false);
        credentials.pins = vec![pin.expect("a pin")];
    }
    credentials
}

/// A server that issues tokens to everyone, and is also the issuer and its metadata.
fn token_server() -> Endpoint {
    Endpoint::start(|request| {
        let origin = format!("http://{}", request.headers["host"]);
        match request.method.as_str() {
            "POST" => Reply::token(60),
            _ => Reply::json(200, &json!({"issuer": origin, "token_endpoint": format!("{origin}/token")})),
        }
    })
}

fn origin(endpoint: &Endpoint) -> String {
    format!("http://{}", endpoint.address())
}

/// A resource server that serves one of the two documents, and whatever else is asked for.
fn resource_server(well_known: &'static str, document: impl Fn(&str) -> Value + Send + Sync + 'static) -> Endpoint {
    Endpoint::start(move |request| {
        let own = format!("http://{}", request.headers["host"]);
        match request.path.as_str() {
            path if path.contains(well_known) => Reply::json(200, &document(&own)),
            path if path.contains("/.well-known/oauth-protected-resource") => Reply::text(404, ""),
            _ if request.method == "POST" => Reply::token(60),
            _ => Reply::json(200, &json!({"issuer": own, "token_endpoint": format!("{own}/token")})),
        }
    })
}

fn token_request(resource: &Endpoint, issuer: Option<String>) -> TokenRequest {
    let mut spec = json!({"protectedResource": format!("{}/mcp", origin(resource)), "scope": "read"});
    spec["tokenEndpoint"] = Value::Null;
    spec["issuer"] = json!(issuer);
    validated(spec).token_request
}

fn posts(endpoint: &Endpoint) -> Vec<Request> {
    endpoint.requests().into_iter().filter(|request| request.method == "POST").collect()
}

/// What a compromised resource server may say to have credentials sent to `evil` or to itself; `honest` is the server
/// that its owner uses.
fn lies(evil: &str, honest: &str) -> [(&'static str, Endpoint); LIES] {
    let named = |server: Option<String>| {
        resource_server("oauth-protected-resource", move |own| {
            json!({
                "resource": format!("{own}/mcp"),
                "authorization_servers": [server.clone().unwrap_or_else(|| own.to_owned())],
            })
        })
    };
    let smart = |server: Option<String>, issuer: String| {
        resource_server("smart-configuration", move |own| {
            let server = server.clone().unwrap_or_else(|| own.to_owned());
            json!({"token_endpoint": format!("{server}/token"), "issuer": issuer})
        })
    };
    [
        ("another issuer", named(Some(evil.to_owned()))),
        ("itself as the issuer", named(None)),
        ("another endpoint, with the issuer of the attacker", smart(Some(evil.to_owned()), evil.to_owned())),
        ("another endpoint, with the right issuer", smart(Some(evil.to_owned()), honest.to_owned())),
        ("itself as the endpoint, with the right issuer", smart(None, honest.to_owned())),
    ]
}

#[tokio::test]
async fn a_compromised_resource_server_receives_no_credentials() {
    for number in 0..LIES {
        let (evil, honest) = (token_server(), token_server());
        let (lie, resource) = lies(&origin(&evil), &origin(&honest)).into_iter().nth(number).expect("a lie");
        let unpinned = request_token(&client(), &token_request(&resource, None), &credentials(&[])).await;
        let message = unpinned.expect_err(lie).message;
        assert!(message.contains("only the protected resource names"), "{lie}: {message}");
        assert_eq!(evil.count(), 0, "{lie}: not even its metadata is read");

        let by_issuer = token_request(&resource, Some(origin(&honest)));
        let named = request_token(&client(), &by_issuer, &credentials(&[])).await;
        let message = named.expect_err(lie).message;
        let reasons = ["and not the issuer", "which does not match", "does not have the origin of the issuer"];
        assert!(reasons.iter().any(|reason| message.contains(reason)), "{lie}: {message}");
        assert_eq!(evil.count(), 0, "{lie}");

        // The owner of the credentials decides: metadata may be read, since it is public.
        let pinned = credentials(&[origin(&honest)]);
        let elsewhere = request_token(&client(), &token_request(&resource, None), &pinned).await;
        let message = elsewhere.expect_err(lie).message;
        assert!(message.contains("may be sent only to"), "{lie}: {message}");
        assert!(posts(&resource).is_empty() && posts(&evil).is_empty() && posts(&honest).is_empty(), "{lie}");
    }
}

#[tokio::test]
async fn with_an_issuer_a_resource_server_cannot_change_where_a_refresh_token_is_sent() {
    let (evil, honest) = (token_server(), token_server());
    // The owner of the credentials allows both servers, for two integrations.
    let mut both = credentials(&[origin(&evil), origin(&honest)]);
    both.set(Credential::RefreshToken, Some("kanarie-refresh-token".into()));
    for (lie, resource) in lies(&origin(&evil), &origin(&honest)) {
        let mut refresh = token_request(&resource, Some(origin(&honest)));
        refresh.grant = oauth_operator::oauth::request::Grant::RefreshToken;
        request_token(&client(), &refresh, &both).await.expect_err(lie);
        assert!(posts(&evil).is_empty() && posts(&resource).is_empty(), "{lie}");
    }
    let spec = json!({
        "protectedResource": "https://mcp.example.com", "grantType": "refresh_token",
        "credentials": {"secretName": "credentials"},
    });
    let spec = serde_json::from_value(spec).expect("a spec");
    let refused = oauth_operator::spec::validated::ValidatedSpec::parse("it", &spec);
    assert!(refused.expect_err("no issuer").contains("needs spec.issuer"));
}

#[tokio::test]
async fn metadata_that_one_integration_reads_with_its_headers_is_not_used_by_others() {
    // A gateway that chooses the server by a header.
    let (one, two) = (token_server(), token_server());
    let (first, second) = (origin(&one), origin(&two));
    let gateway = Endpoint::start(move |request| {
        let own = format!("http://{}", request.headers["host"]);
        let endpoint = if request.headers.contains_key("x-tenant") { &second } else { &first };
        Reply::json(200, &json!({"issuer": own, "token_endpoint": format!("{endpoint}/token")}))
    });
    let (client, credentials) = (client(), credentials(&[]));
    let with = |headers: Value| {
        let mut spec = json!({"issuer": origin(&gateway), "request": {"headers": headers}});
        spec["tokenEndpoint"] = Value::Null;
        validated(spec).token_request
    };
    for headers in [json!({"X-Tenant": "two"}), json!({}), json!({"X-Tenant": "two"}), json!({})] {
        request_token(&client, &with(headers), &credentials).await.expect("a token");
    }
    assert_eq!((posts(&one).len(), posts(&two).len()), (2, 2));
    assert_eq!(gateway.count(), 2, "each is cached");
}

#[tokio::test]
async fn resource_metadata_does_not_exhaust_memory() {
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let evil = Endpoint::start(|request| {
        let Some(path) = request.path.strip_prefix("/.well-known/oauth-protected-resource") else {
            return Reply::text(404, "");
        };
        // Half of them are just small enough to be read.
        let size = if path.bytes().last().is_some_and(|digit| digit % 2 == 0) { 64 << 10 } else { 1 << 20 };
        let start = format!(
            r#"{{"resource":"http://{}{path}","authorization_servers":["https://login.example.com"],"scopes_supported":["s""#,
            request.headers["host"]
        );
        let more = r#","s""#;
        let body = format!("{start}{}]}}", more.repeat((size - start.len() - 2) / more.len()));
        Reply::Http(200, vec![("Content-Type".into(), "application/json".into())], body)
    });
    let origin = format!("http://{}", evil.address());
    siege.alice.pinned_secret("credentials", &[("client_id", "a"), ("client_secret", "kanarie-alice")], &origin).await;
    for number in 0..RESOURCES {
        let mut spec = client_credentials("", "credentials");
        spec["protectedResource"] = json!(format!("{origin}/{number}"));
        spec.as_object_mut().expect("an object").remove("tokenEndpoint");
        siege.alice.integration(&format!("resource-{number}"), &spec).await.expect("an integration");
    }
    let observation = siege.observe(&victim, Duration::from_secs(15)).await;
    assert!(evil.count() >= RESOURCES, "only {} requests: the attack did not take place", evil.count());
    observation.assert_unharmed();
    siege.alice.wait_for_ready("resource-1", "False", "InvalidIssuerMetadata").await;
}
