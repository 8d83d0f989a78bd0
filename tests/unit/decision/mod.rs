//! Guarantee: `plan` and `settle` decide as designed for every sequence of events.

mod model;
mod table;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use oauth_operator::api::reason::Reason;
use oauth_operator::api::spec::{OAuthIntegration, OAuthIntegrationSpec};
use oauth_operator::api::status::OAuthIntegrationStatus;
use oauth_operator::decision::observed::{CredentialsState, Observed, StoredTokens, TargetState};
use oauth_operator::decision::outcome::{Outcome, Plan, Settled};
use oauth_operator::decision::reads::{Reads, missing_reads};
use oauth_operator::decision::settle::settle;
use oauth_operator::fingerprint;
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::Jitter;
use oauth_operator::spec::validated::ValidatedSpec;
use oauth_operator::target::content::Provenance;
use oauth_operator::target::integrity::Integrity;
use oauth_operator::target::looks::Looks;
use oauth_operator::target::snapshot::TargetSnapshot;
use secrecy::ExposeSecret;
use serde_json::json;

const UID: &str = "3e1f5b1e-0000-4000-8000-000000000001";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn spec(scope: &str) -> OAuthIntegrationSpec {
    serde_json::from_value(json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "refresh_token",
        "credentials": {"secretName": "credentials"},
        "scope": scope,
    }))
    .expect("a spec")
}

fn validated(scope: &str) -> Arc<ValidatedSpec> {
    Arc::new(ValidatedSpec::parse("it", &spec(scope)).expect("a valid spec"))
}

fn credentials(refresh_token: &str) -> Arc<Credentials> {
    let values = [
        (Credential::ClientId, "client"),
        (Credential::ClientSecret, "secret"),
        (Credential::RefreshToken, refresh_token),
    ];
    Arc::new(values.into_iter().map(|(credential, value)| (credential, value.into())).collect())
}

/// An integration whose target contains a token that was issued at 0 and expires at 3600.
fn healthy() -> Observed {
    let spec = validated("order");
    let times = lifetime::schedule(UID, at(0), SignedDuration::from_secs(3600), None, Jitter::Narrow);
    let known = credentials("first");
    let snapshot = TargetSnapshot {
        namespace: "ns".to_owned(),
        name: "it".to_owned(),
        uid: "secret-uid".to_owned(),
        version: 7,
        integration_uid: UID.to_owned(),
        owner: Some(("it".to_owned(), UID.to_owned())),
        retained: false,
        retained_by: UID.to_owned(),
        adopt_by: None,
        times: Some(times),
        provenance: Provenance {
            spec_hash: spec.spec_hash.clone(),
            credentials_hash: fingerprint::salted(&known.hashed_parts()),
            credentials_name: "credentials".to_owned(),
            credentials_version: "1".to_owned(),
            binding: spec.binding.clone(),
            refresh_token_hash: Some(fingerprint::salted(&["first"])),
            renew_requested_at: None,
        },
        template_hash: spec.template.hash.clone(),
        integrity: Integrity::Intact,
        has_update_managed_fields: false,
        looks: Looks::default(),
    };
    let integration = OAuthIntegration {
        metadata: ObjectMeta {
            name: Some("it".to_owned()),
            uid: Some(UID.to_owned()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        ..OAuthIntegration::new("it", self::spec("order"))
    };
    Observed {
        credentials: CredentialsState::NotRead(Some("1".to_owned())),
        target: TargetState::Owned(Arc::new(snapshot)),
        ..Observed::new(&integration, Ok(spec), at(10))
    }
}

fn with_facts(mut observed: Observed, change: impl FnOnce(&mut TargetSnapshot)) -> Observed {
    let mut snapshot = observed.snapshot().expect("a target").clone();
    change(&mut snapshot);
    observed.target = TargetState::Owned(Arc::new(snapshot));
    observed
}

/// The status after a failure at 0 with the inputs of `observed`.
fn after_failure(observed: &Observed, failure: &RequestError) -> OAuthIntegrationStatus {
    let plan = Plan::Renew { reason: Reason::RenewalDue };
    settle(observed, &plan, &Outcome::Failed(failure.clone()), at(0)).status
}

fn rejected() -> RequestError {
    RequestError::new(Reason::RequestRejected, "no")
}

/// An integration whose target is not cached and whose Secrets have not been read.
fn unread() -> Observed {
    Observed { target: TargetState::Absent, ..healthy() }
}

#[test]
fn each_secret_that_a_plan_needs_is_read_once() {
    let renew = Plan::Renew { reason: Reason::RenewalDue };
    let rewrite = Plan::Rewrite { reason: Reason::TargetDrifted };
    let revoke = Plan::Revoke { reason: Reason::Deleting };
    let wait = Plan::Wait { reason: Reason::TokenValid, until: None };
    let stall = Plan::Stall { reason: Reason::InvalidSpec, message: String::new() };
    let client_credentials: OAuthIntegrationSpec = serde_json::from_value(json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    }))
    .expect("a spec");
    let stateless = Ok(Arc::new(ValidatedSpec::parse("it", &client_credentials).expect("a valid spec")));
    let resolved = CredentialsState::Resolved(credentials("first"), "1".to_owned());
    let previous = vec![Arc::new(healthy().snapshot().expect("a snapshot").clone())];
    let (both, none) = (Reads { credentials: true, target: true, previous_target: false }, None);
    let credentials_only = Reads { target: false, ..both };
    let target_only = Reads { credentials: false, ..both };
    let previous_only = Reads { credentials: false, target: false, previous_target: true };
    let cases = [
        ("nothing to do", wait, healthy(), none),
        ("nothing can be done", stall, healthy(), none),
        ("the stored refresh token is sent", renew.clone(), healthy(), Some(both)),
        (
            "no stored token is needed",
            renew.clone(),
            Observed { spec: stateless.clone(), ..healthy() },
            Some(credentials_only),
        ),
        ("the cache may be behind", renew.clone(), Observed { spec: stateless.clone(), ..unread() }, Some(both)),
        (
            "the stored token is written again",
            rewrite.clone(),
            Observed { spec: stateless.clone(), ..healthy() },
            Some(both),
        ),
        (
            "the pending token is written",
            rewrite.clone(),
            Observed { spec: stateless.clone(), write_pending: true, ..healthy() },
            Some(credentials_only),
        ),
        ("all tokens are revoked", revoke, Observed { spec: stateless.clone(), ..healthy() }, Some(both)),
        (
            "a different plan needs the stored token",
            rewrite.clone(),
            Observed { spec: stateless, credentials: resolved.clone(), ..healthy() },
            Some(target_only),
        ),
        (
            "a target without usable content is not read again",
            rewrite,
            Observed { credentials: resolved.clone(), target_was_read: true, ..healthy() },
            none,
        ),
        (
            "the token of the previous target is used",
            renew.clone(),
            Observed {
                credentials: resolved.clone(),
                target_was_read: true,
                previous_targets: previous.clone(),
                ..unread()
            },
            Some(previous_only),
        ),
        (
            "everything was read",
            renew.clone(),
            Observed {
                credentials: resolved,
                target_was_read: true,
                previous_targets: previous,
                previous_target_was_read: true,
                ..unread()
            },
            none,
        ),
        ("an invalid spec needs nothing", renew, Observed { spec: Err(String::new()), ..healthy() }, none),
    ];
    for (case, plan, observed, expected) in cases {
        assert_eq!(missing_reads(&observed, &plan), expected, "{case}");
    }
}

#[test]
fn unscheduled_renewals_get_a_wide_jitter() {
    let renew_at = healthy().snapshot().and_then(|snapshot| snapshot.times).expect("times").renew_at;
    let seconds = SignedDuration::from_secs;
    let cases = [
        ("before it is due", -seconds(1), Jitter::Wide),
        ("when it is due", seconds(0), Jitter::Narrow),
        ("a tenth of the lifetime later", seconds(360), Jitter::Narrow),
        ("later, as after an outage", seconds(361), Jitter::Wide),
    ];
    for (case, late, expected) in cases {
        assert_eq!(Observed { now: renew_at + late, ..healthy() }.spread(), expected, "{case}");
    }
    let first = Observed { target: TargetState::Absent, ..healthy() };
    assert_eq!(first.spread(), Jitter::Wide, "the first token");
    let unknown = with_facts(healthy(), |snapshot| snapshot.times = None);
    assert_eq!(unknown.spread(), Jitter::Wide, "unknown times");
}

fn renew(reason: Reason) -> Plan {
    Plan::Renew { reason }
}

fn wait(reason: Reason, until: Option<Timestamp>) -> Plan {
    Plan::Wait { reason, until }
}

/// The healthy integration with changed fields in its spec; `binding_of` returns the binding with which the stored
/// tokens were issued.
fn with_stored_token(changes: &serde_json::Value, binding_of: impl Fn(&ValidatedSpec) -> String) -> Observed {
    let mut changed = serde_json::to_value(spec("order")).expect("a spec");
    for (name, value) in changes.as_object().expect("members") {
        changed[name] = value.clone();
    }
    let spec: OAuthIntegrationSpec = serde_json::from_value(changed).expect("a spec");
    let spec = Arc::new(ValidatedSpec::parse("it", &spec).expect("a valid spec"));
    let binding = binding_of(&spec);
    let mut observed = with_facts(healthy(), |snapshot| {
        snapshot.provenance.spec_hash.clone_from(&spec.spec_hash);
        snapshot.provenance.binding.clone_from(&binding);
    });
    observed.spec = Ok(spec);
    observed.credentials = CredentialsState::Resolved(credentials("first"), "1".to_owned());
    observed.stored = StoredTokens {
        content: None,
        refresh_token: Some("stored".to_owned().into()),
        dpop_key: None,
        credentials_name: "credentials".to_owned(),
        binding,
        initial_refresh_token_hash: Some(fingerprint::salted(&["first"])),
    };
    observed
}

#[test]
fn with_strategy_refresh_token_a_token_of_an_earlier_release_is_used_and_one_of_another_issuer_is_kept() {
    let by_strategy = json!({"grantType": "client_credentials", "renewal": {"strategy": "refresh_token"}});
    let sent = |observed: &Observed| observed.refresh_token().map(|token| token.expose_secret().to_owned());
    let is_revocable =
        |observed: &Observed| observed.matches_provenance(&observed.snapshot().expect("a target").provenance);

    let observed = with_stored_token(&by_strategy, |spec| spec.binding.clone());
    assert_eq!(sent(&observed).as_deref(), Some("stored"));
    assert!(is_revocable(&observed));

    let observed = with_stored_token(&by_strategy, |_| String::new());
    assert_eq!(sent(&observed).as_deref(), Some("stored"), "an upgrade does not break the chain");
    assert!(!is_revocable(&observed), "its issuer is unknown");
    assert!(observed.withheld_by_strategy().is_none());

    let observed = with_stored_token(&by_strategy, |_| "elsewhere".to_owned());
    assert_eq!(sent(&observed), None);
    let (kept, binding) = observed.withheld_by_strategy().expect("it is kept");
    assert_eq!((kept.expose_secret(), binding.as_str()), ("stored", "elsewhere"));
}

#[test]
fn a_fallback_does_not_replace_a_refresh_token_that_is_withheld() {
    let with_fallback = json!({"renewal": {"fallback": {"grantType": "client_credentials"}}});
    let observed = with_stored_token(&with_fallback, |_| "elsewhere".to_owned());
    assert!(observed.refresh_token().is_none(), "neither the stored token, nor the first one, which was already used");
    assert!(observed.fallback_would_replace_refresh_token());
    let observed = with_stored_token(&with_fallback, |spec| spec.binding.clone());
    assert!(!observed.fallback_would_replace_refresh_token());
}

#[test]
fn every_reason_is_in_the_reference() {
    let reference = include_str!("../../../docs/reference.md");
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !reference.contains(&format!("| `{reason}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn delays_double_up_to_their_bounds_and_obey_retry_after() {
    for (failure, first, longest) in
        [(rejected(), 60, 3600), (RequestError::new(Reason::EndpointUnavailable, "503"), 1, 300)]
    {
        let mut observed = Observed { target: TargetState::Absent, ..healthy() };
        let mut pauses = Vec::new();
        for _ in 0..12 {
            observed.status = after_failure(&observed, &failure);
            let last = observed.status.last_failure.as_ref().expect("a failure");
            pauses.push(last.retry_at.0.duration_since(at(0)).as_secs());
        }
        assert!((first..=first * 5 / 4 + 1).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!(*pauses.last().expect("pauses"), longest, "{pauses:?}");
    }
    let delayed = RequestError {
        retry_after: Some(Duration::from_secs(77)),
        ..RequestError::new(Reason::EndpointUnavailable, "429")
    };
    let status = after_failure(&healthy(), &delayed);
    assert_eq!(status.last_failure.expect("a failure").retry_at.0, at(77));
}

#[test]
fn one_event_for_a_failure_and_none_for_its_retries() {
    let mut observed = healthy();
    let plan = renew(Reason::RenewalDue);
    let events: Vec<bool> = (0..4)
        .map(|_| {
            let Settled { status, event, .. } = settle(&observed, &plan, &Outcome::Failed(rejected()), at(0));
            observed.status = status;
            event.is_some()
        })
        .collect();
    assert_eq!(events, [true, false, false, false]);
    let other = Outcome::Failed(RequestError::new(Reason::EndpointUnreachable, "gone"));
    assert!(settle(&observed, &plan, &other, at(0)).event.is_some(), "another failure causes an event");
}

#[test]
fn a_failed_request_is_sent_again_soon_after_the_settings_of_the_operator_change() {
    let mut observed = unread();
    observed.status = after_failure(&observed, &rejected());
    let retry_at = observed.status.last_failure.as_ref().expect("a failure").retry_at.0;
    observed.now = retry_at - SignedDuration::from_secs(1);
    let is_waiting = |observed: &Observed| {
        matches!(oauth_operator::decision::plan::plan(observed), Plan::Wait { reason: Reason::BackingOff, .. })
    };
    assert!(is_waiting(&observed));
    observed.settings_hash = "others".into();
    assert!(!is_waiting(&observed));
}

#[test]
fn ready_becomes_false_when_the_token_expires_with_the_reason() {
    let mut observed = healthy();
    observed.status = after_failure(&observed, &rejected());
    let waiting = wait(Reason::BackingOff, Some(at(4000)));
    let before = settle(&observed, &waiting, &Outcome::Nothing, at(100));
    assert_eq!((before.status.conditions[0].status.as_str(), before.next), ("True", Some(at(3600))));
    assert!(before.status.conditions[0].message.contains("no; attempt 1 failed"), "{:?}", before.status);
    observed.now = at(3600);
    observed.status = before.status;
    let after = settle(&observed, &waiting, &Outcome::Nothing, at(3600));
    assert_eq!(after.status.conditions[0].status, "False");
    assert_eq!(after.event.map(|event| event.reason), Some(Reason::TokenExpired));
    assert_eq!(after.status.conditions[0].last_transition_time.0, at(3600));
}
