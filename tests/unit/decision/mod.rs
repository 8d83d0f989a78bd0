//! Guarantee: `plan` and `settle` decide as designed for every sequence of events.

mod apart;
mod expiry;
mod model;
mod provider_model;
mod restarts;
mod statuses;
mod table;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use oauth_operator::api::reason::Reason;
use oauth_operator::api::spec::{OAuthIntegration, OAuthIntegrationSpec};
use oauth_operator::api::status::OAuthIntegrationStatus;
use oauth_operator::decision::observed::{
    Conflict, CredentialsState, InitialRefreshToken, Observed, Sibling, StoredTokens, TargetState,
};
use oauth_operator::decision::outcome::{Outcome, Plan, Settled, Written};
use oauth_operator::decision::plan::plan;
use oauth_operator::decision::reads::{Reads, missing_reads};
use oauth_operator::decision::settle::settle;
use oauth_operator::fingerprint;
use oauth_operator::limiter::types::{CircuitScope, Delay};
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::custom_body::Placeholders;
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::expression::error::ExpressionError;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::{Jitter, TokenTimes};
use oauth_operator::spec::validated::ValidatedSpec;
use oauth_operator::spec::{advice, chain};
use oauth_operator::target::adoption::Adoptable;
use oauth_operator::target::content::Provenance;
use oauth_operator::target::integrity::Integrity;
use oauth_operator::target::looks::Looks;
use oauth_operator::target::snapshot::TargetSnapshot;
use secrecy::ExposeSecret;
use serde_json::json;
use test_support::messages::without_page;

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
    let times = lifetime::schedule(UID, at(0), SignedDuration::from_secs(3600), None.into(), Jitter::Narrow);
    let known = credentials("first");
    let snapshot = TargetSnapshot {
        content: None,
        namespace: "ns".to_owned(),
        name: "it".to_owned(),
        uid: "secret-uid".to_owned(),
        version: 7,
        managed: true,
        integration_uid: UID.to_owned(),
        owner: Some(("it".to_owned(), UID.to_owned())),
        retained: false,
        retained_by: UID.to_owned(),
        adopt_by: None,
        times: Some(times),
        provenance: Provenance {
            access_token_hash: None,
            spec_hash: spec.spec_hash.clone(),
            credentials_hash: fingerprint::salted(&known.hashed_parts()),
            credentials_name: "credentials".to_owned(),
            credentials_version: "1".to_owned(),
            binding: spec.binding.clone(),
            refresh_token_hash: Some(fingerprint::salted(&["first"])),
            uses_next_secret: false,
            renew_requested_at: None,
        },
        template_hash: spec.template.hash.clone(),
        has_rotated: false,
        refresh_token_secret: None,
        integrity: Integrity::Intact,
        has_update_managed_fields: false,
        looks: Looks::default(),
        data: Looks::default(),
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

/// What becomes of a Secret that is handed over to the healthy integration.
fn handed_over(secret: &serde_json::Value) -> Result<Adoptable, String> {
    let secret = serde_json::from_value(secret.clone()).expect("a Secret");
    Adoptable::of(&secret, UID, &validated("order").template)
}

pub fn adoptable() -> TargetState {
    TargetState::Adoptable(Arc::new(handed_over(&json!({})).expect("nothing prevents it")))
}

fn not_adoptable(secret: &serde_json::Value) -> Observed {
    let message = handed_over(secret).expect_err("something prevents it");
    Observed { target: TargetState::NotOwned(Conflict::NotAdoptable(message)), ..healthy() }
}

fn owned_by_eso() -> serde_json::Value {
    json!({"metadata": {"ownerReferences": [{
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "erp", "uid": "u", "controller": true,
    }]}})
}

/// What is wrong, and the reason and message in the condition `Ready`, for states that exist only in a cluster.
pub fn cluster_messages() -> Vec<(&'static str, Reason, String)> {
    let bare = || Observed { target: TargetState::Absent, ..healthy() };
    let cases: Vec<(&'static str, Observed)> = vec![
        (
            "the target Secret belongs to something else",
            Observed { target: TargetState::NotOwned(Conflict::Foreign), ..healthy() },
        ),
        (
            "the annotation adopt-by with another name",
            Observed { target: TargetState::NotOwned(Conflict::HandedToAnother), ..healthy() },
        ),
        ("the annotation adopt-by on an immutable Secret", not_adoptable(&json!({"immutable": true}))),
        ("the annotation adopt-by on a Secret of another type", not_adoptable(&json!({"type": "kubernetes.io/tls"}))),
        ("the annotation adopt-by on a Secret of another controller", not_adoptable(&owned_by_eso())),
        (
            "the annotation adopt-by on a Secret with the label of the operator",
            not_adoptable(&json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "oauth-operator"}}})),
        ),
        (
            "two integrations with the same refresh token",
            Observed {
                initial_refresh_token: InitialRefreshToken::Spent(Sibling {
                    name: "erp".to_owned(),
                    uid: String::new(),
                }),
                ..bare()
            },
        ),
        ("a suspended integration", Observed { suspend: true, ..healthy() }),
        (
            "two integrations that need each other's token",
            Observed { dependency_cycle: chain::cycle("orders", Some("erp"), |_| Some("orders".to_owned())), ..bare() },
        ),
        (
            "an outage of the token endpoint for all integrations",
            Observed { delayed: Some(Delay::CircuitOpen { since: at(0), scope: CircuitScope::Host }), ..bare() },
        ),
    ];
    let status_of = |observed: &Observed, plan: &Plan, outcome: &Outcome| {
        let ready = settle(observed, plan, outcome, at(10)).status.conditions.swap_remove(0);
        (Reason::parse(&ready.reason).expect("a reason"), without_page(&ready.message).to_owned())
    };
    let mut messages: Vec<_> = cases
        .into_iter()
        .map(|(mistake, observed)| {
            let (reason, message) = status_of(&observed, &plan(&observed), &Outcome::Nothing);
            (mistake, reason, message)
        })
        .collect();
    for (mistake, warning) in [
        ("a lifetime that is not a number", Reason::TokenLifetimeInvalid),
        ("no lifetime in the response", Reason::TokenLifetimeUnknown),
        ("spec.renewBefore is longer than the lifetime", Reason::RenewBeforeTooLong),
        ("spec.tokenLife is longer than the lifetime", Reason::TokenLifetimeTooLong),
        ("milliseconds instead of seconds", Reason::TokenLifetimeImplausible),
    ] {
        let observed = with_facts(healthy(), |snapshot| {
            snapshot.times = snapshot.times.map(|times| TokenTimes { warning: Some(warning), ..times });
        });
        let (_, message) = status_of(&observed, &plan(&observed), &Outcome::Nothing);
        messages.push((mistake, warning, message));
    }
    messages.extend(event_messages());
    let queued = Placeholders::new("0".repeat(32)).body(Err(ExpressionError::QueueTimedOut)).expect_err("an error");
    messages.push((
        "other expressions of the namespace use all of its time, so that spec.request.body is not evaluated",
        queued.reason,
        advice::explain(queued).message,
    ));
    messages.extend(expiry::messages());
    let reverted = Observed { not_before: Some(at(20)), ..bare() };
    let (reason, message) = status_of(&reverted, &plan(&reverted), &Outcome::Nothing);
    messages.push(("writes of the target that something reverts", reason, message));
    let short = Observed { min_renewal_interval: SignedDuration::from_hours(2), ..healthy() };
    let (reason, message) = status_of(&short, &plan(&short), &Outcome::Nothing);
    messages.push(("tokens that live shorter than --min-renewal-interval", reason, message));
    messages
}

/// The notes of events that are not also conditions.
fn event_messages() -> Vec<(&'static str, Reason, String)> {
    let note = |observed: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp| {
        let event = settle(observed, plan, outcome, now).event.expect("an event");
        (event.reason, event.note)
    };
    let renewal = Plan::Renew { reason: Reason::SpecChanged };
    let times = healthy().snapshot().and_then(|snapshot| snapshot.times).expect("times");
    let written = |warning, times| Outcome::Written(Written { times, newly_issued: true, warning });
    let mut messages = Vec::new();
    for (mistake, warning) in [
        ("a refresh token in the response that is not a text", Reason::RefreshTokenIgnored),
        ("a refresh token that was rejected, and a fallback", Reason::FallbackUsed),
        ("a client secret that was rejected, and the next one", Reason::NextClientSecretUsed),
    ] {
        let (reason, note) = note(&healthy(), &renewal, &written(Some(warning), times), at(10));
        assert_eq!(reason, warning);
        messages.push((mistake, reason, note));
    }
    let expiring = TokenTimes { refresh_token_expires_at: Some(at(86_400)), session_ends: true, ..times };
    let (reason, text) = note(&healthy(), &renewal, &written(None, expiring), at(10));
    messages.push(("a refresh token that expires with its session", reason, text));
    let valid = settle(&healthy(), &plan(&healthy()), &Outcome::Nothing, at(10)).status;
    let expired = Observed { now: at(4_000), status: valid, delayed: Some(Delay::LimitReached), ..healthy() };
    let (reason, text) = note(&expired, &plan(&expired), &Outcome::Nothing, at(4_000));
    messages.push(("a token that could not be renewed in time", reason, text));
    let deleted = Observed { deleting: true, finalizer: true, ..healthy() };
    let failure = Some(RequestError::new(Reason::EndpointUnavailable, "the endpoint responded with 503"));
    let (reason, text) = note(&deleted, &plan(&deleted), &Outcome::Revoked(failure), at(10));
    messages.push(("a revocation endpoint that does not work", reason, text));
    messages
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
    let (both, none) = (Reads { credentials: true, target: true, ..Reads::default() }, None);
    let credentials_only = Reads { target: false, ..both };
    let target_only = Reads { credentials: false, ..both };
    let previous_only = Reads { previous_target: true, ..Reads::default() };
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
        refresh_token: Some("stored".to_owned().into()),
        credentials_name: "credentials".to_owned(),
        binding,
        initial_refresh_token_hash: Some(fingerprint::salted(&["first"])),
        ..StoredTokens::default()
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
fn while_a_token_is_valid_there_are_further_attempts_before_it_expires() {
    // Shape A4: a token of 600 s, which the server renews only in its last 30 s.
    let times = TokenTimes::new(at(-400), at(200), at(0));
    let mut observed = healthy();
    let snapshot = TargetSnapshot { times: Some(times), ..observed.snapshot().expect("a snapshot").clone() };
    observed.target = TargetState::Owned(Arc::new(snapshot));
    let (mut now, mut attempts) = (at(0), 0);
    while now < at(170) {
        observed.now = now;
        let settled = settle(&observed, &renew(Reason::RenewalDue), &Outcome::Failed(rejected()), now);
        observed.status = settled.status;
        now = observed.status.last_failure.as_ref().expect("a failure").retry_at.0;
        attempts += 1;
    }
    assert!(now < at(200), "the next attempt, at {now}, succeeds before the token expires");
    assert!(attempts <= 5, "{attempts} attempts that are rejected");
    // What the endpoint requests comes first.
    let delayed = RequestError { retry_after: Some(Duration::from_mins(10)), ..rejected() };
    let failed = after_failure(&Observed { now: at(0), ..observed }, &delayed).last_failure.expect("a failure");
    assert_eq!(failed.retry_at.0, at(600));
}

#[test]
fn too_many_requests_without_a_delay_pauses_for_a_minute() {
    let error = RequestError { status: Some(429), ..RequestError::new(Reason::EndpointUnavailable, "429") };
    let failed = after_failure(&healthy(), &error).last_failure.expect("a failure");
    assert!(failed.retry_at.0 >= at(60), "{}", failed.retry_at.0);
}

#[test]
fn a_warning_about_the_lifetime_stays_in_the_status() {
    for (warning, says) in [
        (Reason::TokenLifetimeInvalid, "is not a number of seconds"),
        (Reason::RenewBeforeTooLong, "spec.renewBefore is not shorter"),
        (Reason::TokenLifetimeUnknown, "assumed to be 5m"),
    ] {
        let mut observed = healthy();
        let mut snapshot = observed.snapshot().expect("a snapshot").clone();
        snapshot.times = snapshot.times.map(|times| TokenTimes { warning: Some(warning), ..times });
        let times = snapshot.times.expect("times");
        observed.target = TargetState::Owned(Arc::new(snapshot));
        let waiting = Plan::Wait { reason: Reason::TokenValid, until: None };
        let status = settle(&observed, &waiting, &Outcome::Nothing, at(0)).status;
        assert!(status.conditions[0].message.contains(says), "{}", status.conditions[0].message);
        let written = Outcome::Written(Written { times, newly_issued: true, warning: Some(warning) });
        let event = settle(&observed, &renew(Reason::SpecChanged), &written, at(0)).event.expect("an event");
        assert_eq!((event.warning, event.reason), (true, warning));
    }
}

#[test]
fn a_refresh_token_that_expires_soon_and_is_not_extended_is_reported() {
    let mut observed = healthy();
    let mut snapshot = observed.snapshot().expect("a snapshot").clone();
    let plain = snapshot.times.expect("times");
    let soon = Some(at(6 * 86_400));
    for (times, reported) in [
        (TokenTimes { refresh_token_expires_at: soon, session_ends: true, ..plain }, true),
        (TokenTimes { refresh_token_expires_at: soon, ..plain }, false),
        (TokenTimes { refresh_token_expires_at: Some(at(9 * 86_400)), session_ends: true, ..plain }, false),
    ] {
        snapshot.times = Some(times);
        observed.target = TargetState::Owned(Arc::new(snapshot.clone()));
        let written = Outcome::Written(Written { times, newly_issued: true, warning: None });
        let settled = settle(&observed, &renew(Reason::RenewalDue), &written, at(0));
        let event = settled.event.expect("an event");
        assert_eq!((event.reason == Reason::RefreshTokenExpiring, event.warning), (reported, reported));
        assert_eq!(settled.status.conditions[0].message.contains("the refresh token expires at"), reported);
        assert_eq!(settled.status.refresh_token_expires_at.map(|at| at.0), times.refresh_token_expires_at);
    }
}

#[test]
fn a_forced_renewal_can_be_verified_in_the_status() {
    let mut observed = healthy();
    observed.renew_requested_at = Some("now".to_owned());
    let times = observed.snapshot().and_then(|snapshot| snapshot.times).expect("times");
    let failed = settle(&observed, &renew(Reason::RenewalRequested), &Outcome::Failed(rejected()), at(5)).status;
    assert_eq!((failed.last_handled_renew_request, failed.renewals), (None, None), "not yet");
    let written = Outcome::Written(Written { times, newly_issued: true, warning: None });
    let status = settle(&observed, &renew(Reason::RenewalRequested), &written, at(5)).status;
    assert_eq!(status.last_handled_renew_request.as_deref(), Some("now"));
    assert_eq!((status.last_renewal_time.map(|time| time.0), status.renewals), (Some(at(5)), Some(1)));
}

#[test]
fn a_configuration_error_is_reported_without_attempts() {
    let error = RequestError::new(Reason::EndpointNotAllowed, "the endpoint is not allowed");
    let observed = Observed { target: TargetState::Absent, ..healthy() };
    let status = settle(&observed, &renew(Reason::TargetMissing), &Outcome::Failed(error), at(0)).status;
    let page = Reason::EndpointNotAllowed.page();
    assert!(page.starts_with("https://") && page.ends_with("/reasons/EndpointNotAllowed"), "{page}");
    for condition in &status.conditions {
        assert_eq!(condition.message, format!("the endpoint is not allowed; see {page}"));
    }
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
