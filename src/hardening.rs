//! Protects the memory of this process, which contains the credentials of all tenants.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Disables core dumps, and prevents other processes of the same user from reading the memory. Best effort: errors
/// are ignored, because nothing depends on it.
pub fn forbid_core_dumps_and_ptrace() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
