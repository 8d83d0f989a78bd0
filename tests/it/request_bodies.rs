//! Guarantee: the endpoint receives exactly the specified body, for each grant.

use serde_json::{Value, json};
use test_support::endpoint::{Reply, Request};
use test_support::world::client_credentials;
use test_support::{Endpoint, World};

/// Runs one integration and returns its only request.
async fn request_of(name: &str, spec: Value) -> Request {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new(name).await;
    world
        .secret(
            "credentials",
            &[
                ("client_id", "the-client"),
                ("client_secret", "p&ss w=rd/ü"),
                ("username", "ada"),
                ("password", "ada's \"word\""),
                ("refresh_token", "first-refresh-token"),
            ],
        )
        .await;
    let mut spec = spec;
    spec["tokenEndpoint"] = json!(endpoint.url());
    spec["credentials"] = json!({"secretName": "credentials"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1, "one request per token");
    let request = requests.into_iter().next().expect("one request");
    assert_eq!(request.method, "POST");
    assert_eq!(request.headers["accept"], "application/json");
    request
}

async fn json_of(name: &str, spec: Value) -> Value {
    let request = request_of(name, spec).await;
    assert_eq!(request.headers["content-type"], "application/json");
    request.json()
}

#[tokio::test]
async fn client_credentials_with_resource_and_scope() {
    let spec = json!({
        "grantType": "client_credentials",
        "resource": {"key": "resource", "value": "https://www.resource.com"},
        "scope": "customer order add.order",
    });
    let expected = json!({
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "client_secret": "p&ss w=rd/ü",
        "resource": "https://www.resource.com",
        "scope": "customer order add.order",
    });
    assert_eq!(json_of("client-credentials", spec).await, expected);
}

#[tokio::test]
async fn client_credentials_with_audience_and_without_scope() {
    let spec = json!({
        "grantType": "client_credentials",
        "resource": {"key": "audience", "value": "https://www.resource.com"},
    });
    let expected = json!({
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "client_secret": "p&ss w=rd/ü",
        "audience": "https://www.resource.com",
    });
    assert_eq!(json_of("audience", spec).await, expected);
}

#[tokio::test]
async fn client_credentials_alone() {
    let expected =
        json!({"grant_type": "client_credentials", "client_id": "the-client", "client_secret": "p&ss w=rd/ü"});
    assert_eq!(json_of("alone", client_credentials("")).await, expected);
}

#[tokio::test]
async fn user_password_has_no_grant_type_and_no_client() {
    let expected = json!({"username": "ada", "password": "ada's \"word\""});
    assert_eq!(json_of("user-password", json!({"grantType": "user_password"})).await, expected);
}

#[tokio::test]
async fn user_password_with_audience_and_scope() {
    let spec = json!({
        "grantType": "user_password",
        "resource": {"key": "audience", "value": "https://www.resource.com"},
        "scope": "order",
    });
    let expected = json!({
        "username": "ada", "password": "ada's \"word\"", "audience": "https://www.resource.com", "scope": "order",
    });
    assert_eq!(json_of("user-audience", spec).await, expected);
}

#[tokio::test]
async fn refresh_token_with_resource() {
    let spec = json!({
        "grantType": "refresh_token",
        "resource": {"key": "resource", "value": "https://www.resource.com"},
    });
    let expected = json!({
        "grant_type": "refresh_token",
        "client_id": "the-client",
        "client_secret": "p&ss w=rd/ü",
        "refresh_token": "first-refresh-token",
        "resource": "https://www.resource.com",
    });
    assert_eq!(json_of("refresh", spec).await, expected);
}

#[tokio::test]
async fn refresh_token_with_audience_and_scope() {
    let spec = json!({
        "grantType": "refresh_token",
        "resource": {"key": "audience", "value": "https://www.resource.com"},
        "scope": "order",
    });
    let expected = json!({
        "grant_type": "refresh_token",
        "client_id": "the-client",
        "client_secret": "p&ss w=rd/ü",
        "refresh_token": "first-refresh-token",
        "audience": "https://www.resource.com",
        "scope": "order",
    });
    assert_eq!(json_of("refresh-audience", spec).await, expected);
}

#[tokio::test]
async fn a_form_is_percent_encoded() {
    let spec = json!({
        "grantType": "client_credentials",
        "scope": "customer order",
        "request": {"format": "form"},
    });
    let request = request_of("form", spec).await;
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(
        request.body,
        "grant_type=client_credentials&client_id=the-client&client_secret=p%26ss+w%3Drd%2F%C3%BC&scope=customer+order"
    );
}

#[tokio::test]
async fn parameters_are_added_overridden_and_removed_and_headers_are_sent() {
    let spec = json!({
        "grantType": "client_credentials",
        "scope": "customer",
        "request": {
            "parameters": {"tenant": "evox", "grant_type": "urn:example:custom", "scope": ""},
            "headers": {"X-Tenant": "evox"},
        },
    });
    let request = request_of("parameters", spec).await;
    assert_eq!(request.headers["x-tenant"], "evox");
    let expected = json!({
        "client_id": "the-client", "client_secret": "p&ss w=rd/ü", "tenant": "evox", "grant_type": "urn:example:custom",
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn a_media_type_and_a_query_are_sent() {
    let spec = json!({
        "grantType": "client_credentials",
        "request": {"contentType": "application/json; charset=UTF-8", "query": {"api-version": "2", "tenant": "a&b"}},
    });
    let request = request_of("media-type", spec).await;
    assert_eq!(request.headers["content-type"], "application/json; charset=UTF-8");
    assert!(request.path.ends_with("?api-version=2&tenant=a%26b"), "{}", request.path);
    assert_eq!(request.json()["client_id"], "the-client");
}

#[tokio::test]
async fn parameters_of_any_type_are_sent_as_json_and_as_text_in_a_form() {
    let request = |format: &str| {
        json!({
            "grantType": "client_credentials",
            "request": {
                "format": format,
                "parameters": {
                    "permissions": {"contents": "read"}, "repositories": ["a", "b"], "expiration": 60, "remember": true,
                    "client_id": "", "client_secret": "",
                },
            },
        })
    };
    let expected = json!({
        "grant_type": "client_credentials", "permissions": {"contents": "read"}, "repositories": ["a", "b"],
        "expiration": 60, "remember": true,
    });
    assert_eq!(request_of("any-json", request("json")).await.json(), expected);
    let form = request_of("any-form", request("form")).await.form();
    assert_eq!(form["permissions"], r#"{"contents":"read"}"#, "RFC 9396, section 2");
    assert_eq!(form["repositories"], r#"["a","b"]"#);
    assert_eq!((form["expiration"].as_str(), form["remember"].as_str()), ("60", "true"));
}
