//! Watches what providers name besides Secrets: ConfigMaps with CA bundles, and ServiceAccounts. Only metadata is watched, and
//! nothing is kept.
//!
//! A watch starts when the first provider names such an object, because most installations have none. A provider is checked
//! when one of its objects changes; what the check finds determines which integrations are reconciled.

use std::fmt::Debug;
use std::future;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::api::connection::CaBundleKind;
use crate::api::provider::ProviderKind;
use crate::controller::cache::references;
use crate::controller::cache::references::NamedKind;
use crate::controller::context::Context;
use crate::controller::providers::store::ProviderKey;
use crate::controller::watches::restart::{api, with_backoff};
use crate::kube_api::errors;
use crate::spec::provider::Provider;

/// The object of a kind that a provider names.
pub(crate) fn named_by(provider: &Provider, kind: NamedKind) -> Option<&str> {
    match kind {
        NamedKind::ConfigMap => {
            let bundle = provider.spec.connection.as_ref()?.ca_bundle.as_ref()?;
            (bundle.kind == CaBundleKind::ConfigMap).then_some(bundle.name.as_str())
        }
        NamedKind::ServiceAccount => {
            let token = provider.spec.service_account_token.as_ref()?;
            Some(token.service_account_name.as_str())
        }
    }
}

/// Watches what the providers of a kind name in a namespace (`None`: in all namespaces). Never completes.
pub(crate) async fn follow_named(context: &Arc<Context>, providers: ProviderKind, scope: Option<&str>) {
    tokio::join!(
        follow::<ConfigMap>(context, providers, scope, NamedKind::ConfigMap),
        follow::<ServiceAccount>(context, providers, scope, NamedKind::ServiceAccount),
    );
}

async fn follow<K>(context: &Arc<Context>, providers: ProviderKind, scope: Option<&str>, kind: NamedKind)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let is_in_scope = |key: &ProviderKey| {
        key.kind == providers && (key.kind == ProviderKind::Cluster || scope.is_none_or(|scope| scope == key.namespace))
    };
    let names_one = |key: &ProviderKey, provider: &Provider| is_in_scope(key) && named_by(provider, kind).is_some();
    context.providers.wait_for(names_one).await;
    let check = |object: &PartialObjectMeta<K>| {
        let named = (object.namespace().unwrap_or_default(), references::named(kind, &object.name_any()));
        for dependent in context.secret_references.dependents(&named) {
            if let Some(provider) = references::as_provider(&dependent) {
                context.provider_checks.request(&ProviderKey::of(&provider, &named.0));
            }
        }
    };
    let mut is_failing = false;
    with_backoff(watcher(api::<PartialObjectMeta<K>>(&context.client, scope), watcher::Config::default()))
        .for_each(|event| {
            is_failing = match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => {
                    check(&object);
                    false
                }
                // Some of them may have changed, or be gone, since the watch ended.
                Ok(Event::InitDone) => {
                    context.providers.that(names_one).iter().for_each(|key| context.provider_checks.request(key));
                    false
                }
                Ok(Event::Init | Event::InitApply(_)) => is_failing,
                Err(error) => {
                    let error = errors::describe(&error);
                    if is_failing {
                        debug!(?kind, error, "watch of objects that providers name failed again");
                    } else {
                        // Until then, changes are noticed by the next check or renewal.
                        warn!(?kind, error, "watch of objects that providers name failed; will be tried again");
                    }
                    true
                }
            };
            future::ready(())
        })
        .await;
}
