//! The series of each integration and each provider, from their status.

use std::fmt;
use std::sync::Arc;

use kube::{Resource, ResourceExt};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use crate::api::reason::Reason;
use crate::api::status::OAuthIntegrationStatus;
use crate::controller::context::Context;
use crate::controller::metrics::counters::count;
use crate::controller::metrics::fleet::failing;
use crate::controller::metrics::reference;
use crate::controller::metrics::reference::Metric;
use crate::controller::queue::GuardedIntegration;
use crate::decision::status::is_ready;

/// Reads a value from a status.
type Value = fn(&OAuthIntegrationStatus) -> Option<i64>;

/// The gauges of each integration.
const GAUGES: [(Metric, Value); 6] = [
    (reference::INTEGRATION_READY, |status| Some(i64::from(is_ready(status)))),
    (reference::TOKEN_EXPIRY, |status| status.expires_at.as_ref().map(|at| at.0.as_second())),
    (reference::TOKEN_LIFETIME, |status| {
        let (issued, expires) = (status.issued_at.as_ref()?.0, status.expires_at.as_ref()?.0);
        Some(expires.duration_since(issued).as_secs())
    }),
    (reference::TOKEN_RENEWAL, |status| status.renew_at.as_ref().map(|at| at.0.as_second())),
    (reference::REFRESH_TOKEN_EXPIRY, |status| status.refresh_token_expires_at.as_ref().map(|at| at.0.as_second())),
    (reference::CREDENTIALS_EXPIRY, |status| status.credentials_expire_at.as_ref().map(|at| at.0.as_second())),
];

/// The series of each object.
pub(crate) struct ObjectMetrics(pub(crate) Arc<Context>);

impl fmt::Debug for ObjectMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectMetrics").finish_non_exhaustive()
    }
}

/// An integration that has been reconciled and is not being deleted: namespace, name and status.
fn reconciled(watched: &GuardedIntegration) -> Option<(String, String, &OAuthIntegrationStatus)> {
    if watched.meta().deletion_timestamp.is_some() {
        return None;
    }
    let status = watched.0.as_ref().ok()?.status.as_ref()?;
    Some((watched.namespace().unwrap_or_default(), watched.name_any(), status))
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(context) = self;
        let all = context.integrations.all();
        for (metric, value) in GAUGES {
            let mut family = metric.encode(&mut encoder)?;
            for (namespace, name, status) in all.iter().filter_map(|watched| reconciled(watched)) {
                let Some(value) = value(status) else { continue };
                let labels = [("namespace", namespace), ("name", name)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = reference::INTEGRATION_FAILING.encode(&mut encoder)?;
        for integration in all.iter().filter_map(|watched| watched.0.as_ref().ok()) {
            let Some(reason) = failing(integration) else { continue };
            let namespace = integration.namespace().unwrap_or_default();
            let labels = [("namespace", namespace), ("name", integration.name_any()), ("reason", reason.to_owned())];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        let mut family = reference::INTEGRATION_SUSPENDED.encode(&mut encoder)?;
        for watched in all.iter().filter(|watched| watched.0.as_ref().is_ok_and(|found| found.spec.suspend)) {
            let labels = [("namespace", watched.namespace().unwrap_or_default()), ("name", watched.name_any())];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        self.providers(&mut encoder)
    }
}

impl ObjectMetrics {
    fn providers(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(context) = self;
        let checked = context.checked_providers();
        if checked.is_empty() {
            return Ok(());
        }
        let mut family = reference::PROVIDER_READY.encode(encoder)?;
        for (key, result) in &checked {
            let labels = [("kind", key.kind.as_str()), ("namespace", &key.namespace), ("name", &key.name)];
            let is_ready = result.reason == Reason::ProviderReady;
            ConstGauge::new(i64::from(is_ready)).encode(family.encode_family(&labels)?)?;
        }
        let mut family = reference::PROVIDER_INTEGRATIONS.encode(encoder)?;
        for (key, _) in &checked {
            let labels = [("kind", key.kind.as_str()), ("namespace", &key.namespace), ("name", &key.name)];
            ConstGauge::new(count(context.providers.count(key))).encode(family.encode_family(&labels)?)?;
        }
        let mut family = reference::PROVIDER_CREDENTIALS_EXPIRY.encode(encoder)?;
        for (key, result) in &checked {
            let Some(at) = result.credentials_expire_at else { continue };
            let labels = [("kind", key.kind.as_str()), ("namespace", &key.namespace), ("name", &key.name)];
            ConstGauge::new(at.as_second()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
