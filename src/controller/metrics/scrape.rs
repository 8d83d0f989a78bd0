//! One scrape: the counters, and the state at this moment.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

use crate::controller::context::Context;
use crate::controller::metrics::fleet::FleetMetrics;
use crate::controller::metrics::objects::ObjectMetrics;
use crate::controller::metrics::process::{OperatorMetrics, ProcessMetrics};
use crate::controller::metrics::reference::PREFIX;

/// The text for a scrape, in the OpenMetrics format. `length`: that of the last scrape, in bytes, so that the text is not copied
/// while it grows.
///
/// # Errors
///
/// Never in practice: writing to a string does not fail.
pub fn encode(context: &Arc<Context>, length: usize) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(length + length / 16);
    encode_registry(&mut text, &context.metrics.registry())?;
    let mut state = Registry::with_prefix(PREFIX);
    state.register_collector(Box::new(OperatorMetrics(Arc::clone(context))));
    state.register_collector(Box::new(FleetMetrics(Arc::clone(context))));
    if context.metrics.has_objects {
        state.register_collector(Box::new(ObjectMetrics(Arc::clone(context))));
    }
    encode_registry(&mut text, &state)?;
    let mut process = Registry::default();
    process.register_collector(Box::new(ProcessMetrics));
    encode_registry(&mut text, &process)?;
    encode_eof(&mut text)?;
    Ok(text)
}
