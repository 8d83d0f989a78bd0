//! Why something was decided or failed, in one word.
//!
//! The same word stands in events, conditions, `status.lastFailure`, metrics and logs, so what a person reads
//! is what the code decided. Each word is written down once, here.

use std::time::Duration;

/// Writes the enum, its words and its classes from one list, so that none of them can be forgotten.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $class:ident,)*) => {
        /// One documented word for each thing that the operator decides, does or fails at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word, as it stands in events, conditions, metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The reason of a word that was written into a status; `None` for a word of another release.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
            }

            /// Whether it is a failure, and of which kind.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)*
                }
            }
        }
    };
}

reasons! {
    // What `plan` decides, in the order of its checks.
    /// The integration is being deleted.
    Deleting: Fine,
    /// An answer of the endpoint is held in memory and must reach the Secret before anything else.
    AnswerHeld: Fine,
    /// Another replica holds the lease and acts.
    StandingBy: Fine,
    /// `spec.suspend` is true.
    Suspended: Fine,
    /// The spec cannot work, although the API server let it through: a JSONata expression that does not parse.
    InvalidSpec: Configuration,
    /// The credentials Secret, or a key of it, is not there.
    CredentialsMissing: Configuration,
    /// The API server does not let the operator read the credentials Secret.
    CredentialsUnreadable: Configuration,
    /// What a request is made with beside the credentials is not there: the certificates of `spec.connection.caBundle`, or
    /// the ServiceAccount of `spec.serviceAccountToken`. Looked for again every 30 s.
    DependencyMissing: Configuration,
    /// A Secret of the target's name exists that this integration did not make.
    TargetConflict: Configuration,
    /// The last attempt failed with this very spec and these credentials; the next one has its time.
    BackingOff: Fine,
    /// A token was asked for a moment ago; something undoes the result again and again.
    TooSoon: Fine,
    /// As many token requests as may are under way; those whose tokens end first go first.
    Queued: Fine,
    /// The endpoint's host fails for everyone: it is asked by one at a time until it answers again.
    EndpointFailing: Passing,
    /// There is no target Secret, or it holds no token.
    TargetMissing: Fine,
    /// The spec is not the one that produced the token.
    SpecChanged: Fine,
    /// The credentials are not the ones that produced the token.
    CredentialsChanged: Fine,
    /// The annotation `oauth.evolutionx.io/renew-requested-at` has a new value.
    RenewalRequested: Fine,
    /// Somebody else changed the target Secret.
    TargetDrifted: Fine,
    /// The token's time has come.
    RenewalDue: Fine,
    /// The target holds a token and its renewal is not due.
    TokenValid: Fine,

    // What was done.
    /// The first token was written.
    Issued: Fine,
    /// A new token was written.
    Renewed: Fine,
    /// The Secret was written anew with the tokens it had.
    TargetUpdated: Fine,
    /// `spec.tokenLife` is longer than the real life of the token, and used nowhere.
    TokenLifeTooLong: Fine,
    /// Nothing tells the life of the token; it is taken as 5 minutes.
    TokenLifeUnknown: Fine,
    /// The refresh token was refused, and the token was had by `spec.renewal.fallback`.
    FellBack: Fine,

    /// The integration was deleted, and its tokens were given back.
    Revoked: Fine,
    /// The integration was deleted, and its tokens could not be given back; they live until they end.
    RevocationFailed: Fine,

    // What failed.
    /// The endpoint may not be asked: by its scheme, host or address, or since the credentials may not be sent there.
    EndpointForbidden: Configuration,
    /// A credential is there and of no use: a key that cannot be read or does not fit, a certificate that has ended.
    CredentialsUnusable: Configuration,
    /// The issuer's metadata cannot be used: they name another issuer, lack an endpoint, or are not JSON.
    InvalidMetadata: Refused,
    /// The endpoint refused the request: an OAuth error, 401, 403 or another 4xx.
    RequestRefused: Refused,
    /// The endpoint answered with a redirect, which is not followed.
    Redirected: Refused,
    /// The endpoint's name could not be resolved, or no connection was made.
    EndpointUnreachable: Passing,
    /// The endpoint did not answer in `spec.request.timeout`.
    RequestTimedOut: Passing,
    /// The endpoint answered 408, 429 or 5xx.
    EndpointUnavailable: Passing,
    /// The answer was not understood: no JSON, too large, no token where the expression looks.
    InvalidResponse: Passing,
    /// A dry run shows that the API server would not take the target Secret, so no refresh token was spent.
    TargetNotWritable: Passing,
    /// The API server did not take the target Secret; the answer is kept and the write tried again.
    TargetNotWritten: Passing,
    /// The token has ended and no other could be had.
    TokenExpired: Fine,
}

/// What kind of failure it is, and with that, what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No failure.
    Fine,
    /// Nothing is sent; waits for the change that mends it.
    Configuration,
    /// The endpoint does not want this request: retried from 1 min doubling to 1 h.
    Refused,
    /// It may work in a moment: retried from 1 s doubling to 5 min.
    Passing,
}

impl Reason {
    /// First and longest pause before an attempt is repeated; `None` where nothing is retried.
    #[must_use]
    pub const fn backoff(self) -> Option<(Duration, Duration)> {
        match (self, self.class()) {
            // No endpoint is asked, and what waits for it may be the only copy of a refresh token.
            (Self::TargetNotWritten, _) => Some((Duration::from_secs(1), Duration::from_secs(10))),
            (_, Class::Fine | Class::Configuration) => None,
            (_, Class::Refused) => Some((Duration::from_mins(1), Duration::from_hours(1))),
            (_, Class::Passing) => Some((Duration::from_secs(1), Duration::from_mins(5))),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
