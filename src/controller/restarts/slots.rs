//! The rollouts that are in progress, and the order in which workloads are restarted: fair by namespace. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::controller::restarts::workload::WorkloadId;
use crate::limiter::share::Shares;

/// After this time a rollout no longer counts, even if it is not complete: its pods may never become ready.
pub const ROLLOUT_TIMEOUT: Duration = Duration::from_mins(10);

/// The rollouts in progress.
#[derive(Debug)]
pub struct Slots {
    shares: Shares,
    /// The uid of each workload, and when its rollout began.
    rollouts: HashMap<WorkloadId, (String, Instant)>,
    /// When each namespace was served last.
    served: HashMap<String, u64>,
    turns: u64,
}

impl Slots {
    /// Slots for this number of rollouts, all free.
    #[must_use]
    pub fn new(at_once: usize, several_namespaces: bool) -> Self {
        let shares = Shares::new(at_once, several_namespaces);
        Self { shares, rollouts: HashMap::new(), served: HashMap::new(), turns: 0 }
    }

    /// Takes a slot, if its namespace may have one more.
    pub fn take(&mut self, id: &WorkloadId, uid: &str, since: Instant) -> bool {
        if self.rollouts.contains_key(id) || self.shares.headroom(&id.namespace) == 0 {
            return false;
        }
        self.shares.take(&id.namespace);
        self.turns += 1;
        self.served.insert(id.namespace.clone(), self.turns);
        self.rollouts.insert(id.clone(), (uid.to_owned(), since));
        true
    }

    /// Returns the slot of a workload.
    pub fn release(&mut self, id: &WorkloadId) {
        if self.rollouts.remove(id).is_some() {
            self.shares.release(&id.namespace);
        }
    }

    /// The rollouts in progress: the uid of each workload.
    #[must_use]
    pub fn rollouts(&self) -> Vec<(WorkloadId, String)> {
        self.rollouts.iter().map(|(id, (uid, _))| (id.clone(), uid.clone())).collect()
    }

    /// Returns the slots of rollouts that take too long.
    pub fn expire(&mut self, now: Instant) {
        let is_late = |since: Instant| now.saturating_duration_since(since) >= ROLLOUT_TIMEOUT;
        let late: Vec<WorkloadId> =
            self.rollouts.iter().filter(|(_, (_, since))| is_late(*since)).map(|(id, _)| id.clone()).collect();
        for id in &late {
            self.release(id);
        }
    }

    /// Forgets when other namespaces than these were served: those without workloads that have opted in. One that has
    /// nothing due for a moment keeps its turn, so that it does not overtake those that wait.
    pub fn forget_other_namespaces(&mut self, known: &HashSet<&str>) {
        self.served.retain(|namespace, _| known.contains(namespace.as_str()));
    }

    /// Takes slots for the workloads that are due, as far as there are any: the namespace that was served longest ago is
    /// next, and within it the workload that has waited longest. One whose rollout is in progress keeps its slot: its pods
    /// may never become ready without the new content. Returns the positions of those that have one.
    pub fn take_turns(&mut self, due: &[(WorkloadId, String, Timestamp)], now: Instant) -> Vec<usize> {
        let mut queues: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut taken = Vec::new();
        for (position, (id, ..)) in due.iter().enumerate() {
            if self.rollouts.contains_key(id) {
                taken.push(position);
            } else {
                queues.entry(&id.namespace).or_default().push(position);
            }
        }
        for queue in queues.values_mut() {
            // The last one is next.
            queue.sort_by(|one, other| {
                let key = |position: &usize| due.get(*position).map(|(id, _, since)| (*since, id));
                key(other).cmp(&key(one))
            });
        }
        loop {
            let turn = |namespace: &str| self.served.get(namespace).copied().unwrap_or_default();
            queues.retain(|namespace, queue| !queue.is_empty() && self.shares.headroom(namespace) > 0);
            let next = queues.iter_mut().min_by_key(|(namespace, _)| (turn(namespace), **namespace));
            let Some((_, queue)) = next else { return taken };
            let Some(position) = queue.pop() else { continue };
            if due.get(position).is_some_and(|(id, uid, _)| self.take(id, uid, now)) {
                taken.push(position);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
mod tests {
    use super::*;
    use crate::controller::restarts::workload::WorkloadKind;

    fn id(namespace: &str, number: usize) -> WorkloadId {
        let (namespace, name) = (namespace.to_owned(), format!("it-{number:03}"));
        WorkloadId { namespace, kind: WorkloadKind::Deployment, name }
    }

    fn due(namespace: &str, number: usize) -> Vec<(WorkloadId, String, Timestamp)> {
        (0..number).map(|number| (id(namespace, number), "uid".to_owned(), Timestamp::UNIX_EPOCH)).collect()
    }

    #[test]
    fn no_more_than_the_maximum_at_once_and_those_that_waited_longest_first() {
        let (mut slots, now) = (Slots::new(5, false), Instant::now());
        let mut waiting = due("one", 100);
        waiting[42].2 -= jiff::SignedDuration::from_secs(1);
        let first = slots.take_turns(&waiting, now);
        assert_eq!(first, [42, 0, 1, 2, 3]);
        assert_eq!(slots.take_turns(&waiting[4..42], now), Vec::<usize>::new());
        slots.release(&waiting[1].0);
        let rest: Vec<_> = waiting.iter().skip(4).filter(|(id, ..)| *id != waiting[42].0).cloned().collect();
        assert_eq!(slots.take_turns(&rest, now), [0], "it-004");
        assert_eq!(slots.take_turns(&waiting[..1], now), [0], "it has a slot");
        assert_eq!(slots.rollouts().len(), 5);
    }

    #[test]
    fn a_namespace_whose_rollouts_never_complete_does_not_delay_others() {
        let (mut slots, now) = (Slots::new(5, true), Instant::now());
        let mut waiting = due("many", 100);
        assert_eq!(slots.take_turns(&waiting, now).len(), 3, "half of them, rounded up");
        waiting.drain(..3);
        waiting.extend(due("few", 1));
        assert_eq!(slots.take_turns(&waiting, now), [97]);
        slots.expire(now + ROLLOUT_TIMEOUT / 2);
        assert_eq!(slots.rollouts().len(), 4);
        slots.expire(now + ROLLOUT_TIMEOUT);
        assert_eq!(slots.rollouts().len(), 0);
        let turns = slots.take_turns(&[due("many", 9), due("few", 9)].concat(), now);
        let few = turns.iter().filter(|position| **position >= 9).count();
        assert_eq!((turns.len(), few), (4, 2), "they take turns");
    }

    #[test]
    fn a_namespace_does_not_overtake_by_having_nothing_due_for_a_moment() {
        let (mut slots, now) = (Slots::new(1, true), Instant::now());
        for (namespace, next) in [("patient", 0), ("busy", 0)] {
            assert_eq!(slots.take_turns(&due(namespace, 1), now), [next]);
            slots.release(&id(namespace, 0));
        }
        slots.forget_other_namespaces(&HashSet::from(["busy", "patient"]));
        assert_eq!(slots.take_turns(&[], now), Vec::<usize>::new());
        let both = [due("busy", 1), due("patient", 1)].concat();
        assert_eq!(slots.take_turns(&both, now), [1], "the one that was served longest ago");
    }
}
