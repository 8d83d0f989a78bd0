//! Selects the next waiter, and reserves permits.

#![deny(clippy::disallowed_methods)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::limiter::host::{Host, QueueKey};
use crate::limiter::state::{LimiterState, RESERVATION_TTL, Reservation};
use crate::limiter::types::{HostKey, Waiter};

/// The next waiter, and its host.
struct Next {
    host: Arc<HostKey>,
    namespace: String,
    key: QueueKey,
}

impl LimiterState {
    /// Reserves a permit for each waiter that may proceed now, and returns these waiters, to be woken.
    pub(super) fn admit_waiting(&mut self, now: Instant) -> Vec<Waiter> {
        let admitted = self.admit(now);
        self.reserve(admitted, now)
    }

    pub(super) fn reserve(&mut self, admitted: Vec<(Waiter, Arc<HostKey>)>, now: Instant) -> Vec<Waiter> {
        let reserve = |(waiter, host): (Waiter, Arc<HostKey>)| {
            let reservation = Reservation { host, namespace: waiter.namespace.clone(), since: now };
            self.reserved.insert(waiter.uid.clone(), reservation);
            waiter
        };
        admitted.into_iter().map(reserve).collect()
    }

    /// Takes a permit for each waiter that may proceed now: it leaves the queue.
    pub(super) fn admit(&mut self, now: Instant) -> Vec<(Waiter, Arc<HostKey>)> {
        let mut admitted = vec![];
        while let Some(Next { host: name, namespace, key }) = self.pick(now) {
            self.next_sequence += 1;
            let round = self.next_sequence;
            if let Some(waiting) = self.waiting.get_mut(&namespace) {
                waiting.last_served = round;
            }
            let host = self.hosts.get_mut(&name);
            let Some(waiter) = host.and_then(|host| host.admit(&namespace, key, round, now)) else { break };
            self.permits.take(&namespace);
            let origins = self.to_origin.entry(namespace.clone()).or_default();
            *origins.entry(name.origin().to_owned()).or_default() += 1;
            self.queued.remove(&waiter.uid);
            self.leave_queue(&name, &namespace);
            admitted.push((waiter, name));
        }
        admitted
    }

    /// The next waiter. At each host, the least recently served namespace that may send a request now is the
    /// candidate. Of all candidates, the least recently served namespace is next; of its hosts, the one with the
    /// fewest requests of that namespace in flight; of those, the token that expires first.
    fn pick(&self, now: Instant) -> Option<Next> {
        let mut visited: HashSet<&Arc<HostKey>> = HashSet::new();
        let able = self.waiting.iter().filter(|(namespace, _)| self.permits.headroom(namespace) > 0);
        let hosts = able.flat_map(|(_, waiting)| waiting.hosts.keys()).filter(|name| visited.insert(*name));
        let candidates = hosts.filter_map(|name| {
            let host = self.hosts.get(name)?;
            let (namespace, key) = host.next_namespace(|other| self.may_enter(name, host, other, now))?;
            let served = self.waiting.get(namespace)?.last_served;
            Some(((served, host.permits.held_by(namespace), key), name, namespace))
        });
        let ((_, _, key), host, namespace) = candidates.min_by_key(|(rank, ..)| *rank)?;
        Some(Next { host: Arc::clone(host), namespace: namespace.to_owned(), key })
    }

    /// Whether a request of a namespace may go to a host now.
    fn may_enter(&self, name: &HostKey, host: &Host, namespace: &str, now: Instant) -> bool {
        self.has_room(name, host, namespace) && host.opens(namespace, now).is_some_and(|at| at <= now)
    }

    /// Whether there is a permit. The last quarter of a namespace's permits is reserved for hosts at which it holds
    /// none, so that a few slow hosts cannot use up all of them.
    fn has_room(&self, name: &HostKey, host: &Host, namespace: &str) -> bool {
        let headroom = self.permits.headroom(namespace);
        let scarce = headroom <= self.limits.total / 4;
        let to_origin = self.to_origin.get(namespace).and_then(|origins| origins.get(name.origin()));
        headroom > 0
            && !(scarce && host.permits.held_by(namespace) > 0)
            && to_origin.is_none_or(|count| *count < self.limits.per_host)
    }

    pub(super) fn expire_reservations(&mut self, now: Instant) {
        let is_late = |reservation: &Reservation| now.duration_since(reservation.since) >= RESERVATION_TTL;
        let late = self.reserved.iter().filter(|(_, reservation)| is_late(reservation)).map(|(uid, _)| uid.clone());
        for uid in late.collect::<Vec<_>>() {
            if let Some(Reservation { host, namespace, since: _ }) = self.reserved.remove(&uid) {
                self.release(&host, &namespace);
                self.probe_again(&host, &namespace, now);
            }
        }
    }

    /// The next time at which the state changes without a call.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let pairs = self
            .waiting
            .iter()
            .flat_map(|(namespace, waiting)| waiting.hosts.keys().map(move |name| (namespace, name)));
        let opens = pairs.filter_map(|(namespace, name)| {
            let host = self.hosts.get(name)?;
            host.opens(namespace, now).filter(|_| self.has_room(name, host, namespace))
        });
        let expires = self.reserved.values().map(|reservation| reservation.since + RESERVATION_TTL);
        opens.filter(|at| *at > now).chain(expires).chain(self.parked.next_retry()).min()
    }
}
