//! Why a request got no response, and the resulting error.

use std::io;

use http::uri::InvalidUri;

use crate::api::reason::Reason;
use crate::error_report::chain;
use crate::oauth::body::Parameter;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::denied::Denied;
use crate::oauth::http::name_resolution::ResolveError;
use crate::oauth::redaction::redact::redact;

/// A request to a URL is denied.
pub(crate) fn denied(url: UrlKind, denied: &Denied) -> RequestError {
    let advice = match denied {
        Denied::OutsideAllowedEndpoints { .. } => Some(Advice::ChangeUrlOrAnnotation(url)),
        Denied::Header { origin, .. } => Some(Advice::RemoveHeader { origin: origin.clone() }),
        Denied::ForeignCa { .. } => Some(Advice::ChangeCaBundle),
        Denied::ProxySeesCredentials => Some(Advice::UseHttpsWithProxy),
        // Their messages already contain the advice.
        Denied::Anonymous { .. } | Denied::Unrestricted { .. } => None,
        Denied::PlainHttp | Denied::NoHost | Denied::Host { .. } | Denied::Network { .. } | Denied::Address { .. } => {
            Some(Advice::CheckUrl(url))
        }
    };
    let url = if matches!(denied, Denied::Anonymous { is_proxy: true, .. }) { UrlKind::Proxy } else { url };
    RequestError { advice, ..RequestError::new(Reason::EndpointNotAllowed, format!("{url} is not allowed: {denied}")) }
}

/// There is no response.
pub(crate) fn no_response(error: &SendError, host: &str, url: UrlKind, sent: &[Parameter]) -> RequestError {
    let cause = redact(&chain(error), sent);
    let check = Advice::CheckUrl(url);
    match error {
        SendError::Denied(why) => denied(url, why),
        SendError::Request(_) | SendError::Uri(_) => {
            RequestError::new(Reason::InvalidSpec, format!("the request could not be built: {cause}"))
                .with_advice(check)
        }
        SendError::Resolve(_) | SendError::Connect(_) | SendError::Tls(_) | SendError::Proxy(_) => {
            RequestError::new(Reason::EndpointUnreachable, format!("failed to connect to {host}: {cause}"))
                .with_advice(check)
        }
        SendError::Broken(_) => RequestError::new(
            Reason::EndpointUnreachable,
            format!("the connection to {host} was closed unexpectedly: {cause}"),
        ),
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL or a header is not valid in a request.
    #[error(transparent)]
    Request(#[from] http::Error),
    /// The URL is not valid in a request.
    #[error(transparent)]
    Uri(InvalidUri),
    /// The name has only addresses that are denied.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The name was not resolved.
    #[error("dns error: {0}")]
    Resolve(#[from] ResolveError),
    /// No address accepted a connection.
    #[error("tcp connect error: {0}")]
    Connect(io::Error),
    /// The TLS handshake failed, with the endpoint or with an https proxy.
    #[error("{0}")]
    Tls(io::Error),
    /// The proxy did not connect to the endpoint.
    #[error("the proxy did not connect: {0}")]
    Proxy(String),
    /// The connection ended before the response did, or the response was not HTTP or too large.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}
