//! The queues of the hosts: who waits where.

#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::limiter::host::Host;
use crate::limiter::state::{LimiterState, Queued, Waiting};
use crate::limiter::types::{HostKey, Waiter};

impl LimiterState {
    pub(super) fn enqueue(&mut self, waiter: &Waiter, host: &HostKey, expires: Timestamp) {
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

    /// The shared key of a host, which is added if it is new.
    pub(super) fn name(&mut self, host: &HostKey) -> Arc<HostKey> {
        if let Some((name, _)) = self.hosts.get_key_value(host) {
            return Arc::clone(name);
        }
        let name = Arc::new(host.clone());
        // If the settings belong to one namespace, only that namespace can wait there.
        let several = self.limits.several_namespaces && host.is_shared();
        self.hosts.insert(Arc::clone(&name), Host::new(self.limits.per_host, several));
        name
    }

    pub(super) fn dequeue(&mut self, uid: &str) {
        self.parked.unpark(uid);
        let Some(Queued { host, namespace, key }) = self.queued.remove(uid) else { return };
        if let Some(host) = self.hosts.get_mut(&host) {
            host.dequeue(&namespace, key);
        }
        self.leave_queue(&host, &namespace);
    }

    pub(super) fn leave_queue(&mut self, host: &HostKey, namespace: &str) {
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
}
