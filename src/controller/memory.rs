//! Which part of the memory of the process the caches may take that grow with the integrations.
//!
//! The parts are those that were measured with the chart's limit of 128 MiB (docs/reliability.md). The rest is for everything
//! that does not grow with the integrations, and for a new list, during which integrations are in memory twice.

/// The default of `--memory-limit`, in bytes: the chart's.
pub const DEFAULT_LIMIT: usize = 128 << 20;

/// The bounds of one cache, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// For one namespace.
    pub namespace: usize,
    /// For all namespaces together.
    pub total: usize,
}

impl MemoryBound {
    /// The bound on integrations: three eighths of the limit, of which a single namespace never uses more than half if there
    /// are several.
    #[must_use]
    pub const fn of_integrations(limit: usize, several_namespaces: bool) -> Self {
        let total = limit / 8 * 3;
        Self { namespace: if several_namespaces { total / 2 } else { total }, total }
    }

    /// The bound on facts about target Secrets: half as much, and a third of it for one of several namespaces. One that does not
    /// fit is read when a decision needs it.
    #[must_use]
    pub const fn of_targets(limit: usize, several_namespaces: bool) -> Self {
        let total = limit / 16 * 3;
        Self { namespace: if several_namespaces { total / 3 } else { total }, total }
    }
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
        assert_eq!(MemoryBound::of_targets(DEFAULT_LIMIT * 8, false), mib(192, 192));
    }
}
