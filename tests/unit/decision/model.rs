//! A model of an integration and a server with rotating refresh tokens: `plan` and `settle` keep their guarantees for
//! any sequence of steps.

use std::time::Duration;

use jiff::SignedDuration;
use oauth_operator::api::reason::Reason;
use oauth_operator::decision::observed::{CredentialsState, Observed, StoredTokens, TargetState};
use oauth_operator::decision::outcome::{Outcome, Plan, Settled, Written};
use oauth_operator::decision::plan::plan;
use oauth_operator::decision::settle::settle;
use oauth_operator::fingerprint;
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::{Jitter, TokenTimes};
use oauth_operator::target::content::Provenance;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{UID, credentials, healthy, rejected, validated, with_facts};

/// A simulation: a clock, an endpoint that rotates refresh tokens, and a Secret.
#[derive(Debug)]
struct Model {
    observed: Observed,
    first: String,
    /// The refresh token that the endpoint accepts.
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
    Reconcile(Response),
}

#[derive(Clone, Copy, Debug)]
enum Response {
    Tokens,
    Rejected,
    Unavailable(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let response = prop_oneof![
        4 => Just(Response::Tokens),
        1 => Just(Response::Rejected),
        2 => (0u16..400).prop_map(Response::Unavailable),
    ];
    let step = prop_oneof![
        4 => (-120i64..1500).prop_map(Step::Clock),
        1 => any::<bool>().prop_map(Step::Spec),
        1 => Just(Step::Credentials),
        1 => Just(Step::NewFirstToken),
        1 => Just(Step::Request),
        1 => any::<bool>().prop_map(Step::Suspend),
        10 => response.prop_map(Step::Reconcile),
    ];
    proptest::collection::vec(step, 1..80)
}

impl Model {
    fn new() -> Self {
        let mut observed = healthy();
        observed.target = TargetState::Absent;
        observed.credentials = CredentialsState::Resolved(credentials("first-0"), "1".to_owned());
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
            Step::Reconcile(response) => self.reconcile(response),
        }
    }

    fn credentials_written(&mut self) {
        self.version += 1;
        self.observed.credentials = CredentialsState::Resolved(credentials(&self.first), self.version.to_string());
    }

    fn reconcile(&mut self, response: Response) {
        let decided = plan(&self.observed);
        let renew_at = self.observed.snapshot().and_then(|snapshot| snapshot.times).map(|times| times.renew_at);
        if let (Plan::Wait { reason: Reason::TokenValid, until }, Some(renew_at)) = (&decided, renew_at) {
            assert!(until.is_some_and(|until| until <= renew_at), "it waits longer than until renewAt: {until:?}");
            assert!(self.observed.now < renew_at, "it waits although the token is due");
        }
        let outcome = match decided {
            Plan::Renew { .. } => self.request(response),
            _ => Outcome::Nothing,
        };
        let Settled { status, next, .. } = settle(&self.observed, &decided, &outcome, self.observed.now);
        if let (Plan::Wait { until: Some(until), .. }, Outcome::Nothing) = (&decided, &outcome) {
            assert!(next.is_some_and(|next| next <= *until), "it is requeued later than planned");
        }
        self.observed.status = status;
        self.nothing_is_requested_during_a_delay(&outcome);
    }

    fn request(&mut self, response: Response) -> Outcome {
        let sent = self.observed.refresh_token().expect("a refresh token").expose_secret().to_owned();
        assert!(!self.used.contains(&sent), "{sent} was used before");
        match response {
            Response::Rejected => Outcome::Failed(rejected()),
            Response::Unavailable(wait) => Outcome::Failed(RequestError {
                retry_after: Some(Duration::from_secs(wait.into())),
                ..RequestError::new(Reason::EndpointUnavailable, "503")
            }),
            Response::Tokens => {
                assert_eq!(sent, self.current, "the refresh token that the endpoint accepts");
                self.used.push(sent);
                self.issued += 1;
                self.current = format!("rotated-{}", self.issued);
                Outcome::Written(Written { times: self.write(), newly_issued: true, warning: None })
            }
        }
    }

    fn write(&mut self) -> TokenTimes {
        let times =
            lifetime::schedule(UID, self.observed.now, SignedDuration::from_secs(600), None.into(), Jitter::Narrow);
        let spec = self.observed.spec.clone().expect("a spec");
        let mut observed = with_facts(healthy(), |snapshot| {
            snapshot.times = Some(times);
            snapshot.provenance = Provenance {
                access_token_hash: None,
                spec_hash: spec.spec_hash.clone(),
                credentials_hash: fingerprint::salted(&credentials("any").hashed_parts()),
                credentials_name: "credentials".to_owned(),
                credentials_version: self.version.to_string(),
                binding: spec.binding.clone(),
                refresh_token_hash: Some(fingerprint::salted(&[&self.first])),
                uses_next_secret: false,
                renew_requested_at: self.observed.renew_requested_at.clone(),
            };
        });
        std::mem::swap(&mut observed.target, &mut self.observed.target);
        self.observed.stored = StoredTokens {
            refresh_token: Some(self.current.clone().into()),
            credentials_name: "credentials".to_owned(),
            binding: self.observed.spec.as_ref().map(|spec| spec.binding.clone()).unwrap_or_default(),
            initial_refresh_token_hash: self
                .observed
                .snapshot()
                .and_then(|snapshot| snapshot.provenance.refresh_token_hash.clone()),
            ..StoredTokens::default()
        };
        times
    }

    /// Checks that nothing is requested right after a reconciliation: a success has created a token, a failure a delay.
    fn nothing_is_requested_during_a_delay(&self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Written(_) | Outcome::Failed(_)) {
            let again = plan(&self.observed);
            assert!(!matches!(again, Plan::Renew { .. }), "{again:?} right after {outcome:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_requests_too_early_waits_too_long_or_uses_a_refresh_token_twice(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
    }
}
