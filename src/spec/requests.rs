//! The requests of a spec: its grant, the refresh, the fallback.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::api::client_authentication::ClientAuthenticationMethod;
use crate::api::grant::{AssertionLocation, GrantType};
use crate::api::headers::{is_reserved as is_reserved_header, is_reserved_for_secrets};
use crate::api::renewal::{Fallback, RefreshRequest};
use crate::api::request::{Format, Method, Request, ScopeFormat, SecretKey};
use crate::api::signed_jwt::SigningAlgorithm;
use crate::api::spec::OAuthIntegrationSpec;
use crate::oauth::expression::data;
use crate::oauth::expression::error::InvalidExpression;
use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::set::{ResponseMapping, data_field};
use crate::oauth::request::{Grant, TokenRequest};
use crate::spec::advice;
use crate::spec::endpoint::{endpoint, parse_http_url, with_token_endpoint};

/// The bounds of `spec.request.timeout`, which the API server also checks.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// The maximum size of all headers and of all parameters, names and values, in bytes.
const MAX_HEADERS: usize = 8 << 10;
const MAX_PARAMETERS: usize = 64 << 10;

/// The maximum nesting depth of claims and parameters: the API server cannot validate a value of any type.
const MAX_DEPTH: usize = 8;
/// The maximum size of claims as JSON: an assertion is sent in a request, often in a header.
const CLAIMS_SIZE: usize = 16 << 10;

/// The grant.
pub(crate) fn grant_request(spec: &OAuthIntegrationSpec) -> Result<TokenRequest, String> {
    check_claims(spec)?;
    let request = &spec.shared.request;
    Ok(TokenRequest {
        method: request.method.unwrap_or_default(),
        body: request.body.as_deref().map(|text| expression("request.body", text)).transpose()?,
        endpoint: endpoint(spec)?,
        grant: grant_of(spec.grant_type, spec),
        client: spec.shared.client_authentication.as_deref().cloned().unwrap_or_default(),
        resource: spec
            .shared
            .resource
            .as_ref()
            .map(|resource| (resource.key.clone(), resource.value.iter().chain(&resource.values).cloned().collect())),
        scope: spec.shared.scope.clone(),
        scope_as_list: request.scope_format == Some(ScopeFormat::List),
        format: format(spec),
        content_type: request.content_type.clone(),
        query: request.query.clone(),
        parameters: parameters("spec.request.parameters", &request.parameters)?,
        json_parameters: json_parameters(&request.parameters),
        parameters_from: parameters_from(request)?,
        parameter_names: request.parameter_names.clone(),
        headers: headers(&request.headers)?,
        headers_from: headers_from(spec)?,
        timeout: Duration::from(request.timeout).clamp(MIN_TIMEOUT, MAX_TIMEOUT),
        expressions: expressions(spec)?,
        proxy: spec
            .shared
            .connection
            .as_ref()
            .and_then(|connection| connection.proxy.as_deref())
            .map(|text| parse_http_url("spec.connection.proxy", text))
            .transpose()?,
        dpop: spec.shared.dpop.is_some(),
        client_certificate: spec.shared.connection.as_ref().is_some_and(|connection| connection.client_certificate),
    })
}

/// The body format of the grant. Servers with metadata follow RFC 6749, whose requests are forms. A query is encoded like a
/// form, and a body of the spec is built from JSON.
pub(crate) fn format(spec: &OAuthIntegrationSpec) -> Format {
    match &*spec.shared.request {
        Request { method: Some(Method::Get), .. } => return Format::Form,
        Request { body: Some(_), .. } => return Format::Json,
        _ => {}
    }
    let has_metadata = spec.shared.issuer.is_some() || spec.shared.protected_resource.is_some();
    spec.shared.request.format.unwrap_or(if has_metadata { Format::Form } else { Format::Json })
}

/// The API server also rejects this; files are checked only here.
pub(crate) fn check_query(request: &TokenRequest, may_contain_secrets: bool) -> Result<(), String> {
    if request.sends_query() && request.has_secret_parameters() && !may_contain_secrets {
        return Err(
            "spec.request.method GET would send a secret in the URL, which servers and proxies log: use POST, or, if the server accepts nothing else, set spec.request.secretsInQuery: true"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_claims(spec: &OAuthIntegrationSpec) -> Result<(), String> {
    let client = spec.shared.client_authentication.as_ref().and_then(|client| client.assertion.as_ref());
    if let Some(assertion) = client {
        check_size("spec.clientAuthentication.assertion.claims", assertion.claims.values())?;
    }
    let grant = spec.shared.assertion.iter().flat_map(|assertion| assertion.jwt.claims.values());
    check_size("spec.assertion.claims", grant)?;
    // The API server checks it for the client, whose algorithm depends on the method.
    let algorithm = spec.shared.assertion.as_ref().and_then(|assertion| assertion.jwt.algorithm);
    if spec.grant_type != GrantType::SelfSignedJwt && algorithm.is_some_and(SigningAlgorithm::is_symmetric) {
        return Err(
            "spec.assertion.algorithm must be one with a private key, such as RS256: change it, or use grantType self_signed_jwt"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_size<'a>(field: &str, values: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let (depth, size) =
        values.fold((0, 0), |(depth, size), value| (depth.max(nesting(value)), size + value.to_string().len()));
    if depth > MAX_DEPTH {
        return Err(format!("{field} is nested more than {MAX_DEPTH} levels deep: flatten it"));
    }
    if size > CLAIMS_SIZE {
        return Err(format!("{field} has more than {CLAIMS_SIZE} bytes as JSON: shorten it"));
    }
    Ok(())
}

/// The number of arrays and objects around the innermost value; parsed input has at most 40.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(nesting).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(nesting).max().unwrap_or_default(),
        _ => 0,
    }
}

fn grant_of(grant: GrantType, spec: &OAuthIntegrationSpec) -> Grant {
    match grant {
        GrantType::ClientCredentials => Grant::ClientCredentials,
        GrantType::UserPassword => Grant::UserPassword,
        GrantType::RefreshToken => Grant::RefreshToken,
        GrantType::Password => Grant::Password,
        GrantType::JwtBearer => Grant::JwtBearer(spec.shared.assertion.clone().unwrap_or_default()),
        GrantType::TokenExchange => Grant::TokenExchange(spec.token_exchange.as_deref().cloned().unwrap_or_default()),
        GrantType::SelfSignedJwt => {
            Grant::SelfSignedJwt(Box::new(spec.shared.assertion.clone().unwrap_or_default().jwt))
        }
    }
}

/// The request that refreshes the token of a grant (RFC 6749, section 6).
pub(crate) fn refresh_request(grant: &TokenRequest, spec: &OAuthIntegrationSpec) -> Result<TokenRequest, String> {
    let other = spec.shared.renewal.refresh.clone().unwrap_or_default();
    let RefreshRequest { token_endpoint, format, parameters, parameter_names } = other;
    if let Some(name) =
        grant.parameters_from.keys().find(|name| parameters.as_ref().is_some_and(|all| all.contains_key(*name)))
    {
        return Err(format!(
            "spec.renewal.refresh.parameters and spec.request.parametersFrom must not both contain {name}: remove it from one of them"
        ));
    }
    let json_parameters = parameters.as_ref().map_or_else(|| grant.json_parameters.clone(), json_parameters);
    Ok(TokenRequest {
        json_parameters,
        endpoint: with_token_endpoint(
            &grant.endpoint,
            "spec.renewal.refresh.tokenEndpoint",
            token_endpoint.as_deref(),
        )?,
        grant: Grant::RefreshToken,
        format: format.unwrap_or(grant.format),
        parameters: match parameters {
            Some(other) => self::parameters("spec.renewal.refresh.parameters", &other)?,
            None => grant.parameters.clone(),
        },
        parameter_names: parameter_names.unwrap_or_else(|| grant.parameter_names.clone()),
        ..grant.clone()
    })
}

/// The same request with another grant.
pub(crate) fn fallback_request(
    token_request: &TokenRequest,
    spec: &OAuthIntegrationSpec,
    fallback: &Fallback,
) -> Result<TokenRequest, String> {
    let Fallback { grant_type, token_endpoint } = fallback;
    Ok(TokenRequest {
        endpoint: with_token_endpoint(
            &token_request.endpoint,
            "spec.renewal.fallback.tokenEndpoint",
            token_endpoint.as_deref(),
        )?,
        grant: grant_of((*grant_type).into(), spec),
        ..token_request.clone()
    })
}

/// The texts of parameters. The API server cannot bound the size of values of any type.
fn parameters(field: &str, parameters: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, String> {
    if parameters.values().map(nesting).max().unwrap_or_default() > MAX_DEPTH {
        return Err(format!("{field} is nested more than {MAX_DEPTH} levels deep: flatten it"));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let texts = parameters.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    if size(&texts) > MAX_PARAMETERS {
        return Err(format!("{field} exceeds {} KiB in total: shorten it", MAX_PARAMETERS >> 10));
    }
    Ok(texts)
}

fn json_parameters(parameters: &BTreeMap<String, Value>) -> BTreeSet<String> {
    parameters.iter().filter(|(_, value)| !value.is_string()).map(|(name, _)| name.clone()).collect()
}

/// The size of names and values, in bytes.
fn size(texts: &BTreeMap<String, String>) -> usize {
    texts.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The API server also rejects these headers; files, and objects that are older than the rule, are checked only here.
fn headers(headers: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    if size(headers) > MAX_HEADERS {
        return Err(format!("spec.request.headers exceeds {} KiB in total: shorten it", MAX_HEADERS >> 10));
    }
    match headers.keys().find(|name| is_reserved_header(name)) {
        Some(name) => Err(format!(
            "spec.request.headers must not set {name}, which the request sets itself, or which carries a credential or changes how a gateway routes the request: remove it"
        )),
        None => Ok(headers.clone()),
    }
}

/// The API server cannot compare their names, because parameters may have any type.
fn parameters_from(request: &Request) -> Result<BTreeMap<String, String>, String> {
    match request.parameters_from.keys().find(|name| request.parameters.contains_key(*name)) {
        Some(name) => Err(format!(
            "spec.request.parameters and spec.request.parametersFrom must not both contain {name}: remove it from one of them"
        )),
        None => Ok(keys(&request.parameters_from)),
    }
}

fn keys(from: &BTreeMap<String, SecretKey>) -> BTreeMap<String, String> {
    from.iter().map(|(name, SecretKey { key })| (name.clone(), key.clone())).collect()
}

/// The API server cannot check whether a method sets the same header.
fn headers_from(spec: &OAuthIntegrationSpec) -> Result<BTreeMap<String, String>, String> {
    let from = &spec.shared.request.headers_from;
    if let Some(name) = from.keys().find(|name| is_reserved_for_secrets(name)) {
        return Err(format!(
            "spec.request.headersFrom must not set {name}, which the request sets itself, which servers log or repeat, or which changes how a gateway routes the request: remove it"
        ));
    }
    let basic = spec
        .shared
        .client_authentication
        .as_ref()
        .is_some_and(|client| client.method == ClientAuthenticationMethod::ClientSecretBasic);
    let bearer = spec
        .shared
        .assertion
        .as_ref()
        .is_some_and(|assertion| assertion.place == AssertionLocation::AuthorizationHeader);
    if (basic || bearer) && from.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
        return Err(
            "spec.request.headersFrom must not set Authorization, in which client_secret_basic or the assertion is sent: remove it, or change spec.clientAuthentication.method"
                .to_owned(),
        );
    }
    Ok(keys(from))
}

/// A worker checks whether it is valid before anything is sent.
fn expression(field: &str, text: &str) -> Result<Expression, String> {
    Expression::unchecked(text)
        .map_err(|error| advice::invalid_expression(&InvalidExpression { field: field.to_owned(), error }))
}

fn expressions(spec: &OAuthIntegrationSpec) -> Result<ResponseMapping, String> {
    let response = &spec.shared.response;
    let parse = |field: &str, text: &str| expression(&format!("response.{field}"), text);
    let optional = |field: &str, text: &Option<String>| text.as_deref().map(|text| parse(field, text)).transpose();
    let (response_data, computed_data) = data_expressions(spec)?;
    Ok(ResponseMapping {
        access_token: parse("accessToken", &response.access_token)?,
        refresh_token: parse("refreshToken", &response.refresh_token)?,
        expires_in: parse("expiresIn", &response.expires_in)?,
        expires_at: optional("expiresAt", &response.expires_at)?,
        refresh_token_expires_in: optional("refreshTokenExpiresIn", &response.refresh_token_expires_in)?,
        refresh_token_expires_at: optional("refreshTokenExpiresAt", &response.refresh_token_expires_at)?,
        success: optional("success", &response.success)?,
        invalid_grant: optional("invalidGrant", &response.invalid_grant)?,
        error: optional("error", &response.error)?,
        response_data,
        computed_data,
    })
}

type Expressions = BTreeMap<String, Expression>;

/// The expressions for the target: paths in the response, and all others.
fn data_expressions(spec: &OAuthIntegrationSpec) -> Result<(Expressions, Expressions), String> {
    let (mut of_response, mut computed) = (BTreeMap::new(), BTreeMap::new());
    for (key, text) in &spec.target.data {
        let field = data_field(key);
        let whole = expression(&field, text)?;
        if spec.target.refresh_token_secret_name.is_some() && data::names_refresh_token(text) {
            return Err(format!(
                "spec.{field} uses refresh_token, which spec.target.refreshTokenSecretName keeps out of the target: remove one of the two"
            ));
        }
        if let Some(path) = data::response_path(text).filter(|_| whole.is_path()) {
            of_response.insert(key.clone(), expression(&field, path)?);
            continue;
        }
        if let Some(name) = data::unknown_name(&whole) {
            return Err(format!(
                "spec.{field}: {text} is nothing, because there is no {name}: write response.{text} for a value of the response"
            ));
        }
        if data::needs_previous(&whole) && spec.target.keys.previous_access_token.is_none() {
            return Err(format!(
                "spec.{field} uses previous_access_token, which is not kept: set spec.target.keys.previousAccessToken"
            ));
        }
        computed.insert(key.clone(), whole);
    }
    Ok((of_response, computed))
}
