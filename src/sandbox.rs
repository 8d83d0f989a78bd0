//! Evaluates expressions that are more than a path of names in processes of their own: no bigger than a limit, with no rights and
//! nothing secret in them but the answer at hand.
//!
//! JSONata is a language: an expression can loop, recurse, and ask for memory without end inside one step, which no limit of the
//! evaluator bounds (`$pad("x", 2e9)`). So it runs where it can be ended from outside. A worker is this same binary; a few are kept
//! and used again. One that takes too long is killed, one that asks for too much dies by itself, and the next expression gets a
//! new one.

pub mod worker;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;
use zeroize::{Zeroize, Zeroizing};

/// How long the expressions of one answer may take together.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many workers there are at most: one for expressions that have ended well in this namespace before, one for all others.
/// Of the others at most one of each namespace is in line, so those who mean harm wait for each other.
const WORKERS: usize = 2;
/// How long one waits for others of one's own namespace.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many sets of expressions are remembered as good, and namespaces that have a line; past this number all begin anew.
const REMEMBERED: usize = 1_024;
/// How many jobs a worker does before another takes its place.
const LONGEST_SERVICE: u32 = 1_000;
/// The longest result that is read, in bytes.
const LONGEST_RESULT: u32 = 4 << 20;
/// The memory of a worker, in bytes.
pub(crate) const MEMORY: u64 = 24 << 20;

/// An answer, and what is asked of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The expressions.
    pub expressions: Vec<String>,
    /// The HTTP status code.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body; empty where it is no text.
    pub body: String,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

/// What an expression yields: `None` for nothing, or the code of its failure.
pub type Yield = Result<Option<Value>, String>;

/// The workers. Clones share them.
#[derive(Clone, Debug)]
pub struct Sandbox {
    program: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Worker>>>,
    /// Expressions that have ended well, by namespace.
    proven: Arc<Mutex<HashSet<Proven>>>,
    /// The line of each namespace.
    lines: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    for_proven: Arc<Semaphore>,
    for_others: Arc<Semaphore>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Workers of this very binary: what the system says that it is, or, where it has no `/proc`, as it was called.
    #[must_use]
    pub fn new() -> Self {
        let called = || std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        Self::of(std::env::current_exe().unwrap_or_else(|_| called()))
    }

    /// Workers of a binary.
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        let place = || Arc::new(Semaphore::new(WORKERS / 2));
        Self {
            program: Arc::new(program),
            idle: Arc::default(),
            proven: Arc::default(),
            lines: Arc::default(),
            for_proven: place(),
            for_others: place(),
        }
    }

    /// Evaluates the expressions of one answer, for a namespace.
    ///
    /// # Errors
    ///
    /// What the expressions took too much of: "its limit of …".
    pub async fn evaluate(&self, namespace: &str, job: &Job) -> Result<Vec<Yield>, String> {
        let key: Proven = (namespace.to_owned(), job.expressions.clone());
        let is_proven = self.proven().contains(&key);
        // An error says that nobody gives out places any more, which nobody does.
        let (_turn, _place) = if is_proven {
            (None, self.for_proven.acquire().await)
        } else {
            let turn = tokio::time::timeout(PATIENCE, self.line(namespace).acquire_owned()).await;
            let turn = turn.map_err(|_| "its turn: others of its namespace take all their time".to_owned())?;
            (Some(turn), self.for_others.acquire().await)
        };
        let outcome = self.work(job).await;
        let mut proven = self.proven();
        if outcome.is_err() {
            proven.remove(&key);
        } else if !is_proven {
            if proven.len() >= REMEMBERED {
                proven.clear();
            }
            proven.insert(key);
        }
        outcome
    }

    fn proven(&self) -> MutexGuard<'_, HashSet<Proven>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, namespace: &str) -> Arc<Semaphore> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= REMEMBERED {
            // Who stands in one keeps it.
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        Arc::clone(lines.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    async fn work(&self, job: &Job) -> Result<Vec<Yield>, String> {
        let known = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(worker) = known {
            match self.work_with(worker, job).await {
                // It may have been worn out by what it did before, which is not this one's doing.
                Err(Broken::Gone) => {}
                done => return done.map_err(Broken::text),
            }
        }
        let worker = Worker::start(&self.program).map_err(|error| format!("no process of its own ({error})"))?;
        self.work_with(worker, job).await.map_err(Broken::text)
    }

    async fn work_with(&self, mut worker: Worker, job: &Job) -> Result<Vec<Yield>, Broken> {
        // Dropped, a worker is killed.
        let yields = match tokio::time::timeout(TIMEOUT, worker.work(job)).await {
            Ok(Ok(yields)) => yields,
            Ok(Err(_)) => return Err(Broken::Gone),
            Err(_) => return Err(Broken::Late),
        };
        worker.jobs += 1;
        if worker.jobs < LONGEST_SERVICE {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        Ok(yields)
    }
}

/// Expressions, with the namespace for which they have ended well.
type Proven = (String, Vec<String>);

/// Why a worker did not do its work.
enum Broken {
    /// It has died.
    Gone,
    /// It took too long.
    Late,
}

impl Broken {
    fn text(self) -> String {
        match self {
            Self::Gone => format!("its limit of {} MiB of memory", MEMORY >> 20),
            Self::Late => format!("its limit of {TIMEOUT:?}"),
        }
    }
}

/// A process that evaluates.
#[derive(Debug)]
struct Worker {
    /// Killed when this is dropped.
    _process: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// How many jobs it has done.
    jobs: u32,
}

impl Worker {
    fn start(program: &PathBuf) -> std::io::Result<Self> {
        let mut process = Command::new(program)
            .arg(worker::COMMAND)
            .env_clear()
            // One arena, and nothing kept: what is reserved counts.
            .env("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What it says while it dies may quote the answer.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let lacking = || std::io::Error::other("no pipe");
        let (input, output) = (process.stdin.take().ok_or_else(lacking)?, process.stdout.take().ok_or_else(lacking)?);
        Ok(Self { _process: process, input, output, jobs: 0 })
    }

    async fn work(&mut self, job: &Job) -> std::io::Result<Vec<Yield>> {
        // With room for all, so that no part of it is left behind where it grew.
        let room = 6 * job.body.len() + job.expressions.iter().map(|text| 6 * text.len() + 8).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1_024));
        serde_json::to_writer(&mut *bytes, job)?;
        self.input.write_u32(u32::try_from(bytes.len()).map_err(std::io::Error::other)?).await?;
        self.input.write_all(&bytes).await?;
        let length = self.output.read_u32().await?;
        if length > LONGEST_RESULT {
            return Err(std::io::Error::other("too long"));
        }
        let mut bytes = Zeroizing::new(vec![0; length as usize]);
        self.output.read_exact(&mut bytes).await?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
