//! CPU time, which does not depend on what else runs on the machine.

use std::fs;
use std::time::Duration;

/// The CPU time that the current thread has used.
#[must_use]
pub fn thread_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("the statistics of the scheduler");
    let nanoseconds = stat.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
}
