//! The values of the credentials Secret that are encrypted or binary, converted to PEM once, so that everything else reads
//! PEM. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use crate::oauth::credentials::Credential;
use crate::oauth::key_file;
use crate::oauth::key_file::error::KeyFileError;
use crate::oauth::key_file::pkcs12::Pkcs12;
use crate::oauth::key_file::{Budget, Format};
use crate::spec::secret_values::{Unresolved, bytes, text};
use crate::spec::sources::{CredentialRef, CredentialsSource};

/// Converts the keys and certificates of one Secret.
pub(super) struct KeyFiles<'a> {
    source: &'a CredentialsSource,
    secret: Option<&'a Secret>,
    passphrase: Option<Passphrase<'a>>,
    budget: Budget,
    /// Files that were read, by their keys: certificate and key are usually in the same file.
    read: BTreeMap<&'a str, Pkcs12>,
}

/// A passphrase, and its key in the Secret.
struct Passphrase<'a> {
    key: &'a str,
    value: Option<&'a str>,
}

/// Whether a value may be encrypted.
pub(super) fn is_encrypted(field: &CredentialRef, secret: Option<&Secret>) -> bool {
    key_file::format(bytes(&field.key, secret)).is_ok_and(|format| format != Format::Plain)
}

impl<'a> KeyFiles<'a> {
    /// Reads the passphrase.
    pub(super) fn new(source: &'a CredentialsSource, secret: Option<&'a Secret>) -> Result<Self, Unresolved> {
        let field = source.fields.iter().find(|field| field.credential == Credential::PrivateKeyPassphrase);
        let passphrase = match field {
            Some(CredentialRef { key, .. }) => {
                let value = Some(text(source.secret_name.as_deref(), key, secret)?).filter(|value| !value.is_empty());
                Some(Passphrase { key, value })
            }
            None => None,
        };
        Ok(Self { source, secret, passphrase, budget: Budget::default(), read: BTreeMap::new() })
    }

    /// The value of a field as PEM; `None` if there is nothing to convert.
    ///
    /// # Errors
    ///
    /// A message that names the key and says what to change.
    pub(super) fn convert(&mut self, field: &'a CredentialRef) -> Result<Option<SecretString>, Unresolved> {
        self.pem(field).map_err(|error| self.explain(field, &error))
    }

    fn pem(&mut self, field: &'a CredentialRef) -> Result<Option<SecretString>, KeyFileError> {
        let file = bytes(&field.key, self.secret);
        let passphrase = self.passphrase.as_ref().and_then(|passphrase| passphrase.value);
        // A certificate in PEM is not encrypted, even if there is an encrypted key next to it.
        let is_certificate = field.credential == Credential::TlsCertificate;
        let format = match key_file::format(file) {
            Err(KeyFileError::LegacyPem) if is_certificate => Format::Plain,
            format => format?,
        };
        match format {
            Format::EncryptedPem if !is_certificate => {
                let text = std::str::from_utf8(file).unwrap_or_default();
                key_file::decrypt_pem(text, passphrase, &mut self.budget).map(Some)
            }
            Format::Plain | Format::EncryptedPem => Ok(None),
            Format::Binary => {
                if !self.read.contains_key(field.key.as_str()) {
                    self.read.insert(&field.key, Pkcs12::read(file, passphrase, &mut self.budget)?);
                }
                let file = self.read.get(field.key.as_str()).ok_or(KeyFileError::Malformed)?;
                if is_certificate { file.certificates() } else { file.key() }.map(Some)
            }
        }
    }

    fn explain(&self, field: &CredentialRef, error: &KeyFileError) -> Unresolved {
        let secret_name = self.source.secret_name.as_deref().unwrap_or_default();
        let message = format!("the value under key {} of Secret {secret_name} {error}", field.key);
        let passphrase = self.passphrase.as_ref();
        let passphrase_key = passphrase.map_or(Credential::PrivateKeyPassphrase.key(), |passphrase| passphrase.key);
        match error {
            KeyFileError::PassphraseMissing => Unresolved::Missing(format!(
                "{message}: add it under key {passphrase_key}, or name another key in spec.credentials.keys.{}",
                Credential::PrivateKeyPassphrase.name()
            )),
            KeyFileError::PassphraseWrong => {
                let value = passphrase.and_then(|passphrase| passphrase.value).unwrap_or_default();
                let ends = value.ends_with(char::is_whitespace);
                let hint = if ends { ", which ends with a line break or a space" } else { "" };
                Unresolved::Invalid(format!("{message}: check the passphrase under key {passphrase_key}{hint}"))
            }
            _ => Unresolved::Invalid(message),
        }
    }
}
