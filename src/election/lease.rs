//! Leader election with a Lease of `coordination.k8s.io`, which is held by one replica at a time.
//!
//! kube-runtime has no leader election, and the existing crates depend on older releases of kube. All decisions are
//! made by one pure function, [`decide`]. Every write includes the resource version that was read, so one of two
//! concurrent writes is rejected.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource};
use tracing::{debug, info, warn};

use crate::clock::Stopwatch;
use crate::election::leadership::{LEASE_DURATION, Leadership, RENEW_INTERVAL};
use crate::error_report::chain;
use crate::failpoints::failpoint;
use crate::kube_api::call::{ApiError, within};

/// Interval at which the other replicas check the lease.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// Timeout of one call: short enough for a second attempt before the lease expires.
const CALL: Duration = Duration::from_secs(4);
/// How long reads of the lease must have succeeded before it is taken from a silent holder: if the holder was
/// disconnected together with this process, it has this time to reconnect and to write its pending responses.
const MIN_STABLE_OBSERVATION: Duration = Duration::from_secs(4);

/// The observed lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSnapshot {
    /// The holder; `None` after a graceful shutdown.
    pub holder: Option<String>,
    /// The duration of the lease after its last renewal.
    pub length: Duration,
}

/// The action to take on the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseAction {
    /// It does not exist: create it.
    Create,
    /// It has no holder, or has expired: take it.
    Take,
    /// This process holds it: renew it.
    Renew,
    /// Another replica holds it: check again later.
    Wait,
}

/// Decides what to do. `unchanged_for` is the time for which the lease has been observed unchanged, `stable_for` the
/// time since the last failed read.
#[must_use]
pub fn decide(
    seen: Option<&LeaseSnapshot>,
    identity: &str,
    unchanged_for: Duration,
    stable_for: Duration,
) -> LeaseAction {
    match seen {
        None => LeaseAction::Create,
        Some(LeaseSnapshot { holder: None, .. }) => LeaseAction::Take,
        Some(LeaseSnapshot { holder: Some(holder), .. }) if holder == identity => LeaseAction::Renew,
        Some(LeaseSnapshot { length, .. }) if unchanged_for >= *length && stable_for >= MIN_STABLE_OBSERVATION => {
            LeaseAction::Take
        }
        Some(_) => LeaseAction::Wait,
    }
}

/// A candidate for the lease.
pub struct LeaderElector {
    leases: Api<Lease>,
    name: String,
    identity: String,
    recorder: Recorder,
    /// The lease as last read or written, and the time since which it has been unchanged.
    last: Option<(Lease, Instant)>,
    /// The time of the first read after the last failed one.
    stable_since: Option<Instant>,
}

impl std::fmt::Debug for LeaderElector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaderElector")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl LeaderElector {
    /// A candidate with a unique identity, which also differs from that of an earlier process with the same name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, recorder: Recorder) -> Self {
        let identity = format!("{identity}_{:016x}", rand::random::<u64>());
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity, recorder, last: None, stable_since: None }
    }

    /// Acquires the lease when it is available, and renews it until `end`. `on_started_leading` is called when this
    /// process becomes the leader. While `may_lead` returns false, the lease is neither acquired nor renewed.
    pub async fn campaign(
        &mut self,
        leadership: &Leadership,
        on_started_leading: impl Fn(),
        may_lead: impl Fn() -> bool,
        end: impl Future<Output = ()>,
    ) {
        let mut led = false;
        let mut pause = Duration::ZERO;
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut end => return,
            }
            // The lease may expire and be acquired again between two checks; integrations reconciled in between must
            // be reconciled again.
            let taken = may_lead() && self.try_acquire_or_renew(leadership).await;
            if taken {
                on_started_leading();
            }
            let is_leader = leadership.is_leader();
            pause = if is_leader { RENEW_INTERVAL } else { self.until_next_check() };
            if taken || is_leader != led {
                // A lease that expired and was acquired again between two checks was lost as well.
                if led && taken {
                    leadership.record_transition(false);
                }
                leadership.record_transition(taken);
                self.publish_transition(taken).await;
            }
            led = is_leader;
        }
    }

    /// The retry period, or a shorter time if the lease expires earlier.
    fn until_next_check(&self) -> Duration {
        let left = self.last.as_ref().map(|(lease, since)| seen(lease).length.saturating_sub(since.elapsed()));
        left.filter(|left| !left.is_zero()).map_or(RETRY_PERIOD, |left| left.min(RETRY_PERIOD))
    }

    /// Returns whether the lease was acquired.
    async fn try_acquire_or_renew(&mut self, leadership: &Leadership) -> bool {
        let begun = Stopwatch::now();
        let length = leadership.required_lease_duration();
        match self.act(leadership.is_leader(), length).await {
            Ok(true) => return leadership.renewed(begun, length),
            Ok(false) => leadership.lost(),
            // The lease stays valid until it expires; callers check whether the remaining time is long enough.
            Err(error) => {
                self.stable_since = None;
                warn!(error = chain(&error), "failed to acquire or renew the lease; retrying");
            }
        }
        false
    }

    /// Reads the lease and acts on it. Returns whether the lease is held.
    async fn act(&mut self, is_leader: bool, length: Duration) -> Result<bool, ApiError> {
        // The holder uses the lease from its own last write; if that is outdated, the write results in a conflict.
        if !is_leader {
            let read = within(CALL, self.leases.get_opt(&self.name)).await?;
            self.record_observation(read);
        }
        let now = Instant::now();
        let unchanged_for = self.last.as_ref().map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
        let stable_for = self.stable_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let seen = self.last.as_ref().map(|(lease, _)| seen(lease));
        let step = decide(seen.as_ref(), &self.identity, unchanged_for, stable_for);
        debug!(?step, ?seen, "observed the lease");
        let written = match step {
            LeaseAction::Wait => return Ok(false),
            LeaseAction::Create => {
                within(CALL, self.leases.create(&PostParams::default(), &self.claim(length, step))).await
            }
            LeaseAction::Take | LeaseAction::Renew => {
                within(CALL, self.leases.replace(&self.name, &PostParams::default(), &self.claim(length, step))).await
            }
        };
        match written {
            Ok(lease) => {
                self.last = Some((lease, Instant::now()));
                Ok(true)
            }
            // Another replica was first, or the lease was deleted: the next read shows which.
            Err(error) if error.status().is_some_and(|status| status.is_conflict() || status.is_not_found()) => {
                self.last = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn record_observation(&mut self, read: Option<Lease>) {
        let now = Instant::now();
        self.stable_since.get_or_insert(now);
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        self.last = match (read, self.last.take()) {
            (None, _) => None,
            (Some(read), Some((known, since))) if version(&known) == version(&read) => Some((read, since)),
            (Some(read), _) => Some((read, now)),
        };
    }

    /// The lease with this process as its holder, and with the resource version that was read.
    fn claim(&self, length: Duration, step: LeaseAction) -> Lease {
        let mut lease = self.last.as_ref().map(|(lease, _)| lease.clone()).unwrap_or_default();
        lease.metadata.name = Some(self.name.clone());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let now = MicroTime(Timestamp::now());
        if step != LeaseAction::Renew {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(whole_seconds(length));
        spec.renew_time = Some(now);
        lease
    }

    /// Releases the lease, so that other replicas need not wait until it expires. The process must not act
    /// afterwards.
    pub async fn release(&mut self, leadership: &Leadership) {
        if !leadership.is_leader() {
            return;
        }
        leadership.lost();
        leadership.record_transition(false);
        let mut lease = self.claim(Duration::from_secs(1), LeaseAction::Renew);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        failpoint!("before-release");
        match within(CALL, self.leases.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => info!("released the lease"),
            Err(error) => warn!(error = chain(&error), "failed to release the lease; it will expire"),
        }
    }

    async fn publish_transition(&self, is_leader: bool) {
        let note = if is_leader { "became leader" } else { "stopped leading" };
        info!(lease = self.name, identity = self.identity, "{note}");
        let Some((lease, _)) = &self.last else { return };
        let event = Event {
            type_: EventType::Normal,
            reason: "LeaderElection".to_owned(),
            note: Some(format!("{} {note}", self.identity)),
            action: "LeaderElection".to_owned(),
            secondary: None,
        };
        let published = tokio::time::timeout(CALL, self.recorder.publish(&event, &lease.object_ref(&()))).await;
        if !matches!(published, Ok(Ok(()))) {
            debug!("failed to publish the event about the lease");
        }
    }
}

fn seen(lease: &Lease) -> LeaseSnapshot {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    LeaseSnapshot {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        length: seconds.map_or(LEASE_DURATION, Duration::from_secs),
    }
}

/// A Lease contains whole seconds. They are rounded up, so that other replicas do not wait less than the holder
/// expects.
fn whole_seconds(length: Duration) -> i32 {
    i32::try_from(length.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decision_for_each_state_of_the_lease() {
        let held = |holder: &str| LeaseSnapshot { holder: Some(holder.to_owned()), length: LEASE_DURATION };
        let second = Duration::from_secs(1);
        let cases: [(&str, Option<LeaseSnapshot>, Duration, Duration, LeaseAction); 8] = [
            ("it does not exist", None, Duration::ZERO, Duration::ZERO, LeaseAction::Create),
            (
                "it has no holder",
                Some(LeaseSnapshot { holder: None, length: second }),
                second,
                second,
                LeaseAction::Take,
            ),
            ("this process holds it", Some(held("me")), second, second, LeaseAction::Renew),
            (
                "this process held it, it has expired, and no other took it",
                Some(held("me")),
                LEASE_DURATION * 2,
                second,
                LeaseAction::Renew,
            ),
            ("another replica renews it", Some(held("other")), second, LEASE_DURATION, LeaseAction::Wait),
            (
                "another replica has been silent for a short time",
                Some(held("other")),
                second * 13,
                LEASE_DURATION,
                LeaseAction::Wait,
            ),
            (
                "another replica has been silent for too long",
                Some(held("other")),
                LEASE_DURATION,
                LEASE_DURATION,
                LeaseAction::Take,
            ),
            (
                "this process was also disconnected until recently",
                Some(held("other")),
                LEASE_DURATION * 2,
                second,
                LeaseAction::Wait,
            ),
        ];
        for (what, seen, unchanged_for, stable_for, step) in cases {
            assert_eq!(decide(seen.as_ref(), "me", unchanged_for, stable_for), step, "{what}");
        }
    }

    #[test]
    fn the_lease_duration_is_rounded_up() {
        assert_eq!(whole_seconds(LEASE_DURATION), 14);
        assert_eq!(whole_seconds(Duration::from_millis(14_001)), 15);
    }
}
