//! One host of token endpoints: who asks it, who waits for it, and whether it fails.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::places::{Caller, Limits};

/// So many different integrations have to fail, and none to succeed between, before a host counts as failing for all.
const FAILED_FOR_ALL: usize = 3;
/// The order of a queue: by the end of the token, then by arrival.
pub(super) type Key = (Timestamp, u64);

#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) under_way: usize,
    pub(super) queue: BTreeMap<Key, Caller>,
    pub(super) trouble: Option<Trouble>,
    pub(super) pace: Option<Pace>,
}

/// Failures without a success between.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) since_wall: Timestamp,
    pub(super) failed: HashMap<String, Caller>,
    pub(super) next_probe: Instant,
}

/// The distance of requests to a host that is back.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) distance: Duration,
    pub(super) next: Instant,
    pub(super) until: Instant,
}

impl Trouble {
    pub(super) fn is_for_all(&self) -> bool {
        self.failed.len() >= FAILED_FOR_ALL
    }
}

impl Host {
    /// When the next one may go, as far as the host itself is concerned; `None` where one that is under way has to come
    /// back first.
    pub(super) fn opens(&self, limits: Limits, now: Instant) -> Option<Instant> {
        match (&self.trouble, &self.pace) {
            (Some(trouble), _) if trouble.is_for_all() => (self.under_way == 0).then_some(trouble.next_probe),
            _ if self.under_way >= limits.per_host => None,
            (_, Some(pace)) => Some(pace.next),
            (_, None) => Some(now),
        }
    }

    /// Takes the next one out of the queue. A host that fails for all is probed by one that has not failed yet, where there
    /// is one: that the others fail may be their own fault.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, Caller)> {
        if let Some(pace) = &mut self.pace {
            pace.next = now.max(pace.next) + pace.distance;
        }
        let untried = self.trouble.as_ref().filter(|trouble| trouble.is_for_all()).and_then(|trouble| {
            self.queue.iter().find(|(_, caller)| !trouble.failed.contains_key(&caller.uid)).map(|(key, _)| *key)
        });
        let key = untried.or_else(|| self.queue.keys().next().copied())?;
        self.queue.remove(&key).map(|caller| (key, caller))
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.under_way == 0
            && self.queue.is_empty()
            && self.trouble.is_none()
            && self.pace.as_ref().is_none_or(|pace| pace.until <= now)
    }
}
