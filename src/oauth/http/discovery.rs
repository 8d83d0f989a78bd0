//! Issuer metadata (OpenID Connect Discovery 1.0, RFC 8414): read within bounds, reduced to the fields that are used,
//! and cached per namespace.

use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use crate::api::reason::Reason;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::auth_methods::AuthMethods;
use crate::oauth::http::cache::{Bounds, NamespacedCache};
use crate::oauth::http::documents;
use crate::oauth::http::documents::{MAX_URL, MetadataKey, Reader, UrlProblem, named_url, printable, unavailable};
use crate::oauth::request::TokenRequest;

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

    /// Requests the metadata of an issuer.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that says why the metadata is invalid, or why it could not be read.
    pub async fn request(
        &self,
        namespace: &str,
        key: &MetadataKey,
        reader: &Reader<'_>,
        name: &str,
    ) -> Result<Metadata, RequestError> {
        let metadata = reader.within_timeout(&key.url, request(reader, &key.url, name)).await?;
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
        if let Some(methods) = &self.token_endpoint_auth_methods_supported {
            methods.check(request.client.method, UrlKind::Issuer)?;
        }
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

    fn endpoint(&self, name: &str, kind: UrlKind, text: Option<&String>) -> Result<Url, RequestError> {
        let unusable = |problem: &str| {
            let message = format!("the metadata of the issuer {problem}");
            RequestError::new(Reason::InvalidIssuerMetadata, message).with_advice(Advice::SetUrl(kind))
        };
        let text = text.ok_or_else(|| unusable(&format!("does not contain {name}")))?;
        named_url(text, self.issuer.starts_with("http:")).map_err(|problem| match problem {
            UrlProblem::Insecure => invalid(&format!("the metadata of the issuer contains a {name} that {problem}")),
            UrlProblem::TooLong | UrlProblem::Malformed => unusable(&format!("contains a {name} that {problem}")),
        })
    }
}

/// The two URLs of the metadata; that of OpenID Connect is first, because nearly all servers have it.
fn metadata_urls(issuer: &Url) -> [String; 2] {
    let text = issuer.as_str().trim_end_matches('/');
    let path = issuer.path().trim_end_matches('/');
    let host = &issuer[..url::Position::BeforePath];
    [format!("{text}{OPENID}"), format!("{host}{OAUTH}{path}")]
}

async fn request(reader: &Reader<'_>, issuer: &Url, name: &str) -> Result<Metadata, RequestError> {
    let [openid, oauth] = metadata_urls(issuer);
    match reader.read(issuer, &openid).await? {
        Ok(body) => Metadata::parse(name, &body),
        Err(400..500) => match reader.read(issuer, &oauth).await? {
            Ok(body) => Metadata::parse(name, &body),
            Err(status) => Err(unavailable(UrlKind::Issuer, status)),
        },
        Err(status) => Err(unavailable(UrlKind::Issuer, status)),
    }
}

fn invalid(message: &str) -> RequestError {
    documents::invalid(UrlKind::Issuer, message)
}
