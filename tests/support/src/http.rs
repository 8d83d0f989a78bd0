//! Small blocking HTTP calls, from any thread. Certificates are not verified: all servers are test servers.

use std::collections::BTreeMap;
use std::sync::{OnceLock, mpsc};

use tokio::runtime::{Builder, Runtime};
use url::Url;

/// Sends a GET request and returns status and body; status 0 if there is no response.
pub fn get(url: &str) -> (u16, String) {
    call(|client| client.get(url))
}

/// Sends a GET request, with a bearer token if one is given.
pub fn get_with_token(url: &str, token: Option<&str>) -> (u16, String) {
    call(|client| match token {
        Some(token) => client.get(url).bearer_auth(token),
        None => client.get(url),
    })
}

/// Sends a GET request with a header.
pub fn get_with_header(url: &str, name: &str, value: &str) -> (u16, String) {
    call(|client| client.get(url).header(name, value))
}

/// Posts a form and returns status and body.
pub fn post_form(url: &str, members: &[(&str, &str)]) -> (u16, String) {
    call(|client| form(client.post(url), members))
}

/// The same, as a client that authenticates with HTTP Basic.
pub fn post_form_as(url: &str, client: (&str, &str), members: &[(&str, &str)]) -> (u16, String) {
    call(|http| form(http.post(url).basic_auth(client.0, Some(client.1)), members))
}

fn form(request: reqwest::RequestBuilder, members: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(members).finish();
    request.header("Content-Type", "application/x-www-form-urlencoded").body(body)
}

/// Posts JSON and returns status and body.
pub fn post_json(url: &str, value: &serde_json::Value) -> (u16, String) {
    call(|client| client.post(url).header("Content-Type", "application/json").body(value.to_string()))
}

/// A user agent: it keeps cookies, and leaves redirects to the caller.
#[derive(Debug, Default)]
pub struct Browser {
    /// By name: all servers are on loopback, so each test has one browser for each server.
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Sends a GET request and returns the target of the redirect; panics if there is none.
    pub fn get(&mut self, url: &str) -> Url {
        self.redirected(url, |client| client.get(url))
    }

    /// Posts a form and returns the target of the redirect; panics if there is none.
    pub fn post(&mut self, url: &str, members: &[(&str, &str)]) -> Url {
        self.redirected(url, |client| form(client.post(url), members))
    }

    fn redirected(&mut self, url: &str, request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder) -> Url {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = exchange(|client| request(client).header("Cookie", cookies.join("; ")));
        for (_, cookie) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
            self.cookies.extend(pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let location = response.headers.iter().find(|(name, _)| name == "location");
        let location = location.and_then(|(_, to)| Url::parse(url).ok()?.join(to).ok());
        location.unwrap_or_else(|| panic!("no redirect from {url}: {} {}", response.status, response.body))
    }
}

/// The value of a query parameter; panics if there is none.
pub fn parameter(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    found.unwrap_or_else(|| panic!("no {name} in {url}"))
}

/// Puts JSON and returns the status and the body.
pub fn put_json(url: &str, value: &serde_json::Value) -> (u16, String) {
    call(|client| client.put(url).header("Content-Type", "application/json").body(value.to_string()))
}

/// One runtime and one client for all calls of the process: polling does not need a thread per call.
fn shared() -> &'static (Runtime, reqwest::Client) {
    static SHARED: OnceLock<(Runtime, reqwest::Client)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
        let client = client.redirect(reqwest::redirect::Policy::none());
        // No pool: a connection that is still open would hide that a server has exited.
        let client = client.pool_max_idle_per_host(0).build().expect("a client");
        (runtime, client)
    })
}

/// A response. Without one, its status is 0.
#[derive(Debug, Default)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

fn call(request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder) -> (u16, String) {
    let response = exchange(request);
    (response.status, response.body)
}

fn exchange(request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder) -> Response {
    let (runtime, client) = shared();
    let request = request(client);
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let response = match request.send().await {
            Ok(response) => received(response).await,
            Err(_) => Response::default(),
        };
        // Received below.
        let _ = sender.send(response);
    });
    // The caller may be in a runtime, where `block_on` would panic: it waits for a channel.
    receiver.recv().expect("the response of the call")
}

async fn received(response: reqwest::Response) -> Response {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Response { status: response.status().as_u16(), headers, body: response.text().await.unwrap_or_default() }
}
