//! Whether a provider can be used: its Secret with the keys that the client needs, its CA bundle, and its metadata. Nothing
//! is requested from the token endpoint.

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
use crate::controller::observe::secrets;
use crate::controller::observe::secrets::Purpose;
use crate::controller::providers::store::Watched;
use crate::decision::observed::CredentialsState;
use crate::error_report::chain;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::http::connections::certificate_expiry;
use crate::spec::advice;
use crate::spec::allow::Allow;
use crate::spec::expiry::DeclaredExpiry;
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
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether the provider can be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.reason == Reason::ProviderReady
    }
}

/// Checks a provider.
pub(crate) async fn check(context: &Context, watched: &Watched) -> Checked {
    match try_check(context, watched).await {
        Ok(()) => Checked::new(
            Reason::ProviderReady,
            "its credentials exist and can be used, and its metadata was read; whether the server accepts them, the first token request shows",
        ),
        Err(found) => found,
    }
}

async fn try_check(context: &Context, watched: &Watched) -> Result<(), Checked> {
    let invalid = |message: String| Checked::new(Reason::InvalidSpec, message);
    let provider = watched.provider.as_ref().map_err(|message| invalid(message.clone()))?;
    let spec = sample(provider).map_err(invalid)?;
    let values = credentials(context, provider, &spec).await?;
    expiry(context, provider, &values)?;
    let reachable = context.oauth_client.check_endpoint(&spec.token_request, &values).await;
    reachable.map_err(|error| {
        let error = advice::explain(error);
        Checked::new(error.reason, error.message)
    })
}

/// The spec of an integration that uses the client of the provider, and nothing else.
fn sample(provider: &Provider) -> Result<ValidatedSpec, String> {
    let own = OAuthIntegrationSpec {
        grant_type: GrantType::ClientCredentials,
        provider_ref: Some(provider.origin.reference.clone()),
        token_exchange: None,
        target: Target::default(),
        suspend: false,
        shared: SharedSpec::default(),
    };
    let provider = Provider { allow: Allow::All, ..provider.clone() };
    ValidatedSpec::parse_with("provider", &own, ProviderUse { provider: &provider, namespace: "", labels: None })
}

async fn credentials(context: &Context, provider: &Provider, spec: &ValidatedSpec) -> Result<Credentials, Checked> {
    let (shared, origin) = (&provider.spec, &provider.origin);
    if shared.credentials.is_none() && shared.service_account_token.is_none() {
        // A client without credentials, or one whose integrations have those of a user.
        let mut none = Credentials::default();
        none.cache_owner = origin.cache_owner();
        return Ok(none);
    }
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &origin.namespace);
    match secrets::read(context, &secrets, spec, Purpose::Request).await {
        Ok(CredentialsState::Resolved(values, _)) => Ok(values.as_ref().clone()),
        Ok(CredentialsState::Missing(message)) => Err(Checked::new(Reason::CredentialsMissing, message)),
        Ok(CredentialsState::Invalid(message)) => Err(Checked::new(Reason::CredentialsInvalid, message)),
        Ok(CredentialsState::AccessDenied(message)) => Err(Checked::new(Reason::CredentialsAccessDenied, message)),
        Ok(CredentialsState::DependencyMissing(message)) => Err(Checked::new(Reason::DependencyMissing, message)),
        Ok(CredentialsState::NotRead(_)) => Err(Checked::new(Reason::CredentialsMissing, "not read yet")),
        Err(error) => Err(Checked::new(Reason::DependencyMissing, chain(&error))),
    }
}

fn expiry(context: &Context, provider: &Provider, values: &Credentials) -> Result<(), Checked> {
    let secret = provider.spec.credentials.as_ref().map(|credentials| credentials.secret_name.clone());
    let Some(secret) = secret else { return Ok(()) };
    let facts = context.secret_references.facts(&(provider.origin.namespace.clone(), secret.clone()));
    let declared = match facts.map(|facts| facts.expiry) {
        Some(DeclaredExpiry::At(at)) => Some(at),
        Some(DeclaredExpiry::None | DeclaredExpiry::Invalid) | None => None,
    };
    let certificate = values.get(Credential::TlsCertificate).and_then(|pem| certificate_expiry(pem.expose_secret()));
    let expires = |at: Timestamp| at.duration_since(now()) < EXPIRING;
    match [declared, certificate].into_iter().flatten().min().filter(|at| expires(*at)) {
        Some(at) => Err(Checked::new(
            Reason::CredentialsExpiring,
            format!("the credentials in Secret {secret} expire at {at}: replace them"),
        )),
        None => Ok(()),
    }
}
