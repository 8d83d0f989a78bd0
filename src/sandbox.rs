//! Evaluates expressions that are more than a path of names in processes of their own: no bigger than a limit, with no rights and
//! nothing secret in them but the answer at hand.
//!
//! JSONata is a language: an expression can loop, recurse, and ask for memory without end inside one step, which no limit of the
//! evaluator bounds (`$pad("x", 2e9)`). So it runs where it can be ended from outside. A worker is this same binary; a few are kept
//! and used again. One that takes too long is killed, one that asks for too much dies by itself, and the next expression gets a
//! new one.

pub mod worker;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// How long the expressions of one answer may take together.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many workers there are at most: one for expressions that have ended well before, one for all others. So nobody whose
/// expressions are good waits for those of somebody who means harm; who uses only paths waits for nobody at all.
const WORKERS: usize = 2;
/// How many sets of expressions are remembered as good; past this number all have to show it anew.
const PROVEN: usize = 1_024;
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

/// What an expression yields: `None` for nothing, or the code of its failure.
pub type Yield = Result<Option<Value>, String>;

/// The workers. Clones share them.
#[derive(Clone, Debug)]
pub struct Sandbox {
    program: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Worker>>>,
    /// Expressions that have ended well.
    proven: Arc<Mutex<HashSet<Vec<String>>>>,
    for_proven: Arc<Semaphore>,
    for_others: Arc<Semaphore>,
}

impl Sandbox {
    /// Workers of this very binary.
    ///
    /// # Errors
    ///
    /// Where the system does not tell which that is.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self::of(std::env::current_exe()?))
    }

    /// Workers of a binary.
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        let place = || Arc::new(Semaphore::new(WORKERS / 2));
        Self {
            program: Arc::new(program),
            idle: Arc::default(),
            proven: Arc::default(),
            for_proven: place(),
            for_others: place(),
        }
    }

    /// Evaluates the expressions of one answer.
    ///
    /// # Errors
    ///
    /// What the expressions took too much of: "its limit of …".
    pub async fn evaluate(&self, job: &Job) -> Result<Vec<Yield>, String> {
        let is_proven = self.proven().contains(&job.expressions);
        let places = if is_proven { &self.for_proven } else { &self.for_others };
        // An error says that nobody gives out places any more, which nobody does.
        let _place = places.acquire().await;
        let outcome = self.work(job).await;
        let mut proven = self.proven();
        if outcome.is_err() {
            proven.remove(&job.expressions);
        } else if !is_proven {
            if proven.len() >= PROVEN {
                proven.clear();
            }
            proven.insert(job.expressions.clone());
        }
        outcome
    }

    fn proven(&self) -> MutexGuard<'_, HashSet<Vec<String>>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self, job: &Job) -> Result<Vec<Yield>, String> {
        let known = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = match known {
            Some(worker) => worker,
            None => Worker::start(&self.program).map_err(|error| format!("no process of its own ({error})"))?,
        };
        let done = tokio::time::timeout(TIMEOUT, worker.work(job)).await;
        match done {
            Ok(Ok(yields)) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
                Ok(yields)
            }
            // Dropped, the worker is killed.
            Ok(Err(_)) => Err(format!("its limit of {} MiB of memory", MEMORY >> 20)),
            Err(_) => Err(format!("its limit of {TIMEOUT:?}")),
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
        Ok(Self { _process: process, input, output })
    }

    async fn work(&mut self, job: &Job) -> std::io::Result<Vec<Yield>> {
        let bytes = Zeroizing::new(serde_json::to_vec(job)?);
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
