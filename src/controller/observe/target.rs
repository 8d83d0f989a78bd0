//! Reads the target Secret.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::admission::to_wall_clock;
use crate::decision::observed::{Conflict, Observed, StoredTokens, TargetState};
use crate::decision::outcome::Plan;
use crate::decision::plan::plan;
use crate::kube_api::call;
use crate::kube_api::call::{ApiError, with_timeout};
use crate::spec::validated::ValidatedSpec;
use crate::target::adoption::Adoptable;
use crate::target::annotations::ADOPT_BY;
use crate::target::snapshot::TargetSnapshot;
use crate::target::{annotations, read};

/// Reads a target that another writer has changed and whose data has not been read since, if it is to stay unchanged:
/// watches deliver only metadata. Users who may write the target can cause such reads, so they are charged to the
/// budget of the namespace; reads beyond the budget are delayed.
pub(crate) async fn verify(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &mut Observed,
) -> Result<(), Error> {
    let stays = matches!(plan(observed), Plan::Rewrite { .. } | Plan::Wait { reason: Reason::TokenValid, .. });
    let Ok(spec) = observed.spec.clone() else { return Ok(()) };
    let is_unread = observed.snapshot().is_some_and(TargetSnapshot::is_unread);
    let is_refresh_token_unread = observed.refresh_token_snapshot().is_some_and(|snapshot| snapshot.is_unread());
    if !stays || !(is_unread || is_refresh_token_unread) {
        return Ok(());
    }
    let namespace = integration.namespace().unwrap_or_default();
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    if let Some(turn) = context.budgets.admit_read(&namespace, &observed.uid, Instant::now()) {
        observed.throttled_until = to_wall_clock(observed, turn);
        return Ok(());
    }
    if is_unread {
        let target = get(&secrets, &spec.template.secret_name).await?;
        record(context, observed, &spec, target);
    }
    if is_refresh_token_unread {
        read_refresh_tokens(context, &secrets, observed, &spec).await?;
    }
    Ok(())
}

/// Reads a Secret; `None` if it does not exist.
pub(crate) async fn get(secrets: &Api<Secret>, name: &str) -> Result<Option<Box<Secret>>, Error> {
    let error = |source: ApiError| Error::ReadTarget { name: name.to_owned(), source: Box::new(source) };
    Ok(with_timeout(secrets.get_opt(name)).await.map_err(error)?.map(Box::new))
}

/// Reads the tokens of the previous target: if there is no target yet, they are carried over.
pub(crate) async fn read_previous(
    secrets: &Api<Secret>,
    observed: &mut Observed,
    spec: &ValidatedSpec,
) -> Result<(), Error> {
    observed.previous_target_was_read = true;
    let Some(name) = observed.latest_previous_target().map(|previous| previous.name.clone()) else { return Ok(()) };
    if let Some(mut secret) = get(secrets, &name).await? {
        observed.stored = stored_tokens(&secret, spec);
        observed.refresh_tokens_were_read = false;
        call::wipe(&mut secret);
    }
    Ok(())
}

/// Reads the Secrets that may hold the refresh token, other than the target. After a crash between two writes, more
/// than one may hold one: the latest is the one that the server knows.
pub(crate) async fn read_refresh_tokens(
    context: &Context,
    secrets: &Api<Secret>,
    observed: &mut Observed,
    spec: &ValidatedSpec,
) -> Result<(), Error> {
    for name in observed.refresh_token_secrets() {
        let secret = get(secrets, &name).await?;
        let is_wanted = spec.template.refresh_token_secret.as_ref() == Some(&name);
        let seen = seen(context, observed, secret.as_deref());
        if let (TargetState::Absent, Some(known)) = (&seen, observed.refresh_token_snapshot().filter(|_| is_wanted)) {
            context.targets.remove(known);
        }
        // The tokens of a Secret that is being taken over are those that are in it.
        let is_adopted = matches!(observed.target, TargetState::Adoptable(_));
        if let (TargetState::Owned(snapshot), Some(secret), false) = (&seen, &secret, is_adopted) {
            observed.stored.add_refresh_token(snapshot, secret, &spec.template.keys);
        }
        if is_wanted {
            observed.refresh_token_target = seen;
        } else if matches!(seen, TargetState::Absent) {
            observed.previous_targets.retain(|previous| previous.name != name);
        }
        if let Some(mut secret) = secret {
            call::wipe(&mut secret);
        }
    }
    observed.refresh_tokens_were_read = true;
    if matches!(observed.target, TargetState::Adoptable(_))
        && let Some(conflict) = other_tokens(observed, &spec.template.secret_name)
    {
        observed.target = conflict;
    }
    Ok(())
}

/// Records the target that was read, in the observation and in the cache.
pub(crate) fn record(context: &Context, observed: &mut Observed, spec: &ValidatedSpec, secret: Option<Box<Secret>>) {
    observed.target_was_read = true;
    // They complete the tokens of the target.
    observed.refresh_tokens_were_read = false;
    let mut seen = seen(context, observed, secret.as_deref());
    match (&seen, &secret) {
        (TargetState::Owned(_), Some(secret)) => observed.stored = stored_tokens(secret, spec),
        (TargetState::Absent, _) => {
            if let TargetState::Owned(snapshot) = &observed.target {
                context.targets.remove(snapshot);
            }
        }
        (TargetState::NotOwned(Conflict::Foreign), Some(secret)) => seen = handed_over(observed, spec, secret),
        _ => {}
    }
    observed.target = seen;
    if let Some(mut secret) = secret {
        call::wipe(&mut secret);
    }
}

/// Whether a Secret that was read belongs to the integration. If so, it is cached.
fn seen(context: &Context, observed: &Observed, secret: Option<&Secret>) -> TargetState {
    let Some(secret) = secret else { return TargetState::Absent };
    let snapshot = TargetSnapshot::of(secret);
    let is_owned = snapshot.is_owned_by(&observed.uid) || observed.may_take_over(&snapshot);
    if !is_owned || !annotations::has_managed_by_label(secret) {
        return TargetState::NotOwned(match other_owner(context, &snapshot, observed) {
            Some(other) => Conflict::OtherIntegration(other),
            None => Conflict::Foreign,
        });
    }
    // A retained Secret is cached after it has been taken over.
    if snapshot.integration_uid == observed.uid {
        context.targets.upsert(snapshot.clone());
    }
    TargetState::Owned(Arc::new(snapshot))
}

/// Why a Secret is not taken over although its owner hands it over: the integration has its own refresh token.
fn other_tokens(observed: &Observed, name: &str) -> Option<TargetState> {
    let own = observed.has_other_tokens()?;
    Some(TargetState::NotOwned(Conflict::NotAdoptable(format!(
        "Secret {name} is not taken over, although its annotation {ADOPT_BY} names this integration, because one of two refresh tokens would be lost: the integration has its own, or had its last one, in Secret {own}; name that integration's former target in spec.target.secretName again, or delete the Secret whose refresh token is not needed"
    ))))
}

/// A Secret that something else has written: its owner may hand it over to this integration.
fn handed_over(observed: &mut Observed, spec: &ValidatedSpec, secret: &Secret) -> TargetState {
    match annotations::annotation(&secret.metadata, ADOPT_BY) {
        None => return TargetState::NotOwned(Conflict::Foreign),
        Some(name) if name != observed.name => return TargetState::NotOwned(Conflict::HandedToAnother),
        Some(_) => {}
    }
    let name = &spec.template.secret_name;
    if observed.write_pending {
        return TargetState::NotOwned(Conflict::NotAdoptable(format!(
            "Secret {name} is not taken over, although its annotation {ADOPT_BY} names this integration, because a token that was received before waits to be written, and one of the two would be lost: name another Secret in spec.target.secretName, or delete this one"
        )));
    }
    if let Some(conflict) = other_tokens(observed, name) {
        return conflict;
    }
    match Adoptable::of(secret, &observed.uid, &spec.template) {
        Ok(adoptable) => {
            observed.stored = StoredTokens {
                refresh_token: adoptable.tokens.refresh_token.clone(),
                dpop_key: adoptable.tokens.dpop_key.clone(),
                ..StoredTokens::default()
            };
            TargetState::Adoptable(Arc::new(adoptable))
        }
        Err(message) => TargetState::NotOwned(Conflict::NotAdoptable(message)),
    }
}

/// The name of the existing integration that a Secret belongs to, if it is another one.
fn other_owner(context: &Context, snapshot: &TargetSnapshot, observed: &Observed) -> Option<String> {
    let (_, uid) = snapshot.owner.as_ref().filter(|_| !snapshot.retained)?;
    let is_other = *uid != observed.uid && context.secret_references.has(&snapshot.namespace, uid);
    snapshot.owner_name().filter(|_| is_other)
}

fn stored_tokens(secret: &Secret, spec: &ValidatedSpec) -> StoredTokens {
    let provenance = TargetSnapshot::of(secret).provenance;
    StoredTokens {
        content: read::read_content(secret).map(Arc::new),
        refresh_token: read::read_value(secret, &spec.template.keys, |keys| Some(keys.refresh_token.clone())),
        dpop_key: read::read_value(secret, &spec.template.keys, |keys| keys.dpop_key.clone()),
        initial_refresh_token_hash: provenance.refresh_token_hash,
        credentials_name: provenance.credentials_name,
        binding: provenance.binding,
        refresh_token_secret: None,
    }
}
