//! Guarantee: each recipe in `docs/providers` that shows requests and responses of the provider sends exactly these
//! requests, and reads these responses. Its manifests are applied with only hosts, keys and times replaced. Metadata that
//! a page shows, after `GET https://…`, is served at that path.

use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
};
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::keys::{self, CertificateAuthority, Key};
use test_support::keystone::Keystone;
use test_support::manifests::{apply, install_permissions_with_service_accounts};
use test_support::{ControlPlane, World};

use crate::providers::{keyed, moved, pinned, verified};
use crate::recipe_pages::{Exchange, ExpectedRequest, Metadata, Recipe, Response, recipe, recipes};

/// Stands for any signed JWT in a recipe.
const JWT: &str = "JWT";

/// Whether a text is what the recipe shows; a JWT must have a valid signature, or be a token of a ServiceAccount.
fn is_expected(actual: &str, expected: &str, key: &Key) -> bool {
    let Some((before, _)) = expected.split_once(JWT) else { return actual == expected };
    let Some(token) = actual.strip_prefix(before) else { return false };
    let decoded = keys::claims(token);
    if decoded["sub"].as_str().is_some_and(|subject| subject.starts_with("system:serviceaccount:")) {
        return true;
    }
    let parameters = match keys::header(token)["alg"].as_str() {
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        Some("RS384") => &RSA_PKCS1_2048_8192_SHA384,
        Some("RS512") => &RSA_PKCS1_2048_8192_SHA512,
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        other => panic!("the algorithm of a recipe: {other:?}"),
    };
    verified(token, key, parameters);
    true
}

fn assert_request(name: &str, request: &Request, expected: &ExpectedRequest, key: &Key) {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let (shown_path, shown_query) = expected.target.split_once('?').unwrap_or((&expected.target, ""));
    assert_eq!((request.method.as_str(), path), (expected.method.as_str(), shown_path), "{name}");
    assert_pairs(name, query, shown_query, key);
    for (header, value) in &expected.headers {
        let actual = request.headers.get(header).unwrap_or_else(|| panic!("{name}: no header {header}"));
        assert!(is_expected(actual, value, key), "{name}: {header} is {actual:?}, not {value:?}");
    }
    match expected.headers.get("content-type").map_or("", String::as_str) {
        media_type if media_type.starts_with("application/json") => {
            let (actual, mut shown) = (request.json(), serde_json::from_str(&expected.body).expect("JSON"));
            replace_tokens(&mut shown, &actual, key);
            assert_eq!(actual, shown, "{name}");
        }
        media_type if media_type.starts_with("text/plain") => assert_eq!(request.body, expected.body, "{name}"),
        _ => assert_pairs(name, &request.body, &expected.body.lines().map(str::trim).collect::<String>(), key),
    }
}

/// Compares the parameters of a form or a query, in any order.
fn assert_pairs(name: &str, actual: &str, shown: &str, key: &Key) {
    let pairs = |text: &str| {
        let mut pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        pairs.sort();
        pairs
    };
    let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (actual, shown) = (pairs(actual), pairs(shown));
    assert_eq!(names(&actual), names(&shown), "{name}");
    for ((parameter, actual), (_, shown)) in actual.iter().zip(&shown) {
        assert!(is_expected(actual, shown, key), "{name}: {parameter} is {actual:?}, not {shown:?}");
    }
}

/// Replaces each `JWT` of the shown body by the token that was sent there, if that is one.
fn replace_tokens(shown: &mut Value, actual: &Value, key: &Key) {
    match shown {
        Value::String(text) if text == JWT && actual.as_str().is_some_and(|token| is_expected(token, JWT, key)) => {
            *shown = actual.clone();
        }
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, value)| replace_tokens(value, &actual[name], key))
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(index, value)| replace_tokens(value, &actual[index], key))
        }
        _ => {}
    }
}

/// Replaces the placeholders of a client certificate by a real one.
fn certified(documents: &mut [Value], ca: &CertificateAuthority) {
    let certificate = ca.client("client");
    for document in documents.iter_mut().filter(|document| document["stringData"]["tls.key"].is_string()) {
        document["stringData"]["tls.crt"] = json!(certificate.pem);
        document["stringData"]["tls.key"] = json!(certificate.key);
    }
}

/// Moves each integration of a page to a stand-in of its own, and lets the credentials be sent to all of them.
fn moved_to(Recipe { documents, exchanges, metadata, .. }: &mut Recipe) -> Vec<Endpoint> {
    let stand_in = |response: &Response| {
        let (Response { status, headers, body }, metadata) = (response.clone(), metadata.clone());
        Endpoint::start(move |request| {
            let document = served(&metadata, request);
            document.unwrap_or_else(|| Reply::Http(status, headers.clone(), body.clone()))
        })
    };
    let endpoints: Vec<Endpoint> = exchanges.iter().map(|exchange| stand_in(&exchange.response)).collect();
    let origins: Vec<String> = endpoints.iter().map(|endpoint| format!("http://{}", endpoint.address())).collect();
    let mut integrations = 0;
    for document in documents {
        if document["kind"] == "OAuthIntegration" {
            moved(slice::from_mut(document), &origins[integrations]);
            integrations += 1;
        } else {
            pinned(slice::from_mut(document), &origins.join(" "));
        }
    }
    endpoints
}

/// Serves the metadata of a page with its hosts replaced by that of this server; `None` for another request.
fn served(metadata: &[Metadata], request: &Request) -> Option<Reply> {
    if request.method != "GET" || metadata.is_empty() {
        return None;
    }
    let own = format!("http://{}", request.headers["host"]);
    let found = metadata.iter().find(|document| document.path == request.path);
    Some(found.map_or_else(
        || Reply::text(404, ""),
        |found| Reply::json(200, &serde_json::from_str(&local(metadata, &found.text, &own)).expect("JSON")),
    ))
}

/// A text with the hosts of the metadata replaced.
fn local(metadata: &[Metadata], text: &str, own: &str) -> String {
    metadata.iter().fold(text.to_owned(), |text, document| text.replace(&document.origin, own))
}

/// Creates the ServiceAccounts that a page assumes.
async fn create_accounts(world: &World, documents: &[Value]) {
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.namespace);
    for document in documents {
        let name = &document["spec"]["serviceAccountToken"]["serviceAccountName"];
        let is_shown = |other: &Value| other["kind"] == "ServiceAccount" && other["metadata"]["name"] == *name;
        if name.is_string() && !documents.iter().any(is_shown) {
            let account = serde_json::from_value(json!({"metadata": {"name": name}})).expect("an account");
            accounts.create(&PostParams::default(), &account).await.expect("the account is created");
        }
    }
}

/// The integration is ready, its request was that of the page, and its token is one of the response.
async fn assert_exchange(
    world: &World,
    (document, metadata): (&Value, &[Metadata]),
    exchange: &Exchange,
    endpoint: &Endpoint,
    key: &Key,
) {
    let name = document["metadata"]["name"].as_str().expect("a name");
    eprintln!("==> {name}");
    world.ready(name).await;
    let requests = endpoint.requests();
    let is_read = |request: &&Request| metadata.iter().any(|document| document.path == request.path);
    assert_eq!(requests.iter().filter(is_read).count(), metadata.len(), "{name}: each document is read once");
    let sent = requests.iter().find(|request| metadata.is_empty() || request.method == "POST").expect("a request");
    // The page shows hosts of the provider in the body, too.
    let own = format!("http://{}", endpoint.address());
    let escaped = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let body = metadata
        .iter()
        .fold(exchange.request.body.clone(), |body, document| body.replace(&escaped(&document.origin), &escaped(&own)));
    assert_request(name, sent, &ExpectedRequest { body, ..exchange.request.clone() }, key);
    let target = &document["spec"]["target"];
    let token = target["keys"]["accessToken"].as_str().unwrap_or("access_token");
    let token = world.value(target["secretName"].as_str().unwrap_or(name), token).await;
    let Response { body, headers, .. } = &exchange.response;
    let is_in_header = headers.iter().any(|(_, value)| value.contains(&token));
    let is_returned = body.contains(&token) || is_in_header || STANDARD.encode(body) == token;
    assert!(!token.is_empty() && is_returned, "{name}: {token}");
    if let Some(expected) = exchange.expires_at {
        let status = world.get(name).await.status.expect("a status");
        let actual = status.expires_at.expect("an expiry time").0;
        assert!((actual - expected).get_seconds().abs() <= 60, "{name} expires at {actual}, not {expected}");
    }
}

#[tokio::test]
async fn each_recipe_sends_the_requests_that_its_page_shows_and_reads_the_responses() {
    let control_plane = ControlPlane::shared();
    install_permissions_with_service_accounts(control_plane);
    let (world, key, ca) = (World::new("recipes").await, keys::rsa(), CertificateAuthority::new());
    let mut applied = Vec::new();
    for mut recipe in recipes() {
        let endpoints = moved_to(&mut recipe);
        keyed(&mut recipe.documents, &key, "");
        certified(&mut recipe.documents, &ca);
        create_accounts(&world, &recipe.documents).await;
        let text: Vec<String> = recipe.documents.iter().map(ToString::to_string).collect();
        apply(control_plane, &world.namespace, &text.join("\n---\n"));
        applied.push((recipe, endpoints));
    }
    assert!(applied.len() >= 40, "{} recipes", applied.len());
    for (Recipe { name, documents, exchanges, metadata }, endpoints) in &applied {
        eprintln!("{name}");
        let integrations = documents.iter().filter(|document| document["kind"] == "OAuthIntegration");
        for ((document, exchange), endpoint) in integrations.zip(exchanges).zip(endpoints) {
            assert_exchange(&world, (document, metadata), exchange, endpoint, &key).await;
        }
    }
}

/// Providers that respond with status 200 although they reject the request.
#[tokio::test]
async fn an_error_in_a_200_response_is_a_rejection() {
    let world = World::new("recipe-errors").await;
    let endpoint = Endpoint::start(|request| {
        Reply::json(
            200,
            &match request.path.split('?').next().unwrap_or_default() {
                "/web/session/authenticate" => {
                    json!({"jsonrpc": "2.0", "id": null, "error": {"code": 200, "data": {"message": "Access Denied"}}})
                }
                "/api/v2/token/refresh" => json!({"code": 36_004_004, "message": "the seller has withdrawn it"}),
                _ => json!({"errcode": 40_013, "errmsg": "invalid appid"}),
            },
        )
    });
    for (page, name, expected) in [
        ("odoo", "odoo", "Access Denied"),
        ("tiktok-shop", "tiktok-shop", "the seller has withdrawn it"),
        ("wechat", "wechat", "invalid appid"),
        ("wechat", "wechat-stable", "invalid appid"),
    ] {
        let mut recipe = recipe(&format!("{page}.md")).expect("a recipe");
        moved(&mut recipe.documents, &format!("http://{}", endpoint.address()));
        let text: Vec<String> = recipe.documents.iter().map(ToString::to_string).collect();
        apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
        let ready = world.condition(name, "Ready", "False", "RequestRejected").await;
        assert!(ready.message.contains(expected), "{name}: {}", ready.message);
    }
}

/// The token of Meta is its own refresh token: each one is exchanged for the next.
#[tokio::test]
async fn a_long_lived_token_is_exchanged_for_the_next_one() {
    let world = World::new("recipe-meta").await;
    let issued = AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |_| {
        let token = format!("long-lived-{}", issued.fetch_add(1, Ordering::Relaxed));
        Reply::json(200, &json!({"access_token": token, "token_type": "bearer", "expires_in": 5_183_944}))
    });
    let mut recipe = recipe("meta.md").expect("a recipe");
    recipe
        .documents
        .retain(|document| document["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("instagram")));
    moved(&mut recipe.documents, &format!("http://{}", endpoint.address()));
    let text: Vec<String> = recipe.documents.iter().map(ToString::to_string).collect();
    apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
    world.ready("instagram").await;
    for round in 0..2 {
        let token = world.value("instagram-token", "access_token").await;
        assert_eq!(token, format!("long-lived-{round}"));
        assert_eq!(world.value("instagram-token", "refresh_token").await, token);
        let now = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": format!("{round}")}}});
        world.change("instagram", &now).await;
        world.wait_for_change("instagram-token", "access_token", &token).await;
        assert_eq!(endpoint.requests()[round + 1].query()["access_token"], token);
    }
}

/// The real server: its user and its application credential, everything else is as on the page.
#[tokio::test]
async fn keystone_issues_tokens_for_the_manifests_of_its_page() {
    let keystone = Keystone::shared();
    let world = World::new("recipe-keystone").await;
    let mut recipe = recipe("keystone.md").expect("a recipe");
    moved(&mut recipe.documents, keystone.origin());
    for document in recipe.documents.iter_mut().filter(|document| document["kind"] == "Secret") {
        document["stringData"] = json!({
            "client_id": "orders", "client_secret": "orders-secret", "username": "admin", "password": "admin-password",
        });
    }
    let text: Vec<String> = recipe.documents.iter().map(ToString::to_string).collect();
    // The page has a project of its own.
    apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n").replace(r#"\"demo\""#, r#"\"admin\""#));
    for name in ["keystone", "keystone-password"] {
        world.ready(name).await;
        let token = world.value(&format!("{name}-token"), "access_token").await;
        assert!(keystone.is_active(&token), "{name}");
        assert!(!keystone.is_active(&format!("{token}x")), "{name}");
        let status = world.get(name).await.status.expect("a status");
        let lifetime = status.expires_at.expect("an expiry").0 - jiff::Timestamp::now();
        assert!((3400..=3600).contains(&lifetime.get_seconds()), "{name}: {lifetime}");
    }
    world.secret("keystone-credentials", &[("client_id", "orders"), ("client_secret", "wrong-keystone-canary")]).await;
    let ready = world.condition("keystone", "Ready", "True", "RequestRejected").await;
    assert!(ready.message.contains("401"), "{}", ready.message);
}
