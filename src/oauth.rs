//! The token request: what is sent, how it is sent, and what the answer means. Knows no Kubernetes.

pub mod body;
pub mod client;
pub mod expression;
pub mod life;
pub mod redact;
pub mod response;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::api::{Format, GrantType};

pub use client::Client;
pub use expression::Expression;
pub use response::Answer;

/// What is asked of a token endpoint, parsed and checked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where the request goes.
    pub endpoint: Url,
    /// What is asked for.
    pub grant: GrantType,
    /// Body member that names the resource, and its value.
    pub resource: Option<(String, String)>,
    /// Scope, as it is sent.
    pub scope: Option<String>,
    /// Format of the body.
    pub format: Format,
    /// Members that are added to, changed in (with a value) or taken out of (without one) the body.
    pub parameters: BTreeMap<String, String>,
    /// Headers that are added.
    pub headers: BTreeMap<String, String>,
    /// The time for the whole request, from connecting to the last byte.
    pub timeout: Duration,
    /// Where the values stand in the answer.
    pub expressions: Expressions,
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
}

impl Expressions {
    /// Whether all of them only look members up.
    #[must_use]
    pub fn are_paths(&self) -> bool {
        let Self { access_token, refresh_token, expires_in } = self;
        [access_token, refresh_token, expires_in].into_iter().all(Expression::is_path)
    }
}

/// The secret values that a grant may send. `Debug` prints none of them.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Client id (RFC 6749, section 2.2).
    pub client_id: Option<SecretString>,
    /// Client secret (RFC 6749, section 2.3.1).
    pub client_secret: Option<SecretString>,
    /// User name.
    pub username: Option<SecretString>,
    /// Password.
    pub password: Option<SecretString>,
    /// Refresh token (RFC 6749, section 1.5).
    pub refresh_token: Option<SecretString>,
}
