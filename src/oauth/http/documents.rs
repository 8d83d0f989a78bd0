//! Reads the metadata documents of issuers and of protected resources, within bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http::{Method as HttpMethod, StatusCode};
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::Zeroizing;

use crate::api::headers::{carries_credential, is_reserved};
use crate::api::reason::Reason;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::connections::{Connection, Settings};
use crate::oauth::http::decode::DecodeError;
use crate::oauth::http::errors;
use crate::oauth::http::send::Reading;
use crate::oauth::redaction::redact;
use crate::oauth::request::TokenRequest;

/// The maximum size of a document, in bytes. Those of large providers have up to 10 KiB.
const MAX_DOCUMENT: usize = 64 << 10;
/// The maximum length of a URL, in bytes, as in the spec.
pub(crate) const MAX_URL: usize = 2_048;

/// What identifies a document in a cache: the settings of the connection, because with a tenant's own proxy or CA the
/// same URL may lead to another server; the headers, because a gateway may choose the server by them; and the URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetadataKey {
    settings: Option<[u8; 32]>,
    headers: Option<[u8; 32]>,
    /// The issuer or the protected resource.
    pub(crate) url: Url,
}

impl MetadataKey {
    /// The key of the metadata of `url`, as a request reads it.
    #[must_use]
    pub fn new(url: &Url, settings: &Settings<'_>, request: &TokenRequest) -> Self {
        Self { settings: settings.fingerprint(), headers: fingerprint(&request.headers), url: url.clone() }
    }
}

/// How a document is read.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The connection, which must not present a client certificate: whether it may be sent to the endpoint is known only
    /// after discovery.
    pub connection: &'a Connection,
    /// The request that needs it.
    pub request: &'a TokenRequest,
    /// What the document describes, for errors.
    pub of: UrlKind,
}

impl Reader<'_> {
    /// The body, or the status if it is not 200. `host` is the issuer or the protected resource, for errors.
    pub(crate) async fn read(
        &self,
        host: &Url,
        url_text: &str,
    ) -> Result<Result<Zeroizing<Vec<u8>>, u16>, RequestError> {
        let of = self.of;
        let url = Url::parse(url_text).map_err(|_| invalid(of, &format!("the metadata of {of} has no URL")))?;
        let headers = headers(&self.request.headers)?;
        let is_ok: fn(StatusCode) -> bool = |status| status == StatusCode::OK;
        let reading = Reading { max_body: MAX_DOCUMENT, reads: is_ok };
        let response = self.connection.send(HttpMethod::GET, &url, headers, String::new(), || true, reading).await;
        let response = response.map_err(|error| errors::no_response(&error, host, of, &[]))?;
        if !is_ok(response.status) {
            return Ok(Err(response.status.as_u16()));
        }
        match response.error {
            None => Ok(Ok(response.body)),
            Some(DecodeError::TooLarge) => Err(invalid(of, &format!("the metadata of {of} is larger than 64 KiB"))),
            Some(error) => Err(invalid(of, &format!("the metadata of {of} {error}"))),
        }
    }

    /// Runs `reading`, which reads one or two documents, within the timeout of one request.
    pub(crate) async fn within_timeout<T>(
        &self,
        host: &Url,
        reading: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, RequestError> {
        let timeout = self.request.timeout;
        tokio::time::timeout(timeout, reading).await.map_err(|_| timed_out(self.of, host, timeout))?
    }
}

/// The headers of the spec that are sent for metadata, because a firewall may require a `User-Agent`. The document is
/// public, so no credential is sent: neither `headersFrom` nor a header in which an older spec may contain one. `Accept`
/// is for the token endpoint; a document is always JSON.
///
/// That the owner of the credentials pins a path does not matter here, as it does in a token request: whatever document
/// a gateway returns because of a header, the endpoint that it names must be pinned, and there the headers are checked
/// again.
fn sent_headers(headers: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("accept") && !is_reserved(name) && !carries_credential(name))
}

fn headers(of_spec: &BTreeMap<String, String>) -> Result<HeaderMap, RequestError> {
    let mut headers = HeaderMap::new();
    for (name, value) in sent_headers(of_spec) {
        let (name, value) = parse_header(name, value)?;
        headers.insert(name, value);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

/// A header of the spec.
pub(crate) fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), RequestError> {
    let invalid = |problem: &str| {
        let message = format!("the request could not be built: {problem}");
        RequestError::new(Reason::InvalidSpec, message).with_advice(Advice::CheckHeaders)
    };
    let name: HeaderName = name.parse().map_err(|_| invalid("a header name is not valid"))?;
    let value = value.parse().map_err(|_| invalid(&format!("the value of header {name} is not valid")))?;
    Ok((name, value))
}

/// Identifies the headers that are sent; `None` if there are none.
fn fingerprint(of_spec: &BTreeMap<String, String>) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut is_empty = true;
    for text in sent_headers(of_spec).flat_map(|(name, value)| [name, value]) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
        is_empty = false;
    }
    (!is_empty).then(|| hash.finalize().into())
}

/// Why a URL in metadata is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlProblem {
    #[error("has more than {MAX_URL} bytes")]
    TooLong,
    #[error("is not a URL")]
    Malformed,
    #[error("is not an https URL: nothing was sent there")]
    Insecure,
}

/// The URL of an endpoint or of an issuer that metadata names. It must have TLS, unless what names it has none either.
pub(crate) fn named_url(text: &str, allows_http: bool) -> Result<Url, UrlProblem> {
    if text.len() > MAX_URL {
        return Err(UrlProblem::TooLong);
    }
    let url = Url::parse(text).map_err(|_| UrlProblem::Malformed)?;
    let is_secure = url.scheme() == "https" || (url.scheme() == "http" && allows_http);
    if is_secure && url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(UrlProblem::Insecure) }
}

/// The metadata of `of` cannot be used.
pub(crate) fn invalid(of: UrlKind, message: &str) -> RequestError {
    RequestError::new(Reason::InvalidIssuerMetadata, message).with_advice(Advice::CheckUrl(of))
}

/// There is no metadata.
pub(crate) fn unavailable(of: UrlKind, status: u16) -> RequestError {
    let message = format!("{of} responded with {status} instead of its metadata");
    match status {
        408 | 429 | 500.. => RequestError::new(Reason::EndpointUnavailable, message).with_advice(Advice::CheckUrl(of)),
        _ => invalid(of, &message),
    }
}

fn timed_out(of: UrlKind, url: &Url, timeout: Duration) -> RequestError {
    let host = url.host_str().unwrap_or_default();
    let message = format!("{host} did not return the metadata of {of} within {timeout:?}");
    RequestError::new(Reason::RequestTimedOut, message).with_advice(Advice::CheckUrlOrTimeout(of))
}

/// A text of a document, for a message.
pub(crate) fn printable(text: &str) -> String {
    redact::redact(text, &[])
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn spec(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_plain_headers_are_sent_for_metadata() {
        let given = spec(&[
            ("User-Agent", "orders/1.0"),
            ("X-Tenant", "one"),
            ("Accept", "application/vnd.example+json"),
            ("X-Api-Key", "kanarie-key"),
            ("Authorization", "Bearer kanarie"),
            ("Host", "other.example.com"),
        ]);
        let sent = headers(&given).expect("headers");
        let mut names: Vec<_> = sent.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        names.sort_unstable();
        let expected: [(&str, &[u8]); 3] =
            [("accept", b"application/json"), ("user-agent", b"orders/1.0"), ("x-tenant", b"one")];
        assert_eq!(names, expected);
    }

    #[test]
    fn other_headers_are_another_key() {
        let key = |headers: &[(&str, &str)]| fingerprint(&spec(headers));
        assert_eq!(key(&[]), None);
        assert_eq!(key(&[("Accept", "text/html"), ("X-Api-Key", "a")]), None, "they are not sent");
        assert_eq!(key(&[("User-Agent", "a")]), key(&[("User-Agent", "a")]));
        assert_ne!(key(&[("User-Agent", "a")]), None);
        assert_ne!(key(&[("User-Agent", "a")]), key(&[("User-Agent", "b")]));
        assert_ne!(key(&[("X-A", "bX-C"), ("X-D", "")]), key(&[("X-A", "b"), ("X-CX-D", "")]));
    }
}
