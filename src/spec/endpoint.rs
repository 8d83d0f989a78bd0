//! The endpoint of a spec, or what names it.

#![deny(clippy::disallowed_methods)]

use url::Url;

use crate::api::grant::GrantType;
use crate::api::renewal::RenewalStrategy;
use crate::api::spec::OAuthIntegrationSpec;
use crate::oauth::request::{Endpoint, ProtectedResource};

/// The endpoint of the grant.
pub(crate) fn endpoint(spec: &OAuthIntegrationSpec) -> Result<Endpoint, String> {
    if spec.grant_type == GrantType::SelfSignedJwt {
        return no_endpoint(spec);
    }
    let (field, audience) = match (&spec.shared.token_endpoint, &spec.shared.issuer, &spec.shared.protected_resource) {
        (Some(_), _, Some(_)) => {
            return Err("spec.protectedResource does not apply with spec.tokenEndpoint: remove one of them".to_owned());
        }
        (Some(endpoint), issuer, None) => ("spec.tokenEndpoint", issuer.as_ref().unwrap_or(endpoint)),
        (None, Some(issuer), _) => ("spec.issuer", issuer),
        (None, None, Some(resource)) => ("spec.protectedResource", resource),
        (None, None, None) => {
            return Err("spec.tokenEndpoint, spec.issuer or spec.protectedResource must be set".to_owned());
        }
    };
    // A resource server could name another authorization server than the one that issued a refresh token. The owner of
    // the credentials may allow both.
    let sends_refresh_tokens = spec.grant_type == GrantType::RefreshToken
        || spec.shared.renewal.strategy == Some(RenewalStrategy::RefreshToken);
    if spec.shared.protected_resource.is_some() && spec.shared.issuer.is_none() && sends_refresh_tokens {
        return Err("spec.protectedResource with refresh tokens needs spec.issuer: set it to the authorization server that issues them, because they are sent to no other one".to_owned());
    }
    Ok(Endpoint {
        url: spec
            .shared
            .token_endpoint
            .as_deref()
            .map(|text| parse_http_url("spec.tokenEndpoint", text))
            .transpose()?,
        issuer: spec.shared.issuer.as_deref().map(|text| parse_http_url("spec.issuer", text)).transpose()?,
        resource: spec.shared.protected_resource.as_deref().map(protected_resource).transpose()?,
        audience: audience.clone(),
        field,
    })
}

/// Nothing is sent, so there is no endpoint. The API server also checks this.
fn no_endpoint(spec: &OAuthIntegrationSpec) -> Result<Endpoint, String> {
    let fields = [&spec.shared.token_endpoint, &spec.shared.issuer, &spec.shared.protected_resource];
    if fields.into_iter().any(Option::is_some) {
        return Err(
            "spec.grantType self_signed_jwt sends no request: remove tokenEndpoint, issuer and protectedResource"
                .to_owned(),
        );
    }
    Ok(Endpoint { url: None, issuer: None, resource: None, audience: String::new(), field: "spec.assertion" })
}

fn protected_resource(text: &str) -> Result<ProtectedResource, String> {
    Ok(ProtectedResource { url: parse_http_url("spec.protectedResource", text)?, name: text.to_owned() })
}

/// The same endpoint, or another one of the same issuer.
pub(crate) fn with_token_endpoint(
    endpoint: &Endpoint,
    field: &'static str,
    text: Option<&str>,
) -> Result<Endpoint, String> {
    let Some(text) = text else { return Ok(endpoint.clone()) };
    let audience = if endpoint.issuer.is_some() { endpoint.audience.clone() } else { text.to_owned() };
    let url = Some(parse_http_url(field, text)?);
    Ok(Endpoint { url, issuer: endpoint.issuer.clone(), resource: None, audience, field })
}

pub(crate) fn parse_http_url(field: &str, text: &str) -> Result<Url, String> {
    let problem = |why: String| format!("{field} {why}: write an absolute http or https URL");
    let url = Url::parse(text).map_err(|error| problem(format!("is not a URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(problem(format!("has the scheme {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(problem("contains a username, a password or a fragment".to_owned()));
    }
    Ok(url)
}
