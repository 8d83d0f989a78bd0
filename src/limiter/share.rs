//! Fair shares of a limited resource.

#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;

/// A number of permits, and how many of them each namespace holds.
///
/// If several namespaces share them, a namespace may take a permit only while more permits are free than it already
/// holds: a single one can use half of them (rounded up), two can use a third each, and so on. A namespace without
/// permits therefore does not wait until a request of another namespace completes or times out ("dynamic thresholds",
/// Choudhury and Hahne, 1998).
#[derive(Debug)]
pub struct Shares {
    total: usize,
    several: bool,
    in_use: usize,
    held: HashMap<String, usize>,
}

impl Shares {
    /// The number of permits, all free. `several`: whether namespaces must leave permits for each other.
    #[must_use]
    pub fn new(total: usize, several: bool) -> Self {
        Self { total, several, in_use: 0, held: HashMap::new() }
    }

    /// The number of permits taken.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// The number of permits that a namespace holds.
    #[must_use]
    pub fn held_by(&self, namespace: &str) -> usize {
        self.held.get(namespace).copied().unwrap_or_default()
    }

    /// The number of permits that a namespace may still take; if it is 0, the namespace must wait.
    #[must_use]
    pub fn headroom(&self, namespace: &str) -> usize {
        let free = self.total.saturating_sub(self.in_use);
        if self.several { free.saturating_sub(self.held_by(namespace)) } else { free }
    }

    /// Takes a permit, whether there is headroom or not.
    pub fn take(&mut self, namespace: &str) {
        self.in_use += 1;
        *self.held.entry(namespace.to_owned()).or_default() += 1;
    }

    /// Returns a permit.
    pub fn release(&mut self, namespace: &str) {
        let Some(held) = self.held.get_mut(namespace) else { return };
        self.in_use -= 1;
        *held -= 1;
        if *held == 0 {
            self.held.remove(namespace);
        }
    }
}
