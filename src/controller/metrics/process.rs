//! The state of the operator and of its process, read at each scrape.

use std::fmt;
use std::sync::Arc;

use procfs::process::{LimitValue, Process};
use procfs::{WithCurrentSystemInfo, ticks_per_second};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::now;
use crate::controller::context::Context;
use crate::controller::metrics::counters::count;
use crate::controller::metrics::reference;
use crate::controller::metrics::reference::Metric;
use crate::limiter::types::LimiterStats;

/// The state of the operator.
pub(crate) struct OperatorMetrics(pub(crate) Arc<Context>);

impl fmt::Debug for OperatorMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorMetrics").finish_non_exhaustive()
    }
}

impl Collector for OperatorMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(context) = self;
        let LimiterStats { in_flight, queued, failing_hosts, namespace_circuits } = context.limiter.stats();
        if let Some(slots) = &context.slots {
            reference::RECONCILES_QUEUED.encode_value(&mut encoder, count(slots.waiting()))?;
        }
        for (metric, number) in [
            (reference::TOKEN_REQUESTS_IN_FLIGHT, in_flight),
            (reference::TOKEN_REQUESTS_QUEUED, queued),
            (
                reference::NAMESPACE_CIRCUIT_BREAKERS_OPEN,
                if context.leadership.is_leader() { namespace_circuits } else { 0 },
            ),
        ] {
            metric.encode_value(&mut encoder, count(number))?;
        }
        let mut family = reference::CIRCUIT_BREAKER_OPEN.encode(&mut encoder)?;
        // What a former leader knows is outdated.
        for host in failing_hosts.into_iter().filter(|_| context.leadership.is_leader()) {
            ConstGauge::new(1_i64).encode(family.encode_family(&[("host", host)])?)?;
        }
        self.pending_writes(&mut encoder)?;
        self.leadership(&mut encoder)
    }
}

impl OperatorMetrics {
    fn pending_writes(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(context) = self;
        let (pending, now) = (context.states.all_pending(), now());
        reference::PENDING_WRITES.encode_value(encoder, count(pending.len()))?;
        let oldest = pending.iter().map(|(_, write)| write.received_at).min();
        let age = oldest.map_or(0.0, |received_at| now.duration_since(received_at).as_secs_f64().max(0.0));
        ConstGauge::new(age).encode(reference::OLDEST_PENDING_WRITE_AGE.encode(encoder)?)
    }

    fn leadership(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(context) = self;
        let leadership = &context.leadership;
        reference::LEADER.encode_value(encoder, leadership.is_leader().into())?;
        let mut family = reference::LEADER_ELECTIONS.encode(encoder)?;
        let (acquired, lost) = leadership.transitions();
        for (outcome, number) in [("acquired", acquired), ("lost", lost)] {
            ConstCounter::new(number).encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        let Some(renewed) = leadership.renewed_at() else { return Ok(()) };
        ConstGauge::new(renewed.as_secs_f64()).encode(reference::LEASE_RENEWAL.encode(encoder)?)
    }
}

/// The metrics that all Prometheus clients have for their process. What the kernel does not show is left out.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some((process, stat)) = Process::myself().ok().and_then(|process| {
            let stat = process.stat().ok()?;
            Some((process, stat))
        }) else {
            return Ok(());
        };
        #[expect(clippy::cast_precision_loss, reason = "as in all clients: a gauge is a float")]
        let cpu = (stat.utime + stat.stime) as f64 / ticks_per_second() as f64;
        ConstCounter::new(cpu).encode(reference::PROCESS_CPU.encode(&mut encoder)?)?;
        let mut known = |metric: Metric, value: Option<u64>| match value.and_then(|value| i64::try_from(value).ok()) {
            Some(value) => metric.encode_value(&mut encoder, value),
            None => Ok(()),
        };
        let resident = stat.rss_bytes().get();
        known(reference::PROCESS_RESIDENT_MEMORY, Some(resident))?;
        known(reference::PROCESS_VIRTUAL_MEMORY, Some(stat.vsize))?;
        known(reference::PROCESS_THREADS, u64::try_from(stat.num_threads).ok())?;
        let open = process.fd_count().ok().and_then(|number| u64::try_from(number).ok());
        known(reference::PROCESS_OPEN_FDS, open)?;
        let max = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(value) => Some(value),
            LimitValue::Unlimited => None,
        });
        known(reference::PROCESS_MAX_FDS, max)?;
        let started = procfs::boot_time_secs().ok().map(|boot| boot + stat.starttime / ticks_per_second());
        known(reference::PROCESS_START_TIME, started)
    }
}
