//! The values of the credentials Secret, and why they cannot be used. Pure.

#![deny(clippy::disallowed_methods)]

use k8s_openapi::api::core::v1::Secret;

/// Why credentials cannot be used, with a message that says what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// A value is missing.
    Missing(String),
    /// A value or an annotation cannot be read.
    Invalid(String),
}

/// The bytes under a key; empty if there is none.
pub(super) fn bytes<'a>(key: &str, secret: Option<&'a Secret>) -> &'a [u8] {
    secret.and_then(|secret| secret.data.as_ref()?.get(key)).map_or(&[], |bytes| &bytes.0)
}

/// The value under a key; empty if there is none.
pub(super) fn text<'a>(
    secret_name: Option<&str>,
    key: &str,
    secret: Option<&'a Secret>,
) -> Result<&'a str, Unresolved> {
    let secret_name = secret_name.unwrap_or_default();
    std::str::from_utf8(bytes(key, secret)).map_err(|_| {
        Unresolved::Invalid(format!("key {key} of Secret {secret_name} is not UTF-8 text: write the value itself"))
    })
}
