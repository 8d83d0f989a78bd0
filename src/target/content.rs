//! The tokens that a target Secret holds, and their origin.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::oauth::lifetime::TokenTimes;
use crate::target::template::PLACEHOLDER_LENGTH;

/// Tokens, and the metadata stored with them.
#[derive(Clone, Debug)]
pub struct TargetContent {
    /// The access token; missing if only the refresh token of a response could be kept.
    pub access_token: Option<SecretString>,
    /// The refresh token, if there is one.
    pub refresh_token: Option<SecretString>,
    /// When the refresh token was received; `None`: together with the access token.
    pub refresh_token_at: Option<Timestamp>,
    /// `token_type`, as returned by the server.
    pub token_type: Option<String>,
    /// `scope`, as returned by the server or requested.
    pub scope: Option<String>,
    /// The values of `spec.target.data`, by key.
    pub data: BTreeMap<String, DataValue>,
    /// The access token before this one, if it is kept.
    pub previous: Option<PreviousToken>,
    /// The private key that the tokens are bound to, PKCS#8 as PEM (RFC 9449).
    pub dpop_key: Option<SecretString>,
    /// When the token was requested, when it expires and when it is renewed.
    pub times: TokenTimes,
    /// The inputs that produced it.
    pub provenance: Provenance,
}

impl TargetContent {
    /// Dummy content of the maximum expected size, for a dry run of the write.
    #[must_use]
    pub fn placeholder(now: Timestamp) -> Self {
        let token = || Some(SecretString::from("x".repeat(PLACEHOLDER_LENGTH)));
        let empty = Self::empty(TokenTimes::new(now, now, now), Provenance::default());
        Self { access_token: token(), refresh_token: token(), ..empty }
    }

    /// No tokens.
    #[must_use]
    pub const fn empty(times: TokenTimes, provenance: Provenance) -> Self {
        Self {
            access_token: None,
            refresh_token: None,
            refresh_token_at: None,
            token_type: None,
            scope: None,
            data: BTreeMap::new(),
            previous: None,
            dpop_key: None,
            times,
            provenance,
        }
    }

    /// When the refresh token was received.
    #[must_use]
    pub fn refresh_token_received_at(&self) -> Timestamp {
        self.refresh_token_at.unwrap_or(self.times.issued_at)
    }

    /// The content of the target, if the refresh token is in another Secret.
    #[must_use]
    pub fn without_refresh_token(&self) -> Self {
        Self { refresh_token: None, ..self.clone() }
    }

    /// The content of the Secret for the refresh token: also the key that the token is bound to, without which it cannot
    /// be used.
    #[must_use]
    pub fn only_refresh_token(&self) -> Self {
        Self {
            access_token: None,
            token_type: None,
            scope: None,
            data: BTreeMap::new(),
            previous: None,
            times: TokenTimes { issued_at: self.refresh_token_received_at(), ..self.times },
            ..self.clone()
        }
    }
}

/// The value of one key of `spec.target.data`.
#[derive(Clone, Debug)]
pub struct DataValue {
    /// Fingerprint of the expression.
    pub fingerprint: String,
    /// Its result; `None` if it has none.
    pub value: Option<SecretString>,
}

/// An access token that was replaced and has not expired yet.
#[derive(Clone, Debug)]
pub struct PreviousToken {
    /// The token.
    pub token: SecretString,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// The inputs that produced a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Hash of the spec.
    pub spec_hash: String,
    /// Salted fingerprint of the credentials.
    pub credentials_hash: String,
    /// Name of the credentials Secret; without one, the origin of the token endpoint. A refresh token is used only
    /// with these credentials: a user who may name other credentials is not necessarily allowed to read the target.
    pub credentials_name: String,
    /// Version of the credentials Secret; if it is unchanged, the Secret is not read.
    pub credentials_version: String,
    /// Fingerprint of where the tokens may be sent; empty if an earlier release wrote them.
    pub binding: String,
    /// Salted fingerprint of the access token, to recognize an endpoint that returns the same token again.
    pub access_token_hash: Option<String>,
    /// Salted fingerprint of the refresh token in the credentials Secret.
    pub refresh_token_hash: Option<String>,
    /// Whether the client authenticated with the next client secret, because the server had rejected the current one.
    pub uses_next_secret: bool,
    /// The renewal request (annotation) that was handled.
    pub renew_requested_at: Option<String>,
}

impl Provenance {
    /// The origin of these tokens after their refresh token was replaced by one with another origin.
    #[must_use]
    pub fn with_refresh_token_of(&self, other: &Self) -> Self {
        // If the access token was issued by another server, or with other credentials, it must not be revoked at the
        // server that issued the refresh token, nor sent where these credentials may be sent.
        let is_same = self.binding == other.binding && self.credentials_name == other.credentials_name;
        Self {
            spec_hash: if is_same { self.spec_hash.clone() } else { String::new() },
            refresh_token_hash: other.refresh_token_hash.clone(),
            // The refresh token must not be sent with other credentials than these.
            credentials_name: other.credentials_name.clone(),
            binding: other.binding.clone(),
            ..self.clone()
        }
    }
}
