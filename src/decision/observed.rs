//! The input of `plan`: one integration and the Secrets around it, as they were observed.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::SecretString;

use crate::api::names::{FINALIZER, RENEW_REQUESTED_AT};
use crate::api::spec::OAuthIntegration;
use crate::api::status::OAuthIntegrationStatus;
use crate::fingerprint;
use crate::limiter::types::Delay;
use crate::oauth::credentials::Credentials;
use crate::oauth::lifetime::{Jitter, TokenTimes};
use crate::spec::validated::ValidatedSpec;
use crate::target::content::TargetContent;
use crate::target::snapshot::TargetSnapshot;
use crate::target::template::SecretTemplate;

/// The maximum clock skew between two nodes of a healthy cluster.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What was observed of one integration and the Secrets around it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen, and they go together in any way")]
pub struct Observed {
    /// The wall clock.
    pub now: Timestamp,
    /// The integration's name.
    pub name: String,
    /// The integration's uid.
    pub uid: String,
    /// The integration's `metadata.generation`.
    pub generation: i64,
    /// Whether the integration is being deleted.
    pub deleting: bool,
    /// Whether its deletion waits for the operator.
    pub finalizer: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// The value of the `renew-requested-at` annotation.
    pub renew_requested_at: Option<String>,
    /// The parsed spec, or a sentence that says what to change in it.
    pub spec: Result<Arc<ValidatedSpec>, String>,
    /// The credentials Secret.
    pub credentials: CredentialsState,
    /// Why the administrator does not allow this target, in a sentence that says what to change.
    pub target_not_allowed: Option<String>,
    /// The target Secret.
    pub target: TargetState,
    /// Whether the target was read, and not only taken from the cache.
    pub target_was_read: bool,
    /// The content of the target, or of the previous target if there is none yet.
    pub stored: StoredTokens,
    /// Secrets of this integration that are no longer its target.
    pub previous_targets: Vec<Arc<TargetSnapshot>>,
    /// Whether the latest of these was read.
    pub previous_target_was_read: bool,
    /// Whether a response of the endpoint is held that has not been written to the Secret yet.
    pub write_pending: bool,
    /// Until when no further token is requested, after requests in rapid succession.
    pub not_before: Option<Timestamp>,
    /// Until when the target is not written again with its current token, after writes that were immediately overwritten.
    pub rewrite_not_before: Option<Timestamp>,
    /// Until when the namespace's budget of writes is used up, if that was checked.
    pub throttled_until: Option<Timestamp>,
    /// The minimum interval between two scheduled renewals.
    pub min_renewal_interval: SignedDuration,
    /// Whether this process may act: leader election is off, or it holds the lease.
    pub is_leader: bool,
    /// Why a request has to wait; `None` if it may be sent, or if there was no reason to send one yet.
    pub delayed: Option<Delay>,
    /// Whether the endpoint's circuit was open and its host has responded since this integration's last attempt.
    pub host_recovered: bool,
    /// Until when the endpoint has requested a pause (`Retry-After`), as far as this process knows.
    pub requested_pause_until: Option<Timestamp>,
    /// The status, as it was last written.
    pub status: OAuthIntegrationStatus,
}

/// What was observed of the credentials Secret.
#[derive(Clone, Debug)]
pub enum CredentialsState {
    /// Not read; its version, where it is known.
    NotRead(Option<String>),
    /// The Secret or one of its keys is missing; the sentence says which.
    Missing(String),
    /// The operator has no permission to read it.
    AccessDenied(String),
    /// Something else that a request needs is missing, and it is not watched; the sentence says what.
    DependencyMissing(String),
    /// Its values, and its version.
    Resolved(Arc<Credentials>, String),
}

impl CredentialsState {
    /// The observed version.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::NotRead(version) => version.as_deref().unwrap_or("unknown"),
            Self::Missing(_) => "missing",
            Self::AccessDenied(_) => "unreadable",
            Self::DependencyMissing(_) => "incomplete",
            Self::Resolved(_, version) => version,
        }
    }
}

/// What was observed of the target Secret.
#[derive(Clone, Debug)]
pub enum TargetState {
    /// Missing, or not looked up yet.
    Absent,
    /// A Secret of that name that is not owned by this integration.
    NotOwned,
    /// The Secret of this integration.
    Owned(Arc<TargetSnapshot>),
}

/// What was read from the data of the target, or of the previous target if there is none yet; only where a grant or a write
/// needs it.
#[derive(Clone, Debug, Default)]
pub struct StoredTokens {
    /// Its full content, if it is intact.
    pub content: Option<Arc<TargetContent>>,
    /// Its refresh token.
    pub refresh_token: Option<SecretString>,
    /// The private key that its tokens are bound to.
    pub dpop_key: Option<SecretString>,
    /// Fingerprint of the refresh token in the credentials with which the chain of renewals began.
    pub initial_refresh_token_hash: Option<String>,
    /// Name of the credentials with which its tokens were obtained.
    pub credentials_name: String,
    /// Fingerprint of where they may be sent; empty where that is unknown.
    pub binding: String,
}

impl Observed {
    /// The observation of an integration of which nothing else is known: no target, no credentials, and nothing in its way.
    #[must_use]
    pub fn new(integration: &OAuthIntegration, spec: Result<Arc<ValidatedSpec>, String>, now: Timestamp) -> Self {
        let ObjectMeta { name, uid, generation, deletion_timestamp, finalizers, annotations, .. } =
            &integration.metadata;
        Self {
            now,
            name: name.clone().unwrap_or_default(),
            uid: uid.clone().unwrap_or_default(),
            generation: generation.unwrap_or_default(),
            deleting: deletion_timestamp.is_some(),
            finalizer: finalizers.iter().flatten().any(|name| name == FINALIZER),
            suspend: integration.spec.suspend,
            renew_requested_at: annotations.as_ref().and_then(|all| all.get(RENEW_REQUESTED_AT)).cloned(),
            spec,
            credentials: CredentialsState::NotRead(None),
            target_not_allowed: None,
            target: TargetState::Absent,
            target_was_read: false,
            stored: StoredTokens::default(),
            previous_targets: Vec::new(),
            previous_target_was_read: false,
            write_pending: false,
            not_before: None,
            rewrite_not_before: None,
            throttled_until: None,
            min_renewal_interval: SignedDuration::ZERO,
            is_leader: true,
            delayed: None,
            host_recovered: false,
            requested_pause_until: None,
            status: integration.status.clone().unwrap_or_default(),
        }
    }

    /// The latest Secret of this integration that is no longer its target.
    #[must_use]
    pub fn latest_previous_target(&self) -> Option<&TargetSnapshot> {
        self.previous_targets.iter().max_by_key(|previous| previous.version).map(AsRef::as_ref)
    }

    pub(crate) fn has_unread_previous_target(&self) -> bool {
        !self.previous_target_was_read && !self.previous_targets.is_empty()
    }

    /// The snapshot of the target, if it is owned by this integration.
    #[must_use]
    pub fn snapshot(&self) -> Option<&TargetSnapshot> {
        match &self.target {
            TargetState::Owned(snapshot) => Some(snapshot),
            TargetState::Absent | TargetState::NotOwned => None,
        }
    }

    /// The shape that the target should have.
    #[must_use]
    pub fn template(&self) -> Option<&SecretTemplate> {
        self.spec.as_ref().ok().map(|spec| &spec.template)
    }

    /// Whether the time of a past action is in the future, which means that the clock was set back since: how long ago the
    /// action happened is unknown.
    pub(crate) fn is_in_future(&self, done: Timestamp) -> bool {
        done.duration_since(self.now) > SKEW
    }

    /// When the current token expires; now, if there is none.
    #[must_use]
    pub fn token_expiry(&self) -> Timestamp {
        self.snapshot().and_then(|snapshot| snapshot.times).map_or(self.now, |times| times.expires_at)
    }

    /// The jitter of the renewal of a token that is obtained now: large, unless it was obtained when it was due.
    #[must_use]
    pub fn spread(&self) -> Jitter {
        let Some(TokenTimes { issued_at, expires_at, renew_at }) = self.snapshot().and_then(|snapshot| snapshot.times)
        else {
            return Jitter::Wide;
        };
        let late = self.now.duration_since(renew_at);
        let in_turn = !late.is_negative() && late <= expires_at.duration_since(issued_at) / 10;
        if in_turn { Jitter::Narrow } else { Jitter::Wide }
    }

    /// Whether tokens with these times are expired, or nearly so, before they may be renewed.
    #[must_use]
    pub fn is_too_short(&self, times: TokenTimes) -> bool {
        let floor = self.min_renewal_interval;
        times.expires_at.duration_since(times.issued_at) < floor + floor / 4
    }

    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        Some(self.snapshot()?.times?.renew_at)
    }

    /// Hash of the inputs of an attempt. Contains versions, not values: many users can read a status.
    #[must_use]
    pub fn inputs_hash(&self) -> String {
        let mut text = fingerprint::unsalted(&serde_json::json!([
            self.generation,
            self.credentials.version(),
            self.renew_requested_at,
        ]));
        text.truncate(16);
        text
    }
}
