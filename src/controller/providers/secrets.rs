//! The Secrets of cluster-scoped providers: read once for all integrations that are renewed together.
//!
//! A Secret is kept for some seconds, and never longer than its version is the latest known one. Only administrators write
//! these providers, so there are few.

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

/// A Secret that several integrations share. Its values are wiped when the last one drops it.
#[derive(Debug)]
pub(crate) struct SharedSecret(pub(crate) Secret);

impl Drop for SharedSecret {
    fn drop(&mut self) {
        call::wipe(&mut self.0);
    }
}

/// The state of a Secret that several integrations need.
#[derive(Debug, Default)]
enum State {
    /// Being read.
    #[default]
    Unread,
    Read(Arc<SharedSecret>),
    /// It does not exist, or could not be read: each integration that has waited reads it itself, at the same time.
    NotRead,
}

type Slot = Arc<AsyncMutex<State>>;

/// The Secrets that were just read.
#[derive(Debug, Default)]
pub struct ProviderSecrets {
    slots: Arc<Mutex<HashMap<SecretRef, Slot>>>,
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
        let slot = Arc::clone(lock(&self.slots).entry(key.clone()).or_default());
        // Also if this future is dropped.
        let _forget = Forget { slots: &self.slots, key: &key, slot: &slot };
        let mut state = slot.lock().await;
        match &*state {
            // Without a known version, it may have been deleted.
            State::Read(secret)
                if known().is_some_and(|version| annotations::version(&secret.0.metadata) >= version) =>
            {
                return Ok(Some(Arc::clone(secret)));
            }
            State::NotRead => {
                drop(state);
                return read(secrets, name).await;
            }
            State::Read(_) | State::Unread => {}
        }
        let found = read(secrets, name).await;
        *state = match &found {
            Ok(Some(secret)) => State::Read(Arc::clone(secret)),
            Ok(None) | Err(_) => State::NotRead,
        };
        drop(state);
        if matches!(found, Ok(Some(_))) {
            self.forget_later(key.clone(), Arc::clone(&slot));
        }
        found
    }

    /// Drops a Secret that was just read after [`KEPT`]. If it was read again in the meantime, it is dropped earlier, which
    /// costs another read at most.
    fn forget_later(&self, key: SecretRef, slot: Slot) {
        let slots = Arc::clone(&self.slots);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            remove(&slots, &key, &slot);
        });
    }
}

/// Removes a slot that contains nothing.
struct Forget<'a> {
    slots: &'a Mutex<HashMap<SecretRef, Slot>>,
    key: &'a SecretRef,
    slot: &'a Slot,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let is_kept = self.slot.try_lock().map_or(true, |state| matches!(*state, State::Read(_)));
        if !is_kept {
            remove(self.slots, self.key, self.slot);
        }
    }
}

/// Not another one with the same key.
fn remove(slots: &Mutex<HashMap<SecretRef, Slot>>, key: &SecretRef, slot: &Slot) {
    let mut slots = lock(slots);
    if slots.get(key).is_some_and(|current| Arc::ptr_eq(current, slot)) {
        slots.remove(key);
    }
}

async fn read(secrets: &Api<Secret>, name: &str) -> Result<Option<Arc<SharedSecret>>, ApiError> {
    Ok(with_timeout(secrets.get_opt(name)).await?.map(|secret| Arc::new(SharedSecret(secret))))
}
