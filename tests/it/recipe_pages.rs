//! The pages in `docs/providers` as the tests of recipes read them: manifests, and the requests and responses that
//! belong to them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use test_support::docs::Block;
use test_support::{docs, tools};

/// The line before a response.
const RETURNS: &str = "What the endpoint returns";

/// The times of the pages, an hour after the token was issued. The test replaces them by an hour from now.
const EXPIRY: [&str; 3] = ["2030-01-01T01:00:00", "1893459600", "1.8934596E9"];

/// A page with the requests and responses of its integrations.
pub struct Recipe {
    pub name: String,
    pub documents: Vec<Value>,
    pub exchanges: Vec<Exchange>,
    pub metadata: Vec<Metadata>,
}

/// A metadata document as the page shows it.
#[derive(Clone)]
pub struct Metadata {
    /// Scheme and host of its URL.
    pub origin: String,
    pub path: String,
    pub text: String,
}

/// What one integration of a page sends and receives.
pub struct Exchange {
    pub request: ExpectedRequest,
    pub response: Response,
    /// When the token expires, if the response says it as a time.
    pub expires_at: Option<Timestamp>,
}

/// The request as the page shows it.
#[derive(Clone)]
pub struct ExpectedRequest {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// The response as the page shows it.
#[derive(Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The recipes that show the responses of the provider.
pub fn recipes() -> Vec<Recipe> {
    let entries = std::fs::read_dir(tools::root().join("docs/providers")).expect("the recipes");
    let mut files: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    files.iter().filter(|file| *file != "README.md").filter_map(|file| recipe(file)).collect()
}

/// The manifests of a page before the last response that it shows. The exchanges are in the order of the integrations.
pub fn recipe(file: &str) -> Option<Recipe> {
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
    let text = std::fs::read_to_string(tools::root().join(format!("docs/providers/{file}"))).expect("a page");
    Some(Recipe { name: name.to_owned(), documents, exchanges, metadata: metadata(&text) })
}

/// The metadata documents of a page, each after a line that ends with `GET` and its URL.
fn metadata(text: &str) -> Vec<Metadata> {
    let document = |rest: &str| {
        let (url, rest) = rest.split_once("`:\n\n```json\n").expect("a URL, and its document");
        let url = url::Url::parse(url).expect("a URL");
        let (text, _) = rest.split_once("```").expect("a document");
        let origin = url.origin().ascii_serialization();
        Metadata { origin, path: url.path().to_owned(), text: text.to_owned() }
    };
    text.split("`GET https://").skip(1).map(|rest| document(&format!("https://{rest}"))).collect()
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
