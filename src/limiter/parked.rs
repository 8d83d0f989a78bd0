//! Integrations of a namespace that is queued at too many hosts: they wait outside of the queues and try again in
//! turn.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::limiter::types::Waiter;

/// How many parked integrations of each namespace are woken at a time, to try again.
const RETRIES: usize = 32;
/// How often they are woken.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The parked integrations.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    /// The waiters of each namespace, in the order in which they try again.
    waiters: HashMap<String, BTreeMap<u64, Waiter>>,
    /// The namespace and the position of each waiter, by its uid.
    positions: HashMap<String, (String, u64)>,
    next_position: u64,
    /// When the next of them try again.
    next_retry: Option<Instant>,
}

impl Parked {
    pub(crate) fn park(&mut self, waiter: &Waiter, now: Instant) {
        self.next_position += 1;
        let position = self.next_position;
        self.waiters.entry(waiter.namespace.clone()).or_default().insert(position, waiter.clone());
        self.positions.insert(waiter.uid.clone(), (waiter.namespace.clone(), position));
        self.next_retry.get_or_insert(now + RETRY_INTERVAL);
    }

    pub(crate) fn unpark(&mut self, uid: &str) {
        let Some((namespace, position)) = self.positions.remove(uid) else { return };
        let Some(waiters) = self.waiters.get_mut(&namespace) else { return };
        waiters.remove(&position);
        if waiters.is_empty() {
            self.waiters.remove(&namespace);
        }
    }

    /// The integrations that try again now. They stay parked, last in order, until they request a permit.
    pub(crate) fn retry(&mut self, now: Instant) -> Vec<Waiter> {
        if self.next_retry.is_none_or(|next| next > now) {
            return vec![];
        }
        let next = self.waiters.values().flat_map(|waiters| waiters.values().take(RETRIES).cloned());
        let woken: Vec<Waiter> = next.collect();
        self.next_retry = None;
        for waiter in &woken {
            self.unpark(&waiter.uid);
            self.park(waiter, now);
        }
        woken
    }

    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.positions.contains_key(uid)
    }

    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// When the next of them try again.
    pub(crate) const fn next_retry(&self) -> Option<Instant> {
        self.next_retry
    }
}
