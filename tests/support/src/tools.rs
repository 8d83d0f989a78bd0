//! The tools that the tests run; `tests/tools/install` installs missing ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

static INSTALLED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);

/// The directory of a tool, installed once per test binary. Progress is printed to standard error.
pub fn install(name: &str) -> PathBuf {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let installed = installed.get_or_insert_default();
    if let Some(dir) = installed.get(name) {
        return dir.clone();
    }
    let output = Command::new(root().join("tests/tools/install"))
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("tests/tools/install cannot be run: {error}"));
    assert!(output.status.success(), "tests/tools/install {name} failed; see its output above");
    let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    installed.insert(name.to_owned(), dir.clone());
    dir
}

/// The root of the project.
pub fn root() -> &'static Path {
    const SUPPORT: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(SUPPORT.strip_suffix("/tests/support").expect("this crate is in tests/support"))
}

/// Everything that a program has printed.
pub fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Removes the variables that `cargo test` sets: with them, another cargo would compile some crates again.
pub fn remove_cargo_variables(command: &mut Command) {
    let is_set_by_test = |name: &str| name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name);
    for (name, _) in std::env::vars().filter(|(name, _)| is_set_by_test(name)) {
        command.env_remove(name);
    }
}

/// Who publishes the image and the chart, according to the Makefile.
pub fn owner() -> String {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    let owner = makefile.lines().find_map(|line| line.strip_prefix("OWNER ?= "));
    owner.expect("OWNER in the Makefile").to_owned()
}
