//! The state of each integration between two reconciliations. No Secret data is kept, except a token response that
//! has not been written yet.
//!
//! Watches lag behind the operator's own writes. The result of a write is therefore also recorded here, and older
//! watch events are dropped, so that no decision is based on the state before the last write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::acquisition::attempt::IssuedToken;
use crate::api::status::OAuthIntegrationStatus;
use crate::controller::cache::initial_tokens::TokenClaim;
use crate::controller::cache::lock::lock;
use crate::controller::revoker::job::RevocationJob;
use crate::decision::backoff::request_interval;
use crate::target::template::SecretTemplate;

/// A write that is reverted later than this is assumed to be reverted by a person, not by a controller.
const REVERT_WINDOW: SignedDuration = SignedDuration::from_secs(10);

/// A response of an endpoint that has not been written yet, with everything that the write needs.
#[derive(Clone, Debug)]
pub struct PendingWrite {
    /// The namespace of the target.
    pub namespace: String,
    /// The integration.
    pub owner: OwnerReference,
    /// Metadata, type and keys of the target.
    pub template: SecretTemplate,
    /// The tokens to write.
    pub issued: IssuedToken,
    /// The superseded token, to be revoked some time after the write.
    pub superseded: Option<(Duration, RevocationJob)>,
    /// When the response was received.
    pub received_at: Timestamp,
    /// When the renewal was planned, if it was one on schedule.
    pub planned_at: Option<Timestamp>,
    /// Keeps other integrations from sending the same initial refresh token before they can see that it was used.
    pub claim: Option<Arc<TokenClaim>>,
}

/// The state of an integration that is kept between two reconciliations.
#[derive(Debug, Default)]
struct IntegrationState {
    /// The last written status and its version, until the watch delivers it.
    status: Option<(u64, Box<OAuthIntegrationStatus>)>,
    /// The response that has not reached its Secret.
    pending: Option<Arc<PendingWrite>>,
    /// The tokens that were issued.
    issued: Streak,
    /// The rewrites of the target with the stored token.
    rewrites: Streak,
    /// The fingerprint of the stored token on which an expression of the target failed.
    lacks_data: Option<Box<str>>,
    /// The end of the pause that the endpoint has requested.
    requested_pause_until: Option<Timestamp>,
    /// The number of consecutive failed reconciliations.
    failures: u32,
    /// When the last event was published.
    last_event: Option<Timestamp>,
    /// The generation that could not be parsed and the reason, after it was reported.
    invalid: Option<(i64, String)>,
}

/// Consecutive writes, each reverted immediately by another actor: the interval between them grows.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    /// The time of the last write, and how many consecutive ones preceded it.
    last: Option<(Timestamp, u32)>,
}

impl Streak {
    /// Records another write; `is_repeated`: it replaces the previous one, which was lost.
    fn record(&mut self, now: Timestamp, is_repeated: bool) {
        let follows = |(at, count): (Timestamp, u32)| {
            let window = request_interval(count) + REVERT_WINDOW;
            (is_repeated && now.duration_since(at) < window).then_some(count + 1)
        };
        self.last = Some((now, self.last.and_then(follows).unwrap_or_default()));
    }
}

/// The state of each integration, by its uid.
#[derive(Debug, Default)]
pub struct IntegrationStates {
    by_uid: Mutex<HashMap<String, Box<IntegrationState>>>,
}

impl IntegrationStates {
    /// Adds an integration.
    pub fn begin(&self, uid: &str) {
        let mut states = lock(&self.by_uid);
        if !states.contains_key(uid) {
            states.insert(uid.to_owned(), Box::default());
        }
    }

    /// Accesses the state of an integration, but never creates it: a reconciliation that is in flight when its
    /// integration is deleted must not leave an entry.
    fn with<T>(&self, uid: &str, access: impl FnOnce(&mut IntegrationState) -> T) -> Option<T> {
        lock(&self.by_uid).get_mut(uid).map(|state| access(state))
    }

    /// Removes an integration and its pending write.
    pub fn forget(&self, uid: &str) {
        lock(&self.by_uid).remove(uid);
    }

    /// The last written status: the watched one, or the operator's own if the watch lags behind.
    #[must_use]
    pub fn newest_status(&self, uid: &str, version: u64, watched: &OAuthIntegrationStatus) -> OAuthIntegrationStatus {
        let newer = self.with(uid, |state| {
            state.status = state.status.take().filter(|(written, _)| *written > version);
            state.status.as_ref().map(|(_, status)| (**status).clone())
        });
        newer.flatten().unwrap_or_else(|| watched.clone())
    }

    /// Records a status that was written.
    pub fn status_written(&self, uid: &str, version: u64, status: OAuthIntegrationStatus) {
        self.with(uid, |state| state.status = Some((version, Box::new(status))));
    }

    /// Keeps a response until it is written; dropped if the integration is gone.
    pub fn set_pending(&self, uid: &str, pending: Arc<PendingWrite>) {
        self.with(uid, |state| state.pending = Some(pending));
    }

    /// Drops the pending response, because it was written or is no longer needed.
    pub fn clear_pending(&self, uid: &str) {
        self.with(uid, |state| state.pending = None);
    }

    /// The response that has not been written yet.
    #[must_use]
    pub fn pending(&self, uid: &str) -> Option<Arc<PendingWrite>> {
        self.with(uid, |state| state.pending.clone()).flatten()
    }

    /// All responses that have not been written yet, by the uid of their integration.
    #[must_use]
    pub fn all_pending(&self) -> Vec<(String, Arc<PendingWrite>)> {
        let states = lock(&self.by_uid);
        states.iter().filter_map(|(uid, state)| Some((uid.clone(), Arc::clone(state.pending.as_ref()?)))).collect()
    }

    /// Records that a token was issued. `was_lost`: the previous one was lost before it was due. If every write is
    /// reverted immediately, the interval between requests grows.
    pub fn record_issued(&self, uid: &str, now: Timestamp, was_lost: bool) {
        self.with(uid, |state| {
            state.issued.record(now, was_lost);
            state.requested_pause_until = None;
        });
    }

    /// Records that the target was written again with the stored token.
    pub fn record_rewrite(&self, uid: &str, now: Timestamp) {
        self.with(uid, |state| state.rewrites.record(now, true));
    }

    /// Records that an expression failed on the stored token with this fingerprint.
    pub fn record_lack_of_data(&self, uid: &str, token: Option<&str>) {
        self.with(uid, |state| state.lacks_data = Some(token.unwrap_or_default().into()));
    }

    /// Whether an expression failed on the stored token with this fingerprint.
    #[must_use]
    pub fn lacks_data(&self, uid: &str, token: Option<&str>) -> bool {
        self.with(uid, |state| state.lacks_data.as_deref() == Some(token.unwrap_or_default())).unwrap_or_default()
    }

    /// The earliest time for another write with the stored token: immediately, unless recent writes followed each
    /// other so quickly that another actor is evidently reverting them.
    #[must_use]
    pub fn rewrite_not_before(&self, uid: &str) -> Option<Timestamp> {
        let (at, count) = self.with(uid, |state| state.rewrites.last).flatten()?;
        at.checked_add(request_interval(count.checked_sub(1)?)).ok()
    }

    /// The earliest time for the next request.
    #[must_use]
    pub fn not_before(&self, uid: &str) -> Option<Timestamp> {
        let (at, count) = self.with(uid, |state| state.issued.last).flatten()?;
        at.checked_add(request_interval(count)).ok()
    }

    /// Records the pause that the response to a failed request requests (`Retry-After`), or that it requests none.
    pub fn record_requested_pause(&self, uid: &str, now: Timestamp, retry_after: Option<Duration>) {
        let pause = retry_after.and_then(|pause| SignedDuration::try_from(pause).ok());
        let until = pause.and_then(|pause| now.checked_add(pause).ok());
        self.with(uid, |state| state.requested_pause_until = until);
    }

    /// The end of the pause that the endpoint has requested.
    #[must_use]
    pub fn requested_pause_until(&self, uid: &str) -> Option<Timestamp> {
        self.with(uid, |state| state.requested_pause_until).flatten()
    }

    /// Counts a failed reconciliation, and returns the number of consecutive failures; 1 for an unknown integration.
    pub fn failed(&self, uid: &str) -> u32 {
        let failures = self.with(uid, |state| {
            state.failures = state.failures.saturating_add(1);
            state.failures
        });
        failures.unwrap_or(1)
    }

    /// Records a successful reconciliation.
    pub fn succeeded(&self, uid: &str) {
        self.with(uid, |state| {
            state.failures = 0;
            state.invalid = None;
        });
    }

    /// Whether it was already reported that this generation cannot be parsed for this reason.
    #[must_use]
    pub fn is_reported_invalid(&self, uid: &str, generation: i64, reason: &str) -> bool {
        let is_same = |state: &mut IntegrationState| {
            state.invalid.as_ref().is_some_and(|(known, known_reason)| *known == generation && known_reason == reason)
        };
        self.with(uid, is_same).unwrap_or(false)
    }

    /// Records that it was reported.
    pub fn reported_invalid(&self, uid: &str, generation: i64, reason: &str) {
        self.with(uid, |state| state.invalid = Some((generation, reason.to_owned())));
    }

    /// Whether an event is due. Routine events are limited to one per `every`, counted from the last event of any
    /// kind.
    pub fn event_is_due(&self, uid: &str, now: Timestamp, is_routine: bool, every: SignedDuration) -> bool {
        let due = self.with(uid, |state| {
            let due = !is_routine || state.last_event.is_none_or(|last| now.duration_since(last) >= every);
            if due {
                state.last_event = Some(now);
            }
            due
        });
        due.unwrap_or(!is_routine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn states() -> IntegrationStates {
        let states = IntegrationStates::default();
        states.begin("uid");
        states
    }

    #[test]
    fn only_routine_events_are_limited_to_one_per_interval() {
        let (states, every) = (states(), SignedDuration::from_mins(30));
        let due = |seconds, is_routine| states.event_is_due("uid", at(seconds), is_routine, every);
        assert!(due(0, true));
        assert!(!due(1_799, true));
        assert!(due(1_799, false), "not a routine event");
        assert!(!due(1_800, true), "counted from the last event of any kind");
        assert!(due(1_799 + 1_800, true));
    }

    #[test]
    fn the_interval_of_requests_grows_only_while_each_token_is_lost_immediately() {
        let states = states();
        for (seconds, was_lost, expected) in [(0, false, 1), (1, true, 2), (3, true, 4), (7, true, 8), (8, false, 1)] {
            states.record_issued("uid", at(seconds), was_lost);
            assert_eq!(states.not_before("uid"), Some(at(seconds + expected)), "at {seconds}");
        }
        states.record_issued("uid", at(100), true);
        assert_eq!(states.not_before("uid"), Some(at(101)), "long after the last one: reverted by a person");
    }

    #[test]
    fn a_requested_pause_ends_with_the_next_response_without_one() {
        let states = states();
        states.record_requested_pause("uid", at(0), Some(Duration::from_mins(1)));
        assert_eq!(states.requested_pause_until("uid"), Some(at(60)));
        states.record_requested_pause("uid", at(60), None);
        assert_eq!(states.requested_pause_until("uid"), None);
    }

    #[test]
    fn a_deleted_integration_leaves_no_entry() {
        let states = states();
        states.forget("uid");
        states.record_issued("uid", at(0), false);
        states.status_written("uid", 1, OAuthIntegrationStatus::default());
        assert_eq!(states.not_before("uid"), None);
        assert!(lock(&states.by_uid).is_empty());
    }
}
