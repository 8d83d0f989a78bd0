//! The state of the limiter: permits, queues and circuits. Pure: the time is an argument.

#![deny(clippy::disallowed_methods)]

pub(crate) mod admission;
pub(crate) mod queues;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::limiter::host::{Host, QueueKey};
use crate::limiter::parked::Parked;
use crate::limiter::share::Shares;
use crate::limiter::types::{Delay, HostKey, HostOutcome, LimiterStats, Limits, Waiter};

/// How long a permit is reserved for a waiter that was woken.
const RESERVATION_TTL: Duration = Duration::from_secs(10);
/// The maximum number of hosts at which the integrations of one namespace are queued; it bounds the work per request.
/// The other integrations are parked outside of the queues.
const MAX_HOSTS_PER_NAMESPACE: usize = 64;
/// The number of hosts that are kept before the first cleanup of those without relevant state.
const FIRST_SWEEP: usize = 64;

/// All permits, queues and circuits. The size of the state is bounded by the number of integrations: each waits at no
/// more than one host, counts as failed at no more than one host, and is dropped by [`LimiterState::forget`].
#[derive(Debug)]
pub struct LimiterState {
    limits: Limits,
    permits: Shares,
    hosts: HashMap<Arc<HostKey>, Host>,
    /// Namespaces with queued integrations.
    waiting: HashMap<String, Waiting>,
    /// The queue of each queued integration, by uid.
    queued: HashMap<String, Queued>,
    /// Integrations outside of the queues.
    parked: Parked,
    /// Integrations for which a permit is reserved, by uid.
    reserved: HashMap<String, Reservation>,
    /// Integrations with a request in flight.
    in_flight: HashSet<String>,
    /// The number of requests in flight of each namespace to each origin, regardless of the connection settings.
    to_origin: HashMap<String, HashMap<String, usize>>,
    /// The host at which each integration has failed last.
    failed_at: HashMap<String, Arc<HostKey>>,
    /// Integrations that have failed at a host that has since recovered.
    recovered: HashSet<String>,
    /// Counts arrivals and admissions, to order both.
    next_sequence: u64,
    next_sweep: usize,
}

/// A namespace with queued integrations.
#[derive(Debug)]
struct Waiting {
    /// The round in which it received its last permit; the least recently served namespace is next.
    last_served: u64,
    /// The number of queued integrations at each host.
    hosts: HashMap<Arc<HostKey>, usize>,
}

#[derive(Debug)]
struct Queued {
    host: Arc<HostKey>,
    namespace: String,
    key: QueueKey,
}

#[derive(Debug)]
struct Reservation {
    host: Arc<HostKey>,
    namespace: String,
    since: Instant,
}

/// The response to a request for a permit.
#[derive(Debug)]
pub struct Acquired {
    /// Whether there is a permit.
    pub decision: Decision,
    /// Other waiters for which a permit is now reserved; they must be woken.
    pub woken: Vec<Waiter>,
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be sent now.
    Granted,
    /// The waiter is queued, and woken when there is a permit for it.
    Queued(Delay),
}

impl LimiterState {
    /// The initial state: all permits are free.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            permits: Shares::new(limits.total, limits.several_namespaces),
            hosts: HashMap::new(),
            waiting: HashMap::new(),
            queued: HashMap::new(),
            parked: Parked::default(),
            reserved: HashMap::new(),
            in_flight: HashSet::new(),
            to_origin: HashMap::new(),
            failed_at: HashMap::new(),
            recovered: HashSet::new(),
            next_sequence: 0,
            next_sweep: FIRST_SWEEP,
        }
    }

    /// Requests a permit; `expires` is the expiry of the token to renew.
    pub fn acquire(&mut self, waiter: &Waiter, host: &HostKey, expires: Timestamp, now: Instant) -> Acquired {
        self.recovered.remove(&waiter.uid);
        if self.take_reservation(waiter, host) {
            return Acquired { decision: Decision::Granted, woken: vec![] };
        }
        self.enqueue(waiter, host, expires);
        let (own, others): (Vec<_>, Vec<_>) =
            self.admit(now).into_iter().partition(|(admitted, _)| admitted.uid == waiter.uid);
        let woken = self.reserve(others, now);
        let decision = if !own.is_empty() {
            self.in_flight.insert(waiter.uid.clone());
            Decision::Granted
        } else if self.is_queued_at_too_many_hosts(&waiter.namespace) {
            self.dequeue(&waiter.uid);
            self.evict_if_idle(host, now);
            self.parked.park(waiter, now);
            Decision::Queued(Delay::LimitReached)
        } else {
            Decision::Queued(self.hosts.get(host).map_or(Delay::LimitReached, |host| host.delay(&waiter.namespace)))
        };
        Acquired { decision, woken }
    }

    /// Uses the permit that is reserved for a waiter, if it is for this host.
    fn take_reservation(&mut self, waiter: &Waiter, host: &HostKey) -> bool {
        let Some(reservation) = self.reserved.remove(&waiter.uid) else { return false };
        let is_for_host = *reservation.host == *host;
        if is_for_host {
            self.in_flight.insert(waiter.uid.clone());
        } else {
            self.release(&reservation.host, &reservation.namespace);
        }
        is_for_host
    }

    fn is_queued_at_too_many_hosts(&self, namespace: &str) -> bool {
        self.waiting.get(namespace).is_some_and(|waiting| waiting.hosts.len() > MAX_HOSTS_PER_NAMESPACE)
    }

    /// Records that an integration no longer wants to send a request. Returns the waiters to wake instead.
    pub fn cancel(&mut self, uid: &str, now: Instant) -> Vec<Waiter> {
        self.recovered.remove(uid);
        self.dequeue(uid);
        let Some(Reservation { host, namespace, since: _ }) = self.reserved.remove(uid) else { return vec![] };
        self.release(&host, &namespace);
        let woken = self.admit_waiting(now);
        self.evict_if_idle(&host, now);
        woken
    }

    /// Drops all state of a deleted integration. Returns the waiters to wake instead.
    pub fn forget(&mut self, uid: &str, namespace: &str, now: Instant) -> Vec<Waiter> {
        self.in_flight.remove(uid);
        let woken = self.cancel(uid, now);
        self.forget_failure(uid, namespace, now);
        woken
    }

    /// Completes a request; without an outcome, the state of the host is not affected. Returns the waiters to wake.
    pub fn complete(
        &mut self,
        host: &HostKey,
        waiter: &Waiter,
        outcome: Option<HostOutcome>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Waiter> {
        self.release(host, &waiter.namespace);
        // A failure of a deleted integration is not recorded.
        let known = self.in_flight.remove(&waiter.uid);
        let mut woken = match outcome {
            Some(HostOutcome::Responded) => self.record_response(host, &waiter.namespace, now),
            Some(HostOutcome::Failed { retry_after }) if known => {
                self.record_failure(host, waiter, retry_after, now, wall);
                vec![]
            }
            Some(HostOutcome::Failed { .. }) | None => {
                self.probe_again(host, &waiter.namespace, now);
                vec![]
            }
        };
        woken.extend(self.admit_waiting(now));
        self.evict_if_idle(host, now);
        woken
    }

    /// Applies the changes that are due at this time. Returns the waiters to wake, and when to call this again.
    pub fn tick(&mut self, now: Instant) -> (Vec<Waiter>, Option<Instant>) {
        self.expire_reservations(now);
        let mut woken = self.admit_waiting(now);
        woken.extend(self.parked.retry(now));
        (woken, self.next_deadline(now))
    }

    /// Whether anyone is queued, or was woken and has not requested a permit yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queued.is_empty() || !self.parked.is_empty() || !self.reserved.is_empty()
    }

    /// Whether an integration is queued, or was woken and has not requested a permit yet.
    #[must_use]
    pub fn is_waiting(&self, uid: &str) -> bool {
        self.queued.contains_key(uid) || self.parked.contains(uid) || self.reserved.contains_key(uid)
    }

    /// Whether the host at which this integration failed has recovered: its circuit was open, and it has responded
    /// since.
    #[must_use]
    pub fn has_recovered(&self, uid: &str) -> bool {
        self.recovered.contains(uid)
    }

    /// The state as numbers. A host is named only if its circuit is open for all: a name chosen by one tenant, and
    /// the errors of that tenant's proxy, are not relevant to others.
    #[must_use]
    pub fn stats(&self) -> LimiterStats {
        let has_one_namespace = !self.limits.several_namespaces;
        let fails = |host: &Host| host.fails_for_everyone() || (has_one_namespace && host.namespace_circuits() > 0);
        let failing = self.hosts.iter().filter(|(_, host)| fails(host)).map(|(key, _)| key.origin().to_owned());
        let mut failing_hosts: Vec<String> = failing.collect();
        failing_hosts.sort();
        failing_hosts.dedup();
        failing_hosts.truncate(LimiterStats::MAX_HOSTS);
        let namespace_circuits = self.hosts.values().filter(|host| !fails(host)).map(Host::namespace_circuits).sum();
        LimiterStats {
            in_flight: self.permits.in_use(),
            queued: self.queued.len() + self.parked.len(),
            failing_hosts,
            namespace_circuits,
        }
    }

    /// The number of hosts that are kept.
    #[must_use]
    pub fn remembered_hosts(&self) -> usize {
        self.hosts.len()
    }

    fn release(&mut self, host: &HostKey, namespace: &str) {
        self.permits.release(namespace);
        if let Some(host) = self.hosts.get_mut(host) {
            host.permits.release(namespace);
        }
        let Some(origins) = self.to_origin.get_mut(namespace) else { return };
        if let Some(count) = origins.get_mut(host.origin()) {
            *count -= 1;
            if *count == 0 {
                origins.remove(host.origin());
            }
        }
        if origins.is_empty() {
            self.to_origin.remove(namespace);
        }
    }

    /// Records a response. If the host has recovered, the waiters that had failed may retry immediately, paced.
    fn record_response(&mut self, host: &HostKey, namespace: &str, now: Instant) -> Vec<Waiter> {
        let Some(host) = self.hosts.get_mut(host) else { return vec![] };
        let recovered = host.record_response(namespace, now);
        for waiter in &recovered {
            self.failed_at.remove(&waiter.uid);
            self.recovered.insert(waiter.uid.clone());
        }
        recovered
    }

    fn record_failure(
        &mut self,
        host: &HostKey,
        waiter: &Waiter,
        retry_after: Option<Duration>,
        now: Instant,
        wall: Timestamp,
    ) {
        // An integration counts at one host only: its spec may name another host each time.
        if self.failed_at.get(&waiter.uid).is_some_and(|other| **other != *host) {
            self.forget_failure(&waiter.uid, &waiter.namespace, now);
        }
        let name = self.name(host);
        self.failed_at.insert(waiter.uid.clone(), name);
        let round = self.next_sequence;
        if let Some(host) = self.hosts.get_mut(host) {
            host.record_failure(waiter, retry_after, round, now, wall);
        }
    }

    fn forget_failure(&mut self, uid: &str, namespace: &str, now: Instant) {
        let Some(name) = self.failed_at.remove(uid) else { return };
        if let Some(host) = self.hosts.get_mut(&name) {
            host.forget_failure(namespace, uid);
        }
        self.evict_if_idle(&name, now);
    }

    fn probe_again(&mut self, host: &HostKey, namespace: &str, now: Instant) {
        if let Some(host) = self.hosts.get_mut(host) {
            host.probe_again(namespace, now);
        }
    }

    fn evict_if_idle(&mut self, name: &HostKey, now: Instant) {
        if self.hosts.get_mut(name).is_some_and(|host| host.tidy(now)) {
            self.hosts.remove(name);
        }
        // This finds hosts whose requests were still paced when the last one completed; the cost is linear in the
        // number of hosts.
        if self.hosts.len() >= self.next_sweep {
            self.hosts.retain(|_, host| !host.tidy(now));
            self.next_sweep = FIRST_SWEEP.max(2 * self.hosts.len());
        }
    }
}
