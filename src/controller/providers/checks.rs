//! The queue of providers whose status is to be checked.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::controller::cache::lock::lock;
use crate::controller::providers::store::ProviderKey;
use crate::limiter::fair_queue::FairQueue;

/// The time between a change and the check, in which more may change.
const DELAY: Duration = Duration::from_secs(1);
/// The minimum interval between two checks of one provider.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two checks of a provider that can be used.
pub(crate) const INTERVAL: Duration = Duration::from_hours(1);
/// How many are checked at once, and how many of one namespace.
const AT_ONCE: (usize, usize) = (8, 2);

/// The providers that are to be checked.
#[derive(Debug)]
pub struct ProviderChecks {
    due: Mutex<BTreeMap<ProviderKey, Due>>,
    pub(crate) changed: Notify,
    pub(crate) queue: FairQueue,
}

impl Default for ProviderChecks {
    fn default() -> Self {
        let (total, per_namespace) = AT_ONCE;
        Self { due: Mutex::default(), changed: Notify::new(), queue: FairQueue::new(total, per_namespace) }
    }
}

/// When a provider is checked.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Not before.
    earliest: Instant,
    in_flight: bool,
}

impl ProviderChecks {
    /// Requests a check.
    pub fn request(&self, key: &ProviderKey) {
        let now = Instant::now();
        let mut all = lock(&self.due);
        let due = all.entry(key.clone()).or_insert(Due { at: now + INTERVAL, earliest: now, in_flight: false });
        due.at = due.at.min((now + DELAY).max(due.earliest));
        drop(all);
        self.changed.notify_one();
    }

    /// The providers whose time has come, and when the next one is due.
    pub(crate) fn take_due(&self) -> (Vec<ProviderKey>, Option<Instant>) {
        let now = Instant::now();
        let mut all = lock(&self.due);
        let mut taken = Vec::new();
        for (key, due) in all.iter_mut().filter(|(_, due)| !due.in_flight && due.at <= now) {
            *due = Due { at: now + INTERVAL, earliest: now + MIN_INTERVAL, in_flight: true };
            taken.push(key.clone());
        }
        (taken, all.values().filter(|due| !due.in_flight).map(|due| due.at).min())
    }

    /// Records the end of a check; `None`: the provider is gone.
    pub(crate) fn end(&self, key: &ProviderKey, next: Option<Duration>) {
        let mut all = lock(&self.due);
        match next {
            None => drop(all.remove(key)),
            Some(next) => {
                if let Some(due) = all.get_mut(key) {
                    due.in_flight = false;
                    due.at = due.at.min(Instant::now() + next).max(due.earliest);
                }
            }
        }
        drop(all);
        self.changed.notify_one();
    }
}
