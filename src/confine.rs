//! What others may see of this process.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dump, and no look into the memory by other processes of the same user: it holds everybody's credentials. What the
/// system refuses here is told by nobody, since nothing depends on it.
pub fn hide_memory() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
