//! The other end: a process that evaluates what it is given, one answer after the other, and can do nothing else.

use std::io::{Read, Write};
use std::process::ExitCode;

use jsonata_core::value::JValue;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

use super::{Job, MEMORY, Yield};
use crate::oauth::expression::Bindings;
use crate::oauth::{Expression, response};

/// The command that starts it. Not for people.
pub const COMMAND: &str = "evaluate";
/// The largest job that is read, in bytes: an answer of 1 MiB, each byte of it escaped, and expressions.
const LARGEST_JOB: usize = 8 << 20;

/// Works until its input ends.
#[must_use]
pub fn run() -> ExitCode {
    if confine().is_err() {
        return ExitCode::FAILURE;
    }
    // An end of the input is an order to end, whatever it cut off.
    while let Ok(job) = read() {
        let yields = evaluate(&job);
        if write(&yields).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Gives up all that evaluating does not need: memory beyond a limit, files, processes, rights that a program could bring, and a
/// memory image for others to read.
fn confine() -> rustix::io::Result<()> {
    let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, limit(MEMORY))?;
    setrlimit(Resource::Core, limit(0))?;
    setrlimit(Resource::Fsize, limit(0))?;
    setrlimit(Resource::Nofile, limit(3))?;
    setrlimit(Resource::Nproc, limit(0))?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn read() -> std::io::Result<Job> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(std::io::Error::other)?;
    if length > LARGEST_JOB {
        return Err(std::io::Error::other("too large"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn write(yields: &[Yield]) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(yields)?;
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut output = std::io::stdout().lock();
    output.write_all(&length.to_be_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}

fn evaluate(job: &Job) -> Vec<Yield> {
    let Job { expressions, status, headers, body } = job;
    let body = response::parse(body.as_bytes()).unwrap_or(JValue::Null);
    let bindings = Bindings { status: *status, headers };
    let evaluate = |text: &String| {
        let value = Expression::parse(text)?.evaluate(&body, bindings)?;
        match value {
            JValue::Undefined => Ok(None),
            value => {
                let text = value.to_json_string().map_err(|_| "what cannot be written as JSON".to_owned())?;
                serde_json::from_str(&text).map(Some).map_err(|_| "what cannot be written as JSON".to_owned())
            }
        }
    };
    expressions.iter().map(evaluate).collect()
}
