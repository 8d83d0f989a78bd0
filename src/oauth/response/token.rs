//! The token response (RFC 6749, section 5.1).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::api::reason::Reason;
use crate::oauth::response::raw::HttpResponse;

/// The tokens of a response, and their properties.
#[derive(Debug)]
pub struct TokenResponse {
    /// The access token: RFC 6749's `1*VSCHAR`.
    pub access_token: SecretString,
    /// Whether the response contains the access token verbatim. A token computed by an expression may look like a JWT
    /// with any `exp`.
    pub is_verbatim: bool,
    /// The refresh token, if there is one.
    pub refresh_token: Option<SecretString>,
    /// The lifetime in the response.
    pub expires_in: Option<SignedDuration>,
    /// What is wrong with the lifetime or the expiry in the response.
    pub lifetime_problem: Option<Reason>,
    /// The lifetime of the refresh token in the response.
    pub refresh_token_expires_in: Option<SignedDuration>,
    /// The expiry of the refresh token in the response, by the endpoint's own clock.
    pub refresh_token_expires_at: Option<Timestamp>,
    /// Another warning about the response.
    pub warning: Option<Reason>,
    /// `token_type`, such as `Bearer`.
    pub token_type: Option<String>,
    /// `scope`, as granted.
    pub scope: Option<String>,
    /// The expiry in the response, by the endpoint's own clock.
    pub expires_at: Option<Timestamp>,
    /// Values that are stored as they are, by their key in the target.
    pub data: BTreeMap<String, SecretString>,
    /// When the response was sent, by the endpoint's own clock (`Date`; RFC 9110, section 6.6.1).
    pub date: Option<Timestamp>,
    /// The response itself, if expressions for the target need it.
    pub source: Option<HttpResponse>,
}
