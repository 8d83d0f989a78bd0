//! Signs JWTs with the credentials: assertions (RFC 7523), and JWTs that are tokens themselves. Pure.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::api::reason::Reason;
use crate::api::signed_jwt::SignedJwt;
use crate::oauth::certificate_header::CertificateHeader;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::error::{Advice, RequestError};
use crate::oauth::jwt;
use crate::oauth::jwt::{Claims, JoseHeader, JwtStamp};
use crate::oauth::key_error::KeyError;
use crate::oauth::signing_key::SigningKey;

/// What a JWT is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtUse {
    /// It authenticates the client.
    Client,
    /// It is the assertion of a grant.
    Grant,
    /// It is the token.
    Token,
}

impl JwtUse {
    /// The lifetime, if the spec has none.
    pub(crate) const fn default_lifetime(self) -> Duration {
        match self {
            Self::Client | Self::Grant => Duration::from_mins(1),
            // The maximum of App Store Connect.
            Self::Token => Duration::from_mins(20),
        }
    }
}

/// Signs JWTs for one request.
pub(crate) struct Signer<'a> {
    pub(crate) credentials: &'a Credentials,
    /// The default audience.
    pub(crate) audience: Option<&'a str>,
    pub(crate) stamp: &'a JwtStamp,
}

impl Signer<'_> {
    /// A JWT that is signed with the private key of the credentials.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that names the missing or unusable credential.
    pub(crate) fn sign(&self, jwt: &SignedJwt, jwt_use: JwtUse) -> Result<SecretString, RequestError> {
        let (header, claims) = (self.header(jwt)?, self.claims(jwt, jwt_use)?);
        let pem = self.required(Credential::PrivateKey)?;
        SigningKey::from_pem(pem.expose_secret())
            .and_then(|key| jwt::sign(&key, jwt.algorithm, &header, &claims, self.stamp))
            .map_err(|error| invalid_key(Credential::PrivateKey, error))
    }

    /// A JWT that is signed with the client secret.
    ///
    /// # Errors
    ///
    /// As [`Signer::sign`].
    pub(crate) fn sign_with_secret(&self, jwt: &SignedJwt, jwt_use: JwtUse) -> Result<SecretString, RequestError> {
        let (header, claims) = (self.header(jwt)?, self.claims(jwt, jwt_use)?);
        let secret = self.required(Credential::ClientSecret)?;
        jwt::sign_with_secret(secret, jwt.algorithm, &header, &claims, self.stamp)
            .map_err(|error| invalid_key(Credential::ClientSecret, error))
    }

    /// Only the subject of a client assertion is the client by default.
    fn claims<'a>(&'a self, jwt: &'a SignedJwt, jwt_use: JwtUse) -> Result<Claims<'a>, RequestError> {
        let id = || self.required(Credential::ClientId).map(ExposeSecret::expose_secret);
        let subject = jwt.subject.as_deref().map(Ok).or_else(|| (jwt_use == JwtUse::Client).then(id));
        Ok(Claims {
            issuer: jwt.issuer.as_deref().map_or_else(id, Ok)?,
            subject: subject.transpose()?,
            audience: jwt.audience.as_deref().or(self.audience),
            lifetime: jwt.lifetime.map_or(jwt_use.default_lifetime(), Duration::from),
            issued_at_skew: jwt.issued_at_skew.map(Duration::from).unwrap_or_default(),
            not_before: jwt.not_before,
            others: Some(&jwt.claims),
        })
    }

    fn header<'a>(&self, jwt: &'a SignedJwt) -> Result<JoseHeader<'a>, RequestError> {
        let mut certificate = CertificateHeader::default();
        if jwt.needs_certificate() {
            let pem = self.required(Credential::TlsCertificate)?.expose_secret();
            certificate = CertificateHeader::of(jwt, pem)
                .map_err(|error| RequestError::invalid_credential(Credential::TlsCertificate, &error))?;
        }
        Ok(JoseHeader { type_: jwt.type_.as_deref(), key_id: jwt.key_id.as_deref(), certificate })
    }

    fn required(&self, credential: Credential) -> Result<&SecretString, RequestError> {
        required(self.credentials, credential)
    }
}

/// A credential that must be set.
///
/// # Errors
///
/// A [`RequestError`] that names it.
pub(crate) fn required(credentials: &Credentials, credential: Credential) -> Result<&SecretString, RequestError> {
    credentials.get(credential).ok_or_else(|| {
        RequestError::new(Reason::CredentialsMissing, format!("the credentials do not contain {}", credential.key()))
            .with_advice(Advice::AddCredential(credential))
    })
}

fn invalid_key(credential: Credential, error: KeyError) -> RequestError {
    RequestError::invalid_credential(credential, &error.into())
}
