//! The promise: no host is asked too much at once, none holds up the others, and the most urgent goes first.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use oauth_operator::gate::{Caller, Closed, Limits, Places, Verdict};

const LIMITS: Limits = Limits { per_host: 8, total: 64 };
const SLOW: &str = "https://slow.example.com";
const FAST: &str = "https://fast.example.com";

fn caller(name: &str) -> Caller {
    Caller { namespace: "ns".to_owned(), name: name.to_owned(), uid: format!("uid-{name}") }
}

fn ends(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// A gate, its clock, and what came of each who asked.
struct World {
    places: Places,
    now: Instant,
    called: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self { places: Places::new(LIMITS), now: Instant::now(), called: vec![] }
    }

    fn asks(&mut self, name: &str, host: &str, life_left: i64) -> Option<Closed> {
        let (closed, called) = self.places.ask(&caller(name), host, ends(life_left), self.now);
        self.note(&called);
        closed
    }

    fn ends(&mut self, name: &str, host: &str, verdict: Verdict) {
        let called = self.places.end(host, &caller(name), Some(verdict), self.now, ends(0));
        self.note(&called);
    }

    fn passes(&mut self, time: Duration) -> Option<Duration> {
        self.now += time;
        let (called, next) = self.places.tick(self.now);
        self.note(&called);
        next.map(|next| next.duration_since(self.now))
    }

    fn note(&mut self, called: &[Caller]) {
        self.called.extend(called.iter().map(|caller| caller.name.clone()));
    }

    /// Those who were called since the last look.
    fn called(&mut self) -> Vec<String> {
        std::mem::take(&mut self.called)
    }

    /// Lets a host fail for so many.
    fn fails_for(&mut self, host: &str, names: &[&str]) {
        for name in names {
            self.asks(name, host, 0);
            self.ends(name, host, Verdict::Fails(None));
        }
    }
}

#[test]
fn eight_at_once_to_one_host_and_the_most_urgent_of_the_others_next() {
    let mut world = World::new();
    for number in 0..8 {
        assert_eq!(world.asks(&format!("first-{number}"), SLOW, 100), None);
    }
    assert_eq!(world.asks("late", SLOW, 300), Some(Closed::Busy));
    assert_eq!(world.asks("urgent", SLOW, 10), Some(Closed::Busy));
    assert_eq!(world.asks("soon", SLOW, 50), Some(Closed::Busy));
    assert_eq!(world.asks("elsewhere", FAST, 300), None, "another host is not concerned");
    for (number, expected) in ["urgent", "soon", "late"].into_iter().enumerate() {
        world.ends(&format!("first-{number}"), SLOW, Verdict::Answers);
        assert_eq!(world.called(), [expected]);
        assert_eq!(world.asks(expected, SLOW, 10), None, "the place was kept");
    }
}

#[test]
fn a_place_that_is_kept_is_not_taken_by_another_and_not_kept_for_ever() {
    let mut world = World::new();
    for number in 0..8 {
        world.asks(&format!("first-{number}"), SLOW, 100);
    }
    world.asks("waits", SLOW, 100);
    world.ends("first-0", SLOW, Verdict::Answers);
    assert_eq!(world.called(), ["waits"]);
    assert_eq!(world.asks("chance", SLOW, 1), Some(Closed::Busy), "however urgent");
    assert_eq!(world.passes(Duration::from_secs(9)), Some(Duration::from_secs(1)));
    world.passes(Duration::from_secs(1));
    assert_eq!(world.called(), ["chance"], "the first did not come");
    // Who comes too late asks anew.
    assert_eq!(world.asks("waits", SLOW, 100), Some(Closed::Busy));
}

#[test]
fn who_does_not_want_to_ask_any_more_takes_no_place() {
    let mut world = World::new();
    for number in 0..8 {
        world.asks(&format!("first-{number}"), SLOW, 100);
    }
    world.asks("gone", SLOW, 1);
    world.asks("waits", SLOW, 100);
    world.places.leave("uid-gone", world.now);
    world.ends("first-0", SLOW, Verdict::Answers);
    assert_eq!(world.called(), ["waits"]);
    // And one who was called and leaves gives the place on.
    world.asks("next", SLOW, 100);
    let called = world.places.leave("uid-waits", world.now);
    assert_eq!(called, [caller("next")]);
}

#[test]
fn a_few_slow_hosts_do_not_take_all_places() {
    let mut world = World::new();
    let mut admitted = 0;
    for host in 0..20 {
        for number in 0..8 {
            let closed = world.asks(&format!("h{host}-{number}"), &format!("https://host-{host}"), 100);
            admitted += usize::from(closed.is_none());
        }
    }
    // 48 places go to whoever comes; the last 16 to hosts that have none.
    assert_eq!(admitted, 48 + 14);
    assert_eq!(world.asks("elsewhere", FAST, 3600), None, "there is a place for a host that has none");
    assert_eq!(world.asks("elsewhere-2", FAST, 3600), Some(Closed::Busy), "and no second one");
}

#[test]
fn a_place_goes_to_the_host_with_the_least_under_way() {
    let mut world = World::new();
    for host in 0..6 {
        for number in 0..8 {
            assert_eq!(world.asks(&format!("h{host}-{number}"), &format!("https://host-{host}"), 10), None);
        }
    }
    assert_eq!(world.asks("fast-1", FAST, 3600), None);
    assert_eq!(world.asks("fast-2", FAST, 3600), Some(Closed::Busy), "the last places are for hosts that have none");
    assert_eq!(world.asks("urgent", "https://host-0", 1), Some(Closed::Busy));
    world.ends("h0-0", "https://host-0", Verdict::Answers);
    world.ends("h0-1", "https://host-0", Verdict::Answers);
    assert_eq!(world.called(), ["fast-2"], "its host has one under way, the other six");
}

#[test]
fn a_host_that_fails_for_all_is_probed_by_one_and_later_and_later() {
    let mut world = World::new();
    world.fails_for(SLOW, &["a", "b"]);
    assert_eq!(world.asks("c", SLOW, 0), None, "two may fail by their own fault");
    world.ends("c", SLOW, Verdict::Fails(None));
    assert!(matches!(world.asks("d", SLOW, 0), Some(Closed::Failing(_))));
    assert!(matches!(world.asks("e", SLOW, 0), Some(Closed::Failing(_))));
    assert_eq!(world.passes(Duration::ZERO), Some(Duration::from_secs(1)));
    world.passes(Duration::from_secs(1));
    assert_eq!(world.called(), ["d"], "one of them");
    assert_eq!(
        world.passes(Duration::from_secs(5)),
        Some(Duration::from_secs(5)),
        "only the place of the probe lapses"
    );
    assert_eq!(world.asks("d", SLOW, 0), None);
    // After ten minutes of failing, half a minute lies between two probes.
    world.passes(Duration::from_secs(600));
    world.ends("d", SLOW, Verdict::Fails(None));
    assert_eq!(world.passes(Duration::ZERO), Some(Duration::from_secs(30)));
}

#[test]
fn a_probe_is_made_by_one_that_has_not_failed() {
    let mut world = World::new();
    world.fails_for(SLOW, &["a", "b", "c"]);
    world.asks("a", SLOW, -100);
    world.asks("healthy", SLOW, 100);
    world.passes(Duration::from_secs(1));
    assert_eq!(world.called(), ["healthy"], "that the others fail may be their own fault");
}

#[test]
fn the_pause_that_a_failing_host_asks_for_is_kept_by_all() {
    let mut world = World::new();
    world.fails_for(SLOW, &["a", "b"]);
    world.asks("c", SLOW, 0);
    world.ends("c", SLOW, Verdict::Fails(Some(Duration::from_secs(20))));
    world.asks("d", SLOW, 0);
    assert_eq!(world.passes(Duration::from_secs(19)), Some(Duration::from_secs(1)));
    assert_eq!(world.called(), Vec::<String>::new());
}

#[test]
fn what_has_waited_for_a_host_that_is_back_is_spread_out_and_those_who_failed_get_their_chance() {
    let mut world = World::new();
    world.fails_for(SLOW, &["a", "b", "c"]);
    for number in 0..400 {
        assert!(world.asks(&format!("w{number}"), SLOW, number).is_some());
    }
    world.passes(Duration::from_secs(1));
    assert_eq!(world.called(), ["w0"]);
    assert_eq!(world.asks("w0", SLOW, 0), None);
    world.ends("w0", SLOW, Verdict::Answers);
    let called = world.called();
    for failed in ["a", "b", "c"] {
        assert!(called.iter().any(|name| name == failed), "{failed} is looked at again: {called:?}");
        assert!(world.places.is_back(&format!("uid-{failed}")));
    }
    let mut order: Vec<String> = called.into_iter().filter(|name| name.starts_with('w')).collect();
    for name in &order {
        assert_eq!(world.asks(name, SLOW, 0), None);
        world.ends(name, SLOW, Verdict::Answers);
    }
    // Each answers within 10 ms, so eight at once could be done with all in half a second.
    let mut most_in_a_second = 0;
    for _ in 0..10 {
        let mut in_this_second = 0;
        for _ in 0..100 {
            world.passes(Duration::from_millis(10));
            for name in world.called() {
                assert_eq!(world.asks(&name, SLOW, 0), None);
                world.ends(&name, SLOW, Verdict::Answers);
                in_this_second += 1;
                order.push(name);
            }
        }
        most_in_a_second = most_in_a_second.max(in_this_second);
    }
    let expected: Vec<_> = (1..400).map(|number| format!("w{number}")).collect();
    assert!(order == expected, "the most urgent first, and all of them: {order:?}");
    assert!((40..=60).contains(&most_in_a_second), "{most_in_a_second} in a second");
}

#[test]
fn a_success_between_says_that_the_host_does_not_fail_for_all() {
    let mut world = World::new();
    world.fails_for(SLOW, &["a", "b"]);
    world.asks("fine", SLOW, 0);
    world.ends("fine", SLOW, Verdict::Answers);
    world.fails_for(SLOW, &["a", "b"]);
    assert_eq!(world.asks("d", SLOW, 0), None);
}
