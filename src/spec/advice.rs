//! Turns the advice of an error into text that names the fields of the spec. Pure.

use crate::api::reason::Reason;
use crate::oauth::allowed_endpoints::ALLOW_CA_BUNDLE;
use crate::oauth::error::{Advice, RequestError, ResponseField, UrlKind};
use crate::oauth::expression::error::InvalidExpression;

/// The error with its advice as part of the message.
#[must_use]
pub fn explain(error: RequestError) -> RequestError {
    match &error.advice {
        Some(advice) => {
            let message = format!("{}{}{}", error.message, separator(&error), text(advice));
            RequestError { message, advice: None, ..error }
        }
        None => error,
    }
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
        Advice::SetTokenEndpointOrIssuer => "set spec.tokenEndpoint or spec.issuer".to_owned(),
        // The endpoint itself, even if it is discovered from the issuer.
        Advice::SetUrl(UrlKind::TokenEndpoint(_)) => "set spec.tokenEndpoint".to_owned(),
        Advice::SetUrl(url) => format!("set {}", field(*url)),
        Advice::SetFinalUrl(url) => format!("set {} to the final address", field(*url)),
        Advice::CheckTokenEndpoint(UrlKind::Issuer) => "check that spec.issuer is the token endpoint's issuer".to_owned(),
        Advice::CheckTokenEndpoint(url) => format!("check that {} is the token endpoint", field(*url)),
        Advice::ChangeAuthenticationMethod => "change spec.clientAuthentication.method".to_owned(),
        Advice::Authenticate => "the client may have to authenticate: set spec.clientAuthentication.method".to_owned(),
        Advice::CheckHeaders => "check spec.request.headers".to_owned(),
        Advice::RemoveHeader { origin } => format!("remove it from spec.request.headers, or allow all of {origin} in the annotation"),
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
        Advice::CheckCaBundle => "check spec.connection.caBundle".to_owned(),
        Advice::SetServiceAccountToken => "set spec.serviceAccountToken, and run against a cluster".to_owned(),
        Advice::CheckExpression(value) => format!("check {}", response_field(value)),
        Advice::ExplainExpressions => {
            "`oauth-operator fetch --explain` shows which one of spec.response.accessToken, refreshToken and extra, and why"
                .to_owned()
        }
        Advice::TryForm => "the endpoint may not accept JSON: try spec.request.format: form".to_owned(),
        Advice::TryJson => "the endpoint may not accept forms: try spec.request.format: json".to_owned(),
        Advice::ReplaceRefreshToken => {
            "the refresh token is no longer valid: put a new one into the credentials Secret".to_owned()
        }
        Advice::CheckUser => "check username and password in the credentials Secret".to_owned(),
        Advice::CheckClient => "check client ID and client secret in the credentials Secret".to_owned(),
        Advice::CheckClientAndMethod => {
            "check client ID and client secret in the credentials Secret, and spec.clientAuthentication.method".to_owned()
        }
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
        UrlKind::Proxy => "spec.connection.proxy",
    }
}

fn response_field(value: &ResponseField) -> String {
    match value {
        ResponseField::AccessToken => "spec.response.accessToken".to_owned(),
        ResponseField::RefreshToken => "spec.response.refreshToken".to_owned(),
        ResponseField::Success => "spec.response.success".to_owned(),
        ResponseField::Extra(key) => format!("spec.response.extra.{key}"),
    }
}

/// The message for an expression that cannot be parsed.
#[must_use]
pub fn invalid_expression(InvalidExpression { field, error }: &InvalidExpression) -> String {
    format!("spec.response.{field} is not a JSONata expression: {error}: correct it")
}

/// The message for a warning about a token.
#[must_use]
pub const fn warning_message(warning: Reason) -> &'static str {
    match warning {
        Reason::TokenLifetimeTooLong => {
            "the actual token lifetime is shorter than spec.tokenLife, which is ignored: lower it"
        }
        Reason::TokenLifetimeUnknown => "the token lifetime is unknown and assumed to be 5m: set spec.tokenLife",
        Reason::FallbackUsed => {
            "the refresh token was rejected (invalid_grant), and this token was issued by spec.renewal.fallback: find out what revokes the refresh tokens"
        }
        _ => "",
    }
}
