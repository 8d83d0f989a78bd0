//! Which credentials a request requires, and which are optional. Pure.

#![deny(clippy::disallowed_methods)]

use crate::api::client_authentication::ClientAuthenticationMethod as Method;
use crate::api::grant::{AssertionLocation, SubjectTokenSource};
use crate::api::signed_jwt::{SignedJwt, SigningAlgorithm};
use crate::oauth::credentials::Credential;
use crate::oauth::credentials::Credential::{
    ActorToken, Assertion, ClientId, ClientSecret, NextClientSecret, Password, PrivateKey, SubjectToken,
    TlsCertificate, TlsKey, Username,
};
use crate::oauth::request::{Grant, TokenRequest};

impl TokenRequest {
    /// Whether the client authenticates. Login endpoints do not authenticate clients, and an assertion in the
    /// Authorization header is sufficient on its own.
    #[must_use]
    pub fn authenticates_client(&self) -> bool {
        match &self.grant {
            Grant::UserPassword | Grant::SelfSignedJwt(_) => false,
            Grant::JwtBearer(assertion) => assertion.place == AssertionLocation::Body,
            _ => true,
        }
    }

    /// Whether the request contains a signed JWT, which contains the time.
    #[must_use]
    pub const fn sends_signed_jwt(&self) -> bool {
        self.dpop || self.client.method.sends_assertion() || matches!(self.grant, Grant::JwtBearer(_))
    }

    /// The credentials that the request needs. The refresh token is tracked separately.
    #[must_use]
    pub fn required_credentials(&self) -> Vec<Credential> {
        let mut required = Vec::new();
        if self.authenticates_client() {
            required.extend(self.client_needs());
        }
        if self.presents_certificate() {
            required.extend([TlsCertificate, TlsKey]);
        }
        match &self.grant {
            Grant::ClientCredentials | Grant::RefreshToken => {}
            Grant::UserPassword | Grant::Password => required.extend([Username, Password]),
            Grant::JwtBearer(assertion) if assertion.from.is_some() => required.push(Assertion),
            Grant::JwtBearer(assertion) => {
                required.push(PrivateKey);
                // The default issuer of the assertion.
                required.extend(assertion.jwt.issuer.is_none().then_some(ClientId));
                required.extend(assertion.jwt.needs_certificate().then_some(TlsCertificate));
            }
            Grant::SelfSignedJwt(jwt) => {
                let is_symmetric = jwt.algorithm.is_some_and(SigningAlgorithm::is_symmetric);
                required.push(if is_symmetric { ClientSecret } else { PrivateKey });
                required.extend(jwt.issuer.is_none().then_some(ClientId));
                required.extend(jwt.needs_certificate().then_some(TlsCertificate));
            }
            Grant::TokenExchange(exchange) => {
                required.extend((exchange.subject_token_source == SubjectTokenSource::Secret).then_some(SubjectToken));
                required.extend(exchange.actor_token_type.is_some().then_some(ActorToken));
            }
        }
        required
    }

    fn client_needs(&self) -> Vec<Credential> {
        let mut required = match self.client.method {
            Method::ClientSecretPost => match self.grant {
                Grant::ClientCredentials => vec![ClientId, ClientSecret],
                // Google and Salesforce identify the client by the issuer of the assertion.
                Grant::JwtBearer(_) => vec![],
                // A public client has no secret (RFC 6749, section 2.1).
                _ => vec![ClientId],
            },
            Method::ClientSecretBasic | Method::ClientSecretJwt => vec![ClientId, ClientSecret],
            Method::PrivateKeyJwt => vec![ClientId, PrivateKey],
            Method::TlsClientAuth => vec![ClientId],
            // The server may identify the client by the subject of the token.
            Method::ServiceAccountToken | Method::None => vec![],
        };
        let needs_certificate = self.client.assertion.as_ref().is_some_and(SignedJwt::needs_certificate);
        required.extend(needs_certificate.then_some(TlsCertificate));
        required
    }

    /// The credentials that are sent if they are set.
    #[must_use]
    pub fn optional_credentials(&self) -> &'static [Credential] {
        match self.client.method {
            _ if !self.authenticates_client() => &[],
            Method::ClientSecretPost => &[ClientId, ClientSecret, NextClientSecret],
            Method::ClientSecretBasic | Method::ClientSecretJwt => &[ClientId, NextClientSecret],
            _ => &[ClientId],
        }
    }
}
