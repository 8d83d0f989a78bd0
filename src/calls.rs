//! Calls to the API server: each has a time-out.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroize;

use crate::api::MANAGER;
use crate::error::ApiError;
use crate::target::MANAGED_BY;

/// How long one call may take. An API server that answers later than this is in trouble, and asking again is better
/// than waiting on a connection that may be dead.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for a call, but not for longer than [`TIMEOUT`].
///
/// # Errors
///
/// What the API server or the way to it said, or that there was no answer in time.
pub async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::TimedOut(TIMEOUT)),
    }
}

/// A Secret was read: what was needed of it is kept elsewhere, and its data are wiped.
pub fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flat_map(|data| data.values_mut()).for_each(|value| value.0.zeroize());
}

/// Whether a Secret carries the operator's label, by which the watch finds it.
#[must_use]
pub fn is_managed(secret: &Secret) -> bool {
    secret.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}
