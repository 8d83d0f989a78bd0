//! The sources of the values for requests.

#![deny(clippy::disallowed_methods)]

use std::iter;
use std::time::Duration;

use crate::api::client_authentication::ServiceAccountToken;
use crate::api::connection::CaBundle;
use crate::api::credentials::{CredentialKeys, Credentials};
use crate::api::provider::ProviderKind;
use crate::api::spec::OAuthIntegrationSpec;
use crate::oauth::credentials::Credential;
use crate::oauth::request::TokenRequest;
use crate::spec::chain;
use crate::spec::chain::ChainedToken;
use crate::spec::provider::{Origin, user_credentials};
use crate::spec::renewal::Renewal;

/// The API server's minimum lifetime of a ServiceAccount token, in seconds.
const SERVICE_ACCOUNT_TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// The credentials Secret with its keys, and the other objects that requests need.
#[derive(Clone, Debug)]
pub struct CredentialsSource {
    /// Name of the Secret; `None` if the spec names none. With a provider, it is the Secret of that.
    pub secret_name: Option<String>,
    /// The provider to which the client belongs, with its Secret, its CA bundle and its ServiceAccount.
    pub provider: Option<Origin>,
    /// Name of the Secret with what belongs to the user, if the client belongs to a provider.
    pub user_secret_name: Option<String>,
    /// The values that may be sent or used for signing.
    pub fields: Vec<CredentialRef>,
    /// The keys of the values that the request sends as parameters under names of the spec, one for each use.
    pub parameter_keys: Vec<String>,
    /// The same, for headers.
    pub header_keys: Vec<String>,
    /// Whether all values of the Secret are read, for the expression that builds the body.
    pub all_keys: bool,
    /// The client ID, if the spec contains it.
    pub client_id: Option<String>,
    /// The reference to custom CA certificates.
    pub ca_bundle: Option<CaBundle>,
    /// The ServiceAccount whose token is used.
    pub service_account: Option<ServiceAccount>,
    /// The token of another integration that the grant needs.
    pub chained: Option<ChainedToken>,
}

/// One value of the credentials Secret.
#[derive(Clone, Debug)]
pub struct CredentialRef {
    /// Which value it is.
    pub credential: Credential,
    /// Its key in the Secret.
    pub key: String,
    /// Whether the grant requires it.
    pub required: bool,
    /// Whether it is in the Secret of the user.
    pub of_user: bool,
}

impl CredentialsSource {
    /// What identifies the credentials: the names of the Secrets, with their namespace if it is another one than that of
    /// the integration. `None` without a Secret.
    pub(crate) fn identity(&self) -> Option<String> {
        let shared = self.provider.as_ref().filter(|provider| provider.reference.kind == ProviderKind::Cluster);
        let main = self.secret_name.as_ref().map(|name| match shared {
            Some(provider) => format!("{}/{name}", provider.namespace),
            None => name.clone(),
        });
        match (main, &self.user_secret_name) {
            (Some(main), Some(user)) => Some(format!("{main}+{user}")),
            (main, user) => main.or_else(|| user.clone()),
        }
    }

    /// Name of the Secret with a credential.
    #[must_use]
    pub fn secret_of(&self, credential: Credential) -> Option<&str> {
        let name = if self.is_of_user(credential) { &self.user_secret_name } else { &self.secret_name };
        name.as_deref()
    }

    fn is_of_user(&self, credential: Credential) -> bool {
        self.fields.iter().any(|field| field.credential == credential && field.of_user)
    }

    /// The namespace of the Secret, of the CA bundle and of the client's ServiceAccount, for an integration in
    /// `namespace`.
    #[must_use]
    pub fn namespace<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.provider.as_ref().map_or(namespace, |provider| provider.namespace.as_str())
    }
}

/// A ServiceAccount for which a token is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Whether it belongs to the provider.
    pub of_provider: bool,
    /// Its name.
    pub name: String,
    /// The audience of the token.
    pub audience: String,
    /// The lifetime of the token.
    pub lifetime: Duration,
}

/// `own` is the spec of the integration, `spec` the one with the fields of its provider.
pub(crate) fn collect(
    own: &OAuthIntegrationSpec,
    spec: &OAuthIntegrationSpec,
    provider: Option<&Origin>,
    request: &TokenRequest,
    renewal: &Renewal,
) -> CredentialsSource {
    let user = user_credentials(own);
    CredentialsSource {
        provider: provider.cloned(),
        user_secret_name: user.map(|user| user.secret_name.clone()),
        secret_name: spec.shared.credentials.as_ref().map(|credentials| credentials.secret_name.clone()),
        fields: fields(spec, user, request, renewal),
        parameter_keys: request.parameters_from.values().cloned().collect(),
        chained: chain::of_grant(renewal, request),
        header_keys: request.headers_from.values().cloned().collect(),
        all_keys: request.body.is_some(),
        client_id: spec.shared.client_id.clone(),
        ca_bundle: spec.shared.connection.as_ref().and_then(|connection| connection.ca_bundle.clone()),
        service_account: spec.shared.service_account_token.as_ref().map(|token| ServiceAccount {
            of_provider: provider.is_some() && own.shared.service_account_token.is_none(),
            name: token.service_account_name.clone(),
            audience: token.audience.clone(),
            lifetime: lifetime(token),
        }),
    }
}

pub(crate) fn lifetime(token: &ServiceAccountToken) -> Duration {
    token.lifetime.map_or(SERVICE_ACCOUNT_TOKEN_LIFETIME, Duration::from)
}

/// The values to read. A key that the spec names must exist; of the default keys, only those that the grant requires.
/// A fallback that cannot be used must not block requests that work without it.
fn fields(
    spec: &OAuthIntegrationSpec,
    user: Option<&Credentials>,
    request: &TokenRequest,
    renewal: &Renewal,
) -> Vec<CredentialRef> {
    let has_provider = spec.provider_ref.is_some();
    let keys = spec.shared.credentials.as_ref().map(|credentials| credentials.keys.clone()).unwrap_or_default();
    // The request that must always work. A refresh by strategy needs no credentials beyond those of its grant.
    let main = match renewal {
        Renewal::RefreshFirst(grant) => grant,
        Renewal::Grant | Renewal::WithFallback(_) => request,
    };
    let required = main.required_credentials();
    let chained = chain::of_grant(renewal, request);
    let requests = || iter::once(request).chain(renewal.fallback());
    let used: Vec<Credential> = requests().flat_map(TokenRequest::required_credentials).collect();
    let optional: Vec<Credential> = requests().flat_map(TokenRequest::optional_credentials).copied().collect();
    let field = |credential: Credential| {
        if credential == Credential::ClientId && spec.shared.client_id.is_some()
            || chained.as_ref().is_some_and(|chained| chained.credential == credential)
        {
            return None;
        }
        // What belongs to a user is in the Secret of the integration, unless the provider names its key: then it is for all.
        let is_of_user = credential.belongs_to_user() && has_provider;
        let own = user.and_then(|user| named(&user.keys, credential));
        let is_for_all = named(&keys, credential).is_some() && credential != Credential::RefreshToken;
        let of_user = is_of_user && (own.is_some() || !is_for_all);
        let named = if of_user { own } else { named(&keys, credential) };
        // After the first renewal the refresh token of the target Secret is used.
        let is_first_token = credential == Credential::RefreshToken && main.grant.is_refresh();
        let is_required = required.contains(&credential);
        // Whether a file needs it is known only after the file is read.
        let is_passphrase = credential == Credential::PrivateKeyPassphrase && used.iter().any(|one| one.is_key_file());
        let is_used = is_first_token || is_passphrase || used.contains(&credential) || optional.contains(&credential);
        is_used.then(|| CredentialRef {
            credential,
            // The next client secret exists only during a rotation.
            required: !is_first_token && credential != Credential::NextClientSecret && (is_required || named.is_some()),
            key: named.cloned().unwrap_or_else(|| credential.key().to_owned()),
            of_user,
        })
    };
    Credential::ALL.iter().copied().filter_map(field).collect()
}

fn named(keys: &CredentialKeys, credential: Credential) -> Option<&String> {
    let CredentialKeys {
        client_id,
        client_secret,
        next_client_secret,
        username,
        password,
        refresh_token,
        private_key,
        private_key_passphrase,
        tls_certificate,
        tls_key,
        subject_token,
        actor_token,
    } = keys;
    let key = match credential {
        Credential::ClientId => client_id,
        Credential::ClientSecret => client_secret,
        Credential::NextClientSecret => next_client_secret,
        Credential::Username => username,
        Credential::Password => password,
        Credential::RefreshToken => refresh_token,
        Credential::PrivateKey => private_key,
        Credential::PrivateKeyPassphrase => private_key_passphrase,
        Credential::TlsCertificate => tls_certificate,
        Credential::TlsKey => tls_key,
        Credential::SubjectToken => subject_token,
        Credential::ActorToken => actor_token,
        // It is never in the Secret.
        Credential::Assertion => return None,
    };
    key.as_ref()
}
