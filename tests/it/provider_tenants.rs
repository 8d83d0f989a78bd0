//! Guarantee: a tenant with all rights in its namespace, but without the right to read the Secret of a provider, cannot get
//! the client's credentials, have them sent anywhere else, or obtain what the provider does not allow: by any field, error
//! text, event, metric or Secret.

use std::sync::Arc;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::world::SHORT_TIMEOUT;
use test_support::{World, eventually};

use crate::platform::Platform;

/// The client's secret, which no tenant may see in any form.
const SECRET: &str = "kanarie-\"platform\"-secret-0815";
const ALLOWED: &str = "orders.read";

/// A provider that allows one scope, and a server that repeats everything that it receives in its responses.
async fn besieged(name: &str) -> (Platform, Endpoint) {
    let platform = Platform::new(name).await;
    let server = Endpoint::start(|request: &Request| {
        let sent = request.json();
        let echo = json!({"body": request.body, "sent": sent, "list": [{"secret": sent["client_secret"]}]});
        if sent["scope"] == "fail" {
            let text = format!("client_secret {} is wrong: {}", sent["client_secret"], request.body);
            return Reply::rejected(400, "invalid_request", &text);
        }
        Reply::json(200, &json!({"access_token": "kanarie-token", "expires_in": 3600, "echo": echo}))
    });
    platform.secret("erp-client", &[("client_id", "platform"), ("client_secret", SECRET)]).await;
    platform
        .provider(&json!({
            "tokenEndpoint": server.url(), "credentials": {"secretName": "erp-client"},
            "allow": [{"namespaces": {}, "scopes": [ALLOWED, "fail"], "grantTypes": ["client_credentials", "token_exchange"]}],
        }))
        .await;
    (platform, server)
}

fn using(platform: &Platform, more: &Value) -> Value {
    let mut spec = json!({
        "grantType": "client_credentials", "scope": ALLOWED,
        "providerRef": {"kind": "ClusterOAuthProvider", "name": platform.name()},
    });
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    spec
}

/// Everything that the tenant can read: its Secrets, and what needs no right to read Secrets.
async fn readable(world: &World) -> String {
    let secrets = Api::<Secret>::namespaced(world.client.clone(), &world.namespace).list(&ListParams::default()).await;
    let secrets = secrets.expect("a list").items.into_iter().flat_map(|secret| secret.data.unwrap_or_default());
    let values = secrets.map(|(_, value)| String::from_utf8_lossy(&value.0).into_owned());
    format!("{}\n{}", values.collect::<Vec<_>>().join("\n"), world.observable_output().await)
}

/// Whether a text contains a recognizable part of the secret, also encoded or reversed.
fn leaks(text: &str) -> bool {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(SECRET);
    let reversed: String = SECRET.chars().rev().collect();
    let part = "platform\\\"-secret";
    [SECRET, &encoded, &reversed, part, "-secret-0815"].into_iter().any(|form| text.contains(form))
}

#[tokio::test]
async fn fields_of_the_provider_cannot_be_set_by_a_tenant() {
    let (platform, server) = besieged("provider-fields").await;
    let world = &platform.world;
    let thief = Endpoint::start(|_| Reply::token(3600));
    let evil = thief.url();
    let attacks = [
        json!({"tokenEndpoint": evil}),
        json!({"issuer": evil}),
        json!({"protectedResource": evil}),
        json!({"clientId": "another-client"}),
        json!({"clientAuthentication": {"method": "client_secret_basic"}}),
        json!({"connection": {"proxy": format!("http://{}", thief.address())}}),
        json!({"connection": {"caBundle": {"name": "mine"}}}),
        json!({"dpop": {}}),
        json!({"request": {"parameters": {"scope": "admin"}}}),
        json!({"request": {"body": "$credentials"}}),
        json!({"request": {"query": {"scope": "admin"}}}),
        json!({"request": {"headers": {"X-Forwarded-Host": "evil.example.com"}}}),
        json!({"request": {"parameterNames": {"client_secret": "access_token"}}}),
        json!({"request": {"method": "GET", "secretsInQuery": true}}),
        json!({"response": {"accessToken": "echo.sent.client_secret"}}),
        json!({"response": {"error": "$body"}}),
        json!({"revocation": {"endpoint": evil, "onDeletion": true}}),
        json!({"renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": evil}}}),
        json!({"grantType": "refresh_token", "credentials": {"secretName": "mine"},
               "renewal": {"fallback": {"grantType": "client_credentials", "tokenEndpoint": evil}}}),
        json!({"grantType": "self_signed_jwt"}),
        json!({"grantType": "self_signed_jwt", "assertion": {"claims": {"aud": "x"}}}),
        json!({"grantType": "jwt_bearer", "assertion": {"claims": {"scope": "admin"}}}),
        json!({"grantType": "jwt_bearer", "assertion": {"audience": evil}}),
        json!({"credentials": {"secretName": "mine", "keys": {"clientSecret": "x"}}}),
    ];
    world.secret("mine", &[("refresh_token", "kanarie-of-the-tenant")]).await;
    for (number, attack) in attacks.iter().enumerate() {
        let made = world.try_integration(&format!("attack-{number}"), &using(&platform, attack)).await;
        let error = made.err().unwrap_or_else(|| panic!("{attack} is accepted")).to_string();
        assert!(error.contains("with providerRef,"), "{attack}: {error}");
    }
    // What the API server cannot compare is refused by the operator.
    let refused = [
        ("key", json!({"resource": {"key": "requested_scope", "value": "admin"}}), "InvalidSpec"),
        ("resource", json!({"resource": {"value": "https://admin.example.com"}}), "NotAllowed"),
        ("scope", json!({"scope": "orders.read admin"}), "NotAllowed"),
        ("no-scope", json!({"scope": " "}), "NotAllowed"),
        ("grant", json!({"grantType": "password", "credentials": {"secretName": "mine"}}), "NotAllowed"),
        (
            "fallback",
            json!({"grantType": "refresh_token", "credentials": {"secretName": "mine"},
                            "renewal": {"fallback": {"grantType": "client_credentials"}}}),
            "NotAllowed",
        ),
    ];
    for (name, attack, reason) in &refused {
        world.integration(name, &using(&platform, attack)).await;
        world.condition(name, "Stalled", "True", reason).await;
    }
    assert_eq!((server.count(), thief.count()), (0, 0), "nothing was sent");
    assert!(!leaks(&readable(world).await));
}

#[tokio::test]
async fn a_server_that_repeats_its_requests_does_not_reveal_the_client_to_a_tenant() {
    let (platform, server) = besieged("provider-echo").await;
    let world = &platform.world;
    let attempts = [
        ("path", "response.echo.sent.client_secret"),
        ("whole", "response"),
        ("body", "response.echo.body"),
        ("list", "response.echo.list[0]"),
        ("reversed", "$join($reverse($split(response.echo.sent.client_secret, \"\")))"),
        ("encoded", "$base64encode(response.echo.sent.client_secret)"),
        ("length", "$length(response.echo.sent.client_secret)"),
        ("letters", "$substring(response.echo.sent.client_secret, 0, 1)"),
        ("headers", "$string($headers)"),
    ];
    for (name, expression) in attempts {
        world.integration(name, &using(&platform, &json!({"target": {"data": {"stolen": expression}}}))).await;
        let message = world.condition(name, "Ready", "False", "InvalidResponse").await.message;
        assert!(message.contains("the response repeats credentials of the provider"), "{message}");
    }
    world.integration("error", &using(&platform, &json!({"scope": "fail"}))).await;
    world.condition("error", "Ready", "False", "RequestRejected").await;
    // Without an expression on the response, the same response is fine.
    world
        .integration("plain", &using(&platform, &json!({"target": {"data": {"header": "\"Bearer \" & access_token"}}})))
        .await;
    world.ready("plain").await;
    assert_eq!(world.value("plain", "header").await, "Bearer kanarie-token");
    assert!(server.requests().iter().all(|request| request.json()["client_secret"] == SECRET));
    assert!(!leaks(&readable(world).await));
}

#[tokio::test]
async fn the_tokens_of_a_provider_reach_other_servers_only_as_its_owner_allows() {
    let (platform, server) = besieged("provider-chain").await;
    let world = &platform.world;
    let received: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&received);
    let thief = Endpoint::start(move |request: &Request| {
        seen.lock().expect("a lock").push(request.body.clone());
        Reply::token(3600)
    });
    world.integration("input", &using(&platform, &json!({}))).await;
    world.ready("input").await;
    world.secret("mine", &[("client_id", "tenant"), ("client_secret", "kanarie-of-the-tenant")]).await;
    let chained = json!({
        "tokenEndpoint": thief.url(), "grantType": "token_exchange", "credentials": {"secretName": "mine"},
        "tokenExchange": {"subjectTokenFrom": {"integration": "input"}},
    });
    world.integration("chained", &chained).await;
    let message = world.condition("chained", "Stalled", "True", "EndpointNotAllowed").await.message;
    assert!(message.contains("Secret erp-client of OAuthIntegration input"), "{message}");
    assert_eq!(*received.lock().expect("a lock"), Vec::<String>::new());
    // A token of the tenant may be exchanged at the provider, whose Secret says nothing about where it is sent.
    world.integration("own", &json!({"tokenEndpoint": thief.url(), "grantType": "client_credentials", "credentials": {"secretName": "mine"}})).await;
    world.ready("own").await;
    world.pin("mine", &format!("{} {}", thief.url(), server.url())).await;
    let exchanged =
        json!({"grantType": "token_exchange", "tokenExchange": {"subjectTokenFrom": {"integration": "own"}}});
    world.integration("exchanged", &using(&platform, &exchanged)).await;
    world.ready("exchanged").await;
    assert!(!leaks(&readable(world).await));
}

/// A tenant that changes what it wants gets what the rules allow now, and its old tokens stay with the client they are from.
#[tokio::test]
async fn an_integration_cannot_take_the_tokens_of_a_provider_to_another_client() {
    let (platform, server) = besieged("provider-leaves").await;
    let world = &platform.world;
    let rotating = test_support::endpoint::RotatingTokenServer::new(3600);
    let first = rotating.first();
    let responding = rotating.clone();
    server.respond(move |request| responding.reply(request));
    let thief = Endpoint::start(|_| Reply::token(3600));
    platform
        .provider(&json!({
            "tokenEndpoint": server.url(), "credentials": {"secretName": "erp-client"}, "allow": [{"namespaces": {}}],
        }))
        .await;
    world.secret("user", &[("refresh_token", &first)]).await;
    world.secret("mine", &[("client_id", "tenant"), ("client_secret", "kanarie-of-the-tenant")]).await;
    world.pin("mine", &thief.url()).await;
    let mut spec = using(&platform, &json!({"grantType": "refresh_token", "credentials": {"secretName": "user"}}));
    spec.as_object_mut().expect("an object").remove("scope");
    world.integration("it", &spec).await;
    world.ready("it").await;
    let current = world.value("it", "refresh_token").await;
    let away =
        json!({"spec": {"providerRef": null, "tokenEndpoint": thief.url(), "credentials": {"secretName": "mine"}}});
    world.change("it", &away).await;
    world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert_eq!(thief.count(), 0);
    assert_eq!(world.value("it", "refresh_token").await, current, "it is kept");
    let back = json!({"spec": {
        "providerRef": {"kind": "ClusterOAuthProvider", "name": platform.name()}, "tokenEndpoint": null,
        "credentials": {"secretName": "user"},
    }});
    world.change("it", &back).await;
    world.renew("it", "now").await;
    eventually("it is renewed", SHORT_TIMEOUT, async || {
        if rotating.is_current(&world.value("it", "refresh_token").await) { Ok(()) } else { Err(String::new()) }
    })
    .await;
    assert!(rotating.reused().is_empty());
}
