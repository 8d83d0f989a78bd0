//! Signs JWTs with the credentials: assertions (RFC 7523), and JWTs that are tokens themselves. Pure.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};

use crate::api::reason::Reason;
use crate::api::signed_jwt::SignedJwt;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::error::{Advice, CredentialError, RequestError};
use crate::oauth::jwt;
use crate::oauth::jwt::{Claims, JoseHeader, JwtStamp};
use crate::oauth::key_error::KeyError;
use crate::oauth::signing_key::SigningKey;

/// The maximum size of `x5c`, in characters, as of the additional claims: an assertion may be sent in a header.
const MAX_CHAIN: usize = 16 << 10;

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
        let chain = if jwt.needs_certificate() { self.certificate_chain()? } else { Vec::new() };
        let thumbprint = |algorithm| chain.first().map(|one| jwt::encode(digest::digest(algorithm, one).as_ref()));
        Ok(JoseHeader {
            type_: jwt.type_.as_deref(),
            key_id: jwt.key_id.as_deref(),
            certificate_thumbprint: jwt.certificate_thumbprint.then(|| thumbprint(&digest::SHA256)).flatten(),
            certificate_thumbprint_sha1: jwt
                .certificate_thumbprint_sha1
                .then(|| thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY))
                .flatten(),
            certificate_chain: jwt.certificate_chain.then(|| x5c(&chain)).transpose()?,
        })
    }

    /// The certificate of the key, and those after it.
    fn certificate_chain(&self) -> Result<Vec<CertificateDer<'static>>, RequestError> {
        let pem = self.required(Credential::TlsCertificate)?.expose_secret().as_bytes();
        let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        all.ok().filter(|all| !all.is_empty()).ok_or_else(|| invalid_certificate(&CredentialError::NotCertificate))
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

/// The certificates as base64 of DER (RFC 7515, section 4.1.6). Only certificates are sent: the spec names the key of the
/// Secret that is read.
fn x5c(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, RequestError> {
    if chain.iter().any(|one| x509_parser::parse_x509_certificate(one).is_err()) {
        return Err(invalid_certificate(&CredentialError::MalformedCertificate));
    }
    let encoded: Vec<String> = chain.iter().map(|one| STANDARD.encode(one)).collect();
    if encoded.iter().map(String::len).sum::<usize>() > MAX_CHAIN {
        return Err(invalid_certificate(&CredentialError::CertificateChainTooLong));
    }
    Ok(encoded)
}

fn invalid_certificate(error: &CredentialError) -> RequestError {
    RequestError::invalid_credential(Credential::TlsCertificate, error)
}

fn invalid_key(credential: Credential, error: KeyError) -> RequestError {
    RequestError::invalid_credential(credential, &error.into())
}
