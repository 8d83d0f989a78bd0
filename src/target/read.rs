//! Reads tokens from a target Secret.

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use crate::api::target::TargetKeys;
use crate::target::annotations::{PREVIOUS_EXPIRES_AT, REFRESH_TOKEN_AT, WrittenKeys, annotation, times};
use crate::target::content::{DataValue, PreviousToken, TargetContent};
use crate::target::snapshot::TargetSnapshot;

/// The content of a Secret that the operator has written, read from the keys under which it was written. `None` if
/// the times are missing.
#[must_use]
pub fn read_content(secret: &Secret) -> Option<TargetContent> {
    let WrittenKeys { keys, data } = WrittenKeys::of(&secret.metadata)?;
    let value = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
    };
    Some(TargetContent {
        access_token: value(&keys.access_token).map(SecretString::from),
        refresh_token: value(&keys.refresh_token).map(SecretString::from),
        refresh_token_at: annotation(&secret.metadata, REFRESH_TOKEN_AT).and_then(|at| at.parse().ok()),
        token_type: keys.token_type.as_deref().and_then(value),
        scope: keys.scope.as_deref().and_then(value),
        data: data
            .into_iter()
            .map(|(key, fingerprint)| {
                let value = value(&key).map(SecretString::from);
                (key, DataValue { fingerprint, value })
            })
            .collect(),
        previous: keys.previous_access_token.as_deref().and_then(value).and_then(|token| {
            let expires_at = annotation(&secret.metadata, PREVIOUS_EXPIRES_AT)?.parse().ok()?;
            Some(PreviousToken { token: token.into(), expires_at })
        }),
        dpop_key: keys.dpop_key.as_deref().and_then(value).map(SecretString::from),
        times: times(&secret.metadata)?,
        provenance: TargetSnapshot::of(secret).provenance,
    })
}

/// A single value of a Secret that the operator has written, even if the rest was lost: `key` selects its key from
/// the keys under which values were written, or from `fallback` if the annotations are missing.
#[must_use]
pub fn read_value(
    secret: &Secret,
    fallback: &TargetKeys,
    key: impl FnOnce(&TargetKeys) -> Option<String>,
) -> Option<SecretString> {
    let written = WrittenKeys::of(&secret.metadata);
    let key = key(written.as_ref().map_or(fallback, |written| &written.keys))?;
    let bytes = &secret.data.as_ref()?.get(&key)?.0;
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty()).map(SecretString::from)
}
