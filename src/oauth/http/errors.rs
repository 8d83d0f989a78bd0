//! Why a request got no response, and the resulting error.

use std::io;

use http::uri::InvalidUri;
use url::Url;

use crate::api::reason::Reason;
use crate::error_report::chain;
use crate::oauth::body::Parameter;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::denied::Denied;
use crate::oauth::http::name_resolution::ResolveError;
use crate::oauth::http::server_certificate::explain;
use crate::oauth::redaction::redact::redact;

/// A request to a URL is denied.
pub(crate) fn denied(url: UrlKind, denied: &Denied) -> RequestError {
    let advice = match denied {
        Denied::OutsideAllowedEndpoints { .. } => Some(Advice::ChangeUrlOrAnnotation(url)),
        Denied::Header { origin, .. } => Some(Advice::RemoveHeader { origin: origin.clone() }),
        Denied::ForeignCa { .. } => Some(Advice::ChangeCaBundle),
        Denied::ProxySeesCredentials => Some(Advice::UseHttpsWithProxy),
        Denied::Unconfirmed { is_endpoint: true, .. } => Some(Advice::ConfirmTokenEndpoint),
        Denied::Unconfirmed { is_endpoint: false, .. } => Some(Advice::ConfirmIssuer),
        // Their messages already contain the advice.
        Denied::Anonymous { .. } | Denied::Unrestricted { .. } | Denied::NotForwarded { .. } | Denied::PlainHttp => {
            None
        }
        Denied::NoHost | Denied::Host { .. } | Denied::Network { .. } | Denied::Address { .. } => {
            Some(Advice::CheckUrl(url))
        }
    };
    let url = if matches!(denied, Denied::Anonymous { is_proxy: true, .. }) { UrlKind::Proxy } else { url };
    let error = RequestError::new(Reason::EndpointNotAllowed, format!("{url} is not allowed: {denied}"));
    advice.into_iter().fold(error, RequestError::with_advice)
}

/// Host and port of a URL, for messages.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// There is no response from `url`.
pub(crate) fn no_response(error: &SendError, url: &Url, kind: UrlKind, sent: &[Parameter]) -> RequestError {
    match error {
        SendError::Denied(why) => denied(kind, why),
        SendError::Request(_) | SendError::Uri(_) => {
            let cause = redact(&chain(error), sent);
            RequestError::new(Reason::InvalidSpec, format!("the request could not be built: {cause}"))
                .with_advice(Advice::CheckUrl(kind))
        }
        SendError::InProxy { proxy, error } => {
            if let SendError::Denied(why) = &**error {
                return denied(UrlKind::Proxy, why);
            }
            let explained = tls_error(error).and_then(|tls| explain(tls, proxy));
            let cause = explained.map_or_else(|| cause(error), |(message, _)| message);
            let message = format!("failed to connect to the proxy {proxy}: {cause}");
            RequestError::new(Reason::EndpointUnreachable, redact(&message, sent))
                .with_advice(Advice::CheckUrl(UrlKind::Proxy))
        }
        _ => {
            let place = host_and_port(url);
            let (message, advice) = match (tls_error(error).and_then(|tls| explain(tls, &place)), error) {
                (Some(explained), _) => explained,
                (None, SendError::DeadlineExceeded) => (format!("nothing was sent to {place}: {error}"), None),
                (None, SendError::Broken(_)) => {
                    (format!("the connection to {place} was closed unexpectedly: {}", chain(error)), None)
                }
                (None, _) => (format!("failed to connect to {place}: {}", cause(error)), Some(Advice::CheckUrl(kind))),
            };
            let failure = RequestError::new(Reason::EndpointUnreachable, redact(&message, sent));
            advice.into_iter().fold(failure, RequestError::with_advice)
        }
    }
}

/// Why a connection was not established, in words.
fn cause(error: &SendError) -> String {
    match error {
        SendError::Resolve(ResolveError::Failed(text)) if text.contains("Name or service not known") => {
            "there is no such host in DNS".to_owned()
        }
        SendError::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "connection refused, nothing listens on this port".to_owned()
        }
        SendError::Connect(error) if error.kind() == io::ErrorKind::HostUnreachable => {
            "there is no route to it".to_owned()
        }
        SendError::Tls(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
        {
            "it closed the connection during the TLS handshake".to_owned()
        }
        error => chain(error),
    }
}

/// The TLS error among the causes.
fn tls_error(error: &SendError) -> Option<&rustls::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // The error inside of an I/O error is not among its sources, only the source of that.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        source = error.source();
    }
    None
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
    #[error("the name was not resolved: {0}")]
    Resolve(#[from] ResolveError),
    /// No address accepted a connection.
    #[error("{0}")]
    Connect(#[source] io::Error),
    /// The TLS handshake failed, with the endpoint or with an https proxy.
    #[error("{0}")]
    Tls(#[source] io::Error),
    /// The proxy did not connect to the endpoint.
    #[error("the proxy did not connect: {0}")]
    Proxy(String),
    /// There is no connection to the proxy, or through it.
    #[error("the proxy {proxy}: {error}")]
    InProxy {
        /// Its host and port.
        proxy: String,
        /// What failed.
        error: Box<SendError>,
    },
    /// Nothing was sent, because the deadline had passed.
    #[error("the deadline of the request passed before it was sent")]
    DeadlineExceeded,
    /// The connection ended before the response did, or the response was not HTTP or too large.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_denied_proxy_is_not_retried_like_one_that_is_down() {
        let url = Url::parse("https://login.example.com/token").expect("a URL");
        let in_proxy =
            |error| SendError::InProxy { proxy: "proxy.example.com:3128".to_owned(), error: Box::new(error) };
        let failure = |error| no_response(&in_proxy(error), &url, UrlKind::Issuer, &[]);
        let denied = failure(SendError::Denied(Denied::Network { address: [10, 0, 0, 1].into() }));
        assert_eq!(
            (denied.reason, denied.advice),
            (Reason::EndpointNotAllowed, vec![Advice::CheckUrl(UrlKind::Proxy)])
        );
        let down = failure(SendError::Connect(io::ErrorKind::ConnectionRefused.into()));
        assert_eq!(down.reason, Reason::EndpointUnreachable);
    }
}
