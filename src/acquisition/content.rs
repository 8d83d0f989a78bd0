//! Builds the content of the target Secret from a token response and the observation. Pure.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::reason::Reason;
use crate::decision::observed::{CredentialsState, Observed};
use crate::fingerprint;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::lifetime;
use crate::oauth::lifetime::{Jitter, TokenTimes};
use crate::spec::validated::ValidatedSpec;
use crate::target::content::{PreviousToken, Provenance, TargetContent};

/// The provenance of a token that was obtained with the current spec and with these credentials in this version.
pub(crate) fn provenance(
    observed: &Observed,
    spec: &ValidatedSpec,
    credentials: &Credentials,
    version: &str,
) -> Provenance {
    // Comparable within the namespace, to recognize integrations with the same one.
    let first_token = credentials
        .get(Credential::RefreshToken)
        .map(|token| fingerprint::in_namespace(&credentials.tenant, token.expose_secret()));
    Provenance {
        spec_hash: spec.spec_hash.clone(),
        credentials_hash: fingerprint::salted(&credentials.hashed_parts()),
        credentials_name: spec.credentials_name.clone(),
        credentials_version: version.to_owned(),
        binding: spec.binding.clone(),
        access_token_hash: None,
        refresh_token_hash: first_token.or_else(|| observed.stored.initial_refresh_token_hash.clone()),
        uses_next_secret: observed.uses_next_secret(),
        renew_requested_at: observed.renew_requested_at.clone(),
    }
}

/// The content to write if only the new refresh token of a response can be used: that token together with the stored
/// access token. Without a stored access token, the Secret contains only the refresh token, and its renewal is due
/// immediately.
#[must_use]
pub fn content_with_rotated_refresh_token(
    observed: &Observed,
    spec: &ValidatedSpec,
    token: SecretString,
    now: Timestamp,
) -> Option<TargetContent> {
    let CredentialsState::Resolved(credentials, version) = &observed.credentials else { return None };
    if !spec.token_request.grant.is_refresh() || (spec.renewal.is_refresh_first() && observed.stored.content.is_none())
    {
        // Any other grant can be run again.
        return None;
    }
    let provenance = provenance(observed, spec, credentials, version);
    let content = match &observed.stored.content {
        Some(content) => TargetContent {
            provenance: content.provenance.with_refresh_token_of(&provenance),
            refresh_token_at: Some(now),
            // Without an access token, another one is due.
            times: if content.access_token.is_some() { content.times } else { TokenTimes::new(now, now, now) },
            ..TargetContent::clone(content)
        },
        None => TargetContent {
            dpop_key: observed.stored.dpop_key.clone(),
            ..TargetContent::empty(TokenTimes::new(now, now, now), provenance)
        },
    };
    Some(TargetContent { refresh_token: Some(token), ..content })
}

/// The stored content with the renewal time of the current spec: the token stays the same.
#[must_use]
pub fn rescheduled(observed: &Observed, spec: &ValidatedSpec, content: &TargetContent) -> TargetContent {
    let TokenTimes { issued_at, expires_at, warning, .. } = content.times;
    let lifetime: SignedDuration = expires_at.duration_since(issued_at);
    let scheduled = lifetime::schedule(&observed.uid, issued_at, lifetime, spec.renewal_time, Jitter::Narrow);
    let warning = warning.filter(|warning| *warning != Reason::RenewBeforeTooLong).or(scheduled.warning);
    let times = TokenTimes { renew_at: scheduled.renew_at, warning, ..content.times };
    let previous = content.previous.clone().filter(|_| spec.template.keeps_previous_token());
    let previous = previous.filter(|previous| observed.now < previous.expires_at);
    TargetContent { times: in_time(observed, spec, times), previous, ..content.clone() }
}

/// The access token that a new one replaces, if it is kept and has not expired.
pub(crate) fn previous_token(
    observed: &Observed,
    spec: &ValidatedSpec,
    new: &SecretString,
    now: Timestamp,
) -> Option<PreviousToken> {
    let stored = observed.stored.content.as_ref().filter(|_| spec.template.keeps_previous_token())?;
    // The token of another server, or of another client, is not what workloads go on using.
    let origin = &stored.provenance;
    if origin.binding != spec.binding || origin.credentials_name != spec.credentials_name {
        return None;
    }
    let current = stored.access_token.clone().filter(|token| token.expose_secret() != new.expose_secret());
    let previous = match current {
        Some(token) => Some(PreviousToken { token, expires_at: stored.times.expires_at }),
        // The endpoint has returned the same token again.
        None => stored.previous.clone(),
    };
    previous.filter(|previous| now < previous.expires_at)
}

/// The times with the limits of the refresh token and of the operator.
pub(crate) fn in_time(observed: &Observed, spec: &ValidatedSpec, times: TokenTimes) -> TokenTimes {
    // If the grant can be run again at any time, an expired refresh token costs nothing.
    let needs_refresh_token = spec.token_request.grant.is_refresh() && !spec.renewal.is_refresh_first();
    let times = if needs_refresh_token { times.renewed_before_refresh_token_expires() } else { times };
    times.renewed_after(observed.min_renewal_interval)
}
