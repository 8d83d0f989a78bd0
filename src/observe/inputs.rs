//! Reads what a request is made with: the credentials Secret, the certificates of trusted authorities, and a token of a
//! ServiceAccount.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::core::Status;
use kube::{Api, ResourceExt};
use secrecy::SecretString;

use crate::api::{CaBundle, CaBundleKind};
use crate::calls::{self, in_time};
use crate::context::Context;
use crate::credentials;
use crate::error::{ApiError, Error};
use crate::oauth::{Credentials, transport};
use crate::plan::CredentialsSeen;
use crate::target;
use crate::validated::{self, Validated};

/// The version of credentials that stand in no Secret.
pub const NO_SECRET: &str = "none";

/// What the cluster lacks or withholds.
type Lacking = CredentialsSeen;

/// Reads them: one call for each that the spec names.
pub async fn read(context: &Context, secrets: &Api<Secret>, spec: &Validated) -> Result<CredentialsSeen, Error> {
    let source = &spec.credentials;
    let (mut secret, version) = match &source.secret_name {
        Some(name) => match read_secret(context, secrets, name).await? {
            Ok((secret, version)) => (Some(secret), version),
            Err(lacking) => return Ok(lacking),
        },
        None => (None, NO_SECRET.to_owned()),
    };
    let values = credentials::read(source, secret.as_ref());
    if let Some(secret) = &mut secret {
        calls::wipe(secret);
    }
    let mut values = match values {
        Ok(values) => values,
        Err(message) => return Ok(CredentialsSeen::Missing(message)),
    };
    match read_others(context, secrets, spec, &mut values).await? {
        Some(lacking) => Ok(lacking),
        None => Ok(CredentialsSeen::Read(Arc::new(values), version)),
    }
}

async fn read_secret(
    context: &Context,
    secrets: &Api<Secret>,
    name: &str,
) -> Result<Result<(Secret, String), Lacking>, Error> {
    match in_time(secrets.get_opt(name)).await {
        Ok(Some(secret)) => {
            let version = target::version(&secret.metadata);
            context.named.read(&(secret.namespace().unwrap_or_default(), name.to_owned()), version);
            Ok(Ok((secret, version.to_string())))
        }
        Ok(None) => Ok(Err(CredentialsSeen::Missing(credentials::not_found(name)))),
        Err(error) if is_forbidden(&error) => Ok(Err(CredentialsSeen::Unreadable(format!(
            "the operator may not read Secret {name}: give its ServiceAccount the right to get it"
        )))),
        Err(source) => Err(Error::ReadCredentials { name: name.to_owned(), source: Box::new(source) }),
    }
}

/// Reads what few integrations have.
async fn read_others(
    context: &Context,
    secrets: &Api<Secret>,
    spec: &Validated,
    values: &mut Credentials,
) -> Result<Option<Lacking>, Error> {
    let namespace = secrets.namespace().unwrap_or_default();
    namespace.clone_into(&mut values.tenant);
    if let Some(bundle) = &spec.credentials.ca_bundle {
        match read_ca_bundle(context, secrets, namespace, bundle).await? {
            Ok(pem) => values.ca_bundle = Some(pem),
            Err(lacking) => return Ok(Some(lacking)),
        }
    }
    if let Some(account) = &spec.credentials.service_account {
        match request_token(context, namespace, account).await? {
            Ok((token, meta)) => {
                values.service_account_token = Some(token);
                if let Err(message) = credentials::pin(values, &format!("ServiceAccount {}", account.name), None, &meta)
                {
                    return Ok(Some(CredentialsSeen::Missing(message)));
                }
            }
            Err(lacking) => return Ok(Some(lacking)),
        }
    }
    Ok(None)
}

async fn read_ca_bundle(
    context: &Context,
    secrets: &Api<Secret>,
    namespace: &str,
    bundle: &CaBundle,
) -> Result<Result<String, Lacking>, Error> {
    let CaBundle { kind, name, key } = bundle;
    let found = match kind {
        CaBundleKind::Secret => in_time(secrets.get_opt(name)).await.map(|found| {
            found.map(|mut secret| {
                let bytes = secret.data.as_ref().and_then(|data| data.get(key));
                let pem = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
                calls::wipe(&mut secret);
                pem
            })
        }),
        CaBundleKind::ConfigMap => {
            let config_maps = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
            let found = in_time(config_maps.get_opt(name)).await;
            found.map(|found| found.map(|config_map| config_map.data.as_ref().and_then(|data| data.get(key)).cloned()))
        }
    };
    match found {
        Ok(Some(Some(pem))) => Ok(match transport::check_authorities(&pem) {
            Ok(()) => Ok(pem),
            Err(failure) => Err(CredentialsSeen::DependencyMissing(failure.message)),
        }),
        Ok(Some(None)) => Ok(Err(CredentialsSeen::DependencyMissing(format!(
            "{kind:?} {name} has no text under key {key}: add the certificates as PEM, or name another key in spec.connection.caBundle.key"
        )))),
        Ok(None) => Ok(Err(CredentialsSeen::DependencyMissing(format!(
            "{kind:?} {name} does not exist in this namespace: create it, or name another in spec.connection.caBundle.name"
        )))),
        Err(error) if is_forbidden(&error) => Ok(Err(CredentialsSeen::Unreadable(format!(
            "the operator may not read {kind:?} {name}: give its ServiceAccount the right to get it"
        )))),
        Err(source) => Err(Error::ReadCaBundle { name: name.clone(), source: Box::new(source) }),
    }
}

/// Asks the API server for a token of a ServiceAccount (TokenRequest). Never one for the API server itself: whoever may write
/// an integration could send it to a server of their own, and act as that ServiceAccount.
async fn request_token(
    context: &Context,
    namespace: &str,
    account: &validated::ServiceAccount,
) -> Result<Result<(SecretString, ObjectMeta), Lacking>, Error> {
    let validated::ServiceAccount { name, audience, lifetime } = account;
    let accounts = Api::<ServiceAccount>::namespaced(context.client.clone(), namespace);
    let request = |audiences: Vec<String>| TokenRequest {
        spec: TokenRequestSpec {
            audiences,
            expiration_seconds: i64::try_from(lifetime.as_secs()).ok(),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let own = context.api_audiences.get_or_try_init(async || {
        // Asked for no audience, the API server tells its own.
        let (params, request) = (PostParams::default(), request(Vec::new()));
        let answer = in_time(accounts.create_token_request(name, &params, &request)).await?;
        Ok::<_, ApiError>(answer.spec.audiences)
    });
    let token: Result<_, ApiError> = async {
        if own.await?.contains(audience) {
            return Ok(Err(CredentialsSeen::Missing(format!(
                "{audience} is the audience of the cluster's own API server, and such a token is sent nowhere: name another in spec.serviceAccountToken.audience"
            ))));
        }
        let meta = in_time(accounts.get_metadata(name)).await?.metadata;
        let (params, request) = (PostParams::default(), request(vec![audience.clone()]));
        let answer = in_time(accounts.create_token_request(name, &params, &request)).await?;
        Ok(Ok((SecretString::from(answer.status.map(|status| status.token).unwrap_or_default()), meta)))
    }
    .await;
    match token {
        Ok(token) => Ok(token),
        Err(error) if error.status().is_some_and(Status::is_not_found) => {
            Ok(Err(CredentialsSeen::DependencyMissing(format!(
                "ServiceAccount {name} does not exist in this namespace: create it, or name another in spec.serviceAccountToken.serviceAccountName"
            ))))
        }
        Err(error) if is_forbidden(&error) => Ok(Err(CredentialsSeen::Unreadable(format!(
            "the operator may not ask for tokens of ServiceAccount {name}: install the chart with serviceAccountTokens.enabled=true"
        )))),
        Err(source) => Err(Error::RequestToken { name: name.clone(), source: Box::new(source) }),
    }
}

fn is_forbidden(error: &ApiError) -> bool {
    error.status().is_some_and(Status::is_forbidden)
}
