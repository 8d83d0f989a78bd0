//! What the parts of the operator share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::{OnceCell, watch};

use crate::cache::{Named, Notes, Targets};
use crate::gate::Gate;
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::oauth;
use crate::revocation::Revocations;
use crate::watches::{Request, Watched};

/// What every look at an integration may use.
pub struct Context {
    /// For the API server.
    pub client: Client,
    /// For token endpoints.
    pub http: oauth::Client,
    /// The audiences of the API server's own tokens, once they were asked for.
    pub api_audiences: OnceCell<Vec<String>>,
    /// The tokens that are given back.
    pub revocations: Revocations,
    /// The Secrets that the operator has written.
    pub targets: Targets,
    /// The Secrets that integrations name.
    pub named: Named,
    /// A note for each integration.
    pub notes: Notes,
    /// Who publishes events.
    pub reporter: Reporter,
    /// Counts.
    pub metrics: Metrics,
    /// Which watches have had their first list.
    pub synced: Synced,
    /// Whether this process may act.
    pub leadership: Arc<Leadership>,
    /// Who may ask a token endpoint now.
    pub gate: Arc<Gate>,
    /// Asks for looks.
    pub nudges: Arc<Nudges>,
    /// The integrations that are watched.
    pub integrations: Arc<Integrations>,
}

impl Context {
    /// Publishes events. One recorder for all would keep each event for some minutes, to count the same one again: that is
    /// 4 KB for each integration, and the same event comes once only.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.client.clone(), self.reporter.clone())
    }
}

/// The integrations that are watched, for those who report on all of them.
#[derive(Default)]
pub struct Integrations {
    stores: OnceLock<Vec<Store<Watched>>>,
}

impl Integrations {
    /// Sets the stores of the watches, once.
    pub fn set(&self, stores: Vec<Store<Watched>>) {
        // A second time there is nothing new to tell.
        let _ = self.stores.set(stores);
    }

    /// All of them, also those that could not be understood.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.stores.get().into_iter().flatten().flat_map(Store::state).collect()
    }
}

impl std::fmt::Debug for Integrations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Integrations").finish_non_exhaustive()
    }
}

/// Which watches have had their first list.
#[derive(Debug)]
pub struct Synced {
    missing: watch::Sender<Vec<String>>,
}

impl Synced {
    /// All that are to be waited for, by name.
    #[must_use]
    pub fn new(all: Vec<String>) -> Self {
        Self { missing: watch::Sender::new(all) }
    }

    /// A watch has had its first list.
    pub fn done(&self, name: &str) {
        self.missing.send_if_modified(|missing| {
            let before = missing.len();
            missing.retain(|known| known != name);
            missing.len() != before
        });
    }

    /// The watches that have not.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.borrow().clone()
    }

    /// Waits for one of them.
    pub async fn until_done(&self, name: &str) {
        self.until(|missing| missing.iter().all(|known| known != name)).await;
    }

    /// Waits for all of them.
    pub async fn until_all_done(&self) {
        self.until(<[String]>::is_empty).await;
    }

    async fn until(&self, enough: impl Fn(&[String]) -> bool) {
        // An error says that the sender is gone, and with it this very value.
        let _ = self.missing.subscribe().wait_for(|missing| enough(missing)).await;
    }
}

/// Asks for looks at integrations for reasons that no watch shows.
#[derive(Debug, Default)]
pub struct Nudges {
    scopes: Mutex<Vec<(Option<String>, UnboundedSender<Request>)>>,
}

impl Nudges {
    /// The looks that are asked for in a namespace (in all, without one).
    #[must_use]
    pub fn subscribe(&self, scope: Option<&str>) -> UnboundedReceiver<Request> {
        let (sender, receiver) = mpsc::unbounded();
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).push((scope.map(ToOwned::to_owned), sender));
        receiver
    }

    /// Asks for a look at one integration.
    pub fn one(&self, namespace: &str, name: &str) {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, sender) in scopes.iter().filter(|(scope, _)| scope.as_ref().is_none_or(|scope| scope == namespace)) {
            // A receiver that is gone belongs to a process that ends.
            let _ = sender.unbounded_send(Request::from(ObjectRef::<Watched>::new(name).within(namespace)));
        }
    }

    /// Asks for a look at all of them.
    pub fn all(&self, integrations: &Integrations) {
        for watched in integrations.all() {
            self.one(&watched.namespace().unwrap_or_default(), &watched.name_any());
        }
    }
}
