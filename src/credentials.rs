//! The credentials Secret, read: its values by the keys of the spec, or a sentence that says what to change. Pure.

#![deny(clippy::disallowed_methods)]

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};

use crate::api::CaBundleKind;
use crate::oauth::pin::{ALLOW_CA_BUNDLE, ALLOWED_ENDPOINTS, Pin};
use crate::oauth::{Credential, Credentials};
use crate::validated::{CredentialsSource, Field};

/// Takes what the grant sends out of the Secret, which is not there where nothing secret is stored.
///
/// # Errors
///
/// A sentence that names the key to add or to mend.
pub fn read(source: &CredentialsSource, secret: Option<&Secret>) -> Result<Credentials, String> {
    let values = source.fields.iter().filter_map(|field| match value(source, field, secret) {
        Ok(value) => Some(Ok((field.credential, value?))),
        Err(message) => Some(Err(message)),
    });
    let inline = source.client_id.iter().map(|id| Ok((Credential::ClientId, id.as_str().into())));
    let mut credentials: Credentials = values.chain(inline).collect::<Result<_, _>>()?;
    if let (Some(name), Some(secret)) = (&source.secret_name, secret) {
        pin(&mut credentials, &format!("Secret {name}"), Some(name), &secret.metadata)?;
    }
    let bundle = source.ca_bundle.as_ref().filter(|bundle| bundle.kind == CaBundleKind::Secret);
    credentials.authority_of = bundle.map(|bundle| bundle.name.clone());
    Ok(credentials)
}

/// Learns from the annotations of a Secret, or of a ServiceAccount, where it may be sent.
///
/// # Errors
///
/// A sentence that says what is wrong with them.
pub fn pin(credentials: &mut Credentials, of: &str, secret: Option<&str>, meta: &ObjectMeta) -> Result<(), String> {
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    match annotation(ALLOWED_ENDPOINTS) {
        Some(text) => {
            let allow_ca_bundle = annotation(ALLOW_CA_BUNDLE) == Some("true");
            credentials.pins.push(Pin::parse(of, secret, text, allow_ca_bundle)?);
        }
        None => credentials.unpinned.push(of.to_owned()),
    }
    Ok(())
}

fn value(source: &CredentialsSource, field: &Field, secret: Option<&Secret>) -> Result<Option<SecretString>, String> {
    let Field { credential, key, required } = field;
    let secret_name = source.secret_name.as_deref().unwrap_or_default();
    let bytes = secret.and_then(|secret| secret.data.as_ref()?.get(key)).map_or(&[][..], |bytes| &bytes.0);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("key {key} of Secret {secret_name} is not UTF-8 text: write the value itself"))?;
    match (text, required) {
        ("", true) if secret.is_none() => {
            Err(format!("spec.credentials must be given: the grant needs {}", credential.key()))
        }
        ("", true) => Err(format!(
            "Secret {secret_name} has no value under key {key}: add it, or name another key in spec.credentials.keys.{}",
            credential.name()
        )),
        ("", false) => Ok(None),
        (text, _) => Ok(Some(text.into())),
    }
}

/// What to say where there is no such Secret.
#[must_use]
pub fn not_found(name: &str) -> String {
    format!("Secret {name} does not exist in this namespace: create it, or name another in spec.credentials.secretName")
}

/// What to say where no refresh token is known.
#[must_use]
pub fn no_refresh_token(source: &CredentialsSource) -> String {
    let secret_name = source.secret_name.as_deref().unwrap_or_default();
    let credential = Credential::RefreshToken;
    let field = source.fields.iter().find(|field| field.credential == credential);
    let key = field.map_or(credential.key(), |field| &field.key);
    format!(
        "Secret {secret_name} has no value under key {key} and the target holds no refresh token: add the first one, or name another key in spec.credentials.keys.{}",
        credential.name()
    )
}

/// A hint at the commonest slip in a Secret: `echo secret | base64` encodes a line break as well. Keys and certificates end
/// with one.
#[must_use]
pub fn line_break_hint(source: &CredentialsSource, credentials: &Credentials) -> String {
    let slips = source.fields.iter().filter(|field| {
        let value = credentials.get(field.credential).map(ExposeSecret::expose_secret);
        value.is_some_and(|value| value.ends_with('\n') && !value.starts_with("-----BEGIN"))
    });
    match slips.map(|field| field.key.as_str()).collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        keys => format!("; the value under key {} ends with a line break, which is sent too", keys.join(", ")),
    }
}
