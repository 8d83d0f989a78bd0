//! The metadata of an issuer (RFC 8414). The input: a document in JSON.

use oauth_operator::error::Failure;
use oauth_operator::oauth::Ask;
use oauth_operator::oauth::discovery::Metadata;
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
        let ask = ask(method);
        check(metadata.token_endpoint(&ask));
        check(metadata.revocation_endpoint(&ask));
    }
}

fn ask(method: &str) -> Ask {
    let mut spec = usual();
    spec["clientAuthentication"] = json!({"method": method});
    validated(spec).ask
}

/// Secrets go there: by TLS only, and never with a log-in of somebody else's.
fn check(endpoint: Result<Url, Failure>) {
    match endpoint {
        Ok(url) => assert!(url.scheme() == "https" && url.username().is_empty() && url.password().is_none(), "{url}"),
        Err(failure) => check_message(&failure.message),
    }
}
