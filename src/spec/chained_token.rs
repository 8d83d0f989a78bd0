//! Reads the token of another integration from its target Secret. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use crate::api::grant::{TokenFrom, TokenValue};
use crate::spec::validated::ValidatedSpec;
use crate::target::read;
use crate::target::snapshot::TargetSnapshot;

/// Reads the token from the target Secret of the other integration, which `spec` describes. `uid` is that of the
/// integration; `None`: without a cluster, Secrets have no owners.
///
/// # Errors
///
/// A message that says why there is no token.
pub fn read(
    from: &TokenFrom,
    uid: Option<&str>,
    spec: &ValidatedSpec,
    secret: &Secret,
    now: Timestamp,
) -> Result<SecretString, String> {
    let name = &from.integration;
    let (snapshot, target) = (TargetSnapshot::of(secret), &spec.template.secret_name);
    if let Some(uid) = uid {
        let provenance = &snapshot.provenance;
        if !snapshot.is_owned_by(uid) {
            return Err(format!("Secret {target} does not belong to OAuthIntegration {name}: see its condition Ready"));
        }
        // The owner of other credentials has not allowed this endpoint.
        if provenance.spec_hash != spec.spec_hash || provenance.credentials_name != spec.credentials_name {
            return Err(format!("OAuthIntegration {name} has no token for its current spec: see its condition Ready"));
        }
        match snapshot.times {
            Some(times) if times.expires_at > now || from.value == TokenValue::RefreshToken => {}
            _ => return Err(format!("the token of OAuthIntegration {name} has expired: see its condition Ready")),
        }
    }
    let value = read::read_value(secret, &spec.template.keys, |keys| {
        Some(match from.value {
            TokenValue::AccessToken => keys.access_token.clone(),
            TokenValue::RefreshToken => keys.refresh_token.clone(),
            TokenValue::IdToken => TokenValue::IdToken.as_str().to_owned(),
        })
    });
    value.ok_or_else(|| match from.value {
        TokenValue::IdToken => format!(
            "Secret {target} of OAuthIntegration {name} has no id_token: add response.extra: {{id_token: id_token}} to that integration"
        ),
        other => format!("Secret {target} of OAuthIntegration {name} has no {}", other.as_str()),
    })
}
