//! Guarantee: whatever the integrations of one namespace do, another namespace gets its permits, and its circuit
//! breakers stay closed.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use oauth_operator::limiter::state::{Acquired, Decision, LimiterState};
use oauth_operator::limiter::types::{
    CircuitScope, Delay, HostKey, HostOutcome, LimiterStats, Limits, PrivateSettings, Waiter,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits { per_host: 8, total: 64, several_namespaces: true };
const SHARED: &str = "https://login.example.com/token";
const FAILED: HostOutcome = HostOutcome::Failed { retry_after: None };

fn shared(url: &str) -> HostKey {
    HostKey::new(&url.parse().expect("a URL"), None)
}

fn private(url: &str, namespace: &str, fingerprint: &str) -> HostKey {
    let settings =
        PrivateSettings { namespace: namespace.to_owned(), fingerprint: fingerprint.to_owned(), is_shared: false };
    HostKey::new(&url.parse().expect("a URL"), Some(settings))
}

fn waiter(namespace: &str, name: &str) -> Waiter {
    Waiter { namespace: namespace.to_owned(), name: name.to_owned(), uid: format!("{namespace}/{name}") }
}

fn expires(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// A limiter, its clock, and all requests in flight.
struct World {
    limiter: LimiterState,
    now: Instant,
    in_flight: BTreeMap<String, (Waiter, HostKey)>,
    /// The UIDs of the same integrations, in the order of their requests.
    order: VecDeque<String>,
    /// The host of the request of each integration, and the expiry of its token.
    pending: BTreeMap<String, (HostKey, i64)>,
}

impl World {
    fn new() -> Self {
        Self {
            limiter: LimiterState::new(LIMITS),
            now: Instant::now(),
            in_flight: BTreeMap::new(),
            order: VecDeque::new(),
            pending: BTreeMap::new(),
        }
    }

    /// An integration requests a permit, and woken integrations request theirs at once.
    fn acquire(&mut self, waiter: &Waiter, host: &HostKey, token_expires: i64) -> Option<Delay> {
        self.pending.insert(waiter.uid.clone(), (host.clone(), token_expires));
        let Acquired { decision, woken } = self.limiter.acquire(waiter, host, expires(token_expires), self.now);
        if decision == Decision::Granted {
            self.in_flight.insert(waiter.uid.clone(), (waiter.clone(), host.clone()));
            self.order.push_back(waiter.uid.clone());
        }
        self.follow(woken);
        match decision {
            Decision::Granted => None,
            Decision::Queued(delay) => Some(delay),
        }
    }

    fn follow(&mut self, woken: Vec<Waiter>) {
        for waiter in woken {
            let Some((host, token_expires)) = self.pending.get(&waiter.uid).cloned() else { continue };
            if !self.in_flight.contains_key(&waiter.uid) {
                self.acquire(&waiter, &host, token_expires);
            }
        }
    }

    fn complete(&mut self, uid: &str, outcome: Option<HostOutcome>) {
        let Some((waiter, host)) = self.in_flight.remove(uid) else { return };
        self.pending.remove(uid);
        let woken = self.limiter.complete(&host, &waiter, outcome, self.now, expires(0));
        self.follow(woken);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let (woken, _) = self.limiter.tick(self.now);
        self.follow(woken);
    }

    fn forget(&mut self, waiter: &Waiter) {
        self.pending.remove(&waiter.uid);
        let woken = self.limiter.forget(&waiter.uid, &waiter.namespace, self.now);
        self.follow(woken);
    }

    fn held_by(&self, namespace: &str) -> usize {
        self.in_flight.values().filter(|(waiter, _)| waiter.namespace == namespace).count()
    }

    /// Lets integrations of a namespace fail at a host.
    fn fail(&mut self, namespace: &str, host: &HostKey, count: usize, outcome: HostOutcome) {
        for number in 0..count {
            let waiter = waiter(namespace, &format!("fails-{number}"));
            self.acquire(&waiter, host, 0);
            self.complete(&waiter.uid, Some(outcome));
        }
    }
}

/// The actions of an attacker.
#[derive(Clone, Debug)]
enum Step {
    /// Integration and host by their numbers, with or without separate connection settings, and the expiry of the
    /// token.
    Acquire(u8, u8, bool, i64),
    Complete(u8, Option<HostOutcome>),
    Forget(u8),
    Pass(u16),
}

fn outcome() -> impl Strategy<Value = Option<HostOutcome>> {
    prop_oneof![
        Just(None),
        Just(Some(HostOutcome::Responded)),
        Just(Some(FAILED)),
        (0_u64..100_000)
            .prop_map(|seconds| Some(HostOutcome::Failed { retry_after: Some(Duration::from_secs(seconds)) })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 0_u8..40, any::<bool>(), -1000_i64..1000)
            .prop_map(|(number, host, own, expires)| Step::Acquire(number, host, own, expires)),
        3 => (any::<u8>(), outcome()).prop_map(|(number, outcome)| Step::Complete(number, outcome)),
        1 => any::<u8>().prop_map(Step::Forget),
        1 => any::<u16>().prop_map(Step::Pass),
    ]
}

/// The host with this number; all namespaces use host 0.
fn host(number: u8, own: bool) -> HostKey {
    let url = if number == 0 { SHARED.to_owned() } else { format!("https://host-{number}.example.net/") };
    if own { private(&url, "mallory", &format!("settings-{number}")) } else { shared(&url) }
}

fn attack(world: &mut World, step: &Step) {
    let name = |number: &u8| waiter("mallory", &format!("attack-{number}"));
    match step {
        Step::Acquire(number, place, own, expires) => {
            let waiter = name(number);
            if !world.in_flight.contains_key(&waiter.uid) {
                world.acquire(&waiter, &host(*place, *own), *expires);
            }
        }
        Step::Complete(number, outcome) => world.complete(&name(number).uid, *outcome),
        Step::Forget(number) => world.forget(&name(number)),
        Step::Pass(milliseconds) => world.pass(Duration::from_millis(u64::from(*milliseconds))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_one_namespace_does_another_gets_its_permit_at_once(steps in proptest::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        let victim = waiter("bob", "victim");
        for step in &steps {
            attack(&mut world, step);
            prop_assert!(world.held_by("mallory") <= LIMITS.total / 2, "a namespace holds more than half");
            let stats = world.limiter.stats();
            prop_assert_eq!(stats.in_flight, world.in_flight.len(), "{:?}", stats);
            prop_assert!(stats.failing_hosts.is_empty(), "one namespace opened a circuit for all: {:?}", stats);
            // The victim may request a permit at any time, and its token is less urgent than all others.
            prop_assert_eq!(world.acquire(&victim, &shared(SHARED), 100_000), None);
            world.complete(&victim.uid, Some(HostOutcome::Responded));
        }
        // The state of the attacker is removed together with the integrations.
        for number in 0..=u8::MAX {
            let waiter = waiter("mallory", &format!("attack-{number}"));
            world.forget(&waiter);
            world.complete(&waiter.uid, Some(FAILED));
        }
        let LimiterStats { in_flight, queued, .. } = world.limiter.stats();
        prop_assert_eq!((in_flight, queued), (0, 0));
        prop_assert!(world.limiter.remembered_hosts() <= 64, "{}", world.limiter.remembered_hosts());
    }

    #[test]
    fn several_attackers_delay_another_namespace_by_a_bounded_number_of_responses(
        steps in proptest::collection::vec((0_u8..9, any::<u8>(), 0_u8..12), 100..400)
    ) {
        let mut world = World::new();
        for (namespace, number, place) in &steps {
            let waiter = waiter(&format!("attacker-{namespace}"), &format!("i{number}"));
            if !world.in_flight.contains_key(&waiter.uid) {
                // Their tokens are more urgent than the victim's, or missing.
                world.acquire(&waiter, &host(*place, false), -1000);
            }
        }
        let victim = waiter("bob", "victim");
        let mut responses = 0;
        world.acquire(&victim, &shared(SHARED), 100_000);
        while !world.in_flight.contains_key(&victim.uid) {
            responses += 1;
            prop_assert!(responses <= LIMITS.total + 9, "the victim starves");
            // Each request ends, at the latest by its timeout, and its integration requests another permit at once.
            let uid = world.order.pop_front().expect("all permits are in use");
            let (attacker, place) = world.in_flight[&uid].clone();
            world.complete(&uid, Some(HostOutcome::Responded));
            world.acquire(&attacker, &place, -1000);
        }
    }
}

#[test]
fn one_namespace_gets_half_of_the_permits_and_another_is_served_at_once() {
    let mut world = World::new();
    let host = shared(SHARED);
    let granted = (0..60).filter(|number| world.acquire(&waiter("mallory", &format!("m{number}")), &host, 0).is_none());
    assert_eq!(granted.count(), 4, "half of a host's permits");
    assert_eq!(world.acquire(&waiter("bob", "victim"), &host, 1_000), None);
    let granted = (0..400).filter(|number| {
        let host = shared(&format!("https://silent-{number}.example.net/"));
        world.acquire(&waiter("mallory", &format!("silent-{number}")), &host, 0).is_none()
    });
    assert_eq!(granted.count(), 28, "half of all permits");
    assert_eq!(world.acquire(&waiter("bob", "other"), &shared("https://other.example.com"), 1_000), None);
}

#[test]
fn a_circuit_opens_for_the_namespace_whose_requests_fail() {
    let mut world = World::new();
    let host = shared(SHARED);
    let retry_after = Some(Duration::from_secs(300));
    world.fail("mallory", &host, 60, HostOutcome::Failed { retry_after });
    let delay = world.acquire(&waiter("mallory", "next"), &host, 0);
    assert!(matches!(delay, Some(Delay::CircuitOpen { scope: CircuitScope::Namespace, .. })), "{delay:?}");
    assert_eq!(world.acquire(&waiter("bob", "victim"), &host, 0), None);
    assert_eq!(world.limiter.stats().failing_hosts, Vec::<String>::new());
    assert_eq!(world.limiter.stats().namespace_circuits, 1);
}

#[test]
fn a_circuit_opens_for_all_if_several_namespaces_fail_and_ignores_the_retry_after_of_a_single_one() {
    let mut world = World::new();
    let host = shared(SHARED);
    world.fail("mallory", &host, 60, HostOutcome::Failed { retry_after: Some(Duration::from_secs(300)) });
    world.fail("alice", &host, 1, FAILED);
    assert_eq!(
        world.acquire(&waiter("bob", "victim"), &host, 0),
        None,
        "two namespaces may fail for reasons of their own"
    );
    world.complete("bob/victim", Some(HostOutcome::Failed { retry_after: Some(Duration::from_secs(2)) }));
    let delay = world.acquire(&waiter("carol", "next"), &host, 0);
    assert!(matches!(delay, Some(Delay::CircuitOpen { scope: CircuitScope::Host, .. })), "{delay:?}");
    assert_eq!(world.limiter.stats().failing_hosts, ["https://login.example.com"]);
    world.pass(Duration::from_millis(1_900));
    assert!(!world.in_flight.contains_key("carol/next"), "two of them received a Retry-After of two seconds");
    world.pass(Duration::from_millis(100));
    assert!(world.in_flight.contains_key("carol/next"), "the probe");
    // A slow probe of one namespace does not prevent one of another namespace.
    world.acquire(&waiter("dave", "next"), &host, 0);
    world.pass(Duration::from_secs(1));
    assert!(world.in_flight.contains_key("dave/next"));
    // A response closes the circuit for all, and new requests alternate with the many queued ones of mallory.
    world.complete("dave/next", Some(HostOutcome::Responded));
    assert_eq!(world.acquire(&waiter("erin", "next"), &host, 0), Some(Delay::LimitReached), "paced");
    world.pass(Duration::from_millis(50));
    world.pass(Duration::from_millis(50));
    assert!(world.in_flight.contains_key("erin/next"));
}

#[test]
fn probes_are_sent_round_robin_by_namespace() {
    let mut world = World::new();
    let host = shared(SHARED);
    for namespace in ["mallory", "alice", "carol"] {
        world.fail(namespace, &host, 1, FAILED);
    }
    for number in 0..50 {
        world.acquire(&waiter("mallory", &format!("m{number}")), &host, -1_000);
    }
    world.acquire(&waiter("bob", "victim"), &host, 1_000);
    let mut probes = 0;
    while !world.in_flight.contains_key("bob/victim") {
        world.pass(Duration::from_secs(2));
        probes += 1;
        assert!(probes <= 2, "the victim does not get a probe");
        let attackers: Vec<String> = world.in_flight.keys().filter(|uid| uid.starts_with("mallory")).cloned().collect();
        for uid in attackers {
            world.complete(&uid, Some(FAILED));
        }
    }
}

#[test]
fn separate_connection_settings_have_separate_circuits_within_the_limit_of_the_host() {
    let mut world = World::new();
    for number in 0..60 {
        world.fail("mallory", &private(SHARED, "mallory", &format!("proxy-{number}")), 4, FAILED);
    }
    assert_eq!(world.acquire(&waiter("mallory", "usual"), &shared(SHARED), 0), None, "another key");
    world.complete("mallory/usual", Some(HostOutcome::Responded));
    let granted = (0..60).filter(|number| {
        let host = private(SHARED, "mallory", &format!("other-proxy-{number}"));
        world.acquire(&waiter("mallory", &format!("m{number}")), &host, 0).is_none()
    });
    assert_eq!(granted.count(), LIMITS.per_host, "independent of the number of proxies");
    assert_eq!(world.acquire(&waiter("bob", "victim"), &shared(SHARED), 0), None);
}

#[test]
fn the_key_of_a_host_does_not_depend_on_its_notation() {
    let same = ["https://LOGIN.example.com/a", "https://login.example.com.:443/b", "https://login.example.com:443"];
    let keys: HashSet<HostKey> = same.into_iter().map(shared).collect();
    assert_eq!(keys, HashSet::from([shared(SHARED)]));
    for other in ["http://login.example.com/", "https://login.example.com:8443/", "https://login.example.org/"] {
        assert_ne!(shared(other), shared(SHARED), "{other}");
    }
    assert_ne!(
        private(SHARED, "mallory", "a"),
        private(SHARED, "alice", "a"),
        "names are unique only within a namespace"
    );
}

#[test]
fn recovered_hosts_are_eventually_removed() {
    let mut world = World::new();
    for number in 0..1_000 {
        let host = shared(&format!("https://host-{number}.example.net/"));
        world.fail("mallory", &host, 3, FAILED);
        world.pass(Duration::from_secs(2));
        world.acquire(&waiter("mallory", "probe"), &host, 0);
        world.complete("mallory/probe", Some(HostOutcome::Responded));
        world.pass(Duration::from_secs(10));
    }
    assert!(world.limiter.remembered_hosts() <= 128, "{}", world.limiter.remembered_hosts());
}
