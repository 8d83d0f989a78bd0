//! Tenant-specific connection settings, by reference.

#![deny(clippy::disallowed_methods)]

use serde_json::json;

use crate::api::client_authentication::ClientAuthenticationMethod;
use crate::api::spec::OAuthIntegrationSpec;
use crate::fingerprint;

/// Hash of the connection settings that a tenant provides: CA bundle, proxy, and client certificate, by the names of
/// the objects that contain them. `None`: the operator's settings are used.
pub(crate) fn fingerprint(spec: &OAuthIntegrationSpec) -> Option<String> {
    let connection = spec.shared.connection.as_ref();
    let ca_bundle = connection.and_then(|connection| connection.ca_bundle.as_ref());
    let proxy = connection.and_then(|connection| connection.proxy.as_ref());
    let method = spec.shared.client_authentication.as_ref().map(|client| client.method);
    let is_presented = method == Some(ClientAuthenticationMethod::TlsClientAuth)
        || connection.is_some_and(|connection| connection.client_certificate);
    let client_certificate =
        spec.shared.credentials.as_ref().filter(|_| is_presented).map(|credentials| {
            (&credentials.secret_name, &credentials.keys.tls_certificate, &credentials.keys.tls_key)
        });
    let is_special = ca_bundle.is_some() || proxy.is_some() || client_certificate.is_some();
    is_special.then(|| fingerprint::unsalted(&json!([ca_bundle, proxy, client_certificate])))
}
