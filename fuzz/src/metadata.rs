//! The metadata of an issuer (RFC 8414), of a protected resource (RFC 9728) and of a FHIR server (SMART App Launch). The
//! input: a JSON document.

use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::http::discovery::Metadata;
use oauth_operator::oauth::http::protected_resource::lists::DefaultScope;
use oauth_operator::oauth::http::protected_resource::{NamedServer, ResourceMetadata};
use oauth_operator::oauth::request::{ProtectedResource, TokenRequest};
use serde_json::json;
use url::Url;

use crate::{check_message, usual, validated};

const ISSUER: &str = "https://login.example.com";

/// The resource in documents for it.
const RESOURCE: &str = "https://mcp.example.com/mcp";

/// Reads metadata.
pub fn metadata(data: &[u8]) {
    let resource = ProtectedResource { url: Url::parse(RESOURCE).expect("a URL"), name: RESOURCE.to_owned() };
    for issuer in [None, Some(ISSUER)] {
        check_resource(ResourceMetadata::parse(&resource, issuer, data), issuer);
        check_resource(ResourceMetadata::parse_smart(&resource, issuer, data), issuer);
    }
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

/// What a resource names has TLS, and belongs to the issuer of the spec, if there is one.
fn check_resource(metadata: Result<ResourceMetadata, RequestError>, issuer: Option<&str>) {
    let server = match metadata {
        Ok(metadata) => metadata.server,
        Err(failure) => return check_message(&failure.message),
    };
    let (NamedServer::Issuer { url, name, .. } | NamedServer::TokenEndpoint { url, name, .. }) = &server;
    assert!(name.len() <= 2_048 && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    check(Ok(url.clone()));
    match &server {
        NamedServer::Issuer { scope, .. } => {
            assert!(issuer.is_none_or(|issuer| issuer == name), "{name}");
            if let DefaultScope::Known(scope) = scope {
                let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(scope.len() <= 4_096 && scope.split(' ').all(is_name), "{scope:?}");
            }
        }
        NamedServer::TokenEndpoint { .. } => {
            let origin = |text: &str| Url::parse(text).expect("a URL").origin();
            assert!(issuer.is_none_or(|issuer| origin(issuer) == url.origin()), "{name}");
        }
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
