//! Giving tokens back (RFC 7009): the former one some time after a renewal, and all when the integration is deleted.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::{Api, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::info;

use crate::api::{FINALIZER, OAuthIntegration, Reason};
use crate::calls::in_time;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::oauth::{Ask, Revocation};
use crate::plan::{CredentialsSeen, Observed};
use crate::revocation::GiveBack;
use crate::settle::Outcome;
use crate::target::Content;
use crate::validated::Validated;

/// The longest time for which a deletion waits.
const LONGEST: Duration = Duration::from_secs(20);
/// The longest time for which one waits for its turn, where very many are deleted at once.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// RFC 7009, section 2.1.
const ACCESS_TOKEN: &str = "access_token";
const REFRESH_TOKEN: &str = "refresh_token";

/// The token that was in the target, to be given back once all workloads have the new one. One that was had for another spec or
/// by other credentials is not: nobody knows any more who gave it.
pub(super) fn former(
    integration: &OAuthIntegration,
    observed: &Observed,
    new: &Content,
) -> Option<(Duration, GiveBack)> {
    let spec = observed.spec.as_ref().ok()?;
    let after = spec.revocation.as_ref()?.after_renewal?;
    let old = observed.holding.content.as_ref().filter(|old| observed.is_of_these(&old.origin))?;
    let token = old.access_token.as_ref()?;
    let same = new.access_token.as_ref().is_some_and(|new| new.expose_secret() == token.expose_secret());
    // By then it may have ended by itself.
    let lives = old.times.expires_at.duration_since(observed.now) > SignedDuration::try_from(after).ok()?;
    if same || !lives {
        return None;
    }
    Some((after, deed(integration, observed, spec, token, ACCESS_TOKEN)?))
}

/// Gives back all tokens of an integration that is deleted, and lets it go, also where that fails. Many at once wait for each
/// other, but not for ever, and never hold up those who renew.
pub(super) async fn all(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
) -> Result<Outcome, Error> {
    let wanted = observed.spec.as_ref().map_or(true, |spec| spec.revokes_on_deletion());
    let outcome = match context.revocations.place_for_deletion() {
        _ if !wanted => Outcome::Nothing,
        Some(_place) => {
            let done = tokio::time::timeout(LONGEST, revoke_all(context, integration, observed)).await;
            let late = || Failure::new(Reason::RequestTimedOut, format!("it took longer than {LONGEST:?}"));
            match done.unwrap_or_else(|_| Err(late())) {
                Ok(0) => Outcome::Nothing,
                Ok(_) => Outcome::GivenBack(None),
                Err(failure) => Outcome::GivenBack(Some(failure)),
            }
        }
        None if is_overdue(integration, observed.now, LONGEST_WAIT) => {
            let failure = Failure::new(Reason::RequestTimedOut, "too many are deleted at once");
            Outcome::GivenBack(Some(failure))
        }
        // Looked at again in a moment.
        None => return Ok(Outcome::Nothing),
    };
    release(context, integration).await?;
    Ok(outcome)
}

/// Whether a deletion has waited for so long already.
#[must_use]
pub fn is_overdue(integration: &OAuthIntegration, now: Timestamp, longest: SignedDuration) -> bool {
    let since = integration.metadata.deletion_timestamp.as_ref();
    since.is_some_and(|since| now.duration_since(since.0) > longest)
}

/// Gives back what is held and what is in the Secret, and returns how many that were.
async fn revoke_all(context: &Context, integration: &OAuthIntegration, observed: &Observed) -> Result<usize, Failure> {
    let spec = observed.spec.as_ref().map_err(|message| Failure::new(Reason::InvalidSpec, message.clone()))?;
    if observed.suspend {
        return Err(Failure::new(Reason::Suspended, "the integration is suspended: nothing is sent"));
    }
    match &observed.credentials {
        CredentialsSeen::Read(..) => {}
        CredentialsSeen::Missing(message)
        | CredentialsSeen::Unreadable(message)
        | CredentialsSeen::DependencyMissing(message) => {
            return Err(Failure::new(Reason::CredentialsMissing, message.clone()));
        }
        CredentialsSeen::Unread(_) => {
            return Err(Failure::new(Reason::CredentialsMissing, "the credentials were not read"));
        }
    }
    // What is held has not reached the Secret, and what is in the Secret may be older.
    let held = context.notes.held(&observed.uid).map(|held| held.granted.content.clone());
    let mut outcome = Ok(());
    let mut count = 0;
    for content in held.iter().chain(observed.holding.content.as_deref()) {
        if !observed.is_of_these(&content.origin) {
            let why = "the tokens were had for another spec or by other credentials, and are sent nowhere else";
            outcome = outcome.and(Err(Failure::new(Reason::SpecChanged, why)));
            continue;
        }
        let tokens = [(&content.refresh_token, REFRESH_TOKEN), (&content.access_token, ACCESS_TOKEN)];
        for (token, hint) in tokens {
            let Some(deed) = token.as_ref().and_then(|token| deed(integration, observed, spec, token, hint)) else {
                continue;
            };
            count += 1;
            // One that fails is no reason to keep the next.
            outcome = outcome.and(context.revocations.now(&deed).await);
        }
    }
    outcome.map(|()| count)
}

fn deed(
    integration: &OAuthIntegration,
    observed: &Observed,
    spec: &Validated,
    token: &SecretString,
    hint: &'static str,
) -> Option<GiveBack> {
    let CredentialsSeen::Read(credentials, _) = &observed.credentials else { return None };
    let revocation = spec.revocation.as_ref()?;
    let endpoint = revocation.endpoint.clone();
    Some(GiveBack {
        integration: format!("{}/{}", integration.namespace().unwrap_or_default(), integration.name_any()),
        // A proof is for token requests; a revocation endpoint knows the client by itself.
        ask: Ask { format: revocation.format, dpop: false, ..spec.ask.clone() },
        credentials: Arc::clone(credentials),
        revocation: Revocation { endpoint, token: token.clone(), hint },
    })
}

/// Sees to it that a deletion waits for the tokens to be given back, where the spec says so. Before the first token is
/// asked for; not later than the spec changes.
pub(super) async fn mark(context: &Context, integration: &OAuthIntegration, observed: &Observed) -> Result<(), Error> {
    let Ok(spec) = &observed.spec else { return Ok(()) };
    let wanted = spec.revokes_on_deletion();
    if observed.deleting || !observed.leads || wanted == observed.finalizer {
        return Ok(());
    }
    let mut finalizers = integration.finalizers().to_vec();
    finalizers.retain(|known| known != FINALIZER);
    finalizers.extend(wanted.then(|| FINALIZER.to_owned()));
    write_finalizers(context, integration, integration.resource_version(), finalizers).await
}

/// Lets a deletion go on. What others have done to the object meanwhile is no reason to give tokens back once more.
///
/// # Errors
///
/// When the API server does not take it.
pub async fn release<K: ResourceExt>(context: &Context, object: &K) -> Result<(), Error> {
    let api = api(context, object);
    let live = match in_time(api.get_metadata(&object.name_any())).await {
        Ok(live) => live,
        Err(error) if error.status().is_some_and(Status::is_not_found) => return Ok(()),
        Err(error) => return Err(Error::WriteFinalizers(Box::new(error))),
    };
    let mut finalizers = live.finalizers().to_vec();
    finalizers.retain(|known| known != FINALIZER);
    write_finalizers(context, object, live.resource_version(), finalizers).await
}

fn api<K: ResourceExt>(context: &Context, object: &K) -> Api<OAuthIntegration> {
    Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default())
}

async fn write_finalizers<K: ResourceExt>(
    context: &Context,
    object: &K,
    version: Option<String>,
    finalizers: Vec<String>,
) -> Result<(), Error> {
    let name = object.name_any();
    // The list is replaced as a whole: the version says that nobody has changed it since.
    let patch = json!({"metadata": {"uid": object.uid(), "resourceVersion": version, "finalizers": finalizers}});
    match in_time(api(context, object).patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))).await {
        Ok(_) => Ok(()),
        Err(error) if error.status().is_some_and(Status::is_not_found) => {
            info!(%name, "the integration is gone");
            Ok(())
        }
        Err(error) => Err(Error::WriteFinalizers(Box::new(error))),
    }
}
