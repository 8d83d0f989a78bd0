//! The parts that all watches share: their start, and their restart after a failure.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher;
use kube::{Api, Client};

use crate::controller::context::Context;
use crate::controller::queue::Request;

/// The delay before a failed watch is restarted, doubled after each consecutive failure.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// The maximum of this delay.
const BACKOFF_MAX: Duration = Duration::from_secs(4);
/// After this time without a failure, the delay is reset.
const BACKOFF_RESET: Duration = Duration::from_secs(30);

/// Whether a watch failed because the CRD is not installed. Secrets always exist.
#[must_use]
pub(crate) fn is_crd_missing(error: &watcher::Error) -> bool {
    // Checks only the code: for an unknown path, the API server responds in plain text, without a reason.
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

/// Whether the operator is not allowed to list what it watches.
#[must_use]
pub(crate) fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}

/// A watch that starts when another one has received its initial list.
pub(crate) fn after(
    context: &Arc<Context>,
    name: String,
    watch: BoxStream<'static, Result<Request, watcher::Error>>,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    let context = Arc::clone(context);
    let waiting = stream::once(async move { context.cache_sync.wait_for(&name).await });
    waiting.filter_map(|()| future::ready(None)).chain(watch).boxed()
}

pub(crate) fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Restarts a failed watch after a delay.
pub(crate) fn with_backoff<T>(
    watch: impl Stream<Item = Result<T, watcher::Error>>,
) -> impl Stream<Item = Result<T, watcher::Error>> {
    // With jitter, so that the watches of all replicas do not restart together.
    let delays = ExponentialBuilder::default()
        .with_min_delay(BACKOFF_MIN)
        .with_max_delay(BACKOFF_MAX)
        .without_max_times()
        .with_jitter();
    watch.backoff(ResetTimerBackoff::new(watcher::ExponentialBackoff::from(delays), BACKOFF_RESET))
}
