//! The token request, parsed and checked. Independent of Kubernetes.
//!
//! ```text
//!   TokenRequest + Credentials ──► discovery ──► parameters ──► exchange ──► response ──► TokenResponse
//!                                  see `address` pure           HTTP         pure
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use url::Url;

use crate::api::client_authentication::{ClientAuthentication, ClientAuthenticationMethod as Method};
use crate::api::grant::{Assertion, AssertionLocation, GrantType, TokenExchange};
use crate::api::request::{Format, Method as HttpMethod};
use crate::api::signed_jwt::SignedJwt;
use crate::oauth::error::UrlKind;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::sandbox;
use crate::oauth::expression::set::{ResponseMapping, data_field};

/// A request to a token endpoint, parsed and checked.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The destination.
    pub endpoint: Endpoint,
    /// The grant.
    pub grant: Grant,
    /// How the client authenticates.
    pub client: ClientAuthentication,
    /// The body parameter for the resource, and its values.
    pub resource: Option<(String, Vec<String>)>,
    /// Scope, as it is sent.
    pub scope: Option<String>,
    /// Whether the scope is sent as a list.
    pub scope_as_list: bool,
    /// The HTTP method.
    pub method: HttpMethod,
    /// Format of the body.
    pub format: Format,
    /// Builds the body from the parameters.
    pub body: Option<Expression>,
    /// The media type, if it is not that of the format.
    pub content_type: Option<String>,
    /// Parameters that are added to the query of the token endpoint.
    pub query: BTreeMap<String, String>,
    /// Body parameters that are added or replaced; one with an empty text is removed.
    pub parameters: BTreeMap<String, String>,
    /// The names of those whose text is JSON: a number, a boolean, a list or an object.
    pub json_parameters: BTreeSet<String>,
    /// Body parameters whose values are credentials, by name: the key in the Secret.
    pub parameters_from: BTreeMap<String, String>,
    /// Other names for body parameters.
    pub parameter_names: BTreeMap<String, String>,
    /// Headers that are added.
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are credentials, by name: the key in the Secret.
    pub headers_from: BTreeMap<String, String>,
    /// The time for one request, from connecting to the last byte of the response.
    pub timeout: Duration,
    /// The location of the values in the response.
    pub expressions: ResponseMapping,
    /// The proxy; `None`: the one in the environment, if any.
    pub proxy: Option<Url>,
    /// Whether the token is bound to a key (RFC 9449).
    pub dpop: bool,
    /// Whether the client certificate is presented although the client authenticates by another method.
    pub client_certificate: bool,
}

impl TokenRequest {
    /// Whether the client certificate is presented to the endpoints.
    #[must_use]
    pub fn presents_certificate(&self) -> bool {
        self.client_certificate || self.client.method == Method::TlsClientAuth
    }

    /// The maximum duration, including the discovery of the endpoint, from an issuer or from a protected resource and the
    /// issuer that it names, and a second request if the server requires a
    /// DPoP nonce. Each of them has the full timeout, so that earlier requests never shorten the timeout of one that
    /// sends a refresh token.
    #[must_use]
    pub fn max_duration(&self) -> Duration {
        if matches!(self.grant, Grant::SelfSignedJwt(_)) {
            return self.timeout;
        }
        let requests = 1 + u32::from(self.dpop);
        let bodies = if self.body.is_some() { requests } else { 0 };
        let evaluates_data = self.expressions.evaluated_data().next().is_some();
        let evaluations = bodies + u32::from(!self.expressions.are_simple_paths()) + u32::from(evaluates_data);
        self.timeout * (requests + self.endpoint.discoveries()) + sandbox::MAX_DURATION * evaluations
    }

    /// Whether a worker evaluates an expression for it.
    #[must_use]
    pub fn needs_worker(&self) -> bool {
        let expressions = &self.expressions;
        self.body.is_some() || !expressions.are_simple_paths() || expressions.evaluated_data().next().is_some()
    }

    /// All expressions that a worker must be able to parse, by their field in the spec.
    #[must_use]
    pub fn expressions_to_check(&self) -> Vec<(String, Expression)> {
        let of_response = self.expressions.fields();
        let of_data = self.expressions.evaluated_data().map(|(key, expression)| (data_field(key), expression));
        let of_body = self.body.iter().map(|expression| ("request.body".to_owned(), expression));
        let all = of_response.into_iter().chain(of_data).chain(of_body).filter(|(_, expression)| !expression.is_path());
        all.map(|(field, expression)| (field, expression.clone())).collect()
    }

    /// Whether the parameters are sent in the query.
    #[must_use]
    pub fn sends_query(&self) -> bool {
        self.method == HttpMethod::Get
    }

    /// Whether a parameter is a secret: a credential, or an assertion, which is one for a short time.
    #[must_use]
    pub fn has_secret_parameters(&self) -> bool {
        let by_grant = match &self.grant {
            Grant::ClientCredentials | Grant::SelfSignedJwt(_) => false,
            Grant::JwtBearer(assertion) => assertion.place == AssertionLocation::Body,
            Grant::UserPassword | Grant::RefreshToken | Grant::Password | Grant::TokenExchange(_) => true,
        };
        let by_client = self.client.method == Method::ClientSecretPost || self.client.method.sends_assertion();
        by_grant || (by_client && self.authenticates_client()) || !self.parameters_from.is_empty()
    }
}

/// The destination of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The token endpoint, if the spec sets it.
    pub url: Option<Url>,
    /// The issuer, whose metadata contains the endpoints that the spec does not set.
    pub issuer: Option<Url>,
    /// The protected resource, whose metadata names the authorization server.
    pub resource: Option<ProtectedResource>,
    /// The default audience of assertions: the issuer or the token endpoint, exactly as in the spec. If both are unknown
    /// before discovery, the protected resource.
    pub audience: String,
    /// The field of the spec to check when the endpoint does not work.
    pub field: &'static str,
}

/// A protected resource (RFC 9728).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// Its URL.
    pub url: Url,
    /// Exactly as in the spec.
    pub name: String,
}

impl Endpoint {
    /// Its kind, for errors.
    #[must_use]
    pub const fn kind(&self) -> UrlKind {
        UrlKind::TokenEndpoint(self.field)
    }

    /// The URL that is known without discovery: the endpoint itself, its issuer, or the protected resource.
    #[must_use]
    pub fn known(&self) -> Option<&Url> {
        self.url.as_ref().or(self.issuer.as_ref()).or(self.resource.as_ref().map(|resource| &resource.url))
    }

    /// What names the endpoint, for errors.
    #[must_use]
    pub const fn named_by(&self) -> UrlKind {
        match (&self.url, &self.issuer) {
            (Some(_), _) => self.kind(),
            (None, Some(_)) => UrlKind::Issuer,
            (None, None) => UrlKind::ProtectedResource,
        }
    }

    /// How many metadata documents name the endpoint. Each is read within the timeout of a request.
    fn discoveries(&self) -> u32 {
        match (&self.url, &self.resource) {
            (Some(_), _) => 0,
            (None, None) => 1,
            (None, Some(_)) => 2,
        }
    }

    /// Scheme, host and port: endpoints of the same origin share limits.
    #[must_use]
    pub fn origin(&self) -> String {
        self.known().map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }
}

/// The grant, with its settings other than credentials.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// RFC 6749, section 4.4.
    ClientCredentials,
    /// A custom login endpoint; not part of RFC 6749.
    UserPassword,
    /// RFC 6749, section 6.
    RefreshToken,
    /// RFC 6749, section 4.3.
    Password,
    /// RFC 7523, section 2.1.
    JwtBearer(Box<Assertion>),
    /// RFC 8693.
    TokenExchange(TokenExchange),
    /// No request: the JWT is the token.
    SelfSignedJwt(Box<SignedJwt>),
}

impl Grant {
    /// Its name in the spec, in metrics and in logs.
    #[must_use]
    pub const fn kind(&self) -> GrantType {
        match self {
            Self::ClientCredentials => GrantType::ClientCredentials,
            Self::UserPassword => GrantType::UserPassword,
            Self::RefreshToken => GrantType::RefreshToken,
            Self::Password => GrantType::Password,
            Self::JwtBearer(_) => GrantType::JwtBearer,
            Self::TokenExchange(_) => GrantType::TokenExchange,
            Self::SelfSignedJwt(_) => GrantType::SelfSignedJwt,
        }
    }

    /// Whether it sends a refresh token: the response may contain the next one, which must not be lost.
    #[must_use]
    pub const fn is_refresh(&self) -> bool {
        matches!(self, Self::RefreshToken)
    }
}
