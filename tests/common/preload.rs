//! Libraries that let a process see another world: names (`nss_wrapper`) and time (`libfaketime`).

use std::path::{Path, PathBuf};

use super::tools;

/// Names that only the processes know which were given the environment.
#[derive(Debug)]
pub struct Names {
    dir: tempfile::TempDir,
    name: String,
}

impl Names {
    /// This name, for loopback.
    pub fn new(name: &str) -> Self {
        let names = Self { dir: tempfile::tempdir().expect("a folder"), name: name.to_owned() };
        names.set_known(true);
        names
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    /// Whether the name can be resolved. The library looks at the file's time in whole seconds: changes within one are not
    /// seen.
    pub fn set_known(&self, known: bool) {
        let text = if known { format!("127.0.0.1 {}\n", self.name) } else { "127.0.0.1 localhost\n".to_owned() };
        write(&self.file(), &text);
    }

    /// What a process is started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".to_owned(), library("libnss_wrapper.so")),
            ("NSS_WRAPPER_HOSTS".to_owned(), self.file().display().to_string()),
        ]
    }
}

/// A wall clock that can be set, for the processes that were given the environment. The monotonic one goes on.
#[derive(Debug)]
pub struct Clock(tempfile::TempDir);

impl Clock {
    /// One that shows the real time.
    pub fn new() -> Self {
        let clock = Self(tempfile::tempdir().expect("a folder"));
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("time")
    }

    /// Sets it to so many seconds after the real time.
    pub fn set(&self, seconds: i64) {
        write(&self.file(), &format!("{seconds:+}"));
    }

    /// What a process is started with.
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

/// In one step: who reads sees the old text or the new.
fn write(file: &Path, text: &str) {
    let part = file.with_extension("part");
    std::fs::write(&part, text).expect("a file");
    std::fs::rename(&part, file).expect("a file");
}

fn library(name: &str) -> String {
    tools::install("preload").join(name).display().to_string()
}
