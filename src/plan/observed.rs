//! What `plan` decides from: one integration and the Secrets around it, as they were seen.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::OAuthIntegrationStatus;
use crate::fingerprint;
use crate::gate::Closed;
use crate::oauth::life::{Spread, Times};
use crate::oauth::{Credential, Credentials};
use crate::target::{Content, Facts, Origin, Shape};
use crate::validated::Validated;

/// The most by which the clocks of two nodes of a healthy cluster differ.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What was seen of one integration and the Secrets around it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen, and they go together in any way")]
pub struct Observed {
    /// The wall clock.
    pub now: Timestamp,
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
    /// The spec, parsed; or a sentence that says what to change in it.
    pub spec: Result<Arc<Validated>, String>,
    /// The credentials Secret.
    pub credentials: CredentialsSeen,
    /// The target Secret.
    pub target: TargetSeen,
    /// What the target holds.
    pub holding: Holding,
    /// Secrets of this integration that are no longer its target.
    pub former_targets: Vec<Arc<Facts>>,
    /// Whether an answer of the endpoint is held that has not reached the Secret.
    pub answer_held: bool,
    /// Until when no further token is asked for, after requests that followed each other at once.
    pub not_before: Option<Timestamp>,
    /// Whether this process may act: it is alone, or holds the lease.
    pub leads: bool,
    /// Why the endpoint may not be asked right now; `None` where it may, or where nobody has asked yet.
    pub closed: Option<Closed>,
    /// Whether the endpoint's host failed for everyone and has answered since this integration's last attempt.
    pub endpoint_back: bool,
    /// The status, as it was last written.
    pub status: OAuthIntegrationStatus,
}

/// What was seen of the credentials Secret.
#[derive(Clone, Debug)]
pub enum CredentialsSeen {
    /// Not looked into; its version, where it is known.
    Unread(Option<String>),
    /// It or a key of it is not there; the sentence says which.
    Missing(String),
    /// The API server does not let the operator read it.
    Unreadable(String),
    /// Something else that a request is made with is not there, and it is not watched; the sentence says what.
    DependencyMissing(String),
    /// Its values, and its version.
    Read(Arc<Credentials>, String),
}

impl CredentialsSeen {
    /// The version that was seen.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::Unread(version) => version.as_deref().unwrap_or("unknown"),
            Self::Missing(_) => "missing",
            Self::Unreadable(_) => "unreadable",
            Self::DependencyMissing(_) => "incomplete",
            Self::Read(_, version) => version,
        }
    }
}

/// What was seen of the target Secret.
#[derive(Clone, Debug)]
pub enum TargetSeen {
    /// There is none, or it was not looked for yet.
    Absent,
    /// A Secret of that name that this integration did not make.
    Foreign,
    /// The one that this integration made.
    Ours(Arc<Facts>),
}

/// What was read of the data of the target, or of the one before it where there is none yet; only where a grant or
/// a write needs it.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// All that it holds, where it is whole.
    pub content: Option<Arc<Content>>,
    /// Its refresh token.
    pub refresh_token: Option<SecretString>,
    /// The private key that its tokens are bound to.
    pub dpop_key: Option<SecretString>,
    /// Fingerprint of the credentials' refresh token with which the chain of renewals began.
    pub first_hash: Option<String>,
    /// Name of the credentials by which its tokens were had.
    pub credentials_name: String,
}

impl Observed {
    /// What is remembered of the target, where it is this integration's.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match &self.target {
            TargetSeen::Ours(facts) => Some(facts),
            TargetSeen::Absent | TargetSeen::Foreign => None,
        }
    }

    /// The shape that the target should have.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.spec.as_ref().ok().map(|spec| &spec.shape)
    }

    /// Whether a time of something done lies ahead, which says that the clock was set back since: nobody can tell how long
    /// ago it really was.
    pub(super) fn is_ahead(&self, done: Timestamp) -> bool {
        done.duration_since(self.now) > SKEW
    }

    /// When the token ends that is there; now, where there is none.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.facts().and_then(|facts| facts.times).map_or(self.now, |times| times.expires_at)
    }

    /// By how much the renewal of a token that is had now is spread: widely, unless it was had when it was due.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let Some(Times { issued_at, expires_at, renew_at }) = self.facts().and_then(|facts| facts.times) else {
            return Spread::Wide;
        };
        let late = self.now.duration_since(renew_at);
        let in_turn = !late.is_negative() && late <= expires_at.duration_since(issued_at) / 10;
        if in_turn { Spread::Usual } else { Spread::Wide }
    }

    pub(super) fn renew_at(&self) -> Option<Timestamp> {
        Some(self.facts()?.times?.renew_at)
    }

    /// Fingerprint of what an attempt is made with. Holds versions, not values: status is readable by many.
    #[must_use]
    pub fn inputs(&self) -> String {
        let mut text = fingerprint::plain(&serde_json::json!([
            self.generation,
            self.credentials.version(),
            self.renew_requested_at,
        ]));
        text.truncate(16);
        text
    }

    /// The refresh token to send: the one in the target, because servers rotate it; the one in the credentials is the
    /// first, and again when it was changed there.
    #[must_use]
    pub fn refresh_token(&self) -> Option<SecretString> {
        let CredentialsSeen::Read(credentials, _) = &self.credentials else { return None };
        if self.spec.as_ref().is_ok_and(|spec| spec.by_strategy) {
            // What it stands for was granted for a spec and to credentials: with others, the grant is run.
            return self
                .holding
                .refresh_token
                .clone()
                .filter(|_| self.facts().is_some_and(|facts| self.is_of_these(&facts.origin)));
        }
        let first = credentials.get(Credential::RefreshToken).cloned();
        let Holding { refresh_token: current, first_hash, credentials_name, dpop_key: _, content: _ } = &self.holding;
        let current = current.as_ref().filter(|_| self.is_of_the_name(credentials_name));
        match (first, current) {
            (first, None) => first,
            (Some(first), Some(_)) if is_other(&first, first_hash.as_deref()) => Some(first),
            (_, Some(current)) => Some(current.clone()),
        }
    }
}

impl Observed {
    /// Whether tokens were had by the credentials that the spec names now; an earlier release did not write that down.
    fn is_of_the_name(&self, credentials_name: &str) -> bool {
        credentials_name.is_empty() || self.spec.as_ref().is_ok_and(|spec| spec.credentials_name == credentials_name)
    }

    /// Whether tokens of this origin were had for the current spec and by the credentials that were read.
    #[must_use]
    pub fn is_of_these(&self, origin: &Origin) -> bool {
        let (Ok(spec), CredentialsSeen::Read(credentials, _)) = (&self.spec, &self.credentials) else { return false };
        origin.spec_hash == spec.spec_hash
            && self.is_of_the_name(&origin.credentials_name)
            && fingerprint::matches(&origin.credentials_hash, &credentials.hashed_parts())
    }
}

/// Whether the credentials' refresh token is not the one with which the chain of renewals began. Where nothing is known
/// of the beginning (somebody took the annotations away), the chain goes on: a first token sent twice could end it.
fn is_other(first: &SecretString, known: Option<&str>) -> bool {
    known.is_some_and(|known| !fingerprint::matches(known, &[first.expose_secret()]))
}
