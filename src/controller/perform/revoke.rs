//! Token revocation (RFC 7009): of the superseded token some time after a renewal, and of all tokens when the
//! integration is deleted.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::admission::Reserved;
use crate::controller::perform::finalizer;
use crate::controller::perform::work::Work;
use crate::controller::revoker::job::RevocationJob;
use crate::decision::backoff::is_overdue;
use crate::decision::observed::{CredentialsState, Observed};
use crate::decision::outcome::Outcome;
use crate::oauth::allowed_endpoints::ALLOWED_ENDPOINTS;
use crate::oauth::error::RequestError;
use crate::oauth::request::TokenRequest;
use crate::oauth::revocation::RevocationRequest;
use crate::spec::validated::ValidatedSpec;
use crate::target::content::{Provenance, TargetContent};

/// The maximum time for the revocations of one deletion.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum time in the queue, if very many integrations are deleted at once.
const QUEUE_TIMEOUT: SignedDuration = SignedDuration::from_mins(1);
/// RFC 7009, section 2.1.
const ACCESS_TOKEN: &str = "access_token";
const REFRESH_TOKEN: &str = "refresh_token";

/// The superseded token, to be revoked after all workloads have the new one. A token that was issued for another spec
/// or with other credentials is not revoked, because it is no longer known which server issued it.
pub(crate) fn superseded(work: &Work<'_>, new: &TargetContent) -> Option<(Duration, RevocationJob)> {
    let Work { context, observed, spec, namespace, .. } = work;
    let after = spec.revocation.as_ref()?.after_renewal?;
    let old = observed.stored.content.as_ref().filter(|old| observed.matches_provenance(&old.provenance))?;
    if let Some(error) = foreign_origin_error(observed, spec) {
        if context.may_log(namespace) {
            let name = &observed.name;
            warn!(namespace, name, reason = %error.reason, "the superseded token is not revoked: {}", error.message);
        }
        return None;
    }
    let token = old.access_token.as_ref()?;
    let is_same = new.access_token.as_ref().is_some_and(|new| new.expose_secret() == token.expose_secret());
    // The token may expire before it is due for revocation.
    let outlives = old.times.expires_at.duration_since(observed.now) > SignedDuration::try_from(after).ok()?;
    if is_same || !outlives {
        return None;
    }
    Some((after, revocation_job(work, token, ACCESS_TOKEN, &new.provenance)?))
}

/// Revokes all tokens of a deleted integration and removes its finalizer, even if a revocation fails. If many
/// integrations are deleted at once, they are queued for a bounded time, and never delay renewals.
pub(crate) async fn all(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
    reserved: Option<Reserved>,
) -> Result<Outcome, Error> {
    let revokes = observed.spec.as_ref().map_or(true, |spec| spec.revokes_on_deletion());
    let outcome = match reserved {
        _ if !revokes => Outcome::Nothing,
        Some(_permit) => {
            let done = tokio::time::timeout(REVOCATION_TIMEOUT, revoke_all(context, integration, observed)).await;
            let late =
                || RequestError::new(Reason::RequestTimedOut, format!("it took longer than {REVOCATION_TIMEOUT:?}"));
            match done.unwrap_or_else(|_| Err(late())) {
                Ok(0) => Outcome::Nothing,
                Ok(_) => Outcome::Revoked(None),
                Err(failure) => Outcome::Revoked(Some(failure)),
            }
        }
        None if is_overdue(integration, observed.now, QUEUE_TIMEOUT) => {
            let failure = RequestError::new(Reason::RequestTimedOut, "too many integrations are deleted at once");
            Outcome::Revoked(Some(failure))
        }
        // Triggered when a permit is free.
        None => return Ok(Outcome::Nothing),
    };
    finalizer::remove(context, integration).await?;
    Ok(outcome)
}

/// Revokes pending and stored tokens, and returns how many there were.
async fn revoke_all(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
) -> Result<usize, RequestError> {
    let spec = observed.spec.as_ref().map_err(|message| RequestError::new(Reason::InvalidSpec, message.clone()))?;
    let Some(work) = Work::new(context, integration, observed) else { return Ok(0) };
    if observed.suspend {
        return Err(RequestError::new(Reason::Suspended, "the integration is suspended: nothing is sent"));
    }
    match &observed.credentials {
        CredentialsState::Resolved(..) => {}
        CredentialsState::Missing(message)
        | CredentialsState::Invalid(message)
        | CredentialsState::AccessDenied(message)
        | CredentialsState::DependencyMissing(message) => {
            return Err(RequestError::new(Reason::CredentialsMissing, message.clone()));
        }
        CredentialsState::NotRead(_) => {
            return Err(RequestError::new(Reason::CredentialsMissing, "the credentials were not read"));
        }
    }
    // A pending token has not reached the Secret, whose tokens may be older.
    let pending = context.states.pending(&observed.uid).map(|pending| pending.issued.content.clone());
    let mut outcome = Ok(());
    let mut count = 0;
    for content in pending.iter().chain(observed.stored.content.as_deref()) {
        if !observed.matches_provenance(&content.provenance) {
            let problem = "the tokens were issued for another spec, with other credentials or over another connection, and are not sent to another server";
            outcome = outcome.and(Err(RequestError::new(Reason::SpecChanged, problem)));
            continue;
        }
        if let Some(error) = foreign_origin_error(observed, spec) {
            outcome = outcome.and(Err(error));
            continue;
        }
        let tokens = [(&content.refresh_token, REFRESH_TOKEN), (&content.access_token, ACCESS_TOKEN)];
        for (token, hint) in tokens {
            let Some(job) = token.as_ref().and_then(|token| revocation_job(&work, token, hint, &content.provenance))
            else {
                continue;
            };
            count += 1;
            // Even if one fails, the next one is revoked.
            outcome = outcome.and(context.revoker.revoke(&job).await);
        }
    }
    outcome.map(|()| count)
}

/// Why stored tokens are not sent to the revocation endpoint: only the owner of the credentials can allow another
/// origin.
fn foreign_origin_error(observed: &Observed, spec: &ValidatedSpec) -> Option<RequestError> {
    let origin = spec.revocation.as_ref()?.foreign_origin.as_ref()?;
    (!observed.is_pinned()).then(|| {
        RequestError::new(
            Reason::EndpointNotAllowed,
            format!(
                "the origin of spec.revocation.endpoint differs from that of the token endpoint: use the same origin, remove the field so that the endpoint is discovered from spec.issuer, or let the owner of the credentials allow {origin} with the annotation {ALLOWED_ENDPOINTS}"
            ),
        )
    })
}

/// `latest` says which client secret the server has accepted last.
fn revocation_job(
    work: &Work<'_>,
    token: &SecretString,
    hint: &'static str,
    latest: &Provenance,
) -> Option<RevocationJob> {
    let Work { observed, spec, namespace, name, .. } = work;
    let CredentialsState::Resolved(credentials, _) = &observed.credentials else { return None };
    let revocation = spec.revocation.as_ref()?;
    let endpoint = revocation.endpoint.clone();
    let mut credentials = Arc::clone(credentials);
    if latest.uses_next_secret {
        Arc::make_mut(&mut credentials).use_next_secret();
    }
    Some(RevocationJob {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: observed.uid.clone(),
        // A DPoP proof belongs to a token request; a revocation endpoint does not require one.
        token_request: TokenRequest { format: revocation.format, dpop: false, ..spec.token_request.clone() },
        credentials,
        revocation: RevocationRequest { endpoint, token: token.clone(), hint },
    })
}
