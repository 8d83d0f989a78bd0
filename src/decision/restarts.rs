//! Decides whether a workload is restarted because a Secret that it reads has changed. Pure.
//!
//! The workload itself remembers what it was restarted for, in annotations of its metadata: watches that deliver only
//! metadata show these, but not its pod template.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::api::duration;
use crate::api::names::{RESTART_AT_MOST_EVERY, RESTART_ON_RENEWAL, RESTARTED_AT, RESTARTED_FOR, TOKEN_HASH};
use crate::api::reason::Reason;
use crate::fingerprint;
use crate::oauth::lifetime::max_restart_interval;
use crate::target::version::ContentVersion;

/// The interval between two restarts of a workload that names none.
pub const DEFAULT_INTERVAL: SignedDuration = SignedDuration::from_mins(10);
/// The minimum of this interval.
pub const MIN_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// The maximum number of Secrets of one workload.
const MAX_SECRETS: usize = 16;
/// The maximum length of an annotation: names of so many Secrets, with their hashes.
const MAX_ANNOTATION: usize = 8 << 10;
/// The maximum length of the name of a Secret.
const MAX_NAME: usize = 253;
/// Length of the hash of one Secret, in hex digits.
pub const HASH: usize = 16;
/// The time between a change and the restart: renewals in quick succession cause one restart, and the kubelets have
/// seen the change.
const SETTLING: SignedDuration = SignedDuration::from_secs(2);
/// A time that is further in the future was written by another clock, or before the clock was set back.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What the annotations of a workload say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptIn {
    /// The names of the Secrets after whose changes it is restarted.
    pub secrets: BTreeSet<String>,
    /// The minimum interval between two restarts.
    pub interval: SignedDuration,
    /// The hashes of these Secrets at the last restart.
    pub restarted_for: BTreeMap<String, String>,
    /// When that was.
    pub restarted_at: Option<Timestamp>,
}

impl OptIn {
    /// Reads the annotations of a workload; `None` if it has not opted in.
    ///
    /// # Errors
    ///
    /// A message that says which annotation to correct, and quotes nothing.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Result<Self, String>> {
        let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
        let names = annotation(RESTART_ON_RENEWAL)?;
        let secrets = match secrets(names) {
            Ok(secrets) => secrets,
            Err(message) => return Some(Err(message)),
        };
        let Some(interval) = annotation(RESTART_AT_MOST_EVERY).map_or(Some(DEFAULT_INTERVAL), interval) else {
            return Some(Err(format!("{RESTART_AT_MOST_EVERY} is not a duration from 1m to 8760h, such as 30m")));
        };
        let restarted_for = annotation(RESTARTED_FOR).filter(|text| text.len() <= MAX_ANNOTATION).unwrap_or_default();
        let entries = restarted_for.split(',').filter_map(|entry| entry.split_once('='));
        let restarted_for = entries
            .filter(|(name, hash)| secrets.contains(*name) && hash.len() == HASH)
            .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
            .collect();
        let restarted_at = annotation(RESTARTED_AT).and_then(|at| at.parse().ok());
        Some(Ok(Self { secrets, interval, restarted_for, restarted_at }))
    }
}

fn secrets(names: &str) -> Result<BTreeSet<String>, String> {
    let is_name = |name: &str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    let all: BTreeSet<&str> = names.split(',').take(MAX_SECRETS + 1).map(str::trim).collect();
    if all.len() > MAX_SECRETS || !all.iter().all(|name| is_name(name)) {
        return Err(format!(
            "{RESTART_ON_RENEWAL} is not a comma-separated list of up to {MAX_SECRETS} names of Secrets of this namespace"
        ));
    }
    Ok(all.into_iter().map(ToOwned::to_owned).collect())
}

fn interval(text: &str) -> Option<SignedDuration> {
    let duration = text.trim().parse::<duration::Duration>().ok()?;
    SignedDuration::try_from(std::time::Duration::from(duration)).ok().filter(|interval| *interval >= MIN_INTERVAL)
}

/// The target Secret of an integration, as far as restarts are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartTarget {
    /// Hash of what workloads read in it; reveals nothing, not even of a value that can be guessed.
    pub hash: String,
    /// Since when it is the same.
    pub changed_at: Timestamp,
    /// The lifetime of its token.
    pub lifetime: SignedDuration,
    /// Whether workloads are restarted for it: its token is valid, and its integration neither suspended nor deleted.
    pub is_usable: bool,
}

impl RestartTarget {
    /// The target with this content.
    #[must_use]
    pub fn new(content: &ContentVersion, lifetime: SignedDuration, is_usable: bool) -> Self {
        let mut hash = fingerprint::unsalted(&json!(content.hash));
        hash.truncate(HASH);
        Self { hash, changed_at: content.changed_at, lifetime, is_usable }
    }

    /// A target that an earlier release has written: nothing is restarted for it before its next renewal.
    #[must_use]
    pub const fn without_content(issued_at: Timestamp, lifetime: SignedDuration) -> Self {
        Self { hash: String::new(), changed_at: issued_at, lifetime, is_usable: false }
    }
}

/// What is done with a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Nothing: its pods have read what the Secrets contain.
    UpToDate,
    /// It is restarted at this time.
    At(Timestamp),
    /// It is restarted now.
    Now(Cause),
}

/// Why a workload is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The Secrets that have changed.
    pub secrets: Vec<String>,
    /// The hashes of all its Secrets, to be recorded.
    pub record: String,
    /// Since when the restart has been due.
    pub since: Timestamp,
}

/// Decides what is done with a workload that was created at `created`. `targets` are the known targets among its
/// Secrets, by name.
///
/// Without a record for a Secret, the workload is restarted if it is older than the content of the Secret, because its
/// pods may have read an earlier one, or none.
#[must_use]
pub fn decide(opt_in: &OptIn, created: Timestamp, targets: &BTreeMap<&str, RestartTarget>, now: Timestamp) -> Restart {
    let is_past = |at: &Timestamp| at.duration_since(now) <= SKEW;
    let restarted_at = opt_in.restarted_at.filter(is_past);
    // Creation times have whole seconds.
    let started = restarted_at.map_or(created, |at| at.max(created)).as_second();
    let is_changed = |name: &str, target: &RestartTarget| match opt_in.restarted_for.get(name) {
        Some(known) => *known != target.hash,
        None => started < target.changed_at.as_second(),
    };
    let own = || opt_in.secrets.iter().filter_map(|name| Some((name, targets.get(name.as_str())?)));
    let changed: Vec<_> = own().filter(|(name, target)| target.is_usable && is_changed(name, target)).collect();
    let later = |at: Timestamp, by: SignedDuration| at.checked_add(by).unwrap_or(Timestamp::MAX);
    let settled = changed.iter().map(|(_, target)| target.changed_at).filter(is_past).map(|at| later(at, SETTLING));
    let due = settled.chain(restarted_at.map(|at| later(at, opt_in.interval))).max().unwrap_or(now);
    if changed.is_empty() {
        return Restart::UpToDate;
    }
    if due > now {
        return Restart::At(due);
    }
    let mut record = opt_in.restarted_for.clone();
    record.extend(
        own().filter(|(_, target)| !target.hash.is_empty()).map(|(name, target)| (name.clone(), target.hash.clone())),
    );
    Restart::Now(Cause {
        secrets: changed.into_iter().map(|(name, _)| name.clone()).collect(),
        record: record.iter().map(|(name, hash)| format!("{name}={hash}")).collect::<Vec<_>>().join(","),
        since: due,
    })
}

/// What is applied to a workload to restart it: the record on itself, and the hash of the record in its pod template.
/// The same record is no change of the template.
#[must_use]
pub fn annotations(record: &str, now: Timestamp) -> (Value, Value) {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    (
        json!({RESTARTED_FOR: record, RESTARTED_AT: now.to_string()}),
        json!({TOKEN_HASH: fingerprint::unsalted(&json!(record))}),
    )
}

/// What is wrong with the annotations of a workload: the reason, and a message for its owner. A Secret may be unknown
/// until its integration has a token, so it is only reported if `reports_unknown`.
#[must_use]
pub fn problem(
    opt_in: &Result<OptIn, String>,
    targets: &BTreeMap<&str, RestartTarget>,
    reports_unknown: bool,
) -> Option<(Reason, String)> {
    let opt_in = match opt_in {
        Ok(opt_in) => opt_in,
        Err(message) => {
            return Some((Reason::RestartAnnotationInvalid, format!("it is not restarted after renewals: {message}")));
        }
    };
    let unknown = opt_in.secrets.iter().find(|name| !targets.contains_key(name.as_str()));
    if let Some(name) = unknown.filter(|_| reports_unknown) {
        let message = format!(
            "it is not restarted for Secret {name}, which is not the target of an OAuthIntegration of this namespace, or has no token: correct {RESTART_ON_RENEWAL}"
        );
        return Some((Reason::RestartAnnotationInvalid, message));
    }
    let mut own = opt_in.secrets.iter().filter_map(|name| Some((name, targets.get(name.as_str())?)));
    let (name, target) = own.find(|(_, target)| opt_in.interval > max_restart_interval(target.lifetime))?;
    Some((
        Reason::RestartIntervalTooLong,
        format!(
            "its pods may have an expired token: the tokens in Secret {name} are valid for {} s, and it is restarted at most every {} s; set {RESTART_AT_MOST_EVERY} to at most {}s, or mount the Secret as files",
            target.lifetime.as_secs(),
            opt_in.interval.as_secs(),
            max_restart_interval(target.lifetime).as_secs()
        ),
    ))
}
