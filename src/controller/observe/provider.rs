//! The spec of an integration, with the fields of its provider. From the caches.

use kube::ResourceExt;

use crate::api::provider::{ProviderKind, ProviderRef};
use crate::api::spec::OAuthIntegration;
use crate::controller::context::Context;
use crate::controller::providers::store::ProviderKey;
use crate::spec::validated::{ProviderUse, ValidatedSpec};

/// Why there is no spec; the message says what to change.
pub(crate) enum Unresolved {
    /// There is no provider.
    ProviderNotFound(String),
    /// Its spec, or that of its provider, is invalid.
    Invalid(String),
}

/// Parses the spec of an integration.
pub(crate) fn parse(context: &Context, integration: &OAuthIntegration) -> Result<ValidatedSpec, Unresolved> {
    let (name, namespace) = (integration.name_any(), integration.namespace().unwrap_or_default());
    let Some(reference) = &integration.spec.provider_ref else {
        return ValidatedSpec::parse(&name, &integration.spec).map_err(Unresolved::Invalid);
    };
    let Some(watched) = context.providers.get(&ProviderKey::of(reference, &namespace)) else {
        return Err(Unresolved::ProviderNotFound(not_found(context, reference)));
    };
    let provider = watched.provider.map_err(|message| Unresolved::Invalid(format!("{reference}: {message}")))?;
    let labels = context.providers.labels(&namespace);
    let with = ProviderUse { provider: &provider, namespace: &namespace, labels: labels.as_ref() };
    ValidatedSpec::parse_with(&name, &integration.spec, with).map_err(Unresolved::Invalid)
}

fn not_found(context: &Context, reference: &ProviderRef) -> String {
    if let Some(why) = context.providers.unavailable(reference.kind) {
        return format!("{reference} is not known, because {why}: have an administrator install or allow it");
    }
    match reference.kind {
        ProviderKind::Namespaced => format!(
            "{reference} does not exist in this namespace: create it, or name another one in spec.providerRef (kind: ClusterOAuthProvider for one of the cluster)"
        ),
        ProviderKind::Cluster if context.provider_namespace.is_none() => format!(
            "{reference} is not used, because cluster-scoped providers are off: have an administrator set clusterProviders.enabled=true (--cluster-providers)"
        ),
        ProviderKind::Cluster => format!(
            "{reference} does not exist: name another one in spec.providerRef, or have its administrator create it"
        ),
    }
}
