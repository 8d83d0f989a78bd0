//! Metrics: counters that are kept, and the state of the operator, which is read at each scrape.
//!
//! Nothing is stored per integration, so deleted integrations leave no series. With many integrations, their series can be
//! turned off (`--object-metrics=false`); the aggregates of `fleet` are there in any case.

pub(crate) mod counters;
pub(crate) mod fleet;
pub(crate) mod objects;
pub(crate) mod process;
pub mod reference;
pub(crate) mod scrape;
pub(crate) mod text;
