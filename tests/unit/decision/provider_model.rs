//! A model of an integration with a provider that changes at any time, between two servers with rotating refresh tokens:
//! nothing is requested that is not allowed, no server gets the refresh token of another one, and none is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use oauth_operator::api::provider::{ProviderKind, ProviderRef};
use oauth_operator::api::reason::Reason;
use oauth_operator::api::shared_spec::SharedSpec;
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::decision::observed::{CredentialsState, Observed, StoredTokens, TargetState};
use oauth_operator::decision::outcome::{Outcome, Plan, Settled, Written};
use oauth_operator::decision::plan::plan;
use oauth_operator::decision::settle::settle;
use oauth_operator::fingerprint;
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::Jitter;
use oauth_operator::spec::allow::Allow;
use oauth_operator::spec::provider::{Origin, Provider};
use oauth_operator::spec::validated::{ProviderUse, ValidatedSpec};
use oauth_operator::target::content::Provenance;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{UID, credentials, healthy, rejected, with_facts};

const SERVERS: [&str; 2] = ["https://a.example.com", "https://b.example.com"];

/// The state of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It describes one of the servers, and may allow the integration.
    Server {
        number: usize,
        allows: bool,
        path: u8,
    },
    Gone,
}

#[derive(Clone, Debug)]
enum Step {
    Clock(i64),
    Provider(State),
    /// The provider's client secret is rotated.
    Secret,
    Request,
    Reconcile {
        succeeds: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = prop_oneof![
        6 => (0..2_usize, prop_oneof![3 => Just(true), 1 => Just(false)], 0..2_u8)
            .prop_map(|(number, allows, path)| State::Server { number, allows, path }),
        1 => Just(State::Gone),
    ];
    let step = prop_oneof![
        3 => (1i64..1500).prop_map(Step::Clock),
        3 => state.prop_map(Step::Provider),
        1 => Just(Step::Secret),
        1 => Just(Step::Request),
        10 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(|succeeds| Step::Reconcile { succeeds }),
    ];
    proptest::collection::vec(step, 1..80)
}

struct Model {
    observed: Observed,
    state: State,
    /// The refresh token that each server accepts; both know the initial one.
    current: BTreeMap<usize, String>,
    used: Vec<(usize, String)>,
    /// The token in the Secret, and the server that issued it.
    stored: Option<(usize, String)>,
    issued: u32,
    generation: i64,
    version: u64,
}

impl Model {
    fn new() -> Self {
        let observed = Observed { target: TargetState::Absent, target_was_read: true, ..healthy() };
        let current = BTreeMap::from([(0, "first".to_owned()), (1, "first".to_owned())]);
        let state = State::Server { number: 0, allows: true, path: 0 };
        let mut model =
            Self { observed, state, current, used: Vec::new(), stored: None, issued: 0, generation: 0, version: 1 };
        model.set_provider(state);
        model.read_credentials();
        model
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Clock(seconds) => self.observed.now += SignedDuration::from_secs(*seconds),
            Step::Provider(state) => self.set_provider(*state),
            Step::Secret => {
                self.version += 1;
                self.read_credentials();
            }
            Step::Request => self.observed.renew_requested_at = Some(self.observed.now.to_string()),
            Step::Reconcile { succeeds } => self.reconcile(*succeeds),
        }
    }

    fn set_provider(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        let (spec, not_found) = match state {
            State::Gone => (Err("gone".to_owned()), Some("gone".to_owned())),
            State::Server { number, allows, path } => (Ok(Arc::new(self.spec(number, allows, path))), None),
        };
        self.observed.spec = spec;
        self.observed.provider_not_found = not_found;
        self.read_credentials();
    }

    fn spec(&self, number: usize, allows: bool, path: u8) -> ValidatedSpec {
        let spec: SharedSpec = serde_json::from_value(json!({
            "tokenEndpoint": format!("{}/token{path}", SERVERS[number]), "credentials": {"secretName": "erp-client"},
        }))
        .expect("a spec");
        let rules = if allows { json!([{"namespaces": {}}]) } else { json!([{"namespaces": {"names": ["other"]}}]) };
        let rules: Vec<_> = serde_json::from_value(rules).expect("rules");
        let provider = Provider {
            origin: Origin {
                reference: ProviderRef { kind: ProviderKind::Cluster, name: "erp".to_owned() },
                uid: "provider".to_owned(),
                generation: self.generation,
                namespace: "oauth-operator".to_owned(),
            },
            spec: Arc::new(spec),
            allow: Allow::new(&rules).expect("valid rules"),
        };
        let own: OAuthIntegrationSpec = serde_json::from_value(json!({
            "providerRef": {"kind": "ClusterOAuthProvider", "name": "erp"}, "grantType": "refresh_token",
            "credentials": {"secretName": "user"},
        }))
        .expect("a spec");
        let with = ProviderUse { provider: &provider, namespace: "ns", labels: None };
        ValidatedSpec::parse_with("it", &own, with).expect("a valid spec")
    }

    /// What the operator reads before each request.
    fn read_credentials(&mut self) {
        self.observed.credentials = CredentialsState::Resolved(credentials("first"), format!("{},1", self.version));
        if let Some(message) = self.observed.missing_refresh_token() {
            self.observed.credentials = CredentialsState::Missing(message);
        }
    }

    fn reconcile(&mut self, succeeds: bool) {
        self.read_credentials();
        let decided = plan(&self.observed);
        let outcome = match (&decided, self.state) {
            (Plan::Renew { .. }, State::Server { number, allows, .. }) => {
                assert!(allows, "requested although it is not allowed");
                self.request(number, succeeds)
            }
            (Plan::Renew { .. }, State::Gone) => panic!("requested without a provider"),
            (Plan::Stall { reason, .. }, State::Gone) => {
                assert_eq!(*reason, Reason::ProviderNotFound);
                Outcome::Nothing
            }
            (Plan::Stall { reason, .. }, State::Server { allows: false, .. }) => {
                assert_eq!(*reason, Reason::NotAllowed);
                Outcome::Nothing
            }
            (other, State::Gone | State::Server { allows: false, .. }) => panic!("{other:?}"),
            _ => Outcome::Nothing,
        };
        let Settled { status, .. } = settle(&self.observed, &decided, &outcome, self.observed.now);
        self.observed.status = status;
    }

    fn request(&mut self, number: usize, succeeds: bool) -> Outcome {
        let sent = self.observed.refresh_token().expect("a refresh token").expose_secret().to_owned();
        if let Some((issuer, token)) = &self.stored
            && *token == sent
        {
            assert_eq!(*issuer, number, "a server gets the refresh token of another one");
        }
        assert!(!self.used.contains(&(number, sent.clone())), "{sent} is used twice");
        if !succeeds {
            return Outcome::Failed(rejected());
        }
        assert_eq!(self.current.get(&number), Some(&sent), "the token that the server accepts");
        self.used.push((number, sent));
        self.issued += 1;
        let next = format!("rotated-{}", self.issued);
        self.current.insert(number, next.clone());
        self.stored = Some((number, next.clone()));
        self.write(&next)
    }

    fn write(&mut self, token: &str) -> Outcome {
        let times =
            lifetime::schedule(UID, self.observed.now, SignedDuration::from_secs(600), None.into(), Jitter::Narrow);
        let spec = self.observed.spec.clone().expect("a spec");
        let requested = self.observed.renew_requested_at.clone();
        let version = self.observed.credentials.version().to_owned();
        let mut observed = with_facts(healthy(), |snapshot| {
            snapshot.times = Some(times);
            snapshot.provenance = Provenance {
                access_token_hash: None,
                spec_hash: spec.spec_hash.clone(),
                credentials_hash: fingerprint::salted(&credentials("any").hashed_parts()),
                credentials_name: spec.credentials_name.clone(),
                credentials_version: version,
                binding: spec.binding.clone(),
                refresh_token_hash: Some(fingerprint::salted(&["first"])),
                uses_next_secret: false,
                renew_requested_at: requested,
            };
        });
        std::mem::swap(&mut observed.target, &mut self.observed.target);
        self.observed.stored = StoredTokens {
            refresh_token: Some(token.to_owned().into()),
            credentials_name: spec.credentials_name.clone(),
            binding: spec.binding.clone(),
            initial_refresh_token_hash: Some(fingerprint::salted(&["first"])),
            ..StoredTokens::default()
        };
        Outcome::Written(Written { times, newly_issued: true, warning: None })
    }

    /// With the provider that the stored token is from, it can be renewed, whatever happened in between.
    fn nothing_is_lost(&mut self) {
        let Some((number, token)) = self.stored.clone() else { return };
        self.set_provider(State::Server { number, allows: true, path: 0 });
        let usable = self.observed.refresh_token().map(|usable| usable.expose_secret().to_owned());
        assert_eq!(usable.as_ref(), Some(&token), "the stored refresh token is lost");
        assert_eq!(self.current.get(&number), Some(&token));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_a_provider_requests_what_is_not_allowed_sends_a_token_elsewhere_or_loses_one(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.nothing_is_lost();
    }
}
