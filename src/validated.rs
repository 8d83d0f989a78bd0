//! The spec, parsed: what was written turned into what it means, exactly once for each look at it.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use jiff::SignedDuration;
use secrecy::ExposeSecret;
use serde_json::json;
use url::Url;

use crate::api::{Fallback, FallbackGrant, GrantType, OAuthIntegrationSpec, Response};
use crate::fingerprint;
use crate::oauth::{Ask, Credentials, Expression, Expressions};
use crate::target::Shape;

/// The bounds of `spec.request.timeout`, which the API server checks as well.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A spec that can work.
#[derive(Clone, Debug)]
pub struct Validated {
    /// What is asked of the endpoint.
    pub ask: Ask,
    /// What is asked instead where a refresh token is refused, or where there is none.
    pub fallback: Option<Ask>,
    /// How long a token is used at most.
    pub token_life: Option<SignedDuration>,
    /// How long before its end a token is renewed.
    pub renew_before: Option<SignedDuration>,
    /// Where the credentials stand.
    pub credentials: CredentialsSource,
    /// What the target Secret looks like.
    pub shape: Shape,
    /// Fingerprint of the parts that produce a token: while it stays, a token is one "for the current spec".
    pub spec_hash: String,
}

/// The credentials Secret and its keys.
#[derive(Clone, Debug)]
pub struct CredentialsSource {
    /// Name of the Secret.
    pub secret_name: String,
    /// The values that may be sent.
    pub fields: [Field; 5],
}

/// One value of the credentials Secret.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its member in `spec.credentials.keys`.
    pub name: &'static str,
    /// Its key in the Secret.
    pub key: String,
    /// Whether the grant cannot do without.
    pub required: bool,
    /// Whether the grant sends it at all.
    pub sent: bool,
}

impl Validated {
    /// Parses a spec. `name` is the integration's own, the default for the target's.
    ///
    /// # Errors
    ///
    /// A sentence that names the field to change.
    pub fn parse(name: &str, spec: &OAuthIntegrationSpec) -> Result<Self, String> {
        let endpoint = endpoint("spec.tokenEndpoint", &spec.token_endpoint)?;
        let token_life = spec.token_life.map(signed);
        let renew_before = spec.renew_before.map(signed);
        if let (Some(life), Some(before)) = (token_life, renew_before)
            && before >= life
        {
            return Err("spec.renewBefore must be shorter than spec.tokenLife".to_owned());
        }
        let ask = Ask {
            endpoint,
            grant: spec.grant_type,
            resource: spec.resource.as_ref().map(|resource| (resource.key.clone(), resource.value.clone())),
            scope: spec.scope.clone(),
            format: spec.request.format,
            parameters: spec.request.parameters.clone(),
            headers: spec.request.headers.clone(),
            timeout: Duration::from(spec.request.timeout).clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT),
            expressions: expressions(&spec.response)?,
        };
        Ok(Self {
            fallback: spec.renewal.fallback.as_ref().map(|fallback| fallback_ask(&ask, fallback)).transpose()?,
            ask,
            token_life,
            renew_before,
            credentials: credentials(spec),
            shape: Shape::new(name, spec),
            spec_hash: spec_hash(spec),
        })
    }
}

impl Validated {
    /// How long one attempt may take, with its fallback.
    #[must_use]
    pub fn longest_attempt(&self) -> Duration {
        self.ask.timeout + self.fallback.as_ref().map_or(Duration::ZERO, |fallback| fallback.timeout)
    }

    /// Whether nothing can be asked for without a refresh token.
    #[must_use]
    pub fn needs_refresh_token(&self) -> bool {
        self.ask.grant == GrantType::RefreshToken && self.fallback.is_none()
    }
}

/// The same request by another grant.
fn fallback_ask(ask: &Ask, fallback: &Fallback) -> Result<Ask, String> {
    let Fallback { grant_type, token_endpoint } = fallback;
    let endpoint = match token_endpoint {
        Some(text) => endpoint("spec.renewal.fallback.tokenEndpoint", text)?,
        None => ask.endpoint.clone(),
    };
    let grant = match grant_type {
        FallbackGrant::UserPassword => GrantType::UserPassword,
        FallbackGrant::ClientCredentials => GrantType::ClientCredentials,
    };
    Ok(Ask { endpoint, grant, ..ask.clone() })
}

fn endpoint(field: &str, text: &str) -> Result<Url, String> {
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
    Ok(Expressions {
        access_token: parse("accessToken", &response.access_token)?,
        refresh_token: parse("refreshToken", &response.refresh_token)?,
        expires_in: parse("expiresIn", &response.expires_in)?,
    })
}

/// A key that is named in the spec has to be there; of those that are not, only what the grant cannot do without.
fn credentials(spec: &OAuthIntegrationSpec) -> CredentialsSource {
    let keys = &spec.credentials.keys;
    let field = |name, key: &Option<String>, default: &str, use_: Use| Field {
        name,
        required: use_ == Use::Required || (use_ == Use::Optional && key.is_some()),
        sent: use_ != Use::Never,
        key: key.clone().unwrap_or_else(|| default.to_owned()),
    };
    // A fallback that cannot be used is no reason to stop what works without it.
    let login = match spec.renewal.fallback.as_ref().map(|fallback| fallback.grant_type) {
        Some(FallbackGrant::UserPassword) => Use::Optional,
        Some(FallbackGrant::ClientCredentials) | None => Use::Never,
    };
    let [client_id, client_secret, username, password, refresh_token] = match spec.grant_type {
        GrantType::ClientCredentials => [Use::Required, Use::Required, Use::Never, Use::Never, Use::Never],
        GrantType::UserPassword => [Use::Never, Use::Never, Use::Required, Use::Required, Use::Never],
        // A public client has no secret (RFC 6749, section 2.1), and after the first renewal the refresh token
        // of the target Secret is the one that counts.
        GrantType::RefreshToken => [Use::Required, Use::Optional, login, login, Use::First],
    };
    CredentialsSource {
        secret_name: spec.credentials.secret_name.clone(),
        fields: [
            field("clientId", &keys.client_id, "client_id", client_id),
            field("clientSecret", &keys.client_secret, "client_secret", client_secret),
            field("username", &keys.username, "username", username),
            field("password", &keys.password, "password", password),
            field("refreshToken", &keys.refresh_token, "refresh_token", refresh_token),
        ],
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Use {
    Required,
    Optional,
    /// Needed until there is another.
    First,
    Never,
}

/// What the token depends on; times and looks are left out. A rename of a target key counts, since the value under
/// the new one is not there yet.
fn spec_hash(spec: &OAuthIntegrationSpec) -> String {
    fingerprint::plain(&json!({
        "tokenEndpoint": spec.token_endpoint,
        "grantType": spec.grant_type,
        "tokenLife": spec.token_life,
        "resource": spec.resource,
        "scope": spec.scope,
        "format": spec.request.format,
        "parameters": spec.request.parameters,
        "headers": spec.request.headers,
        "response": spec.response,
        "targetKeys": spec.target.keys,
    }))
}

/// What is hashed of credentials: everything but the refresh token, which is followed on its own.
#[must_use]
pub fn hashed_parts(credentials: &Credentials) -> [&str; 4] {
    let Credentials { client_id, client_secret, username, password, refresh_token: _ } = credentials;
    [client_id, client_secret, username, password].map(|value| value.as_ref().map_or("", |value| value.expose_secret()))
}

fn signed(duration: kube::core::Duration) -> SignedDuration {
    SignedDuration::try_from(Duration::from(duration)).unwrap_or(SignedDuration::MAX)
}
