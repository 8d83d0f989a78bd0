//! Tracks the open connections of a listener, and selects the one to close when there are too many. Pure.
//!
//! If a listener refused connections beyond its bound, a client with that many open connections could lock out the
//! kubelet. Therefore a new connection is always accepted, and the oldest connection of the peer with the most
//! connections is closed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The maximum number of open connections of one listener.
pub const MAX_CONNECTIONS: usize = 64;
/// The maximum number of open connections from one address.
pub const MAX_CONNECTIONS_PER_PEER: usize = 16;

/// The open connections of one listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    /// In the order in which they were accepted.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    peer: IpAddr,
    /// Dropping it closes the connection.
    _evict: oneshot::Sender<()>,
}

/// An open connection; removed from the list when dropped.
#[derive(Debug)]
pub struct Slot {
    id: u64,
    connections: Connections,
    evicted: oneshot::Receiver<()>,
}

impl Connections {
    /// Admits a new connection; if there are too many, the oldest one of the peer with the most is closed.
    #[must_use]
    pub fn admit(&self, peer: IpAddr) -> Slot {
        let peer = peer.to_canonical();
        let (evict, evicted) = oneshot::channel();
        let mut open = self.lock();
        while let Some(index) = open.to_evict(peer) {
            open.entries.remove(index);
        }
        let id = open.next_id;
        open.next_id += 1;
        open.entries.push(Entry { id, peer, _evict: evict });
        Slot { id, connections: self.clone(), evicted }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The index of the connection to close before another one of this peer is accepted, if any.
    fn to_evict(&self, peer: IpAddr) -> Option<usize> {
        let mut by_peer: HashMap<IpAddr, usize> = HashMap::new();
        for entry in &self.entries {
            *by_peer.entry(entry.peer).or_default() += 1;
        }
        let heaviest = if by_peer.get(&peer).is_some_and(|own| *own >= MAX_CONNECTIONS_PER_PEER) {
            peer
        } else if self.entries.len() >= MAX_CONNECTIONS {
            let most = by_peer.values().max().copied()?;
            self.entries.iter().map(|entry| entry.peer).find(|peer| by_peer.get(peer) == Some(&most))?
        } else {
            return None;
        };
        self.entries.iter().position(|entry| entry.peer == heaviest)
    }
}

impl Slot {
    /// Waits until the connection must be closed in favor of another.
    pub async fn evicted(&mut self) {
        // Completes with an error when the sender is dropped.
        let _ = (&mut self.evicted).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.lock().entries.retain(|entry| entry.id != self.id);
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn is_evicted(slot: &mut Slot) -> bool {
        slot.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_connections_of_one_peer_are_bounded() {
        let connections = Connections::default();
        let mut probe = connections.admit(peer(1));
        let mut slots: Vec<Slot> = (0..MAX_CONNECTIONS_PER_PEER).map(|_| connections.admit(peer(2))).collect();
        assert!(slots.iter_mut().all(|slot| !is_evicted(slot)));
        let mut newest = connections.admit(peer(2));
        assert!(is_evicted(&mut slots[0]), "the oldest one of the same peer is closed");
        assert!(!is_evicted(&mut slots[1]) && !is_evicted(&mut newest) && !is_evicted(&mut probe));
        // Over IPv6, the same address is the same peer.
        let mapped = Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().into();
        let _mapped = connections.admit(mapped);
        assert!(is_evicted(&mut slots[1]));
    }

    #[test]
    fn a_new_connection_replaces_one_of_the_peer_with_the_most() {
        let connections = Connections::default();
        let mut probe = connections.admit(peer(100));
        let mut slots: Vec<Slot> = (1..MAX_CONNECTIONS)
            .map(|number| connections.admit(peer(u8::try_from(number % 9).expect("a small number"))))
            .collect();
        assert_eq!(connections.count(), MAX_CONNECTIONS);
        let mut another = connections.admit(peer(101));
        assert_eq!(connections.count(), MAX_CONNECTIONS);
        assert_eq!(slots.iter_mut().filter_map(|slot| is_evicted(slot).then_some(())).count(), 1);
        assert!(!is_evicted(&mut probe) && !is_evicted(&mut another));
        drop((slots, probe, another));
        assert_eq!(connections.count(), 0, "closed connections are removed");
    }

    #[test]
    fn if_each_peer_has_one_connection_the_oldest_is_closed() {
        let connections = Connections::default();
        let mut slots: Vec<Slot> = (0..=MAX_CONNECTIONS)
            .map(|number| connections.admit(peer(u8::try_from(number).expect("a small number"))))
            .collect();
        assert!(is_evicted(&mut slots[0]));
        assert!(slots.iter_mut().skip(1).all(|slot| !is_evicted(slot)));
    }
}
