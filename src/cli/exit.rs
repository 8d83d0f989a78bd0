//! Exit codes.

use crate::controller::error::Error;
use crate::error_report::chain;

/// Prints the error of a command, if any, and returns its exit code.
#[must_use]
pub fn exit_code(result: Result<(), Error>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}
