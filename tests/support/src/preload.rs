//! Preloaded libraries that change what a process sees: names (`nss_wrapper`) and time (`libfaketime`).

use std::path::{Path, PathBuf};

use crate::tools;

/// Names that only processes with this environment can resolve.
#[derive(Debug)]
pub struct Names {
    dir: tempfile::TempDir,
    name: String,
}

impl Names {
    /// Resolves this name to loopback.
    pub fn new(name: &str) -> Self {
        let names = Self { dir: tempfile::tempdir().expect("a directory"), name: name.to_owned() };
        names.set_known(true);
        names
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    /// Sets whether the name can be resolved. The library checks the file's modification time in whole seconds: a
    /// second change within the same second is not seen.
    pub fn set_known(&self, known: bool) {
        let text = if known { format!("127.0.0.1 {}\n", self.name) } else { "127.0.0.1 localhost\n".to_owned() };
        write(&self.file(), &text);
    }

    /// The environment variables of a process.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".to_owned(), library("libnss_wrapper.so")),
            ("NSS_WRAPPER_HOSTS".to_owned(), self.file().display().to_string()),
        ]
    }
}

/// A settable wall clock for processes with this environment. Their monotonic clock is not affected.
#[derive(Debug)]
pub struct Clock(tempfile::TempDir);

impl Clock {
    /// A clock that shows the real time.
    pub fn new() -> Self {
        let clock = Self(tempfile::tempdir().expect("a directory"));
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("time")
    }

    /// Sets it to this many seconds after the real time.
    pub fn set(&self, seconds: i64) {
        write(&self.file(), &format!("{seconds:+}"));
    }

    /// The environment variables of a process.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", library("libfaketimeMT.so.1")),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes atomically: readers see either the old or the new text.
fn write(file: &Path, text: &str) {
    let part = file.with_extension("part");
    std::fs::write(&part, text).expect("a file");
    std::fs::rename(&part, file).expect("a file");
}

fn library(name: &str) -> String {
    tools::install("preload").join(name).display().to_string()
}
