//! Where the values stand that requests are made with.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use crate::api::{CaBundle, CredentialKeys, OAuthIntegrationSpec, ServiceAccountToken};
use crate::oauth::{Ask, Credential};

use super::SERVICE_ACCOUNT_TOKEN_LIFE;

/// The credentials Secret and its keys, and what else is asked for.
#[derive(Clone, Debug)]
pub struct CredentialsSource {
    /// Name of the Secret; `None` where nothing secret is stored.
    pub secret_name: Option<String>,
    /// The values that may be sent or signed with.
    pub fields: Vec<Field>,
    /// The client id, where it stands in the spec.
    pub client_id: Option<String>,
    /// Where the certificates of trusted authorities stand.
    pub ca_bundle: Option<CaBundle>,
    /// The ServiceAccount whose token is used.
    pub service_account: Option<ServiceAccount>,
}

/// One value of the credentials Secret.
#[derive(Clone, Debug)]
pub struct Field {
    /// Which one.
    pub credential: Credential,
    /// Its key in the Secret.
    pub key: String,
    /// Whether the grant cannot do without.
    pub required: bool,
}

/// A ServiceAccount whose token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its name.
    pub name: String,
    /// For whom the token is made.
    pub audience: String,
    /// How long it lives.
    pub lifetime: Duration,
}

pub(super) fn of(
    spec: &OAuthIntegrationSpec,
    ask: &Ask,
    fallback: Option<&Ask>,
    by_strategy: bool,
) -> CredentialsSource {
    CredentialsSource {
        secret_name: spec.credentials.as_ref().map(|credentials| credentials.secret_name.clone()),
        fields: fields(spec, ask, fallback, by_strategy),
        client_id: spec.client_id.clone(),
        ca_bundle: spec.connection.as_ref().and_then(|connection| connection.ca_bundle.clone()),
        service_account: spec.service_account_token.as_ref().map(|token| ServiceAccount {
            name: token.service_account_name.clone(),
            audience: token.audience.clone(),
            lifetime: lifetime(token),
        }),
    }
}

pub(super) fn lifetime(token: &ServiceAccountToken) -> Duration {
    token.lifetime.map_or(SERVICE_ACCOUNT_TOKEN_LIFE, Duration::from)
}

/// A key that is named in the spec has to be there; of those that are not, only what the grant cannot do without. A fallback
/// that cannot be used is no reason to stop what works without it.
fn fields(spec: &OAuthIntegrationSpec, ask: &Ask, fallback: Option<&Ask>, by_strategy: bool) -> Vec<Field> {
    let keys = spec.credentials.as_ref().map(|credentials| credentials.keys.clone()).unwrap_or_default();
    // By strategy, the grant is what has to work; what it knows of no client, its refresh may do without as well.
    let (needed, mut taken) = match fallback {
        Some(grant) if by_strategy => (grant.needs(), ask.needs()),
        Some(fallback) => (ask.needs(), fallback.needs()),
        None => (ask.needs(), Vec::new()),
    };
    taken.extend(ask.takes());
    taken.extend(fallback.into_iter().flat_map(Ask::takes));
    let field = |credential: Credential| {
        let named = named(&keys, credential);
        let first = credential == Credential::RefreshToken && ask.grant.is_refresh() && !by_strategy;
        if credential == Credential::ClientId && spec.client_id.is_some() {
            return None;
        }
        let is_needed = needed.contains(&credential);
        (is_needed || first || taken.contains(&credential)).then(|| Field {
            credential,
            // After the first renewal the refresh token of the target Secret is the one that counts.
            required: !first && (is_needed || named.is_some()),
            key: named.cloned().unwrap_or_else(|| credential.key().to_owned()),
        })
    };
    Credential::ALL.iter().copied().filter_map(field).collect()
}

fn named(keys: &CredentialKeys, credential: Credential) -> Option<&String> {
    let CredentialKeys {
        client_id,
        client_secret,
        username,
        password,
        refresh_token,
        private_key,
        tls_certificate,
        tls_key,
        subject_token,
        actor_token,
    } = keys;
    let key = match credential {
        Credential::ClientId => client_id,
        Credential::ClientSecret => client_secret,
        Credential::Username => username,
        Credential::Password => password,
        Credential::RefreshToken => refresh_token,
        Credential::PrivateKey => private_key,
        Credential::TlsCertificate => tls_certificate,
        Credential::TlsKey => tls_key,
        Credential::SubjectToken => subject_token,
        Credential::ActorToken => actor_token,
    };
    key.as_ref()
}
