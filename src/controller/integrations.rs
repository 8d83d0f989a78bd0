//! The stores of integrations, one per watched scope.

use std::sync::{Arc, OnceLock};

use kube::runtime::reflector::{ObjectRef, Store};

use crate::controller::queue::GuardedIntegration;

/// The watched integrations, for reports about all of them.
#[derive(Default)]
pub struct IntegrationStores {
    stores: OnceLock<Vec<Store<GuardedIntegration>>>,
}

impl IntegrationStores {
    /// Sets the stores of the watches, once.
    pub fn set(&self, stores: Vec<Store<GuardedIntegration>>) {
        // A second call has no effect.
        let _ = self.stores.set(stores);
    }

    /// An integration, unless it does not exist, is not watched, or could not be parsed.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<GuardedIntegration>> {
        let reference = ObjectRef::new(name).within(namespace);
        self.stores.get()?.iter().find_map(|store| store.get(&reference)).filter(|found| found.0.is_ok())
    }

    /// All of them, including those that could not be parsed.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<GuardedIntegration>> {
        self.stores.get().into_iter().flatten().flat_map(Store::state).collect()
    }
}

impl std::fmt::Debug for IntegrationStores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntegrationStores").finish_non_exhaustive()
    }
}
