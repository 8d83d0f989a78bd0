//! Which part of the memory of the process the caches may take that grow with the integrations.
//!
//! The parts are those that were measured with the chart's limit of 128 MiB (docs/reliability.md). The rest is for everything
//! that does not grow with the integrations, and for a new list, during which integrations are in memory twice. With a smaller
//! limit, what does not grow leaves less for them.

/// The default of `--memory-limit`, in bytes: the chart's.
pub const DEFAULT_LIMIT: usize = 128 << 20;

/// The part of the default limit that does not grow with the integrations, in bytes.
const FIXED: usize = 56 << 20;
/// The least that integrations may take, in bytes, however small the limit is: some hundreds of them.
const MIN: usize = 4 << 20;

/// The bounds of one cache, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// For one namespace.
    pub namespace: usize,
    /// For all namespaces together.
    pub total: usize,
}

impl MemoryBound {
    /// The bound on integrations: up to three eighths of the limit, of which a single namespace never uses more than half if there
    /// are several.
    #[must_use]
    pub const fn of_integrations(limit: usize, several_namespaces: bool) -> Self {
        let total = total_of_integrations(limit);
        Self { namespace: if several_namespaces { total / 2 } else { total }, total }
    }

    /// The bound on facts about target Secrets: half as much, and a third of it for one of several namespaces. One that does not
    /// fit is read when a decision needs it.
    #[must_use]
    pub const fn of_targets(limit: usize, several_namespaces: bool) -> Self {
        let total = total_of_integrations(limit) / 2;
        Self { namespace: if several_namespaces { total / 3 } else { total }, total }
    }
}

const fn total_of_integrations(limit: usize) -> usize {
    let share = limit / 8 * 3;
    let left = limit.saturating_sub(FIXED) / 3 * 2;
    let total = if left < share { left } else { share };
    if total > MIN { total } else { MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_grow_with_the_limit() {
        let mib = |namespace: usize, total: usize| MemoryBound { namespace: namespace << 20, total: total << 20 };
        assert_eq!(MemoryBound::of_integrations(DEFAULT_LIMIT, true), mib(24, 48));
        assert_eq!(MemoryBound::of_integrations(DEFAULT_LIMIT, false), mib(48, 48));
        assert_eq!(MemoryBound::of_integrations(DEFAULT_LIMIT * 8, true), mib(192, 384));
        assert_eq!(MemoryBound::of_targets(DEFAULT_LIMIT, true), mib(8, 24));
        assert_eq!(MemoryBound::of_integrations(80 << 20, true), mib(8, 16));
        for small in [0, 16 << 20, 56 << 20] {
            assert_eq!(MemoryBound::of_integrations(small, true), mib(2, 4));
        }
        assert_eq!(MemoryBound::of_targets(DEFAULT_LIMIT * 8, false), mib(192, 192));
    }
}
