//! Slots that are shared fairly between namespaces: concurrent reconciliations, and memory for responses.
//!
//! The controller runs a bounded number of reconciliations. One that waits for a slow API call or a slow endpoint
//! occupies its slot, so a namespace with many of them would block all others. Therefore each namespace has a share;
//! an integration beyond the share is reconciled again when a slot is free, and does not hold any resources until
//! then. Memory for the responses of endpoints is shared in the same way.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limiter::share::Shares;

/// A released slot may admit two integrations of its own namespace: one slot is free, and the share of the namespace
/// has grown by one.
const WOKEN_PER_RELEASE: usize = 2;

/// Triggers the reconciliation of an integration, by namespace and name.
pub type WakeFn = Box<dyn Fn(&str, &str) + Send + Sync>;

/// The slots.
pub struct NamespaceSlots {
    state: Mutex<State>,
    wake: WakeFn,
}

struct State {
    shares: Shares,
    /// Integrations without a slot, by namespace.
    waiting: HashMap<String, Waiting>,
    /// The waiting namespaces; the least recently woken one is first.
    turns: VecDeque<String>,
}

#[derive(Default)]
struct Waiting {
    names: BTreeSet<String>,
    last_woken: String,
}

impl std::fmt::Debug for NamespaceSlots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamespaceSlots").finish_non_exhaustive()
    }
}

/// A slot, returned when it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<NamespaceSlots>,
    namespace: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.release(&self.namespace);
    }
}

impl NamespaceSlots {
    /// `total` slots for all namespaces together. `several`: whether namespaces must leave room for each other.
    /// `wake` is called for integrations that were denied a slot when one may be free.
    #[must_use]
    pub fn new(total: usize, several: bool, wake: WakeFn) -> Self {
        let state = State { shares: Shares::new(total, several), waiting: HashMap::new(), turns: VecDeque::new() };
        Self { state: Mutex::new(state), wake }
    }

    /// A slot for an integration; `None` if its namespace has used up its share. In that case, the integration is
    /// woken later.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>, namespace: &str, name: &str) -> Option<Slot> {
        let mut state = self.state();
        if state.shares.headroom(namespace) > 0 {
            state.shares.take(namespace);
            return Some(Slot { slots: Arc::clone(self), namespace: namespace.to_owned() });
        }
        state.wait(namespace, name);
        None
    }

    /// How many integrations wait for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().waiting.values().map(|waiting| waiting.names.len()).sum()
    }

    /// Drops a deleted integration.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.state().forget(namespace, name);
    }

    fn release(&self, namespace: &str) {
        let mut state = self.state();
        state.shares.release(namespace);
        let woken: Vec<_> = (0..WOKEN_PER_RELEASE).filter_map(|_| state.next()).collect();
        drop(state);
        for (namespace, name) in woken {
            (self.wake)(&namespace, &name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, namespace: &str, name: &str) {
        if !self.waiting.contains_key(namespace) {
            self.turns.push_back(namespace.to_owned());
        }
        self.waiting.entry(namespace.to_owned()).or_default().names.insert(name.to_owned());
    }

    /// The integration to wake next: round-robin over the namespaces with room, and over the integrations of each
    /// namespace.
    fn next(&mut self) -> Option<(String, String)> {
        let position = self.turns.iter().position(|namespace| self.shares.headroom(namespace) > 0)?;
        let namespace = self.turns.remove(position)?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let after = (Bound::Excluded(waiting.last_woken.as_str()), Bound::Unbounded);
        let name = waiting.names.range::<str, _>(after).next().or_else(|| waiting.names.first()).cloned()?;
        waiting.last_woken.clone_from(&name);
        self.turns.push_back(namespace.clone());
        self.forget(&namespace, &name);
        Some((namespace, name))
    }

    fn forget(&mut self, namespace: &str, name: &str) {
        let Some(waiting) = self.waiting.get_mut(namespace) else { return };
        waiting.names.remove(name);
        if waiting.names.is_empty() {
            self.waiting.remove(namespace);
            self.turns.retain(|other| other != namespace);
        }
    }
}
