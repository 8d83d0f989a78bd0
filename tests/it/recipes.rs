//! Guarantee: each recipe in `docs/providers` that shows requests and responses of the provider sends exactly these
//! requests, and reads these responses. Its manifests are applied with only hosts, keys and times replaced.

use std::collections::BTreeMap;
use std::slice;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
};
use serde_json::{Value, json};
use test_support::docs::Block;
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::keys::{self, CertificateAuthority, Key};
use test_support::manifests::{apply, install_permissions_with_service_accounts};
use test_support::{ControlPlane, World, docs, tools};

use crate::providers::{keyed, moved, pinned, verified};

/// Stands for any signed JWT in a recipe.
const JWT: &str = "JWT";
/// The line before a response.
const RETURNS: &str = "What the endpoint returns";

/// The times of the pages, an hour after the token was issued. The test replaces them by an hour from now.
const EXPIRY: [&str; 3] = ["2030-01-01T01:00:00", "1893459600", "1.8934596E9"];

/// A page with the requests and responses of its integrations.
struct Recipe {
    name: String,
    documents: Vec<Value>,
    exchanges: Vec<Exchange>,
}

/// What one integration of a page sends and receives.
struct Exchange {
    request: ExpectedRequest,
    response: Response,
    /// When the token expires, if the response says it as a time.
    expires_at: Option<Timestamp>,
}

/// The request as the page shows it.
struct ExpectedRequest {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// The response as the page shows it.
#[derive(Clone)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// The recipes that show the responses of the provider.
fn recipes() -> Vec<Recipe> {
    let entries = std::fs::read_dir(tools::root().join("docs/providers")).expect("the recipes");
    let mut files: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    files.iter().filter(|file| *file != "README.md").filter_map(|file| recipe(file)).collect()
}

/// The manifests of a page before the last response that it shows. The exchanges are in the order of the integrations.
fn recipe(file: &str) -> Option<Recipe> {
    let name = file.trim_end_matches(".md");
    let mut blocks = docs::all_blocks(&format!("docs/providers/{file}"));
    blocks.truncate(blocks.iter().rposition(|block| block.title.starts_with(RETURNS))? + 1);
    for block in &mut blocks {
        // Two integrations must not have the same refresh token.
        block.text = block.text.replace("first-refresh-token", &format!("{name}-refresh-token"));
    }
    let titled = |title: &'static str| blocks.iter().filter(move |block| block.title.starts_with(title));
    let manifests = blocks.iter().filter(|block| block.language == "yaml");
    let documents = manifests.flat_map(|block| {
        serde_saphyr::from_multiple::<Value>(&block.text).unwrap_or_else(|error| panic!("{file}: {error}"))
    });
    let exchange = |(sent, returned): (&Block, &Block)| {
        let (response, expires_at) = response(file, returned);
        Exchange { request: expected_request(&sent.text), response, expires_at }
    };
    let exchanges: Vec<Exchange> = titled("What is sent").zip(titled(RETURNS)).map(exchange).collect();
    let documents: Vec<Value> = documents.collect();
    let integrations = documents.iter().filter(|document| document["kind"] == "OAuthIntegration").count();
    let counts = (titled("What is sent").count(), titled(RETURNS).count());
    assert_eq!(counts, (integrations, integrations), "{file}: requests and responses");
    Some(Recipe { name: name.to_owned(), documents, exchanges })
}

/// The response of a block: a body, or a whole response with its headers. And when its token expires.
fn response(file: &str, block: &Block) -> (Response, Option<Timestamp>) {
    let status = block.title.strip_prefix(&format!("{RETURNS}, with ")).map_or("200", |rest| &rest[..3]);
    let (mut status, mut headers) = (status.to_owned(), Vec::new());
    let mut body = block.text.trim_end().to_owned();
    if let Some(whole) = block.text.strip_prefix("HTTP/1.1 ") {
        let (head, rest) = whole.split_once("\n\n").unwrap_or_else(|| panic!("{file}: a response without a body"));
        let mut lines = head.lines();
        status = lines.next().expect("a status").chars().take(3).collect();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        headers = lines.filter_map(header).collect();
        body = rest.trim_end().to_owned();
    } else {
        let subtype = if block.language == "text" { "plain" } else { &block.language };
        let kind = if block.language == "json" { "application" } else { "text" };
        headers.push(("Content-Type".to_owned(), format!("{kind}/{subtype}")));
    }
    let in_an_hour = Timestamp::from_second(Timestamp::now().as_second() + 3600).expect("a time");
    let seconds = in_an_hour.as_second().to_string();
    let has_expiry = EXPIRY.iter().any(|time| body.contains(time));
    let times = [
        in_an_hour.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        seconds.clone(),
        format!("{}.{}E9", &seconds[..1], &seconds[1..]),
    ];
    for (shown, time) in EXPIRY.iter().zip(&times) {
        body = body.replace(shown, time);
    }
    let status = status.parse().unwrap_or_else(|_| panic!("{file}: status {status}"));
    (Response { status, headers, body }, has_expiry.then_some(in_an_hour))
}

fn expected_request(text: &str) -> ExpectedRequest {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("a request line");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header: {line}"));
        (name.to_ascii_lowercase(), encoded(value))
    };
    ExpectedRequest {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: lines.map(header).collect(),
        body: body.trim().to_owned(),
    }
}

/// The value of a header, in which `base64(…)` stands for the encoded text.
fn encoded(value: &str) -> String {
    match value.split_once("base64(").and_then(|(before, rest)| Some((before, rest.strip_suffix(')')?))) {
        Some((before, text)) => format!("{before}{}", STANDARD.encode(text)),
        None => value.to_owned(),
    }
}

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
fn moved_to(documents: &mut [Value], exchanges: &[Exchange]) -> Vec<Endpoint> {
    let stand_in = |response: &Response| {
        let Response { status, headers, body } = response.clone();
        Endpoint::start(move |_| Reply::Http(status, headers.clone(), body.clone()))
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
async fn assert_exchange(world: &World, document: &Value, exchange: &Exchange, endpoint: &Endpoint, key: &Key) {
    let name = document["metadata"]["name"].as_str().expect("a name");
    eprintln!("==> {name}");
    world.ready(name).await;
    assert_request(name, &endpoint.requests()[0], &exchange.request, key);
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
        let endpoints = moved_to(&mut recipe.documents, &recipe.exchanges);
        keyed(&mut recipe.documents, &key, "");
        certified(&mut recipe.documents, &ca);
        create_accounts(&world, &recipe.documents).await;
        let text: Vec<String> = recipe.documents.iter().map(ToString::to_string).collect();
        apply(control_plane, &world.namespace, &text.join("\n---\n"));
        applied.push((recipe, endpoints));
    }
    assert!(applied.len() >= 40, "{} recipes", applied.len());
    for (Recipe { name, documents, exchanges }, endpoints) in &applied {
        eprintln!("{name}");
        let integrations = documents.iter().filter(|document| document["kind"] == "OAuthIntegration");
        for ((document, exchange), endpoint) in integrations.zip(exchanges).zip(endpoints) {
            assert_exchange(&world, document, exchange, endpoint, &key).await;
        }
    }
}
