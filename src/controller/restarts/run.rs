//! Restarts the workloads that are due, once per second, as long as this process is the leader.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, future, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::json;

use crate::api::names::RESTARTED_FOR;
use crate::api::reason::Reason;
use crate::clock;
use crate::controller::context::Context;
use crate::controller::perform::write_error::describe_api_error;
use crate::controller::restarts::report::Due;
use crate::controller::restarts::shared::Restarts;
use crate::controller::restarts::slots::{ROLLOUT_TIMEOUT, Slots};
use crate::controller::restarts::targets::Targets;
use crate::controller::restarts::workload::{Workload, WorkloadId};
use crate::controller::restarts::{apply, report, rollout};
use crate::decision::restarts::{Restart, RestartTarget, decide, problem};
use crate::fingerprint;
use crate::kube_api::call::ApiError;

/// How often it is decided which workloads are due.
const TICK: Duration = Duration::from_secs(1);
/// How often the rollouts in progress are read.
const ROLLOUT_INTERVAL: Duration = Duration::from_secs(2);
/// How many of them are read at once.
const READS_AT_ONCE: usize = 4;
/// The maximum number of rollouts that a new leader reads.
const MAX_TAKE_OVER: usize = 256;
/// The delay after a restart that was not applied because the workload has changed, or the API server is unavailable,
/// doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(2);
/// The maximum of this delay.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// After so many of these failures, about a minute, they are reported.
const REPORTED_FAILURES: u32 = 5;
/// After so many of these failures, the workload may have changed since it was observed: something changes it all the time.
const INEXACT_FAILURES: u32 = 3;
/// The delay after a restart that the API server has rejected, doubled each time.
const REJECTED_MIN: Duration = Duration::from_mins(1);
/// The maximum of this delay.
const REJECTED_MAX: Duration = Duration::from_hours(1);
/// How long a workload may name a Secret that is not a target before this is reported: both may be installed together.
const UNKNOWN_AFTER: Duration = Duration::from_mins(1);
/// The maximum number of problems that are reported in one tick.
const PROBLEMS_AT_ONCE: usize = 16;

/// Restarts workloads. Never completes.
pub(crate) async fn run(context: Arc<Context>, restarts: Arc<Restarts>) {
    context.cache_sync.wait_for_all().await;
    restarts.sync.wait_for_all().await;
    let mut restarter = None;
    loop {
        tokio::time::sleep(TICK).await;
        let workloads = restarts.workloads.all();
        restarter = match restarter.take() {
            _ if !context.leadership.is_leader() => None,
            None => Some(Restarter::take_over(&context, &restarts, &workloads).await),
            Some(mut restarter) => {
                restarter.tick(&context, &restarts, &workloads).await;
                Some(restarter)
            }
        };
    }
}

/// A workload, and the known targets among its Secrets by name.
type WithTargets<'a> = (&'a WorkloadId, &'a Arc<Workload>, BTreeMap<&'a str, RestartTarget>);

/// What the leader remembers. Nothing in it is needed to avoid a second restart.
struct Restarter {
    slots: Slots,
    /// By uid.
    retries: HashMap<String, Retry>,
    /// The last restart of each workload, by uid: something may remove the record on the workload.
    restarted: HashMap<String, Restarted>,
    /// Hashes of the problems that were reported, by uid.
    reported: HashMap<String, String>,
    checked: Instant,
}

/// A restart that was applied.
struct Restarted {
    at: Instant,
    record: String,
}

/// A restart that was not applied.
struct Retry {
    at: Instant,
    rejections: u32,
    /// Other consecutive failures.
    failures: u32,
    /// The problem that was reported.
    reported: String,
}

impl Restarter {
    /// Takes over the rollouts that a previous leader, or a previous process, has begun and that are still in progress.
    async fn take_over(context: &Context, restarts: &Restarts, workloads: &[(WorkloadId, Arc<Workload>)]) -> Self {
        let (now, started) = (clock::now(), Instant::now());
        let max_age = SignedDuration::try_from(ROLLOUT_TIMEOUT).unwrap_or_default();
        let mut recent: Vec<(SignedDuration, WorkloadId, String)> = workloads
            .iter()
            .filter_map(|(id, workload)| {
                let age = now.duration_since(workload.opt_in.as_ref().ok()?.restarted_at?);
                let is_recent = age >= SignedDuration::ZERO && age < max_age;
                is_recent.then(|| (age, id.clone(), workload.uid.clone()))
            })
            .collect();
        recent.sort_by_key(|(age, ..)| *age);
        // None has more than all slots: recent times that a tenant has written do not displace the rollouts of others.
        let mut by_namespace: HashMap<String, usize> = HashMap::new();
        recent.retain(|(_, id, _)| {
            let count = by_namespace.entry(id.namespace.clone()).or_default();
            *count += 1;
            *count <= restarts.at_once
        });
        recent.truncate(MAX_TAKE_OVER);
        let reads = recent.into_iter().map(|(age, id, uid)| async move {
            let is_over = is_over(context, &id, &uid).await;
            (!is_over).then_some((age, id, uid))
        });
        let in_progress: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        let mut slots = Slots::new(restarts.at_once, restarts.several_namespaces);
        for (age, id, uid) in in_progress.into_iter().flatten() {
            let since = started.checked_sub(Duration::try_from(age).unwrap_or_default()).unwrap_or(started);
            slots.take(&id, &uid, since);
        }
        Self { slots, retries: HashMap::new(), restarted: HashMap::new(), reported: HashMap::new(), checked: started }
    }

    async fn tick(&mut self, context: &Context, restarts: &Restarts, workloads: &[(WorkloadId, Arc<Workload>)]) {
        let (now, started) = (clock::now(), Instant::now());
        self.forget_others(workloads);
        self.slots.expire(started);
        if started.saturating_duration_since(self.checked) >= ROLLOUT_INTERVAL {
            self.checked = started;
            self.release_finished(context).await;
        }
        if workloads.is_empty() {
            return;
        }
        let targets = Targets::of(context, workloads, now);
        let with_targets: Vec<_> =
            workloads.iter().map(|(id, workload)| (id, workload, targets.of_workload(id, workload))).collect();
        self.report_problems(context, &with_targets, started).await;
        let due = self.due(&with_targets, now, started);
        let turns: Vec<_> =
            due.iter().map(|(id, workload, cause)| (id.clone(), workload.uid.clone(), cause.since)).collect();
        let held: HashSet<WorkloadId> = self.slots.rollouts().into_iter().map(|(id, _)| id).collect();
        let turns = self.slots.take_turns(&turns, started);
        let admitted: Vec<&Due> = turns.into_iter().filter_map(|position| due.get(position)).collect();
        let (admitted, throttled): (Vec<&Due>, Vec<&Due>) = admitted.into_iter().partition(|(id, workload, _)| {
            context.budgets.admit(&id.namespace, &format!("{}/restart", workload.uid), started).is_none()
        });
        for (id, ..) in throttled.into_iter().filter(|(id, ..)| !held.contains(id)) {
            self.slots.release(id);
        }
        let calls = admitted.iter().map(|(id, workload, cause)| {
            context.count_write(&id.namespace);
            let failures = self.retries.get(&workload.uid).map_or(0, |retry| retry.failures);
            // The watch may have delivered another version since the beginning of this tick.
            let current = restarts.workloads.current(id).filter(|current| current.uid == workload.uid);
            let version = current.as_ref().unwrap_or(workload).version.clone();
            let version = (failures < INEXACT_FAILURES).then_some(version);
            apply::restart(&context.client, id, &workload.uid, version, cause)
        });
        let results = future::join_all(calls).await;
        let mut restarted = Vec::new();
        for (due, result) in admitted.into_iter().zip(results) {
            let is_held = held.contains(&due.0);
            if self.record(context, restarts, &targets, due, is_held, result).await {
                restarted.push(due.clone());
            }
        }
        report::restarted(context, &targets, &restarted).await;
    }

    /// Drops what is known about workloads that no longer exist, or have opted out.
    fn forget_others(&mut self, workloads: &[(WorkloadId, Arc<Workload>)]) {
        let namespaces = workloads.iter().map(|(id, _)| id.namespace.as_str()).collect();
        self.slots.forget_other_namespaces(&namespaces);
        let uids: HashSet<&String> = workloads.iter().map(|(_, workload)| &workload.uid).collect();
        self.retries.retain(|uid, _| uids.contains(uid));
        self.restarted.retain(|uid, _| uids.contains(uid));
        self.reported.retain(|uid, _| uids.contains(uid));
    }

    /// Returns the slots of the rollouts that are over.
    async fn release_finished(&mut self, context: &Context) {
        let reads = self.slots.rollouts().into_iter().map(|(id, uid)| async move {
            let is_over = is_over(context, &id, &uid).await;
            is_over.then_some(id)
        });
        let over: Vec<_> = stream::iter(reads).buffer_unordered(READS_AT_ONCE).collect().await;
        for id in over.into_iter().flatten() {
            self.slots.release(&id);
        }
    }

    fn due(&self, workloads: &[WithTargets<'_>], now: Timestamp, started: Instant) -> Vec<Due> {
        let is_waiting = |uid: &String| self.retries.get(uid).is_some_and(|retry| retry.at > started);
        let due = workloads.iter().filter(|(_, workload, _)| !is_waiting(&workload.uid));
        let due = due.filter_map(|(id, workload, targets)| {
            let opt_in = workload.opt_in.as_ref().ok()?;
            let last = self.restarted.get(&workload.uid).map(|last| started.saturating_duration_since(last.at));
            if last.is_some_and(|since| SignedDuration::try_from(since).is_ok_and(|since| since < opt_in.interval)) {
                return None;
            }
            match decide(opt_in, workload.created, targets, now) {
                Restart::Now(cause) => Some(((*id).clone(), Arc::clone(workload), cause)),
                Restart::UpToDate | Restart::At(_) => None,
            }
        });
        due.collect()
    }

    async fn report_problems(&mut self, context: &Context, workloads: &[WithTargets<'_>], started: Instant) {
        let mut reports = 0;
        for (id, workload, targets) in workloads {
            let reports_unknown = started.saturating_duration_since(workload.seen) >= UNKNOWN_AFTER;
            let Some((reason, message)) = problem(&workload.opt_in, targets, reports_unknown) else { continue };
            // Not the message, which may contain a lifetime that is never the same.
            let about = workload.opt_in.as_ref().map(|opt_in| (&opt_in.secrets, opt_in.interval.as_secs()));
            let hash = fingerprint::unsalted(&json!([reason.as_str(), about.ok(), workload.opt_in.as_ref().err()]));
            if self.reported.get(&workload.uid) == Some(&hash) || reports >= PROBLEMS_AT_ONCE {
                continue;
            }
            reports += 1;
            self.reported.insert(workload.uid.clone(), hash);
            report::problem(context, id, workload, reason, message).await;
        }
    }

    /// Records the result of a restart. Returns whether it was applied. `is_held`: an earlier rollout was in progress, whose
    /// slot it keeps.
    async fn record(
        &mut self,
        context: &Context,
        restarts: &Restarts,
        targets: &Targets,
        due: &Due,
        is_held: bool,
        result: Result<ObjectMeta, ApiError>,
    ) -> bool {
        let (id, workload, cause) = due;
        let error = match result {
            Ok(meta) => {
                self.retries.remove(&workload.uid);
                restarts.workloads.refresh(id, &meta);
                let last = Restarted { at: Instant::now(), record: cause.record.clone() };
                let before = self.restarted.insert(workload.uid.clone(), last);
                if before.is_some_and(|before| before.record == cause.record) {
                    let note = format!(
                        "it was restarted again for the same content, because something has removed its annotation {RESTARTED_FOR}: let whatever writes this object keep the annotations that it does not contain"
                    );
                    report::problem(context, id, workload, Reason::RestartAnnotationInvalid, note).await;
                }
                return true;
            }
            Err(error) => error,
        };
        if !is_held {
            self.slots.release(id);
        }
        let retry = self.retries.entry(workload.uid.clone()).or_insert_with(Retry::new);
        let problem = describe_api_error(&error, &[]);
        let is_reported = if is_rejection(&error) {
            retry.delay(REJECTED_MIN, REJECTED_MAX, retry.rejections);
            retry.rejections = retry.rejections.saturating_add(1);
            context.metrics.record_restart(Some(Reason::RestartFailed));
            true
        } else {
            retry.delay(RETRY_MIN, RETRY_MAX, retry.failures);
            retry.failures = retry.failures.saturating_add(1);
            retry.failures >= REPORTED_FAILURES
        };
        if is_reported && retry.reported != problem {
            report::failed(context, targets, due, &problem).await;
            retry.reported = problem;
        }
        false
    }
}

impl Retry {
    fn new() -> Self {
        Self { at: Instant::now(), rejections: 0, failures: 0, reported: String::new() }
    }

    fn delay(&mut self, min: Duration, max: Duration, doubled: u32) {
        self.at = Instant::now() + min.saturating_mul(1 << doubled.min(6)).min(max);
    }
}

/// Whether a rollout is over, or the workload no longer exists. One that cannot be read counts as in progress.
async fn is_over(context: &Context, id: &WorkloadId, uid: &str) -> bool {
    match apply::read(&context.client, id).await {
        Ok(None) => true,
        Ok(Some(object)) => object.uid().as_deref() != Some(uid) || rollout::is_over(id.kind, &object),
        Err(_) => false,
    }
}

/// Whether the API server rejects the restart itself: the workload was not only changed or deleted in the meantime, and
/// the API server is available.
fn is_rejection(error: &ApiError) -> bool {
    error.status().is_some_and(|status| {
        matches!(status.code, 400..=499) && status.code != 429 && !(status.is_conflict() || status.is_not_found())
    })
}
