#![allow(clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::controller::memory::DEFAULT_LIMIT;

const BOUND: MemoryBound = MemoryBound::of_integrations(DEFAULT_LIMIT, true);

fn integration(namespace: &str, name: &str, size: usize) -> GuardedIntegration {
    let integration = serde_json::from_value(json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
        "metadata": {"namespace": namespace, "name": name, "uid": name},
        "spec": {"tokenEndpoint": "https://login.example.com", "grantType": "client_credentials", "scope": "s".repeat(size)},
    }));
    DeserializeGuard(Ok(integration.expect("an integration")))
}

fn admits(shares: &Shares, watched: GuardedIntegration) -> bool {
    let Event::Apply(DeserializeGuard(read)) = shares.follow(Event::Apply(watched)) else { return false };
    read.is_ok()
}

#[test]
fn a_namespace_beyond_its_share_does_not_affect_others_and_recovers() {
    let shares = Shares::new(BOUND);
    let large = BOUND.namespace / FACTOR * 2 / 4;
    for name in ["a", "b", "c"] {
        assert!(admits(&shares, integration("one", name, large)));
        // The same integration again replaces itself.
        assert!(admits(&shares, integration("one", name, large)));
    }
    assert!(!admits(&shares, integration("one", "d", large)));
    assert!(admits(&shares, integration("one", "small", 100)));
    assert!(admits(&shares, integration("two", "d", large)));
    shares.follow(Event::Delete(integration("one", "a", large)));
    assert!(admits(&shares, integration("one", "d", large)));
    for name in ["b", "c", "d", "small"] {
        shares.follow(Event::Delete(integration("one", name, 0)));
    }
    assert!(!shares.lock().namespaces.contains_key("one"), "the namespace is removed");
}

#[test]
fn the_total_is_bounded_and_admitted_integrations_stay() {
    let shares = Shares::new(BOUND);
    let large = BOUND.namespace / FACTOR * 2 / 10 * 9;
    assert!(admits(&shares, integration("one", "it", large)) && admits(&shares, integration("two", "it", large)));
    assert!(!admits(&shares, integration("three", "it", large)));
    assert!(admits(&shares, integration("three", "small", 100)));
    // An integration that grows beyond the limit is refused, and admitted again when it is smaller.
    assert!(!admits(&shares, integration("one", "it", large * 2)));
    assert!(admits(&shares, integration("one", "it", large)));
    // A new list in another order has no effect.
    assert!(!admits(&shares, integration("two", "another", large)));
    assert!(admits(&shares, integration("two", "it", large)));
    // A new integration with the same name must be admitted again, and the deletion of the old one does not affect
    // it.
    let mut other = integration("two", "it", large);
    other.meta_mut().uid = Some("other".to_owned());
    assert!(admits(&shares, other));
    shares.forget(&integration("two", "it", large));
    assert!(!admits(&shares, integration("two", "another", large)));
}

#[test]
fn a_refused_integration_is_admissible_when_there_is_room_for_it() {
    let shares = Shares::new(BOUND);
    let large = BOUND.namespace / FACTOR * 2 / 4;
    let version = |mut watched: GuardedIntegration, version: u32| {
        watched.meta_mut().resource_version = Some(version.to_string());
        watched
    };
    for name in ["a", "b", "c"] {
        assert!(admits(&shares, integration("one", name, large)));
    }
    for name in ["d", "e", "f"] {
        assert!(!admits(&shares, version(integration("one", name, large), 5)));
    }
    assert_eq!(shares.admissible(None, 10), vec![]);
    shares.follow(Event::Delete(integration("one", "a", large)));
    assert_eq!(shares.admissible(None, 10).len(), 3, "each of them fits alone");
    assert_eq!((shares.admissible(None, 2).len(), shares.admissible(Some("two"), 10).len()), (2, 0));
    assert!(shares.is_admissible("one", "d") && !shares.is_admissible("one", "b"));

    // An integration that was read again is used only if nothing newer is known.
    assert!(!shares.is_refused(&version(integration("one", "d", large), 4)), "older");
    assert!(!shares.is_refused(&version(integration("one", "b", large), 9)), "not refused");
    let mut other = version(integration("one", "d", large), 9);
    other.meta_mut().uid = Some("other".to_owned());
    assert!(!shares.is_refused(&other), "another integration with the same name");
    let again = version(integration("one", "d", large), 5);
    assert!(shares.is_refused(&again));
    assert!(admits(&shares, again.clone()));
    assert!(!shares.is_refused(&again) && shares.admissible(None, 10).is_empty(), "the room is taken");

    // An integration that cannot be parsed does not count as refused for lack of room, and a deleted one is no longer
    // refused.
    shares.follow(Event::Delete(integration("one", "e", large)));
    assert!(!shares.is_refused(&version(integration("one", "e", large), 5)));
    let metadata = integration("one", "f", 0).meta().clone();
    let invalid = DeserializeGuard(Err(InvalidObject { error: "deep".to_owned(), metadata }));
    shares.follow(Event::Apply(invalid));
    shares.follow(Event::Delete(integration("one", "b", large)));
    assert_eq!(shares.admissible(None, 10), vec![]);
}

#[test]
fn metadata_is_counted_or_not_kept() {
    let mut watched = integration("one", "it", 10);
    let before = Size::of(&watched).total();
    watched.meta_mut().finalizers = Some(vec!["x.example/".to_owned() + &"x".repeat(300); 38]);
    assert!(Size::of(&watched).total() > before + 38 * 300);

    let shares = Shares::new(BOUND);
    let mut watched = integration("one", "it", BOUND.namespace);
    watched.meta_mut().finalizers = Some(vec!["x.example/x".to_owned(), FINALIZER.to_owned()]);
    watched.meta_mut().annotations = Some([("a".to_owned(), "x".repeat(1_000))].into());
    let Event::Apply(DeserializeGuard(Err(refused))) = shares.follow(Event::Apply(watched)) else { panic!("admitted") };
    assert_eq!(refused.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
    assert_eq!((refused.metadata.annotations, refused.metadata.uid.as_deref()), (None, Some("it")));
}
