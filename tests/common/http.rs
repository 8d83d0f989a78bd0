//! Small blocking HTTP calls, for looks at servers from any thread.

/// Sends a GET request and returns status and body; status 0 where nobody answers.
pub fn get(url: &str) -> (u16, String) {
    call(|client| client.get(url))
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

fn call(request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder + Send) -> (u16, String) {
    let work = || {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            match request(&client).send().await {
                Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
                Err(_) => (0, String::new()),
            }
        })
    };
    // A thread of its own: the caller may stand in a runtime, which must not be blocked from within.
    std::thread::scope(|scope| scope.spawn(work).join().expect("a call"))
}
