//! All integrations and providers together: a number of series that does not grow with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use crate::api::provider::ProviderKind;
use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::api::status::OAuthIntegrationStatus;
use crate::clock::now;
use crate::controller::context::Context;
use crate::controller::metrics::counters::count;
use crate::controller::metrics::reference;
use crate::decision::status;

/// The share of its lifetime that a token has left when a failing renewal becomes urgent.
const LATE: f64 = 0.25;
/// How late a renewal is when it counts as overdue: a queue, a restart or a change of the leader takes less.
const OVERDUE: SignedDuration = SignedDuration::from_mins(1);
/// The reason of an integration or a provider that has not been reconciled yet, or by another release.
const UNKNOWN: &str = "Unknown";

/// The aggregates.
pub(crate) struct FleetMetrics(pub(crate) Arc<Context>);

impl fmt::Debug for FleetMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetMetrics").finish_non_exhaustive()
    }
}

/// The name of a known reason. Others are not used as labels, because users may write a status.
pub(crate) fn label_of(reason: Option<&str>) -> &'static str {
    let known = reason.and_then(Reason::parse);
    known.as_ref().map_or(UNKNOWN, |reason| reason.as_str())
}

/// Whether nothing is expected to happen to an integration.
fn is_at_rest(integration: &OAuthIntegration) -> bool {
    integration.spec.suspend || integration.meta().deletion_timestamp.is_some()
}

/// Why an integration does not renew its token: the reason of the last failure, why requests are held back, or why nothing is
/// sent.
pub(crate) fn failing(integration: &OAuthIntegration) -> Option<&'static str> {
    let found = integration.status.as_ref().filter(|_| !is_at_rest(integration))?;
    if let Some(last) = &found.last_failure {
        return Some(label_of(Some(&last.reason)));
    }
    let held_back = [Reason::CircuitBreakerOpen, Reason::NamespaceThrottled, Reason::RateLimited];
    let prevents = |condition: &&Condition| match condition.type_.as_str() {
        status::STALLED => condition.status == "True",
        status::READY | status::RECONCILING => held_back.iter().any(|reason| reason.as_str() == condition.reason),
        _ => false,
    };
    found.conditions.iter().find(prevents).map(|condition| label_of(Some(&condition.reason)))
}

/// Whether a renewal should have happened by now.
fn is_overdue(found: &OAuthIntegrationStatus, now: Timestamp) -> bool {
    found.renew_at.as_ref().is_some_and(|at| now.duration_since(at.0) > OVERDUE)
}

/// The share of its lifetime that a token has left, negative after its expiry; `None` without a token.
fn share_left(found: &OAuthIntegrationStatus, now: Timestamp) -> Option<f64> {
    let (issued, expires) = (found.issued_at.as_ref()?.0, found.expires_at.as_ref()?.0);
    let lifetime = expires.duration_since(issued).as_secs_f64().max(1.0);
    Some(expires.duration_since(now).as_secs_f64() / lifetime)
}

/// What is counted about the integrations.
#[derive(Debug, Default)]
struct Fleet {
    /// By status and reason of `Ready`.
    by_ready: BTreeMap<(&'static str, &'static str), usize>,
    at_risk: usize,
    /// Of tokens, refresh tokens, and credentials.
    expiries: [Expiries; 3],
}

/// What is counted about something that expires.
#[derive(Clone, Copy, Debug, Default)]
struct Expiries {
    expired: usize,
    /// The earliest expiry of those that have not expired.
    next: Option<Timestamp>,
}

impl Expiries {
    fn count(&mut self, at: Option<Timestamp>, now: Timestamp) {
        match at {
            Some(at) if at <= now => self.expired += 1,
            at => self.next = [self.next, at].into_iter().flatten().min(),
        }
    }
}

impl Fleet {
    fn count(&mut self, integration: &OAuthIntegration, now: Timestamp) {
        if integration.meta().deletion_timestamp.is_some() {
            return;
        }
        let empty = OAuthIntegrationStatus::default();
        let found = integration.status.as_ref().unwrap_or(&empty);
        let ready = match found.ready.as_deref() {
            Some("True") => "True",
            Some("False") => "False",
            _ => UNKNOWN,
        };
        *self.by_ready.entry((ready, label_of(found.reason.as_deref()))).or_default() += 1;
        if is_at_rest(integration) {
            return;
        }
        let is_late = share_left(found, now).is_some_and(|left| left < LATE);
        self.at_risk += usize::from(is_late && (failing(integration).is_some() || is_overdue(found, now)));
        let times = [&found.expires_at, &found.refresh_token_expires_at, &found.credentials_expire_at];
        for (expiries, at) in self.expiries.iter_mut().zip(times) {
            expiries.count(at.as_ref().map(|at| at.0), now);
        }
    }
}

impl Collector for FleetMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(context) = self;
        // Numbers of a part of the integrations would be wrong.
        if !context.cache_sync.missing().is_empty() {
            return Ok(());
        }
        let (mut fleet, now) = (Fleet::default(), now());
        for watched in context.integrations.all() {
            match &watched.0 {
                Ok(integration) => fleet.count(integration, now),
                Err(_) => *fleet.by_ready.entry(("False", Reason::InvalidSpec.as_str())).or_default() += 1,
            }
        }
        let Fleet { by_ready, at_risk, expiries } = fleet;
        let mut family = reference::INTEGRATIONS.encode(&mut encoder)?;
        for ((ready, reason), number) in by_ready {
            ConstGauge::new(count(number)).encode(family.encode_family(&[("ready", ready), ("reason", reason)])?)?;
        }
        reference::TOKENS_AT_RISK.encode_value(&mut encoder, count(at_risk))?;
        for (expiries, metric) in expiries.iter().zip([
            reference::TOKENS_EXPIRED,
            reference::REFRESH_TOKENS_EXPIRED,
            reference::CREDENTIALS_EXPIRED,
        ]) {
            metric.encode_value(&mut encoder, count(expiries.expired))?;
        }
        for (expiries, metric) in expiries.iter().zip([
            reference::NEXT_TOKEN_EXPIRY,
            reference::NEXT_REFRESH_TOKEN_EXPIRY,
            reference::NEXT_CREDENTIALS_EXPIRY,
        ]) {
            if let Some(at) = expiries.next {
                metric.encode_value(&mut encoder, at.as_second())?;
            }
        }
        self.providers(&mut encoder, now)
    }
}

impl FleetMetrics {
    /// Only the leader checks providers.
    fn providers(&self, encoder: &mut DescriptorEncoder, now: Timestamp) -> Result<(), fmt::Error> {
        let Self(context) = self;
        let mut by_reason: BTreeMap<(ProviderKind, &'static str), usize> = BTreeMap::new();
        let mut credentials: BTreeMap<ProviderKind, Expiries> = BTreeMap::new();
        for (key, result) in context.checked_providers() {
            *by_reason.entry((key.kind, result.reason.as_str())).or_default() += 1;
            credentials.entry(key.kind).or_default().count(result.credentials_expire_at, now);
        }
        if by_reason.is_empty() {
            return Ok(());
        }
        let mut family = reference::PROVIDERS.encode(encoder)?;
        for ((kind, reason), number) in by_reason {
            let ready = if reason == Reason::ProviderReady.as_str() { "True" } else { "False" };
            let labels = [("kind", kind.as_str()), ("ready", ready), ("reason", reason)];
            ConstGauge::new(count(number)).encode(family.encode_family(&labels)?)?;
        }
        let mut family = reference::PROVIDER_CREDENTIALS_EXPIRED.encode(encoder)?;
        for (kind, expiries) in &credentials {
            ConstGauge::new(count(expiries.expired)).encode(family.encode_family(&[("kind", kind.as_str())])?)?;
        }
        let mut family = reference::NEXT_PROVIDER_CREDENTIALS_EXPIRY.encode(encoder)?;
        for (kind, expiries) in credentials {
            let Some(at) = expiries.next else { continue };
            ConstGauge::new(at.as_second()).encode(family.encode_family(&[("kind", kind.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn integration(status: &serde_json::Value, suspend: bool) -> OAuthIntegration {
        serde_json::from_value(json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": "it"},
            "spec": {"grantType": "client_credentials", "tokenEndpoint": "https://a.example.com", "suspend": suspend},
            "status": status,
        }))
        .expect("an integration")
    }

    #[test]
    fn a_token_is_at_risk_in_the_last_quarter_of_its_lifetime_however_long_that_is() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().expect("a time");
        let failure = |reason: &str| {
            json!({
                "time": now, "reason": reason, "message": "", "attempts": 1, "retryAt": now, "inputsHash": "",
            })
        };
        let cases = [
            // Lifetime and time since the issue in seconds; whether renewals fail; expired, at risk.
            (300, 200, true, (0, 0)),
            (300, 226, true, (0, 1)),
            (300, 226, false, (0, 0)),
            // The renewal was due at 225 s: it is overdue.
            (300, 286, false, (0, 1)),
            (300, 300, true, (1, 1)),
            (300, 301, false, (1, 1)),
            (7_776_000, 5_000_000, true, (0, 0)),
            (7_776_000, 5_900_000, true, (0, 1)),
        ];
        for (lifetime, since, fails, expected) in cases {
            let issued = now - SignedDuration::from_secs(since);
            let after = |seconds: i64| issued + SignedDuration::from_secs(seconds);
            let mut status =
                json!({"issuedAt": issued, "expiresAt": after(lifetime), "renewAt": after(lifetime / 4 * 3)});
            if fails {
                status["lastFailure"] = failure("RequestRejected");
            }
            let mut fleet = Fleet::default();
            fleet.count(&integration(&status, false), now);
            assert_eq!((fleet.expiries[0].expired, fleet.at_risk), expected, "{lifetime} {since} {fails}");
            let mut fleet = Fleet::default();
            fleet.count(&integration(&status, true), now);
            assert_eq!((fleet.expiries[0].expired, fleet.at_risk), (0, 0), "suspended");
        }
    }

    #[test]
    fn only_known_reasons_become_labels() {
        let status = json!({"ready": "False", "reason": "made-up", "conditions": [{
            "type": "Stalled", "status": "True", "reason": "InvalidSpec", "message": "", "lastTransitionTime": "2026-11-27T12:00:00Z",
        }]});
        assert_eq!(failing(&integration(&status, false)), Some("InvalidSpec"));
        assert_eq!(failing(&integration(&status, true)), None, "suspended");
        let mut fleet = Fleet::default();
        fleet.count(&integration(&status, false), Timestamp::UNIX_EPOCH);
        assert_eq!(fleet.by_ready, BTreeMap::from([(("False", UNKNOWN), 1)]));
    }

    #[test]
    fn an_integration_whose_requests_are_held_back_is_failing_although_it_has_not_failed_itself() {
        let condition = |type_: &str, status: &str, reason: &str| json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-27T12:00:00Z"});
        for (conditions, expected) in [
            (vec![condition("Ready", "True", "CircuitBreakerOpen")], Some("CircuitBreakerOpen")),
            (
                vec![
                    condition("Ready", "False", "TokenExpired"),
                    condition("Reconciling", "True", "NamespaceThrottled"),
                ],
                Some("NamespaceThrottled"),
            ),
            (vec![condition("Ready", "True", "TokenValid")], None),
            (vec![condition("Ready", "True", "Suspended")], None),
        ] {
            assert_eq!(failing(&integration(&json!({"conditions": conditions}), false)), expected, "{conditions:?}");
        }
    }

    #[test]
    fn an_expiry_in_the_past_does_not_hide_later_ones() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().expect("a time");
        let mut fleet = Fleet::default();
        for at in ["1970-01-01T00:00:00Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"] {
            fleet.count(&integration(&json!({"credentialsExpireAt": at}), false), now);
        }
        assert_eq!((fleet.expiries[2].expired, fleet.expiries[2].next), (1, "2026-11-28T00:00:00Z".parse().ok()));
    }
}
