//! Which credentials a request needs, and which it takes. Pure.

#![deny(clippy::disallowed_methods)]

use super::Credential::{
    self, ActorToken, ClientId, ClientSecret, Password, PrivateKey, SubjectToken, TlsCertificate, TlsKey, Username,
};
use super::{Ask, Grant};
use crate::api::{AssertionPlace, ClientAuthenticationMethod as Method, SubjectTokenSource};

impl Ask {
    /// Whether the client shows who it is at all: a log-in endpoint knows no client, and who has the token of an assertion in
    /// the Authorization header needs no other.
    #[must_use]
    pub fn names_client(&self) -> bool {
        match &self.grant {
            Grant::UserPassword => false,
            Grant::JwtBearer(assertion) => assertion.place == AssertionPlace::Body,
            _ => true,
        }
    }

    /// Whether something is signed that holds a time.
    #[must_use]
    pub const fn signs(&self) -> bool {
        let by_client =
            matches!(self.client.method, Method::ClientSecretJwt | Method::PrivateKeyJwt | Method::ServiceAccountToken);
        self.dpop || by_client || matches!(self.grant, Grant::JwtBearer(_))
    }

    /// The credentials without which it cannot be sent. The refresh token is followed on its own.
    #[must_use]
    pub fn needs(&self) -> Vec<Credential> {
        let mut needs = Vec::new();
        if self.names_client() {
            needs.extend(self.client_needs());
        }
        match &self.grant {
            Grant::ClientCredentials | Grant::RefreshToken => {}
            Grant::UserPassword | Grant::Password => needs.extend([Username, Password]),
            Grant::JwtBearer(assertion) => {
                needs.push(PrivateKey);
                // Who issues it, where the spec does not say.
                needs.extend(assertion.issuer.is_none().then_some(ClientId));
            }
            Grant::TokenExchange(exchange) => {
                needs.extend((exchange.subject_token_source == SubjectTokenSource::Secret).then_some(SubjectToken));
                needs.extend(exchange.actor_token_type.is_some().then_some(ActorToken));
            }
        }
        needs
    }

    fn client_needs(&self) -> Vec<Credential> {
        let mut needs = match self.client.method {
            Method::ClientSecretPost => match self.grant {
                Grant::ClientCredentials => vec![ClientId, ClientSecret],
                // Google and Salesforce know the client by the issuer of the assertion.
                Grant::JwtBearer(_) => vec![],
                // A public client has no secret (RFC 6749, section 2.1).
                _ => vec![ClientId],
            },
            Method::ClientSecretBasic | Method::ClientSecretJwt => vec![ClientId, ClientSecret],
            Method::PrivateKeyJwt => vec![ClientId, PrivateKey],
            Method::TlsClientAuth => vec![ClientId, TlsCertificate, TlsKey],
            // The server may know the client by the subject of the token.
            Method::ServiceAccountToken | Method::None => vec![],
        };
        let thumbprint = self.client.assertion.as_ref().is_some_and(|assertion| assertion.certificate_thumbprint);
        needs.extend(thumbprint.then_some(TlsCertificate));
        needs
    }

    /// The credentials that are sent where they are there.
    #[must_use]
    pub fn takes(&self) -> &'static [Credential] {
        match self.client.method {
            _ if !self.names_client() => &[],
            Method::ClientSecretPost => &[ClientId, ClientSecret],
            _ => &[ClientId],
        }
    }
}
