//! A small protected API outside the cluster, which accepts only tokens that the identity provider knows as active.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::http;

/// The API. Its log: the number of responses by status, and the tokens that were accepted.
pub struct Api {
    endpoint: Endpoint,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    by_status: BTreeMap<u16, u64>,
    tokens: BTreeSet<String>,
}

impl Api {
    /// Starts it; tokens are checked by introspection (RFC 7662) at this URL, with the client `service`.
    pub fn start(introspection: String) -> Self {
        let log = Arc::<Mutex<Log>>::default();
        let shared = Arc::clone(&log);
        let endpoint = Endpoint::start(move |request: &Request| {
            let header = request.headers.get("authorization").map(String::as_str).unwrap_or_default();
            let token = header.strip_prefix("Bearer ").unwrap_or_default();
            let status = status(&introspection, token);
            let mut log = shared.lock().unwrap_or_else(PoisonError::into_inner);
            *log.by_status.entry(status).or_default() += 1;
            if status == 200 {
                log.tokens.insert(token.to_owned());
            }
            Reply::json(status, &json!({"orders": []}))
        });
        Self { endpoint, log }
    }

    /// Its address on loopback.
    pub fn address(&self) -> std::net::SocketAddr {
        self.endpoint.address()
    }

    /// The number of responses by status.
    pub fn responses(&self) -> BTreeMap<u16, u64> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).by_status.clone()
    }

    /// The number of different tokens that were accepted.
    pub fn tokens(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).tokens.len()
    }
}

fn status(introspection: &str, token: &str) -> u16 {
    let form = [("client_id", "service"), ("client_secret", "service-secret"), ("token", token)];
    let (status, body) = http::post_form(introspection, &form);
    let response: Value = serde_json::from_str(&body).unwrap_or_default();
    match (status, response["active"].as_bool()) {
        (200, Some(true)) => 200,
        (200, Some(false)) => 401,
        _ => 503,
    }
}
