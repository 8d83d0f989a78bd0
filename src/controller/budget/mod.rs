//! The budgets of each namespace for writes to the API server, events and log lines: token buckets. Pure: the time is
//! an argument.
//!
//! A renewal is admitted *before* its token is requested. Its writes then happen even if the bucket is empty, because
//! a received token must never wait for a budget. Writes beyond the budget are a debt, which delays the next renewals
//! of the namespace.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::oauth::lifetime::hash_fraction;

/// The writes of one renewal: the Secret, the status, and sometimes an event. Also the interval between two turns, in
/// tokens.
const RENEWAL: f64 = 3.0;
/// The cost of an admitted renewal, in tokens: the writes of the Secret and of the status, even if they turn out to
/// be unnecessary (the Secrets have been read by then).
const ADMISSION: f64 = 2.0;
/// The cost of a read that was caused by another writer, in tokens.
const READ: f64 = 1.0;
/// The maximum debt, in bursts: it is repaid one minute after the last write.
const MAX_DEBT: f64 = 3.0;
/// The capacity of a bucket: the tokens of this many seconds.
const BURST_SECONDS: f64 = 20.0;
/// Full buckets carry no information; if there are more buckets than this, full ones are dropped.
const MAX_IDLE: usize = 1_024;
/// The rate of log lines of a namespace, per second.
const WARNINGS_PER_SECOND: f64 = 1.0;
/// The maximum wait; a waiting integration is requeued at least this often.
const MAX_WAIT: Duration = Duration::from_mins(5);

/// Limits by namespace and in total; 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Writes of one namespace, per second.
    pub writes_per_namespace: u32,
    /// Writes of all namespaces, per second.
    pub writes: u32,
    /// Events of one namespace, per minute.
    pub events_per_namespace: u32,
}

/// All budgets of the process.
#[derive(Debug)]
pub struct Budgets {
    writes: Buckets,
    total: Buckets,
    events: Buckets,
    warnings: Buckets,
}

/// The key of the single bucket for all namespaces.
const ALL: &str = "";

impl Budgets {
    /// Budgets whose buckets are full.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        Self {
            writes: Buckets::new(limits.writes_per_namespace.into()),
            total: Buckets::new(limits.writes.into()),
            events: Buckets::new(f64::from(limits.events_per_namespace) / 60.0),
            warnings: Buckets::new(WARNINGS_PER_SECOND),
        }
    }

    /// Whether a renewal of an integration may begin: `None` if it may, otherwise its turn. A waiting integration
    /// keeps its turn; if all turns of the next five minutes are taken, it gets none.
    ///
    /// The writes of the renewal are charged here, so that integrations that are admitted at the same time share the
    /// budget before any of them has written.
    ///
    /// If the total is used up, only namespaces that have used less than half of their own budget continue:
    /// namespaces with many writes wait, and the others are not affected.
    #[must_use]
    pub fn admit(&self, namespace: &str, uid: &str, now: Instant) -> Option<Instant> {
        let is_frugal = self.writes.level(namespace, now) > 0.5;
        let total = if is_frugal { Duration::ZERO } else { self.total.deficit(ALL, now) };
        self.writes.admit(namespace, uid, now, total, Cost::ADMISSION)
    }

    /// Whether an object that another writer changed may be read: `None` if it may, otherwise the turn. A read costs
    /// as much as a write.
    #[must_use]
    pub fn admit_read(&self, namespace: &str, uid: &str, now: Instant) -> Option<Instant> {
        self.writes.admit(namespace, &format!("{uid}/read"), now, Duration::ZERO, Cost { tokens: READ, prepaid: 0.0 })
    }

    /// Refunds the charge of an admitted renewal that does not begin for reasons within the operator.
    pub fn refund(&self, namespace: &str, now: Instant) {
        self.writes.refund(namespace, now);
    }

    /// Counts a write to the API server.
    pub fn spend_write(&self, namespace: &str, now: Instant) {
        self.writes.spend(namespace, now);
        self.total.spend(ALL, now);
    }

    /// How long a deferrable status update must wait. It has its own turns, so that it does not delay renewals of the
    /// integration.
    #[must_use]
    pub fn status_delay(&self, namespace: &str, uid: &str, now: Instant) -> Option<Duration> {
        let turn = self.writes.admit(namespace, &format!("{uid}/status"), now, Duration::ZERO, Cost::ADMISSION);
        turn.map(|turn| turn.saturating_duration_since(now))
    }

    /// Takes a token for an event, if there is one.
    #[must_use]
    pub fn take_event(&self, namespace: &str, now: Instant) -> bool {
        self.events.take(namespace, now).is_some()
    }

    /// Takes a token for a log line, if there is one, and returns the number of lines that were omitted before it.
    #[must_use]
    pub fn take_warning(&self, namespace: &str, now: Instant) -> Option<u64> {
        self.warnings.take(namespace, now)
    }
}

/// The charge of an admission.
#[derive(Clone, Copy)]
struct Cost {
    tokens: f64,
    /// The part that pays for the writes that follow.
    prepaid: f64,
}

impl Cost {
    const ADMISSION: Self = Self { tokens: ADMISSION, prepaid: ADMISSION };
}

#[derive(Debug)]
struct Buckets {
    per_second: f64,
    by_namespace: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// A negative number is a debt.
    tokens: f64,
    at: Instant,
    /// Writes that were charged when their renewals were admitted, but have not happened yet.
    prepaid: f64,
    /// The turns of waiting integrations, by uid.
    turns: HashMap<String, Instant>,
    /// The last turn that was assigned.
    last_turn: Instant,
    /// When unused turns are dropped next.
    next_sweep: Instant,
    /// The number of denied requests since the last token was taken.
    refused: u64,
}

impl Buckets {
    fn new(per_second: f64) -> Self {
        Self { per_second, by_namespace: Mutex::default() }
    }

    fn burst(&self) -> f64 {
        (self.per_second * BURST_SECONDS).max(1.0)
    }

    fn with<T>(&self, namespace: &str, now: Instant, look: impl FnOnce(&mut Bucket) -> T) -> T {
        let (rate, burst) = (self.per_second, self.burst());
        let mut all = self.lock();
        if all.len() > MAX_IDLE && !all.contains_key(namespace) {
            all.retain(|_, bucket| {
                bucket.refill(rate, burst, now);
                bucket.sweep(now);
                bucket.tokens < burst || !bucket.turns.is_empty() || bucket.refused > 0
            });
        }
        let bucket = all.entry(namespace.to_owned()).or_insert_with(|| Bucket {
            tokens: burst,
            at: now,
            prepaid: 0.0,
            turns: HashMap::new(),
            last_turn: now,
            next_sweep: now + MAX_WAIT,
            refused: 0,
        });
        bucket.refill(rate, burst, now);
        look(bucket)
    }

    fn is_unlimited(&self) -> bool {
        self.per_second <= 0.0
    }

    /// The fill level of the bucket, from 0 to 1.
    fn level(&self, namespace: &str, now: Instant) -> f64 {
        if self.is_unlimited() {
            return 1.0;
        }
        self.with(namespace, now, |bucket| bucket.tokens / self.burst())
    }

    /// The time until the bucket is no longer empty.
    fn deficit(&self, namespace: &str, now: Instant) -> Duration {
        if self.is_unlimited() {
            return Duration::ZERO;
        }
        self.with(namespace, now, |bucket| seconds((1.0 - bucket.tokens) / self.per_second))
    }

    fn spend(&self, namespace: &str, now: Instant) {
        if self.is_unlimited() {
            return;
        }
        let burst = self.burst();
        self.with(namespace, now, |bucket| {
            if bucket.prepaid >= 1.0 {
                bucket.prepaid -= 1.0;
            } else {
                bucket.charge(1.0, burst);
            }
        });
    }

    fn refund(&self, namespace: &str, now: Instant) {
        if self.is_unlimited() {
            return;
        }
        let burst = self.burst();
        self.with(namespace, now, |bucket| {
            // Refunds only the part of the charge that writes have not used yet.
            let unused = bucket.prepaid.min(ADMISSION);
            bucket.prepaid -= unused;
            bucket.tokens = (bucket.tokens + unused).min(burst);
        });
    }

    /// Takes a token, and returns how many requests were denied since the last one.
    fn take(&self, namespace: &str, now: Instant) -> Option<u64> {
        if self.is_unlimited() {
            return Some(0);
        }
        self.with(namespace, now, |bucket| {
            if bucket.tokens < 1.0 {
                bucket.refused += 1;
                return None;
            }
            bucket.tokens -= 1.0;
            Some(std::mem::take(&mut bucket.refused))
        })
    }

    /// Waiting integrations are assigned turns at the rate at which the bucket fills, so that they do not retry
    /// together.
    fn admit(&self, namespace: &str, uid: &str, now: Instant, at_least: Duration, cost: Cost) -> Option<Instant> {
        if self.is_unlimited() && at_least.is_zero() {
            return None;
        }
        let (is_unlimited, burst) = (self.is_unlimited(), self.burst());
        let rate = if is_unlimited { f64::MAX } else { self.per_second };
        self.with(namespace, now, |bucket| {
            if now >= bucket.next_sweep {
                bucket.sweep(now);
            }
            let turn = bucket.turns.get(uid).copied();
            if let Some(turn) = turn.filter(|turn| *turn > now) {
                return Some(turn);
            }
            let deficit = if is_unlimited { Duration::ZERO } else { seconds((1.0 - bucket.tokens) / rate) };
            let wait = deficit.max(at_least);
            if turn.is_some() || (wait.is_zero() && bucket.last_turn <= now) {
                bucket.turns.remove(uid);
                if !is_unlimited {
                    bucket.charge(cost.tokens, burst);
                    bucket.prepaid = (bucket.prepaid + cost.prepaid).min(burst);
                }
                return None;
            }
            let turn = bucket.last_turn.max(now + wait) + seconds(RENEWAL / rate);
            if turn > now + MAX_WAIT {
                // No turn is assigned; the retries are spread over time.
                return Some(now + MAX_WAIT.mul_f64(f64::midpoint(1.0, hash_fraction(uid))));
            }
            bucket.last_turn = turn;
            bucket.turns.insert(uid.to_owned(), turn);
            Some(turn)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.by_namespace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn refill(&mut self, rate: f64, burst: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(burst);
        self.at = self.at.max(now);
    }

    fn charge(&mut self, tokens: f64, burst: f64) {
        self.tokens = (self.tokens - tokens).max(-MAX_DEBT * burst);
    }

    /// Drops unused turns.
    fn sweep(&mut self, now: Instant) {
        self.turns.retain(|_, turn| now.saturating_duration_since(*turn) < MAX_WAIT);
        self.next_sweep = now + MAX_WAIT;
    }
}

/// A duration from seconds; zero if they are negative.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(MAX_WAIT).min(MAX_WAIT)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests;
