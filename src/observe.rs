//! The only reader of the cluster and the clock: integration and Secrets in, [`Observed`] out.
//!
//! Looks twice. First at what is kept in memory, which costs no API call; only where the plan for that leads to a
//! request or a write, at the Secrets themselves. A request needs a place at its endpoint first, so that those who wait
//! for one have read nothing that may be old when their turn comes:
//!
//! ```text
//!   cache ──► glance ──► plan? ── Wait, Refuse ──────────────────────────────────► Observed   (no call)
//!                          ├───── Renew ──► gate? ── closed ──────────────────────► Observed   (no call)
//!                          │                  └───── open ──┐
//!                          └───── Write ────────────────────┴► read credentials, target ► Observed   (1 or 2 calls)
//! ```

mod inputs;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use crate::api::{FINALIZER, OAuthIntegration, RENEW_REQUESTED_AT};
use crate::cache::SecretRef;
use crate::calls::{self, in_time};
use crate::context::Context;
use crate::credentials;
use crate::error::{ApiError, Error};
use crate::failpoints::failpoint;
use crate::gate::{Caller, Permit, Turn};
use crate::perform;
use crate::plan::{CredentialsSeen, Holding, Observed, Plan, TargetSeen, plan};
use crate::target::{self, Facts};
use crate::validated::Validated;

/// How long a deletion waits for what has to be read before tokens can be given back.
const LONGEST_DELETION: SignedDuration = SignedDuration::from_secs(30);

/// The wall clock, in whole milliseconds: what is finer is of no use to those who read it.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// Looks at an integration and at what belongs to it.
///
/// # Errors
///
/// When a Secret cannot be read for another reason than that it is not there or not allowed.
pub async fn observe(context: &Context, integration: &OAuthIntegration) -> Result<(Observed, Option<Permit>), Error> {
    let mut observed = glance(context, integration);
    let (first_plan, spec) = (plan(&observed), observed.spec.clone());
    let permit = if let (Plan::Renew { .. }, Ok(spec)) = (&first_plan, &spec) {
        place(context, integration, &mut observed, spec)
    } else {
        context.gate.leave(&observed.uid);
        None
    };
    let Ok(spec) = spec else { return Ok((observed, None)) };
    let goes_on = permit.is_some() || matches!(first_plan, Plan::Write { .. } | Plan::GiveBack { .. });
    if goes_on {
        let reading = read(context, integration, &mut observed, &spec, &first_plan).await;
        match reading {
            // A deletion does not wait for ever for what cannot be read.
            Err(error)
                if matches!(first_plan, Plan::GiveBack { .. })
                    && perform::is_overdue(integration, now(), LONGEST_DELETION) =>
            {
                observed.credentials = CredentialsSeen::DependencyMissing(error.to_string());
            }
            done => done?,
        }
        failpoint!("after-reads");
    }
    Ok((observed, permit))
}

/// Asks the gate for a place at the endpoint.
fn place(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &mut Observed,
    spec: &Validated,
) -> Option<Permit> {
    let caller = Caller {
        namespace: integration.namespace().unwrap_or_default(),
        name: integration.name_any(),
        uid: observed.uid.clone(),
    };
    let host = spec.ask.endpoint.origin();
    match context.gate.ask(&caller, &host, observed.ends()) {
        Turn::Now(permit) => Some(permit),
        Turn::Later(closed) => {
            observed.closed = Some(closed);
            None
        }
    }
}

/// Reads the Secrets.
async fn read(
    context: &Context,
    integration: &OAuthIntegration,
    observed: &mut Observed,
    spec: &Arc<Validated>,
    first_plan: &Plan,
) -> Result<(), Error> {
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &integration.namespace().unwrap_or_default());
    let (credentials, found) =
        tokio::join!(inputs::read(context, &secrets, spec), read_target(&secrets, observed, spec, first_plan));
    observed.credentials = credentials?;
    let name = integration.name_any();
    see_target(context, &name, observed, spec, found?);
    // With the credentials known, the plan may be another one, and that one may need what the target holds.
    if lacks_content(observed, &plan(observed)) {
        let target = get(&secrets, &spec.shape.secret_name).await?;
        see_target(context, &name, observed, spec, Found::Target(target));
    }
    // Only now is it known whether there is a refresh token anywhere.
    let lacks_token = spec.needs_refresh_token() && observed.refresh_token().is_none();
    if lacks_token && matches!(observed.credentials, CredentialsSeen::Read(..)) {
        observed.credentials = CredentialsSeen::Missing(credentials::no_refresh_token(&spec.credentials));
    }
    observed.now = now();
    Ok(())
}

/// What memory tells.
fn glance(context: &Context, integration: &OAuthIntegration) -> Observed {
    let name = integration.name_any();
    let namespace = integration.namespace().unwrap_or_default();
    let uid = integration.uid().unwrap_or_default();
    let watched = integration.status.clone().unwrap_or_default();
    let status = context.notes.newest_status(&uid, target::version(&integration.metadata), &watched);
    let spec = Validated::parse(&name, &integration.spec).map(Arc::new);
    let known = context.targets.of(&uid).into_iter().filter(|facts| facts.namespace == namespace);
    let wanted = spec.as_ref().map_or(name.as_str(), |spec| spec.shape.secret_name.as_str());
    let (current, former_targets): (Vec<_>, Vec<_>) = known.partition(|facts| facts.name == wanted);
    let target = match current.into_iter().next() {
        None => TargetSeen::Absent,
        Some(facts) if facts.is_owned_by(&uid) => TargetSeen::Ours(facts),
        Some(_) => TargetSeen::Foreign,
    };
    let version = spec.as_ref().ok().and_then(|spec| {
        let Some(name) = spec.credentials.secret_name.clone() else { return Some(inputs::NO_SECRET.to_owned()) };
        let secret: SecretRef = (namespace.clone(), name);
        context.named.version(&secret).map(|version| version.to_string())
    });
    Observed {
        now: now(),
        generation: integration.metadata.generation.unwrap_or_default(),
        deleting: integration.metadata.deletion_timestamp.is_some(),
        finalizer: integration.finalizers().iter().any(|name| name == FINALIZER),
        suspend: integration.spec.suspend,
        renew_requested_at: integration.annotations().get(RENEW_REQUESTED_AT).cloned(),
        spec,
        credentials: CredentialsSeen::Unread(version),
        holding: Holding::default(),
        former_targets,
        answer_held: holds_answer(context, &uid, &target),
        target,
        not_before: context.notes.not_before(&uid),
        leads: context.leadership.leads(),
        closed: None,
        endpoint_back: context.gate.is_back(&uid),
        status,
        uid,
    }
}

/// Whether an answer is held that is worth writing: not one that another replica has got the better of since.
fn holds_answer(context: &Context, uid: &str, target: &TargetSeen) -> bool {
    let Some(held) = context.notes.held(uid) else { return false };
    let TargetSeen::Ours(facts) = target else { return true };
    let Some(times) = facts.times else { return true };
    if times.issued_at <= held.granted.content.times.issued_at {
        return true;
    }
    context.notes.release(uid);
    false
}

/// What was found where the target should be.
enum Found {
    /// It was not looked for: what memory tells is enough.
    NotLooked,
    /// The Secret of the target's name.
    Target(Option<Box<Secret>>),
    /// There is no target yet, but the one before it.
    Former(Box<Secret>),
}

/// Reads the target where memory has none of it, and where its data are needed: a refresh token to send, or the tokens
/// to write again.
async fn read_target(
    secrets: &Api<Secret>,
    observed: &Observed,
    spec: &Validated,
    first_plan: &Plan,
) -> Result<Found, Error> {
    let absent = matches!(observed.target, TargetSeen::Absent);
    let rewrite = lacks_content(observed, first_plan);
    let gives_back = matches!(first_plan, Plan::GiveBack { .. });
    if !(absent || rewrite || gives_back || spec.reads_target()) {
        return Ok(Found::NotLooked);
    }
    let name = &spec.shape.secret_name;
    let target = get(secrets, name).await?;
    let former = observed.former_targets.iter().max_by_key(|former| former.version);
    match (target, former) {
        (None, Some(former)) => {
            let secret = get(secrets, &former.name).await?;
            Ok(secret.map_or(Found::Target(None), Found::Former))
        }
        (target, _) => Ok(Found::Target(target)),
    }
}

/// Whether a plan writes what the target holds, and that was not read.
fn lacks_content(observed: &Observed, plan: &Plan) -> bool {
    matches!(plan, Plan::Write { .. }) && !observed.answer_held && observed.holding.content.is_none()
}

async fn get(secrets: &Api<Secret>, name: &str) -> Result<Option<Box<Secret>>, Error> {
    let read = |source: ApiError| Error::ReadTarget { name: name.to_owned(), source: Box::new(source) };
    Ok(in_time(secrets.get_opt(name)).await.map_err(read)?.map(Box::new))
}

fn see_target(context: &Context, name: &str, observed: &mut Observed, spec: &Validated, found: Found) {
    match found {
        Found::NotLooked => {}
        Found::Former(mut secret) => {
            observed.holding = holding(&secret, spec);
            calls::wipe(&mut secret);
        }
        Found::Target(None) => {
            if let TargetSeen::Ours(facts) = &observed.target {
                context.targets.forget(facts);
            }
            observed.target = TargetSeen::Absent;
        }
        Found::Target(Some(mut secret)) => {
            let facts = Facts::of(&secret);
            let owned = facts.is_owned_by(&observed.uid) || facts.is_retained_for(name);
            let ours = owned && calls::is_managed(&secret);
            observed.target = if ours { TargetSeen::Ours(Arc::new(facts.clone())) } else { TargetSeen::Foreign };
            if ours {
                observed.holding = holding(&secret, spec);
                context.targets.learn(facts);
            }
            calls::wipe(&mut secret);
        }
    }
}

fn holding(secret: &Secret, spec: &Validated) -> Holding {
    let origin = Facts::of(secret).origin;
    Holding {
        content: target::content(secret).map(Arc::new),
        refresh_token: target::value(secret, &spec.shape.keys, |keys| Some(keys.refresh_token.clone())),
        dpop_key: target::value(secret, &spec.shape.keys, |keys| keys.dpop_key.clone()),
        first_hash: origin.refresh_token_hash,
        credentials_name: origin.credentials_name,
    }
}
