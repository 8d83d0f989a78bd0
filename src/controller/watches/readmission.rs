//! Reads integrations that were refused for lack of room again when there is room.
//!
//! Only their names are known, and watches report them only when they change. Therefore the free room is checked at
//! an interval, and the integrations that fit are read one at a time.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Api;
use tracing::debug;

use crate::api::spec::OAuthIntegration;
use crate::controller::context::Context;
use crate::error_report::chain;
use crate::kube_api::call::with_timeout;
use crate::kube_api::lenient::Lenient;

/// How often the free room is checked.
const INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of integrations that are read each time.
const AT_ONCE: usize = 64;

/// Reads the integrations of a namespace (`None`: of all namespaces) for which there is room again.
pub(crate) fn readmissible(
    context: &Arc<Context>,
    scope: Option<&str>,
) -> impl Stream<Item = Lenient<OAuthIntegration>> + Send + use<> {
    let (looking, reading, scope) = (Arc::clone(context), Arc::clone(context), scope.map(ToOwned::to_owned));
    let looks = stream::unfold((), |()| async {
        tokio::time::sleep(INTERVAL).await;
        Some(((), ()))
    });
    looks
        .flat_map(move |()| stream::iter(looking.shares.admissible(scope.as_deref(), AT_ONCE)))
        .filter_map(move |(namespace, name)| read(Arc::clone(&reading), namespace, name))
}

/// Reads an integration, unless others have taken the room in the meantime. If it cannot be read, it is tried again
/// later.
async fn read(context: Arc<Context>, namespace: String, name: String) -> Option<Lenient<OAuthIntegration>> {
    if !context.shares.is_admissible(&namespace, &name) {
        return None;
    }
    // Charged like a write, because users can cause it by deleting and creating integrations.
    context.count_write(&namespace);
    let integrations = Api::<Lenient<OAuthIntegration>>::namespaced(context.client.clone(), &namespace);
    let found = with_timeout(integrations.get(&name)).await;
    found
        .inspect_err(|error| debug!(%namespace, %name, error = chain(error), "failed to read an integration again"))
        .ok()
}
