//! Guarantee: one namespace does not occupy all concurrent reconciliations.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use oauth_operator::controller::slots::{NamespaceSlots, Slot};

type Woken = Arc<Mutex<Vec<String>>>;

fn slots(total: usize) -> (Arc<NamespaceSlots>, Woken) {
    let woken = Woken::default();
    let noted = Arc::clone(&woken);
    let wake = move |namespace: &str, name: &str| noted.lock().expect("a list").push(format!("{namespace}/{name}"));
    (Arc::new(NamespaceSlots::new(total, true, Box::new(wake))), woken)
}

fn take(woken: &Woken) -> Vec<String> {
    std::mem::take(&mut woken.lock().expect("a list"))
}

#[test]
fn a_namespace_that_holds_its_slots_forever_leaves_room_for_another() {
    let (slots, _) = slots(128);
    let held: Vec<Slot> = (0..1_000).filter_map(|number| slots.try_acquire("mallory", &format!("m{number}"))).collect();
    assert_eq!(held.len(), 64);
    let of_bob: Vec<Slot> = (0..30).filter_map(|number| slots.try_acquire("bob", &format!("b{number}"))).collect();
    assert_eq!(of_bob.len(), 30);
    assert!(slots.try_acquire("alice", "a").is_some(), "a slot for another namespace");
}

#[test]
fn queued_integrations_are_woken_round_robin_by_namespace() {
    let (slots, woken) = slots(4);
    let names: Vec<(&str, String)> = (0..30).map(|number| ("mallory", format!("m{number}"))).collect();
    let names: Vec<(&str, String)> =
        names.into_iter().chain((0..3).map(|number| ("bob", format!("b{number}")))).collect();
    let mut running: VecDeque<Slot> = VecDeque::new();
    let mut served: Vec<String> = vec![];
    let mut reconcile = |namespace: &str, name: &str, running: &mut VecDeque<Slot>| {
        if let Some(slot) = slots.try_acquire(namespace, name) {
            running.push_back(slot);
            served.push(format!("{namespace}/{name}"));
        }
    };
    for (namespace, name) in &names {
        reconcile(namespace, name, &mut running);
    }
    assert_eq!(running.len(), 3, "two of four slots for mallory, and one of the remaining two for bob");
    // Each reconciliation ends, and woken integrations are reconciled at once.
    for _ in 0..200 {
        drop(running.pop_front());
        for full in take(&woken) {
            let (namespace, name) = full.split_once('/').expect("a namespace");
            reconcile(namespace, name, &mut running);
        }
    }
    for (namespace, name) in &names {
        let position = served.iter().position(|other| *other == format!("{namespace}/{name}"));
        let position = position.unwrap_or_else(|| panic!("{namespace}/{name} was not served: {served:?}"));
        assert!(*namespace != "bob" || position < 12, "bob waits for too many integrations of mallory: {served:?}");
    }
}

#[test]
fn a_deleted_integration_is_not_woken() {
    let (slots, woken) = slots(1);
    let held = slots.try_acquire("mallory", "m0");
    assert!(slots.try_acquire("mallory", "deleted").is_none());
    slots.forget("mallory", "deleted");
    drop(held);
    assert_eq!(take(&woken), Vec::<String>::new());
}
