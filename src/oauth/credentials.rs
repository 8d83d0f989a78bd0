//! The values that a request may be made with.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

/// Writes the enum, its names and its keys from one list.
macro_rules! credentials {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $key:literal,)*) => {
        /// A value that a request may be made with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Credential {
            $($(#[$doc])* $variant,)*
        }

        impl Credential {
            /// Those that stand in the credentials Secret, or may.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its member in `spec.credentials.keys`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its key in the Secret where the spec names none; also the member of the request that it fills, where it is sent.
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
    /// Client id (RFC 6749, section 2.2).
    ClientId: "clientId", "client_id",
    /// Client secret (RFC 6749, section 2.3.1).
    ClientSecret: "clientSecret", "client_secret",
    /// User name.
    Username: "username", "username",
    /// Password.
    Password: "password", "password",
    /// Refresh token (RFC 6749, section 1.5).
    RefreshToken: "refreshToken", "refresh_token",
    /// Private key that signs assertions, as PEM.
    PrivateKey: "privateKey", "private_key",
    /// Client certificate with its chain, as PEM.
    TlsCertificate: "tlsCertificate", "tls.crt",
    /// Private key of the client certificate, as PEM.
    TlsKey: "tlsKey", "tls.key",
    /// Token that is exchanged (RFC 8693).
    SubjectToken: "subjectToken", "subject_token",
    /// Token of who acts (RFC 8693).
    ActorToken: "actorToken", "actor_token",
}

/// The values that a request is made with. `Debug` prints none of them.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    values: BTreeMap<Credential, SecretString>,
    /// A token of a ServiceAccount, asked for just now.
    pub service_account_token: Option<SecretString>,
    /// Certificates of trusted authorities, as PEM; public, and here since it is read with the others.
    pub ca_bundle: Option<String>,
    /// Where they may be sent, by those who own them; each has to agree.
    pub pins: Vec<super::pin::Pin>,
    /// Those that do not say where they may be sent.
    pub unpinned: Vec<String>,
    /// The Secret from which the trusted authorities come.
    pub authority_of: Option<String>,
    /// The namespace whose they are.
    pub tenant: String,
    /// The key that tokens are bound to, PKCS#8 as PEM (RFC 9449).
    pub dpop_key: Option<SecretString>,
}

impl Credentials {
    /// One of them.
    #[must_use]
    pub fn get(&self, credential: Credential) -> Option<&SecretString> {
        self.values.get(&credential)
    }

    /// Whether one of them is there.
    #[must_use]
    pub fn has(&self, credential: Credential) -> bool {
        self.values.contains_key(&credential)
    }

    /// Sets one of them, or takes it out.
    pub fn set(&mut self, credential: Credential, value: Option<SecretString>) {
        match value {
            Some(value) => self.values.insert(credential, value),
            None => self.values.remove(&credential),
        };
    }

    /// The same with another refresh token, or with none.
    #[must_use]
    pub fn with_refresh_token(&self, token: Option<SecretString>) -> Self {
        let mut other = self.clone();
        other.set(Credential::RefreshToken, token);
        other
    }

    /// All that are there.
    pub fn iter(&self) -> impl Iterator<Item = (Credential, &SecretString)> {
        self.values.iter().map(|(credential, value)| (*credential, value))
    }

    /// What is hashed, to tell whether a token was had by these: everything but the refresh token, which is followed on its
    /// own. Log-ins come first, each with its place, so that nothing can slip from one to the other.
    #[must_use]
    pub fn hashed_parts(&self) -> Vec<&str> {
        const PLACED: [Credential; 4] =
            [Credential::ClientId, Credential::ClientSecret, Credential::Username, Credential::Password];
        let text = |credential| self.get(credential).map_or("", |value| value.expose_secret());
        let others = self
            .iter()
            .filter(|(credential, _)| !PLACED.contains(credential) && *credential != Credential::RefreshToken);
        PLACED
            .into_iter()
            .map(text)
            .chain(others.flat_map(|(credential, value)| [credential.name(), value.expose_secret()]))
            .collect()
    }
}

impl FromIterator<(Credential, SecretString)> for Credentials {
    fn from_iter<T: IntoIterator<Item = (Credential, SecretString)>>(values: T) -> Self {
        Self { values: values.into_iter().collect(), ..Self::default() }
    }
}
