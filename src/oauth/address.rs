//! Finds the endpoint of a request: the one in the spec, or the one that metadata names.
//!
//! ```text
//!   tokenEndpoint      ──► the endpoint
//!   issuer             ──► its metadata ──► the endpoint
//!   protectedResource  ──► its metadata ──► an issuer ──► its metadata ──► the endpoint
//!                                      └──► (SMART) the endpoint
//! ```
//!
//! Every URL that is read must be allowed by the egress policy. Whether credentials may be sent to the endpoint is
//! decided afterwards, as if the spec contained it; and, if only a protected resource names the server, also here.

use url::Url;

use crate::api::reason::Reason;
use crate::oauth::credentials::Credentials;
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::http::authorization::{Destination, Restrictions};
use crate::oauth::http::connections::{HttpClients, Settings};
use crate::oauth::http::discovery::{Discovery, Metadata};
use crate::oauth::http::documents::{MetadataKey, Reader, printable};
use crate::oauth::http::egress::EgressPolicy;
use crate::oauth::http::errors::denied;
use crate::oauth::http::protected_resource::lists::DefaultScope;
use crate::oauth::http::protected_resource::{NamedServer, ResourceDiscovery, ResourceMetadata};
use crate::oauth::parameters::RequestKind;
use crate::oauth::request::{ProtectedResource, TokenRequest};

/// The body parameter for the resource (RFC 8707, section 2).
const RESOURCE: &str = "resource";

/// How much of the issuer that a resource names precedes another message, in characters.
const MAX_SHOWN: usize = 200;

/// The metadata that was read. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MetadataCaches {
    issuers: Discovery,
    resources: ResourceDiscovery,
}

/// The metadata that names an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Source {
    issuer: Option<MetadataKey>,
    /// With the issuer of the spec.
    resource: Option<(MetadataKey, Option<String>)>,
}

impl MetadataCaches {
    /// Removes metadata whose endpoint did not work, so that the next request reads it again.
    pub(crate) fn forget(&self, namespace: &str, source: &Source) {
        if let Some(key) = &source.issuer {
            self.issuers.forget(namespace, key);
        }
        if let Some((key, issuer)) = &source.resource {
            self.resources.forget(namespace, key, issuer.as_deref());
        }
    }
}

/// Where a request is sent.
#[derive(Debug)]
pub(crate) struct Address {
    /// The endpoint.
    pub(crate) url: Url,
    /// The request with the defaults of the protected resource, if there is one.
    pub(crate) request: Option<Box<TokenRequest>>,
    /// The metadata that names the endpoint.
    pub(crate) source: Box<Source>,
}

/// Finds the endpoint of one request.
pub(crate) struct Finder<'a> {
    pub(crate) http: &'a HttpClients,
    pub(crate) metadata: &'a MetadataCaches,
    pub(crate) egress: &'a EgressPolicy,
    pub(crate) request: &'a TokenRequest,
    pub(crate) credentials: &'a Credentials,
}

impl Finder<'_> {
    /// The endpoint.
    pub(crate) async fn find(&self, kind: &RequestKind<'_>) -> Result<Address, RequestError> {
        let given = match kind {
            RequestKind::Token => &self.request.endpoint.url,
            RequestKind::Revocation(revocation) => &revocation.endpoint,
        };
        if let Some(url) = given {
            return Ok(Address { url: url.clone(), request: None, source: Box::default() });
        }
        let endpoint = &self.request.endpoint;
        // A stored token is revoked only at an endpoint that the issuer of the spec names.
        let resource = endpoint.resource.as_ref().filter(|_| matches!(kind, RequestKind::Token));
        if let Some(resource) = resource {
            return self.by_resource(resource).await;
        }
        let Some(issuer) = &endpoint.issuer else {
            let error = RequestError::new(Reason::InvalidSpec, "neither an endpoint nor an issuer is set");
            return Err(error.with_advice(Advice::SetTokenEndpointOrIssuer));
        };
        let (metadata, key) = self.issuer_metadata(issuer, &endpoint.audience).await?;
        let url = match kind {
            RequestKind::Token => metadata.token_endpoint(self.request)?,
            RequestKind::Revocation(_) => metadata.revocation_endpoint(self.request)?,
        };
        Ok(Address { url, request: None, source: Box::new(Source { issuer: Some(key), resource: None }) })
    }

    async fn by_resource(&self, resource: &ProtectedResource) -> Result<Address, RequestError> {
        let is_confirmed = self.request.endpoint.issuer.is_some();
        let issuer = is_confirmed.then_some(self.request.endpoint.audience.as_str());
        let (ResourceMetadata { server, .. }, key) = self.resource_metadata(resource, issuer).await?;
        let namespace = self.credentials.cache_owner.as_str();
        let mut source = Source { issuer: None, resource: Some((key, issuer.map(ToOwned::to_owned))) };
        let (url, request) = match server {
            NamedServer::Issuer { url, name, scope } => {
                self.confirm(is_confirmed, &name, false)?;
                let found = self.by_named_issuer(&url, &name).await;
                let (endpoint, key) = found.map_err(|error| {
                    // The resource may name another issuer by now.
                    self.metadata.forget(namespace, &source);
                    if is_confirmed { error } else { named_by_resource(error, &name) }
                })?;
                source.issuer = Some(key);
                (endpoint, self.with_defaults(resource, name, scope)?)
            }
            NamedServer::TokenEndpoint { url, name, methods } => {
                self.confirm(is_confirmed, &name, true)?;
                if let Some(methods) = methods {
                    methods.check(self.request.client.method, UrlKind::ProtectedResource)?;
                }
                (url, self.for_smart(name)?)
            }
        };
        Ok(Address { url, request: Some(Box::new(request)), source: Box::new(source) })
    }

    /// With an issuer, the author of the spec says whom to trust.
    fn confirm(&self, is_confirmed: bool, server: &str, is_endpoint: bool) -> Result<(), RequestError> {
        if is_confirmed {
            return Ok(());
        }
        let authorized = Restrictions::of(self.credentials).authorize_unconfirmed(&printable(server), is_endpoint);
        authorized.map_err(|why| denied(self.request.endpoint.kind(), &why))
    }

    async fn by_named_issuer(&self, issuer: &Url, name: &str) -> Result<(Url, MetadataKey), RequestError> {
        let (metadata, key) = self.issuer_metadata(issuer, name).await?;
        Ok((metadata.token_endpoint(self.request)?, key))
    }

    /// The request with the defaults that RFC 9728 provides.
    fn with_defaults(
        &self,
        resource: &ProtectedResource,
        issuer: String,
        scope: DefaultScope,
    ) -> Result<TokenRequest, RequestError> {
        let mut request = self.request.clone();
        request.endpoint.audience = issuer;
        request.resource.get_or_insert_with(|| (RESOURCE.to_owned(), vec![resource.name.clone()]));
        request.scope = match (request.scope, scope) {
            (Some(scope), _) | (None, DefaultScope::Known(scope)) => Some(scope),
            (None, DefaultScope::None) => None,
            (None, DefaultScope::Unusable) => {
                let message = "scopes_supported in the metadata of the protected resource is too long or contains a name that is not valid";
                return Err(RequestError::new(Reason::InvalidIssuerMetadata, message).with_advice(Advice::SetScope));
            }
        };
        Ok(request)
    }

    /// SMART Backend Services: the audience is the token endpoint. The scopes that the server lists include those of
    /// users, so the spec must name some. A refresh keeps the scope of the token.
    fn for_smart(&self, endpoint: String) -> Result<TokenRequest, RequestError> {
        let mut request = self.request.clone();
        if request.scope.is_none() && !request.grant.is_refresh() {
            let message = "the protected resource has a smart-configuration, which has no default scope";
            return Err(RequestError::new(Reason::InvalidSpec, message).with_advice(Advice::SetScope));
        }
        request.endpoint.audience = endpoint;
        Ok(request)
    }

    async fn issuer_metadata(&self, issuer: &Url, name: &str) -> Result<(Metadata, MetadataKey), RequestError> {
        self.authorize(issuer, UrlKind::Issuer)?;
        let namespace = self.credentials.cache_owner.as_str();
        let settings = Settings::anonymous(self.request, self.credentials);
        let key = MetadataKey::new(issuer, &settings, self.request);
        if let Some(metadata) = self.metadata.issuers.cached(namespace, &key, name) {
            return Ok((metadata, key));
        }
        let connection = self.http.connection(&settings, namespace).await?;
        let reader = Reader { connection: &connection, request: self.request, of: UrlKind::Issuer };
        let metadata = self.metadata.issuers.request(namespace, &key, &reader, name).await?;
        Ok((metadata, key))
    }

    async fn resource_metadata(
        &self,
        resource: &ProtectedResource,
        issuer: Option<&str>,
    ) -> Result<(ResourceMetadata, MetadataKey), RequestError> {
        self.authorize(&resource.url, UrlKind::ProtectedResource)?;
        let namespace = self.credentials.cache_owner.as_str();
        let settings = Settings::anonymous(self.request, self.credentials);
        let key = MetadataKey::new(&resource.url, &settings, self.request);
        if let Some(metadata) = self.metadata.resources.cached(namespace, &key, resource, issuer) {
            return Ok((metadata, key));
        }
        let connection = self.http.connection(&settings, namespace).await?;
        let reader = Reader { connection: &connection, request: self.request, of: UrlKind::ProtectedResource };
        let metadata = self.metadata.resources.request(namespace, &key, &reader, resource, issuer).await?;
        Ok((metadata, key))
    }

    fn authorize(&self, url: &Url, kind: UrlKind) -> Result<(), RequestError> {
        let to = Destination::new(url, self.request, self.credentials);
        let authorized = self.egress.authorize_discovery(&to, &Restrictions::of(self.credentials));
        authorized.map_err(|why| denied(kind, &why))
    }
}

/// The spec does not contain the issuer: what can be changed there is the protected resource.
fn named_by_resource(error: RequestError, issuer: &str) -> RequestError {
    let advice = error.advice.into_iter().map(|advice| match advice {
        Advice::CheckUrl(UrlKind::Issuer) => Advice::CheckUrl(UrlKind::ProtectedResource),
        Advice::CheckUrlOrTimeout(UrlKind::Issuer) => Advice::CheckUrlOrTimeout(UrlKind::ProtectedResource),
        other => other,
    });
    let issuer: String = printable(issuer).chars().take(MAX_SHOWN).collect();
    let message = format!("the protected resource names the issuer {issuer}: {}", error.message);
    RequestError { message, advice: advice.collect(), ..error }
}
