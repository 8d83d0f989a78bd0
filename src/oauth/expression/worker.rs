//! The worker process: evaluates expressions, one response after the other, and has no other permissions.

use std::io::{Read, Write};
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setpriority_process, setrlimit};
use rustix::thread::set_no_new_privs;

use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::protocol::{EvaluationRequest, EvaluationResult, MEMORY, Task};
use crate::oauth::expression::public::View;
use crate::oauth::expression::value::Value;

/// When CPU time is scarce, the operator itself takes precedence.
const NICENESS: i32 = 10;
/// The hidden subcommand that starts it.
pub const COMMAND: &str = "evaluate";
/// The maximum size of a request, in bytes: a response of 1 MiB with every byte escaped, and the expressions.
const MAX_JOB: usize = 8 << 20;
/// The maximum total size of all values of one request, in bytes; further values are errors.
pub const MAX_VALUES: usize = 256 << 10;

/// The exit code of a worker that cannot restrict itself.
pub(crate) const CANNOT_RESTRICT: i32 = 1;

/// Evaluates requests until the input ends.
#[must_use]
pub fn run() -> ExitCode {
    if confine().is_err() {
        return ExitCode::FAILURE;
    }
    // The worker exits at the end of the input, even within a request.
    while let Ok(job) = read() {
        let yields = evaluate(&job);
        if write(&yields).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Drops everything that an evaluation does not need: memory beyond a limit, files, processes, new privileges, core
/// dumps and ptrace.
fn confine() -> rustix::io::Result<()> {
    let limit = |max: u64| Rlimit { current: Some(max), maximum: Some(max) };
    setrlimit(Resource::Data, limit(MEMORY))?;
    // Fails without harm if the operator itself runs at a higher niceness, which only a privileged process may lower.
    let _ = setpriority_process(None, NICENESS);
    setrlimit(Resource::Core, limit(0))?;
    setrlimit(Resource::Fsize, limit(0))?;
    setrlimit(Resource::Nofile, limit(3))?;
    setrlimit(Resource::Nproc, limit(0))?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn read() -> std::io::Result<EvaluationRequest> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(std::io::Error::other)?;
    if length > MAX_JOB {
        return Err(std::io::Error::other("too large"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn write(yields: &[EvaluationResult]) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(yields)?;
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut output = std::io::stdout().lock();
    output.write_all(&length.to_be_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}

fn evaluate(job: &EvaluationRequest) -> Vec<EvaluationResult> {
    let EvaluationRequest { task, expressions, public, status, headers, body, input } = job;
    match task {
        Task::Check => return expressions.iter().map(|text| check(text)).collect(),
        Task::Build => return expressions.iter().map(|text| build(text, body, headers)).collect(),
        Task::Evaluate => {}
    }
    let whole = View::whole(body, headers);
    let whole = match input {
        Some(input) => match whole.within(input) {
            Ok(view) => view,
            Err(error) => return vec![Err(error); expressions.len()],
        },
        None => whole,
    };
    // Most evaluations need only one view.
    let without_secrets = (*public > 0).then(|| View::public(body, headers));
    let first_public = expressions.len().saturating_sub(*public);
    let mut room = MAX_VALUES;
    let evaluate = |(place, text): (usize, &String)| {
        let view = without_secrets.as_ref().filter(|_| place >= first_public).unwrap_or(&whole);
        let value = Expression::unchecked(text)?.evaluate(&view.body, view.bindings(*status))?;
        let value = Value::of(&value)?;
        room = room.checked_sub(value.size()).ok_or(ExpressionError::ValuesTooLarge)?;
        Ok(value)
    };
    expressions.iter().enumerate().map(evaluate).collect()
}

fn build(text: &str, members: &str, variables: &[(String, String)]) -> EvaluationResult {
    let value = Value::of(&Expression::unchecked(text)?.build(members, variables)?)?;
    if value.size() > MAX_VALUES {
        return Err(ExpressionError::ValuesTooLarge);
    }
    Ok(value)
}

fn check(text: &str) -> EvaluationResult {
    Expression::unchecked(text).and_then(|expression| expression.check()).map(|()| Value::Nothing)
}
