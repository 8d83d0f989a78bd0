//! The token request: what is sent, how it is sent, and what the answer means. Knows no Kubernetes.
//!
//! ```text
//!   Ask + Credentials ──► discovery ──► prepare (members, headers) ──► client ──► response ──► Answer
//!                         issuer only   pure                           HTTP       pure
//! ```

pub mod body;
pub mod client;
pub mod credentials;
mod decode;
pub mod discovery;
pub mod expression;
pub mod jwt;
pub mod key;
pub mod life;
mod needs;
pub mod pin;
pub mod prepare;
pub mod reach;
pub mod redact;
pub mod response;
pub mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use crate::api::{Assertion, ClientAuthentication, Format, GrantType, TokenExchange};

pub use client::{Client, Revocation};
pub use credentials::{Credential, Credentials};
pub use expression::Expression;
pub use response::Answer;

/// What is reckoned for expressions that are more than paths: the time of one evaluation, and of one before it.
const EVALUATION: Duration = Duration::from_secs(4);

/// What is asked of a token endpoint, parsed and checked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where the request goes.
    pub endpoint: Endpoint,
    /// What is asked for.
    pub grant: Grant,
    /// How the client shows who it is.
    pub client: ClientAuthentication,
    /// Body member that names the resource, and its values.
    pub resource: Option<(String, Vec<String>)>,
    /// Scope, as it is sent.
    pub scope: Option<String>,
    /// Whether the scope is sent as a list.
    pub scope_as_list: bool,
    /// Format of the body.
    pub format: Format,
    /// Members that are added to, changed in (with a value) or taken out of (without one) the body.
    pub parameters: BTreeMap<String, String>,
    /// Other names for members of the body.
    pub body_keys: BTreeMap<String, String>,
    /// Headers that are added.
    pub headers: BTreeMap<String, String>,
    /// The time for everything, from connecting to the last byte.
    pub timeout: Duration,
    /// Where the values stand in the answer.
    pub expressions: Expressions,
    /// The proxy, where it is another one than the environment says.
    pub proxy: Option<Url>,
    /// Whether the token is bound to a key (RFC 9449).
    pub dpop: bool,
}

impl Ask {
    /// How long it may take with all that belongs to it: the look for the endpoint, and a second request where the server wants
    /// a nonce. Each of them has the whole time-out, so that what spends a refresh token is never cut short by what came before.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let expressions = if self.expressions.are_paths() { Duration::ZERO } else { EVALUATION };
        self.timeout * (1 + u32::from(self.endpoint.url.is_none()) + u32::from(self.dpop)) + expressions
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The token endpoint, where it is given.
    pub url: Option<Url>,
    /// The issuer, whose metadata tell the endpoints that are not given.
    pub issuer: Option<Url>,
    /// For whom assertions are made where the spec does not say: the issuer or the token endpoint, as it is written there.
    pub audience: String,
    /// The member of the spec to check where there is something wrong with it.
    pub field: &'static str,
}

impl Endpoint {
    /// What is known of it without asking anyone: the endpoint itself, or its issuer.
    #[must_use]
    pub fn known(&self) -> Option<&Url> {
        self.url.as_ref().or(self.issuer.as_ref())
    }

    /// Scheme, host and port: those whose limits are shared.
    #[must_use]
    pub fn origin(&self) -> String {
        self.known().map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }
}

/// What is asked for, with what it needs beside credentials.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// RFC 6749, section 4.4.
    ClientCredentials,
    /// A log-in endpoint; not RFC 6749.
    UserPassword,
    /// RFC 6749, section 6.
    RefreshToken,
    /// RFC 6749, section 4.3.
    Password,
    /// RFC 7523, section 2.1.
    JwtBearer(Box<Assertion>),
    /// RFC 8693.
    TokenExchange(TokenExchange),
}

impl Grant {
    /// Its word in the spec, in metrics and in logs.
    #[must_use]
    pub const fn kind(&self) -> GrantType {
        match self {
            Self::ClientCredentials => GrantType::ClientCredentials,
            Self::UserPassword => GrantType::UserPassword,
            Self::RefreshToken => GrantType::RefreshToken,
            Self::Password => GrantType::Password,
            Self::JwtBearer(_) => GrantType::JwtBearer,
            Self::TokenExchange(_) => GrantType::TokenExchange,
        }
    }

    /// Whether it sends a refresh token, whose successor must not be lost.
    #[must_use]
    pub const fn is_refresh(&self) -> bool {
        matches!(self, Self::RefreshToken)
    }
}

/// Where the values stand in the answer.
#[derive(Clone, Debug)]
pub struct Expressions {
    /// The access token.
    pub access_token: Expression,
    /// The refresh token.
    pub refresh_token: Expression,
    /// The life of the access token in seconds.
    pub expires_in: Expression,
    /// The end of the access token.
    pub expires_at: Option<Expression>,
    /// Whether it is a success.
    pub success: Option<Expression>,
    /// More values, by their key in the target.
    pub extra: BTreeMap<String, Expression>,
}

impl Expressions {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Expression> {
        let Self { access_token, refresh_token, expires_in, expires_at, success, extra } = self;
        [access_token, refresh_token, expires_in].into_iter().chain(expires_at).chain(success).chain(extra.values())
    }

    /// Whether one of them may look at what is bound to a name, such as `$headers`.
    #[must_use]
    pub fn use_variables(&self) -> bool {
        self.all().any(|expression| expression.text().contains('$'))
    }

    /// Whether all of them only look members up.
    #[must_use]
    pub fn are_paths(&self) -> bool {
        self.all().all(Expression::is_path)
    }
}
