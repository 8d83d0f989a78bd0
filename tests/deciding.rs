//! The promise: `plan` and `settle` decide what the design says, for every sequence of things that can happen.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use oauth_operator::api::{OAuthIntegrationSpec, OAuthIntegrationStatus, Reason};
use oauth_operator::error::Failure;
use oauth_operator::fingerprint;
use oauth_operator::gate::Closed;
use oauth_operator::oauth::life::{self, Spread, Times};
use oauth_operator::oauth::{Credential, Credentials};
use oauth_operator::plan::{CredentialsSeen, Holding, Observed, Plan, TargetSeen, plan};
use oauth_operator::settle::{Outcome, Settled, Written, settle};
use oauth_operator::target::{Facts, Fields, Origin};
use oauth_operator::validated::Validated;
use proptest::prelude::*;
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

fn validated(scope: &str) -> Arc<Validated> {
    Arc::new(Validated::parse("it", &spec(scope)).expect("a valid spec"))
}

fn credentials(refresh_token: &str) -> Arc<Credentials> {
    let values = [
        (Credential::ClientId, "client"),
        (Credential::ClientSecret, "secret"),
        (Credential::RefreshToken, refresh_token),
    ];
    Arc::new(values.into_iter().map(|(credential, value)| (credential, value.into())).collect())
}

/// An integration whose target holds a token that was issued at 0 and ends at 3600.
fn healthy() -> Observed {
    let spec = validated("order");
    let times = life::times(UID, at(0), SignedDuration::from_secs(3600), None, Spread::Usual);
    let known = credentials("first");
    let facts = Facts {
        namespace: "ns".to_owned(),
        name: "it".to_owned(),
        uid: "secret-uid".to_owned(),
        version: 7,
        integration_uid: UID.to_owned(),
        owner: Some(("it".to_owned(), UID.to_owned())),
        retained: false,
        times: Some(times),
        origin: Origin {
            spec_hash: spec.spec_hash.clone(),
            credentials_hash: fingerprint::salted(&known.hashed_parts()),
            credentials_name: "credentials".to_owned(),
            credentials_version: "1".to_owned(),
            refresh_token_hash: Some(fingerprint::salted(&["first"])),
            renew_requested_at: None,
        },
        shape_hash: spec.shape.hash.clone(),
        intact: true,
        created: false,
        fields: Fields::of(&Secret::default()),
        labels: Default::default(),
        annotations: Default::default(),
    };
    Observed {
        now: at(10),
        uid: UID.to_owned(),
        generation: 1,
        deleting: false,
        finalizer: false,
        suspend: false,
        renew_requested_at: None,
        spec: Ok(spec),
        credentials: CredentialsSeen::Unread(Some("1".to_owned())),
        target: TargetSeen::Ours(Arc::new(facts)),
        holding: Holding::default(),
        former_targets: Vec::new(),
        answer_held: false,
        not_before: None,
        leads: true,
        closed: None,
        endpoint_back: false,
        status: OAuthIntegrationStatus::default(),
    }
}

fn with_facts(mut observed: Observed, change: impl FnOnce(&mut Facts)) -> Observed {
    let mut facts = observed.facts().expect("a target").clone();
    change(&mut facts);
    observed.target = TargetSeen::Ours(Arc::new(facts));
    observed
}

/// The status after a failure at 0 with the inputs of `observed`.
fn after_failure(observed: &Observed, failure: &Failure) -> OAuthIntegrationStatus {
    let plan = Plan::Renew { reason: Reason::RenewalDue };
    settle(observed, &plan, &Outcome::Failed(failure.clone()), at(0)).status
}

fn refused() -> Failure {
    Failure::new(Reason::RequestRefused, "no")
}

#[test]
fn what_comes_out_of_turn_is_spread_widely() {
    let renew_at = healthy().facts().and_then(|facts| facts.times).expect("times").renew_at;
    let seconds = SignedDuration::from_secs;
    let cases = [
        ("before its turn", -seconds(1), Spread::Wide),
        ("in its turn", seconds(0), Spread::Usual),
        ("a tenth of the life later", seconds(360), Spread::Usual),
        ("later, as after an outage", seconds(361), Spread::Wide),
    ];
    for (case, late, expected) in cases {
        assert_eq!(Observed { now: renew_at + late, ..healthy() }.spread(), expected, "{case}");
    }
    let first = Observed { target: TargetSeen::Absent, ..healthy() };
    assert_eq!(first.spread(), Spread::Wide, "the first token");
    let unknown = with_facts(healthy(), |facts| facts.times = None);
    assert_eq!(unknown.spread(), Spread::Wide, "its times were lost");
}

type Change = Box<dyn Fn(&mut Observed)>;

fn case(name: &'static str, change: impl Fn(&mut Observed) + 'static, expected: Plan) -> (&'static str, Change, Plan) {
    (name, Box::new(change), expected)
}

fn renew(reason: Reason) -> Plan {
    Plan::Renew { reason }
}

fn write(reason: Reason) -> Plan {
    Plan::Write { reason }
}

fn wait(reason: Reason, until: Option<Timestamp>) -> Plan {
    Plan::Wait { reason, until }
}

fn refuse(reason: Reason, message: &str) -> Plan {
    Plan::Refuse { reason, message: message.to_owned() }
}

fn cases() -> Vec<(&'static str, Change, Plan)> {
    let renew_at = healthy().facts().and_then(|facts| facts.times).expect("times").renew_at;
    vec![
        case("a token that is not due is left alone", |_| {}, wait(Reason::TokenValid, Some(renew_at))),
        case(
            "an integration that is being deleted is left alone",
            |o| {
                o.deleting = true;
                o.target = TargetSeen::Absent;
            },
            wait(Reason::Deleting, None),
        ),
        case(
            "an integration that is being deleted and waits for it has its tokens given back",
            |o| {
                o.deleting = true;
                o.finalizer = true;
            },
            Plan::GiveBack { reason: Reason::Deleting },
        ),
        case(
            "a standby gives nothing back",
            |o| {
                o.deleting = true;
                o.finalizer = true;
                o.leads = false;
            },
            wait(Reason::Deleting, None),
        ),
        case(
            "a missing dependency is refused",
            |o| o.credentials = CredentialsSeen::DependencyMissing("create it".to_owned()),
            refuse(Reason::DependencyMissing, "create it"),
        ),
        case(
            "a Secret that was kept for an integration of this name is taken over",
            |o| *o = with_facts(o.clone(), |facts| facts.integration_uid = "the one before".to_owned()),
            write(Reason::TargetDrifted),
        ),
        case(
            "a suspended integration is left alone although its token has ended",
            |o| {
                o.suspend = true;
                o.now = at(9999);
            },
            wait(Reason::Suspended, None),
        ),
        case(
            "an answer that is held is written although the integration is suspended",
            |o| {
                o.suspend = true;
                o.answer_held = true;
            },
            write(Reason::AnswerHeld),
        ),
        case(
            "an answer that is held is written although the spec is invalid",
            |o| {
                o.spec = Err("bad".to_owned());
                o.answer_held = true;
            },
            write(Reason::AnswerHeld),
        ),
        case(
            "an answer that is held does not go into a Secret of others",
            |o| {
                o.target = TargetSeen::Foreign;
                o.answer_held = true;
            },
            refuse(
                Reason::TargetConflict,
                "Secret it exists and was not made by this integration: delete it, or name another in spec.target.secretName",
            ),
        ),
        case(
            "a spec that cannot work is refused",
            |o| o.spec = Err("bad".to_owned()),
            refuse(Reason::InvalidSpec, "bad"),
        ),
        case(
            "missing credentials are refused although the token is good",
            |o| o.credentials = CredentialsSeen::Missing("create it".to_owned()),
            refuse(Reason::CredentialsMissing, "create it"),
        ),
        case(
            "credentials that may not be read are refused",
            |o| o.credentials = CredentialsSeen::Unreadable("give rights".to_owned()),
            refuse(Reason::CredentialsUnreadable, "give rights"),
        ),
        case(
            "an invalid spec comes before missing credentials",
            |o| {
                o.spec = Err("bad".to_owned());
                o.credentials = CredentialsSeen::Missing(String::new());
            },
            refuse(Reason::InvalidSpec, "bad"),
        ),
        case(
            "a failed attempt is waited for although there is no token",
            |o| {
                o.target = TargetSeen::Absent;
                o.status = after_failure(o, &refused());
            },
            wait(Reason::BackingOff, healthy_retry_at()),
        ),
        case(
            "a failed attempt with another spec is not waited for",
            |o| {
                o.target = TargetSeen::Absent;
                o.status = after_failure(o, &refused());
                o.generation = 2;
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a failed attempt with other credentials is not waited for",
            |o| {
                o.target = TargetSeen::Absent;
                o.status = after_failure(o, &refused());
                o.credentials = CredentialsSeen::Unread(Some("2".to_owned()));
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a failed attempt is not waited for when a renewal is requested",
            |o| {
                o.status = after_failure(o, &refused());
                o.renew_requested_at = Some("now".to_owned());
            },
            renew(Reason::RenewalRequested),
        ),
        case(
            "other credentials a moment after a failure wait for a second",
            |o| {
                o.target = TargetSeen::Absent;
                o.status = after_failure(o, &refused());
                o.generation = 2;
                o.now = at(0);
            },
            wait(Reason::BackingOff, Some(at(1))),
        ),
        case("a missing target is made", |o| o.target = TargetSeen::Absent, renew(Reason::TargetMissing)),
        case("another spec gets another token", |o| o.spec = Ok(validated("customer")), renew(Reason::SpecChanged)),
        case(
            "another version of the credentials is looked into",
            |o| o.credentials = CredentialsSeen::Unread(Some("2".to_owned())),
            renew(Reason::CredentialsChanged),
        ),
        case(
            "credentials of an unknown version are looked into",
            |o| o.credentials = CredentialsSeen::Unread(None),
            renew(Reason::CredentialsChanged),
        ),
        case(
            "the same credentials in another version change nothing",
            |o| o.credentials = CredentialsSeen::Read(credentials("first"), "2".to_owned()),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "another refresh token in the credentials begins anew",
            |o| o.credentials = CredentialsSeen::Read(credentials("second"), "2".to_owned()),
            renew(Reason::CredentialsChanged),
        ),
        case(
            "a request for a renewal is followed",
            |o| o.renew_requested_at = Some("now".to_owned()),
            renew(Reason::RenewalRequested),
        ),
        case(
            "a request that was followed is followed no more",
            |o| {
                o.renew_requested_at = Some("now".to_owned());
                *o = with_facts(o.clone(), |f| f.origin.renew_requested_at = Some("now".to_owned()));
            },
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "changed data are replaced",
            |o| *o = with_facts(o.clone(), |f| f.intact = false),
            renew(Reason::TargetDrifted),
        ),
        case(
            "lost times are replaced",
            |o| *o = with_facts(o.clone(), |f| f.times = None),
            renew(Reason::TargetDrifted),
        ),
        case(
            "another shape is written with the same token",
            |o| *o = with_facts(o.clone(), |f| f.shape_hash = "other".to_owned()),
            write(Reason::SpecChanged),
        ),
        case("a token is renewed at its time", move |o| o.now = renew_at, renew(Reason::RenewalDue)),
        case(
            "a token is not renewed a moment before its time",
            move |o| o.now = renew_at - SignedDuration::from_nanos(1),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "requests that undo each other keep a distance",
            |o| {
                o.target = TargetSeen::Absent;
                o.not_before = Some(at(20));
            },
            wait(Reason::TooSoon, Some(at(20))),
        ),
        case(
            "a distance that the clock was set back over is not kept",
            |o| {
                o.target = TargetSeen::Absent;
                o.not_before = Some(at(3600));
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a standby does nothing although the token is due",
            |o| {
                o.leads = false;
                o.now = at(9999);
            },
            wait(Reason::StandingBy, None),
        ),
        case(
            "a standby writes what it holds",
            |o| {
                o.leads = false;
                o.answer_held = true;
            },
            write(Reason::AnswerHeld),
        ),
        case(
            "who would ask waits for a place at the endpoint",
            |o| {
                o.now = at(9999);
                o.closed = Some(Closed::Busy);
            },
            wait(Reason::Queued, None),
        ),
        case(
            "who would ask waits for an endpoint that fails for everyone",
            |o| {
                o.now = at(9999);
                o.closed = Some(Closed::Failing(at(9000)));
            },
            wait(Reason::EndpointFailing, None),
        ),
        case(
            "who would not ask waits for no place",
            |o| o.closed = Some(Closed::Busy),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "a failure of the endpoint for everyone is not waited for once it is back",
            |o| {
                o.target = TargetSeen::Absent;
                o.status = after_failure(o, &Failure::new(Reason::EndpointUnreachable, "gone"));
                o.now = at(0);
                o.endpoint_back = true;
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a pause that the endpoint asked for is kept although it is back",
            |o| {
                o.target = TargetSeen::Absent;
                let asked = Some(Duration::from_secs(60));
                let failure = Failure { retry_after: asked, ..Failure::new(Reason::EndpointUnavailable, "503") };
                o.status = after_failure(o, &failure);
                o.endpoint_back = true;
            },
            wait(Reason::BackingOff, Some(at(60))),
        ),
        case(
            "a token of a time to come says that the clock was set back: its age is unknown",
            |o| o.now = at(-60),
            renew(Reason::RenewalDue),
        ),
        case(
            "a token of another node whose clock is a little ahead is as good as any",
            move |o| o.now = at(-4),
            wait(Reason::TokenValid, Some(renew_at)),
        ),
        case(
            "a failure of a time to come is not waited for",
            |o| {
                o.target = TargetSeen::Absent;
                o.status = after_failure(o, &refused());
                o.now = at(-60);
            },
            renew(Reason::TargetMissing),
        ),
        case(
            "a suspended integration with a failure stays suspended",
            |o| {
                o.status = after_failure(o, &refused());
                o.suspend = true;
            },
            wait(Reason::Suspended, None),
        ),
    ]
}

fn healthy_retry_at() -> Option<Timestamp> {
    let observed = Observed { target: TargetSeen::Absent, ..healthy() };
    after_failure(&observed, &refused()).last_failure.map(|last| last.retry_at.0)
}

#[test]
fn each_reason_has_its_place() {
    for (name, change, expected) in cases() {
        let mut observed = healthy();
        change(&mut observed);
        assert_eq!(plan(&observed), expected, "{name}");
    }
}

#[test]
fn every_reason_that_plan_knows_is_in_the_table() {
    let decided: Vec<Reason> = cases()
        .iter()
        .map(|(_, _, plan)| match plan {
            Plan::Wait { reason, .. }
            | Plan::Renew { reason }
            | Plan::Write { reason }
            | Plan::GiveBack { reason }
            | Plan::Refuse { reason, .. } => *reason,
        })
        .collect();
    let all = Reason::ALL.iter().take_while(|reason| **reason != Reason::Issued);
    let missing: Vec<_> = all.filter(|reason| !decided.contains(reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_reason_is_in_the_reference() {
    let reference = include_str!("../docs/reference.md");
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !reference.contains(&format!("| `{reason}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn pauses_double_to_their_bounds_and_obey_the_endpoint() {
    for (failure, first, longest) in [(refused(), 60, 3600), (Failure::new(Reason::EndpointUnavailable, "503"), 1, 300)]
    {
        let mut observed = Observed { target: TargetSeen::Absent, ..healthy() };
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
    let asked =
        Failure { retry_after: Some(Duration::from_secs(77)), ..Failure::new(Reason::EndpointUnavailable, "429") };
    let status = after_failure(&healthy(), &asked);
    assert_eq!(status.last_failure.expect("a failure").retry_at.0, at(77));
}

#[test]
fn one_event_for_a_failure_and_none_for_its_retries() {
    let mut observed = healthy();
    let plan = renew(Reason::RenewalDue);
    let events: Vec<bool> = (0..4)
        .map(|_| {
            let Settled { status, event, .. } = settle(&observed, &plan, &Outcome::Failed(refused()), at(0));
            observed.status = status;
            event.is_some()
        })
        .collect();
    assert_eq!(events, [true, false, false, false]);
    let other = Outcome::Failed(Failure::new(Reason::EndpointUnreachable, "gone"));
    assert!(settle(&observed, &plan, &other, at(0)).event.is_some(), "another failure is news");
}

#[test]
fn ready_turns_at_the_end_of_the_token_and_says_why() {
    let mut observed = healthy();
    observed.status = after_failure(&observed, &refused());
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

/// A world in small: a clock, an endpoint that rotates refresh tokens, and a Secret.
#[derive(Debug)]
struct Model {
    observed: Observed,
    first: String,
    /// The refresh token that the endpoint would take.
    current: String,
    used: Vec<String>,
    issued: u32,
    version: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Clock(i64),
    Spec(bool),
    Credentials,
    NewFirstToken,
    Request,
    Suspend(bool),
    Look(Answer),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Tokens,
    Refused,
    Unavailable(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop_oneof![
        4 => Just(Answer::Tokens),
        1 => Just(Answer::Refused),
        2 => (0u16..400).prop_map(Answer::Unavailable),
    ];
    let step = prop_oneof![
        4 => (-120i64..1500).prop_map(Step::Clock),
        1 => any::<bool>().prop_map(Step::Spec),
        1 => Just(Step::Credentials),
        1 => Just(Step::NewFirstToken),
        1 => Just(Step::Request),
        1 => any::<bool>().prop_map(Step::Suspend),
        10 => answer.prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 1..80)
}

impl Model {
    fn new() -> Self {
        let mut observed = healthy();
        observed.target = TargetSeen::Absent;
        observed.credentials = CredentialsSeen::Read(credentials("first-0"), "1".to_owned());
        Self {
            observed,
            first: "first-0".to_owned(),
            current: "first-0".to_owned(),
            used: Vec::new(),
            issued: 0,
            version: 1,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Clock(seconds) => self.observed.now += SignedDuration::from_secs(seconds),
            Step::Spec(order) => {
                self.observed.generation += 1;
                self.observed.spec = Ok(validated(if order { "order" } else { "customer" }));
            }
            Step::Credentials => self.credentials_written(),
            Step::NewFirstToken => {
                self.issued += 1;
                self.first = format!("first-{}", self.issued);
                self.current.clone_from(&self.first);
                self.credentials_written();
            }
            Step::Request => self.observed.renew_requested_at = Some(self.observed.now.to_string()),
            Step::Suspend(suspend) => {
                self.observed.generation += 1;
                self.observed.suspend = suspend;
            }
            Step::Look(answer) => self.look(answer),
        }
    }

    fn credentials_written(&mut self) {
        self.version += 1;
        self.observed.credentials = CredentialsSeen::Read(credentials(&self.first), self.version.to_string());
    }

    fn look(&mut self, answer: Answer) {
        let decided = plan(&self.observed);
        let renew_at = self.observed.facts().and_then(|facts| facts.times).map(|times| times.renew_at);
        if let (Plan::Wait { reason: Reason::TokenValid, until }, Some(renew_at)) = (&decided, renew_at) {
            assert!(until.is_some_and(|until| until <= renew_at), "never a wait past renewAt: {until:?}");
            assert!(self.observed.now < renew_at, "a token that is due is not waited for");
        }
        let outcome = match decided {
            Plan::Renew { .. } => self.request(answer),
            _ => Outcome::Nothing,
        };
        let Settled { status, next, .. } = settle(&self.observed, &decided, &outcome, self.observed.now);
        if let (Plan::Wait { until: Some(until), .. }, Outcome::Nothing) = (&decided, &outcome) {
            assert!(next.is_some_and(|next| next <= *until), "never back later than the plan says");
        }
        self.observed.status = status;
        self.no_request_while_it_must_wait(&outcome);
    }

    fn request(&mut self, answer: Answer) -> Outcome {
        let sent = self.observed.refresh_token().expect("a refresh token").expose_secret().to_owned();
        assert!(!self.used.contains(&sent), "{sent} was used before");
        match answer {
            Answer::Refused => Outcome::Failed(refused()),
            Answer::Unavailable(wait) => Outcome::Failed(Failure {
                retry_after: Some(Duration::from_secs(wait.into())),
                ..Failure::new(Reason::EndpointUnavailable, "503")
            }),
            Answer::Tokens => {
                assert_eq!(sent, self.current, "the one that the endpoint would take");
                self.used.push(sent);
                self.issued += 1;
                self.current = format!("rotated-{}", self.issued);
                Outcome::Written(Written { times: self.write(), fresh: true, warning: None })
            }
        }
    }

    fn write(&mut self) -> Times {
        let times = life::times(UID, self.observed.now, SignedDuration::from_secs(600), None, Spread::Usual);
        let spec = self.observed.spec.clone().expect("a spec");
        let mut observed = with_facts(healthy(), |facts| {
            facts.times = Some(times);
            facts.origin = Origin {
                spec_hash: spec.spec_hash.clone(),
                credentials_hash: fingerprint::salted(&credentials("any").hashed_parts()),
                credentials_name: "credentials".to_owned(),
                credentials_version: self.version.to_string(),
                refresh_token_hash: Some(fingerprint::salted(&[&self.first])),
                renew_requested_at: self.observed.renew_requested_at.clone(),
            };
        });
        std::mem::swap(&mut observed.target, &mut self.observed.target);
        self.observed.holding = Holding {
            content: None,
            refresh_token: Some(self.current.clone().into()),
            dpop_key: None,
            credentials_name: "credentials".to_owned(),
            first_hash: self.observed.facts().and_then(|facts| facts.origin.refresh_token_hash.clone()),
        };
        times
    }

    /// Right after a look nothing new is asked for: after a success there is a token, after a failure a pause.
    fn no_request_while_it_must_wait(&self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Written(_) | Outcome::Failed(_)) {
            let again = plan(&self.observed);
            assert!(!matches!(again, Plan::Renew { .. }), "{again:?} right after {outcome:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_asks_too_early_waits_too_long_or_uses_a_refresh_token_twice(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
    }
}
