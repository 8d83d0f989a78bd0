//! The credentials of a request.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};

use crate::oauth::allowed_endpoints::AllowedEndpoints;
use crate::oauth::http::custom_ca::CustomCa;

/// Generates the enum, its names and its keys from one list.
macro_rules! credentials {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $key:literal,)*) => {
        /// A credential of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Credential {
            $($(#[$doc])* $variant,)*
        }

        impl Credential {
            /// All values that the credentials Secret may contain.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its field in `spec.credentials.keys`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its default key in the Secret; also the request parameter in which it is sent, if it is sent.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$variant => $key,)*
                }
            }
        }
    };
}

credentials! {
    /// Client ID (RFC 6749, section 2.2).
    ClientId: "clientId", "client_id",
    /// Client secret (RFC 6749, section 2.3.1).
    ClientSecret: "clientSecret", "client_secret",
    /// The client secret that will replace the current one: sent if the server rejects that.
    NextClientSecret: "nextClientSecret", "client_secret_next",
    /// Username.
    Username: "username", "username",
    /// Password.
    Password: "password", "password",
    /// Refresh token (RFC 6749, section 1.5).
    RefreshToken: "refreshToken", "refresh_token",
    /// Private key that signs assertions, as PEM or JSON.
    PrivateKey: "privateKey", "private_key",
    /// Passphrase of both private keys. It is used to read them, and is not kept with the others.
    PrivateKeyPassphrase: "privateKeyPassphrase", "private_key_passphrase",
    /// Client certificate with its chain, as PEM.
    TlsCertificate: "tlsCertificate", "tls.crt",
    /// Private key of the client certificate, as PEM.
    TlsKey: "tlsKey", "tls.key",
    /// Token to exchange (RFC 8693).
    SubjectToken: "subjectToken", "subject_token",
    /// Token of the acting party (RFC 8693).
    ActorToken: "actorToken", "actor_token",
    /// A token of another integration, sent as the assertion (RFC 7523).
    Assertion: "assertion", "assertion",
}

impl Credential {
    /// Its name in messages.
    #[must_use]
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::ClientId => "client ID",
            Self::ClientSecret => "client secret",
            Self::NextClientSecret => "next client secret",
            Self::Username => "username",
            Self::Password => "password",
            Self::RefreshToken => "refresh token",
            Self::PrivateKey => "private key",
            Self::PrivateKeyPassphrase => "passphrase of the private key",
            Self::TlsCertificate => "client certificate",
            Self::TlsKey => "its private key",
            Self::SubjectToken => "subject token",
            Self::ActorToken => "actor token",
            Self::Assertion => "assertion",
        }
    }
}

/// The credentials of one request. `Debug` prints none of their values.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    values: BTreeMap<Credential, SecretString>,
    /// The values that the spec sends under names of its own, by their keys in the Secret.
    pub others: BTreeMap<String, SecretString>,
    /// A token of a ServiceAccount, requested for this request.
    pub service_account_token: Option<SecretString>,
    /// Certificates of trusted CAs, as PEM; not secret, but read together with the credentials.
    pub ca_bundle: Option<CustomCa>,
    /// The endpoints that they may be sent to, one entry for each Secret or ServiceAccount with the annotation; all
    /// entries must allow an endpoint.
    pub pins: Vec<AllowedEndpoints>,
    /// The Secrets and ServiceAccounts without the annotation, for messages.
    pub unpinned: Vec<String>,
    /// The owner of a token of another integration, if its annotation does not say where the token may be sent.
    pub not_forwarded: Option<String>,
    /// The credential that is a token of another integration.
    pub chained: Option<Credential>,
    /// The Secret that contains the CA bundle.
    pub ca_bundle_owner: Option<String>,
    /// The namespace of the integration.
    pub tenant: String,
    /// Whether the client belongs to a provider, so that the author of the integration must not see its credentials.
    pub of_provider: bool,
    /// The uid of the provider's Secret, which is part of the fingerprint of the credentials: who can read a target, but
    /// not that Secret, must not be able to check guesses of a weak client secret.
    pub pepper: String,
    /// Whose connections and cached metadata are used: the namespace, or a provider that namespaces share.
    pub cache_owner: String,
    /// The private key to which tokens are bound, PKCS#8 as PEM (RFC 9449).
    pub dpop_key: Option<SecretString>,
    /// Credentials that were read from another key of the Secret than the default one. The spec chooses that key, so
    /// the author of the spec could name the key of an unrelated secret.
    pub from_custom_keys: BTreeSet<Credential>,
}

impl Credential {
    /// Whether it belongs to the user, and not to the client.
    #[must_use]
    pub const fn belongs_to_user(self) -> bool {
        match self {
            Self::Username | Self::Password | Self::RefreshToken | Self::SubjectToken | Self::ActorToken => true,
            Self::ClientId
            | Self::ClientSecret
            | Self::NextClientSecret
            | Self::PrivateKey
            | Self::PrivateKeyPassphrase
            | Self::TlsCertificate
            | Self::TlsKey
            | Self::Assertion => false,
        }
    }

    /// Whether its value is a key or a certificate, which may be encrypted or binary.
    #[must_use]
    pub const fn is_key_file(self) -> bool {
        matches!(self, Self::PrivateKey | Self::TlsCertificate | Self::TlsKey)
    }
}

impl Credentials {
    /// The value of a credential.
    #[must_use]
    pub fn get(&self, credential: Credential) -> Option<&SecretString> {
        self.values.get(&credential)
    }

    /// Whether a credential is set.
    #[must_use]
    pub fn has(&self, credential: Credential) -> bool {
        self.values.contains_key(&credential)
    }

    /// Whether there is neither a credentials Secret nor a ServiceAccount.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.pins.is_empty() && self.unpinned.is_empty() && self.not_forwarded.is_none()
    }

    /// Sets or removes a credential.
    pub fn set(&mut self, credential: Credential, value: Option<SecretString>) {
        match value {
            Some(value) => self.values.insert(credential, value),
            None => self.values.remove(&credential),
        };
    }

    /// The same with another refresh token, or without one.
    #[must_use]
    pub fn with_refresh_token(&self, token: Option<SecretString>) -> Self {
        let mut other = self.clone();
        other.set(Credential::RefreshToken, token);
        other
    }

    /// Replaces the client secret with the next one.
    pub fn use_next_secret(&mut self) {
        let next = self.get(Credential::NextClientSecret).cloned();
        self.set(Credential::ClientSecret, next);
    }

    /// All credentials that are set.
    pub fn iter(&self) -> impl Iterator<Item = (Credential, &SecretString)> {
        self.values.iter().map(|(credential, value)| (*credential, value))
    }

    /// The values that are hashed to detect whether a token was issued with these credentials: all except the refresh
    /// token and the token of another integration, which are tracked separately. Client and user credentials come first, each at a fixed position, so that
    /// no value can be mistaken for another.
    #[must_use]
    pub fn hashed_parts(&self) -> Vec<&str> {
        const FIXED: [Credential; 4] =
            [Credential::ClientId, Credential::ClientSecret, Credential::Username, Credential::Password];
        let text = |credential| self.get(credential).map_or("", |value| value.expose_secret());
        let others = self
            .iter()
            .filter(|(credential, _)| !FIXED.contains(credential) && *credential != Credential::RefreshToken)
            .filter(|(credential, _)| self.chained != Some(*credential));
        FIXED
            .into_iter()
            .map(text)
            .chain(others.flat_map(|(credential, value)| [credential.name(), value.expose_secret()]))
            .chain(self.others.iter().flat_map(|(key, value)| [key.as_str(), value.expose_secret()]))
            .chain((!self.pepper.is_empty()).then_some(self.pepper.as_str()))
            .collect()
    }
}

impl FromIterator<(Credential, SecretString)> for Credentials {
    fn from_iter<T: IntoIterator<Item = (Credential, SecretString)>>(values: T) -> Self {
        Self { values: values.into_iter().collect(), ..Self::default() }
    }
}
