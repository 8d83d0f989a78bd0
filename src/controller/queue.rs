//! Reconcile requests, and triggers of reconciliations other than watches.

use std::sync::{Mutex, PoisonError};

use futures::channel::mpsc;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;

use crate::api::spec::OAuthIntegration;

/// A watched integration: one that cannot be parsed does not stop the watch of the others.
pub type GuardedIntegration = DeserializeGuard<OAuthIntegration>;
/// A request for a reconciliation of an integration.
pub type Request = ReconcileRequest<GuardedIntegration>;

/// Triggers reconciliations for reasons that no watch reports.
#[derive(Debug, Default)]
pub struct ReconcileTriggers {
    scopes: Mutex<Vec<(Option<String>, UnboundedSender<Request>)>>,
}

impl ReconcileTriggers {
    /// The reconcile requests of a namespace; `None`: of all namespaces.
    #[must_use]
    pub fn subscribe(&self, scope: Option<&str>) -> UnboundedReceiver<Request> {
        let (sender, receiver) = mpsc::unbounded();
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).push((scope.map(ToOwned::to_owned), sender));
        receiver
    }

    /// Triggers the reconciliation of one integration.
    pub fn one(&self, namespace: &str, name: &str) {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, sender) in scopes.iter().filter(|(scope, _)| scope.as_ref().is_none_or(|scope| scope == namespace)) {
            // The receiver is dropped only during shutdown.
            let _ = sender.unbounded_send(Request::from(ObjectRef::<GuardedIntegration>::new(name).within(namespace)));
        }
    }
}
