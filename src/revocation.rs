//! Gives tokens back that are not used any more (RFC 7009).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::error::Failure;
use crate::metrics::RevocationCounter;
use crate::oauth::{Ask, Client, Credentials, Revocation};

/// How many tokens are given back at once. Nobody waits for it, so it takes little from those who renew.
const AT_ONCE: usize = 4;
/// How many deletions wait for their endpoints at once: fewer than there are looks, which the others need to renew.
const DELETIONS_AT_ONCE: usize = 32;

/// What is given back, and how.
#[derive(Clone, Debug)]
pub struct GiveBack {
    /// The integration, for the log.
    pub integration: String,
    /// How the client shows who it is.
    pub ask: Ask,
    /// With what.
    pub credentials: Arc<Credentials>,
    /// The token.
    pub revocation: Revocation,
}

/// Gives tokens back, now or later. Clones share the places.
#[derive(Clone, Debug)]
pub struct Revocations {
    http: Client,
    places: Arc<Semaphore>,
    deletions: Arc<Semaphore>,
    counter: RevocationCounter,
}

impl Revocations {
    /// By this client, counted here.
    #[must_use]
    pub fn new(http: Client, counter: RevocationCounter) -> Self {
        let [places, deletions] = [AT_ONCE, DELETIONS_AT_ONCE].map(|most| Arc::new(Semaphore::new(most)));
        Self { http, places, deletions, counter }
    }

    /// A place for giving back all that a deleted integration has; `None` where as many as may be are at it.
    #[must_use]
    pub fn place_for_deletion(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.deletions).try_acquire_owned().ok()
    }

    /// Gives a token back.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that holds nothing secret.
    pub async fn now(&self, deed: &GiveBack) -> Result<(), Failure> {
        let GiveBack { integration: _, ask, credentials, revocation } = deed;
        let outcome = self.http.revoke(ask, credentials, revocation).await;
        self.counter.count(outcome.as_ref().err());
        outcome
    }

    /// Gives a token back after a while. What waits is gone with this process; the token then ends by itself.
    pub fn later(&self, after: Duration, deed: GiveBack) {
        let own = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // An error says that nobody gives out places any more, which nobody does.
            let _place = own.places.acquire().await;
            match own.now(&deed).await {
                Ok(()) => debug!(integration = deed.integration, "gave the former token back"),
                Err(failure) => warn!(
                    integration = deed.integration,
                    reason = %failure.reason,
                    "failed to give the former token back: {}",
                    failure.message
                ),
            }
        });
    }
}
