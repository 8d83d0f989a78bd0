//! Guarantee: `tests/statuses.json` has every status that the operator writes, by the code that writes it. What Argo CD and
//! kstatus see of them is checked in `tests/it/gitops.rs`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::crd::crds;
use oauth_operator::api::provider::ProviderStatus;
use oauth_operator::api::reason::{FailureClass, Reason};
use oauth_operator::api::status::OAuthIntegrationStatus;
use oauth_operator::decision::observed::{Observed, TargetState};
use oauth_operator::decision::outcome::{Outcome, Plan, Written};
use oauth_operator::decision::plan::plan;
use oauth_operator::decision::settle::settle;
use oauth_operator::decision::{provider_status, status};
use oauth_operator::limiter::types::{CircuitScope, Delay};
use oauth_operator::oauth::error::RequestError;
use serde_json::{Value, json};
use test_support::tools;

use super::{UID, at, healthy, table};

/// Reasons that are in no condition: those of events, and those of decisions after which the status has another reason.
const IN_NO_CONDITION: &[Reason] = &[
    Reason::Deleting,
    Reason::WritePending,
    Reason::NotLeader,
    Reason::BackingOff,
    Reason::Queued,
    Reason::TargetAdopted,
    Reason::SpecChanged,
    Reason::CredentialsChanged,
    Reason::RenewalRequested,
    Reason::TargetDrifted,
    Reason::RenewalDue,
    Reason::Issued,
    Reason::Renewed,
    Reason::TargetUpdated,
    Reason::TokenLifetimeTooLong,
    Reason::TokenLifetimeUnknown,
    Reason::TokenLifetimeInvalid,
    Reason::TokenLifetimeImplausible,
    Reason::RenewBeforeTooLong,
    Reason::RefreshTokenIgnored,
    Reason::RefreshTokenExpiring,
    Reason::CredentialsExpiryInvalid,
    Reason::FallbackUsed,
    Reason::NextClientSecretUsed,
    Reason::Revoked,
    Reason::RevocationFailed,
    Reason::WorkloadRestarted,
    Reason::RestartFailed,
    Reason::RestartAnnotationInvalid,
    Reason::RestartIntervalTooLong,
];

const MESSAGE: &str = "what is wrong: what to change";

/// Objects with their status, and when they are looked at.
#[derive(Default)]
struct Records {
    lines: Vec<String>,
    objects: BTreeSet<String>,
    reasons: BTreeSet<Reason>,
}

impl Records {
    /// Adds an object, unless the same one is there.
    fn add(&mut self, name: &str, now: Timestamp, object: &Value) {
        let conditions = object["status"]["conditions"].as_array();
        let reasons = conditions.into_iter().flatten().filter_map(|condition| condition["reason"].as_str());
        self.reasons.extend(reasons.filter_map(Reason::parse));
        if self.objects.insert(format!("{now} {object}")) {
            self.lines.push(json!({"name": name, "now": now.to_string(), "object": object}).to_string());
        }
    }

    fn integration(&mut self, name: &str, observed: &Observed, status: &OAuthIntegrationStatus) {
        self.add(name, observed.now, &integration(observed, &json!(status)));
    }

    /// The status after the plan has had this outcome, which is then the status before.
    fn settle(&mut self, name: &str, observed: &mut Observed, plan: &Plan, outcome: &Outcome) {
        observed.status = settle(observed, plan, outcome, observed.now).status;
        // A standby, for example, writes nothing: there is still the status of the schema.
        if !observed.status.conditions.is_empty() {
            self.integration(name, observed, &observed.status);
        }
    }

    fn text(&self) -> String {
        let mut text = "[\n".to_owned();
        for (index, line) in self.lines.iter().enumerate() {
            let _ = writeln!(text, "{line}{}", if index + 1 < self.lines.len() { "," } else { "" });
        }
        text + "]\n"
    }
}

fn integration(observed: &Observed, status: &Value) -> Value {
    let mut metadata = json!({"name": "it", "namespace": "ns", "uid": UID, "generation": observed.generation});
    if observed.deleting {
        metadata["deletionTimestamp"] = json!(at(0).to_string());
        metadata["finalizers"] = json!(["oauth.evolutionx.io/revocation"]);
    }
    object("OAuthIntegration", &metadata, &json!({"suspend": observed.suspend}), status)
}

fn provider(kind: &str, generation: i64, status: &Value) -> Value {
    let mut metadata = json!({"name": "erp", "uid": UID, "generation": generation});
    if kind == "OAuthProvider" {
        metadata["namespace"] = json!("ns");
    }
    object(kind, &metadata, &json!({"issuer": "https://login.example.com"}), status)
}

fn object(kind: &str, metadata: &Value, spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, "status": status,
    })
}

/// A valid token, one that has expired, and none.
fn tokens() -> [(&'static str, Observed); 3] {
    let valid = healthy();
    let reported = settle(&valid, &plan(&valid), &Outcome::Nothing, valid.now).status;
    let expired = Observed { now: at(9999), status: reported, ..healthy() };
    [
        ("a valid token", valid),
        ("an expired token", expired),
        ("no token", Observed { target: TargetState::Absent, ..healthy() }),
    ]
}

fn of_reason(records: &mut Records, reason: Reason) {
    let renew = Plan::Renew { reason: Reason::RenewalDue };
    for (token, observed) in tokens() {
        let name = |what: &str| format!("{reason}{what}, {token}");
        match reason.class() {
            FailureClass::Configuration => {
                let stall = Plan::Stall { reason, message: MESSAGE.to_owned() };
                records.settle(&name(""), &mut observed.clone(), &stall, &Outcome::Nothing);
                let failed = Outcome::Failed(RequestError::new(reason, MESSAGE));
                records.settle(&name(" of a request"), &mut observed.clone(), &renew, &failed);
            }
            FailureClass::Rejected | FailureClass::Transient => {
                let failed = Outcome::Failed(RequestError::new(reason, MESSAGE));
                let mut observed = observed.clone();
                for attempt in 1..=3 {
                    records.settle(&name(&format!(" after attempt {attempt}")), &mut observed, &renew, &failed);
                }
            }
            FailureClass::NotAFailure => {
                let until = Some(observed.now + SignedDuration::from_mins(1));
                for (what, plan) in [
                    (" waits", Plan::Wait { reason, until }),
                    (" renews without effect", Plan::Renew { reason }),
                    (" rewrites without effect", Plan::Rewrite { reason }),
                ] {
                    // The only one of the spec.
                    let suspend = matches!(plan, Plan::Wait { reason: Reason::Suspended, .. });
                    records.settle(
                        &name(what),
                        &mut Observed { suspend, ..observed.clone() },
                        &plan,
                        &Outcome::Nothing,
                    );
                }
            }
        }
    }
}

/// States that are more than a reason.
fn of_special_states(records: &mut Records) {
    let renew = Plan::Renew { reason: Reason::RenewalDue };
    for (token, observed) in tokens() {
        for (scope, where_) in [(CircuitScope::Host, "for all"), (CircuitScope::Namespace, "for the namespace")] {
            let mut open = Observed { delayed: Some(Delay::CircuitOpen { since: at(0), scope }), ..observed.clone() };
            let wait = Plan::Wait { reason: Reason::CircuitBreakerOpen, until: None };
            records.settle(&format!("a circuit is open {where_}, {token}"), &mut open, &wait, &Outcome::Nothing);
        }
        let mut short = Observed { min_renewal_interval: SignedDuration::from_hours(2), ..observed.clone() };
        let wait = plan(&short);
        records.settle(&format!("tokens that expire too early, {token}"), &mut short, &wait, &Outcome::Nothing);
    }
    let times = healthy().snapshot().and_then(|snapshot| snapshot.times).expect("times");
    let written = Outcome::Written(Written { times, newly_issued: true, warning: None });
    records.settle("a new token", &mut healthy(), &renew, &written);

    let valid = settle(&healthy(), &plan(&healthy()), &Outcome::Nothing, at(10)).status;
    let stopped = Observed { now: at(9999), ..healthy() };
    records.integration("an operator that has stopped, and the token has expired", &stopped, &valid);
    let unreadable = status::unreadable(1, MESSAGE, at(10));
    records.integration("an integration that cannot be read", &healthy(), &unreadable);
    for (what, status) in [("a valid token", &valid), ("an integration that cannot be read", &unreadable)] {
        records.integration(&format!("another spec after {what}"), &Observed { generation: 2, ..healthy() }, status);
        records.integration(&format!("deletion of {what}"), &Observed { deleting: true, ..healthy() }, status);
    }
}

fn of_providers(records: &mut Records) {
    let can_be_found = |reason: &&Reason| {
        reason.class() != FailureClass::NotAFailure
            || matches!(reason, Reason::ProviderReady | Reason::CredentialsExpiring)
    };
    for kind in ["OAuthProvider", "ClusterOAuthProvider"] {
        for reason in Reason::ALL.iter().filter(can_be_found) {
            let found = (*reason, MESSAGE);
            let status = provider_status::build(&ProviderStatus::default(), 1, Some(3), found, at(10));
            records.add(&format!("{kind}: {reason}"), at(10), &provider(kind, 1, &json!(status)));
            records.add(&format!("{kind}: another spec after {reason}"), at(10), &provider(kind, 2, &json!(status)));
        }
    }
}

/// What the API server sets when an object is created.
fn of_the_schema(records: &mut Records) {
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        let schema = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let properties = schema.and_then(|schema| schema.properties.as_ref()).expect("properties");
        let default = properties["status"].default.as_ref().expect("a default status").0.clone();
        let object =
            if kind == "OAuthIntegration" { integration(&healthy(), &default) } else { provider(kind, 1, &default) };
        records.add(&format!("{kind}: just created"), at(10), &object);
    }
}

#[test]
fn every_status_is_recorded() {
    let mut records = Records::default();
    for (name, mut observed) in table::observations() {
        let plan = plan(&observed);
        records.settle(name, &mut observed, &plan, &Outcome::Nothing);
    }
    Reason::ALL.iter().for_each(|reason| of_reason(&mut records, *reason));
    of_special_states(&mut records);
    of_providers(&mut records);
    of_the_schema(&mut records);

    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !records.reasons.contains(reason)).copied().collect();
    assert_eq!(missing, IN_NO_CONDITION, "a reason is either in a recorded condition or in the list");
    let file = tools::root().join("tests/statuses.json");
    let text = records.text();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &text).expect("tests/statuses.json");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let differs = text.lines().find(|line| !written.contains(*line));
    assert!(written == text, "tests/statuses.json is not up to date: run make crds; first difference: {differs:?}");
}

#[test]
fn a_provider_keeps_the_time_since_when_it_is_stalled() {
    let build =
        |before: &ProviderStatus, reason: Reason, now| provider_status::build(before, 1, None, (reason, MESSAGE), now);
    let types = |status: &ProviderStatus| {
        let of = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            (it.type_.clone(), it.status.clone(), it.last_transition_time.0)
        };
        status.conditions.iter().map(of).collect::<Vec<_>>()
    };
    let condition = |type_: &str, status: &str, since| (type_.to_owned(), status.to_owned(), since);
    let first = build(&ProviderStatus::default(), Reason::CredentialsMissing, at(0));
    let second = build(&first, Reason::CredentialsInvalid, at(5));
    assert_eq!(types(&second), [condition("Ready", "False", at(0)), condition("Stalled", "True", at(0))]);
    let third = build(&second, Reason::EndpointUnreachable, at(6));
    assert_eq!(types(&third), [condition("Ready", "False", at(0)), condition("Reconciling", "True", at(6))]);
    let ready = build(&third, Reason::ProviderReady, at(7));
    assert_eq!(types(&ready), [condition("Ready", "True", at(7))]);
}
