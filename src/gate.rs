//! Who may ask a token endpoint now, and who waits.
//!
//! A limit for each host keeps a slow endpoint from being overrun and from holding up all others; a limit for all bounds the
//! whole. Of those who wait for a host the one whose token ends first goes first, and hosts with less under way come before
//! hosts with more. A host that fails for everyone is asked by one at a time until it answers again; what has waited then is
//! spread out rather than sent at once.
//!
//! Nobody blocks here: who cannot go now is noted, and called when there is a place. The place is kept until the call is
//! followed, so nobody who comes by chance gets in before.

mod host;
mod places;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::Notify;

pub use places::{Caller, Closed, Limits, Picture, Places, Verdict};

/// Whether one may go.
#[derive(Debug)]
pub enum Turn {
    /// Now.
    Now(Permit),
    /// When called.
    Later(Closed),
}

/// Looks at an integration again.
pub type Call = Box<dyn Fn(&Caller) + Send + Sync>;

/// The gate before all token endpoints.
pub struct Gate {
    places: Mutex<Places>,
    /// The earliest moment at which something happens by itself may have changed.
    changed: Notify,
    call: Call,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("picture", &self.picture()).finish_non_exhaustive()
    }
}

/// The right to send one request. Dropped without a verdict: nothing was learned of the host.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    host: String,
    caller: Caller,
    ended: bool,
}

impl Permit {
    /// The request is over.
    pub fn end(mut self, verdict: Verdict) {
        self.ended = true;
        self.gate.end(&self.host, &self.caller, Some(verdict));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.ended {
            self.gate.end(&self.host, &self.caller, None);
        }
    }
}

impl Gate {
    /// An empty one. `call` is told who has a place.
    #[must_use]
    pub fn new(limits: Limits, call: Call) -> Self {
        Self { places: Mutex::new(Places::new(limits)), changed: Notify::new(), call }
    }

    /// Asks for a place. `ends` is when the token ends that is to be renewed; now, where there is none.
    pub fn ask(self: &Arc<Self>, caller: &Caller, host: &str, ends: Timestamp) -> Turn {
        let (closed, called) = self.places().ask(caller, host, ends, Instant::now());
        self.tell(&called);
        match closed {
            None => {
                let (gate, host, caller) = (Arc::clone(self), host.to_owned(), caller.clone());
                Turn::Now(Permit { gate, host, caller, ended: false })
            }
            Some(closed) => {
                self.changed.notify_one();
                Turn::Later(closed)
            }
        }
    }

    /// One does not want to ask any more.
    pub fn leave(&self, uid: &str) {
        let called = self.places().leave(uid, Instant::now());
        self.tell(&called);
    }

    /// Whether the host at which this one failed has answered since, after it had failed for all.
    #[must_use]
    pub fn is_back(&self, uid: &str) -> bool {
        self.places().is_back(uid)
    }

    fn end(&self, host: &str, caller: &Caller, verdict: Option<Verdict>) {
        let mut places = self.places();
        let called = places.end(host, caller, verdict, Instant::now(), Timestamp::now());
        let busy = places.is_busy();
        drop(places);
        self.tell(&called);
        if busy {
            self.changed.notify_one();
        }
    }

    /// Calls those whose time comes by itself: probes, those who are spread out, and the next where a call was not followed.
    pub async fn run(&self) {
        loop {
            let (called, next) = self.places().tick(Instant::now());
            self.tell(&called);
            match next {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next.into(), self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// How many requests are under way, how many wait, and which hosts fail for all.
    #[must_use]
    pub fn picture(&self) -> Picture {
        self.places().picture()
    }

    fn tell(&self, called: &[Caller]) {
        for caller in called {
            (self.call)(caller);
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
