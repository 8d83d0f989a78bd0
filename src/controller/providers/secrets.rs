//! The Secrets of providers: read once for all integrations that are renewed together.
//!
//! A Secret is kept for some seconds, and never longer than its version is the latest known one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::sync::Mutex as AsyncMutex;

use crate::controller::cache::lock::lock;
use crate::controller::cache::references::SecretRef;
use crate::kube_api::call;
use crate::kube_api::call::{ApiError, with_timeout};
use crate::target::annotations;

/// How long a Secret is kept.
const KEPT: Duration = Duration::from_secs(10);
/// The maximum number of Secrets that are kept; others are read each time.
const MAX: usize = 64;

/// A Secret that several integrations share. Its values are wiped when the last one drops it.
#[derive(Debug)]
pub(crate) struct SharedSecret(pub(crate) Secret);

impl Drop for SharedSecret {
    fn drop(&mut self) {
        call::wipe(&mut self.0);
    }
}

type Slot = Arc<AsyncMutex<Option<Arc<SharedSecret>>>>;

/// The Secrets of providers that were just read.
#[derive(Debug, Default)]
pub struct ProviderSecrets {
    kept: Arc<Mutex<HashMap<SecretRef, Slot>>>,
}

impl ProviderSecrets {
    /// The Secret: as it was read within the last seconds, if it still has the `known` version, else as it is read now, once
    /// for all that wait for it.
    ///
    /// # Errors
    ///
    /// The error of the call.
    pub(crate) async fn get(
        &self,
        secrets: &Api<Secret>,
        name: &str,
        known: impl Fn() -> Option<u64>,
    ) -> Result<Option<Arc<SharedSecret>>, ApiError> {
        let key = (secrets.namespace().unwrap_or_default().to_owned(), name.to_owned());
        let Some(slot) = self.slot(&key) else { return read(secrets, name).await };
        let mut kept = slot.lock().await;
        // Without a known version, it may have been deleted.
        let is_latest = |secret: &Arc<SharedSecret>| {
            known().is_some_and(|version| annotations::version(&secret.0.metadata) >= version)
        };
        if let Some(secret) = kept.as_ref().filter(|secret| is_latest(secret)) {
            return Ok(Some(Arc::clone(secret)));
        }
        *kept = read(secrets, name).await?;
        let found = kept.clone();
        drop(kept);
        self.forget_later(key, slot);
        Ok(found)
    }

    /// Where a Secret is kept; `None` if there are too many.
    fn slot(&self, key: &SecretRef) -> Option<Slot> {
        let mut kept = lock(&self.kept);
        if kept.len() >= MAX && !kept.contains_key(key) {
            return None;
        }
        Some(Arc::clone(kept.entry(key.clone()).or_default()))
    }

    /// Drops a Secret that was just read after [`KEPT`].
    fn forget_later(&self, key: SecretRef, slot: Slot) {
        let all = Arc::clone(&self.kept);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let mut all = lock(&all);
            // A later one may have been read in the meantime, which then has less time.
            if all.get(&key).is_some_and(|current| Arc::ptr_eq(current, &slot)) {
                all.remove(&key);
            }
        });
    }
}

async fn read(secrets: &Api<Secret>, name: &str) -> Result<Option<Arc<SharedSecret>>, ApiError> {
    Ok(with_timeout(secrets.get_opt(name)).await?.map(|secret| Arc::new(SharedSecret(secret))))
}
