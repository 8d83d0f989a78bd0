//! Reads the token of another integration from its target Secret. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use crate::api::grant::{TokenFrom, TokenValue};
use crate::spec::validated::ValidatedSpec;
use crate::target::read;
use crate::target::snapshot::TargetSnapshot;

/// Checks that the target Secret of another integration, which `spec` describes, holds a token for its current spec and
/// credentials. `uid` is that of the integration. With `now`, the token must not have expired.
///
/// # Errors
///
/// A message that says why there is none.
pub fn check(
    from: &TokenFrom,
    uid: &str,
    spec: &ValidatedSpec,
    snapshot: &TargetSnapshot,
    now: Option<Timestamp>,
) -> Result<(), String> {
    let (name, provenance) = (&from.integration, &snapshot.provenance);
    if !snapshot.is_owned_by(uid) {
        let target = &spec.template.secret_name;
        return Err(format!("Secret {target} does not belong to OAuthIntegration {name}: see its condition Ready"));
    }
    // The owner of other credentials has not allowed this endpoint.
    if provenance.spec_hash != spec.spec_hash || provenance.credentials_name != spec.credentials_name {
        return Err(format!("OAuthIntegration {name} has no token for its current spec: see its condition Ready"));
    }
    let is_used = now.filter(|_| from.value != TokenValue::RefreshToken);
    match (snapshot.times, is_used) {
        (_, None) => Ok(()),
        (Some(times), Some(now)) if times.expires_at > now => Ok(()),
        _ => Err(format!("the token of OAuthIntegration {name} has expired: see its condition Ready")),
    }
}

/// The name of the Secret that holds the token, if it is not the target: a refresh token.
#[must_use]
pub fn other_secret<'a>(from: &TokenFrom, spec: &'a ValidatedSpec) -> Option<&'a String> {
    spec.template.refresh_token_secret.as_ref().filter(|_| from.value == TokenValue::RefreshToken)
}

/// Reads the token from the Secret of another integration that holds it.
///
/// # Errors
///
/// A message that says why there is none.
pub fn read(from: &TokenFrom, spec: &ValidatedSpec, secret: &Secret) -> Result<SecretString, String> {
    let (name, target) = (&from.integration, other_secret(from, spec).unwrap_or(&spec.template.secret_name));
    // Only a value that the operator has written.
    let stores_id_token = spec.template.data.contains_key(TokenValue::IdToken.as_str());
    let value = read::read_value(secret, &spec.template.keys, |keys| match from.value {
        TokenValue::AccessToken => Some(keys.access_token.clone()),
        TokenValue::RefreshToken => Some(keys.refresh_token.clone()),
        TokenValue::IdToken => stores_id_token.then(|| TokenValue::IdToken.as_str().to_owned()),
    });
    value.ok_or_else(|| match from.value {
        TokenValue::IdToken => format!(
            "Secret {target} of OAuthIntegration {name} has no id_token: add target.data: {{id_token: response.id_token}} to that integration"
        ),
        other => format!("Secret {target} of OAuthIntegration {name} has no {}", other.as_str()),
    })
}
