//! The `oauth-operator` binary: arguments, logs, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use oauth_operator::config::{Arguments, Command};
use oauth_operator::{api, confine, controller, error, fetch, sandbox, telemetry};

/// Gives back what short-lived work has used: resident memory is a fifth less than with the allocator of the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(sandbox::worker::COMMAND) {
        return sandbox::worker::run();
    }
    confine::hide_memory();
    work()
}

/// One thread for all: the work is waiting, and what two threads would gain they lose by waking each other up.
#[tokio::main(flavor = "current_thread")]
async fn work() -> ExitCode {
    let Arguments { command, log_format, log } = Arguments::parse();
    if let Err(problem) = telemetry::start(log_format, &log) {
        eprintln!("error: {problem}");
        return ExitCode::from(2);
    }
    match command {
        Command::Run(arguments) => {
            let work = async { controller::run((*arguments).into(), controller::signals()?).await };
            error::exit(work.await)
        }
        Command::Crd => error::exit(api::print_crd()),
        Command::Fetch(arguments) => fetch::run(arguments).await,
    }
}
