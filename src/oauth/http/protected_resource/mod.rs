//! The metadata of a protected resource (RFC 9728), or of a FHIR server (SMART App Launch 2.2): read within bounds,
//! reduced to the fields that are used, and cached per namespace.
//!
//! The resource server chooses what it says here, and may be compromised. So `oauth::address` sends nothing to a server
//! that only this metadata names, unless the owners of the credentials allow it.

#[cfg(test)]
#[expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests;

pub mod lists;

use std::time::{Duration, Instant};

use serde::Deserialize;
use url::{Position, Url};

use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::auth_methods::AuthMethods;
use crate::oauth::http::cache::{Bounds, NamespacedCache};
use crate::oauth::http::documents;
use crate::oauth::http::documents::{MetadataKey, Reader, named_url, printable, unavailable};
use crate::oauth::http::protected_resource::lists::{DefaultScope, MAX_SERVERS, Servers};
use crate::oauth::request::ProtectedResource;

/// An entry usually has 300 bytes, and never more than about 10 KiB: a URL of the spec and two others, and the scope.
const BOUNDS: Bounds = Bounds { per_namespace: 32, total: 1_024, ttl: Duration::from_hours(1) };
/// RFC 9728, section 3: between the host and the path of the resource.
const OAUTH: &str = "/.well-known/oauth-protected-resource";
/// SMART App Launch 2.2, section 2.1: appended to the base URL of the FHIR server.
const SMART: &str = "/.well-known/smart-configuration";

/// A document, and the issuer of the spec, by which an authorization server was selected from it.
type ResourceKey = (MetadataKey, Option<String>);

/// The metadata of protected resources, by namespace. Clones share them.
#[derive(Clone, Debug)]
pub struct ResourceDiscovery {
    cache: NamespacedCache<ResourceKey, ResourceMetadata>,
}

/// The part of the metadata that is used.
#[derive(Clone, Debug)]
pub struct ResourceMetadata {
    /// The resource exactly as in the spec.
    resource: String,
    /// What it names.
    pub server: NamedServer,
}

/// The authorization server that metadata names.
#[derive(Clone, Debug)]
pub enum NamedServer {
    /// Its issuer, whose own metadata contains the endpoints (RFC 9728).
    Issuer {
        /// The issuer.
        url: Url,
        /// Exactly as in the document.
        name: String,
        /// The scope for a spec without one.
        scope: DefaultScope,
    },
    /// Its token endpoint (SMART).
    TokenEndpoint {
        /// The endpoint.
        url: Url,
        /// Exactly as in the document.
        name: String,
        /// The methods that it supports, if it lists them.
        methods: Option<AuthMethods>,
    },
}

/// RFC 9728, section 2.
#[derive(Deserialize)]
struct Document {
    resource: String,
    #[serde(default)]
    authorization_servers: Option<Servers>,
    #[serde(default)]
    scopes_supported: Option<DefaultScope>,
}

/// SMART App Launch 2.2, section 2.1.
#[derive(Deserialize)]
struct SmartDocument {
    token_endpoint: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<AuthMethods>,
}

impl Default for ResourceDiscovery {
    fn default() -> Self {
        Self { cache: NamespacedCache::new(BOUNDS) }
    }
}

impl ResourceDiscovery {
    /// The metadata of a resource that this namespace has read within the last hour.
    #[must_use]
    pub fn cached(
        &self,
        namespace: &str,
        key: &MetadataKey,
        resource: &ProtectedResource,
        issuer: Option<&str>,
    ) -> Option<ResourceMetadata> {
        let metadata = self.cache.get(namespace, &with_issuer(key, issuer), Instant::now());
        metadata.filter(|metadata| metadata.resource == resource.name)
    }

    /// Requests the metadata of a resource. `issuer` is the one of the spec, which the resource must name.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that says why the metadata is invalid, or why it could not be read.
    pub async fn request(
        &self,
        namespace: &str,
        key: &MetadataKey,
        reader: &Reader<'_>,
        resource: &ProtectedResource,
        issuer: Option<&str>,
    ) -> Result<ResourceMetadata, RequestError> {
        let metadata = reader.within_timeout(&resource.url, request(reader, resource, issuer)).await?;
        self.cache.insert(namespace, with_issuer(key, issuer), metadata.clone(), Instant::now());
        Ok(metadata)
    }

    /// Removes metadata whose server did not work, so that it is requested again the next time.
    pub fn forget(&self, namespace: &str, key: &MetadataKey, issuer: Option<&str>) {
        self.cache.remove(namespace, &with_issuer(key, issuer));
    }
}

fn with_issuer(key: &MetadataKey, issuer: Option<&str>) -> ResourceKey {
    (key.clone(), issuer.map(ToOwned::to_owned))
}

impl ResourceMetadata {
    /// Parses the metadata of RFC 9728. `issuer` is the one of the spec.
    ///
    /// # Errors
    ///
    /// When it is invalid, is that of another resource, or does not name exactly one authorization server to use.
    pub fn parse(resource: &ProtectedResource, issuer: Option<&str>, body: &[u8]) -> Result<Self, RequestError> {
        let document: Document = serde_json::from_slice(body)
            .map_err(|_| invalid("the metadata of the protected resource is not valid (RFC 9728, section 2)"))?;
        // RFC 9728, section 3.3: they must be identical, otherwise the metadata must not be used.
        if document.resource != resource.name {
            let (other, what) = (printable(&document.resource), difference(&document.resource, &resource.name));
            return Err(invalid(&format!("the resource in the metadata is {other}, which {what}")));
        }
        let servers = document.authorization_servers.unwrap_or_default();
        let name = selected(&servers, issuer)?;
        let named = named_url(name, resource.url.scheme() == "http").map_err(|problem| {
            invalid(&format!("the metadata of the protected resource names an authorization server that {problem}"))
        })?;
        // RFC 8414, section 2.
        if named.query().is_some() || named.fragment().is_some() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem =
                "names an authorization server that is not an issuer: its URL has a query, a fragment or spaces";
            return Err(invalid(&format!("the metadata of the protected resource {problem}")));
        }
        let scope = document.scopes_supported.unwrap_or(DefaultScope::None);
        let server = NamedServer::Issuer { url: named, name: name.to_owned(), scope };
        Ok(Self { resource: resource.name.clone(), server })
    }

    /// Parses a SMART configuration. `issuer` is the one of the spec.
    ///
    /// # Errors
    ///
    /// When it is invalid, or does not belong to the issuer.
    pub fn parse_smart(resource: &ProtectedResource, issuer: Option<&str>, body: &[u8]) -> Result<Self, RequestError> {
        let document: SmartDocument = serde_json::from_slice(body).map_err(|_| {
            invalid("the smart-configuration of the protected resource is not valid (SMART App Launch, section 2.1)")
        })?;
        let unusable = |problem: &str| invalid(&format!("the smart-configuration of the protected resource {problem}"));
        let name = document.token_endpoint.ok_or_else(|| unusable("does not contain token_endpoint"))?;
        let url = named_url(&name, resource.url.scheme() == "http")
            .map_err(|problem| unusable(&format!("contains a token_endpoint that {problem}")))?;
        if url.fragment().is_some() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("contains a token_endpoint with a fragment or spaces"));
        }
        if let Some(issuer) = issuer {
            check_issuer(issuer, document.issuer.as_deref(), &url)?;
        }
        let methods = document.token_endpoint_auth_methods_supported;
        let server = NamedServer::TokenEndpoint { url, name, methods };
        Ok(Self { resource: resource.name.clone(), server })
    }
}

/// The authorization server to use, of those that the resource lists.
fn selected<'a>(servers: &'a Servers, issuer: Option<&str>) -> Result<&'a str, RequestError> {
    if servers.count > MAX_SERVERS {
        let problem = format!("lists more than {MAX_SERVERS} authorization servers");
        return Err(invalid(&format!("the metadata of the protected resource {problem}")));
    }
    match (issuer, servers.issuers.as_slice()) {
        (_, []) => {
            let message = "the metadata of the protected resource names no authorization server";
            Err(RequestError { advice: vec![Advice::NameServer], ..invalid(message) })
        }
        (None, [server]) => Ok(server),
        (None, several) => {
            let (count, list) = (several.len(), servers.list());
            let message =
                format!("the metadata of the protected resource lists {count} authorization servers ({list})");
            Err(RequestError { advice: vec![Advice::SelectIssuer], ..invalid(&message) })
        }
        (Some(issuer), several) => {
            several.iter().find(|server| *server == issuer).map(String::as_str).ok_or_else(|| {
                let message =
                    format!("the metadata of the protected resource lists {} and not the issuer", servers.list());
                documents::invalid(UrlKind::Issuer, &message)
            })
        }
    }
}

/// Whether a SMART configuration belongs to the issuer of the spec. The FHIR server can write any issuer into it, so
/// the token endpoint must also have the origin of the issuer: the author of the spec trusts that, and not the FHIR
/// server, to name where credentials are sent.
fn check_issuer(issuer: &str, named: Option<&str>, endpoint: &Url) -> Result<(), RequestError> {
    if named != Some(issuer) {
        let what = named.map_or_else(
            || "names no issuer".to_owned(),
            |other| format!("names the issuer {}, which does not match", printable(other)),
        );
        let message = format!("the smart-configuration of the protected resource {what}");
        return Err(documents::invalid(UrlKind::Issuer, &message));
    }
    let origin = Url::parse(issuer).map(|url| url.origin()).ok();
    if origin.as_ref() != Some(&endpoint.origin()) {
        let endpoint = printable(endpoint.as_str());
        let message = format!(
            "the smart-configuration of the protected resource names the token endpoint {endpoint}, which does not have the origin of the issuer"
        );
        return Err(RequestError { advice: vec![Advice::NameTokenEndpoint], ..invalid(&message) });
    }
    Ok(())
}

/// How the resource of a document differs from the configured one.
fn difference(other: &str, configured: &str) -> &'static str {
    if other.strip_suffix('/') == Some(configured) {
        return "ends with a slash that the configured one does not have";
    }
    if configured.strip_suffix('/') == Some(other) {
        return "lacks the slash at the end of the configured one";
    }
    let (Ok(other), Ok(configured)) = (Url::parse(other), Url::parse(configured)) else {
        return "is not a URL";
    };
    if other.scheme() != configured.scheme() {
        "has another scheme"
    } else if other.host() != configured.host() {
        "has another host"
    } else if other.port_or_known_default() != configured.port_or_known_default() {
        "has another port"
    } else if other.path() != configured.path() {
        "has another path"
    } else if other.query() != configured.query() {
        "has another query"
    } else {
        "is not the same character by character"
    }
}

/// The URL of the metadata. RFC 9728, section 3.1: a slash right after the host is removed, any other belongs to the
/// path.
fn metadata_url(resource: &Url) -> String {
    let path = if resource.path() == "/" { "" } else { resource.path() };
    let query = resource.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{OAUTH}{path}{query}", &resource[..Position::BeforePath])
}

/// The URL of the SMART configuration. The base URL of a FHIR server has no query.
fn smart_url(resource: &Url) -> Option<String> {
    resource.query().is_none().then(|| format!("{}{SMART}", resource[..Position::AfterPath].trim_end_matches('/')))
}

async fn request(
    reader: &Reader<'_>,
    resource: &ProtectedResource,
    issuer: Option<&str>,
) -> Result<ResourceMetadata, RequestError> {
    let url = &resource.url;
    let status = match reader.read(url, &metadata_url(url)).await? {
        Ok(body) => return ResourceMetadata::parse(resource, issuer, &body),
        Err(status) => status,
    };
    // A server that is only overloaded may have metadata.
    let has_none = matches!(status, 400..500) && !matches!(status, 408 | 429);
    if let Some(smart) = smart_url(url).filter(|_| has_none) {
        match reader.read(url, &smart).await? {
            Ok(body) => return ResourceMetadata::parse_smart(resource, issuer, &body),
            Err(other @ (408 | 429 | 500..)) => return Err(unavailable(UrlKind::ProtectedResource, other)),
            Err(_) => {}
        }
    }
    Err(unavailable(UrlKind::ProtectedResource, status))
}

fn invalid(message: &str) -> RequestError {
    documents::invalid(UrlKind::ProtectedResource, message)
}
