//! Resolution: an integration and its provider → the spec that the integration would have without a provider. Pure.
//!
//! Everything after this step reads one spec, and does not know where a field came from. What it must know is in
//! [`Origin`]: whose the client's Secret is.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use crate::api::credentials::{CredentialKeys, Credentials};
use crate::api::grant::{Assertion, GrantType};
use crate::api::provider::{ProviderKind, ProviderRef};
use crate::api::renewal::{Fallback, FallbackGrant, Renewal, RenewalStrategy};
use crate::api::request::{DEFAULT_RESOURCE_KEY, Request, Resource};
use crate::api::response::Response;
use crate::api::revocation::Revocation;
use crate::api::shared_spec::SharedSpec;
use crate::api::signed_jwt::SignedJwt;
use crate::api::spec::OAuthIntegrationSpec;
use crate::spec::allow::Allow;

/// The parameter that some servers use instead of `resource`.
const AUDIENCE: &str = "audience";

/// A provider, as integrations use it.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Whose objects the spec names.
    pub origin: Origin,
    /// The fields that it shares with integrations.
    pub spec: Arc<SharedSpec>,
    /// Who may use it.
    pub allow: Allow,
}

/// Which provider a spec comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The provider.
    pub reference: ProviderRef,
    /// Its uid.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// The namespace of the Secrets, ConfigMaps and ServiceAccounts that it names: its own, or, if it is cluster-scoped,
    /// that of the operator.
    pub namespace: String,
}

impl Origin {
    /// Whose connections and cached metadata are used, where the integrations of a namespace have their own: a name that
    /// no namespace can have, if namespaces share the provider.
    #[must_use]
    pub fn cache_owner(&self) -> String {
        match self.reference.kind {
            ProviderKind::Namespaced => self.namespace.clone(),
            ProviderKind::Cluster => format!("{}/{}", self.reference.kind.as_str(), self.reference.name),
        }
    }
}

/// The spec that an integration would have without its provider. Its `credentials` are those of the provider.
///
/// # Errors
///
/// A message that names the field that belongs to the provider, or that does not go with it.
pub(crate) fn resolve(spec: &OAuthIntegrationSpec, provider: &Provider) -> Result<OAuthIntegrationSpec, String> {
    let OAuthIntegrationSpec { grant_type, provider_ref, token_exchange, target, suspend, shared } = spec;
    let reference = &provider.origin.reference;
    check_fields(spec, reference)?;
    let of_provider = &*provider.spec;
    let renewal = renewal(*grant_type, &shared.renewal, &of_provider.renewal);
    let asserts = *grant_type == GrantType::JwtBearer
        || renewal.fallback.as_ref().is_some_and(|fallback| fallback.grant_type == FallbackGrant::JwtBearer);
    if of_provider.service_account_token.is_some() && shared.service_account_token.is_some() {
        return Err(format!(
            "spec.serviceAccountToken does not go with {reference}, which authenticates with a ServiceAccount token of its own: use tokenExchange.subjectTokenSource Secret"
        ));
    }
    Ok(OAuthIntegrationSpec {
        grant_type: *grant_type,
        provider_ref: provider_ref.clone(),
        token_exchange: token_exchange.clone(),
        target: target.clone(),
        suspend: *suspend,
        shared: SharedSpec {
            assertion: assertion(shared.assertion.as_deref(), of_provider.assertion.as_deref())
                .filter(|_| asserts)
                .map(Box::new),
            service_account_token: shared
                .service_account_token
                .clone()
                .or_else(|| of_provider.service_account_token.clone()),
            token_lifetime: shared.token_lifetime.or(of_provider.token_lifetime),
            renew_before: shared.renew_before.or(of_provider.renew_before),
            resource: resource(shared.resource.as_ref(), of_provider.resource.as_ref(), reference)?,
            scope: shared.scope.clone().or_else(|| of_provider.scope.clone()),
            revocation: revocation(shared.revocation.as_deref(), of_provider.revocation.as_deref(), reference)?
                .map(Box::new),
            renewal: renewal.into(),
            ..of_provider.clone()
        },
    })
}

/// The API server also rejects these fields; files, and objects that are older than the rules, are checked only here.
fn check_fields(spec: &OAuthIntegrationSpec, provider: &ProviderRef) -> Result<(), String> {
    let SharedSpec {
        token_endpoint,
        issuer,
        protected_resource,
        client_id,
        client_authentication,
        assertion,
        dpop,
        connection,
        credentials,
        request,
        response,
        renewal,
        revocation,
        // What is requested, and when.
        service_account_token: _,
        token_lifetime: _,
        renew_before: _,
        resource: _,
        scope: _,
    } = &spec.shared;
    let Renewal { refresh, fallback, strategy: _, jitter: _ } = &**renewal;
    if spec.grant_type == GrantType::SelfSignedJwt {
        return Err(format!(
            "spec.grantType self_signed_jwt does not go with {provider}: whoever chooses the claims of a JWT that the client signs can authenticate as the client"
        ));
    }
    let of_provider = [
        ("tokenEndpoint", token_endpoint.is_some()),
        ("issuer", issuer.is_some()),
        ("protectedResource", protected_resource.is_some()),
        ("clientId", client_id.is_some()),
        ("clientAuthentication", client_authentication.is_some()),
        ("connection", connection.is_some()),
        ("dpop", dpop.is_some()),
        ("request", **request != Request::default()),
        ("response", **response != Response::default()),
        ("renewal.refresh", refresh.is_some()),
        ("renewal.fallback.tokenEndpoint", fallback.as_ref().is_some_and(|fallback| fallback.token_endpoint.is_some())),
        ("revocation.endpoint", revocation.as_ref().is_some_and(|revocation| revocation.endpoint.is_some())),
        ("revocation.format", revocation.as_ref().is_some_and(|revocation| revocation.format.is_some())),
        ("assertion", assertion.as_ref().is_some_and(|assertion| !has_only_subject(assertion))),
        ("credentials.keys", credentials.as_ref().is_some_and(|credentials| names_client(&credentials.keys))),
    ];
    match of_provider.into_iter().find(|(_, is_set)| *is_set) {
        Some(("assertion", _)) => Err(format!(
            "all of spec.assertion except subject and from belongs to {provider}: remove it from the integration"
        )),
        Some(("credentials.keys", _)) => Err(format!(
            "all of spec.credentials.keys except username, password, refreshToken, subjectToken and actorToken belongs to {provider}: remove it from the integration"
        )),
        Some((field, _)) => Err(format!("spec.{field} belongs to {provider}: remove it from the integration")),
        None if spec.grant_type == GrantType::RefreshToken && credentials.is_none() => {
            Err(format!("spec.credentials must be set: {provider} has no refresh token of this integration"))
        }
        None => Ok(()),
    }
}

/// Whether an assertion contains only what is requested, and not how the client asserts it.
fn has_only_subject(assertion: &Assertion) -> bool {
    let Assertion { place, from: _, jwt } = assertion;
    let subject = jwt.subject.clone();
    place.is_body() && *jwt == SignedJwt { subject, ..SignedJwt::default() }
}

/// Whether a key of the client's credentials is named.
fn names_client(keys: &CredentialKeys) -> bool {
    let CredentialKeys { username, password, refresh_token, subject_token, actor_token, .. } = keys.clone();
    *keys
        != CredentialKeys { username, password, refresh_token, subject_token, actor_token, ..CredentialKeys::default() }
}

/// The assertion that is sent. A token of another integration is sent as it is.
fn assertion(own: Option<&Assertion>, of_provider: Option<&Assertion>) -> Option<Assertion> {
    let Some(Assertion { from, jwt, place: _ }) = own else { return of_provider.cloned() };
    let common = of_provider.cloned().unwrap_or_default();
    if from.is_some() {
        return Some(Assertion { place: common.place, from: from.clone(), jwt: SignedJwt::default() });
    }
    let subject = jwt.subject.clone().or(common.jwt.subject);
    Some(Assertion { jwt: SignedJwt { subject, ..common.jwt }, ..common })
}

/// The resource, under the parameter that the provider names: with another one, an integration could set any parameter.
fn resource(
    own: Option<&Resource>,
    of_provider: Option<&Resource>,
    provider: &ProviderRef,
) -> Result<Option<Resource>, String> {
    let Some(own) = own else { return Ok(of_provider.cloned()) };
    let key = match of_provider {
        Some(of_provider) if own.key == DEFAULT_RESOURCE_KEY => of_provider.key.clone(),
        None if own.key == AUDIENCE || own.key == DEFAULT_RESOURCE_KEY => own.key.clone(),
        Some(of_provider) if own.key == of_provider.key => own.key.clone(),
        Some(_) | None => {
            return Err(format!("spec.resource.key belongs to {provider}: remove it from the integration"));
        }
    };
    Ok(Some(Resource { key, ..own.clone() }))
}

/// Fields that do not apply to the grant are left out: those of the provider are for all grants.
fn renewal(grant: GrantType, own: &Renewal, of_provider: &Renewal) -> Renewal {
    let strategy = own.strategy.or(of_provider.strategy);
    let refreshes = grant == GrantType::RefreshToken;
    let is_first = strategy == Some(RenewalStrategy::RefreshToken) && !refreshes;
    let fallback = match (&own.fallback, &of_provider.fallback) {
        (Some(own), Some(of_provider)) if own.grant_type == of_provider.grant_type => Some(of_provider.clone()),
        (Some(own), _) => Some(Fallback { grant_type: own.grant_type, token_endpoint: None }),
        (None, of_provider) => of_provider.clone(),
    };
    Renewal {
        strategy: strategy.filter(|_| !refreshes),
        jitter: own.jitter.or(of_provider.jitter),
        refresh: of_provider.refresh.clone().filter(|_| is_first),
        fallback: fallback.filter(|_| refreshes),
    }
}

/// The provider says whether and where tokens are revoked, the integration when, if it says anything. A server may revoke
/// more than one token, and all integrations have the same client.
fn revocation(
    own: Option<&Revocation>,
    of_provider: Option<&Revocation>,
    provider: &ProviderRef,
) -> Result<Option<Revocation>, String> {
    match (own, of_provider) {
        (None, of_provider) => Ok(of_provider.cloned()),
        (Some(_), None) => Err(format!(
            "spec.revocation does not go with {provider}, which has no spec.revocation: remove it, or have its administrator add it"
        )),
        (Some(own), Some(Revocation { endpoint, format, after_renewal: _, on_deletion: _ })) => Ok(Some(Revocation {
            endpoint: endpoint.clone(),
            format: *format,
            after_renewal: own.after_renewal,
            on_deletion: own.on_deletion,
        })),
    }
}

/// The Secret with what belongs to the user and not to the client.
#[must_use]
pub(crate) fn user_credentials(spec: &OAuthIntegrationSpec) -> Option<&Credentials> {
    spec.shared.credentials.as_ref().filter(|_| spec.provider_ref.is_some())
}
