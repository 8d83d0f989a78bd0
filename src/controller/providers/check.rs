//! Whether a provider can be used: its Secret with the keys that the client needs, its CA bundle, and its metadata. Nothing
//! is requested from the token endpoint.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use secrecy::ExposeSecret;

use crate::api::grant::GrantType;
use crate::api::reason::Reason;
use crate::api::shared_spec::SharedSpec;
use crate::api::spec::OAuthIntegrationSpec;
use crate::api::target::Target;
use crate::clock::now;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::read_error::ReadError;
use crate::controller::observe::secrets;
use crate::controller::observe::secrets::Purpose;
use crate::controller::providers::store::{ProviderKey, Watched};
use crate::controller::providers::watch;
use crate::decision::observed::CredentialsState;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::http::connections::certificate_expiry;
use crate::spec::advice;
use crate::spec::allow::Allow;
use crate::spec::credentials_version;
use crate::spec::provider::Provider;
use crate::spec::validated::{ProviderUse, ValidatedSpec};

/// Credentials that expire within this time make a provider not ready.
const EXPIRING: SignedDuration = SignedDuration::from_hours(3 * 24);

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Checked {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether the provider can be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.reason == Reason::ProviderReady
    }
}

/// The API server did not say anything: what was reported stays.
pub(crate) struct NotKnown;

/// Why a check has ended early.
enum End {
    Found(Checked),
    NotKnown,
}

/// Checks a provider, and triggers its integrations if what it names besides its Secret has changed. `credentials_expire_at` is
/// set as soon as it is known: by the annotation of their Secret or by the client certificate, the earlier one if both are known.
///
/// # Errors
///
/// If the API server could not be asked.
pub(crate) async fn check(
    context: &Context,
    key: &ProviderKey,
    watched: &Watched,
    credentials_expire_at: &mut Option<Timestamp>,
) -> Result<Checked, NotKnown> {
    match try_check(context, key, watched, credentials_expire_at).await {
        Ok(()) => Ok(Checked::new(
            Reason::ProviderReady,
            "everything that the provider names exists and can be used; only a token request shows whether the server accepts the client",
        )),
        Err(End::Found(found)) => Ok(found),
        Err(End::NotKnown) => Err(NotKnown),
    }
}

async fn try_check(
    context: &Context,
    key: &ProviderKey,
    watched: &Watched,
    credentials_expire_at: &mut Option<Timestamp>,
) -> Result<(), End> {
    let set_trust = |trust: Option<&str>| {
        let users = context.providers.set_trust(key, watched, trust.map(ToOwned::to_owned));
        watch::trigger(context, users);
    };
    let invalid = |message: String| End::Found(Checked::new(Reason::InvalidSpec, message));
    let provider = watched.provider.as_ref().map_err(|message| invalid(message.clone()))?;
    // Also if the credentials cannot be used.
    *credentials_expire_at = declared_expiry(context, provider);
    let spec = sample(provider, GrantType::ClientCredentials).map_err(invalid)?;
    let found = match credentials(context, provider, &spec).await {
        // Its client may only sign assertions.
        Err(End::Found(missing)) if missing.reason == Reason::CredentialsMissing => {
            let signing = sample(provider, GrantType::JwtBearer).map_err(invalid)?;
            let needs_other_keys = |(values, _): &(Credentials, String)| values.has(Credential::PrivateKey);
            let signing = credentials(context, provider, &signing).await.ok().filter(needs_other_keys);
            signing.ok_or(End::Found(missing))
        }
        found => found,
    };
    if matches!(found, Err(End::Found(_))) {
        set_trust(None);
    }
    let (values, version) = found?;
    set_trust(credentials_version::trust_of(&version));
    let certificate = values.get(Credential::TlsCertificate).and_then(|pem| certificate_expiry(pem.expose_secret()));
    // The annotation again: it may be known only since the Secret was read.
    *credentials_expire_at = [declared_expiry(context, provider), certificate].into_iter().flatten().min();
    check_expiry(provider, *credentials_expire_at)?;
    match context.oauth_client.check_endpoint(&spec.token_request, &values).await {
        // Its integrations have the credentials of users, whose owners say where these may be sent.
        Err(error) if error.reason == Reason::EndpointNotAllowed && values.is_anonymous() => Ok(()),
        Err(error) => {
            let error = advice::explain(error);
            Err(End::Found(Checked::new(error.reason, error.message)))
        }
        Ok(()) => Ok(()),
    }
}

/// The spec of an integration that uses the client of the provider, and nothing else.
fn sample(provider: &Provider, grant_type: GrantType) -> Result<ValidatedSpec, String> {
    // A SMART server has no default; it is not sent.
    let scope = provider.spec.protected_resource.as_ref().map(|_| "any".to_owned());
    let own = OAuthIntegrationSpec {
        grant_type,
        provider_ref: Some(provider.origin.reference.clone()),
        token_exchange: None,
        target: Target::default(),
        suspend: false,
        shared: SharedSpec { scope, ..SharedSpec::default() },
    };
    let provider = Provider { allow: Allow::All, ..provider.clone() };
    ValidatedSpec::parse_with("provider", &own, ProviderUse { provider: &provider, namespace: "", labels: None })
}

async fn credentials(
    context: &Context,
    provider: &Provider,
    spec: &ValidatedSpec,
) -> Result<(Credentials, String), End> {
    let (shared, origin) = (&provider.spec, &provider.origin);
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &origin.namespace);
    let found = |reason, message| Err(End::Found(Checked::new(reason, message)));
    let read = if shared.credentials.is_none() && shared.service_account_token.is_none() {
        // A client without credentials, or one whose integrations have those of a user.
        without_credentials(context, &secrets, provider).await
    } else {
        secrets::read(context, &secrets, spec, Purpose::Request).await
    };
    match read {
        Ok(CredentialsState::Resolved(values, version)) => Ok((values.as_ref().clone(), version)),
        Ok(CredentialsState::Missing(message)) => found(Reason::CredentialsMissing, message),
        Ok(CredentialsState::Invalid(message)) => found(Reason::CredentialsInvalid, message),
        Ok(CredentialsState::AccessDenied(message)) => found(Reason::CredentialsAccessDenied, message),
        Ok(CredentialsState::DependencyMissing(message)) => found(Reason::DependencyMissing, message),
        Ok(CredentialsState::NotRead(_)) | Err(_) => Err(End::NotKnown),
    }
}

async fn without_credentials(
    context: &Context,
    secrets: &Api<Secret>,
    provider: &Provider,
) -> Result<CredentialsState, Error> {
    let mut values = Credentials::default();
    values.cache_owner = provider.origin.cache_owner();
    let bundle = provider.spec.connection.as_ref().and_then(|connection| connection.ca_bundle.as_ref());
    if let Some(bundle) = bundle {
        match secrets::read_ca_bundle(context, secrets, &values.cache_owner, bundle).await {
            Ok(bundle) => values.ca_bundle = Some(bundle),
            Err(ReadError::Unavailable(state)) => return Ok(state),
            Err(ReadError::Failed(error)) => return Err(error),
        }
    }
    let version = secrets::with_trust(secrets::NO_SECRET.to_owned(), &values, None);
    Ok(CredentialsState::Resolved(Arc::new(values), version))
}

/// When the credentials expire by the annotation of their Secret.
fn declared_expiry(context: &Context, provider: &Provider) -> Option<Timestamp> {
    let secret = provider.spec.credentials.as_ref()?.secret_name.clone();
    context.secret_references.facts(&(provider.origin.namespace.clone(), secret))?.expiry.at()
}

fn check_expiry(provider: &Provider, expires: Option<Timestamp>) -> Result<(), End> {
    let Some(credentials) = &provider.spec.credentials else { return Ok(()) };
    match expires.filter(|at| at.duration_since(now()) < EXPIRING) {
        Some(at) => Err(End::Found(Checked::new(
            Reason::CredentialsExpiring,
            format!("the credentials in Secret {} expire at {at}: replace them", credentials.secret_name),
        ))),
        None => Ok(()),
    }
}
