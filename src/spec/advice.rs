//! Turns the advice of an error into text that names the fields of the spec. Pure.

use crate::api::reason::Reason;
use crate::oauth::allowed_endpoints::{ALLOW_CA_BUNDLE, ALLOWED_ENDPOINTS};
use crate::oauth::error::{Advice, RequestError, ResponseField, UrlKind};
use crate::oauth::expression::error::InvalidExpression;

/// The field that names the endpoint of a spec with neither an endpoint nor an issuer.
const PROTECTED_RESOURCE: &str = "spec.protectedResource";

/// The error with its advice as part of the message.
#[must_use]
pub fn explain(error: RequestError) -> RequestError {
    if error.advice.is_empty() {
        return error;
    }
    let advice: Vec<String> = error.advice.iter().map(text).collect();
    let message = format!("{}{}{}", error.message, separator(&error), advice.join("; "));
    RequestError { message, advice: Vec::new(), ..error }
}

/// A message that quotes the endpoint may itself contain colons.
const fn separator(error: &RequestError) -> &'static str {
    match error.reason {
        Reason::RequestRejected | Reason::InvalidResponse => "; ",
        _ => ": ",
    }
}

fn text(advice: &Advice) -> String {
    match advice {
        Advice::CheckUrl(url) => format!("check {}", field(*url)),
        Advice::CheckUrlOrTimeout(url) => format!("check {}, or raise spec.request.timeout", field(*url)),
        Advice::CheckUrlOrSizeLimit(url) => format!("check {}, or raise --max-response-size", field(*url)),
        Advice::SetTokenEndpointOrIssuer => {
            "set spec.tokenEndpoint, spec.issuer or spec.protectedResource".to_owned()
        }
        Advice::NameServer => "set spec.issuer or spec.tokenEndpoint instead of spec.protectedResource".to_owned(),
        Advice::SelectIssuer => "set spec.issuer to one of them".to_owned(),
        Advice::ConfirmIssuer => format!(
            "if it is the right authorization server, set spec.issuer to it, or let the owner of the credentials allow its token endpoint with the annotation {ALLOWED_ENDPOINTS}"
        ),
        Advice::ConfirmTokenEndpoint => format!(
            "if it is the right endpoint, set spec.tokenEndpoint to it instead of spec.protectedResource, or let the owner of the credentials allow it with the annotation {ALLOWED_ENDPOINTS}"
        ),
        Advice::NameTokenEndpoint => {
            "if it is the right endpoint, set spec.tokenEndpoint to it instead of spec.protectedResource".to_owned()
        }
        Advice::SetScope => "set spec.scope".to_owned(),
        // A resource does not go with an endpoint.
        Advice::SetUrl(UrlKind::TokenEndpoint(PROTECTED_RESOURCE)) => {
            "set spec.tokenEndpoint instead of spec.protectedResource".to_owned()
        }
        Advice::SetFinalUrl(UrlKind::TokenEndpoint(PROTECTED_RESOURCE)) => {
            "set spec.tokenEndpoint to the final address instead of spec.protectedResource".to_owned()
        }
        // The endpoint itself, even if it is discovered from the issuer.
        Advice::SetUrl(UrlKind::TokenEndpoint(_)) => "set spec.tokenEndpoint".to_owned(),
        Advice::SetUrl(url) => format!("set {}", field(*url)),
        Advice::SetFinalUrl(url) => format!("set {} to the final address", field(*url)),
        Advice::CheckTokenEndpoint(UrlKind::ProtectedResource | UrlKind::TokenEndpoint(PROTECTED_RESOURCE)) => {
            "check that the metadata of spec.protectedResource names the right authorization server".to_owned()
        }
        Advice::CheckTokenEndpoint(UrlKind::Issuer) => "check that spec.issuer is the token endpoint's issuer".to_owned(),
        Advice::CheckTokenEndpoint(url) => format!("check that {} is the token endpoint", field(*url)),
        Advice::ChangeAuthenticationMethod => "change spec.clientAuthentication.method".to_owned(),
        Advice::Authenticate => "the client may have to authenticate: set spec.clientAuthentication.method".to_owned(),
        Advice::CheckHeaders => "check spec.request.headers and headersFrom".to_owned(),
        Advice::CheckBody => "correct spec.request.body".to_owned(),
        Advice::RemoveHeader { origin } => format!("remove it from spec.request.headers or headersFrom, or allow all of {origin} in the annotation"),
        Advice::ChangeUrlOrAnnotation(url) => format!("change {}, or the annotation", field(*url)),
        Advice::ChangeCaBundle => format!(
            "set spec.connection.caBundle to the credentials Secret itself, or let its owner set the annotation {ALLOW_CA_BUNDLE}"
        ),
        Advice::UseHttpsWithProxy => "use an https endpoint, or remove spec.connection.proxy".to_owned(),
        Advice::AddCredential(credential) => {
            format!("add it, or name another key in spec.credentials.keys.{}", credential.name())
        }
        Advice::CheckCredential(credential) => {
            format!("check spec.credentials.keys.{} (by default key {})", credential.name(), credential.key())
        }
        Advice::TrustCertificate => {
            "put it into a ConfigMap or Secret, and name that in spec.connection.caBundle".to_owned()
        }
        Advice::TrustCa => {
            "put the certificate of that CA into a ConfigMap or Secret, and name that in spec.connection.caBundle".to_owned()
        }
        Advice::SetClientCertificate => {
            "set spec.clientAuthentication.method: tls_client_auth, or, beside another method, spec.connection.clientCertificate: true".to_owned()
        }
        Advice::CheckCaBundle => "check spec.connection.caBundle".to_owned(),
        Advice::SetServiceAccountToken => "set spec.serviceAccountToken, and run against a cluster".to_owned(),
        Advice::CheckExpression(value) => format!("check {}", response_field(value)),
        Advice::ExplainExpressions => {
            "`oauth-operator fetch --explain` shows which one, and why"
                .to_owned()
        }
        Advice::UseMethod(method) => format!("set spec.clientAuthentication.method to {}", method.as_str()),
        Advice::UseAssertion => {
            "the server expects a signed assertion: set spec.clientAuthentication.method to private_key_jwt or client_secret_jwt"
                .to_owned()
        }
        Advice::TryMethod(method) => {
            format!("if they are correct, try spec.clientAuthentication.method: {}", method.as_str())
        }
        Advice::AllowGrant(grant) => format!("allow the client to use {} at the provider", grant.parameter()),
        Advice::CheckScope => "check spec.scope".to_owned(),
        Advice::CheckResource => "check spec.resource; some servers expect it with key: audience".to_owned(),
        Advice::CheckGrantToken => {
            "check the assertion or subject token, its audience, and that the server trusts its issuer".to_owned()
        }
        Advice::CheckGateway => "a proxy or firewall in front of the endpoint may have rejected the request".to_owned(),
        Advice::Convert(field, function) => {
            let field = response_field(field);
            format!("convert it with {function} in {field}")
        }
        Advice::TryForm => "the endpoint may not accept JSON: try spec.request.format: form".to_owned(),
        Advice::TryJson => "the endpoint may not accept forms: try spec.request.format: json".to_owned(),
        Advice::ReplaceRefreshToken => {
            "the refresh token is no longer valid: put a new one into the credentials Secret".to_owned()
        }
        Advice::CheckUser => "check username and password in the credentials Secret".to_owned(),
        Advice::CheckClient => "check client ID and client secret in the credentials Secret".to_owned(),
        Advice::CheckAssertion => {
            "check client ID, private key, and spec.clientAuthentication.assertion (keyId, audience, algorithm)".to_owned()
        }
        Advice::CheckCertificate => "check client ID and certificate, and that the server knows them".to_owned(),
        Advice::CheckServiceAccountToken => {
            "check client ID and spec.serviceAccountToken.audience, and that the server trusts the cluster's issuer"
                .to_owned()
        }
    }
}

const fn field(url: UrlKind) -> &'static str {
    match url {
        UrlKind::TokenEndpoint(field) => field,
        UrlKind::RevocationEndpoint => "spec.revocation.endpoint",
        UrlKind::Issuer => "spec.issuer",
        UrlKind::ProtectedResource => PROTECTED_RESOURCE,
        UrlKind::Proxy => "spec.connection.proxy, or HTTPS_PROXY of the operator",
    }
}

fn response_field(value: &ResponseField) -> String {
    match value {
        ResponseField::AccessToken => "spec.response.accessToken".to_owned(),
        ResponseField::RefreshToken => "spec.response.refreshToken".to_owned(),
        ResponseField::Success => "spec.response.success".to_owned(),
        ResponseField::Data(key) => format!("spec.target.data.{key}"),
    }
}

/// The message for an expression that cannot be parsed.
#[must_use]
pub fn invalid_expression(InvalidExpression { field, error }: &InvalidExpression) -> String {
    format!("spec.{field} is not a JSONata expression: {error}: correct it")
}

/// The message for a warning about a token.
#[must_use]
pub const fn warning_message(warning: Reason) -> &'static str {
    match warning {
        Reason::TokenLifetimeTooLong => {
            "the actual token lifetime is shorter than spec.tokenLife, which is ignored: lower it"
        }
        Reason::TokenLifetimeUnknown => "the token lifetime is unknown and assumed to be 5m: set spec.tokenLife",
        Reason::TokenLifetimeInvalid => {
            "the lifetime in the response is not a number of seconds (expiresIn) or a time (expiresAt), and is ignored: correct spec.response.expiresIn or expiresAt, or set spec.tokenLife"
        }
        Reason::TokenLifetimeImplausible => {
            "the lifetime in the response is a time, which is used as such, or longer than 400 days: correct spec.response.expiresIn (for milliseconds: expires_in / 1000), or set expiresAt instead"
        }
        Reason::RenewBeforeTooLong => {
            "spec.renewBefore is not shorter than the token lifetime and is ignored, so a third of the lifetime applies: lower it"
        }
        Reason::RefreshTokenIgnored => {
            "the refresh token in the response is not a string of printable characters and is ignored: check spec.response.refreshToken"
        }
        Reason::NextClientSecretUsed => {
            "the server rejected the client secret, and this token was issued with the next one (credentials.keys.nextClientSecret), which is used from now on: make it the client secret"
        }
        Reason::FallbackUsed => {
            "the refresh token was rejected (invalid_grant), and this token was issued by spec.renewal.fallback: find out what revokes the refresh tokens"
        }
        _ => "",
    }
}
