//! Watches the metadata of workloads, and keeps those that have opted in.

use std::collections::{BTreeSet, HashSet};
use std::future;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::controller::context::Context;
use crate::controller::restarts::shared::Restarts;
use crate::controller::restarts::workload::{WorkloadId, WorkloadKind};
use crate::controller::watches::restart::{api, with_backoff};
use crate::kube_api::errors;

/// The names of the watches of a scope.
#[must_use]
pub(crate) fn names(scope: Option<&str>) -> [String; 3] {
    [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet].map(|kind| name(kind, scope))
}

fn name(kind: WorkloadKind, scope: Option<&str>) -> String {
    format!("{} in {}", kind.as_str(), scope.unwrap_or("all namespaces"))
}

/// Watches all kinds in a namespace (`None`: in all namespaces). Never completes.
pub(crate) async fn run(context: Arc<Context>, restarts: Arc<Restarts>, scope: Option<String>) {
    let scope = scope.as_deref();
    tokio::join!(
        follow::<Deployment>(&context, &restarts, WorkloadKind::Deployment, scope),
        follow::<StatefulSet>(&context, &restarts, WorkloadKind::StatefulSet, scope),
        follow::<DaemonSet>(&context, &restarts, WorkloadKind::DaemonSet, scope),
    );
}

async fn follow<K>(context: &Context, restarts: &Restarts, kind: WorkloadKind, scope: Option<&str>)
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let workloads = api::<PartialObjectMeta<K>>(&context.client, scope);
    let id = |found: &PartialObjectMeta<K>| WorkloadId {
        namespace: found.namespace().unwrap_or_default(),
        kind,
        name: found.name_any(),
    };
    let mut unseen: HashSet<WorkloadId> = HashSet::new();
    let changed = |id: &WorkloadId, secrets: BTreeSet<String>| renew_in_time(context, &id.namespace, secrets);
    with_backoff(watcher::watcher(workloads, watcher::Config::default()))
        .for_each(|event| {
            match event {
                Ok(Event::Init) => unseen = restarts.workloads.of_kind(kind, scope),
                Ok(Event::InitApply(found)) => {
                    unseen.remove(&id(&found));
                    changed(&id(&found), restarts.workloads.upsert(&id(&found), &found.metadata));
                }
                Ok(Event::InitDone) => {
                    for gone in unseen.drain() {
                        changed(&gone, restarts.workloads.remove(&gone));
                    }
                    restarts.sync.done(&name(kind, scope));
                }
                Ok(Event::Apply(found)) => {
                    changed(&id(&found), restarts.workloads.upsert(&id(&found), &found.metadata));
                }
                Ok(Event::Delete(found)) => changed(&id(&found), restarts.workloads.remove(&id(&found))),
                Err(error) => {
                    warn!(
                        kind = kind.as_str(),
                        error = errors::describe(&error),
                        "watch of workloads failed; will be tried again"
                    );
                }
            }
            future::ready(())
        })
        .await;
}

/// Reconciles the integrations of these Secrets, whose renewals depend on the workloads that read them.
fn renew_in_time(context: &Context, namespace: &str, secrets: BTreeSet<String>) {
    for secret in secrets {
        for integration in context.secret_references.dependents(&(namespace.to_owned(), secret)) {
            context.triggers.one(namespace, &integration);
        }
    }
}
