//! Builds the content of a Secret that is taken over from the tokens in it. Pure.

use jiff::Timestamp;
use secrecy::ExposeSecret;

use crate::acquisition::content::{in_time, provenance};
use crate::api::reason::Reason;
use crate::decision::observed::{CredentialsState, Observed};
use crate::fingerprint;
use crate::oauth::lifetime;
use crate::oauth::lifetime::{Jitter, Known, TokenTimes};
use crate::spec::validated::ValidatedSpec;
use crate::target::adoption::AdoptedTokens;
use crate::target::content::{Provenance, TargetContent};

/// The content, without the values of `target.data`: the tokens as they are, bound to the endpoints and the credentials
/// of the current spec. `None` if the credentials have not been read.
///
/// The chain of refresh tokens continues with the one in the Secret: the initial one of the credentials counts as used.
#[must_use]
pub fn content(observed: &Observed, spec: &ValidatedSpec, tokens: &AdoptedTokens) -> Option<TargetContent> {
    let CredentialsState::Resolved(credentials, version) = &observed.credentials else { return None };
    let AdoptedTokens { access_token, refresh_token, token_type, scope, dpop_key, expires_at: _, data: _ } = tokens;
    let provenance = Provenance {
        access_token_hash: access_token.as_ref().map(|token| fingerprint::salted(&[token.expose_secret()])),
        // A renewal that was requested before is still to be done.
        renew_requested_at: None,
        ..provenance(observed, spec, credentials, version)
    };
    Some(TargetContent {
        access_token: access_token.clone(),
        refresh_token: refresh_token.clone(),
        token_type: token_type.clone(),
        scope: scope.clone(),
        dpop_key: dpop_key.clone(),
        ..TargetContent::empty(times(observed, spec, tokens), provenance)
    })
}

/// When the token was issued is unknown, so its lifetime is counted from now.
fn times(observed: &Observed, spec: &ValidatedSpec, tokens: &AdoptedTokens) -> TokenTimes {
    let now = observed.now;
    let Some(end) = usable_until(spec, tokens).filter(|end| now < *end) else {
        let end = tokens.expires_at.unwrap_or(now).min(now);
        return TokenTimes { warning: Some(Reason::TokenLifetimeUnknown), ..TokenTimes::new(end, end, now) };
    };
    let lifetime = lifetime::resolve(&Known {
        issued_at: now,
        token_lifetime: spec.token_lifetime,
        expires_in: None,
        expires_at: Some(end),
        problem: None,
        is_computed: false,
        access_token: "",
    });
    let scheduled = lifetime::schedule(&observed.uid, now, lifetime.length, spec.renewal_time, Jitter::Wide);
    // Only a part of the lifetime is left, so it is no mistake of the spec if it is shorter than `tokenLife` or
    // `renewBefore`. With the latter, the token is due.
    let is_due = scheduled.warning.is_some();
    let times = in_time(observed, spec, TokenTimes { warning: None, ..scheduled });
    if is_due { TokenTimes { renew_at: now, ..times } } else { times }
}

/// The expiry of a token that a workload can use: without its key, a DPoP-bound token is of no use.
fn usable_until(spec: &ValidatedSpec, tokens: &AdoptedTokens) -> Option<Timestamp> {
    let is_usable = tokens.access_token.is_some() && (!spec.token_request.dpop || tokens.dpop_key.is_some());
    tokens.expires_at.filter(|_| is_usable)
}
