//! Watches what providers name besides Secrets: ConfigMaps with CA bundles, and ServiceAccounts. Only metadata is watched, and
//! nothing is kept.
//!
//! There is a watch only while a provider names such an object, because most installations have none. A provider is checked
//! when one of its objects changes; what the check finds determines which integrations are reconciled.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::api::connection::CaBundleKind;
use crate::api::provider::ProviderKind;
use crate::controller::cache::references;
use crate::controller::cache::references::NamedKind;
use crate::controller::context::Context;
use crate::controller::providers::store::ProviderKey;
use crate::controller::watches::restart::{api, is_forbidden, with_backoff};
use crate::kube_api::errors;
use crate::spec::provider::Provider;

/// How long a watch that is not allowed is not tried again: a tenant can cause it, and only an administrator can change it.
const FORBIDDEN_PAUSE: Duration = Duration::from_mins(5);

/// How long a watch is kept after the last provider that needed it: a tenant who changes a provider in a loop causes one list of
/// all objects in this time.
const LINGER: Duration = Duration::from_mins(5);

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
    loop {
        context.providers.wait_until(true, names_one).await;
        let checking_all = || {
            for provider in context.providers.matching(names_one) {
                context.provider_checks.request(&provider);
            }
        };
        let unused = async {
            loop {
                context.providers.wait_until(false, names_one).await;
                tokio::time::sleep(LINGER).await;
                if context.providers.matching(names_one).is_empty() {
                    return;
                }
            }
        };
        tokio::select! {
            () = unused => {}
            () = watch::<K>(context, scope, kind, checking_all) => {}
        }
    }
}

/// Watches. Never completes.
async fn watch<K>(context: &Context, scope: Option<&str>, kind: NamedKind, check_all: impl Fn())
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let objects = api::<PartialObjectMeta<K>>(&context.client, scope);
    let mut events = pin!(with_backoff(watcher(objects, watcher::Config::default())));
    let mut is_failing = false;
    while let Some(event) = events.next().await {
        is_failing = match event {
            Ok(Event::Apply(object) | Event::Delete(object)) => {
                check_dependents(context, kind, &object);
                false
            }
            // Some of them may have changed, or be gone, since the last watch ended.
            Ok(Event::InitDone) => {
                check_all();
                false
            }
            Ok(Event::Init | Event::InitApply(_)) => is_failing,
            Err(error) => {
                // Until then, changes are noticed by the next check or renewal.
                if !is_failing {
                    let error = errors::describe(&error);
                    warn!(?kind, error, "watch of objects that providers name failed; will be tried again");
                }
                if is_forbidden(&error) {
                    tokio::time::sleep(FORBIDDEN_PAUSE).await;
                }
                true
            }
        };
    }
}

/// Checks the providers that name an object.
fn check_dependents<K: Resource<DynamicType = ()>>(context: &Context, kind: NamedKind, object: &PartialObjectMeta<K>) {
    let named = (object.namespace().unwrap_or_default(), references::named(kind, &object.name_any()));
    for dependent in context.secret_references.dependents(&named) {
        if let Some(provider) = references::as_provider(&dependent) {
            context.provider_checks.request(&ProviderKey::of(&provider, &named.0));
        }
    }
}
