//! The data that decisions produce and consume: plans, outcomes, and their consequences.

use jiff::Timestamp;

use crate::api::reason::Reason;
use crate::api::status::OAuthIntegrationStatus;
use crate::oauth::error::RequestError;
use crate::oauth::lifetime::TokenTimes;

/// The outcome of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done.
    Nothing,
    /// The Secret was written.
    Written(Written),
    /// The action failed.
    Failed(RequestError),
    /// The tokens were revoked, or the revocation failed.
    Revoked(Option<RequestError>),
}

impl Outcome {
    /// The reason of a failure.
    #[must_use]
    pub const fn failure(&self) -> Option<Reason> {
        match self {
            Self::Failed(failure) | Self::Revoked(Some(failure)) => Some(failure.reason),
            Self::Nothing | Self::Written(_) | Self::Revoked(None) => None,
        }
    }
}

/// A successful write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The times of the token.
    pub times: TokenTimes,
    /// Whether the endpoint has just issued the token (otherwise an existing one was rewritten).
    pub newly_issued: bool,
    /// A warning about the token to report to users.
    pub warning: Option<Reason>,
}

/// The consequences of an outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The status to write, if it differs from the last one.
    pub status: OAuthIntegrationStatus,
    /// The event to publish.
    pub event: Option<EventDraft>,
    /// The event about credentials that expire, if it is due: it is independent of the other one.
    pub expiry_event: Option<EventDraft>,
    /// When to requeue; `None`: only when something changes.
    pub next: Option<Timestamp>,
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Whether it is a warning.
    pub warning: bool,
    /// What happened.
    pub reason: Reason,
    /// The cause.
    pub trigger: Reason,
    /// What happened, as text.
    pub note: String,
    /// Whether it is a routine, repeating event, such as the renewal of a healthy token.
    pub is_routine: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Wait until a time; without one, until something changes.
    Wait {
        /// The reason.
        reason: Reason,
        /// The time.
        until: Option<Timestamp>,
    },
    /// Request a token and write it.
    Renew {
        /// The reason.
        reason: Reason,
    },
    /// Write an available token: from memory, or from the Secret itself.
    Rewrite {
        /// The reason.
        reason: Reason,
    },
    /// Revoke the available tokens, and remove the finalizer of the integration.
    Revoke {
        /// The reason.
        reason: Reason,
    },
    /// Nothing can be done until a user changes something.
    Stall {
        /// The reason.
        reason: Reason,
        /// What to change.
        message: String,
    },
}
