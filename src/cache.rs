//! What is kept between events: facts of the target Secrets, versions of the credentials Secrets, and a note for each
//! integration. No data of a Secret is kept, but for an answer that has not reached its Secret yet.
//!
//! Watches run behind the operator's own writes. So what the API server returned from a write goes in here too, and a
//! watch event that is older than what is known is dropped: a decision never rests on the state before its last deed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::OAuthIntegrationStatus;
use crate::grant::Granted;
use crate::revocation::GiveBack;
use crate::target::{Facts, Shape};

/// A Secret: its namespace and its name.
pub type SecretRef = (String, String);

/// The least time between two token requests of one integration, doubled for each that undid the one before.
const LEAST_SPACING: SignedDuration = SignedDuration::from_secs(1);
/// The longest such time.
pub const LONGEST_SPACING: SignedDuration = SignedDuration::from_mins(1);
/// A token that is undone later than this after it could have been is undone by a person, not by a loop.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// Locks a map whose invariants hold between any two statements, so that a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Secrets that the operator has written, by the uid of their integration.
#[derive(Debug, Default)]
pub struct Targets {
    by_integration: Mutex<HashMap<String, Vec<Arc<Facts>>>>,
}

impl Targets {
    /// All Secrets of an integration.
    #[must_use]
    pub fn of(&self, integration_uid: &str) -> Vec<Arc<Facts>> {
        lock(&self.by_integration).get(integration_uid).cloned().unwrap_or_default()
    }

    /// Learns of a Secret, unless what is known of it is newer.
    pub fn learn(&self, facts: Facts) {
        let mut all = lock(&self.by_integration);
        let own = all.entry(facts.integration_uid.clone()).or_default();
        match own.iter_mut().find(|known| known.name == facts.name && known.namespace == facts.namespace) {
            Some(known) if known.version >= facts.version => {}
            Some(known) => *known = Arc::new(facts),
            None => own.push(Arc::new(facts)),
        }
    }

    /// Learns that a Secret is gone.
    pub fn forget(&self, gone: &Facts) {
        let mut all = lock(&self.by_integration);
        if let Some(own) = all.get_mut(&gone.integration_uid) {
            own.retain(|known| known.uid != gone.uid);
            if own.is_empty() {
                all.remove(&gone.integration_uid);
            }
        }
    }

    /// The wall clock was set back (`by` is less than zero): in its new time, the tokens end earlier than was written.
    pub fn shift(&self, by: SignedDuration) {
        for facts in lock(&self.by_integration).values_mut().flatten() {
            Arc::make_mut(facts).shift(by);
        }
    }

    /// The uids of all that is known in a namespace (in all, without one).
    fn known(&self, namespace: Option<&str>) -> HashMap<String, Arc<Facts>> {
        let all = lock(&self.by_integration);
        let in_scope = all.values().flatten().filter(|facts| namespace.is_none_or(|ns| ns == facts.namespace));
        in_scope.map(|facts| (facts.uid.clone(), Arc::clone(facts))).collect()
    }
}

/// A list of target Secrets that is being read: what it does not name is gone.
#[derive(Debug)]
pub struct Relist {
    unseen: HashMap<String, Arc<Facts>>,
}

impl Relist {
    /// Begins with everything known; what the operator writes from now on is not in question.
    #[must_use]
    pub fn begin(targets: &Targets, namespace: Option<&str>) -> Self {
        Self { unseen: targets.known(namespace) }
    }

    /// The list has named this Secret.
    pub fn seen(&mut self, facts: &Facts) {
        self.unseen.remove(&facts.uid);
    }

    /// Forgets what the list has not named, and returns it.
    pub fn finish(self, targets: &Targets) -> Vec<Arc<Facts>> {
        let gone: Vec<_> = self.unseen.into_values().collect();
        for facts in &gone {
            targets.forget(facts);
        }
        gone
    }
}

/// The Secrets that integrations name, with their versions.
#[derive(Debug, Default)]
pub struct Named {
    inner: Mutex<NamedInner>,
}

#[derive(Debug, Default)]
struct NamedInner {
    by_secret: HashMap<SecretRef, NamedSecret>,
    /// What an integration (namespace and name) names.
    by_integration: HashMap<(String, String), HashSet<String>>,
}

#[derive(Debug, Default)]
struct NamedSecret {
    version: Option<u64>,
    dependents: Vec<String>,
}

impl Named {
    /// Learns which Secrets an integration names; none any more, where it is gone.
    pub fn learn(&self, namespace: &str, integration: &str, names: HashSet<String>) {
        let mut inner = lock(&self.inner);
        let key = (namespace.to_owned(), integration.to_owned());
        let before = inner.by_integration.remove(&key).unwrap_or_default();
        for name in before.difference(&names) {
            let secret = (namespace.to_owned(), name.clone());
            if let Some(named) = inner.by_secret.get_mut(&secret) {
                named.dependents.retain(|dependent| dependent != integration);
                if named.dependents.is_empty() {
                    inner.by_secret.remove(&secret);
                }
            }
        }
        for name in names.difference(&before) {
            let named = inner.by_secret.entry((namespace.to_owned(), name.clone())).or_default();
            named.dependents.push(integration.to_owned());
        }
        if !names.is_empty() {
            inner.by_integration.insert(key, names);
        }
    }

    /// Learns the version of a Secret (`None`: not known any more) and returns the integrations that name it.
    pub fn seen(&self, secret: &SecretRef, version: Option<u64>) -> Vec<String> {
        lock(&self.inner).by_secret.get_mut(secret).map_or_else(Vec::new, |named| {
            named.version = version.max(version.and(named.version));
            named.dependents.clone()
        })
    }

    /// Learns the version of a Secret that was read.
    pub fn read(&self, secret: &SecretRef, version: u64) {
        if let Some(named) = lock(&self.inner).by_secret.get_mut(secret) {
            named.version = named.version.max(Some(version));
        }
    }

    /// The version of a Secret, where it is known.
    #[must_use]
    pub fn version(&self, secret: &SecretRef) -> Option<u64> {
        lock(&self.inner).by_secret.get(secret)?.version
    }

    /// All Secrets that are named in a namespace (in all, without one).
    #[must_use]
    pub fn all(&self, namespace: Option<&str>) -> HashSet<SecretRef> {
        let inner = lock(&self.inner);
        inner.by_secret.keys().filter(|(ns, _)| namespace.is_none_or(|wanted| wanted == ns)).cloned().collect()
    }
}

/// An answer of an endpoint that is to be written, with all that writing it takes.
#[derive(Clone, Debug)]
pub struct HeldAnswer {
    /// The namespace of the target.
    pub namespace: String,
    /// The integration.
    pub owner: OwnerReference,
    /// What the target looks like.
    pub shape: Shape,
    /// What goes into it.
    pub granted: Granted,
    /// The token that it replaces, to be given back some time after it was written.
    pub former: Option<(Duration, GiveBack)>,
}

/// What is kept of an integration between two looks at it.
#[derive(Debug, Default)]
struct Note {
    /// The status that was written and its version, until the watch has it.
    status: Option<(u64, OAuthIntegrationStatus)>,
    /// The answer that has not reached its Secret.
    answer: Option<Arc<HeldAnswer>>,
    /// When a token was last given, and how many before it were undone at once.
    request: Option<(Timestamp, u32)>,
    /// How many looks in a row have failed.
    failures: u32,
    /// When the last event was published.
    last_event: Option<Timestamp>,
}

/// A note for each integration, by its uid.
#[derive(Debug, Default)]
pub struct Notes {
    by_uid: Mutex<HashMap<String, Note>>,
}

impl Notes {
    /// There is an integration: from now on it has a note.
    pub fn begin(&self, uid: &str) {
        let mut notes = lock(&self.by_uid);
        if !notes.contains_key(uid) {
            notes.insert(uid.to_owned(), Note::default());
        }
    }

    /// Looks at a note, and makes none: a look that is still under way when its integration goes leaves nothing behind.
    fn known<T>(&self, uid: &str, look: impl FnOnce(&mut Note) -> Option<T>) -> Option<T> {
        look(lock(&self.by_uid).get_mut(uid)?)
    }

    /// The integration is gone, and its answer has no place any more.
    pub fn forget(&self, uid: &str) {
        lock(&self.by_uid).remove(uid);
    }

    /// The status that was written last: the watch's, or the operator's own where the watch is behind.
    #[must_use]
    pub fn newest_status(&self, uid: &str, version: u64, watched: &OAuthIntegrationStatus) -> OAuthIntegrationStatus {
        let newer = self.known(uid, |note| {
            note.status = note.status.take().filter(|(written, _)| *written > version);
            note.status.as_ref().map(|(_, status)| status.clone())
        });
        newer.unwrap_or_else(|| watched.clone())
    }

    /// Remembers a status that was written.
    pub fn status_written(&self, uid: &str, version: u64, status: OAuthIntegrationStatus) {
        self.known(uid, |note| note.status.replace((version, status)));
    }

    /// Keeps an answer until it is written. One whose integration is gone has no place any more.
    pub fn hold(&self, uid: &str, answer: Arc<HeldAnswer>) {
        self.known(uid, |note| note.answer.replace(answer));
    }

    /// The answer is in its Secret.
    pub fn release(&self, uid: &str) {
        self.known(uid, |note| note.answer.take());
    }

    /// The answer that is held.
    #[must_use]
    pub fn held(&self, uid: &str) -> Option<Arc<HeldAnswer>> {
        self.known(uid, |note| note.answer.clone())
    }

    /// All answers that are held, by the uid of their integration.
    #[must_use]
    pub fn all_held(&self) -> Vec<(String, Arc<HeldAnswer>)> {
        let notes = lock(&self.by_uid);
        notes.iter().filter_map(|(uid, note)| Some((uid.clone(), Arc::clone(note.answer.as_ref()?)))).collect()
    }

    /// Remembers that a token was given. `undone` says that the one before was lost, not used up: where somebody undoes
    /// each write at once, the next requests keep a growing distance.
    pub fn given(&self, uid: &str, now: Timestamp, undone: bool) {
        self.known(uid, |note| {
            let streak = match note.request {
                Some((at, streak)) if undone && now.duration_since(at) < spacing(streak) + PATIENCE => streak + 1,
                _ => 0,
            };
            note.request.replace((now, streak))
        });
    }

    /// The earliest time for the next request.
    #[must_use]
    pub fn not_before(&self, uid: &str) -> Option<Timestamp> {
        let (at, streak) = self.known(uid, |note| note.request)?;
        at.checked_add(spacing(streak)).ok()
    }

    /// Counts a look that failed, and returns how many have in a row: 1 where nothing is known.
    pub fn failed(&self, uid: &str) -> u32 {
        let failures = self.known(uid, |note| {
            note.failures = note.failures.saturating_add(1);
            Some(note.failures)
        });
        failures.unwrap_or(1)
    }

    /// A look succeeded.
    pub fn succeeded(&self, uid: &str) {
        self.known(uid, |note| {
            note.failures = 0;
            Some(())
        });
    }

    /// Whether an event is due: of routine ones at most one in `every`, counted from the last event of any kind.
    pub fn event_is_due(&self, uid: &str, now: Timestamp, routine: bool, every: SignedDuration) -> bool {
        let due = self.known(uid, |note| {
            let due = !routine || note.last_event.is_none_or(|last| now.duration_since(last) >= every);
            due.then(|| note.last_event = Some(now))
        });
        due.is_some() || !routine
    }
}

fn spacing(streak: u32) -> SignedDuration {
    LEAST_SPACING.checked_mul(1 << streak.min(6)).unwrap_or(LONGEST_SPACING).min(LONGEST_SPACING)
}
