//! Reads the token of another integration that a grant needs, and where its owner allows it to be sent.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use crate::api::grant::TokenFrom;
use crate::api::spec::OAuthIntegration;
use crate::clock::now;
use crate::controller::cache::references::SecretRef;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::provider;
use crate::controller::observe::read_error::ReadError;
use crate::controller::providers::store::ProviderKey;
use crate::controller::queue::GuardedIntegration;
use crate::kube_api::call;
use crate::kube_api::call::{ApiError, with_timeout};
use crate::oauth::credentials::Credentials;
use crate::spec::chain::ChainedToken;
use crate::spec::validated::ValidatedSpec;
use crate::spec::{chain, chained_token, credentials};
use crate::target::annotations;
use crate::target::snapshot::TargetSnapshot;

/// A message if the integrations that this one needs tokens from form a cycle.
pub(crate) fn cycle(context: &Context, namespace: &str, integration: &OAuthIntegration) -> Option<String> {
    let first = chain::dependency(&integration.spec)?;
    chain::cycle(&integration.name_any(), Some(first), |name| {
        let found = context.integrations.find(namespace, name)?;
        chain::dependency(&parsed(&found)?.spec).map(ToOwned::to_owned)
    })
}

/// The version of the credentials together with those of the other integration's token and of its credentials Secret, whose
/// annotation restricts where the token may be sent.
pub(crate) fn version(context: &Context, namespace: &str, of_secret: &str, token: &ChainedToken) -> String {
    let found = context.integrations.find(namespace, &token.from.integration);
    let other = found.as_deref().and_then(parsed);
    let secrets = other.map(|other| secrets_of(context, namespace, other)).unwrap_or_default();
    // Any change makes this newer.
    let of_owner = secrets.iter().filter_map(|secret| Some(context.secret_references.facts(secret)?.version)).max();
    let snapshot = other.and_then(|other| {
        let target = other.spec.target.secret_name.clone().unwrap_or_else(|| other.name_any());
        let known = context.targets.for_integration(namespace, &other.uid().unwrap_or_default());
        known.into_iter().find(|snapshot| snapshot.name == target)
    });
    chain::version(of_secret, snapshot.as_deref(), of_owner)
}

/// The Secrets with the credentials of an integration: its own, and that of its provider.
fn secrets_of(context: &Context, namespace: &str, integration: &OAuthIntegration) -> Vec<SecretRef> {
    let own = integration.spec.shared.credentials.as_ref();
    let own = own.map(|credentials| (namespace.to_owned(), credentials.secret_name.clone()));
    let provider = integration.spec.provider_ref.as_ref();
    let watched = provider.and_then(|provider| context.providers.get(&ProviderKey::of(provider, namespace)));
    let of_provider = watched.and_then(|watched| watched.provider.ok()).and_then(|provider| {
        let secret = provider.spec.credentials.as_ref()?.secret_name.clone();
        Some((provider.origin.namespace.clone(), secret))
    });
    own.into_iter().chain(of_provider).collect()
}

fn parsed(watched: &GuardedIntegration) -> Option<&OAuthIntegration> {
    let DeserializeGuard(found) = watched;
    found.as_ref().ok()
}

/// The target of another integration, as it was read.
struct Link {
    /// The uid of the integration.
    uid: String,
    spec: ValidatedSpec,
    secret: Secret,
    snapshot: TargetSnapshot,
}

impl Drop for Link {
    fn drop(&mut self) {
        call::wipe(&mut self.secret);
    }
}

/// Adds the token of the other integration to the credentials, with the restrictions of its owners, and returns the
/// version of all of them. Two calls for each integration in the chain; one more if it also uses a ServiceAccount, or if
/// its refresh token is in a Secret of its own.
pub(crate) async fn read(
    context: &Context,
    secrets: &Api<Secret>,
    values: &mut Credentials,
    version: &str,
    token: &ChainedToken,
) -> Result<String, ReadError> {
    let ChainedToken { credential, from } = token;
    let first = load(context, secrets, from, Some(now())).await?;
    let value = match chained_token::other_secret(from, &first.spec) {
        None => chained_token::read(from, &first.spec, &first.secret),
        Some(name) => {
            let mut holder = read_secret(secrets, from, name).await?;
            let value = chained_token::check(from, &first.uid, &first.spec, &TargetSnapshot::of(&holder), None)
                .and_then(|()| chained_token::read(from, &first.spec, &holder));
            call::wipe(&mut holder);
            value
        }
    };
    let value = value.map_err(ReadError::dependency_missing)?;
    values.set(*credential, Some(value));
    values.chained = Some(*credential);
    let of_owner = restrict(context, secrets, values, &first.spec, from).await?;
    let version = chain::version(version, Some(&first.snapshot), of_owner);
    // The token may come from the token of yet another integration, whose owners have not allowed more than they say.
    let mut link = first;
    for _ in 0..chain::MAX_LENGTH {
        let Some(ChainedToken { from: next, .. }) = link.spec.credentials.chained.clone() else { return Ok(version) };
        let input = load(context, secrets, &next, None).await?;
        if !chain::is_in_step(&link.snapshot, &input.snapshot) {
            return Err(ReadError::dependency_missing(format!(
                "the token of OAuthIntegration {} has been renewed, and those that depend on it have not: see their condition Ready",
                next.integration
            )));
        }
        restrict(context, secrets, values, &input.spec, &next).await?;
        link = input;
    }
    Err(ReadError::dependency_missing(format!("the chain has more than {} integrations", chain::MAX_LENGTH)))
}

/// Reads the target of another integration, and checks that it holds a token; with `now`, one that has not expired.
async fn load(
    context: &Context,
    secrets: &Api<Secret>,
    from: &TokenFrom,
    now: Option<Timestamp>,
) -> Result<Link, ReadError> {
    let (name, namespace) = (&from.integration, secrets.namespace().unwrap_or_default());
    let found = context.integrations.find(namespace, name);
    let Some(other) = found.as_deref().and_then(parsed) else {
        return Err(ReadError::dependency_missing(format!(
            "OAuthIntegration {name} does not exist in this namespace, or is not managed by this operator: create it, or name another one"
        )));
    };
    let spec = provider::parse(context, other).map_err(|_| {
        ReadError::dependency_missing(format!(
            "the spec of OAuthIntegration {name} is not valid: see its condition Ready"
        ))
    })?;
    let target = &spec.template.secret_name;
    let secret = read_secret(secrets, from, target).await?;
    let snapshot = TargetSnapshot::of(&secret);
    let link = Link { uid: other.uid().unwrap_or_default(), spec, secret, snapshot };
    chained_token::check(from, &link.uid, &link.spec, &link.snapshot, now).map_err(ReadError::dependency_missing)?;
    Ok(link)
}

async fn read_secret(secrets: &Api<Secret>, from: &TokenFrom, secret: &str) -> Result<Secret, ReadError> {
    let failed = |source: ApiError| Error::ReadTarget { name: secret.to_owned(), source: Box::new(source) };
    let found = with_timeout(secrets.get_opt(secret)).await.map_err(|error| ReadError::Failed(failed(error)))?;
    found.ok_or_else(|| {
        let name = &from.integration;
        ReadError::dependency_missing(format!("OAuthIntegration {name} has no token yet: see its condition Ready"))
    })
}

/// A token may be sent where the owners of the credentials with which it was obtained allow it, and nowhere else: an
/// author of integrations is not necessarily allowed to read it. Returns the version of the credentials Secret.
async fn restrict(
    context: &Context,
    secrets: &Api<Secret>,
    values: &mut Credentials,
    spec: &ValidatedSpec,
    from: &TokenFrom,
) -> Result<Option<u64>, ReadError> {
    let unavailable = |name: &str, error: ApiError| {
        ReadError::Failed(Error::ReadCredentials { name: name.to_owned(), source: Box::new(error) })
    };
    let missing = || {
        ReadError::dependency_missing(format!(
            "the credentials of OAuthIntegration {} are missing: see its condition Ready",
            from.integration
        ))
    };
    let mut version = None;
    let mut owners: Vec<(String, Option<&str>, ObjectMeta)> = Vec::new();
    let namespace = secrets.namespace().unwrap_or_default();
    let of_client = spec.credentials.namespace(namespace);
    let of_client = spec.credentials.secret_name.as_deref().map(|name| (of_client, name));
    let of_user = spec.credentials.user_secret_name.as_deref().map(|name| (namespace, name));
    for (namespace, name) in of_client.into_iter().chain(of_user) {
        let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
        let found = with_timeout(secrets.get_metadata_opt(name)).await.map_err(|error| unavailable(name, error))?;
        let meta = found.ok_or_else(missing)?.metadata;
        version = version.max(Some(annotations::version(&meta)));
        owners.push((format!("Secret {name}"), Some(name), meta));
    }
    if let Some(account) = &spec.credentials.service_account {
        let namespace = if account.of_provider { spec.credentials.namespace(namespace) } else { namespace };
        let accounts = Api::<ServiceAccount>::namespaced(context.client.clone(), namespace);
        let found = with_timeout(accounts.get_metadata_opt(&account.name)).await;
        let found = found.map_err(|error| unavailable(&account.name, error))?;
        owners.push((format!("ServiceAccount {}", account.name), None, found.ok_or_else(missing)?.metadata));
    }
    let is_chained = spec.credentials.chained.is_some();
    credentials::forward(values, &from.integration, &owners, is_chained).map_err(ReadError::invalid)?;
    Ok(version)
}
