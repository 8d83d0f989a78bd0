//! `oauth-operator import`: prints integrations for the Webhook generators of the External Secrets Operator.
//!
//! Reads manifests, never Secrets, and prints no value that may be one: what a generator contains in plain text under the
//! name of a credential is replaced by a key of the credentials Secret.

pub(crate) mod body;
pub(crate) mod eso;
pub(crate) mod grant;
pub(crate) mod integration;
pub(crate) mod json_path;
pub(crate) mod request;
pub(crate) mod template;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::fetch::manifests::documents;
use crate::cli::import::eso::Objects;
use crate::cli::import::integration::Imported;
use crate::error_report;

/// A file that cannot be read; clap uses the same code.
const USAGE: u8 = 2;
/// Something cannot be translated.
const INCOMPLETE: u8 = 3;

/// Prints an integration for each ExternalSecret that uses a Webhook generator, and for each generator that no
/// ExternalSecret uses: as YAML on standard output, with what to check on standard error.
#[must_use]
pub fn run(files: &[PathBuf]) -> ExitCode {
    let mut objects = Objects::default();
    for file in files {
        match documents(file) {
            Ok(documents) => documents.iter().for_each(|document| objects.add(document)),
            Err(error) => {
                eprintln!("error: {}", error_report::chain(&error));
                return ExitCode::from(USAGE);
            }
        }
    }
    let all = integration::all(&objects);
    let mut code = ExitCode::SUCCESS;
    if all.is_empty() {
        eprintln!("error: the given files contain no Webhook generator of the External Secrets Operator");
        code = ExitCode::from(INCOMPLETE);
    }
    for Imported { name, documents, notes, problem, .. } in all {
        for document in documents {
            match serde_saphyr::to_string(&document) {
                Ok(yaml) => print!("---\n{yaml}"),
                Err(error) => eprintln!("error: {name}: {error}"),
            }
        }
        for note in notes {
            eprintln!("{name}: {note}");
        }
        if let Some(problem) = problem {
            eprintln!("error: {name} is not printed: {problem}");
            code = ExitCode::from(INCOMPLETE);
        }
    }
    for skipped in &objects.skipped {
        eprintln!("{skipped}");
    }
    code
}
