//! The parsed spec: the raw fields are parsed exactly once per reconciliation.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use url::Url;

use crate::api::duration;
use crate::api::renewal::RenewalStrategy;
use crate::api::request::Format;
use crate::api::revocation;
use crate::api::spec::OAuthIntegrationSpec;
use crate::api::target::DeletionPolicy;
use crate::limiter::types::{HostKey, PrivateSettings};
use crate::oauth::lifetime::RenewalTime;
use crate::oauth::request::TokenRequest;
use crate::spec::allow::Usage;
use crate::spec::endpoint::parse_http_url;
use crate::spec::hash::spec_hash;
use crate::spec::provider::{Origin, Provider};
use crate::spec::renewal::Renewal;
use crate::spec::sources::CredentialsSource;
use crate::spec::{allow, binding, connection_settings, provider, requests, sources};
use crate::target::template::SecretTemplate;

/// A valid spec.
#[derive(Clone, Debug)]
pub struct ValidatedSpec {
    /// The token request: the refresh request if refresh tokens are used.
    pub token_request: TokenRequest,
    /// How a token is obtained if the token request cannot be used: its refresh token was rejected, or there is none.
    pub renewal: Renewal,
    /// The maximum time for which a token is used.
    pub token_lifetime: Option<SignedDuration>,
    /// When a token is renewed.
    pub renewal_time: RenewalTime,
    /// The sources of the credentials.
    pub credentials: CredentialsSource,
    /// Name of the credentials Secret; without one, the origin of the token endpoint.
    pub credentials_name: String,
    /// The template of the target Secret.
    pub template: SecretTemplate,
    /// Token revocation.
    pub revocation: Option<RevocationPolicy>,
    /// Hash of the fields that determine which token is issued: while it is unchanged, a token counts as one "for the
    /// current spec".
    pub spec_hash: String,
    /// Hash of everything that determines where a stored token is sent.
    pub binding: String,
    /// Hash of the connection settings in the spec; `None` if it has none.
    connection_settings: Option<String>,
    /// Why the provider does not allow what the integration requests, if it does not.
    pub not_allowed: Option<String>,
}

/// A provider, and what its rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct ProviderUse<'a> {
    /// The provider.
    pub provider: &'a Provider,
    /// The namespace of the integration.
    pub namespace: &'a str,
    /// The labels of that; `None` if they are not known.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// The parsed `spec.revocation` (RFC 7009).
#[derive(Clone, Debug)]
pub struct RevocationPolicy {
    /// The endpoint, unless the issuer's metadata contains it.
    pub endpoint: Option<Url>,
    /// Its origin, if that is neither the token endpoint's nor the issuer's. Only the owner of the credentials can
    /// allow it: otherwise nothing is revoked, and renewals continue.
    pub foreign_origin: Option<String>,
    /// Format of the body.
    pub format: Format,
    /// How long after its renewal a token is revoked.
    pub after_renewal: Option<Duration>,
    /// Whether all tokens are revoked when the integration is deleted.
    pub on_deletion: bool,
}

impl ValidatedSpec {
    /// Parses the spec of an integration without a provider. `name` is the name of the integration, the default for the
    /// name of the target.
    ///
    /// # Errors
    ///
    /// A message that names the field to change.
    pub fn parse(name: &str, spec: &OAuthIntegrationSpec) -> Result<Self, String> {
        match &spec.provider_ref {
            None => Self::parse_resolved(name, spec, spec, None),
            Some(provider) => Err(format!("{provider} is not known")),
        }
    }

    /// Parses the spec of an integration together with its provider.
    ///
    /// # Errors
    ///
    /// A message that names the field to change.
    pub fn parse_with(name: &str, own: &OAuthIntegrationSpec, with: ProviderUse<'_>) -> Result<Self, String> {
        let ProviderUse { provider, namespace, labels } = with;
        let origin = &provider.origin;
        let resolved = provider::resolve(own, provider)?;
        let parsed = Self::parse_resolved(name, own, &resolved, Some(origin));
        let usage =
            Usage { namespace, labels, spec: &resolved, provider: &origin.reference, of_provider: &provider.spec };
        let not_allowed = allow::check(&provider.allow, &usage).err();
        // The field may be that of the provider.
        parsed
            .map(|parsed| Self { not_allowed, ..parsed })
            .map_err(|message| format!("together with {}: {message}", origin.reference))
    }

    /// `own` is the spec of the integration, and `spec` the one with the fields of its provider.
    fn parse_resolved(
        name: &str,
        own: &OAuthIntegrationSpec,
        spec: &OAuthIntegrationSpec,
        provider: Option<&Origin>,
    ) -> Result<Self, String> {
        let token_lifetime = spec.shared.token_lifetime.map(signed);
        let renew_before = spec.shared.renew_before.map(signed);
        if let (Some(lifetime), Some(before)) = (token_lifetime, renew_before)
            && before >= lifetime
        {
            return Err("spec.renewBefore must be shorter than spec.tokenLife".to_owned());
        }
        let grant = requests::grant_request(spec)?;
        let refresh_first =
            spec.shared.renewal.strategy == Some(RenewalStrategy::RefreshToken) && !grant.grant.is_refresh();
        let (token_request, renewal) = match &spec.shared.renewal.fallback {
            _ if refresh_first => (requests::refresh_request(&grant, spec)?, Renewal::RefreshFirst(grant)),
            Some(fallback) => {
                let fallback = requests::fallback_request(&grant, spec, fallback)?;
                (grant, Renewal::WithFallback(fallback))
            }
            None => (grant, Renewal::Grant),
        };
        for request in [Some(&token_request), renewal.fallback()].into_iter().flatten() {
            requests::check_query(request, spec.shared.request.secrets_in_query)?;
        }
        let credentials = sources::collect(own, spec, provider, &token_request, &renewal);
        Ok(Self {
            credentials_name: credentials.identity().unwrap_or_else(|| token_request.endpoint.origin()),
            credentials,
            token_request,
            renewal,
            token_lifetime,
            renewal_time: RenewalTime { before: renew_before, max_jitter: spec.shared.renewal.jitter.map(signed) },
            template: SecretTemplate::new(name, spec)?,
            revocation: revocation(spec)?,
            spec_hash: spec_hash(spec),
            binding: binding::binding(spec, provider),
            connection_settings: connection_settings::fingerprint(spec),
            not_allowed: None,
        })
    }

    /// The key of the endpoint in the limiter, for an integration in `namespace`.
    #[must_use]
    pub fn host_key(&self, namespace: &str) -> Option<HostKey> {
        let settings = self.connection_settings.clone();
        let owner = self.cache_owner(namespace);
        let is_shared = owner != namespace;
        let settings = settings.map(|fingerprint| PrivateSettings { namespace: owner, fingerprint, is_shared });
        Some(HostKey::new(self.token_request.endpoint.known()?, settings))
    }

    /// Whose connections and cached metadata are used, for an integration in `namespace`.
    #[must_use]
    pub fn cache_owner(&self, namespace: &str) -> String {
        self.credentials.provider.as_ref().map_or_else(|| namespace.to_owned(), Origin::cache_owner)
    }

    /// The maximum duration of one attempt, including its fallback.
    #[must_use]
    pub fn max_attempt_duration(&self) -> Duration {
        self.token_request.max_duration() + self.renewal.fallback().map_or(Duration::ZERO, TokenRequest::max_duration)
    }

    /// Whether no token can be requested without a refresh token.
    #[must_use]
    pub fn needs_refresh_token(&self) -> bool {
        self.token_request.grant.is_refresh() && self.renewal.fallback().is_none()
    }

    /// Whether a renewal needs the content of the target: a refresh token or a key to continue with, or a token to
    /// keep or to revoke.
    #[must_use]
    pub fn reads_target(&self) -> bool {
        self.token_request.grant.is_refresh()
            || self.token_request.dpop
            || self.template.keeps_previous_token()
            || self.revocation.as_ref().is_some_and(|revocation| revocation.after_renewal.is_some())
    }

    /// Whether the deletion of the integration must wait for the operator.
    #[must_use]
    pub fn revokes_on_deletion(&self) -> bool {
        self.revocation.as_ref().is_some_and(|revocation| revocation.on_deletion)
    }
}

fn revocation(spec: &OAuthIntegrationSpec) -> Result<Option<RevocationPolicy>, String> {
    let Some(revocation) = spec.shared.revocation.as_deref() else { return Ok(None) };
    let revocation::Revocation { endpoint, format, after_renewal, on_deletion } = revocation;
    if *on_deletion && spec.target.deletion_policy == Some(DeletionPolicy::Retain) {
        return Err(
            "spec.target.deletionPolicy Retain keeps the tokens that spec.revocation.onDeletion revokes: remove one of them"
                .to_owned(),
        );
    }
    if after_renewal.is_some() && spec.target.keys.previous_access_token.is_some() {
        return Err(
            "spec.revocation.afterRenewal revokes the token that spec.target.keys.previousAccessToken keeps: remove one of them"
                .to_owned(),
        );
    }
    let after_renewal = after_renewal.map(Duration::from);
    let lifetime = spec.shared.service_account_token.as_deref().map(sources::lifetime);
    if let (Some(after), Some(lifetime)) = (after_renewal, lifetime)
        && after >= lifetime
    {
        return Err(format!(
            "spec.revocation.afterRenewal must be shorter than spec.serviceAccountToken.lifetime ({lifetime:?}): the client authenticates with that token"
        ));
    }
    let endpoint = endpoint.as_deref().map(|text| parse_http_url("spec.revocation.endpoint", text)).transpose()?;
    if endpoint.is_none() && spec.shared.issuer.is_none() {
        return Err("spec.revocation.endpoint is required unless spec.issuer is set".to_owned());
    }
    let foreign_origin = binding::foreign_revocation(spec);
    let format = format.unwrap_or(Format::Form);
    Ok(Some(RevocationPolicy { endpoint, foreign_origin, format, after_renewal, on_deletion: *on_deletion }))
}

fn signed(duration: duration::Duration) -> SignedDuration {
    SignedDuration::try_from(Duration::from(duration)).unwrap_or(SignedDuration::MAX)
}
