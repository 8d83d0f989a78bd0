//! Watches providers, the labels of namespaces, and the Secrets of cluster-scoped providers. What else providers name is
//! watched in `named`.
//!
//! An installation may lack the CRDs of providers, after an upgrade from an earlier release, or the permission to read
//! them. Integrations without a provider work nevertheless; those with one say what is missing.

use std::collections::HashSet;
use std::fmt::Debug;
use std::future;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, CustomResourceExt, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::api::connection::CaBundleKind;
use crate::api::provider::{ClusterOAuthProvider, OAuthProvider, ProviderKind};
use crate::api::shared_spec::SharedSpec;
use crate::controller::cache::references;
use crate::controller::cache::references::NamedKind;
use crate::controller::context::Context;
use crate::controller::providers::named::{follow_named, named_by};
use crate::controller::providers::store::{ProviderKey, User, Watched};
use crate::controller::queue::Request;
use crate::controller::watches;
use crate::controller::watches::restart::{api, is_forbidden, with_backoff};
use crate::controller::watches::share;
use crate::kube_api::errors;
use crate::kube_api::lenient::Lenient;
use crate::spec::allow::Allow;
use crate::spec::provider::{Origin, Provider};

/// The names of the watches: one for the providers of each scope, and, with cluster-scoped providers, those for them, for
/// namespaces, and for the Secrets in the namespace of the operator, if that is not watched anyway.
#[must_use]
pub(crate) fn names(scopes: &[Option<String>], cluster_namespace: Option<&str>) -> Vec<String> {
    let namespaced = scopes.iter().map(|scope| namespaced_name(scope.as_deref()));
    let secrets = cluster_namespace.filter(|namespace| !is_watched(scopes, namespace)).map(secrets_name);
    let cluster = cluster_namespace.map(|_| [CLUSTER.to_owned(), NAMESPACES.to_owned()]);
    namespaced.chain(cluster.into_iter().flatten()).chain(secrets).collect()
}

const CLUSTER: &str = "cluster-scoped providers";
const NAMESPACES: &str = "namespaces";

fn namespaced_name(scope: Option<&str>) -> String {
    format!("providers in {}", scope.unwrap_or("all namespaces"))
}

fn secrets_name(namespace: &str) -> String {
    format!("credentials of providers in {namespace}")
}

fn is_watched(scopes: &[Option<String>], namespace: &str) -> bool {
    scopes.iter().any(|scope| scope.as_deref().is_none_or(|scope| scope == namespace))
}

/// A kind of provider.
trait ProviderObject:
    Resource<DynamicType = ()> + CustomResourceExt + Serialize + DeserializeOwned + Clone + Debug
{
    const KIND: ProviderKind;

    /// What the spec says, and who may use it.
    fn parts(&self) -> (&SharedSpec, Result<Allow, String>);
}

impl ProviderObject for OAuthProvider {
    const KIND: ProviderKind = ProviderKind::Namespaced;

    fn parts(&self) -> (&SharedSpec, Result<Allow, String>) {
        (&self.spec.shared, Ok(Allow::All))
    }
}

impl ProviderObject for ClusterOAuthProvider {
    const KIND: ProviderKind = ProviderKind::Cluster;

    fn parts(&self) -> (&SharedSpec, Result<Allow, String>) {
        (&self.spec.provider.shared, Allow::new(&self.spec.allow))
    }
}

/// Watches everything that `names` lists. Never completes.
pub(crate) async fn run(context: Arc<Context>, scopes: Vec<Option<String>>) {
    let namespaced = scopes.iter().map(async |scope| {
        let scope = scope.as_deref();
        let providers = api::<Lenient<OAuthProvider>>(&context.client, scope);
        tokio::join!(
            follow::<OAuthProvider>(&context, providers, scope, namespaced_name(scope)),
            follow_named(&context, ProviderKind::Namespaced, scope),
        );
    });
    let cluster = async {
        let Some(namespace) = &context.provider_namespace else { return };
        let providers = Api::<Lenient<ClusterOAuthProvider>>::all(context.client.clone());
        let secrets = async {
            if !is_watched(&scopes, namespace) {
                let name = secrets_name(namespace);
                // Nothing is reconciled in this namespace; the integrations elsewhere are triggered by the watch itself.
                let watch = watches::credentials(&context, Some(namespace), name.clone());
                watch
                    .for_each(|result| {
                        note_failure(&context, &name, result);
                        future::ready(())
                    })
                    .await;
            }
        };
        tokio::join!(
            follow::<ClusterOAuthProvider>(&context, providers, None, CLUSTER.to_owned()),
            follow_namespaces(&context),
            follow_named(&context, ProviderKind::Cluster, Some(namespace)),
            secrets,
        );
    };
    tokio::join!(futures::future::join_all(namespaced), cluster);
}

async fn follow<K: ProviderObject + Send + 'static>(
    context: &Arc<Context>,
    api: Api<Lenient<K>>,
    scope: Option<&str>,
    name: String,
) {
    let mut unseen: HashSet<ProviderKey> = HashSet::new();
    with_backoff(watcher(api, watcher::Config::default()))
        .for_each(|event| {
            match event {
                Ok(Event::Init) => unseen = context.providers.all(K::KIND, scope).into_iter().collect(),
                Ok(Event::InitApply(Lenient(found))) => {
                    unseen.remove(&key_of::<K>(found.meta()));
                    upsert(context, &found);
                }
                Ok(Event::InitDone) => {
                    for gone in unseen.drain() {
                        remove(context, &gone);
                    }
                    context.providers.set_unavailable(K::KIND, None);
                    context.cache_sync.done(&name);
                }
                Ok(Event::Apply(Lenient(found))) => upsert(context, &found),
                Ok(Event::Delete(Lenient(found))) => remove(context, &key_of::<K>(found.meta())),
                Err(error) => {
                    if let Some(why) = missing::<K>(&error) {
                        context.providers.set_unavailable(K::KIND, Some(why));
                        context.cache_sync.done(&name);
                    }
                    warn!(
                        kind = K::KIND.as_str(),
                        error = errors::describe(&error),
                        "watch of providers failed; will be tried again"
                    );
                }
            }
            future::ready(())
        })
        .await;
}

/// Without the permission, a change of a provider's Secret is noticed only at the next renewal.
fn note_failure(context: &Context, name: &str, result: Result<Request, watcher::Error>) {
    let Err(error) = result else { return };
    if is_forbidden(&error) {
        context.cache_sync.done(name);
    }
    warn!(watch = name, error = errors::describe(&error), "watch failed; will be tried again");
}

/// Why the providers cannot be watched, if only an administrator can change that.
fn missing<K: ProviderObject>(error: &watcher::Error) -> Option<String> {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return None };
    let kind = K::KIND.as_str();
    match status.code {
        // For an unknown path, the API server responds in plain text, without a reason.
        404 => Some(format!("the CustomResourceDefinition {} is not installed", K::crd_name())),
        403 => Some(format!("the operator is not allowed to list {kind} objects")),
        _ => None,
    }
}

fn key_of<K: ProviderObject>(meta: &ObjectMeta) -> ProviderKey {
    ProviderKey {
        kind: K::KIND,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn upsert<K: ProviderObject>(context: &Arc<Context>, found: &DeserializeGuard<K>) {
    let meta = found.meta();
    let key = key_of::<K>(meta);
    let uid = meta.uid.clone().unwrap_or_default();
    // The operator's own writes of the status do not change it.
    let generation = meta.generation.unwrap_or_default();
    let known = context.providers.get(&key).filter(|known| known.uid == uid);
    if known.is_some_and(|known| known.provider.is_ok_and(|provider| provider.origin.generation == generation)) {
        return;
    }
    let namespace = match K::KIND {
        ProviderKind::Namespaced => key.namespace.clone(),
        ProviderKind::Cluster => context.provider_namespace.clone().unwrap_or_default(),
    };
    let origin = Origin { reference: key.reference(), uid: uid.clone(), generation, namespace };
    let watched = match &found.0 {
        Ok(found) => {
            let (shared, allow) = found.parts();
            let provider = allow.map(|allow| Arc::new(Provider { origin, spec: Arc::new(shared.clone()), allow }));
            Watched { uid, generation, provider, length: share::length(found) }
        }
        Err(invalid) => Watched { uid, generation, provider: Err(invalid.error.clone()), length: 0 },
    };
    let users = context.providers.upsert(&key, watched);
    match context.providers.get(&key) {
        Some(known) => {
            set_references(context, &key, known.provider.as_deref().map(references_of).unwrap_or_default());
            context.provider_checks.request(&key);
        }
        None => set_references(context, &key, HashSet::new()),
    }
    trigger(context, users);
}

/// The Secrets and the other objects that a provider names.
fn references_of(provider: &Provider) -> HashSet<String> {
    let credentials = provider.spec.credentials.as_ref().map(|credentials| credentials.secret_name.clone());
    let bundle = provider.spec.connection.as_ref().and_then(|connection| connection.ca_bundle.as_ref());
    let bundle = bundle.filter(|bundle| bundle.kind == CaBundleKind::Secret).map(|bundle| bundle.name.clone());
    let others = [NamedKind::ConfigMap, NamedKind::ServiceAccount]
        .into_iter()
        .filter_map(|kind| Some(references::named(kind, named_by(provider, kind)?)));
    credentials.into_iter().chain(bundle).chain(others).collect()
}

fn remove(context: &Arc<Context>, key: &ProviderKey) {
    set_references(context, key, HashSet::new());
    context.provider_checks.forget(key);
    trigger(context, context.providers.remove(key));
}

/// Records which objects a provider references.
fn set_references(context: &Context, key: &ProviderKey, names: HashSet<String>) {
    let namespace = match key.kind {
        ProviderKind::Namespaced => key.namespace.as_str(),
        ProviderKind::Cluster => context.provider_namespace.as_deref().unwrap_or_default(),
    };
    let dependent = references::provider(&key.reference());
    context.secret_references.set_references(namespace, &dependent, names);
}

/// Reconciles the integrations of a provider. The limiter spreads their requests.
pub(crate) fn trigger(context: &Context, users: Vec<User>) {
    for (namespace, name) in users {
        context.triggers.one(&namespace, &name);
    }
}

async fn follow_namespaces(context: &Arc<Context>) {
    let api = Api::<PartialObjectMeta<Namespace>>::all(context.client.clone());
    let mut unseen = HashSet::new();
    let set = |found: PartialObjectMeta<Namespace>| {
        let labels = found.metadata.labels.clone().unwrap_or_default();
        trigger(context, context.providers.set_namespace(&found.name_any(), Some(&labels)));
    };
    with_backoff(watcher(api, watcher::Config::default()))
        .for_each(|event| {
            match event {
                Ok(Event::Init) => unseen = context.providers.namespaces().into_iter().collect::<HashSet<_>>(),
                Ok(Event::InitApply(found)) => {
                    unseen.remove(&found.name_any());
                    set(found);
                }
                Ok(Event::InitDone) => {
                    for gone in unseen.drain() {
                        trigger(context, context.providers.set_namespace(&gone, None));
                    }
                    context.cache_sync.done(NAMESPACES);
                }
                Ok(Event::Apply(found)) => set(found),
                Ok(Event::Delete(found)) => {
                    trigger(context, context.providers.set_namespace(&found.name_any(), None));
                }
                Err(error) => {
                    // Labels may change unnoticed. Without them, no selector matches.
                    if is_forbidden(&error) {
                        context.providers.forget_namespaces();
                        context.cache_sync.done(NAMESPACES);
                    }
                    warn!(error = errors::describe(&error), "watch of namespaces failed; will be tried again");
                }
            }
            future::ready(())
        })
        .await;
}
