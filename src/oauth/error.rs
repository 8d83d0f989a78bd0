//! Why a request failed: the fact, and typed advice. The layers above know the fields of the spec and turn the advice
//! into text.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::api::client_authentication::ClientAuthenticationMethod;
use crate::api::grant::GrantType;
use crate::api::reason::Reason;
use crate::oauth::credentials::Credential;
use crate::oauth::key_error::KeyError;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The reason, whose class determines the retry.
    pub reason: Reason,
    /// What failed. Contains no secrets.
    pub message: String,
    /// What the user can change; empty after it has been added to the message.
    pub advice: Vec<Advice>,
    /// The HTTP status code, if there is a response.
    pub status: Option<u16>,
    /// `Retry-After`: the delay before the next request that the endpoint requests (RFC 9110, section 10.2.3).
    pub retry_after: Option<Duration>,
    /// A new refresh token from a response that is otherwise unusable. The one that was sent may already be invalid,
    /// so this one must be kept.
    pub refresh_token: Option<RotatedRefreshToken>,
    /// Whether the endpoint responded with `invalid_grant` (RFC 6749, section 5.2): the grant that was sent is no
    /// longer valid.
    pub invalid_grant: bool,
    /// Whether the endpoint rejected the client: another secret may be accepted.
    pub invalid_client: bool,
}

/// A refresh token that can be compared, so that errors can be compared. `Debug` does not print it.
#[derive(Clone, Debug)]
pub struct RotatedRefreshToken(pub SecretString);

impl PartialEq for RotatedRefreshToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for RotatedRefreshToken {}

impl RequestError {
    /// An error without advice and without `Retry-After`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            advice: Vec::new(),
            status: None,
            retry_after: None,
            refresh_token: None,
            invalid_grant: false,
            invalid_client: false,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_advice(mut self, advice: Advice) -> Self {
        self.advice.push(advice);
        self
    }

    /// A credential that is set but unusable.
    pub(crate) fn invalid_credential(credential: Credential, error: &CredentialError) -> Self {
        Self::new(Reason::CredentialsInvalid, error.to_string()).with_advice(Advice::CheckCredential(credential))
    }
}

/// The URL that a request or its connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlKind {
    /// The token endpoint, or the issuer from which it is discovered; with the field of the spec that sets it.
    TokenEndpoint(&'static str),
    /// The revocation endpoint.
    RevocationEndpoint,
    /// The issuer.
    Issuer,
    /// The protected resource.
    ProtectedResource,
    /// The proxy.
    Proxy,
}

impl fmt::Display for UrlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenEndpoint(_) => "the token endpoint",
            Self::RevocationEndpoint => "the revocation endpoint",
            Self::Issuer => "the issuer",
            Self::ProtectedResource => "the protected resource",
            Self::Proxy => "the proxy",
        })
    }
}

/// A value of a token response that an expression finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseField {
    /// The access token.
    AccessToken,
    /// The refresh token.
    RefreshToken,
    /// Whether the response is a success.
    Success,
    /// A value for the target, by its key.
    Data(String),
}

impl fmt::Display for ResponseField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessToken => f.write_str("the access token"),
            Self::RefreshToken => f.write_str("the refresh token"),
            Self::Success => f.write_str("the success of the request"),
            Self::Data(key) => write!(f, "key {key} of the target"),
        }
    }
}

/// What the user can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Check a URL.
    CheckUrl(UrlKind),
    /// Check a URL, or raise the timeout.
    CheckUrlOrTimeout(UrlKind),
    /// Check a URL, or raise the size limit of responses.
    CheckUrlOrSizeLimit(UrlKind),
    /// Set the token endpoint or the issuer: neither is set.
    SetTokenEndpointOrIssuer,
    /// The resource names no authorization server: name it in the spec.
    NameServer,
    /// The resource names several authorization servers: select one.
    SelectIssuer,
    /// Only the resource names this authorization server: name it in the spec, or have the owner allow it.
    ConfirmIssuer,
    /// Only the resource names this token endpoint: name it in the spec, or have the owner allow it.
    ConfirmTokenEndpoint,
    /// Name the token endpoint in the spec instead of the resource.
    NameTokenEndpoint,
    /// Set a scope.
    SetScope,
    /// Set an endpoint that the issuer's metadata does not contain.
    SetUrl(UrlKind),
    /// Set the endpoint to the target of its redirects.
    SetFinalUrl(UrlKind),
    /// Check that this is a token endpoint.
    CheckTokenEndpoint(UrlKind),
    /// Change the client authentication method.
    ChangeAuthenticationMethod,
    /// The client may have to authenticate.
    Authenticate,
    /// Check the additional headers.
    CheckHeaders,
    /// Check the expression for the body.
    CheckBody,
    /// Remove an additional header, or allow the whole origin.
    RemoveHeader {
        /// The origin of the endpoint.
        origin: String,
    },
    /// Change the endpoint, or the annotation of the credentials.
    ChangeUrlOrAnnotation(UrlKind),
    /// Use a CA bundle from the credentials Secret, or have its owner allow another one.
    ChangeCaBundle,
    /// Use an https endpoint, or no proxy.
    UseHttpsWithProxy,
    /// Add a credential, or name another key.
    AddCredential(Credential),
    /// Check a credential.
    CheckCredential(Credential),
    /// Trust the certificate of the server.
    TrustCertificate,
    /// Trust the CA of the server's certificate.
    TrustCa,
    /// Authenticate the client with a certificate.
    SetClientCertificate,
    /// Check the CA bundle.
    CheckCaBundle,
    /// Request a ServiceAccount token.
    SetServiceAccountToken,
    /// Check the expression of a value.
    CheckExpression(ResponseField),
    /// Find the expression that fails with `fetch --explain`.
    ExplainExpressions,
    /// The endpoint may accept forms only.
    TryForm,
    /// The endpoint may accept JSON only.
    TryJson,
    /// The server names another client authentication method.
    UseMethod(ClientAuthenticationMethod),
    /// The server expects an assertion of the client.
    UseAssertion,
    /// The server may accept another client authentication method only.
    TryMethod(ClientAuthenticationMethod),
    /// The client may not use this grant.
    AllowGrant(GrantType),
    /// Check the scope.
    CheckScope,
    /// Set or check the resource.
    CheckResource,
    /// Check the assertion or the token that was exchanged.
    CheckGrantToken,
    /// Something in front of the endpoint may have rejected the request.
    CheckGateway,
    /// Convert the result of an expression with a function of JSONata.
    Convert(ResponseField, &'static str),
    /// Replace the refresh token in the credentials.
    ReplaceRefreshToken,
    /// Check username and password.
    CheckUser,
    /// Check client ID and client secret.
    CheckClient,
    /// Check client ID, private key, and the settings of the assertion.
    CheckAssertion,
    /// Check client ID and client certificate.
    CheckCertificate,
    /// Check client ID, and the audience and issuer of the ServiceAccount token.
    CheckServiceAccountToken,
}

/// Why a credential is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The private key, or the client secret as a key, is unusable.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// There is no client certificate, or no key for it.
    #[error("the {0} is missing, which tls_client_auth requires")]
    Missing(&'static str),
    /// The text is not a certificate.
    #[error("the client certificate is not a certificate as PEM (-----BEGIN CERTIFICATE-----) or PKCS#12")]
    NotCertificate,
    /// The certificate cannot be parsed.
    #[error("the client certificate cannot be parsed")]
    MalformedCertificate,
    /// The chain is too long for a JWT.
    #[error("the certificates have more than 16 KiB as x5c: leave out the root, or do not set certificateChain")]
    CertificateChainTooLong,
    /// The certificate has expired.
    #[error("the client certificate expired at {0}: renew it")]
    CertificateExpired(jiff::Timestamp),
    /// The validity period of the certificate has not begun.
    #[error("the client certificate is not valid before {0}: check the clocks")]
    CertificateNotYetValid(jiff::Timestamp),
    /// Certificate and key do not match.
    #[error(
        "the private key does not match the client certificate, or is none of RSA, EC P-256, EC P-384 and Ed25519 as PEM or PKCS#12"
    )]
    CertificateMismatch,
}

/// TLS cannot be set up, for any connection.
#[derive(Debug, thiserror::Error)]
#[error("failed to create the HTTP client")]
pub struct BuildError(#[source] pub(crate) rustls::Error);
