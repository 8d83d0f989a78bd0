//! Guarantee: each recipe in `docs/providers` that shows the request and the response of the provider sends exactly
//! this request, and reads this response. Its manifest is applied with only its host and its keys replaced. A page may
//! also show metadata, as `GET https://…` and its JSON: it is served at that path.

use std::collections::BTreeMap;

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
use test_support::manifests::{apply, install_permissions_with_service_accounts};
use test_support::{ControlPlane, World, docs, tools};

use crate::providers::{keyed, moved, verified};

/// Stands for any signed JWT in a recipe.
const JWT: &str = "JWT";

/// A page with a request and a response.
struct Recipe {
    name: String,
    documents: Vec<Value>,
    request: ExpectedRequest,
    status: u16,
    response: Value,
    metadata: Vec<Metadata>,
}

/// A metadata document as a page shows it.
#[derive(Clone)]
struct Metadata {
    /// Scheme and host of its URL.
    origin: String,
    path: String,
    text: String,
}

/// The request as the page shows it.
struct ExpectedRequest {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// The recipes that show the response of the provider.
fn recipes() -> Vec<Recipe> {
    let entries = std::fs::read_dir(tools::root().join("docs/providers")).expect("the recipes");
    let mut files: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    files.iter().filter(|file| *file != "README.md").filter_map(|file| recipe(file)).collect()
}

fn recipe(file: &str) -> Option<Recipe> {
    let path = format!("docs/providers/{file}");
    let text = std::fs::read_to_string(tools::root().join(&path)).expect("a page");
    let (_, returns) = text.split_once("What the endpoint returns")?;
    let status = returns.strip_prefix(", with ").map_or("200", |rest| &rest[..3]);
    let metadata = metadata(&text);
    let (before, _) = text.split_at(text.len() - returns.len());
    assert_eq!(before.matches("```json").count(), metadata.len(), "{file}: JSON that is not metadata");
    let block = |language: &str| {
        // Before the response, there are only metadata documents.
        let first = if language == "json" { metadata.len() } else { 0 };
        docs::blocks(&path, language).into_iter().nth(first)
    };
    let block = |language: &str| block(language).unwrap_or_else(|| panic!("{file}: no {language} block"));
    let name = file.trim_end_matches(".md");
    // Two integrations must not have the same refresh token.
    let block = |language: &str| block(language).replace("first-refresh-token", &format!("{name}-refresh-token"));
    Some(Recipe {
        name: name.to_owned(),
        documents: serde_saphyr::from_multiple(&block("yaml")).unwrap_or_else(|error| panic!("{file}: {error}")),
        request: expected_request(&block("text")),
        status: status.parse().unwrap_or_else(|_| panic!("{file}: status {status}")),
        response: serde_json::from_str(&block("json")).unwrap_or_else(|error| panic!("{file}: {error}")),
        metadata,
    })
}

/// The documents of a page, each after a line that ends with its URL.
fn metadata(text: &str) -> Vec<Metadata> {
    let document = |rest: &str| {
        let (url, rest) = rest.split_once("`:\n\n```json\n").expect("a URL, and its document");
        let url = url::Url::parse(url).expect("a URL");
        let (text, _) = rest.split_once("```").expect("a document");
        let origin = url.origin().ascii_serialization();
        Metadata { origin, path: url.path().to_owned(), text: text.to_owned() }
    };
    text.split("`GET ").skip(1).map(document).collect()
}

/// Serves the metadata of a page with its hosts replaced by that of this server; `None` for another request.
fn served(metadata: &[Metadata], request: &Request) -> Option<Reply> {
    if request.method != "GET" {
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

fn assert_request(recipe: &Recipe, request: &Request, key: &Key) {
    let Recipe { name, request: expected, metadata, .. } = recipe;
    let own = format!("http://{}", request.headers["host"]);
    assert_eq!((&request.method, &request.path), (&expected.method, &expected.target), "{name}");
    for (header, value) in &expected.headers {
        let actual = request.headers.get(header).unwrap_or_else(|| panic!("{name}: no header {header}"));
        assert!(is_expected(actual, value, key), "{name}: {header} is {actual:?}, not {value:?}");
    }
    if expected.headers.get("content-type").is_some_and(|value| value.starts_with("application/json")) {
        let (actual, mut shown) = (request.json(), serde_json::from_str(&expected.body).expect("JSON"));
        replace_tokens(&mut shown, &actual, key);
        assert_eq!(actual, shown, "{name}");
        return;
    }
    let pairs = |body: &str| {
        let mut pairs: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        pairs.sort();
        pairs
    };
    let (actual, shown) = (pairs(&request.body), pairs(&expected.body.lines().map(str::trim).collect::<String>()));
    let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&actual), names(&shown), "{name}");
    for ((parameter, actual), (_, shown)) in actual.iter().zip(&shown) {
        let shown = &local(metadata, shown, &own);
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

#[tokio::test]
async fn each_recipe_sends_the_request_that_its_page_shows_and_reads_the_response() {
    let control_plane = ControlPlane::shared();
    install_permissions_with_service_accounts(control_plane);
    let (world, key, ca) = (World::new("recipes").await, keys::rsa(), CertificateAuthority::new());
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.namespace);
    let mut applied = Vec::new();
    for mut recipe in recipes() {
        let (status, response, metadata) = (recipe.status, recipe.response.clone(), recipe.metadata.clone());
        let is_discovered = !metadata.is_empty();
        let endpoint = Endpoint::start(move |request| {
            let document = is_discovered.then(|| served(&metadata, request)).flatten();
            document.unwrap_or_else(|| Reply::json(status, &response))
        });
        moved(&mut recipe.documents, &format!("http://{}", endpoint.address()));
        keyed(&mut recipe.documents, &key, "");
        certified(&mut recipe.documents, &ca);
        for document in &recipe.documents {
            if let Some(name) = document["spec"]["serviceAccountToken"]["serviceAccountName"].as_str() {
                let account = serde_json::from_value(json!({"metadata": {"name": name}})).expect("an account");
                accounts.create(&PostParams::default(), &account).await.expect("the account is created");
            }
        }
        let text: Vec<String> = recipe.documents.iter().map(ToString::to_string).collect();
        apply(control_plane, &world.namespace, &text.join("\n---\n"));
        applied.push((recipe, endpoint));
    }
    assert!(applied.len() >= 20, "{} recipes", applied.len());
    for (recipe, endpoint) in &applied {
        let Recipe { name, metadata, .. } = recipe;
        eprintln!("==> {name}");
        world.ready(name).await;
        let requests = endpoint.requests();
        let (reads, sent): (Vec<&Request>, Vec<&Request>) =
            requests.iter().partition(|request| metadata.iter().any(|document| document.path == request.path));
        assert_eq!(reads.len(), metadata.len(), "{name}: each document is read once");
        let sent = sent.into_iter().find(|request| metadata.is_empty() || request.method == "POST");
        assert_request(recipe, sent.expect("a request"), &key);
        assert!(!world.value(&format!("{name}-token"), "access_token").await.is_empty(), "{name}");
    }
}
