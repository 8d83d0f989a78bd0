//! The requests that a spec leads to: its grant, the refresh, the fallback.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use url::Url;

use crate::api::{Fallback, GrantType, OAuthIntegrationSpec, Refresh, Response, ScopeFormat};
use crate::oauth::{Ask, Endpoint, Expression, Expressions, Grant};

/// The bounds of `spec.request.timeout`, which the API server checks as well.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The grant.
pub(super) fn grant(spec: &OAuthIntegrationSpec) -> Result<Ask, String> {
    let request = &spec.request;
    Ok(Ask {
        endpoint: endpoint(spec)?,
        grant: kind(spec.grant_type, spec),
        client: spec.client_authentication.clone().unwrap_or_default(),
        resource: spec
            .resource
            .as_ref()
            .map(|resource| (resource.key.clone(), resource.value.iter().chain(&resource.values).cloned().collect())),
        scope: spec.scope.clone(),
        scope_as_list: request.scope_format == Some(ScopeFormat::List),
        format: request.format,
        parameters: request.parameters.clone(),
        body_keys: request.body_keys.clone(),
        headers: request.headers.clone(),
        timeout: Duration::from(request.timeout).clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT),
        expressions: expressions(&spec.response)?,
        proxy: spec
            .connection
            .as_ref()
            .and_then(|connection| connection.proxy.as_deref())
            .map(|text| url("spec.connection.proxy", text))
            .transpose()?,
        dpop: spec.dpop.is_some(),
    })
}

fn kind(grant: GrantType, spec: &OAuthIntegrationSpec) -> Grant {
    match grant {
        GrantType::ClientCredentials => Grant::ClientCredentials,
        GrantType::UserPassword => Grant::UserPassword,
        GrantType::RefreshToken => Grant::RefreshToken,
        GrantType::Password => Grant::Password,
        GrantType::JwtBearer => Grant::JwtBearer(Box::new(spec.assertion.clone().unwrap_or_default())),
        GrantType::TokenExchange => Grant::TokenExchange(spec.token_exchange.clone().unwrap_or_default()),
    }
}

/// The refresh of what a grant brought (RFC 6749, section 6).
pub(super) fn refresh(grant: &Ask, spec: &OAuthIntegrationSpec) -> Result<Ask, String> {
    let other = spec.renewal.refresh.clone().unwrap_or_default();
    let Refresh { token_endpoint, format, parameters, body_keys } = other;
    Ok(Ask {
        endpoint: at(&grant.endpoint, "spec.renewal.refresh.tokenEndpoint", token_endpoint.as_deref())?,
        grant: Grant::RefreshToken,
        format: format.unwrap_or(grant.format),
        parameters: parameters.unwrap_or_else(|| grant.parameters.clone()),
        body_keys: body_keys.unwrap_or_else(|| grant.body_keys.clone()),
        ..grant.clone()
    })
}

/// The same request by another grant.
pub(super) fn fallback(ask: &Ask, spec: &OAuthIntegrationSpec, fallback: &Fallback) -> Result<Ask, String> {
    let Fallback { grant_type, token_endpoint } = fallback;
    Ok(Ask {
        endpoint: at(&ask.endpoint, "spec.renewal.fallback.tokenEndpoint", token_endpoint.as_deref())?,
        grant: kind((*grant_type).into(), spec),
        ..ask.clone()
    })
}

fn endpoint(spec: &OAuthIntegrationSpec) -> Result<Endpoint, String> {
    let audience = spec.issuer.as_ref().or(spec.token_endpoint.as_ref());
    let Some(audience) = audience.cloned() else {
        return Err("spec.tokenEndpoint or spec.issuer must be given".to_owned());
    };
    let field = if spec.token_endpoint.is_some() { "spec.tokenEndpoint" } else { "spec.issuer" };
    Ok(Endpoint {
        url: spec.token_endpoint.as_deref().map(|text| url("spec.tokenEndpoint", text)).transpose()?,
        issuer: spec.issuer.as_deref().map(|text| url("spec.issuer", text)).transpose()?,
        audience,
        field,
    })
}

/// The same endpoint, or another one of the same issuer.
fn at(endpoint: &Endpoint, field: &'static str, text: Option<&str>) -> Result<Endpoint, String> {
    let Some(text) = text else { return Ok(endpoint.clone()) };
    let audience = if endpoint.issuer.is_some() { endpoint.audience.clone() } else { text.to_owned() };
    Ok(Endpoint { url: Some(url(field, text)?), issuer: endpoint.issuer.clone(), audience, field })
}

pub(super) fn url(field: &str, text: &str) -> Result<Url, String> {
    let problem = |why: String| format!("{field} {why}: write an absolute http or https URL");
    let url = Url::parse(text).map_err(|error| problem(format!("is not a URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(problem(format!("has the scheme {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(problem("holds a user name, a password or a fragment".to_owned()));
    }
    Ok(url)
}

fn expressions(response: &Response) -> Result<Expressions, String> {
    let parse = |field: &str, text: &str| {
        Expression::parse(text)
            .map_err(|error| format!("spec.response.{field} is not a JSONata expression: {error}: correct it"))
    };
    let optional = |field: &str, text: &Option<String>| text.as_deref().map(|text| parse(field, text)).transpose();
    Ok(Expressions {
        access_token: parse("accessToken", &response.access_token)?,
        refresh_token: parse("refreshToken", &response.refresh_token)?,
        expires_in: parse("expiresIn", &response.expires_in)?,
        expires_at: optional("expiresAt", &response.expires_at)?,
        success: optional("success", &response.success)?,
        extra: response
            .extra
            .iter()
            .map(|(key, text)| Ok((key.clone(), parse(&format!("extra.{key}"), text)?)))
            .collect::<Result<_, String>>()?,
    })
}
