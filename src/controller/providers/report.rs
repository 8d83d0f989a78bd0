//! Checks providers when something changed, and every hour, and writes their status.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams, TypeMeta};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{info, warn};

use crate::api::names::MANAGER;
use crate::api::provider::{ClusterOAuthProvider, OAuthProvider, ProviderKind, ProviderStatus};
use crate::clock::now;
use crate::controller::context::Context;
use crate::controller::providers::check;
use crate::controller::providers::check::Checked;
use crate::controller::providers::checks::INTERVAL;
use crate::controller::providers::store::ProviderKey;
use crate::decision::status::{READY, time};
use crate::error_report::chain;
use crate::kube_api::call::{ApiError, with_timeout};

/// The interval between two checks of a provider that cannot be used.
const RETRY: Duration = Duration::from_mins(1);
/// The maximum time of a check.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Checks providers when they are due. Never completes.
pub(crate) async fn run(context: Arc<Context>) {
    context.cache_sync.wait_for_all().await;
    loop {
        let (due, next) = context.provider_checks.take_due();
        for key in due {
            // Each ends within a bounded time.
            tokio::spawn(check_and_report(Arc::clone(&context), key));
        }
        let changed = context.provider_checks.changed.notified();
        match next {
            Some(next) => drop(tokio::time::timeout_at(next, changed).await),
            None => changed.await,
        }
    }
}

async fn check_and_report(context: Arc<Context>, key: ProviderKey) {
    let next = {
        // Boxed, because few providers are checked at once.
        let checked = Box::pin(tokio::time::timeout(TIMEOUT, in_turn(&context, &key)));
        checked.await.unwrap_or(Some(RETRY))
    };
    context.provider_checks.end(&key, next);
}

/// The time until the next check; `None` if the provider is gone.
async fn in_turn(context: &Context, key: &ProviderKey) -> Option<Duration> {
    let Some(_turn) = context.provider_checks.queue.turn(&key.namespace, TIMEOUT).await else { return Some(RETRY) };
    let watched = context.providers.get(key)?;
    // A replica that becomes the leader checks all of them.
    if !context.leadership.is_leader() {
        return Some(INTERVAL);
    }
    let checked = check::check(context, &watched).await;
    let written = match key.kind {
        ProviderKind::Namespaced => {
            let api = Api::<OAuthProvider>::namespaced(context.client.clone(), &key.namespace);
            write(context, &api, key, &watched.uid, &checked).await
        }
        ProviderKind::Cluster => {
            let api = Api::<ClusterOAuthProvider>::all(context.client.clone());
            write(context, &api, key, &watched.uid, &checked).await
        }
    };
    if let Err(error) = written
        && context.may_log(&key.namespace)
    {
        warn!(provider = %key.reference(), namespace = key.namespace, error = chain(&error), "failed to write the status");
        return Some(RETRY);
    }
    Some(if checked.is_ready() { INTERVAL } else { RETRY })
}

/// A provider with the status that was last written.
trait HasStatus {
    fn status(&self) -> Option<&ProviderStatus>;
}

impl HasStatus for OAuthProvider {
    fn status(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }
}

impl HasStatus for ClusterOAuthProvider {
    fn status(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }
}

/// Writes the status if it changed.
async fn write<K>(
    context: &Context,
    api: &Api<K>,
    key: &ProviderKey,
    uid: &str,
    checked: &Checked,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + HasStatus + DeserializeOwned + Clone + Debug,
{
    let Some(found) = with_timeout(api.get_opt(&key.name)).await? else { return Ok(()) };
    let before = found.status().cloned().unwrap_or_default();
    let status = status(context, key, found.meta().generation, &before, checked);
    if status == before || found.meta().uid.as_deref() != Some(uid) {
        return Ok(());
    }
    if before.conditions.first().map(|it| &it.reason) != status.conditions.first().map(|it| &it.reason)
        && context.may_log(&key.namespace)
    {
        let Checked { reason, message } = checked;
        info!(provider = %key.reference(), namespace = key.namespace, %reason, "{message}");
    }
    let patch = json!({
        "apiVersion": TypeMeta::resource::<K>().api_version,
        "kind": TypeMeta::resource::<K>().kind,
        "metadata": {"name": key.name, "uid": uid},
        "status": status,
    });
    if key.kind == ProviderKind::Namespaced {
        context.count_write(&key.namespace);
    }
    with_timeout(api.patch_status(&key.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch))).await?;
    Ok(())
}

fn status(
    context: &Context,
    key: &ProviderKey,
    generation: Option<i64>,
    before: &ProviderStatus,
    checked: &Checked,
) -> ProviderStatus {
    let text = if checked.is_ready() { "True" } else { "False" };
    let known = before.conditions.iter().find(|condition| condition.type_ == READY);
    let since = known.filter(|known| known.status == text).map(|known| known.last_transition_time.clone());
    let ready = Condition {
        type_: READY.to_owned(),
        status: text.to_owned(),
        reason: checked.reason.as_str().to_owned(),
        message: checked.message.clone(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| time(now())),
    };
    ProviderStatus {
        observed_generation: generation,
        conditions: vec![ready],
        integrations: i64::try_from(context.providers.count(key)).ok(),
    }
}
