//! The output of a whole test run, recorded for the search for secrets (`tests/canary.rs`) if `CANARY_RECORD` is set to
//! a directory.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The audit log of the API server: every value of a Secret, every token that it received or issued, and everything
/// that others may read of an integration.
const POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
    {"level": "OTHERS", "verbs": ["get", "list", "watch", "delete", "deletecollection"]},
    {"level": "RequestResponse", "resources": [
        {"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
    {"level": "Request", "resources": [
        {"group": "oauth.evolutionx.io"},
        {"group": "events.k8s.io"},
        {"group": "coordination.k8s.io"}]},
    {"level": "OTHERS"}]}"#;

/// The directory for records of this kind; `None` if recording is disabled.
pub fn dir(kind: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("CANARY_RECORD")?).join(kind);
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{} cannot be created: {error}", dir.display()));
    Some(dir)
}

/// A file of the record that no other process writes.
pub fn file(kind: &str) -> Option<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Some(dir(kind)?.join(format!("{}-{number}", std::process::id())))
}

/// Records a text.
pub fn keep(kind: &str, text: &str) {
    let Some(dir) = dir(kind).filter(|_| !text.is_empty()) else { return };
    let path = dir.join(std::process::id().to_string());
    let kept = OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| writeln!(file, "{text}"));
    kept.unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}

/// The audit policy; `others` is the level of all calls that are not searched: `None`, or `Metadata` for tests that
/// count calls.
pub fn policy(others: &str) -> String {
    POLICY.replace("OTHERS", others)
}

/// The arguments with which an API server records its calls.
pub fn audit() -> Vec<String> {
    let Some(log) = file("audit") else { return vec![] };
    let policy = log.with_extension("policy");
    fs::write(&policy, self::policy("None"))
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", policy.display()));
    vec![format!("--audit-policy-file={}", policy.display()), format!("--audit-log-path={}", log.display())]
}
