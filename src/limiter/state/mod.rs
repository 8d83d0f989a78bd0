//! The limiter as data: who holds a permit, who waits, and which circuits are open. The time is passed in.

#![deny(clippy::disallowed_methods)]

pub(crate) mod admission;

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
/// The maximum number of hosts at which the integrations of one namespace are queued; it bounds the work for each request. The
/// others are parked behind the queues.
const MAX_HOSTS_PER_NAMESPACE: usize = 64;
/// The number of hosts that are kept before the first cleanup of those without relevant state.
const FIRST_SWEEP: usize = 64;

/// All permits, queues and circuits. The size of the state is bounded by the number of integrations: each waits at one host at
/// most, has failed at one host at most, and is dropped with [`LimiterState::forget`].
#[derive(Debug)]
pub struct LimiterState {
    limits: Limits,
    permits: Shares,
    hosts: HashMap<Arc<HostKey>, Host>,
    /// Namespaces with queued integrations.
    waiting: HashMap<String, Waiting>,
    /// Where each integration is queued.
    queued: HashMap<String, Queued>,
    /// Integrations behind the queues.
    parked: Parked,
    /// For whom a permit is reserved.
    reserved: HashMap<String, Reservation>,
    /// Integrations with a request in flight.
    in_flight: HashSet<String>,
    /// Requests of a namespace in flight to an origin, whatever the connection settings.
    to_origin: HashMap<String, HashMap<String, usize>>,
    /// Where an integration has failed last.
    failed_at: HashMap<String, Arc<HostKey>>,
    /// Who has failed at a host that has recovered since.
    recovered: HashSet<String>,
    /// Counts arrivals and admissions, to order both.
    next_sequence: u64,
    next_sweep: usize,
}

/// A namespace with queued integrations.
#[derive(Debug)]
struct Waiting {
    /// The round in which it got its last permit: the one served longest ago is next.
    last_served: u64,
    /// How many are queued at each host.
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
    /// Whether there is one.
    pub decision: Decision,
    /// Other waiters that have a permit reserved now, to be woken.
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
    /// All permits free.
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

    /// Uses the permit that is reserved for a waiter, if it is one for this host.
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

    /// An integration no longer wants to send a request. Returns who is woken instead.
    pub fn cancel(&mut self, uid: &str, now: Instant) -> Vec<Waiter> {
        self.recovered.remove(uid);
        self.dequeue(uid);
        let Some(Reservation { host, namespace, since: _ }) = self.reserved.remove(uid) else { return vec![] };
        self.release(&host, &namespace);
        let woken = self.admit_waiting(now);
        self.evict_if_idle(&host, now);
        woken
    }

    /// An integration was deleted; everything known about it is dropped. Returns who is woken instead.
    pub fn forget(&mut self, uid: &str, namespace: &str, now: Instant) -> Vec<Waiter> {
        self.in_flight.remove(uid);
        let woken = self.cancel(uid, now);
        self.forget_failure(uid, namespace, now);
        woken
    }

    /// A request is complete; without an outcome it says nothing about the host. Returns who is woken.
    pub fn complete(
        &mut self,
        host: &HostKey,
        waiter: &Waiter,
        outcome: Option<HostOutcome>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Waiter> {
        self.release(host, &waiter.namespace);
        // A deleted integration leaves no state behind.
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

    /// What has changed by time alone: who is woken, and when to call this again.
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

    /// Whether the host at which this integration failed has responded since, after its circuit had been open.
    #[must_use]
    pub fn has_recovered(&self, uid: &str) -> bool {
        self.recovered.contains(uid)
    }

    /// The state as numbers. A host is named only if its circuit is open for all: a name chosen by one tenant, and the errors
    /// of its own proxy, are of no relevance to others.
    #[must_use]
    pub fn stats(&self) -> LimiterStats {
        let without_election = !self.limits.several_namespaces;
        let fails = |host: &Host| host.fails_for_everyone() || (without_election && host.namespace_circuits() > 0);
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

    fn enqueue(&mut self, waiter: &Waiter, host: &HostKey, expires: Timestamp) {
        self.dequeue(&waiter.uid);
        let round = self.next_sequence;
        self.next_sequence += 1;
        let key = (expires, self.next_sequence);
        let name = self.name(host);
        if let Some(host) = self.hosts.get_mut(&name) {
            host.enqueue(key, waiter.clone(), round);
        }
        let namespace = waiter.namespace.clone();
        let waiting = self.waiting.entry(namespace.clone());
        // A new namespace is served after those that are already waiting.
        let waiting = waiting.or_insert_with(|| Waiting { last_served: round, hosts: HashMap::new() });
        *waiting.hosts.entry(Arc::clone(&name)).or_default() += 1;
        self.queued.insert(waiter.uid.clone(), Queued { host: name, namespace, key });
    }

    /// The key of a host, from now on.
    fn name(&mut self, host: &HostKey) -> Arc<HostKey> {
        if let Some((name, _)) = self.hosts.get_key_value(host) {
            return Arc::clone(name);
        }
        let name = Arc::new(host.clone());
        // Only one namespace can wait there if the settings are private to it.
        let several = self.limits.several_namespaces && host.is_shared();
        self.hosts.insert(Arc::clone(&name), Host::new(self.limits.per_host, several));
        name
    }

    fn dequeue(&mut self, uid: &str) {
        self.parked.unpark(uid);
        let Some(Queued { host, namespace, key }) = self.queued.remove(uid) else { return };
        if let Some(host) = self.hosts.get_mut(&host) {
            host.dequeue(&namespace, key);
        }
        self.leave_queue(&host, &namespace);
    }

    fn leave_queue(&mut self, host: &HostKey, namespace: &str) {
        let Some(waiting) = self.waiting.get_mut(namespace) else { return };
        if let Some(count) = waiting.hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                waiting.hosts.remove(host);
            }
        }
        if waiting.hosts.is_empty() {
            self.waiting.remove(namespace);
        }
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

    /// A host has recovered: those who failed may retry at once, one after the other.
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
        // A host whose requests were still paced when the last one completed is found here; the cost grows no faster than the number
        // of hosts.
        if self.hosts.len() >= self.next_sweep {
            self.hosts.retain(|_, host| !host.tidy(now));
            self.next_sweep = FIRST_SWEEP.max(2 * self.hosts.len());
        }
    }
}
