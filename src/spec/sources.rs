//! The sources of the values for requests.

#![deny(clippy::disallowed_methods)]

use std::iter;
use std::time::Duration;

use crate::api::client_authentication::ServiceAccountToken;
use crate::api::connection::CaBundle;
use crate::api::credentials::CredentialKeys;
use crate::api::spec::OAuthIntegrationSpec;
use crate::oauth::credentials::Credential;
use crate::oauth::request::TokenRequest;
use crate::spec::chain;
use crate::spec::chain::ChainedToken;
use crate::spec::renewal::Renewal;

/// The API server's minimum lifetime of a ServiceAccount token, in seconds.
const SERVICE_ACCOUNT_TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// The credentials Secret with its keys, and the other objects that requests need.
#[derive(Clone, Debug)]
pub struct CredentialsSource {
    /// Name of the Secret; `None` if the spec names none.
    pub secret_name: Option<String>,
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
}

/// A ServiceAccount for which a token is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its name.
    pub name: String,
    /// The audience of the token.
    pub audience: String,
    /// The lifetime of the token.
    pub lifetime: Duration,
}

pub(crate) fn collect(spec: &OAuthIntegrationSpec, request: &TokenRequest, renewal: &Renewal) -> CredentialsSource {
    CredentialsSource {
        secret_name: spec.credentials.as_ref().map(|credentials| credentials.secret_name.clone()),
        fields: fields(spec, request, renewal),
        parameter_keys: request.parameters_from.values().cloned().collect(),
        chained: chain::of_grant(renewal, request),
        header_keys: request.headers_from.values().cloned().collect(),
        all_keys: request.body.is_some(),
        client_id: spec.client_id.clone(),
        ca_bundle: spec.connection.as_ref().and_then(|connection| connection.ca_bundle.clone()),
        service_account: spec.service_account_token.as_ref().map(|token| ServiceAccount {
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
fn fields(spec: &OAuthIntegrationSpec, request: &TokenRequest, renewal: &Renewal) -> Vec<CredentialRef> {
    let keys = spec.credentials.as_ref().map(|credentials| credentials.keys.clone()).unwrap_or_default();
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
        if credential == Credential::ClientId && spec.client_id.is_some()
            || chained.as_ref().is_some_and(|chained| chained.credential == credential)
        {
            return None;
        }
        let named = named(&keys, credential);
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
