//! The parsed credentials Secret: its values by the keys of the spec, or an error that says what to change. Pure.

#![deny(clippy::disallowed_methods)]

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::api::client_authentication::{BasicEncoding, ClientAuthentication, ClientAuthenticationMethod};
use crate::api::connection::CaBundleKind;
use crate::oauth::allowed_endpoints::{ALLOW_CA_BUNDLE, ALLOWED_ENDPOINTS, AllowedEndpoints};
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::request::TokenRequest;
use crate::spec::key_files;
use crate::spec::key_files::KeyFiles;
use crate::spec::provider::Origin;
use crate::spec::secret_values::{Unresolved, text};
use crate::spec::sources::{CredentialRef, CredentialsSource};

/// The maximum size of all values that are sent as parameters under names of the spec, one for each use, in bytes.
const MAX_PARAMETERS: usize = 64 << 10;
/// The same for headers: many servers accept no more.
const MAX_HEADERS: usize = 8 << 10;

/// The Secrets with the values, as far as the spec names them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Secrets<'a> {
    /// That of the client, and without a provider also of the user.
    pub main: Option<&'a Secret>,
    /// That of the user, if the client belongs to a provider.
    pub user: Option<&'a Secret>,
}

/// Reads the values for the grant from the Secrets.
///
/// # Errors
///
/// A message that names the key to add or to fix.
pub fn resolve(source: &CredentialsSource, secrets: Secrets<'_>) -> Result<Credentials, Unresolved> {
    let secret = secrets.main;
    let mut files = KeyFiles::new(source, secret)?;
    let values = source.fields.iter().filter_map(|field| {
        let converted = if field.credential.is_key_file() { files.convert(field).transpose() } else { None };
        let holder = if field.of_user { secrets.user } else { secret };
        let value = converted.or_else(|| value(source, field, holder).transpose());
        Some(value?.map(|value| (field.credential, value)))
    });
    let inline = source.client_id.iter().map(|id| Ok((Credential::ClientId, id.as_str().into())));
    let mut credentials: Credentials = values.chain(inline).collect::<Result<_, _>>()?;
    // Everything below sees what it has protected. Another passphrase does not mean another key.
    credentials.set(Credential::PrivateKeyPassphrase, None);
    for (field, keys, max) in
        [("parametersFrom", &source.parameter_keys, MAX_PARAMETERS), ("headersFrom", &source.header_keys, MAX_HEADERS)]
    {
        let mut size = 0;
        for key in keys {
            let text = other(source, field, key, secret)?;
            size += text.len();
            credentials.others.insert(key.clone(), text.into());
        }
        if size > max {
            return Err(Unresolved::Invalid(format!(
                "the values of spec.request.{field} exceed {} KiB in total: shorten them in the Secret",
                max >> 10
            )));
        }
    }
    if source.all_keys {
        credentials.others.extend(all_texts(secret)?);
    }
    let custom = source.fields.iter().filter(|field| field.key != field.credential.key());
    credentials.from_custom_keys = custom.map(|field| field.credential).collect();
    for (name, secret) in [(&source.secret_name, secrets.main), (&source.user_secret_name, secrets.user)] {
        if let (Some(name), Some(secret)) = (name, secret) {
            apply_allowed_endpoints(&mut credentials, &format!("Secret {name}"), Some(name), &secret.metadata)
                .map_err(Unresolved::Invalid)?;
        }
    }
    let bundle = source.ca_bundle.as_ref().filter(|bundle| bundle.kind == CaBundleKind::Secret);
    credentials.of_provider = source.provider.is_some();
    if let (true, Some(secret)) = (credentials.of_provider, secret) {
        credentials.pepper = secret.metadata.uid.clone().unwrap_or_default();
    }
    credentials.ca_bundle_owner = bundle.map(|bundle| bundle.name.clone());
    Ok(credentials)
}

/// All values of the Secret that are text, for `spec.request.body`.
fn all_texts(secret: Option<&Secret>) -> Result<Vec<(String, SecretString)>, Unresolved> {
    let data = secret.and_then(|secret| secret.data.as_ref()).into_iter().flatten();
    let texts: Vec<(&String, &str)> =
        data.filter_map(|(key, value)| Some((key, std::str::from_utf8(&value.0).ok()?))).collect();
    if texts.iter().map(|(key, text)| key.len() + text.len()).sum::<usize>() > MAX_PARAMETERS {
        return Err(Unresolved::Invalid(format!(
            "the values of the credentials Secret exceed {} KiB in total, which is too much for spec.request.body: use a Secret with only the values that it needs",
            MAX_PARAMETERS >> 10
        )));
    }
    Ok(texts.into_iter().map(|(key, text)| (key.clone(), text.into())).collect())
}

/// Whether [`resolve`] derives keys from a passphrase, which takes long.
#[must_use]
pub fn derives_keys(source: &CredentialsSource, secret: Option<&Secret>) -> bool {
    source
        .fields
        .iter()
        .filter(|field| field.credential.is_key_file())
        .any(|field| key_files::is_encrypted(field, secret))
}

/// A value that the request sends under a name of the spec.
fn other<'a>(
    source: &CredentialsSource,
    field: &str,
    key: &str,
    secret: Option<&'a Secret>,
) -> Result<&'a str, Unresolved> {
    let text = text(source.secret_name.as_deref(), key, secret)?;
    match &source.secret_name {
        _ if !text.is_empty() => Ok(text),
        None => Err(Unresolved::Missing(format!("spec.credentials must be set: spec.request.{field} needs key {key}"))),
        Some(name) => Err(Unresolved::Missing(format!(
            "Secret {name} has no value under key {key}: add it, or name another key in spec.request.{field}"
        ))),
    }
}

/// Reads the annotations of a Secret or a ServiceAccount that restrict where its credentials may be sent.
///
/// # Errors
///
/// A message that says what is wrong with them.
pub fn apply_allowed_endpoints(
    credentials: &mut Credentials,
    of: &str,
    secret: Option<&str>,
    meta: &ObjectMeta,
) -> Result<(), String> {
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    match annotation(ALLOWED_ENDPOINTS) {
        Some(text) => {
            let allow_ca_bundle = annotation(ALLOW_CA_BUNDLE) == Some("true");
            credentials
                .pins
                .push(AllowedEndpoints::parse(of, secret, text, allow_ca_bundle).map_err(|error| error.to_string())?);
        }
        None => credentials.unpinned.push(of.to_owned()),
    }
    Ok(())
}

/// Restricts a token of another integration to the endpoints that the owners of its credentials allow: (name for
/// messages, name of the Secret, metadata) of each. Without any, the owners of its own input decide, if it `is_chained`.
///
/// # Errors
///
/// A message that says what is wrong with an annotation.
pub fn forward(
    credentials: &mut Credentials,
    integration: &str,
    owners: &[(String, Option<&str>, ObjectMeta)],
    is_chained: bool,
) -> Result<(), String> {
    if owners.is_empty() && !is_chained {
        credentials.not_forwarded =
            Some(format!("OAuthIntegration {integration}, which has no credentials of its own"));
    }
    for (of, secret, meta) in owners {
        let of = format!("{of} of OAuthIntegration {integration}");
        let unpinned = credentials.unpinned.len();
        apply_allowed_endpoints(credentials, &of, *secret, meta)?;
        if credentials.unpinned.len() > unpinned {
            credentials.not_forwarded = credentials.unpinned.pop();
        }
    }
    Ok(())
}

fn value(
    source: &CredentialsSource,
    field: &CredentialRef,
    secret: Option<&Secret>,
) -> Result<Option<SecretString>, Unresolved> {
    let CredentialRef { credential, key, required, of_user: _ } = field;
    let secret_name = source.secret_of(*credential);
    let found = text(secret_name, key, secret)?;
    let secret_name = secret_name.unwrap_or_default();
    match (found, required) {
        ("", true) if secret.is_none() => {
            Err(Unresolved::Missing(format!("spec.credentials must be set: the grant needs {}", credential.key())))
        }
        ("", true) => Err(Unresolved::Missing(format!(
            "Secret {secret_name} has no value under key {key}: add it, or name another key in spec.credentials.keys.{}",
            credential.name()
        ))),
        ("", false) => Ok(None),
        (text, _) => Ok(Some(text.into())),
    }
}

/// The message for a missing Secret.
#[must_use]
pub fn missing_secret_message(name: &str) -> String {
    format!("Secret {name} does not exist in this namespace: create it, or name another in spec.credentials.secretName")
}

/// The message for a missing Secret of a provider.
pub fn missing_provider_secret_message(name: &str, provider: &Origin) -> String {
    let Origin { reference, namespace, .. } = provider;
    format!(
        "Secret {name} of {reference} does not exist in namespace {namespace}: ask the administrator of the provider to create it, or to name another one"
    )
}

/// The message for a missing refresh token.
#[must_use]
pub fn missing_refresh_token_message(source: &CredentialsSource) -> String {
    let secret_name = source.secret_of(Credential::RefreshToken).unwrap_or_default();
    let credential = Credential::RefreshToken;
    let field = source.fields.iter().find(|field| field.credential == credential);
    let key = field.map_or(credential.key(), |field| &field.key);
    format!(
        "Secret {secret_name} has no value under key {key} and the target holds no refresh token: add the first one, or name another key in spec.credentials.keys.{}",
        credential.name()
    )
}

/// The message for a refresh token that the server has replaced, and whose successor was in another Secret.
#[must_use]
pub fn lost_refresh_token_message(source: &CredentialsSource, holder: &str) -> String {
    let secret_name = source.secret_of(Credential::RefreshToken).unwrap_or_default();
    let field = source.fields.iter().find(|field| field.credential == Credential::RefreshToken);
    let key = field.map_or(Credential::RefreshToken.key(), |field| &field.key);
    format!(
        "Secret {holder} no longer has the refresh token, and the server has replaced the one in Secret {secret_name}: put a new one under its key {key}"
    )
}

/// The message for a refresh token in the target that is not sent.
#[must_use]
pub fn withheld_refresh_token_message(source: &CredentialsSource, target: &str) -> String {
    let secret_name = source.secret_of(Credential::RefreshToken).unwrap_or_default();
    let field = source.fields.iter().find(|field| field.credential == Credential::RefreshToken);
    let key = field.map_or(Credential::RefreshToken.key(), |field| &field.key);
    if let Some(provider) = &source.provider {
        let provider = &provider.reference;
        return format!(
            "the refresh token in Secret {target} was obtained with other credentials or from another endpoint than those of {provider}, and is not sent anywhere else: revert the change of the spec or of {provider}, or put a new refresh token under key {key} of Secret {secret_name}"
        );
    }
    format!(
        "the refresh token in Secret {target} was obtained with other credentials, from another endpoint or over another connection, and is not sent anywhere else: revert the change of the spec, let the owner of the credentials allow the endpoint with the annotation {ALLOWED_ENDPOINTS}, or put a new refresh token under key {key} of Secret {secret_name}"
    )
}

/// A hint at the most common mistakes in a Secret: a line break, as `echo secret | base64` adds it, a space, quotes, and
/// base64 in `data` of a value that is already base64. Keys and certificates always end with a line break.
#[must_use]
pub fn unusual_value_hint(source: &CredentialsSource, credentials: &Credentials) -> String {
    let named = source
        .fields
        .iter()
        .map(|field| (field.key.as_str(), Some(field.credential), credentials.get(field.credential)));
    let others = credentials.others.iter().map(|(key, value)| (key.as_str(), None, Some(value)));
    let mut hint = String::new();
    for (key, credential, value) in named.chain(others) {
        if let Some(mistake) = mistake(credential, value.map_or("", ExposeSecret::expose_secret)) {
            let _ = write!(hint, "; the value under key {key} {mistake}");
        }
    }
    hint
}

/// A hint for a rejected client whose ID or secret is encoded by `client_secret_basic`: many servers do not decode them.
#[must_use]
pub fn basic_encoding_hint(request: &TokenRequest, credentials: &Credentials) -> &'static str {
    let ClientAuthentication { method, basic_encoding, assertion: _ } = &request.client;
    let encodes =
        *method == ClientAuthenticationMethod::ClientSecretBasic && *basic_encoding != Some(BasicEncoding::Raw);
    let is_unchanged = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    let is_changed =
        |credential| credentials.get(credential).is_some_and(|value| !value.expose_secret().bytes().all(is_unchanged));
    if encodes && (is_changed(Credential::ClientId) || is_changed(Credential::ClientSecret)) {
        "; the client ID or the client secret contains characters that are form-encoded (RFC 6749): if the server does not decode them, set spec.clientAuthentication.basicEncoding: raw"
    } else {
        ""
    }
}

/// What is unusual about the value of a credential.
fn mistake(credential: Option<Credential>, value: &str) -> Option<&'static str> {
    let is_quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    match value {
        _ if value.starts_with("-----BEGIN") => None,
        _ if value.ends_with(['\n', '\r']) => Some("ends with a line break, which is sent too"),
        _ if value.starts_with(char::is_whitespace) => Some("starts with a space, which is sent too"),
        _ if value.ends_with(char::is_whitespace) => Some("ends with a space, which is sent too"),
        _ if is_quoted('"') || is_quoted('\'') => Some("is in quotes, which are sent too"),
        // Tokens of some servers are base64 of JSON.
        _ if matches!(credential, Some(Credential::ClientSecret | Credential::Password))
            && is_base64_of_text(value) =>
        {
            Some("may be base64 that was encoded again: encode it once, or use stringData")
        }
        _ => None,
    }
}

/// Whether a value is base64 of printable text. A random value of this length rarely is.
fn is_base64_of_text(value: &str) -> bool {
    /// In bytes.
    const MIN_LENGTH: usize = 8;
    let decoded = Zeroizing::new(STANDARD.decode(value).unwrap_or_default());
    let text = decoded.strip_suffix(b"\n").unwrap_or(&decoded);
    text.len() >= MIN_LENGTH && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
