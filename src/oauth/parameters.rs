//! Builds the body parameters and the Authorization header of a request from the request and the credentials. Pure.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::api::client_authentication::{BasicEncoding, ClientAuthenticationMethod as Method};
use crate::api::grant::{AssertionLocation, SubjectTokenSource, TokenExchange};
use crate::api::reason::Reason;
use crate::oauth::body::Parameter;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::error::{Advice, RequestError, UrlKind};
use crate::oauth::jwt::JwtStamp;
use crate::oauth::request::{Grant, TokenRequest};
use crate::oauth::revocation::RevocationRequest;
use crate::oauth::signer;
use crate::oauth::signer::{JwtUse, Signer};

/// The type of a client assertion (RFC 7523, section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// RFC 8693, section 3.
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// RFC 8693, section 3.
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Which endpoint a request is for.
#[derive(Debug)]
pub enum RequestKind<'a> {
    /// The token endpoint.
    Token,
    /// The revocation endpoint.
    Revocation(&'a RevocationRequest),
}

impl RequestKind<'_> {
    /// The URL that the request uses, for errors.
    #[must_use]
    pub const fn url_kind(&self, request: &TokenRequest) -> UrlKind {
        match self {
            Self::Token => request.endpoint.kind(),
            Self::Revocation(_) => UrlKind::RevocationEndpoint,
        }
    }
}

/// The parts of a request that depend on credentials.
#[derive(Clone, Debug, Default)]
pub struct RequestParts {
    /// The body parameters: grant, resource, scope, then those of `request.parameters`. Empty ones are omitted; one
    /// with several values is repeated.
    pub parameters: Vec<Parameter>,
    /// The Authorization header.
    pub authorization: Option<Authorization>,
}

/// The Authorization header of a request.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// Client ID and client secret, encoded (RFC 6749, section 2.3.1).
    Basic(SecretString),
    /// An assertion.
    Bearer(SecretString),
}

impl Authorization {
    /// The value of the header.
    #[must_use]
    pub fn header(&self) -> SecretString {
        let (Self::Basic(value) | Self::Bearer(value)) = self;
        let scheme = match self {
            Self::Basic(_) => "Basic",
            Self::Bearer(_) => "Bearer",
        };
        format!("{scheme} {}", value.expose_secret()).into()
    }

    /// The secret in the header, without the scheme.
    #[must_use]
    pub const fn secret(&self) -> &SecretString {
        let (Self::Basic(value) | Self::Bearer(value)) = self;
        value
    }
}

impl From<Vec<Parameter>> for RequestParts {
    fn from(parameters: Vec<Parameter>) -> Self {
        Self { parameters, authorization: None }
    }
}

impl From<Authorization> for RequestParts {
    fn from(authorization: Authorization) -> Self {
        Self { parameters: vec![], authorization: Some(authorization) }
    }
}

/// Builds the parts of a request.
///
/// # Errors
///
/// A [`RequestError`] that names the missing or unusable credential.
pub fn build_request(
    request: &TokenRequest,
    credentials: &Credentials,
    kind: &RequestKind<'_>,
    stamp: &JwtStamp,
) -> Result<RequestParts, RequestError> {
    let builder = RequestBuilder { request, credentials, stamp };
    let mut parts = match kind {
        RequestKind::Token => builder.token()?,
        RequestKind::Revocation(revocation) => builder.revocation(revocation)?,
    };
    parts.parameters.retain(|(_, value)| !value.expose_secret().is_empty());
    Ok(parts)
}

impl TokenRequest {
    /// The scope as one value, or as one value per name.
    fn scopes(&self) -> impl Iterator<Item = &str> {
        let whole = self.scope.as_deref().filter(|_| !self.scope_as_list);
        let names = self.scope.as_deref().filter(|_| self.scope_as_list);
        whole.into_iter().chain(names.into_iter().flat_map(str::split_whitespace))
    }
}

fn parameter(name: &str, value: &str) -> Parameter {
    (name.to_owned(), value.into())
}

/// Builds the parts of one request.
struct RequestBuilder<'a> {
    request: &'a TokenRequest,
    credentials: &'a Credentials,
    stamp: &'a JwtStamp,
}

impl RequestBuilder<'_> {
    fn token(&self) -> Result<RequestParts, RequestError> {
        let TokenRequest { resource, parameter_names, parameters: additional, parameters_from, .. } = self.request;
        let client = self.client_authentication()?;
        let grant = self.grant()?;
        let mut parameters = client.parameters;
        parameters.extend(grant.parameters);
        // `grant_type` comes first, as in the examples of the RFC.
        if !matches!(self.request.grant, Grant::UserPassword) && grant.authorization.is_none() {
            parameters.insert(0, parameter("grant_type", self.request.grant.kind().parameter()));
        }
        if let Some((name, values)) = resource {
            parameters.extend(values.iter().map(|value| parameter(name, value)));
        }
        parameters.extend(self.request.scopes().map(|scope| parameter("scope", scope)));
        for (name, _) in &mut parameters {
            if let Some(other) = parameter_names.get(name) {
                name.clone_from(other);
            }
        }
        let from_secret = parameters_from.iter().map(|(name, key)| Ok((name, self.other(key)?.clone())));
        let in_spec = additional.iter().map(|(name, value)| Ok((name, value.as_str().into())));
        for replacement in in_spec.chain(from_secret) {
            let (name, value) = replacement?;
            parameters.retain(|(known, _)| known != name);
            parameters.push((name.clone(), value));
        }
        Ok(RequestParts { parameters, authorization: grant.authorization.or(client.authorization) })
    }

    /// RFC 7009, section 2.1.
    fn revocation(&self, revocation: &RevocationRequest) -> Result<RequestParts, RequestError> {
        let mut parts = self.client_authentication()?;
        // The client may authenticate with a parameter of the spec.
        for (name, key) in self.request.parameters_from.iter().filter(|(name, _)| name.starts_with("client_")) {
            parts.parameters.retain(|(known, _)| known != name);
            parts.parameters.push((name.clone(), self.other(key)?.clone()));
        }
        parts.parameters.push(("token".to_owned(), revocation.token.clone()));
        parts.parameters.push(parameter("token_type_hint", revocation.hint));
        Ok(parts)
    }

    const fn signer(&self) -> Signer<'_> {
        let audience = Some(self.request.endpoint.audience.as_str());
        Signer { credentials: self.credentials, audience, stamp: self.stamp }
    }

    fn parameters_for(&self, credentials: &[Credential]) -> Vec<Parameter> {
        let value =
            |credential: &Credential| Some((credential.key().to_owned(), self.credentials.get(*credential)?.clone()));
        credentials.iter().filter_map(value).collect()
    }

    fn client_authentication(&self) -> Result<RequestParts, RequestError> {
        if !self.request.authenticates_client() {
            return Ok(RequestParts::default());
        }
        let id = self.parameters_for(&[Credential::ClientId]);
        let assertion = self.request.client.assertion.clone().unwrap_or_default();
        Ok(match self.request.client.method {
            Method::ClientSecretPost => self.parameters_for(&[Credential::ClientId, Credential::ClientSecret]).into(),
            Method::ClientSecretBasic => RequestParts { parameters: vec![], authorization: self.basic()? },
            Method::ClientSecretJwt => {
                with_assertion(id, self.signer().sign_with_secret(&assertion, JwtUse::Client)?).into()
            }
            Method::PrivateKeyJwt => with_assertion(id, self.signer().sign(&assertion, JwtUse::Client)?).into(),
            Method::ServiceAccountToken => with_assertion(id, self.service_account_token()?).into(),
            Method::TlsClientAuth | Method::None => id.into(),
        })
    }

    /// RFC 6749, section 2.3.1: both are form-encoded before they are joined, unless the spec says otherwise.
    fn basic(&self) -> Result<Option<Authorization>, RequestError> {
        let is_raw = self.request.client.basic_encoding == Some(BasicEncoding::Raw);
        let id = self.credentials.get(Credential::ClientId);
        if is_raw && id.is_some_and(|id| id.expose_secret().contains(':')) {
            // RFC 7617, section 2: the first colon ends the ID.
            let message = "the client ID contains a colon, which cannot be sent in HTTP Basic as it is";
            return Err(
                RequestError::new(Reason::CredentialsInvalid, message).with_advice(Advice::ChangeAuthenticationMethod)
            );
        }
        let encode = |credential| {
            let value = self.credentials.get(credential)?.expose_secret();
            let encoded = || url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            Some(if is_raw { value.to_owned() } else { encoded() })
        };
        let secret = encode(Credential::ClientSecret).unwrap_or_default();
        let id = encode(Credential::ClientId);
        Ok(id.map(|id: String| Authorization::Basic(STANDARD.encode(format!("{id}:{secret}")).into())))
    }

    fn service_account_token(&self) -> Result<SecretString, RequestError> {
        self.credentials.service_account_token.clone().ok_or_else(|| {
            RequestError::new(Reason::CredentialsMissing, "there is no ServiceAccount token")
                .with_advice(Advice::SetServiceAccountToken)
        })
    }

    /// The parameters of the grant, or the token that it sends in the Authorization header.
    fn grant(&self) -> Result<RequestParts, RequestError> {
        Ok(match &self.request.grant {
            // A self-signed JWT has no request.
            Grant::ClientCredentials | Grant::SelfSignedJwt(_) => RequestParts::default(),
            Grant::UserPassword | Grant::Password => {
                self.parameters_for(&[Credential::Username, Credential::Password]).into()
            }
            Grant::RefreshToken => self.parameters_for(&[Credential::RefreshToken]).into(),
            Grant::JwtBearer(assertion) => {
                let signed = match &assertion.from {
                    Some(_) => self.required(Credential::Assertion)?.clone(),
                    None => self.signer().sign(&assertion.jwt, JwtUse::Grant)?,
                };
                match assertion.place {
                    AssertionLocation::Body => vec![("assertion".to_owned(), signed)].into(),
                    AssertionLocation::AuthorizationHeader => Authorization::Bearer(signed).into(),
                }
            }
            Grant::TokenExchange(exchange) => self.token_exchange(exchange)?.into(),
        })
    }

    fn token_exchange(&self, exchange: &TokenExchange) -> Result<Vec<Parameter>, RequestError> {
        let TokenExchange {
            subject_token_source,
            subject_token_from,
            subject_token_type,
            actor_token_type,
            requested_token_type,
        } = exchange;
        let (token, default_type) = match (subject_token_source, subject_token_from) {
            (_, Some(from)) => (self.required(Credential::SubjectToken)?.clone(), from.value.token_type()),
            (SubjectTokenSource::Secret, None) => (self.required(Credential::SubjectToken)?.clone(), ACCESS_TOKEN_TYPE),
            (SubjectTokenSource::ServiceAccount, None) => (self.service_account_token()?, JWT_TYPE),
        };
        let mut parameters = vec![
            ("subject_token".to_owned(), token),
            parameter("subject_token_type", subject_token_type.as_deref().unwrap_or(default_type)),
        ];
        if let Some(type_) = actor_token_type {
            parameters.push(("actor_token".to_owned(), self.required(Credential::ActorToken)?.clone()));
            parameters.push(parameter("actor_token_type", type_));
        }
        parameters.extend(requested_token_type.iter().map(|type_| parameter("requested_token_type", type_)));
        Ok(parameters)
    }

    /// A value of the Secret under a key of the spec.
    fn other(&self, key: &str) -> Result<&SecretString, RequestError> {
        self.credentials.others.get(key).ok_or_else(|| {
            RequestError::new(Reason::CredentialsMissing, format!("the credentials do not contain the key {key}"))
        })
    }

    fn required(&self, credential: Credential) -> Result<&SecretString, RequestError> {
        signer::required(self.credentials, credential)
    }
}

fn with_assertion(mut parameters: Vec<Parameter>, assertion: SecretString) -> Vec<Parameter> {
    parameters.push(parameter("client_assertion_type", JWT_BEARER));
    parameters.push(("client_assertion".to_owned(), assertion));
    parameters
}
