//! What the watches of workloads share with the rest of the operator.

use crate::controller::readiness::CacheSync;
use crate::controller::restarts::workload::Workloads;

/// The workloads that have opted in, and the settings of restarts.
#[derive(Debug)]
pub struct Restarts {
    /// The workloads.
    pub workloads: Workloads,
    /// Which watches have received their initial list. Renewals do not wait for them.
    pub sync: CacheSync,
    /// The maximum number of rollouts at once.
    pub at_once: usize,
    /// Whether several namespaces share them.
    pub several_namespaces: bool,
}
