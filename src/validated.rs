//! The spec, parsed: what was written turned into what it means, exactly once for each look at it.

#![deny(clippy::disallowed_methods)]

mod asks;
mod sources;

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use url::Url;

use crate::api::{DeletionPolicy, Format, OAuthIntegrationSpec, Strategy};
use crate::fingerprint;
use crate::oauth::Ask;
use crate::target::Shape;

pub use sources::{CredentialsSource, Field, ServiceAccount};

/// The API server's own default for the least life of a ServiceAccount token, in seconds.
const SERVICE_ACCOUNT_TOKEN_LIFE: Duration = Duration::from_mins(10);

/// A spec that can work.
#[derive(Clone, Debug)]
pub struct Validated {
    /// What is asked of the endpoint: the refresh, where refresh tokens are used.
    pub ask: Ask,
    /// What is asked instead where a refresh token is refused, or where there is none.
    pub fallback: Option<Ask>,
    /// Whether the fallback is the grant itself, which is nothing to warn of.
    pub by_strategy: bool,
    /// How long a token is used at most.
    pub token_life: Option<SignedDuration>,
    /// How long before its end a token is renewed.
    pub renew_before: Option<SignedDuration>,
    /// Where the credentials stand.
    pub credentials: CredentialsSource,
    /// Name of the credentials Secret; where there is none, where the tokens come from.
    pub credentials_name: String,
    /// What the target Secret looks like.
    pub shape: Shape,
    /// Giving tokens back.
    pub revocation: Option<Revocation>,
    /// Fingerprint of the parts that produce a token: while it stays, a token is one "for the current spec".
    pub spec_hash: String,
}

/// Giving tokens back (RFC 7009).
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The endpoint, where the issuer's metadata do not tell it.
    pub endpoint: Option<Url>,
    /// Format of the body.
    pub format: Format,
    /// How long after its renewal a token is given back.
    pub after_renewal: Option<Duration>,
    /// Whether all are given back when the integration is deleted.
    pub on_deletion: bool,
}

impl Validated {
    /// Parses a spec. `name` is the integration's own, the default for the target's.
    ///
    /// # Errors
    ///
    /// A sentence that names the field to change.
    pub fn parse(name: &str, spec: &OAuthIntegrationSpec) -> Result<Self, String> {
        let token_life = spec.token_life.map(signed);
        let renew_before = spec.renew_before.map(signed);
        if let (Some(life), Some(before)) = (token_life, renew_before)
            && before >= life
        {
            return Err("spec.renewBefore must be shorter than spec.tokenLife".to_owned());
        }
        let grant = asks::grant(spec)?;
        let by_strategy = spec.renewal.strategy == Some(Strategy::RefreshToken) && !grant.grant.is_refresh();
        let (ask, fallback) = if by_strategy {
            (asks::refresh(&grant, spec)?, Some(grant))
        } else {
            let fallback = spec.renewal.fallback.as_ref();
            let fallback = fallback.map(|fallback| asks::fallback(&grant, spec, fallback)).transpose()?;
            (grant, fallback)
        };
        let secret_name = spec.credentials.as_ref().map(|credentials| credentials.secret_name.clone());
        Ok(Self {
            credentials_name: secret_name.unwrap_or_else(|| ask.endpoint.origin()),
            credentials: sources::of(spec, &ask, fallback.as_ref(), by_strategy),
            ask,
            fallback,
            by_strategy,
            token_life,
            renew_before,
            shape: Shape::new(name, spec),
            revocation: revocation(spec)?,
            spec_hash: spec_hash(spec),
        })
    }

    /// How long one attempt may take, with its fallback.
    #[must_use]
    pub fn longest_attempt(&self) -> Duration {
        self.ask.longest() + self.fallback.as_ref().map_or(Duration::ZERO, Ask::longest)
    }

    /// Whether nothing can be asked for without a refresh token.
    #[must_use]
    pub fn needs_refresh_token(&self) -> bool {
        self.ask.grant.is_refresh() && self.fallback.is_none()
    }

    /// Whether a renewal needs what the target holds: a refresh token or a key to go on with, or a token to give back.
    #[must_use]
    pub fn reads_target(&self) -> bool {
        self.ask.grant.is_refresh()
            || self.ask.dpop
            || self.revocation.as_ref().is_some_and(|revocation| revocation.after_renewal.is_some())
    }

    /// Whether the deletion of the integration has to wait for the operator.
    #[must_use]
    pub fn revokes_on_deletion(&self) -> bool {
        self.revocation.as_ref().is_some_and(|revocation| revocation.on_deletion)
    }
}

fn revocation(spec: &OAuthIntegrationSpec) -> Result<Option<Revocation>, String> {
    let Some(revocation) = &spec.revocation else { return Ok(None) };
    let crate::api::Revocation { endpoint, format, after_renewal, on_deletion } = revocation;
    if *on_deletion && spec.target.deletion_policy == Some(DeletionPolicy::Retain) {
        return Err(
            "spec.target.deletionPolicy Retain keeps what spec.revocation.onDeletion makes worthless: take one of them out"
                .to_owned(),
        );
    }
    let after_renewal = after_renewal.map(Duration::from);
    let lifetime = spec.service_account_token.as_ref().map(sources::lifetime);
    if let (Some(after), Some(lifetime)) = (after_renewal, lifetime)
        && after >= lifetime
    {
        return Err(format!(
            "spec.revocation.afterRenewal must be shorter than spec.serviceAccountToken.lifetime ({lifetime:?}): the client shows who it is by that token"
        ));
    }
    let endpoint = endpoint.as_deref().map(|text| asks::url("spec.revocation.endpoint", text)).transpose()?;
    if endpoint.is_none() && spec.issuer.is_none() {
        return Err("spec.revocation.endpoint must be given where there is no spec.issuer".to_owned());
    }
    let format = format.unwrap_or(Format::Form);
    Ok(Some(Revocation { endpoint, format, after_renewal, on_deletion: *on_deletion }))
}

/// What the token depends on; times and looks are left out. A rename of a target key counts, since the value under
/// the new one is not there yet. What is not given is not in it, so that a new field of the API changes no hash.
fn spec_hash(spec: &OAuthIntegrationSpec) -> String {
    let mut parts = json!({
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
    });
    let given = json!({
        "issuer": spec.issuer,
        "clientId": spec.client_id,
        "clientAuthentication": spec.client_authentication,
        "assertion": spec.assertion,
        "tokenExchange": spec.token_exchange,
        "serviceAccountToken": spec.service_account_token,
        "dpop": spec.dpop,
        "bodyKeys": (!spec.request.body_keys.is_empty()).then_some(&spec.request.body_keys),
        "scopeFormat": spec.request.scope_format,
    });
    let (Value::Object(all), Value::Object(given)) = (&mut parts, given) else { return fingerprint::plain(&parts) };
    all.extend(given.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>());
    fingerprint::plain(&parts)
}

fn signed(duration: crate::api::Duration) -> SignedDuration {
    SignedDuration::try_from(Duration::from(duration)).unwrap_or(SignedDuration::MAX)
}
