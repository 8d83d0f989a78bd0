//! The finalizer that keeps an integration until its tokens are revoked.

use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::{Api, ResourceExt};
use serde_json::json;
use tracing::info;

use crate::api::names::FINALIZER;
use crate::api::spec::OAuthIntegration;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::decision::observed::Observed;
use crate::kube_api::call::with_timeout;

/// Adds or removes the finalizer, depending on whether the spec requires tokens to be revoked on deletion: before the
/// first token request, and after every change of the spec.
pub(crate) async fn sync(context: &Context, integration: &OAuthIntegration, observed: &Observed) -> Result<(), Error> {
    let Ok(spec) = &observed.spec else { return Ok(()) };
    let wanted = spec.revokes_on_deletion();
    if observed.deleting || !observed.is_leader || wanted == observed.finalizer {
        return Ok(());
    }
    let mut finalizers = integration.finalizers().to_vec();
    finalizers.retain(|known| known != FINALIZER);
    finalizers.extend(wanted.then(|| FINALIZER.to_owned()));
    write_finalizers(context, integration, integration.resource_version(), finalizers).await
}

/// Removes the finalizer, so that the deletion continues. The live object is read first, so that a concurrent change
/// does not cause a conflict, after which the tokens would be revoked again.
///
/// # Errors
///
/// When the API server cannot be reached, or rejects the write.
pub async fn remove<K: ResourceExt>(context: &Context, object: &K) -> Result<(), Error> {
    let api = api(context, object);
    let live = match with_timeout(api.get_metadata(&object.name_any())).await {
        Ok(live) => live,
        Err(error) if error.status().is_some_and(Status::is_not_found) => return Ok(()),
        Err(error) => return Err(Error::WriteFinalizers(Box::new(error))),
    };
    let mut finalizers = live.finalizers().to_vec();
    finalizers.retain(|known| known != FINALIZER);
    write_finalizers(context, object, live.resource_version(), finalizers).await
}

fn api<K: ResourceExt>(context: &Context, object: &K) -> Api<OAuthIntegration> {
    Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default())
}

async fn write_finalizers<K: ResourceExt>(
    context: &Context,
    object: &K,
    version: Option<String>,
    finalizers: Vec<String>,
) -> Result<(), Error> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    context.count_write(&namespace);
    // The whole list is replaced; the version guards against concurrent changes.
    let patch = json!({"metadata": {"uid": object.uid(), "resourceVersion": version, "finalizers": finalizers}});
    match with_timeout(api(context, object).patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))).await
    {
        Ok(_) => Ok(()),
        Err(error) if error.status().is_some_and(Status::is_not_found) => {
            info!(namespace, name, "the integration is gone");
            Ok(())
        }
        Err(error) => Err(Error::WriteFinalizers(Box::new(error))),
    }
}
