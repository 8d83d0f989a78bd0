//! Checks providers when something changed, and every hour, and writes their status.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams, TypeMeta};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::api::names::MANAGER;
use crate::api::provider::{ClusterOAuthProvider, OAuthProvider, ProviderKind, ProviderStatus};
use crate::api::reason::Reason;
use crate::clock::now;
use crate::controller::context::Context;
use crate::controller::providers::check;
use crate::controller::providers::check::Checked;
use crate::controller::providers::checks::{CheckResult, INTERVAL};
use crate::controller::providers::store::{ProviderKey, Watched};
use crate::decision::provider_status;
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
        let (due, next) = context.provider_checks.take_due(Instant::now());
        for key in due {
            // A bounded number at once, each for a bounded time.
            tokio::spawn(check_and_report(Arc::clone(&context), key));
        }
        context.provider_checks.wait(next).await;
    }
}

async fn check_and_report(context: Arc<Context>, key: ProviderKey) {
    // Also after a panic.
    let mut turn = Turn { context: &context, key: &key, next: Some(Instant::now() + RETRY) };
    turn.next = match context.providers.get(&key) {
        Some(watched) => {
            let wait = check_watched(&context, &key, &watched).await;
            Some(Instant::now() + wait)
        }
        None => None,
    };
}

/// A check in flight, which ends when this is dropped.
struct Turn<'a> {
    context: &'a Context,
    key: &'a ProviderKey,
    /// The time of the next one; `None`: the provider is gone.
    next: Option<Instant>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.context.provider_checks.end(self.key, self.next);
    }
}

/// The time until the next check.
async fn check_watched(context: &Context, key: &ProviderKey, watched: &Watched) -> Duration {
    // A replica that becomes the leader checks all of them.
    if !context.leadership.is_leader() {
        return INTERVAL;
    }
    let now = std::time::Instant::now();
    if key.kind == ProviderKind::Namespaced
        && let Some(turn) = context.budgets.admit_read(&key.namespace, &watched.uid, now)
    {
        return turn.saturating_duration_since(now);
    }
    let mut credentials_expire_at = None;
    let check = check::check(context, key, watched, &mut credentials_expire_at);
    let Ok(checked) = tokio::time::timeout(TIMEOUT, check).await.unwrap_or_else(|_| {
        let message = format!("the check took longer than {TIMEOUT:?}: check that the issuer responds");
        Ok(Checked::new(Reason::RequestTimedOut, message))
    }) else {
        return RETRY;
    };
    context.provider_checks.set_result(key, CheckResult { reason: checked.reason, credentials_expire_at });
    let again = if checked.is_ready() { INTERVAL } else { RETRY };
    let fingerprint = fingerprint(context, key, watched, &checked);
    if context.provider_checks.is_written(key, fingerprint) {
        return again;
    }
    let written = match key.kind {
        ProviderKind::Namespaced => {
            let api = Api::<OAuthProvider>::namespaced(context.client.clone(), &key.namespace);
            write(context, &api, key, watched, &checked).await
        }
        ProviderKind::Cluster => {
            let api = Api::<ClusterOAuthProvider>::all(context.client.clone());
            write(context, &api, key, watched, &checked).await
        }
    };
    match written {
        Ok(()) => {
            context.provider_checks.set_written(key, fingerprint);
            again
        }
        Err(error) => {
            if context.may_log(&key.namespace) {
                let (provider, namespace) = (key.reference(), &key.namespace);
                warn!(%provider, namespace, error = chain(&error), "failed to write the status of a provider");
            }
            RETRY
        }
    }
}

/// What is written, as a number.
fn fingerprint(context: &Context, key: &ProviderKey, watched: &Watched, checked: &Checked) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&watched.uid, watched.generation, context.providers.count(key)).hash(&mut hasher);
    (checked.reason, &checked.message).hash(&mut hasher);
    hasher.finish()
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
    watched: &Watched,
    checked: &Checked,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + HasStatus + DeserializeOwned + Clone + Debug,
{
    let Some(found) = with_timeout(api.get_opt(&key.name)).await? else { return Ok(()) };
    let before = found.status().cloned().unwrap_or_default();
    let uid = &watched.uid;
    let integrations = i64::try_from(context.providers.count(key)).ok();
    let found_now = (checked.reason, checked.message.as_str());
    let status = provider_status::build(&before, watched.generation, integrations, found_now, now());
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
