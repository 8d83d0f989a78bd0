//! Gives tokens back that are not used any more (RFC 7009).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::error::Failure;
use crate::metrics::RevocationCounter;
use crate::oauth::{Ask, Client, Credentials, Revocation};

/// How many tokens are given back at once. Nobody waits for it, so it takes little from those who renew.
const AT_ONCE: usize = 4;

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

/// Gives tokens back, now or later.
#[derive(Debug)]
pub struct Revocations {
    http: Client,
    places: Arc<Semaphore>,
    counter: RevocationCounter,
}

impl Revocations {
    /// By this client, counted here.
    #[must_use]
    pub fn new(http: Client, counter: RevocationCounter) -> Self {
        Self { http, places: Arc::new(Semaphore::new(AT_ONCE)), counter }
    }

    /// Gives a token back.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that holds nothing secret.
    pub async fn now(&self, deed: &GiveBack) -> Result<(), Failure> {
        let GiveBack { integration: _, ask, credentials, revocation } = deed;
        // A proof is for token requests; a revocation endpoint knows the client by itself.
        let ask = Ask { dpop: false, ..ask.clone() };
        let outcome = self.http.revoke(&ask, credentials, revocation).await;
        self.counter.count(outcome.as_ref().err());
        outcome
    }

    /// Gives a token back after a while. What waits is gone with this process; the token then ends by itself.
    pub fn later(&self, after: Duration, deed: GiveBack) {
        let own = Self { http: self.http.clone(), places: Arc::clone(&self.places), counter: self.counter.clone() };
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
