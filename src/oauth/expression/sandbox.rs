//! Checks and evaluates expressions other than paths in worker processes: with limited memory, without privileges,
//! and without secrets other than the current response.
//!
//! JSONata is a programming language: an expression can loop, recurse, and allocate without bound within a single
//! step, which the limits of the evaluator do not cover (`$pad("x", 2e9)`). It therefore runs in a process that can
//! be killed. A worker is the same binary; a few are kept and reused. A worker that takes too long is killed, one
//! that allocates too much aborts, and the next expression runs in a new one.
//!
//! There are two slots, each with a queue that is fair by namespace. One is for trusted expressions, which were cheap
//! the last time: if an evaluation takes longer there, it is aborted, is no longer trusted, and is repeated in the
//! other slot, which is for all other expressions.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limiter::fair_queue::FairQueue;
use crate::oauth::expression::error::{CheckError, ExpressionError};
use crate::oauth::expression::protocol::{EvaluationRequest, EvaluationResult, MEMORY, Task};
use crate::oauth::expression::worker;
use crate::oauth::expression::worker_process::WorkerProcess;

/// The maximum time for all expressions of one response.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum time for trusted expressions before they are treated like all others.
const TRUSTED_TIMEOUT: Duration = Duration::from_millis(250);
/// An evaluation that takes longer than this is not cheap.
const CHEAP: Duration = Duration::from_millis(50);
/// How long a response waits in a queue. Meanwhile it is in memory, and occupies one of the concurrent reconciliations.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(2_500);
/// The maximum time for one response: waiting and evaluation, in both slots.
pub(crate) const MAX_DURATION: Duration = Duration::from_millis(7_250);
/// How many responses of one namespace may wait or be evaluated; beyond this number, its other integrations delay
/// their requests.
const ROOM: usize = 8;
/// How many sets of expressions of one namespace are trusted; beyond this number, all of them lose their trust.
const TRUSTED: usize = 256;
/// For how many namespaces trust is remembered.
const TRUSTED_NAMESPACES: usize = 1_024;
/// The maximum time until a worker that has closed its output exits.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// How many requests a worker handles before it is replaced.
const MAX_JOBS_PER_WORKER: u32 = 1_000;

/// The workers. Clones share them.
#[derive(Clone, Debug)]
pub struct Sandbox {
    program: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<WorkerProcess>>>,
    trust: Arc<Mutex<HashMap<String, Trust>>>,
    trusted_slot: FairQueue,
    untrusted_slot: FairQueue,
    backlog: Arc<Mutex<Backlog>>,
}

/// The trusted sets of expressions of one namespace, by their hash.
#[derive(Debug, Default)]
struct Trust {
    cheap: HashSet<u64>,
    /// When it was last used.
    used: Option<Instant>,
}

/// The integrations that wait before they send a request.
#[derive(Default)]
struct Backlog {
    pending: HashMap<String, usize>,
    waiting: HashMap<String, BTreeSet<String>>,
    call: Option<WakeFn>,
}

/// Called with namespace and name of an integration that may be reconciled again.
pub type WakeFn = Arc<dyn Fn(&str, &str) + Send + Sync>;

impl std::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backlog").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Workers that run this binary: `/proc/self/exe`, or, without `/proc`, the command that started this process.
    #[must_use]
    pub fn new() -> Self {
        let called = || std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        Self::of(std::env::current_exe().unwrap_or_else(|_| called()))
    }

    /// Workers that run another binary.
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        Self {
            program: Arc::new(program),
            idle: Arc::default(),
            trust: Arc::default(),
            trusted_slot: FairQueue::new(1, 1),
            untrusted_slot: FairQueue::new(1, 1),
            backlog: Arc::default(),
        }
    }

    /// Sets the function to call when there is room again for an integration that [`Sandbox::has_room`] has rejected.
    pub fn call(&self, call: WakeFn) {
        self.backlog().call = Some(call);
    }

    /// Whether a response of this integration would be evaluated soon. If its namespace has too many pending
    /// responses, the integration is recorded and called later: it waits without a task, a request, or a response in
    /// memory.
    #[must_use]
    pub fn has_room(&self, namespace: &str, name: &str) -> bool {
        let mut backlog = self.backlog();
        if backlog.pending.get(namespace).is_none_or(|pending| *pending < ROOM) {
            return true;
        }
        backlog.waiting.entry(namespace.to_owned()).or_default().insert(name.to_owned());
        false
    }

    /// Evaluates the expressions of one response, for a namespace.
    ///
    /// # Errors
    ///
    /// The limit that the expressions exceeded, or why they were not evaluated.
    pub async fn evaluate(
        &self,
        namespace: &str,
        job: &EvaluationRequest,
    ) -> Result<Vec<EvaluationResult>, ExpressionError> {
        self.evaluate_within(namespace, job, QUEUE_TIMEOUT).await
    }

    /// The same with another timeout for each queue.
    ///
    /// # Errors
    ///
    /// As [`Sandbox::evaluate`].
    pub async fn evaluate_within(
        &self,
        namespace: &str,
        job: &EvaluationRequest,
        queue_timeout: Duration,
    ) -> Result<Vec<EvaluationResult>, ExpressionError> {
        let _pending = self.enter(namespace);
        let key = key(&job.expressions);
        if self.trusts(namespace, key) {
            let turn = self.trusted_slot.turn(namespace, queue_timeout).await.ok_or(ExpressionError::QueueTimedOut)?;
            let outcome = self.work(job, TRUSTED_TIMEOUT).await;
            match outcome {
                Ok(results) if turn.lasted() <= CHEAP => return Ok(results),
                Ok(results) => {
                    self.distrust(namespace, key);
                    return Ok(results);
                }
                Err(error) => {
                    self.distrust(namespace, key);
                    if !matches!(error, WorkerError::TimedOut) {
                        return Err(error.into());
                    }
                }
            }
        }
        // After a timeout in the first slot it waits again: the response may contain the only copy of a refresh token.
        let turn = self.untrusted_slot.turn(namespace, queue_timeout).await.ok_or(ExpressionError::QueueTimedOut)?;
        let outcome = self.work(job, TIMEOUT).await;
        if outcome.is_ok() && turn.lasted() <= CHEAP {
            self.learn_trust(namespace, key);
        }
        Ok(outcome?)
    }

    /// Checks whether expressions can be parsed: `Ok`, or the parser's message for each. Waits in the queue without a
    /// timeout.
    ///
    /// # Errors
    ///
    /// Why they could not be checked.
    pub async fn check(
        &self,
        namespace: &str,
        expressions: Vec<String>,
    ) -> Result<Vec<Result<(), ExpressionError>>, CheckError> {
        let job = EvaluationRequest {
            task: Task::Check,
            expressions,
            public: 0,
            status: 0,
            headers: vec![],
            body: String::new(),
            input: None,
        };
        let _turn = self.untrusted_slot.turn(namespace, Duration::MAX).await;
        match self.work(&job, TIMEOUT).await {
            Ok(results) => Ok(results.into_iter().map(|result| result.map(|_| ())).collect()),
            Err(WorkerError::NotStarted(error)) => Err(CheckError::NotStarted(error)),
            Err(error) => Err(CheckError::LimitExceeded(error.into())),
        }
    }

    fn enter(&self, namespace: &str) -> Pending<'_> {
        *self.backlog().pending.entry(namespace.to_owned()).or_default() += 1;
        Pending { sandbox: self, namespace: namespace.to_owned() }
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trust(&self) -> MutexGuard<'_, HashMap<String, Trust>> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trusts(&self, namespace: &str, key: u64) -> bool {
        self.trust().get_mut(namespace).is_some_and(|trust| {
            trust.used = Some(Instant::now());
            trust.cheap.contains(&key)
        })
    }

    fn distrust(&self, namespace: &str, key: u64) {
        if let Some(trust) = self.trust().get_mut(namespace) {
            trust.cheap.remove(&key);
        }
    }

    /// Trust only saves time, so it may be dropped. The least recently used namespace loses it first.
    fn learn_trust(&self, namespace: &str, key: u64) {
        let mut all = self.trust();
        if all.len() >= TRUSTED_NAMESPACES && !all.contains_key(namespace) {
            let least_recently_used = all.iter().min_by_key(|(_, trust)| trust.used).map(|(name, _)| name.clone());
            least_recently_used.map(|name| all.remove(&name));
        }
        let trust = all.entry(namespace.to_owned()).or_default();
        trust.used = Some(Instant::now());
        if trust.cheap.len() >= TRUSTED {
            trust.cheap.clear();
        }
        trust.cheap.insert(key);
    }

    async fn work(&self, job: &EvaluationRequest, timeout: Duration) -> Result<Vec<EvaluationResult>, WorkerError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(worker) = idle {
            match self.work_with(worker, job, timeout).await {
                // The worker may have died because of an earlier request, so a new one tries again.
                Err(WorkerError::Died | WorkerError::NotStarted(_)) => {}
                result => return result,
            }
        }
        let worker = WorkerProcess::start(&self.program).map_err(|error| WorkerError::NotStarted(error.to_string()))?;
        self.work_with(worker, job, timeout).await
    }

    async fn work_with(
        &self,
        mut worker: WorkerProcess,
        job: &EvaluationRequest,
        timeout: Duration,
    ) -> Result<Vec<EvaluationResult>, WorkerError> {
        // A worker is killed when it is dropped.
        let results = match tokio::time::timeout(timeout, worker.work(job)).await {
            Ok(Ok(results)) => results,
            Ok(Err(_)) => {
                return Err(match tokio::time::timeout(EXIT_TIMEOUT, worker.exit_code()).await {
                    Ok(Some(worker::CANNOT_RESTRICT)) => WorkerError::NotStarted(
                        "it cannot restrict itself: check the limits of the container".to_owned(),
                    ),
                    Ok(_) | Err(_) => WorkerError::Died,
                });
            }
            Err(_) => return Err(WorkerError::TimedOut),
        };
        worker.jobs += 1;
        if worker.jobs < MAX_JOBS_PER_WORKER {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        Ok(results)
    }
}

/// The hash of a set of expressions. Two sets with the same hash share their trust, which is harmless.
fn key(expressions: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    expressions.hash(&mut hasher);
    hasher.finish()
}

/// A response that waits or is evaluated. When it is dropped, integrations that wait for room are called.
struct Pending<'a> {
    sandbox: &'a Sandbox,
    namespace: String,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let (called, call) = {
            let mut backlog = self.sandbox.backlog();
            let pending = backlog.pending.get_mut(&self.namespace).map_or(0, |pending| {
                *pending = pending.saturating_sub(1);
                *pending
            });
            if pending == 0 {
                backlog.pending.remove(&self.namespace);
            }
            // A called integration does not necessarily return. The last response therefore calls all of them, so
            // that none waits forever.
            let room = if pending == 0 { usize::MAX } else { ROOM.saturating_sub(pending) };
            let waiting = backlog.waiting.entry(self.namespace.clone()).or_default();
            let called: Vec<String> = waiting.iter().take(room).cloned().collect();
            for name in &called {
                waiting.remove(name);
            }
            if waiting.is_empty() {
                backlog.waiting.remove(&self.namespace);
            }
            (called, backlog.call.clone())
        };
        if let Some(call) = call {
            for name in &called {
                call(&self.namespace, name);
            }
        }
    }
}

/// Why a worker did not finish.
enum WorkerError {
    /// It died.
    Died,
    /// It took too long.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}

impl From<WorkerError> for ExpressionError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Died => Self::OutOfMemory(MEMORY >> 20),
            WorkerError::TimedOut => Self::TimedOut(TIMEOUT),
            WorkerError::NotStarted(error) => Self::NotStarted(error),
        }
    }
}
