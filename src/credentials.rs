//! The credentials Secret, read: its values by the keys of the spec, or a sentence that says what to change. Pure.

#![deny(clippy::disallowed_methods)]

use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretString};

use crate::oauth::Credentials;
use crate::validated::{CredentialsSource, Field};

/// Takes what the grant sends out of the Secret.
///
/// # Errors
///
/// A sentence that names the key to add or to mend.
pub fn read(source: &CredentialsSource, secret: &Secret) -> Result<Credentials, String> {
    let [client_id, client_secret, username, password, refresh_token] = &source.fields;
    let read = |field| value(&source.secret_name, field, secret);
    Ok(Credentials {
        client_id: read(client_id)?,
        client_secret: read(client_secret)?,
        username: read(username)?,
        password: read(password)?,
        refresh_token: read(refresh_token)?,
    })
}

fn value(secret_name: &str, field: &Field, secret: &Secret) -> Result<Option<SecretString>, String> {
    let Field { name, key, required, sent } = field;
    if !sent {
        return Ok(None);
    }
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |bytes| &bytes.0);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("key {key} of Secret {secret_name} is not UTF-8 text: write the value itself"))?;
    match (text, required) {
        ("", true) => Err(format!(
            "Secret {secret_name} has no value under key {key}: add it, or name another key in spec.credentials.keys.{name}"
        )),
        ("", false) => Ok(None),
        (text, _) => Ok(Some(text.into())),
    }
}

/// What to say where there is no such Secret.
#[must_use]
pub fn not_found(source: &CredentialsSource) -> String {
    let name = &source.secret_name;
    format!("Secret {name} does not exist in this namespace: create it, or name another in spec.credentials.secretName")
}

/// What to say where no refresh token is known.
#[must_use]
pub fn no_refresh_token(source: &CredentialsSource) -> String {
    let [.., Field { name, key, .. }] = &source.fields;
    let secret_name = &source.secret_name;
    format!(
        "Secret {secret_name} has no value under key {key} and the target holds no refresh token: add the first one, or name another key in spec.credentials.keys.{name}"
    )
}

/// A hint at the commonest slip in a Secret: `echo secret | base64` encodes a line break as well.
#[must_use]
pub fn line_break_hint(source: &CredentialsSource, credentials: &Credentials) -> String {
    let Credentials { client_id, client_secret, username, password, refresh_token } = credentials;
    let values = [client_id, client_secret, username, password, refresh_token];
    let ends =
        |value: &&Option<SecretString>| value.as_ref().is_some_and(|value| value.expose_secret().ends_with('\n'));
    let keys = source.fields.iter().zip(values).filter(|(_, value)| ends(value)).map(|(field, _)| field.key.as_str());
    match keys.collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        keys => format!("; the value under key {} ends with a line break, which is sent too", keys.join(", ")),
    }
}
