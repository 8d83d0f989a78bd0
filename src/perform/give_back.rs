//! Giving tokens back (RFC 7009): the former one some time after a renewal, and all when the integration is deleted.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::info;

use crate::api::{FINALIZER, OAuthIntegration, Reason};
use crate::calls::in_time;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::oauth::Revocation;
use crate::plan::{CredentialsSeen, Observed};
use crate::revocation::GiveBack;
use crate::settle::Outcome;
use crate::target::Content;
use crate::validated::Validated;

/// The longest time for which a deletion waits.
const LONGEST: Duration = Duration::from_secs(20);
/// RFC 7009, section 2.1.
const ACCESS_TOKEN: &str = "access_token";
const REFRESH_TOKEN: &str = "refresh_token";

/// The token that was in the target is given back once all workloads have the new one.
pub(super) fn former(context: &Context, integration: &OAuthIntegration, observed: &Observed, new: &Content) {
    let Ok(spec) = &observed.spec else { return };
    let after = spec.revocation.as_ref().and_then(|revocation| revocation.after_renewal);
    let (Some(after), Some(old)) = (after, &observed.holding.content) else { return };
    let Some(token) = &old.access_token else { return };
    let same = new.access_token.as_ref().is_some_and(|new| new.expose_secret() == token.expose_secret());
    if same || old.times.expires_at <= observed.now {
        return;
    }
    if let Some(deed) = deed(integration, observed, spec, token, ACCESS_TOKEN) {
        context.revocations.later(after, deed);
    }
}

/// Gives back all tokens of an integration that is deleted, and lets it go, also where that fails.
pub(super) async fn all(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &Observed,
) -> Result<Outcome, Error> {
    let wanted = observed.spec.as_ref().map_or(true, |spec| spec.revokes_on_deletion());
    let outcome = if wanted {
        let done = tokio::time::timeout(LONGEST, revoke_all(context, integration, observed)).await;
        let late = || Failure::new(Reason::RequestTimedOut, format!("it took longer than {LONGEST:?}"));
        Outcome::GivenBack(done.unwrap_or_else(|_| Err(late())).err())
    } else {
        Outcome::Nothing
    };
    set_finalizer(context, integration, false).await?;
    Ok(outcome)
}

async fn revoke_all(context: &Context, integration: &OAuthIntegration, observed: &Observed) -> Result<(), Failure> {
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
            return Err(Failure::new(Reason::CredentialsMissing, "the credentials were not read: please report this"));
        }
    }
    // What is held has not reached the Secret, and what is in the Secret may be older.
    let held = context.notes.held(&observed.uid).map(|held| held.granted.content.clone());
    let contents = held.iter().chain(observed.holding.content.as_deref());
    let mut outcome = Ok(());
    for content in contents {
        let tokens = [(&content.refresh_token, REFRESH_TOKEN), (&content.access_token, ACCESS_TOKEN)];
        for (token, hint) in tokens {
            let Some(deed) = token.as_ref().and_then(|token| deed(integration, observed, spec, token, hint)) else {
                continue;
            };
            // One that fails is no reason to keep the next.
            outcome = outcome.and(context.revocations.now(&deed).await);
        }
    }
    outcome
}

fn deed(
    integration: &OAuthIntegration,
    observed: &Observed,
    spec: &Validated,
    token: &SecretString,
    hint: &'static str,
) -> Option<GiveBack> {
    let CredentialsSeen::Read(credentials, _) = &observed.credentials else { return None };
    let endpoint = spec.revocation.as_ref()?.endpoint.clone();
    Some(GiveBack {
        integration: format!("{}/{}", integration.namespace().unwrap_or_default(), integration.name_any()),
        ask: spec.ask.clone(),
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
    set_finalizer(context, integration, wanted).await
}

async fn set_finalizer(context: &Context, integration: &OAuthIntegration, wanted: bool) -> Result<(), Error> {
    let name = integration.name_any();
    let mut finalizers: Vec<&str> = integration.finalizers().iter().map(String::as_str).collect();
    finalizers.retain(|known| *known != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER);
    }
    let api = Api::<OAuthIntegration>::namespaced(context.client.clone(), &integration.namespace().unwrap_or_default());
    // The list is replaced as a whole: the version says that nobody has changed it since.
    let patch = json!({"metadata": {
        "uid": integration.uid(),
        "resourceVersion": integration.resource_version(),
        "finalizers": finalizers,
    }});
    match in_time(api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))).await {
        Ok(_) => Ok(()),
        Err(error) if error.status().is_some_and(kube::core::Status::is_not_found) => {
            info!(%name, "the integration is gone");
            Ok(())
        }
        Err(error) => Err(Error::WriteFinalizers(Box::new(error))),
    }
}
