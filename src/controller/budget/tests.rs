use super::*;

fn budgets(writes_per_namespace: u32, writes: u32) -> Budgets {
    Budgets::new(BudgetLimits { writes_per_namespace, writes, events_per_namespace: 60 })
}

/// Simulates integrations that renew as often as they are admitted, and returns the writes in that time.
fn simulate(budgets: &Budgets, namespace: &str, integrations: usize, start: Instant, time: Duration) -> u32 {
    let (mut now, mut writes) = (start, 0);
    while now < start + time {
        for uid in 0..integrations {
            if budgets.admit(namespace, &uid.to_string(), now).is_none() {
                (0..3).for_each(|_| budgets.spend_write(namespace, now));
                writes += 3;
            }
        }
        now += Duration::from_millis(100);
    }
    writes
}

#[test]
fn a_namespace_cannot_exceed_its_budget() {
    let budgets = budgets(10, 0);
    let start = Instant::now();
    let writes = simulate(&budgets, "mallory", 300, start, Duration::from_secs(100));
    // The burst, the rate, and the integrations that were admitted before the bucket was empty.
    assert!((1_000..=1_300).contains(&writes), "{writes}");
    let later = start + Duration::from_secs(100);
    assert!(budgets.admit("mallory", "one more", later).is_some());
    assert_eq!(budgets.admit("bob", "it", later), None, "another namespace has its own");
}

#[test]
fn if_the_total_is_used_up_only_namespaces_with_many_writes_wait() {
    let budgets = budgets(50, 60);
    let start = Instant::now();
    for namespace in ["m1", "m2", "m3", "m4"] {
        simulate(&budgets, namespace, 300, start, Duration::from_secs(5));
    }
    let now = start + Duration::from_secs(5);
    assert!(budgets.admit("m1", "1", now).is_some(), "the total is used up");
    assert_eq!(budgets.admit("bob", "it", now), None, "bob has used none of his budget");
}

#[test]
fn a_waiting_integration_keeps_its_turn() {
    let budgets = budgets(1, 0);
    let now = Instant::now();
    (0..30).for_each(|_| budgets.spend_write("a", now));
    let first = budgets.admit("a", "1", now).expect("a turn");
    let second = budgets.admit("a", "2", now).expect("a turn");
    assert!(second > first && first > now);
    assert_eq!(budgets.admit("a", "1", now + Duration::from_secs(1)), Some(first), "the same turn as before");
    assert_eq!(budgets.admit("a", "1", first), None);
    assert_eq!(budgets.admit("a", "2", second), None);
}

#[test]
fn turns_are_limited_and_the_other_integrations_retry_at_different_times() {
    let budgets = budgets(10, 0);
    let now = Instant::now();
    (0..201).for_each(|_| budgets.spend_write("a", now));
    let token_request = |uid: u32| budgets.admit("a", &uid.to_string(), now).expect("it waits");
    let all: Vec<Instant> = (0..2_000).map(token_request).collect();
    // 3 writes each, at 10 writes per second: 1,000 turns in 5 minutes.
    let turns = budgets.writes.lock()["a"].turns.len();
    assert!((990..=1_000).contains(&turns), "{turns}");
    let in_second = |second: u64| {
        let from = now + Duration::from_secs(second);
        all.iter().filter(|at| **at >= from && **at < from + Duration::from_secs(1)).count()
    };
    let most = (0..=300).map(in_second).max();
    assert!(most.is_some_and(|most| most < 30), "{most:?} retry in the same second");
    let writes = simulate(&budgets, "a", 2_000, now, Duration::from_secs(3));
    assert!(writes <= 30, "{writes} writes in 3 s");
}

#[test]
fn integrations_admitted_together_share_the_rest_of_the_budget() {
    let budgets = budgets(10, 0);
    let now = Instant::now();
    let admitted = (0..1_000).filter(|uid| budgets.admit("a", &uid.to_string(), now).is_none()).count();
    assert_eq!(admitted, 100, "200 writes, before any of them was sent");
    (0..200).for_each(|_| budgets.spend_write("a", now));
    let wait = budgets.writes.deficit("a", now);
    assert!(!wait.is_zero() && wait <= Duration::from_millis(100), "counted once: {wait:?}");
}

#[test]
fn an_admitted_integration_that_does_not_begin_is_not_charged() {
    let budgets = budgets(10, 0);
    let now = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(budgets.admit("a", "1", now), None);
        budgets.refund("a", now);
    }
    let level = budgets.writes.level("a", now);
    assert!((level - 1.0).abs() < f64::EPSILON, "{level}");
}

#[test]
fn reads_are_counted_and_queued() {
    let budgets = budgets(10, 0);
    let now = Instant::now();
    let admitted = (0..1_000).filter(|uid| budgets.admit_read("a", &uid.to_string(), now).is_none()).count();
    assert_eq!(admitted, 200, "the burst, one token each");
    let turn = budgets.admit_read("a", "999", now).expect("a turn");
    assert_eq!(budgets.admit_read("a", "999", turn), None);
    assert!(budgets.admit("a", "it", now).is_some(), "reads and writes share one budget");
    assert_eq!(budgets.admit_read("b", "it", now), None, "another namespace has its own");
}

#[test]
fn the_debt_is_bounded() {
    let budgets = budgets(10, 0);
    let now = Instant::now();
    (0..100_000).for_each(|_| budgets.spend_write("a", now));
    assert!(!budgets.writes.deficit("a", now + Duration::from_secs(59)).is_zero());
    assert!(budgets.writes.deficit("a", now + Duration::from_secs(61)).is_zero());
}

#[test]
fn zero_means_no_limit() {
    let budgets = budgets(0, 0);
    let now = Instant::now();
    (0..10_000).for_each(|_| budgets.spend_write("a", now));
    assert_eq!(budgets.admit("a", "1", now), None);
    assert_eq!(budgets.status_delay("a", "1", now), None);
}

#[test]
fn events_and_warnings_are_dropped_and_counted() {
    let budgets = budgets(1, 0);
    let now = Instant::now();
    let events = (0..100).filter(|_| budgets.take_event("a", now)).count();
    assert_eq!(events, 20);
    assert!(budgets.take_event("b", now));
    assert!((0..100).filter(|_| budgets.take_warning("a", now).is_some()).count() <= 20);
    let after = budgets.take_warning("a", now + Duration::from_secs(2));
    assert_eq!(after, Some(80), "the number of omitted lines");
}

#[test]
fn full_buckets_are_dropped() {
    let budgets = budgets(10, 0);
    let start = Instant::now();
    for number in 0..10_000 {
        let now = start + Duration::from_secs(number);
        budgets.spend_write(&format!("namespace-{number}"), now);
    }
    assert!(budgets.writes.lock().len() <= MAX_IDLE + 1);
}
