//! One host: its requests in flight, its queues, and its circuit breakers.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::limiter::share::Shares;
use crate::limiter::types::{CircuitScope, Delay, Waiter};

/// How many must fail, without any response in between, before a circuit opens: integrations for the circuit of their
/// namespace, namespaces for the circuit of all. For the latter, each namespace counts only once.
const FAILURES_TO_OPEN: usize = 3;
/// The interval of probes is the time since the first failure, divided by this number.
const PROBE_INTERVAL_DIVISOR: u32 = 20;
/// The minimum interval of probes.
const MIN_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum interval of probes.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// The maximum `Retry-After` that a circuit respects.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
/// Queued requests to a host that has recovered are spread over this time.
const RECOVERY_WINDOW: Duration = Duration::from_secs(8);
/// The maximum interval between two requests in that time.
const MAX_PACING_INTERVAL: Duration = Duration::from_millis(50);

/// The order within a queue: by the expiry of the token, then by arrival.
pub(crate) type QueueKey = (Timestamp, u64);

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) permits: Shares,
    pub(crate) namespaces: HashMap<String, Lane>,
    everyone: Option<Circuit>,
    pacing: Option<Pacing>,
}

/// The state of one namespace at a host.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: BTreeMap<QueueKey, Waiter>,
    /// The round in which it received its last permit here; the least recently served namespace is next.
    last_served: u64,
    circuit: Option<Circuit>,
    failed: HashMap<String, Waiter>,
    pacing: Option<Pacing>,
}

/// Failures without a response in between.
#[derive(Debug)]
struct Circuit {
    since: Instant,
    since_wall: Timestamp,
    /// The uids or namespaces that have failed, with the end of the pause that a response requested (`Retry-After`).
    failed: HashMap<String, Instant>,
    /// The end of the pause that the host requests, as far as it is respected.
    not_before: Instant,
    next_probe: Instant,
}

/// The pacing of requests to a host that has recovered.
#[derive(Debug)]
struct Pacing {
    interval: Duration,
    next: Instant,
    until: Instant,
}

impl Circuit {
    fn new(now: Instant, wall: Timestamp) -> Self {
        Self { since: now, since_wall: wall, failed: HashMap::new(), not_before: now, next_probe: now }
    }

    fn is_open(&self) -> bool {
        self.failed.len() >= FAILURES_TO_OPEN
    }

    fn interval(&self, now: Instant) -> Duration {
        let elapsed = now.duration_since(self.since);
        (elapsed / PROBE_INTERVAL_DIVISOR).clamp(MIN_PROBE_INTERVAL, MAX_PROBE_INTERVAL)
    }

    /// Records a failure. The circuit respects the longest pause that was requested from at least `quorum` of them.
    fn fail(&mut self, who: &str, retry_after: Option<Duration>, quorum: usize, now: Instant) {
        self.failed.insert(who.to_owned(), now + retry_after.unwrap_or_default().min(MAX_RETRY_AFTER));
        let mut requested: Vec<Instant> = self.failed.values().copied().collect();
        self.not_before = if requested.len() < quorum {
            now
        } else {
            *requested.select_nth_unstable_by(quorum - 1, |a, b| b.cmp(a)).1
        };
        self.next_probe = self.not_before.max(now + self.interval(now));
    }
}

impl Pacing {
    fn new(waited: usize, now: Instant) -> Self {
        let interval = RECOVERY_WINDOW / u32::try_from(waited.max(1)).unwrap_or(u32::MAX);
        Self { interval: interval.min(MAX_PACING_INTERVAL), next: now, until: now + RECOVERY_WINDOW }
    }

    fn advance(&mut self, now: Instant) {
        self.next = now.max(self.next) + self.interval;
    }
}

impl Lane {
    /// A new namespace is served after those that are already waiting.
    fn new(round: u64) -> Self {
        let (queue, failed) = (BTreeMap::new(), HashMap::new());
        Self { queue, last_served: round, circuit: None, failed, pacing: None }
    }

    fn open_circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref().filter(|circuit| circuit.is_open())
    }

    /// Clears the failures, and returns the waiters that had failed.
    fn close(&mut self) -> Vec<Waiter> {
        self.circuit = None;
        self.failed.drain().map(|(_, waiter)| waiter).collect()
    }

    /// The key of the next waiter. An open circuit is probed by a waiter that has not failed yet, if there is one:
    /// the failures of the others may have other causes than the host.
    fn first(&self) -> Option<QueueKey> {
        let untried = self.open_circuit().and_then(|circuit| {
            self.queue.iter().find(|(_, waiter)| !circuit.failed.contains_key(&waiter.uid)).map(|(key, _)| *key)
        });
        untried.or_else(|| self.queue.keys().next().copied())
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.queue.is_empty() && self.circuit.is_none() && self.pacing.as_ref().is_none_or(|pacing| pacing.until <= now)
    }
}

impl Host {
    pub(crate) fn new(per_host: usize, several_namespaces: bool) -> Self {
        let permits = Shares::new(per_host, several_namespaces);
        Self { permits, namespaces: HashMap::new(), everyone: None, pacing: None }
    }

    pub(crate) fn enqueue(&mut self, key: QueueKey, waiter: Waiter, round: u64) {
        let lane = self.namespaces.entry(waiter.namespace.clone()).or_insert_with(|| Lane::new(round));
        lane.queue.insert(key, waiter);
    }

    pub(crate) fn dequeue(&mut self, namespace: &str, key: QueueKey) {
        if let Some(lane) = self.namespaces.get_mut(namespace) {
            lane.queue.remove(&key);
        }
    }

    /// When the next request of a namespace may be sent; `None` if a request in flight must complete first.
    pub(crate) fn opens(&self, namespace: &str, now: Instant) -> Option<Instant> {
        if self.permits.headroom(namespace) == 0 {
            return None;
        }
        let lane = self.namespaces.get(namespace);
        let own = lane.and_then(Lane::open_circuit).map(|circuit| circuit.next_probe);
        let everyone = self.everyone.as_ref().filter(|circuit| circuit.is_open()).map(|circuit| circuit.next_probe);
        if let Some(probe) = own.max(everyone) {
            // Each namespace sends one probe at a time, without waiting for the probes of others.
            return (self.permits.held_by(namespace) == 0).then_some(probe);
        }
        let paced = [self.pacing.as_ref(), lane.and_then(|lane| lane.pacing.as_ref())];
        let paced = paced.into_iter().flatten().filter(|pacing| pacing.until > now);
        Some(paced.map(|pacing| pacing.next).max().unwrap_or(now))
    }

    /// The next namespace among those that `may_enter`: the least recently served one at this host.
    pub(crate) fn next_namespace(&self, may_enter: impl Fn(&str) -> bool) -> Option<(&str, QueueKey)> {
        let waiting = self.namespaces.iter().filter(|(name, lane)| !lane.queue.is_empty() && may_enter(name));
        let next = waiting.min_by_key(|(_, lane)| (lane.last_served, lane.queue.keys().next().copied()));
        next.and_then(|(name, lane)| Some((name.as_str(), lane.first()?)))
    }

    /// Takes a waiter from the queue and counts its request as in flight.
    pub(crate) fn admit(&mut self, namespace: &str, key: QueueKey, round: u64, now: Instant) -> Option<Waiter> {
        let lane = self.namespaces.get_mut(namespace)?;
        let waiter = lane.queue.remove(&key)?;
        lane.last_served = round;
        // The next probe, from any namespace, does not wait for the response to this one.
        for circuit in [&mut lane.circuit, &mut self.everyone].into_iter().flatten() {
            circuit.next_probe = now + circuit.interval(now);
        }
        for pacing in [&mut lane.pacing, &mut self.pacing].into_iter().flatten() {
            pacing.advance(now);
        }
        self.permits.take(namespace);
        Some(waiter)
    }

    /// A probe was inconclusive: the next one may be sent immediately.
    pub(crate) fn probe_again(&mut self, namespace: &str, now: Instant) {
        let own = self.namespaces.get_mut(namespace).and_then(|lane| lane.circuit.as_mut());
        for circuit in own.into_iter().chain(&mut self.everyone) {
            circuit.next_probe = circuit.next_probe.min(circuit.not_before.max(now));
        }
    }

    /// The host has responded to a request of a namespace. Returns the waiters that had failed, if the circuit was
    /// open.
    pub(crate) fn record_response(&mut self, namespace: &str, now: Instant) -> Vec<Waiter> {
        if self.everyone.take().is_some_and(|circuit| circuit.is_open()) {
            let recovered: Vec<Waiter> = self.namespaces.values_mut().flat_map(Lane::close).collect();
            let queued: usize = self.namespaces.values().map(|lane| lane.queue.len()).sum();
            self.pacing = Some(Pacing::new(queued + recovered.len(), now));
            return recovered;
        }
        let Some(lane) = self.namespaces.get_mut(namespace) else { return vec![] };
        let was_open = lane.open_circuit().is_some();
        let recovered = lane.close();
        if !was_open {
            return vec![];
        }
        lane.pacing = Some(Pacing::new(lane.queue.len() + recovered.len(), now));
        recovered
    }

    pub(crate) fn record_failure(
        &mut self,
        waiter: &Waiter,
        retry_after: Option<Duration>,
        round: u64,
        now: Instant,
        wall: Timestamp,
    ) {
        let Waiter { namespace, uid, name: _ } = waiter;
        let lane = self.namespaces.entry(namespace.clone()).or_insert_with(|| Lane::new(round));
        lane.failed.insert(uid.clone(), waiter.clone());
        lane.pacing = None;
        lane.circuit.get_or_insert_with(|| Circuit::new(now, wall)).fail(uid, retry_after, 1, now);
        // A `Retry-After` that only one namespace has received does not delay others.
        self.everyone.get_or_insert_with(|| Circuit::new(now, wall)).fail(namespace, retry_after, 2, now);
        if self.fails_for_everyone() {
            self.pacing = None;
        }
    }

    /// The integration was deleted, and its failure is dropped.
    pub(crate) fn forget_failure(&mut self, namespace: &str, uid: &str) {
        let Some(lane) = self.namespaces.get_mut(namespace) else { return };
        lane.failed.remove(uid);
        let without = |circuit: &mut Option<Circuit>, who: &str| {
            if let Some(open) = circuit {
                open.failed.remove(who);
            }
            circuit.take_if(|open| open.failed.is_empty());
        };
        without(&mut lane.circuit, uid);
        if lane.circuit.is_none() {
            without(&mut self.everyone, namespace);
        }
    }

    /// Why a request of a namespace must wait.
    pub(crate) fn delay(&self, namespace: &str) -> Delay {
        let everyone = self.everyone.as_ref().filter(|circuit| circuit.is_open());
        let own = self.namespaces.get(namespace).and_then(Lane::open_circuit);
        match (everyone, own) {
            (Some(circuit), _) => Delay::CircuitOpen { since: circuit.since_wall, scope: CircuitScope::Host },
            (None, Some(circuit)) => Delay::CircuitOpen { since: circuit.since_wall, scope: CircuitScope::Namespace },
            (None, None) => Delay::LimitReached,
        }
    }

    /// Whether its circuit is open for all.
    pub(crate) fn fails_for_everyone(&self) -> bool {
        self.everyone.as_ref().is_some_and(Circuit::is_open)
    }

    /// The number of namespaces whose own circuit is open.
    pub(crate) fn namespace_circuits(&self) -> usize {
        self.namespaces.values().filter(|lane| lane.open_circuit().is_some()).count()
    }

    /// Drops irrelevant state, and returns whether the host can be dropped.
    pub(crate) fn tidy(&mut self, now: Instant) -> bool {
        self.namespaces.retain(|_, lane| !lane.is_idle(now));
        self.permits.in_use() == 0
            && self.namespaces.is_empty()
            && self.pacing.as_ref().is_none_or(|pacing| pacing.until <= now)
    }
}
