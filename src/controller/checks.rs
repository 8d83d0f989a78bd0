//! Checks in a worker whether the expressions of a spec can be parsed, and caches the result per integration.
//!
//! Waiting for a check does not block other integrations: a reconciliation without a cached result starts a task and
//! ends; when the task is done, the integration is reconciled again. The result is dropped with its integration, so
//! tenants cannot evict each other's results.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::controller::queue::ReconcileTriggers;
use crate::oauth::client as oauth_client;
use crate::oauth::expression::error::CheckError;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::request::TokenRequest;
use crate::spec::advice;

/// How many times expressions may exceed a limit before they count as invalid.
const ATTEMPTS: u32 = 3;
/// The pause before another attempt, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The maximum pause while workers cannot be started.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// All of them can be parsed.
    Valid,
    /// One cannot be parsed; the message says which, and why.
    Invalid(String),
    /// Not checked yet.
    Unknown,
}

/// The results, by the uid of the integration.
#[derive(Debug)]
pub struct Checks {
    http: oauth_client::Client,
    triggers: Arc<ReconcileTriggers>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// The check of the latest observed spec of an integration.
#[derive(Debug)]
struct Known {
    /// Hash of its expressions.
    expressions: u64,
    checked: Checked,
    /// Whether a task is running. There is never more than one per integration, even if its spec changes in the
    /// meantime.
    in_flight: bool,
}

impl Checks {
    /// Uses the workers of this client; `triggers` reconciles the integrations again.
    #[must_use]
    pub fn new(http: oauth_client::Client, triggers: Arc<ReconcileTriggers>) -> Self {
        Self { http, triggers, known: Arc::default() }
    }

    /// The result for the expressions of an integration. Paths are always valid.
    #[must_use]
    pub fn seen(&self, uid: &str, request: &TokenRequest) -> Checked {
        let Some(key) = key(&request.expressions_to_check()) else { return Checked::Valid };
        match lock(&self.known).get(uid) {
            Some(known) if known.expressions == key => known.checked.clone(),
            _ => Checked::Unknown,
        }
    }

    /// Starts a check, unless one is in flight for this integration.
    pub fn start(&self, namespace: &str, name: &str, uid: &str, request: &TokenRequest) {
        let expressions = request.expressions_to_check();
        let Some(key) = key(&expressions) else { return };
        let fresh = Known { expressions: key, checked: Checked::Unknown, in_flight: true };
        match lock(&self.known).entry(uid.to_owned()) {
            Entry::Occupied(known) if known.get().in_flight => return,
            Entry::Occupied(mut known) => drop(known.insert(fresh)),
            Entry::Vacant(place) => drop(place.insert(fresh)),
        }
        let (http, triggers, all) = (self.http.clone(), Arc::clone(&self.triggers), Arc::clone(&self.known));
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        tokio::spawn(async move {
            let checked = check(&http, &namespace, &expressions, || lock(&all).contains_key(&uid)).await;
            if let Some(known) = lock(&all).get_mut(&uid) {
                known.in_flight = false;
                known.checked = checked;
            }
            triggers.one(&namespace, &name);
        });
    }

    /// Drops the result of a deleted integration.
    pub fn forget(&self, uid: &str) {
        lock(&self.known).remove(uid);
    }
}

/// Checks until there is a result, or the integration is deleted.
async fn check(
    http: &oauth_client::Client,
    namespace: &str,
    expressions: &[(String, Expression)],
    is_wanted: impl Fn() -> bool,
) -> Checked {
    let (mut attempts, mut pause) = (0, PAUSE);
    while is_wanted() {
        match http.check(namespace, expressions).await {
            Ok(Ok(())) => return Checked::Valid,
            Ok(Err(invalid)) => return Checked::Invalid(advice::invalid_expression(&invalid)),
            Err(CheckError::LimitExceeded(error)) => {
                attempts += 1;
                if attempts >= ATTEMPTS {
                    return Checked::Invalid(format!(
                        "the expressions of spec.response, spec.request.body and spec.target.data cannot be parsed: parsing results in {error}: shorten them"
                    ));
                }
            }
            Err(CheckError::NotStarted(error)) => {
                tracing::warn!(error, "failed to start a worker that checks expressions; will be tried again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
    Checked::Unknown
}

/// Hash of all expressions that must be checked; `None` if there are none. If two specs of one integration happen to
/// have the same hash, they share the result: the worker then rejects an invalid expression when it evaluates it.
fn key(expressions: &[(String, Expression)]) -> Option<u64> {
    if expressions.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    for (field, expression) in expressions {
        (field, expression.text()).hash(&mut hasher);
    }
    Some(hasher.finish())
}

fn lock(known: &Mutex<HashMap<String, Known>>) -> MutexGuard<'_, HashMap<String, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
