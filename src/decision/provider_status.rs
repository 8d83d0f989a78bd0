//! The status of a provider as data, by the rules of kstatus, like that of an integration. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::provider::ProviderStatus;
use crate::api::reason::{FailureClass, Reason};
use crate::decision::status::{READY, RECONCILING, STALLED, time};

/// Builds the status after a check that found this reason.
#[must_use]
pub fn build(
    before: &ProviderStatus,
    generation: i64,
    integrations: Option<i64>,
    (reason, message): (Reason, &str),
    now: Timestamp,
) -> ProviderStatus {
    let ready = if reason == Reason::ProviderReady { "True" } else { "False" };
    let page = if reason == Reason::ProviderReady { String::new() } else { format!("; see {}", reason.page()) };
    let types = [Some((READY, ready)), progress_type(reason).map(|type_| (type_, "True"))];
    let conditions = types.into_iter().flatten().map(|(type_, status)| {
        let known = before.conditions.iter().find(|known| known.type_ == type_ && known.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: format!("{message}{page}"),
            observed_generation: Some(generation),
            last_transition_time: known.map_or_else(|| time(now), |known| known.last_transition_time.clone()),
        }
    });
    ProviderStatus { observed_generation: Some(generation), conditions: conditions.collect(), integrations }
}

/// `Stalled` if someone must change something, `Reconciling` if the next check may find that it can be used.
fn progress_type(reason: Reason) -> Option<&'static str> {
    match (reason, reason.class()) {
        (Reason::ProviderReady, _) => None,
        (_, FailureClass::Rejected | FailureClass::Transient) => Some(RECONCILING),
        // Also credentials that are about to expire.
        (_, FailureClass::Configuration | FailureClass::NotAFailure) => Some(STALLED),
    }
}
