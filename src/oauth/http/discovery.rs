//! Issuer metadata (OpenID Connect Discovery 1.0, RFC 8414): read within bounds, reduced to the fields that are used,
//! and cached per namespace.

use std::fmt;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::{Method as HttpMethod, StatusCode};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::Url;
use zeroize::Zeroizing;

use crate::api::client_authentication::ClientAuthenticationMethod as Method;
use crate::api::reason::Reason;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::cache::{Bounds, NamespacedCache};
use crate::oauth::http::connections::Connection;
use crate::oauth::http::decode::DecodeError;
use crate::oauth::http::errors;
use crate::oauth::redaction::redact;
use crate::oauth::request::TokenRequest;

/// The maximum size of a document, in bytes. Those of large providers have up to 10 KiB.
const MAX_DOCUMENT: usize = 64 << 10;
/// The maximum length of a URL, in bytes, as in the spec.
const MAX_URL: usize = 2_048;
/// Metadata is cached for an hour. An entry usually has 300 bytes, and never more than about 8 KiB.
const BOUNDS: Bounds = Bounds { per_namespace: 32, total: 1_024, ttl: Duration::from_hours(1) };
/// OpenID Connect Discovery 1.0, section 4: appended to the issuer.
const OPENID: &str = "/.well-known/openid-configuration";
/// RFC 8414, section 3: between the host and the path of the issuer.
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// The part of an issuer's metadata that is used (RFC 8414, section 2; RFC 8705, section 5).
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    issuer: String,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<AuthMethods>,
    #[serde(default)]
    mtls_endpoint_aliases: Option<Aliases>,
}

/// The endpoints for clients that authenticate with a certificate (RFC 8705, section 5).
#[derive(Clone, Debug, Default, Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

/// The client authentication methods that the issuer supports, as far as they are known here.
#[derive(Clone, Debug, Default)]
struct AuthMethods(Vec<&'static str>);

/// OpenID Connect Core 1.0, section 9; RFC 8705, section 2.
const KNOWN_METHODS: [&str; 7] = [
    "client_secret_post",
    "client_secret_basic",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "none",
];

impl<'de> Deserialize<'de> for AuthMethods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = AuthMethods;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of client authentication methods")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AuthMethods, A::Error> {
                let mut methods = AuthMethods::default();
                while let Some(name) = list.next_element::<std::borrow::Cow<'de, str>>()? {
                    let known = KNOWN_METHODS.into_iter().find(|known| *known == name);
                    methods.0.extend(known.filter(|known| !methods.0.contains(known)));
                }
                Ok(methods)
            }

            fn visit_unit<E>(self) -> Result<AuthMethods, E> {
                Ok(AuthMethods::default())
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// The settings of the connection, and the issuer: with a tenant's own proxy or CA, the same URL may lead to another
/// server.
pub type MetadataKey = (Option<[u8; 32]>, Url);

/// The metadata of issuers, by namespace. Clones share them.
#[derive(Clone, Debug)]
pub struct Discovery {
    cache: NamespacedCache<MetadataKey, Metadata>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { cache: NamespacedCache::new(BOUNDS) }
    }
}

impl Discovery {
    /// The metadata of an issuer that this namespace has read within the last hour. `name` is the issuer exactly as
    /// in the spec.
    #[must_use]
    pub fn cached(&self, namespace: &str, key: &MetadataKey, name: &str) -> Option<Metadata> {
        self.cache.get(namespace, key, Instant::now()).filter(|metadata| metadata.issuer == name)
    }

    /// Requests the metadata of an issuer. `connection` must not present a client certificate: whether it may be sent
    /// to the endpoint is known only after discovery.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that says why the metadata is invalid, or why it could not be read.
    pub async fn request(
        &self,
        namespace: &str,
        key: &MetadataKey,
        connection: &Connection,
        name: &str,
        timeout: Duration,
    ) -> Result<Metadata, RequestError> {
        let (_, issuer) = key;
        let request = request(connection, issuer, name);
        let metadata = tokio::time::timeout(timeout, request).await.map_err(|_| timed_out(issuer, timeout))??;
        self.cache.insert(namespace, key.clone(), metadata.clone(), Instant::now());
        Ok(metadata)
    }

    /// Removes metadata whose endpoint did not work, so that it is requested again the next time.
    pub fn forget(&self, namespace: &str, key: &MetadataKey) {
        self.cache.remove(namespace, key);
    }
}

impl Metadata {
    /// Parses the metadata from `issuer`.
    ///
    /// # Errors
    ///
    /// When the metadata is invalid, or names another issuer.
    pub fn parse(issuer: &str, body: &[u8]) -> Result<Self, RequestError> {
        let metadata: Self = serde_json::from_slice(body)
            .map_err(|_| invalid("the issuer metadata is not valid (RFC 8414, section 2)"))?;
        if metadata.issuer == issuer {
            metadata.check_lengths()?;
            Ok(metadata)
        } else {
            // RFC 8414, section 3.3: the issuers must be identical, otherwise the metadata must not be used.
            let other = printable(&metadata.issuer);
            Err(invalid(&format!("the issuer in the metadata is {other}, which does not match")))
        }
    }

    fn check_lengths(&self) -> Result<(), RequestError> {
        let aliases = self
            .mtls_endpoint_aliases
            .iter()
            .flat_map(|aliases| [&aliases.token_endpoint, &aliases.revocation_endpoint]);
        let urls = [&self.token_endpoint, &self.revocation_endpoint].into_iter().chain(aliases).flatten();
        if urls.into_iter().any(|url| url.len() > MAX_URL) {
            let problem = format!("the metadata of the issuer contains a URL of more than {MAX_URL} bytes");
            return Err(invalid(&problem));
        }
        Ok(())
    }

    /// The token endpoint for a request.
    ///
    /// # Errors
    ///
    /// When the issuer has none, or does not support the client authentication method.
    pub fn token_endpoint(&self, request: &TokenRequest) -> Result<Url, RequestError> {
        self.check_method(request.client.method)?;
        let alias = self.aliases(request).and_then(|aliases| aliases.token_endpoint.as_ref());
        self.endpoint("token_endpoint", request.endpoint.kind(), alias.or(self.token_endpoint.as_ref()))
    }

    /// The revocation endpoint.
    ///
    /// # Errors
    ///
    /// When the issuer has none.
    pub fn revocation_endpoint(&self, request: &TokenRequest) -> Result<Url, RequestError> {
        let alias = self.aliases(request).and_then(|aliases| aliases.revocation_endpoint.as_ref());
        self.endpoint("revocation_endpoint", UrlKind::RevocationEndpoint, alias.or(self.revocation_endpoint.as_ref()))
    }

    fn aliases(&self, request: &TokenRequest) -> Option<&Aliases> {
        self.mtls_endpoint_aliases.as_ref().filter(|_| request.presents_certificate())
    }

    /// A server that lists no methods may support all; a list is assumed to be complete.
    fn check_method(&self, method: Method) -> Result<(), RequestError> {
        let wanted = match method {
            // To the server, the token is an assertion signed by another issuer.
            Method::ServiceAccountToken => "private_key_jwt",
            method => method.as_str(),
        };
        match self.token_endpoint_auth_methods_supported.as_ref().map(|methods| &methods.0) {
            // A self-signed certificate is sent in the same way (RFC 8705, section 2.2).
            Some(offered) if method == Method::TlsClientAuth && offered.contains(&"self_signed_tls_client_auth") => {
                Ok(())
            }
            Some(offered) if method != Method::None && !offered.contains(&wanted) => Err(RequestError::new(
                Reason::InvalidSpec,
                format!("the issuer offers {} and not {wanted}", printable(&offered.join(", "))),
            )
            .with_advice(Advice::ChangeAuthenticationMethod)),
            _ => Ok(()),
        }
    }

    fn endpoint(&self, name: &str, kind: UrlKind, text: Option<&String>) -> Result<Url, RequestError> {
        let unusable = |problem: &str| {
            let message = format!("the metadata of the issuer {problem}");
            RequestError::new(Reason::InvalidIssuerMetadata, message).with_advice(Advice::SetUrl(kind))
        };
        let text = text.ok_or_else(|| unusable(&format!("does not contain {name}")))?;
        let url = Url::parse(text).map_err(|_| unusable(&format!("contains a {name} that is not a URL")))?;
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && self.issuer.starts_with("http:"));
        if is_secure && url.username().is_empty() && url.password().is_none() {
            Ok(url)
        } else {
            let problem = format!("contains a {name} that is not an https URL: nothing was sent there");
            Err(invalid(&format!("the metadata of the issuer {problem}")))
        }
    }
}

/// The two URLs of the metadata; that of OpenID Connect is first, because nearly all servers have it.
fn metadata_urls(issuer: &Url) -> [String; 2] {
    let text = issuer.as_str().trim_end_matches('/');
    let path = issuer.path().trim_end_matches('/');
    let host = &issuer[..url::Position::BeforePath];
    [format!("{text}{OPENID}"), format!("{host}{OAUTH}{path}")]
}

async fn request(connection: &Connection, issuer: &Url, name: &str) -> Result<Metadata, RequestError> {
    let [openid, oauth] = metadata_urls(issuer);
    match read(connection, issuer, &openid).await? {
        Ok(body) => Metadata::parse(name, &body),
        Err(400..500) => match read(connection, issuer, &oauth).await? {
            Ok(body) => Metadata::parse(name, &body),
            Err(status) => Err(unavailable(status)),
        },
        Err(status) => Err(unavailable(status)),
    }
}

/// The body, or the status if it is not 200.
async fn read(
    connection: &Connection,
    issuer: &Url,
    url_text: &str,
) -> Result<Result<Zeroizing<Vec<u8>>, u16>, RequestError> {
    let url = Url::parse(url_text).map_err(|_| invalid("the metadata of the issuer has no URL"))?;
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let is_ok = |status| status == StatusCode::OK;
    let response = connection.send(HttpMethod::GET, &url, headers, String::new(), MAX_DOCUMENT, is_ok).await;
    let response = response.map_err(|error| errors::no_response(&error, issuer, UrlKind::Issuer, &[]))?;
    if !is_ok(response.status) {
        return Ok(Err(response.status.as_u16()));
    }
    match response.error {
        None => Ok(Ok(response.body)),
        Some(DecodeError::TooLarge) => Err(invalid("the metadata of the issuer is larger than 64 KiB")),
        Some(error) => Err(invalid(&format!("the metadata of the issuer {error}"))),
    }
}

fn invalid(message: &str) -> RequestError {
    RequestError::new(Reason::InvalidIssuerMetadata, message).with_advice(Advice::CheckUrl(UrlKind::Issuer))
}

fn unavailable(status: u16) -> RequestError {
    let message = format!("the issuer responded with {status} instead of its metadata");
    match status {
        408 | 429 | 500.. => {
            RequestError::new(Reason::EndpointUnavailable, message).with_advice(Advice::CheckUrl(UrlKind::Issuer))
        }
        _ => invalid(&message),
    }
}

fn timed_out(issuer: &Url, timeout: Duration) -> RequestError {
    let host = issuer.host_str().unwrap_or_default();
    RequestError::new(
        Reason::RequestTimedOut,
        format!("{host} did not return the issuer's metadata within {timeout:?}"),
    )
    .with_advice(Advice::CheckUrlOrTimeout(UrlKind::Issuer))
}

fn printable(text: &str) -> String {
    redact::redact(text, &[])
}
