//! The calls about workloads: restarts, and reads of their rollouts.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::api::names::MANAGER;
use crate::clock::now;
use crate::controller::restarts::workload::{WorkloadId, WorkloadKind};
use crate::decision::restarts::{Cause, annotations};
use crate::kube_api::call::{ApiError, with_timeout};

fn api(client: &Client, id: &WorkloadId) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &id.namespace, &resource(id.kind))
}

fn resource(kind: WorkloadKind) -> ApiResource {
    match kind {
        WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    }
}

/// Restarts the workload with this uid: an apply of the operator's own annotations, which the API server rejects if the
/// workload no longer has this version. Returns its new metadata.
pub(crate) async fn restart(
    client: &Client,
    id: &WorkloadId,
    uid: &str,
    version: Option<String>,
    cause: &Cause,
) -> Result<ObjectMeta, ApiError> {
    let (own, in_template) = annotations(&cause.record, now());
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": id.kind.as_str(),
        "metadata": {
            "name": id.name,
            "namespace": id.namespace,
            "uid": uid,
            "resourceVersion": version,
            "annotations": own,
        },
        "spec": {"template": {"metadata": {"annotations": in_template}}},
    });
    let params = PatchParams::apply(MANAGER).force();
    let api = api(client, id);
    let applied = with_timeout(api.patch_metadata(&id.name, &params, &Patch::Apply(&patch))).await?;
    Ok(applied.metadata)
}

/// Reads a workload; `None` if it does not exist.
pub(crate) async fn read(client: &Client, id: &WorkloadId) -> Result<Option<DynamicObject>, ApiError> {
    with_timeout(api(client, id).get_opt(&id.name)).await
}
