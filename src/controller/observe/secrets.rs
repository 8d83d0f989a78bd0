//! Reads the inputs of a request: the credentials Secret, the custom CA bundle, and a ServiceAccount token.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::core::Status;
use secrecy::SecretString;

use crate::api::connection::{CaBundle, CaBundleKind};
use crate::api::provider::ProviderKind;
use crate::controller::cache::references::SecretFacts;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::chains;
use crate::controller::observe::key_files;
use crate::controller::observe::key_files::Given;
use crate::controller::observe::read_error::ReadError;
use crate::controller::providers::secrets::SharedSecret;
use crate::decision::observed::CredentialsState;
use crate::kube_api::call;
use crate::kube_api::call::{ApiError, with_timeout};
use crate::oauth::credentials::Credentials;
use crate::oauth::http::custom_ca::CustomCa;
use crate::spec::advice;
use crate::spec::provider::Origin;
use crate::spec::sources::CredentialsSource;
use crate::spec::validated::ValidatedSpec;
use crate::spec::{credentials, credentials_version, sources};

/// The version of credentials without a Secret.
pub const NO_SECRET: &str = "none";

/// What the inputs are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A token request.
    Request,
    /// The revocation of stored tokens.
    Revocation,
}

/// Reads the inputs, with one call for each object that the spec references.
///
/// # Errors
///
/// When a call fails for a reason other than a missing object or a missing permission.
pub(crate) async fn read(
    context: &Context,
    secrets: &Api<Secret>,
    spec: &ValidatedSpec,
    purpose: Purpose,
) -> Result<CredentialsState, Error> {
    match read_all(context, secrets, spec, purpose).await {
        Ok((values, version)) => Ok(CredentialsState::Resolved(Arc::new(values), version)),
        Err(ReadError::Unavailable(state)) => Ok(state),
        Err(ReadError::Failed(error)) => Err(error),
    }
}

async fn read_all(
    context: &Context,
    secrets: &Api<Secret>,
    spec: &ValidatedSpec,
    purpose: Purpose,
) -> Result<(Credentials, String), ReadError> {
    let source = &spec.credentials;
    let namespace = secrets.namespace().unwrap_or_default();
    let (given, mut version) = read_secrets(context, secrets, source).await?;
    let values = key_files::resolve(&context.key_derivation, namespace, source, given).await;
    let mut values = values.map_err(|unresolved| ReadError::Unavailable(unresolved.into()))?;
    namespace.clone_into(&mut values.tenant);
    values.cache_owner = spec.cache_owner(namespace);
    if let Some(bundle) = &source.ca_bundle {
        let of_provider = Api::namespaced(context.client.clone(), source.namespace(namespace));
        values.ca_bundle = Some(read_ca_bundle(context, &of_provider, &values.cache_owner, bundle).await?);
    }
    let mut account_meta = None;
    if let Some(account) = &source.service_account {
        let namespace = if account.of_provider { source.namespace(namespace) } else { namespace };
        let (token, meta) = request_token(context, namespace, account).await?;
        values.service_account_token = Some(token);
        let name = format!("ServiceAccount {}", account.name);
        credentials::apply_allowed_endpoints(&mut values, &name, None, &meta).map_err(ReadError::invalid)?;
        account_meta = account.of_provider.then_some(meta);
    }
    if source.provider.is_some() {
        version = with_trust(version, &values, account_meta.as_ref());
    }
    let Some(token) = &source.chained else { return Ok((values, version)) };
    // Boxed, because few integrations need it.
    match Box::pin(chains::read(context, secrets, &mut values, &version, token)).await {
        Ok(version) => Ok((values, version)),
        // A revocation does not send it.
        Err(ReadError::Unavailable(_)) if purpose == Purpose::Revocation => Ok((values, version)),
        Err(error) => Err(error),
    }
}

/// Adds what a provider names besides its Secret to the version of its credentials.
pub(crate) fn with_trust(version: String, values: &Credentials, account: Option<&ObjectMeta>) -> String {
    let pem = values.ca_bundle.as_ref().map(|bundle| &*bundle.pem);
    credentials_version::with_trust(version, Some(&credentials_version::trust(pem, account)))
}

/// Reads the Secret of the integration, or those of its provider and of its user.
async fn read_secrets(
    context: &Context,
    secrets: &Api<Secret>,
    source: &CredentialsSource,
) -> Result<(Given, String), ReadError> {
    let namespace = source.namespace(secrets.namespace().unwrap_or_default());
    let of_client = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let (main, version) = match &source.secret_name {
        Some(name) => {
            let (secret, version) = read_secret(context, &of_client, name, source.provider.as_ref()).await?;
            (Some(secret), version)
        }
        None => (None, NO_SECRET.to_owned()),
    };
    let Some(user) = &source.user_secret_name else { return Ok((Given { main, user: None }, version)) };
    let (user, of_user) = read_secret(context, secrets, user, None).await?;
    Ok((Given { main, user: Some(user) }, credentials_version::both(&version, &of_user)))
}

/// Reads one Secret; that of a cluster-scoped provider once for all integrations that are renewed together.
async fn read_secret(
    context: &Context,
    secrets: &Api<Secret>,
    name: &str,
    provider: Option<&Origin>,
) -> Result<(Arc<SharedSecret>, String), ReadError> {
    let key = (secrets.namespace().unwrap_or_default().to_owned(), name.to_owned());
    let is_shared = provider.is_some_and(|provider| provider.reference.kind == ProviderKind::Cluster);
    let found = if is_shared {
        let known = || context.secret_references.facts(&key).map(|facts| facts.version);
        context.provider_secrets.get(secrets, name, known).await
    } else {
        with_timeout(secrets.get_opt(name)).await.map(|found| found.map(|secret| Arc::new(SharedSecret(secret))))
    };
    match found {
        Ok(Some(secret)) => {
            let facts = SecretFacts::of(&secret.0.metadata);
            context.secret_references.record_read(&key, facts);
            Ok((secret, facts.version.to_string()))
        }
        Ok(None) => Err(ReadError::missing(match provider {
            None => credentials::missing_secret_message(name),
            Some(provider) => credentials::missing_provider_secret_message(name, provider),
        })),
        Err(error) if is_forbidden(&error) => Err(ReadError::denied(format!(
            "the operator is not allowed to read Secret {name}: grant its ServiceAccount the permission to get it"
        ))),
        Err(error) if error.is_too_large() => {
            Err(ReadError::denied(format!("Secret {name} is too large to be read: keep only the credentials in it")))
        }
        Err(source) => {
            Err(ReadError::Failed(Error::ReadCredentials { name: name.to_owned(), source: Box::new(source) }))
        }
    }
}

pub(crate) async fn read_ca_bundle(
    context: &Context,
    secrets: &Api<Secret>,
    cache_owner: &str,
    bundle: &CaBundle,
) -> Result<CustomCa, ReadError> {
    let CaBundle { kind, name, key } = bundle;
    let found = match kind {
        CaBundleKind::Secret => with_timeout(secrets.get_opt(name)).await.map(|found| {
            found.map(|mut secret| {
                let bytes = secret.data.as_ref().and_then(|data| data.get(key));
                let pem = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
                call::wipe(&mut secret);
                pem
            })
        }),
        CaBundleKind::ConfigMap => {
            let namespace = secrets.namespace().unwrap_or_default();
            let config_maps = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
            let found = with_timeout(config_maps.get_opt(name)).await;
            found.map(|found| found.map(|config_map| config_map.data.as_ref().and_then(|data| data.get(key)).cloned()))
        }
    };
    match found {
        Ok(Some(Some(pem))) => {
            let ca = CustomCa::from(pem);
            let checked = context.oauth_client.check_ca_bundle(cache_owner, &ca).await;
            checked.map_err(|error| ReadError::dependency_missing(advice::explain(error).message))?;
            Ok(ca)
        }
        Ok(Some(None)) => Err(ReadError::dependency_missing(format!(
            "{kind:?} {name} has no text under key {key}: add the certificates as PEM, or name another key in spec.connection.caBundle.key"
        ))),
        Ok(None) => Err(ReadError::dependency_missing(format!(
            "{kind:?} {name} does not exist in this namespace: create it, or name another in spec.connection.caBundle.name"
        ))),
        Err(error) if is_forbidden(&error) => Err(ReadError::denied(format!(
            "the operator is not allowed to read {kind:?} {name}: grant its ServiceAccount the permission to get it"
        ))),
        Err(error) if error.is_too_large() => Err(ReadError::dependency_missing(format!(
            "{kind:?} {name} is too large to be read: keep only the CAs of the endpoint in it"
        ))),
        Err(source) => Err(ReadError::Failed(Error::ReadCaBundle { name: name.clone(), source: Box::new(source) })),
    }
}

/// Requests a ServiceAccount token from the API server (TokenRequest), but never one for the API server itself: users
/// who may write an integration could send it to their own server, and impersonate that ServiceAccount.
async fn request_token(
    context: &Context,
    namespace: &str,
    account: &sources::ServiceAccount,
) -> Result<(SecretString, ObjectMeta), ReadError> {
    let sources::ServiceAccount { name, audience, lifetime, of_provider: _ } = account;
    let accounts = Api::<ServiceAccount>::namespaced(context.client.clone(), namespace);
    let request = |audiences: Vec<String>| TokenRequest {
        spec: TokenRequestSpec {
            audiences,
            expiration_seconds: i64::try_from(lifetime.as_secs()).ok(),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let create = async |audiences: Vec<String>| {
        with_timeout(accounts.create_token_request(name, &PostParams::default(), &request(audiences))).await
    };
    let failed = |error: ApiError| service_account_error(name, error);
    // Without an audience, the API server uses its own, and returns it.
    let own = context.api_audiences.get_or_try_init(async || create(Vec::new()).await.map(|own| own.spec.audiences));
    if own.await.map_err(failed)?.contains(audience) {
        return Err(ReadError::missing(format!(
            "{audience} is the audience of the cluster's own API server, and such a token is never sent: name another in spec.serviceAccountToken.audience"
        )));
    }
    let meta = with_timeout(accounts.get_metadata(name)).await.map_err(failed)?.metadata;
    let response = create(vec![audience.clone()]).await.map_err(failed)?;
    Ok((SecretString::from(response.status.map(|status| status.token).unwrap_or_default()), meta))
}

fn service_account_error(name: &str, error: ApiError) -> ReadError {
    if error.status().is_some_and(Status::is_not_found) {
        ReadError::dependency_missing(format!(
            "ServiceAccount {name} does not exist in this namespace: create it, or name another in spec.serviceAccountToken.serviceAccountName"
        ))
    } else if is_forbidden(&error) {
        ReadError::denied(format!(
            "the operator is not allowed to create tokens for ServiceAccount {name}: install the chart with serviceAccountTokens.enabled=true"
        ))
    } else {
        ReadError::Failed(Error::RequestToken { name: name.to_owned(), source: Box::new(error) })
    }
}

fn is_forbidden(error: &ApiError) -> bool {
    error.status().is_some_and(Status::is_forbidden)
}
