//! Guarantee: a host never gets too many requests at once, a host does not delay others, and within one namespace the
//! most urgent request is sent first. For fairness between namespaces, see `limiter_fairness.rs`.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use oauth_operator::limiter::state::{Acquired, Decision, LimiterState};
use oauth_operator::limiter::types::{CircuitScope, Delay, HostKey, HostOutcome, Limits, Waiter};

const LIMITS: Limits = Limits { per_host: 8, total: 64, several_namespaces: false };
const FAILED: HostOutcome = HostOutcome::Failed { retry_after: None };
const SLOW: &str = "https://slow.example.com";
const FAST: &str = "https://fast.example.com";

fn host_key(url: &str) -> HostKey {
    HostKey::new(&url.parse().expect("a URL"), None)
}

fn waiter(name: &str) -> Waiter {
    Waiter { namespace: "ns".to_owned(), name: name.to_owned(), uid: format!("uid-{name}") }
}

fn expires(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// A limiter, its clock, and the integrations that were woken.
struct World {
    limiter: LimiterState,
    now: Instant,
    woken: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self { limiter: LimiterState::new(LIMITS), now: Instant::now(), woken: vec![] }
    }

    fn acquire(&mut self, name: &str, host: &str, remaining: i64) -> Option<Delay> {
        let Acquired { decision, woken } =
            self.limiter.acquire(&waiter(name), &host_key(host), expires(remaining), self.now);
        self.note(&woken);
        match decision {
            Decision::Granted => None,
            Decision::Queued(delay) => Some(delay),
        }
    }

    fn complete(&mut self, name: &str, host: &str, outcome: HostOutcome) {
        let woken = self.limiter.complete(&host_key(host), &waiter(name), Some(outcome), self.now, expires(0));
        self.note(&woken);
    }

    fn advance(&mut self, time: Duration) -> Option<Duration> {
        self.now += time;
        let (woken, next) = self.limiter.tick(self.now);
        self.note(&woken);
        next.map(|next| next.duration_since(self.now))
    }

    fn note(&mut self, woken: &[Waiter]) {
        self.woken.extend(woken.iter().map(|waiter| waiter.name.clone()));
    }

    /// The integrations that were woken since the last call.
    fn woken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.woken)
    }

    /// Lets a host fail for this many integrations.
    fn fail(&mut self, host: &str, names: &[&str]) {
        for name in names {
            self.acquire(name, host, 0);
            self.complete(name, host, FAILED);
        }
    }
}

#[test]
fn a_host_gets_eight_requests_at_once_and_the_most_urgent_next() {
    let mut world = World::new();
    for number in 0..8 {
        assert_eq!(world.acquire(&format!("first-{number}"), SLOW, 100), None);
    }
    assert_eq!(world.acquire("late", SLOW, 300), Some(Delay::LimitReached));
    assert_eq!(world.acquire("urgent", SLOW, 10), Some(Delay::LimitReached));
    assert_eq!(world.acquire("soon", SLOW, 50), Some(Delay::LimitReached));
    assert_eq!(world.acquire("elsewhere", FAST, 300), None, "another host is not affected");
    for (number, expected) in ["urgent", "soon", "late"].into_iter().enumerate() {
        world.complete(&format!("first-{number}"), SLOW, HostOutcome::Responded);
        assert_eq!(world.woken(), [expected]);
        assert_eq!(world.acquire(expected, SLOW, 10), None, "the permit was reserved");
    }
}

#[test]
fn a_reserved_permit_is_not_given_to_another_and_expires() {
    let mut world = World::new();
    for number in 0..8 {
        world.acquire(&format!("first-{number}"), SLOW, 100);
    }
    world.acquire("queued", SLOW, 100);
    world.complete("first-0", SLOW, HostOutcome::Responded);
    assert_eq!(world.woken(), ["queued"]);
    assert_eq!(world.acquire("newcomer", SLOW, 1), Some(Delay::LimitReached), "although it is more urgent");
    assert_eq!(world.advance(Duration::from_secs(9)), Some(Duration::from_secs(1)));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.woken(), ["newcomer"], "the first one did not use its permit");
    // An integration that comes too late must request a permit again.
    assert_eq!(world.acquire("queued", SLOW, 100), Some(Delay::LimitReached));
}

#[test]
fn a_cancelled_request_does_not_get_a_permit() {
    let mut world = World::new();
    for number in 0..8 {
        world.acquire(&format!("first-{number}"), SLOW, 100);
    }
    world.acquire("cancelled", SLOW, 1);
    world.acquire("queued", SLOW, 100);
    world.limiter.cancel("uid-cancelled", world.now);
    world.complete("first-0", SLOW, HostOutcome::Responded);
    assert_eq!(world.woken(), ["queued"]);
    // If a woken integration cancels, the permit goes to the next one.
    world.acquire("next", SLOW, 100);
    let woken = world.limiter.cancel("uid-queued", world.now);
    assert_eq!(woken, [waiter("next")]);
}

#[test]
fn a_few_slow_hosts_do_not_take_all_permits() {
    let mut world = World::new();
    let mut admitted = 0;
    for host in 0..20 {
        for number in 0..8 {
            let delay = world.acquire(&format!("h{host}-{number}"), &format!("https://host-{host}"), 100);
            admitted += usize::from(delay.is_none());
        }
    }
    // 48 permits are for any host; the last 16 are for hosts without requests in flight.
    assert_eq!(admitted, 48 + 14);
    assert_eq!(world.acquire("elsewhere", FAST, 3600), None, "a permit for a host without requests in flight");
    assert_eq!(world.acquire("elsewhere-2", FAST, 3600), Some(Delay::LimitReached), "but not a second one");
}

#[test]
fn a_permit_goes_to_the_host_with_the_fewest_requests_in_flight() {
    let mut world = World::new();
    for host in 0..6 {
        for number in 0..8 {
            assert_eq!(world.acquire(&format!("h{host}-{number}"), &format!("https://host-{host}"), 10), None);
        }
    }
    assert_eq!(world.acquire("fast-1", FAST, 3600), None);
    assert_eq!(
        world.acquire("fast-2", FAST, 3600),
        Some(Delay::LimitReached),
        "the last permits are for hosts without requests in flight"
    );
    assert_eq!(world.acquire("urgent", "https://host-0", 1), Some(Delay::LimitReached));
    world.complete("h0-0", "https://host-0", HostOutcome::Responded);
    world.complete("h0-1", "https://host-0", HostOutcome::Responded);
    assert_eq!(world.woken(), ["fast-2"], "its host has one request in flight, the other six");
}

#[test]
fn a_host_that_fails_for_all_gets_single_probes_at_growing_intervals() {
    let mut world = World::new();
    world.fail(SLOW, &["a", "b"]);
    assert_eq!(world.acquire("c", SLOW, 0), None, "two integrations may fail for reasons of their own");
    world.complete("c", SLOW, FAILED);
    assert!(matches!(world.acquire("d", SLOW, 0), Some(Delay::CircuitOpen { scope: CircuitScope::Namespace, .. })));
    assert!(matches!(world.acquire("e", SLOW, 0), Some(Delay::CircuitOpen { scope: CircuitScope::Namespace, .. })));
    assert_eq!(world.advance(Duration::ZERO), Some(Duration::from_secs(1)));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.woken(), ["d"], "only one of them");
    assert_eq!(
        world.advance(Duration::from_secs(5)),
        Some(Duration::from_secs(5)),
        "only the permit of the probe expires"
    );
    assert_eq!(world.acquire("d", SLOW, 0), None);
    // After ten minutes of failures, probes are half a minute apart.
    world.advance(Duration::from_secs(600));
    world.complete("d", SLOW, FAILED);
    assert_eq!(world.advance(Duration::ZERO), Some(Duration::from_secs(30)));
}

#[test]
fn a_probe_is_sent_by_an_integration_that_has_not_failed() {
    let mut world = World::new();
    world.fail(SLOW, &["a", "b", "c"]);
    world.acquire("a", SLOW, -100);
    world.acquire("healthy", SLOW, 100);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.woken(), ["healthy"], "the others may fail for reasons of their own");
}

#[test]
fn the_retry_after_of_a_failing_host_delays_all() {
    let mut world = World::new();
    world.fail(SLOW, &["a", "b"]);
    world.acquire("c", SLOW, 0);
    world.complete("c", SLOW, HostOutcome::Failed { retry_after: Some(Duration::from_secs(20)) });
    world.acquire("d", SLOW, 0);
    assert_eq!(world.advance(Duration::from_secs(19)), Some(Duration::from_secs(1)));
    assert_eq!(world.woken(), Vec::<String>::new());
}

#[test]
fn queued_requests_for_a_recovered_host_are_spread_out_and_failed_ones_are_retried() {
    let mut world = World::new();
    world.fail(SLOW, &["a", "b", "c"]);
    for number in 0..400 {
        assert!(world.acquire(&format!("w{number}"), SLOW, number).is_some());
    }
    world.advance(Duration::from_secs(1));
    assert_eq!(world.woken(), ["w0"]);
    assert_eq!(world.acquire("w0", SLOW, 0), None);
    world.complete("w0", SLOW, HostOutcome::Responded);
    let woken = world.woken();
    for failed in ["a", "b", "c"] {
        assert!(woken.iter().any(|name| name == failed), "{failed} is reconciled again: {woken:?}");
        assert!(world.limiter.has_recovered(&format!("uid-{failed}")));
    }
    let mut order: Vec<String> = woken.into_iter().filter(|name| name.starts_with('w')).collect();
    for name in &order {
        assert_eq!(world.acquire(name, SLOW, 0), None);
        world.complete(name, SLOW, HostOutcome::Responded);
    }
    // Each request takes 10 ms: without pacing, eight at a time would finish all of them within half a second.
    let mut max_per_second = 0;
    for _ in 0..10 {
        let mut in_this_second = 0;
        for _ in 0..100 {
            world.advance(Duration::from_millis(10));
            for name in world.woken() {
                assert_eq!(world.acquire(&name, SLOW, 0), None);
                world.complete(&name, SLOW, HostOutcome::Responded);
                in_this_second += 1;
                order.push(name);
            }
        }
        max_per_second = max_per_second.max(in_this_second);
    }
    let expected: Vec<_> = (1..400).map(|number| format!("w{number}")).collect();
    assert!(order == expected, "the most urgent first, and all of them: {order:?}");
    assert!((40..=60).contains(&max_per_second), "{max_per_second} in a second");
}

#[test]
fn an_intermediate_success_keeps_the_circuit_closed() {
    let mut world = World::new();
    world.fail(SLOW, &["a", "b"]);
    world.acquire("healthy", SLOW, 0);
    world.complete("healthy", SLOW, HostOutcome::Responded);
    world.fail(SLOW, &["a", "b"]);
    assert_eq!(world.acquire("d", SLOW, 0), None);
}

#[test]
fn with_many_hosts_all_queued_requests_are_served() {
    let mut world = World::new();
    for number in 0..64 {
        assert_eq!(world.acquire(&format!("slow-{number}"), &format!("https://slow-{number}.example.com"), 0), None);
    }
    let host = |number: u32| format!("https://host-{number}.example.com");
    for number in 0..1_000 {
        assert_eq!(world.acquire(&number.to_string(), &host(number), 0), Some(Delay::LimitReached));
    }
    assert_eq!(world.limiter.remembered_hosts(), 64 + 64, "the other hosts have no queue of their own");
    assert!(world.limiter.is_waiting("uid-999"));
    assert_eq!(world.limiter.stats().queued, 1_000);
    for number in 0..64 {
        world.complete(
            &format!("slow-{number}"),
            &format!("https://slow-{number}.example.com"),
            HostOutcome::Responded,
        );
    }
    let mut served = 0;
    for _ in 0..100 {
        for name in world.woken() {
            let number: u32 = name.parse().expect("a number");
            if world.acquire(&name, &host(number), 0).is_none() {
                world.complete(&name, &host(number), HostOutcome::Responded);
                served += 1;
            }
        }
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(served, 1_000);
    assert!(!world.limiter.is_busy(), "requests are left");
    assert_eq!(world.advance(Duration::from_secs(1)), None);
}

#[test]
fn overlong_host_names_share_one_key() {
    let long = |start: &str| host_key(&format!("https://{start}.{}.example.com", "a".repeat(1_900)));
    assert_eq!(long("one"), long("two"));
    assert!(long("one").origin().len() < 253);
}
