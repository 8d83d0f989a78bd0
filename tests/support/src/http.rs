//! Small blocking HTTP calls, from any thread. Certificates are not verified: all servers are test servers.

use std::sync::{OnceLock, mpsc};

use tokio::runtime::{Builder, Runtime};

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

/// Posts a form and returns status and body.
pub fn post_form(url: &str, members: &[(&str, &str)]) -> (u16, String) {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(members).finish();
    call(|client| client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(body.clone()))
}

/// Posts JSON and returns status and body.
pub fn post_json(url: &str, value: &serde_json::Value) -> (u16, String) {
    call(|client| client.post(url).header("Content-Type", "application/json").body(value.to_string()))
}

/// One runtime and one client for all calls of the process: polling does not need a thread per call.
fn shared() -> &'static (Runtime, reqwest::Client) {
    static SHARED: OnceLock<(Runtime, reqwest::Client)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
        // No pool: a connection that is still open would hide that a server has exited.
        let client = client.pool_max_idle_per_host(0).build().expect("a client");
        (runtime, client)
    })
}

fn call(request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder) -> (u16, String) {
    let (runtime, client) = shared();
    let request = request(client);
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let response = match request.send().await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        };
        // Received below.
        let _ = sender.send(response);
    });
    // The caller may be in a runtime, where `block_on` would panic: it waits for a channel.
    receiver.recv().expect("the response of the call")
}
