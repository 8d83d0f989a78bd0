//! `grantType: self_signed_jwt`: the token is a JWT that is signed here, and nothing is sent. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::api::signed_jwt::{SignedJwt, SigningAlgorithm};
use crate::oauth::credentials::Credentials;
use crate::oauth::error::RequestError;
use crate::oauth::jwt::JwtStamp;
use crate::oauth::response::token::TokenResponse;
use crate::oauth::signer::{JwtUse, Signer};

/// Signs a token.
///
/// # Errors
///
/// A [`RequestError`] that names the missing or unusable credential.
pub fn sign(jwt: &SignedJwt, credentials: &Credentials, stamp: &JwtStamp) -> Result<TokenResponse, RequestError> {
    let signer = Signer { credentials, audience: None, stamp };
    let access_token = if jwt.algorithm.is_some_and(SigningAlgorithm::is_symmetric) {
        signer.sign_with_secret(jwt, JwtUse::Token)
    } else {
        signer.sign(jwt, JwtUse::Token)
    }?;
    let lifetime = jwt.lifetime.map_or(JwtUse::Token.default_lifetime(), std::time::Duration::from);
    Ok(TokenResponse {
        access_token,
        is_verbatim: true,
        refresh_token: None,
        expires_in: SignedDuration::try_from(lifetime).ok(),
        lifetime_problem: None,
        refresh_token_expires_in: None,
        refresh_token_expires_at: None,
        warning: None,
        token_type: None,
        scope: None,
        expires_at: None,
        data: BTreeMap::new(),
        source: None,
        date: None,
    })
}
