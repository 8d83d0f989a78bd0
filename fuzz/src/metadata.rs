//! The metadata of an issuer (RFC 8414). The input: a JSON document.

use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::http::discovery::Metadata;
use oauth_operator::oauth::request::TokenRequest;
use serde_json::json;
use url::Url;

use crate::{check_message, usual, validated};

const ISSUER: &str = "https://login.example.com";

/// Reads metadata.
pub fn metadata(data: &[u8]) {
    let metadata = match Metadata::parse(ISSUER, data) {
        Ok(metadata) => metadata,
        Err(failure) => return check_message(&failure.message),
    };
    for method in ["client_secret_post", "private_key_jwt", "tls_client_auth", "none"] {
        let token_request = token_request(method);
        check(metadata.token_endpoint(&token_request));
        check(metadata.revocation_endpoint(&token_request));
    }
}

fn token_request(method: &str) -> TokenRequest {
    let mut spec = usual();
    spec["clientAuthentication"] = json!({"method": method});
    validated(spec).token_request
}

/// Secrets are sent there: only over TLS, and never with userinfo in the URL.
fn check(endpoint: Result<Url, RequestError>) {
    match endpoint {
        Ok(url) => assert!(url.scheme() == "https" && url.username().is_empty() && url.password().is_none(), "{url}"),
        Err(failure) => check_message(&failure.message),
    }
}
