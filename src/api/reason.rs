//! The reasons of decisions and failures, one name each.
//!
//! Events, conditions, `status.lastFailure`, metrics and logs all use these names. Each name is defined only here.

use std::time::Duration;

/// Generates the enum, the names and the failure classes of all reasons from one list, so that none can be forgotten.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $class:ident,)*) => {
        /// One documented reason for each decision, action and failure of the operator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The reason as it appears in events, conditions, metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Parses a reason from a stored status; `None` if this release does not have it.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }

            /// Whether the reason is a failure, and its class.
            #[must_use]
            pub const fn class(self) -> FailureClass {
                match self {
                    $(Self::$name => FailureClass::$class,)*
                }
            }
        }
    };
}

reasons! {
    // Decisions of `plan`, in the order of its checks.
    /// The integration is being deleted.
    Deleting: NotAFailure,
    /// A response of the endpoint is held in memory and must be written to the Secret before anything else.
    WritePending: NotAFailure,
    /// Another replica is the leader.
    NotLeader: NotAFailure,
    /// `spec.suspend` is true.
    Suspended: NotAFailure,
    /// There is no provider with the name in `spec.providerRef`. The token is kept until it expires.
    ProviderNotFound: Configuration,
    /// The spec is invalid although the API server accepted it, for example because a JSONata expression does not
    /// parse.
    InvalidSpec: Configuration,
    /// The provider in `spec.providerRef` does not allow what the integration requests. The token is kept until it
    /// expires.
    NotAllowed: Configuration,
    /// The administrator does not allow this target Secret: its type, a label, an annotation or its name. The
    /// existing Secret is not changed.
    TargetNotAllowed: Configuration,
    /// The credentials Secret, or a key in it, is missing.
    CredentialsMissing: Configuration,
    /// The operator has no permission to read the credentials Secret.
    CredentialsAccessDenied: Configuration,
    /// Something else that the request needs is missing: the certificates of `spec.connection.caBundle`, the
    /// ServiceAccount of `spec.serviceAccountToken`, or the token of another integration. Checked again every 30 s.
    DependencyMissing: Configuration,
    /// The tokens that integrations of the namespace need from each other form a cycle.
    DependencyCycle: Configuration,
    /// Another integration of the namespace has already used the initial refresh token, and received another one for it:
    /// using it again could revoke both.
    RefreshTokenShared: Configuration,
    /// A Secret with the target's name exists, but is not owned by this integration and cannot be taken over.
    TargetConflict: Configuration,
    /// The last attempt failed with the same spec and credentials; the operator backs off until the next attempt.
    BackingOff: NotAFailure,
    /// A token was requested very recently: the Secret is repeatedly overwritten, or the token invalidated.
    RateLimited: NotAFailure,
    /// The limit of token requests in flight is reached; queued requests whose tokens expire first are sent first.
    /// Also: the namespace has too many responses that wait for evaluation, its expressions have not been checked
    /// yet, or there is no memory for another response.
    Queued: NotAFailure,
    /// The integrations of the namespace have used up its budget of writes to the API server
    /// (`--max-writes-per-namespace`), which also covers reads; the operator continues when the budget is
    /// replenished.
    NamespaceThrottled: NotAFailure,
    /// The circuit breaker of the endpoint's host is open for all: one probe at a time is sent until the host
    /// responds again.
    CircuitBreakerOpen: Transient,
    /// The Secret was written by something else, and its owner hands it over (`oauth.evolutionx.io/adopt-by`): the
    /// operator takes it over with its tokens.
    TargetAdopted: NotAFailure,
    /// The target Secret is missing, or contains no token.
    TargetMissing: NotAFailure,
    /// The spec differs from the one that produced the token.
    SpecChanged: NotAFailure,
    /// The credentials differ from those that produced the token.
    CredentialsChanged: NotAFailure,
    /// The annotation `oauth.evolutionx.io/renew-requested-at` has a new value.
    RenewalRequested: NotAFailure,
    /// The target Secret was modified by another writer.
    TargetDrifted: NotAFailure,
    /// The token is due for renewal.
    RenewalDue: NotAFailure,
    /// The target holds a token, and its renewal is not due.
    TokenValid: NotAFailure,

    // Completed actions.
    /// The first token was written.
    Issued: NotAFailure,
    /// A new token was written.
    Renewed: NotAFailure,
    /// The Secret was rewritten with its existing tokens.
    TargetUpdated: NotAFailure,
    /// `spec.tokenLife` is longer than the actual lifetime of the token, and is ignored.
    TokenLifetimeTooLong: NotAFailure,
    /// The lifetime of the endpoint's tokens is shorter than the minimum interval between two renewals
    /// (`--min-renewal-interval`), so they are expired until the next renewal.
    TokenLifetimeTooShort: NotAFailure,
    /// The lifetime of the token is unknown; 5 minutes are assumed.
    TokenLifetimeUnknown: NotAFailure,
    /// The lifetime or expiry in the response is not a number of seconds or a time, and is ignored.
    TokenLifetimeInvalid: NotAFailure,
    /// The lifetime in the response is a time, which is used as such, or longer than 400 days.
    TokenLifetimeImplausible: NotAFailure,
    /// `spec.renewBefore` is not shorter than the lifetime of the token, and is ignored.
    RenewBeforeTooLong: NotAFailure,
    /// The refresh token in the response is not a usable string, and is ignored.
    RefreshTokenIgnored: NotAFailure,
    /// The refresh token expires within 7 days, and renewals do not extend it.
    RefreshTokenExpiring: NotAFailure,
    /// The credentials expire in less than 14 days, in less than 3 days, or have expired, by the annotation
    /// `oauth.evolutionx.io/credentials-expire-at` of their Secret or by the client certificate.
    CredentialsExpiring: NotAFailure,
    /// The annotation `oauth.evolutionx.io/credentials-expire-at` is neither a time nor a date, and is ignored.
    CredentialsExpiryInvalid: NotAFailure,
    /// The refresh token was rejected, and the token was obtained with `spec.renewal.fallback`.
    FallbackUsed: NotAFailure,
    /// The client secret was rejected, and the token was obtained with the next one.
    NextClientSecretUsed: NotAFailure,

    /// A provider can be used: everything that it names exists.
    ProviderReady: NotAFailure,

    /// The integration was deleted, and its tokens were revoked.
    Revoked: NotAFailure,
    /// The integration was deleted, but its tokens could not be revoked; they stay valid until they expire.
    RevocationFailed: NotAFailure,

    /// A workload was restarted, because a Secret that it names in `oauth.evolutionx.io/restart-on-renewal` has changed.
    WorkloadRestarted: NotAFailure,
    /// The API server rejected the restart of a workload; it is tried again after 1 min, doubling up to 1 h.
    RestartFailed: NotAFailure,
    /// A restart annotation of a workload is invalid, or names a Secret that is not the target of an integration.
    RestartAnnotationInvalid: NotAFailure,
    /// The interval between two restarts of a workload is longer than half of the lifetime of a token that it reads.
    RestartIntervalTooLong: NotAFailure,

    // Failures.
    /// The endpoint is not allowed: its scheme, host or address is denied, or the credentials must not be sent to it.
    EndpointNotAllowed: Configuration,
    /// A credential exists but is invalid: a key that cannot be parsed or does not match, or an expired certificate.
    CredentialsInvalid: Configuration,
    /// The metadata of the issuer or of the protected resource cannot be used: it is for another one, lacks an
    /// endpoint, or is not JSON.
    InvalidIssuerMetadata: Rejected,
    /// The endpoint rejected the request: an OAuth error, 401, 403 or another 4xx.
    RequestRejected: Rejected,
    /// The endpoint responded with a redirect, which is not followed.
    UnexpectedRedirect: Rejected,
    /// The endpoint's name could not be resolved, or no connection could be established.
    EndpointUnreachable: Transient,
    /// The expression of `spec.request.body` could not be evaluated now, and nothing was sent.
    RequestNotBuilt: Transient,
    /// The endpoint did not respond within `spec.request.timeout`.
    RequestTimedOut: Transient,
    /// The endpoint responded with 408, 429 or 5xx.
    EndpointUnavailable: Transient,
    /// The response is invalid: not JSON, too large, or without a token where the expression expects it.
    InvalidResponse: Transient,
    /// A dry run showed that the API server would reject the target Secret; no refresh token was spent.
    TargetDryRunFailed: Transient,
    /// The API server rejected the target Secret; the response is kept, and the write is retried.
    TargetWriteFailed: Transient,
    /// The token has expired, and no new one could be obtained.
    TokenExpired: NotAFailure,
}

/// The class of a failure, which determines what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Not a failure.
    NotAFailure,
    /// Nothing is sent until a change fixes it.
    Configuration,
    /// The endpoint rejected the request: retried after 1 min, doubling up to 1 h.
    Rejected,
    /// Transient: retried after 1 s, doubling up to 5 min.
    Transient,
}

impl Reason {
    /// The minimum and the maximum delay before a retry; `None` if there is no retry.
    #[must_use]
    pub const fn backoff(self) -> Option<(Duration, Duration)> {
        match (self, self.class()) {
            // No endpoint is involved, and the pending write may hold the only copy of a refresh token.
            (Self::TargetWriteFailed, _) => Some((Duration::from_secs(1), Duration::from_secs(10))),
            (_, FailureClass::NotAFailure | FailureClass::Configuration) => None,
            (_, FailureClass::Rejected) => Some((Duration::from_mins(1), Duration::from_hours(1))),
            (_, FailureClass::Transient) => Some((Duration::from_secs(1), Duration::from_mins(5))),
        }
    }
}

impl Reason {
    /// The address of the page of the documentation about this reason.
    #[must_use]
    pub fn page(self) -> String {
        format!("{}/reasons/{self}", env!("CARGO_PKG_HOMEPAGE"))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
