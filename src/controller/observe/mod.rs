//! The only module that reads the cluster and the clock: integration and Secrets in, [`Observed`] out.
//!
//! The cache is used first, without an API call. Secrets are read only if the plan is a request or a write, until
//! everything that the plan needs is known. A request needs a permit for its endpoint before anything is read, so
//! that the observation cannot become outdated in the queue:
//!
//! ```text
//!   cache ──► observe_cached ──► plan? ── Wait, Stall ───────────────────────────► Observed   (no call)
//!                          ├───── Renew ──► permit, memory? ── queued ────────────► Observed   (no call)
//!                          │                       └───── granted ┐
//!                          └───── Rewrite ──────────────────────────┴► read missing objects ► Observed   (1 call per object)
//! ```

pub(crate) mod admission;
pub(crate) mod chains;
pub(crate) mod key_files;
pub(crate) mod provider;
pub(crate) mod read_error;
pub(crate) mod secrets;
pub(crate) mod target;

use std::sync::Arc;

use futures::future::OptionFuture;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use crate::api::spec::OAuthIntegration;
use crate::clock::now;
use crate::controller::checks::Checked;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::observe::admission::Reserved;
use crate::controller::observe::provider::Unresolved;
use crate::controller::observe::secrets::Purpose;
use crate::controller::providers::store::ProviderKey;
use crate::decision::backoff;
use crate::decision::observed::{Conflict, CredentialsState, Observed, TargetState};
use crate::decision::outcome::Plan;
use crate::decision::plan::plan;
use crate::decision::reads::{Reads, missing_reads};
use crate::error_report::chain;
use crate::failpoints::failpoint;
use crate::spec::credentials_version;
use crate::spec::expiry::DeclaredExpiry;
use crate::spec::validated::ValidatedSpec;
use crate::target::annotations;
use crate::target::snapshot::TargetSnapshot;
use crate::target::template::SecretTemplate;

/// How long a deletion waits for objects that must be read before tokens can be revoked.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

/// Observes an integration and everything that belongs to it.
///
/// # Errors
///
/// When a Secret cannot be read, unless it does not exist or access is denied.
pub async fn observe(context: &Context, integration: &OAuthIntegration) -> Result<(Observed, Option<Reserved>), Error> {
    let mut observed = observe_cached(context, integration); // no API call
    target::verify(context, integration, &mut observed).await?; // up to one call, within the budget of the namespace
    let mut reserved = admission::admit(context, integration, &mut observed); // no API call
    let plan = plan(&observed);
    if reserved.is_none() && !matches!(plan, Plan::Rewrite { .. }) {
        return Ok((observed, None));
    }
    match read_missing(context, integration, &mut observed).await {
        // A deletion does not wait forever for an object that cannot be read.
        Err(error)
            if matches!(plan, Plan::Revoke { .. }) && backoff::is_overdue(integration, now(), DELETION_TIMEOUT) =>
        {
            observed.credentials = CredentialsState::DependencyMissing(chain(&error));
        }
        done => done?,
    }
    if let Some(Reserved::Request { claim, .. }) = &mut reserved {
        *claim = admission::claim_initial_token(context, integration, &mut observed);
    }
    failpoint!("after-reads");
    Ok((observed, reserved))
}

/// Reads until everything that the plan needs is known. Each read may change the plan, and therefore the objects that
/// it needs. So does the time that it takes: a token that was not due before the first read may be due after it.
async fn read_missing(context: &Context, integration: &OAuthIntegration, observed: &mut Observed) -> Result<(), Error> {
    let Ok(spec) = observed.spec.clone() else { return Ok(()) };
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &integration.namespace().unwrap_or_default());
    loop {
        observed.now = now();
        let plan = plan(observed);
        let Some(Reads { credentials, target, previous_target, refresh_tokens }) = missing_reads(observed, &plan)
        else {
            break;
        };
        let purpose = if matches!(plan, Plan::Revoke { .. }) { Purpose::Revocation } else { Purpose::Request };
        let (credentials, target) = tokio::join!(
            OptionFuture::from(credentials.then(|| secrets::read(context, &secrets, &spec, purpose))),
            OptionFuture::from(target.then(|| target::get(&secrets, &spec.template.secret_name))),
        );
        // Whether a retained target is taken over depends on the credentials, so they are recorded first.
        if let Some(credentials) = credentials.transpose()? {
            observed.credentials = credentials;
            observed.declared_expiry = known_credentials(context, secrets.namespace().unwrap_or_default(), &spec).1;
        }
        if let Some(target) = target.transpose()? {
            target::record(context, observed, &spec, target);
        }
        if previous_target {
            target::read_previous(&secrets, observed, &spec).await?;
        }
        if refresh_tokens {
            target::read_refresh_tokens(context, &secrets, observed, &spec).await?;
        }
    }
    if let Some(message) = observed.missing_refresh_token() {
        observed.credentials = CredentialsState::Missing(message);
    }
    Ok(())
}

/// The observation from the cache.
fn observe_cached(context: &Context, integration: &OAuthIntegration) -> Observed {
    let namespace = integration.namespace().unwrap_or_default();
    let (spec, provider_not_found) = match provider::parse(context, integration) {
        Err(Unresolved::ProviderNotFound(message)) => (Err(message.clone()), Some(message)),
        Err(Unresolved::Invalid(message)) => (Err(message), None),
        Ok(spec) => (Ok(Arc::new(spec)), None),
    };
    let observed = Observed::new(integration, spec, now());
    let uid = observed.uid.clone();
    let spec = observed.spec.and_then(|spec| match context.checks.seen(&uid, &spec.token_request) {
        Checked::Invalid(message) => Err(message),
        Checked::Valid | Checked::Unknown => Ok(spec),
    });
    let mut known = context.targets.for_integration(&namespace, &uid);
    let (wanted, refresh_token_secret) = target_names(context, integration, &uid, spec.as_deref().ok());
    let wanted = wanted.as_str();
    let target = take(&mut known, wanted, &uid);
    let refresh_token_target = refresh_token_secret.map_or(TargetState::Absent, |name| take(&mut known, &name, &uid));
    let lacks_data = match &target {
        TargetState::Owned(snapshot) => {
            context.states.lacks_data(&uid, snapshot.provenance.access_token_hash.as_deref())
        }
        _ => false,
    };
    let (version, declared_expiry) =
        spec.as_ref().map_or((None, None), |spec| known_credentials(context, &namespace, spec));
    let restart_interval =
        context.restarts.as_ref().and_then(|restarts| restarts.workloads.longest_interval(&namespace, wanted));
    Observed {
        provider_not_found,
        dependency_cycle: chains::cycle(context, &namespace, integration),
        target_not_allowed: spec.as_ref().ok().and_then(|spec| context.target_policy.check(&spec.template).err()),
        credentials: CredentialsState::NotRead(version),
        declared_expiry,
        previous_targets: known,
        refresh_token_target,
        write_pending: has_pending_write(context, &uid, &target),
        target,
        not_before: context.states.not_before(&uid),
        lacks_data,
        rewrite_not_before: context.states.rewrite_not_before(&uid),
        settings_hash: Arc::clone(&context.settings_hash),
        min_renewal_interval: context.min_renewal_interval,
        restart_interval,
        is_leader: context.leadership.is_leader(),
        host_recovered: context.limiter.has_recovered(&uid),
        requested_pause_until: context.states.requested_pause_until(&uid),
        spec,
        status: context.states.newest_status(&uid, annotations::version(&integration.metadata), &observed.status),
        ..observed
    }
}

/// The names of the target, and of the Secret for the refresh token. Without a valid spec, those of the response that is to be
/// written, if there is one.
fn target_names(
    context: &Context,
    integration: &OAuthIntegration,
    uid: &str,
    spec: Option<&ValidatedSpec>,
) -> (String, Option<String>) {
    let of_template = |template: &SecretTemplate| (template.secret_name.clone(), template.refresh_token_secret.clone());
    if let Some(spec) = spec {
        return of_template(&spec.template);
    }
    if let Some(pending) = context.states.pending(uid) {
        return of_template(&pending.template);
    }
    let target = &integration.spec.target;
    let name = target.secret_name.clone().unwrap_or_else(|| integration.name_any());
    (name, target.refresh_token_secret_name.clone())
}

/// Takes the Secret with this name out of those of an integration.
fn take(known: &mut Vec<Arc<TargetSnapshot>>, name: &str, uid: &str) -> TargetState {
    let Some(position) = known.iter().position(|snapshot| snapshot.name == name) else { return TargetState::Absent };
    let snapshot = known.swap_remove(position);
    if snapshot.is_owned_by(uid) {
        TargetState::Owned(snapshot)
    } else {
        // Under the uid of this integration, but not its own: there is no other owner to name.
        TargetState::NotOwned(Conflict::Foreign)
    }
}

/// The version of the credentials Secret, and what its annotation says about the expiry, as far as they are known.
fn known_credentials(
    context: &Context,
    namespace: &str,
    spec: &ValidatedSpec,
) -> (Option<String>, Option<DeclaredExpiry>) {
    let (version, expiry) =
        facts(context, spec.credentials.namespace(namespace), spec.credentials.secret_name.as_ref());
    let (version, expiry) = match (&spec.credentials.provider, &spec.credentials.user_secret_name) {
        (None, _) => (version, expiry),
        // The expiry of the provider's credentials is reported there.
        (Some(_), None) => (version, Some(DeclaredExpiry::None)),
        (Some(_), user @ Some(_)) => {
            let (of_user, expiry) = facts(context, namespace, user.as_ref());
            let versions = version.zip(of_user);
            (versions.map(|(version, of_user)| credentials_version::both(&version, &of_user)), expiry)
        }
    };
    let trust = spec.credentials.provider.as_ref().and_then(|provider| {
        let key = ProviderKey::of(&provider.reference, namespace);
        context.providers.trust(&key)
    });
    let version = version.map(|version| credentials_version::with_trust(version, trust.as_deref()));
    let with_token = |version: String| match &spec.credentials.chained {
        Some(token) => chains::version(context, namespace, &version, token),
        None => version,
    };
    (version.map(with_token), expiry)
}

fn facts(context: &Context, namespace: &str, secret: Option<&String>) -> (Option<String>, Option<DeclaredExpiry>) {
    let Some(name) = secret else { return (Some(secrets::NO_SECRET.to_owned()), Some(DeclaredExpiry::None)) };
    let facts = context.secret_references.facts(&(namespace.to_owned(), name.clone()));
    (facts.map(|facts| facts.version.to_string()), facts.map(|facts| facts.expiry))
}

/// Whether a pending write is still current: another replica may have written a newer token.
fn has_pending_write(context: &Context, uid: &str, target: &TargetState) -> bool {
    let Some(pending) = context.states.pending(uid) else { return false };
    let TargetState::Owned(snapshot) = target else { return true };
    let Some(times) = snapshot.times else { return true };
    if times.issued_at <= pending.issued.content.times.issued_at {
        return true;
    }
    context.states.clear_pending(uid);
    false
}
