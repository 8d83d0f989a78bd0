//! The election: a Lease of `coordination.k8s.io`, which one replica holds at a time.
//!
//! kube-runtime has none, and the crates that do are written for older releases of kube. What decides is one pure function,
//! [`next_step`], and every write carries the version of the lease that was read, so of two that want it one is refused.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource};
use tracing::{debug, info, warn};

use crate::error::{ApiError, chain};
use crate::failpoints::failpoint;
use crate::leadership::{LEASE, Leadership, Moment, RENEW_EVERY};

/// How often the others look whether the lease is free.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one call may take: short of the lease by enough for another try.
const CALL: Duration = Duration::from_secs(4);
/// For how long the lease must have been seen unchanged, look by look, before it is taken from a holder that is silent: one
/// that was cut off together with us gets this much time to come back and write what it has in hand.
const STEADY: Duration = Duration::from_secs(4);

/// What a look at the lease has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; nobody after an orderly end.
    pub holder: Option<String>,
    /// For how long after its last renewal.
    pub length: Duration,
}

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Create,
    /// Nobody holds it, or its holder has let it run out: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another holds it: look again.
    Wait,
}

/// Decides. `unchanged` is for how long the lease has been seen as it is, and `steadily` for how long without a look that
/// failed.
#[must_use]
pub fn next_step(seen: Option<&Seen>, me: &str, unchanged: Duration, steadily: Duration) -> Step {
    match seen {
        None => Step::Create,
        Some(Seen { holder: None, .. }) => Step::Take,
        Some(Seen { holder: Some(holder), .. }) if holder == me => Step::Renew,
        Some(Seen { length, .. }) if unchanged >= *length && steadily >= STEADY => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// A candidate for the lease.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    me: String,
    recorder: Recorder,
    /// The lease as it was last read or written, and since when it has been so.
    last: Option<(Lease, Instant)>,
    /// The first look since which none has failed.
    steady: Option<Instant>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("name", &self.name).field("me", &self.me).finish_non_exhaustive()
    }
}

impl Candidate {
    /// One that is told apart from all others, also from one of the same name before it.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, recorder: Recorder) -> Self {
        let me = format!("{identity}_{:016x}", rand::random::<u64>());
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), me, recorder, last: None, steady: None }
    }

    /// Takes the lease when it can be had and keeps it, until `end`. `gained` is called when this process begins to lead.
    pub async fn campaign(&mut self, leadership: &Leadership, gained: impl Fn(), end: impl Future<Output = ()>) {
        let mut led = false;
        let mut pause = Duration::ZERO;
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut end => return,
            }
            // A lease may run out and be taken again between two looks at it; who looked between has to look again.
            let taken = self.look_and_act(leadership).await;
            if taken {
                gained();
            }
            let leads = leadership.leads();
            pause = if leads { RENEW_EVERY } else { self.until_next_look() };
            if taken || leads != led {
                self.tell(taken).await;
            }
            led = leads;
        }
    }

    /// A lease that runs out before is looked at right then.
    fn until_next_look(&self) -> Duration {
        let left = self.last.as_ref().map(|(lease, since)| seen(lease).length.saturating_sub(since.elapsed()));
        left.filter(|left| !left.is_zero()).map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))
    }

    /// Returns whether the lease has been taken.
    async fn look_and_act(&mut self, leadership: &Leadership) -> bool {
        let begun = Moment::now();
        let length = leadership.wanted();
        match self.act(leadership.leads(), length).await {
            Ok(true) => return leadership.holds(begun, length),
            Ok(false) => leadership.lost(),
            // What is left of the lease stays ours; whether that is enough is counted by those who ask.
            Err(error) => {
                self.steady = None;
                warn!(error = chain(&error), "failed to look after the lease; will be tried again");
            }
        }
        false
    }

    /// One look, and what follows from it. Returns whether the lease is held.
    async fn act(&mut self, leads: bool, length: Duration) -> Result<bool, ApiError> {
        // The holder knows the lease from its own last write; a conflict shows when that is no longer true.
        if !leads {
            let read = in_time(self.leases.get_opt(&self.name)).await?;
            self.learn(read);
        }
        let now = Instant::now();
        let unchanged = self.last.as_ref().map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
        let steadily = self.steady.map_or(Duration::ZERO, |since| now.duration_since(since));
        let seen = self.last.as_ref().map(|(lease, _)| seen(lease));
        let step = next_step(seen.as_ref(), &self.me, unchanged, steadily);
        debug!(?step, ?seen, "looked at the lease");
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create => in_time(self.leases.create(&PostParams::default(), &self.claim(length, step))).await,
            Step::Take | Step::Renew => {
                in_time(self.leases.replace(&self.name, &PostParams::default(), &self.claim(length, step))).await
            }
        };
        match written {
            Ok(lease) => {
                self.last = Some((lease, Instant::now()));
                Ok(true)
            }
            // Another was first, or somebody has deleted it: the next look shows.
            Err(error) if error.status().is_some_and(|status| status.is_conflict() || status.is_not_found()) => {
                self.last = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn learn(&mut self, read: Option<Lease>) {
        let now = Instant::now();
        self.steady.get_or_insert(now);
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        self.last = match (read, self.last.take()) {
            (None, _) => None,
            (Some(read), Some((known, since))) if version(&known) == version(&read) => Some((read, since)),
            (Some(read), _) => Some((read, now)),
        };
    }

    /// The lease with our name on it; the version that was read goes along.
    fn claim(&self, length: Duration, step: Step) -> Lease {
        let mut lease = self.last.as_ref().map(|(lease, _)| lease.clone()).unwrap_or_default();
        lease.metadata.name = Some(self.name.clone());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let now = MicroTime(Timestamp::now());
        if step != Step::Renew {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = Some(whole_seconds(length));
        spec.renew_time = Some(now);
        lease
    }

    /// Gives the lease up, so that another need not wait for its end. Nothing may be done after it.
    pub async fn release(&mut self, leadership: &Leadership) {
        if !leadership.leads() {
            return;
        }
        leadership.lost();
        let mut lease = self.claim(Duration::from_secs(1), Step::Renew);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        failpoint!("before-release");
        match in_time(self.leases.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => info!("gave the lease up"),
            Err(error) => warn!(error = chain(&error), "failed to give the lease up; it runs out by itself"),
        }
    }

    async fn tell(&self, leads: bool) {
        let note = if leads { "became leader" } else { "stopped leading" };
        info!(lease = self.name, identity = self.me, "{note}");
        let Some((lease, _)) = &self.last else { return };
        let event = Event {
            type_: EventType::Normal,
            reason: "LeaderElection".to_owned(),
            note: Some(format!("{} {note}", self.me)),
            action: "LeaderElection".to_owned(),
            secondary: None,
        };
        let published = tokio::time::timeout(CALL, self.recorder.publish(&event, &lease.object_ref(&()))).await;
        if !matches!(published, Ok(Ok(()))) {
            debug!("failed to publish the event about the lease");
        }
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        length: seconds.map_or(LEASE, Duration::from_secs),
    }
}

/// A lease tells whole seconds; others must not count less than its holder does.
fn whole_seconds(length: Duration) -> i32 {
    i32::try_from(length.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::TimedOut(CALL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_lease() {
        let held = |holder: &str| Seen { holder: Some(holder.to_owned()), length: LEASE };
        let second = Duration::from_secs(1);
        let cases: [(&str, Option<Seen>, Duration, Duration, Step); 8] = [
            ("there is none", None, Duration::ZERO, Duration::ZERO, Step::Create),
            ("nobody holds it", Some(Seen { holder: None, length: second }), second, second, Step::Take),
            ("it is ours", Some(held("me")), second, second, Step::Renew),
            ("it is ours and has run out, but nobody came", Some(held("me")), LEASE * 2, second, Step::Renew),
            ("another renews it", Some(held("other")), second, LEASE, Step::Wait),
            ("another is silent, not yet for long", Some(held("other")), second * 13, LEASE, Step::Wait),
            ("another is silent for too long", Some(held("other")), LEASE, LEASE, Step::Take),
            ("we were cut off as well a moment ago", Some(held("other")), LEASE * 2, second, Step::Wait),
        ];
        for (what, seen, unchanged, steadily, step) in cases {
            assert_eq!(next_step(seen.as_ref(), "me", unchanged, steadily), step, "{what}");
        }
    }

    #[test]
    fn others_count_at_least_as_long_as_the_holder() {
        assert_eq!(whole_seconds(LEASE), 14);
        assert_eq!(whole_seconds(Duration::from_millis(14_001)), 15);
    }
}
