//! A worker process, and the pipes to it.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use zeroize::Zeroizing;

use crate::oauth::expression::protocol::{EvaluationRequest, EvaluationResult};
use crate::oauth::expression::worker;

/// The maximum size of a result, in bytes: [`worker::MAX_VALUES`] of text, escaped.
const MAX_RESULT_BYTES: u32 = 2 << 20;

/// A process that evaluates expressions.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    /// Killed when this is dropped.
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// How many requests it has handled.
    pub(crate) jobs: u32,
}

impl WorkerProcess {
    pub(crate) fn start(program: &PathBuf) -> std::io::Result<Self> {
        let mut process = Command::new(program)
            .arg(worker::COMMAND)
            .env_clear()
            // One arena, and freed memory is returned at once, because reserved memory counts towards the limit.
            .env("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its output when it aborts may quote the response.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let no_pipe = || std::io::Error::other("no pipe");
        let (input, output) = (process.stdin.take().ok_or_else(no_pipe)?, process.stdout.take().ok_or_else(no_pipe)?);
        Ok(Self { process, input, output, jobs: 0 })
    }

    /// The exit code of a worker that does not respond; `None` if a signal ended it, as when it has no more memory.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        drop(self.input);
        self.process.wait().await.ok()?.code()
    }

    pub(crate) async fn work(&mut self, job: &EvaluationRequest) -> std::io::Result<Vec<EvaluationResult>> {
        // Allocated at full size, because a reallocation would leave a copy in memory.
        let headers = job.headers.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 8).sum::<usize>();
        let input = job.input.as_ref().map_or(0, String::len);
        let room = headers
            + 6 * (job.body.len() + input)
            + job.expressions.iter().map(|text| 6 * text.len() + 8).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1_024));
        serde_json::to_writer(&mut *bytes, job)?;
        self.input.write_u32(u32::try_from(bytes.len()).map_err(std::io::Error::other)?).await?;
        self.input.write_all(&bytes).await?;
        let length = self.output.read_u32().await?;
        if length > MAX_RESULT_BYTES {
            return Err(std::io::Error::other("too long"));
        }
        let mut bytes = Zeroizing::new(vec![0; length as usize]);
        self.output.read_exact(&mut bytes).await?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
