//! The binding of a stored token: everything that determines where it would be sent. Pure.
//!
//! A user who may write an integration is not necessarily allowed to read its target. A token stored there is
//! therefore sent (for a refresh or a revocation) only to the server that issued it, unless the owner of the
//! credentials allows another endpoint (`allowed-endpoints`).

#![deny(clippy::disallowed_methods)]

use serde_json::json;
use url::Url;

use crate::api::provider::ProviderKind;
use crate::api::spec::OAuthIntegrationSpec;
use crate::fingerprint;
use crate::spec::provider::Origin;

/// Fingerprint of the destination of stored tokens, and of the connection to it.
///
/// It includes the origins of the endpoints (scheme, host and port), so that a server may change its paths; the whole
/// issuer and the whole protected resource, since their metadata names the endpoints; the proxy and the reference to the CA bundle; and the
/// ServiceAccount. It excludes:
/// - the revocation endpoint, which must have the same origin, see [`foreign_revocation`];
/// - the endpoint of `renewal.fallback`, to which no stored token is sent;
/// - the credentials, whose name and values are compared separately.
///
/// With a cluster-scoped provider, its name takes the place of the connection and the ServiceAccount.
pub(crate) fn binding(spec: &OAuthIntegrationSpec, provider: Option<&Origin>) -> String {
    let connection = spec.shared.connection.as_ref();
    let refresh = spec.shared.renewal.refresh.as_ref().and_then(|refresh| refresh.token_endpoint.as_deref());
    let mut parts = json!({
        "tokenEndpoint": spec.shared.token_endpoint.as_deref().map(origin),
        "issuer": spec.shared.issuer,
        "refreshEndpoint": refresh.map(origin),
        "proxy": connection.and_then(|connection| connection.proxy.as_ref()),
        "caBundle": connection.and_then(|connection| connection.ca_bundle.as_ref()),
        "serviceAccount": spec.shared.service_account_token.as_ref().map(|token| &token.service_account_name),
    });
    // Only if it is set, so that the bindings of existing tokens stay the same.
    if let Some(resource) = &spec.shared.protected_resource {
        parts["protectedResource"] = json!(resource);
    }
    // Its administrator chooses the connection for all integrations. A change of it must not withhold their tokens.
    if let Some(provider) = provider.filter(|provider| provider.reference.kind == ProviderKind::Cluster) {
        for name in ["proxy", "caBundle", "serviceAccount"] {
            parts[name] = json!(null);
        }
        parts["provider"] = json!(provider.reference.name);
    }
    fingerprint::unsalted(&parts)
}

/// The origin of the revocation endpoint, if it is neither that of the token endpoint nor that of the issuer. Only
/// the owner of the credentials can allow it: otherwise anyone who may write the integration could have its valid
/// tokens sent to their own server.
pub(crate) fn foreign_revocation(spec: &OAuthIntegrationSpec) -> Option<String> {
    let revocation = origin(spec.shared.revocation.as_ref()?.endpoint.as_deref()?);
    let known = [&spec.shared.token_endpoint, &spec.shared.issuer];
    let is_known = known.into_iter().flatten().any(|endpoint| origin(endpoint) == revocation);
    (!is_known).then_some(revocation)
}

fn origin(text: &str) -> String {
    Url::parse(text).map_or_else(|_| text.to_owned(), |url| url.origin().ascii_serialization())
}
