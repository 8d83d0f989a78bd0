//! What is sent: the members of the body and the Authorization header, from what is asked and the credentials. Pure.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::time::Duration;

use super::body::Member;
use super::jwt::{self, Claims, Fresh, Header};
use super::key::Key;
use super::{Ask, Credential, Credentials, Grant, Revocation};
use crate::api::{
    Assertion, AssertionPlace, ClientAssertion, ClientAuthenticationMethod as Method, Reason, SigningAlgorithm,
    SubjectTokenSource, TokenExchange,
};
use crate::error::Failure;

/// How long an assertion may be used where the spec does not say.
const ASSERTION_LIFE: Duration = Duration::from_mins(1);
/// What a client assertion is (RFC 7523, section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// RFC 8693, section 3.
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// RFC 8693, section 3.
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What a request is for.
#[derive(Debug)]
pub enum Purpose<'a> {
    /// A token.
    Token,
    /// Giving one back.
    Revocation(&'a Revocation),
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The members of the body: those of the grant, resource, scope, then what `request.parameters` adds. A member is there
    /// only when it has a value; one that has several is there more than once.
    pub members: Vec<Member>,
    /// The Authorization header.
    pub authorization: Option<SecretString>,
}

/// Makes what is sent.
///
/// # Errors
///
/// A [`Failure`] that names the credential which cannot be used.
pub fn prepare(
    ask: &Ask,
    credentials: &Credentials,
    purpose: &Purpose<'_>,
    fresh: &Fresh,
) -> Result<Prepared, Failure> {
    let from = From { ask, credentials, fresh };
    let (mut members, authorization) = match purpose {
        Purpose::Token => from.token()?,
        Purpose::Revocation(revocation) => from.revocation(revocation)?,
    };
    members.retain(|(_, value)| !value.expose_secret().is_empty());
    Ok(Prepared { members, authorization })
}

impl Ask {
    /// The scope, in one piece or name by name.
    fn scopes(&self) -> impl Iterator<Item = &str> {
        let whole = self.scope.as_deref().filter(|_| !self.scope_as_list);
        let names = self.scope.as_deref().filter(|_| self.scope_as_list);
        whole.into_iter().chain(names.into_iter().flat_map(str::split_whitespace))
    }
}

fn member(name: &str, value: &str) -> Member {
    (name.to_owned(), value.into())
}

/// What a request is made from.
struct From<'a> {
    ask: &'a Ask,
    credentials: &'a Credentials,
    fresh: &'a Fresh,
}

/// Members of the body, and the Authorization header.
type Parts = (Vec<Member>, Option<SecretString>);

impl From<'_> {
    fn token(&self) -> Result<Parts, Failure> {
        let Ask { resource, body_keys, parameters, .. } = self.ask;
        let (mut members, authorization) = self.client()?;
        let (grant, bearer) = self.grant()?;
        members.extend(grant);
        // The grant's name comes first, as in the RFC's examples.
        if !matches!(self.ask.grant, Grant::UserPassword) && bearer.is_none() {
            members.insert(0, member("grant_type", self.ask.grant.kind().parameter()));
        }
        if let Some((key, values)) = resource {
            members.extend(values.iter().map(|value| member(key, value)));
        }
        members.extend(self.ask.scopes().map(|scope| member("scope", scope)));
        for (name, _) in &mut members {
            if let Some(other) = body_keys.get(name) {
                name.clone_from(other);
            }
        }
        for (name, value) in parameters {
            members.retain(|(known, _)| known != name);
            members.push(member(name, value));
        }
        Ok((members, bearer.or(authorization)))
    }

    /// RFC 7009, section 2.1.
    fn revocation(&self, revocation: &Revocation) -> Result<Parts, Failure> {
        let (mut members, authorization) = self.client()?;
        members.push(("token".to_owned(), revocation.token.clone()));
        members.push(member("token_type_hint", revocation.hint));
        Ok((members, authorization))
    }

    fn own(&self, credentials: &[Credential]) -> Vec<Member> {
        let value =
            |credential: &Credential| Some((credential.key().to_owned(), self.credentials.get(*credential)?.clone()));
        credentials.iter().filter_map(value).collect()
    }

    /// How the client shows who it is.
    fn client(&self) -> Result<Parts, Failure> {
        if !self.ask.names_client() {
            return Ok((vec![], None));
        }
        let id = self.own(&[Credential::ClientId]);
        let assertion = self.ask.client.assertion.clone().unwrap_or_default();
        match self.ask.client.method {
            Method::ClientSecretPost => Ok((self.own(&[Credential::ClientId, Credential::ClientSecret]), None)),
            Method::ClientSecretBasic => Ok((vec![], self.basic())),
            Method::ClientSecretJwt => {
                let secret = self.needed(Credential::ClientSecret)?;
                let claims = self.client_claims(&assertion)?;
                let signed = jwt::signed_by_secret(secret, &claims, self.fresh);
                Ok((with_assertion(id, signed.map_err(|problem| unusable(Credential::ClientSecret, &problem))?), None))
            }
            Method::PrivateKeyJwt => Ok((with_assertion(id, self.client_assertion(&assertion)?), None)),
            Method::ServiceAccountToken => Ok((with_assertion(id, self.service_account_token()?), None)),
            Method::TlsClientAuth | Method::None => Ok((id, None)),
        }
    }

    /// RFC 6749, section 2.3.1: both are encoded as a form would be before they are joined.
    fn basic(&self) -> Option<SecretString> {
        let encode = |credential| {
            let value = self.credentials.get(credential)?.expose_secret();
            Some(url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>())
        };
        let (id, secret) = (encode(Credential::ClientId)?, encode(Credential::ClientSecret).unwrap_or_default());
        Some(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))).into())
    }

    fn client_claims<'a>(&'a self, assertion: &'a ClientAssertion) -> Result<Claims<'a>, Failure> {
        let id = self.needed(Credential::ClientId)?.expose_secret();
        Ok(Claims {
            issuer: id,
            subject: Some(id),
            audience: assertion.audience.as_deref().unwrap_or(&self.ask.endpoint.audience),
            lifetime: assertion.lifetime.map_or(ASSERTION_LIFE, Duration::from),
            others: None,
        })
    }

    fn client_assertion(&self, assertion: &ClientAssertion) -> Result<SecretString, Failure> {
        let thumbprint = assertion.certificate_thumbprint.then(|| self.certificate_thumbprint()).transpose()?;
        let header = Header { key_id: assertion.key_id.as_deref(), certificate_thumbprint: thumbprint };
        let claims = self.client_claims(assertion)?;
        self.signed(assertion.algorithm, &header, &claims)
    }

    /// By the private key of the credentials.
    fn signed(
        &self,
        algorithm: Option<SigningAlgorithm>,
        header: &Header<'_>,
        claims: &Claims<'_>,
    ) -> Result<SecretString, Failure> {
        let pem = self.needed(Credential::PrivateKey)?;
        Key::from_pem(pem.expose_secret())
            .and_then(|key| jwt::signed(&key, algorithm, header, claims, self.fresh))
            .map_err(|problem| unusable(Credential::PrivateKey, &problem))
    }

    fn certificate_thumbprint(&self) -> Result<String, Failure> {
        let pem = self.needed(Credential::TlsCertificate)?;
        let certificate = CertificateDer::from_pem_slice(pem.expose_secret().as_bytes())
            .map_err(|_| unusable(Credential::TlsCertificate, "is not a certificate as PEM"))?;
        Ok(jwt::encode(&Sha256::digest(&certificate)))
    }

    fn service_account_token(&self) -> Result<SecretString, Failure> {
        self.credentials.service_account_token.clone().ok_or_else(|| {
            Failure::new(
                Reason::CredentialsMissing,
                "there is no ServiceAccount token: set spec.serviceAccountToken, and run where there is a cluster",
            )
        })
    }

    /// What the grant itself sends: members, or a token for the Authorization header.
    fn grant(&self) -> Result<Parts, Failure> {
        match &self.ask.grant {
            Grant::ClientCredentials => Ok((vec![], None)),
            Grant::UserPassword | Grant::Password => {
                Ok((self.own(&[Credential::Username, Credential::Password]), None))
            }
            Grant::RefreshToken => Ok((self.own(&[Credential::RefreshToken]), None)),
            Grant::JwtBearer(assertion) => {
                let signed = self.assertion(assertion)?;
                match assertion.place {
                    AssertionPlace::Body => Ok((vec![("assertion".to_owned(), signed)], None)),
                    AssertionPlace::AuthorizationHeader => {
                        Ok((vec![], Some(format!("Bearer {}", signed.expose_secret()).into())))
                    }
                }
            }
            Grant::TokenExchange(exchange) => Ok((self.exchange(exchange)?, None)),
        }
    }

    fn assertion(&self, assertion: &Assertion) -> Result<SecretString, Failure> {
        let issuer = match &assertion.issuer {
            Some(issuer) => issuer,
            None => self.needed(Credential::ClientId)?.expose_secret(),
        };
        let claims = Claims {
            issuer,
            subject: assertion.subject.as_deref(),
            audience: assertion.audience.as_deref().unwrap_or(&self.ask.endpoint.audience),
            lifetime: assertion.lifetime.map_or(ASSERTION_LIFE, Duration::from),
            others: Some(&assertion.claims),
        };
        let header = Header { key_id: assertion.key_id.as_deref(), certificate_thumbprint: None };
        self.signed(assertion.algorithm, &header, &claims)
    }

    fn exchange(&self, exchange: &TokenExchange) -> Result<Vec<Member>, Failure> {
        let TokenExchange { subject_token_source, subject_token_type, actor_token_type, requested_token_type } =
            exchange;
        let (token, usual) = match subject_token_source {
            SubjectTokenSource::Secret => (self.needed(Credential::SubjectToken)?.clone(), ACCESS_TOKEN_TYPE),
            SubjectTokenSource::ServiceAccount => (self.service_account_token()?, JWT_TYPE),
        };
        let mut members = vec![
            ("subject_token".to_owned(), token),
            member("subject_token_type", subject_token_type.as_deref().unwrap_or(usual)),
        ];
        if let Some(type_) = actor_token_type {
            members.push(("actor_token".to_owned(), self.needed(Credential::ActorToken)?.clone()));
            members.push(member("actor_token_type", type_));
        }
        members.extend(requested_token_type.iter().map(|type_| member("requested_token_type", type_)));
        Ok(members)
    }

    fn needed(&self, credential: Credential) -> Result<&SecretString, Failure> {
        self.credentials.get(credential).ok_or_else(|| {
            let (key, name) = (credential.key(), credential.name());
            Failure::new(
                Reason::CredentialsMissing,
                format!("the credentials hold no {key}: add it, or name another key in spec.credentials.keys.{name}"),
            )
        })
    }
}

fn with_assertion(mut members: Vec<Member>, assertion: SecretString) -> Vec<Member> {
    members.push(member("client_assertion_type", JWT_BEARER));
    members.push(("client_assertion".to_owned(), assertion));
    members
}

/// A credential that is there and of no use.
pub(super) fn unusable(credential: Credential, problem: &str) -> Failure {
    let (key, name) = (credential.key(), credential.name());
    Failure::new(
        Reason::CredentialsUnusable,
        format!("the value of spec.credentials.keys.{name} (by default under key {key}) {problem}"),
    )
}
