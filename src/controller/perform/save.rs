//! Writes a token into its Secret.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::{PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::core::response::StatusCause;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tracing::{debug, warn};

use crate::acquisition::attempt::IssuedToken;
use crate::api::names::MANAGER;
use crate::clock::now;
use crate::controller::cache::state::PendingWrite;
use crate::controller::context::Context;
use crate::controller::perform::write_error::{NotWritten, write_error};
use crate::decision::observed::Observed;
use crate::decision::outcome::{Outcome, Written};
use crate::failpoints::failpoint;
use crate::kube_api::call::{ApiError, with_timeout};
use crate::target::annotations::{ADOPT_BY, OWN_PREFIX, WrittenKeys};
use crate::target::secret;
use crate::target::snapshot::TargetSnapshot;
use crate::target::template::SecretTemplate;

/// The annotation in which `kubectl apply` keeps the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The interval between two attempts to write pending tokens during shutdown: short, like the grace period.
const FLUSH_RETRY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);

/// Writes a pending token, and then schedules the revocation of the superseded token, if the spec requires it.
pub(crate) async fn save(
    context: &Context,
    observed: &Observed,
    pending: &PendingWrite,
    newly_issued: bool,
) -> Outcome {
    let known = Known::of(&pending.template, |name| observed.known_secret(name));
    let is_kept = observed.has_stored_refresh_token(&pending.issued.content);
    match persist(context, &observed.uid, known, pending, is_kept).await {
        Ok(Persisted::Superseded) => Outcome::Nothing,
        Ok(Persisted::Written) => {
            if let Some(planned_at) = pending.planned_at {
                context.metrics.record_lateness(now().duration_since(planned_at));
            }
            // Only after workloads can read the new token. If the integration no longer exists, nothing would remove
            // the job from the queue.
            if let Some((after, job)) =
                pending.superseded.clone().filter(|_| context.secret_references.has(&pending.namespace, &observed.uid))
            {
                context.revoker.revoke_after(after, job);
            }
            let IssuedToken { content, warning } = &pending.issued;
            Outcome::Written(Written { times: content.times, newly_issued, warning: *warning })
        }
        Err(error) => Outcome::Failed(write_error(&error, pending)),
    }
}

/// Writes all pending tokens during shutdown, until the caller's timeout.
pub async fn flush(context: &Context) {
    loop {
        let all = context.states.all_pending();
        if all.is_empty() {
            return;
        }
        for (uid, pending) in all {
            write_again(context, &uid, &pending).await;
        }
        tokio::time::sleep(FLUSH_RETRY_INTERVAL).await;
    }
}

/// Tries once more to write a pending response.
async fn write_again(context: &Context, uid: &str, pending: &PendingWrite) {
    let all = context.targets.for_integration(&pending.namespace, uid);
    let is_own = |known: &&Arc<TargetSnapshot>| known.is_owned_by(uid);
    let find = |name: &str| all.iter().filter(is_own).find(|known| known.name == name).map(AsRef::as_ref);
    let known = Known::of(&pending.template, find);
    let Err(not_written) = persist(context, uid, known, pending, false).await else { return };
    let NotWritten { error, is_known, .. } = &not_written;
    match error.status() {
        // The known Secret was deleted or replaced, which watches may not report any more: the next attempt creates it.
        Some(status) if *is_known && is_replaced(status) => {}
        // The namespace was deleted: the token is no longer needed.
        Some(status) if status.is_not_found() => context.states.clear_pending(uid),
        _ => {
            let (namespace, name) = (&pending.namespace, &pending.owner.name);
            // The API server may repeat values of the Secret.
            warn!(
                namespace,
                name,
                "failed to write a received token while shutting down: {}",
                write_error(&not_written, pending).message
            );
        }
    }
}

/// The result of writing a pending token.
pub(crate) enum Persisted {
    /// The Secret contains it.
    Written,
    /// The Secret contains a newer one, written by another replica.
    Superseded,
}

/// The known Secrets that a write replaces.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) target: Option<&'a TargetSnapshot>,
    pub(crate) refresh_token: Option<&'a TargetSnapshot>,
}

impl<'a> Known<'a> {
    /// Those with the names of a template.
    fn of(template: &SecretTemplate, find: impl Fn(&str) -> Option<&'a TargetSnapshot>) -> Self {
        let refresh_token = template.refresh_token_secret.as_deref().and_then(&find);
        Self { target: find(&template.secret_name), refresh_token }
    }
}

/// Writes a pending token, and drops it after the Secrets contain it or a newer one. `is_kept`: the Secret for the
/// refresh token need not be written.
pub(crate) async fn persist(
    context: &Context,
    uid: &str,
    Known { target, refresh_token }: Known<'_>,
    pending: &PendingWrite,
    is_kept: bool,
) -> Result<Persisted, NotWritten> {
    let PendingWrite { namespace, owner, template, issued: IssuedToken { content, .. }, .. } = pending;
    let is_needed = !is_kept && (content.refresh_token.is_some() || refresh_token.is_some());
    // First: after a crash between the two writes, the next renewal finds the refresh token that the server knows.
    if let Some(built) = secret::build_refresh_token_secret(namespace, owner, refresh_token, template, content, now())
        && is_needed
    {
        write(context, refresh_token, built, content.refresh_token_received_at()).await?;
        failpoint!("after-refresh-token");
    }
    let built = secret::build_secret(namespace, owner, target, template, content, now());
    let persisted = write(context, target, built, content.times.issued_at).await?;
    failpoint!("after-secret");
    context.states.clear_pending(uid);
    Ok(persisted)
}

/// Writes a Secret and updates the cache. `issued_at`: when its tokens were issued.
async fn write(
    context: &Context,
    known: Option<&TargetSnapshot>,
    secret: Secret,
    issued_at: Timestamp,
) -> Result<Persisted, NotWritten> {
    let name = secret.name_any();
    let (snapshot, persisted) = match write_secret(context, known, secret, issued_at).await {
        Ok(written) => written,
        Err(error) => {
            // The known Secret was replaced: the next reconciliation reads the new one.
            if let (true, Some(known)) = (error.status().is_some_and(is_replaced), known) {
                context.targets.remove(known);
            }
            return Err(NotWritten { secret: name, error, is_known: known.is_some() });
        }
    };
    // A retained Secret was cached under the uid of the previous integration of this name.
    if let Some(known) = known.filter(|known| known.integration_uid != snapshot.integration_uid) {
        context.targets.remove(known);
    }
    context.targets.upsert(snapshot);
    Ok(persisted)
}

/// Whether the API server reports that the Secret was deleted or replaced. A mismatch of the uid is reported as
/// invalid, like a rejection by a policy; only the field distinguishes them.
pub(crate) fn is_replaced(status: &Status) -> bool {
    let about_uid = |cause: &StatusCause| cause.field == "metadata.uid";
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_conflict() || status.is_not_found() || (status.is_invalid() && causes.any(about_uid))
}

/// The first write is a create; every later one is an apply with the uid of the known Secret. This leaves no gap
/// between read and write in which a Secret of another owner could be overwritten.
async fn write_secret(
    context: &Context,
    known: Option<&TargetSnapshot>,
    mut secret: Secret,
    issued_at: Timestamp,
) -> Result<(TargetSnapshot, Persisted), ApiError> {
    let namespace = &secret.namespace().unwrap_or_default();
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    context.count_write(namespace);
    let Some(known) = known else {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = with_timeout(secrets.create(&params, &secret)).await?;
        return Ok((snapshot(&written, &secret), Persisted::Written));
    };
    if !context.leadership.is_leader() {
        // Another replica may have written in the meantime: a newer token is kept, and the version turns a concurrent
        // write into a conflict.
        let live = TargetSnapshot::of(&with_timeout(secrets.get(&known.name)).await?);
        if live.times.is_some_and(|times| times.issued_at > issued_at) {
            return Ok((live, Persisted::Superseded));
        }
        secret.metadata.resource_version = Some(live.version.to_string());
    }
    if known.is_foreign() {
        // Whatever has written it may still write: a token that it has renewed in the meantime must not be lost.
        secret.metadata.resource_version = Some(known.version.to_string());
    }
    // Not by a replica that is no longer the leader: its write depends on the version, which the migration would
    // change.
    if known.has_update_managed_fields
        && secret.metadata.resource_version.is_none()
        && let Err(error) = migrate_managed_fields(context, namespace, known).await
    {
        // A rejection, for example by an admission policy, must not prevent the write of the token: the migration is
        // tried again with the next write.
        let status = error.status().filter(|status| matches!(status.code, 400..=499) && status.code != 429);
        let Some(status) = status else { return Err(error) };
        let secret = &known.name;
        debug!(namespace, secret, code = status.code, "the managed fields of the Secret were not migrated");
    }
    let params = PatchParams::apply(MANAGER).force();
    let mut written = with_timeout(secrets.patch(&known.name, &params, &Patch::Apply(&secret))).await?;
    if let Some(removal) = foreign_values(&written, &secret, known.is_foreign()) {
        context.count_write(namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        written = with_timeout(secrets.patch(&known.name, &params, &Patch::Merge(&removal))).await?;
    }
    Ok((snapshot(&written, &secret), Persisted::Written))
}

/// The patch that removes what the operator did not write and must not believe, or what nobody may read there: an apply does
/// not remove what another manager has written. These are values under its keys, such as the refresh token of a Secret
/// that was taken over and no longer has one. In a Secret that is being taken over, also its own annotations, if it is a
/// copy of a target, and the tokens in the annotation of `kubectl apply`.
fn foreign_values(written: &Secret, sent: &Secret, is_adopted: bool) -> Option<serde_json::Value> {
    let own = WrittenKeys::of(&sent.metadata)?;
    let is_sent = |key: &String| sent.data.as_ref().is_some_and(|data| data.contains_key(key));
    let is_written = |key: &String| written.data.as_ref().is_some_and(|data| data.contains_key(key));
    let keys: serde_json::Map<_, _> =
        own.all().filter(|key| is_written(key) && !is_sent(key)).map(|key| (key.clone(), json!(null))).collect();
    let is_outdated = |name: &&String| {
        let is_own = name.starts_with(OWN_PREFIX) && *name != ADOPT_BY && !sent.annotations().contains_key(*name);
        is_own || *name == LAST_APPLIED
    };
    let annotations: serde_json::Map<_, _> = written
        .annotations()
        .keys()
        .filter(|name| is_adopted && is_outdated(name))
        .map(|name| (name.clone(), json!(null)))
        .collect();
    let (uid, version) = (&written.metadata.uid, &written.metadata.resource_version);
    let metadata = json!({"uid": uid, "resourceVersion": version, "annotations": annotations});
    (!keys.is_empty() || !annotations.is_empty()).then(|| json!({"metadata": metadata, "data": keys}))
}

/// The snapshot of a Secret that was written. If other writers have added so much that the response does not contain
/// all of it, the data that was sent is used.
fn snapshot(written: &Secret, sent: &Secret) -> TargetSnapshot {
    let has = |key: &String| written.data.as_ref().is_some_and(|data| data.contains_key(key));
    let is_whole = sent.data.iter().flatten().all(|(key, _)| has(key));
    if is_whole { TargetSnapshot::of(written) } else { TargetSnapshot::read(&written.metadata, sent.data.as_ref()) }
}

/// Turns the ownership of the fields that the create has set into that of an apply, like `csaupgrade` of client-go,
/// because an apply removes only fields that were set by an apply. Runs once per Secret, before its first update.
///
/// Uses a JSON patch that refers to the entry by its index, so that the entries of other managers are not rewritten.
async fn migrate_managed_fields(context: &Context, namespace: &str, known: &TargetSnapshot) -> Result<(), ApiError> {
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let live = with_timeout(secrets.get_metadata(&known.name)).await?;
    let Some(patch) = migration(&live.metadata, &known.uid) else { return Ok(()) };
    context.count_write(namespace);
    let url = format!("{}/{}", Secret::url_path(&(), Some(namespace)), known.name);
    let request = http::Request::patch(url)
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        .body(patch.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    with_timeout(context.client.request::<PartialObjectMeta<Secret>>(request)).await?;
    Ok(())
}

/// The JSON patch (RFC 6902); `None` if there is nothing to migrate.
fn migration(live: &ObjectMeta, uid: &str) -> Option<serde_json::Value> {
    let entries = live.managed_fields.as_deref().unwrap_or_default();
    // There may be one entry per manager and operation; the apply that follows sets all fields again.
    let has_apply = entries.iter().any(|entry| is_own(entry, "Apply"));
    let own = entries.iter().enumerate().rev().filter(|(_, entry)| is_own(entry, "Update"));
    let mut operations: Vec<serde_json::Value> = own
        .map(|(index, _)| format!("/metadata/managedFields/{index}"))
        .flat_map(|entry| {
            let test =
                |name: &str, value: &str| json!({"op": "test", "path": format!("{entry}/{name}"), "value": value});
            let migrate = if has_apply {
                json!({"op": "remove", "path": entry})
            } else {
                json!({"op": "replace", "path": format!("{entry}/operation"), "value": "Apply"})
            };
            [test("manager", MANAGER), test("operation", "Update"), migrate]
        })
        .collect();
    if operations.is_empty() {
        return None;
    }
    operations.insert(0, json!({"op": "test", "path": "/metadata/uid", "value": uid}));
    // A precondition: the indexes of the entries are valid only for this version.
    operations.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": live.resource_version}));
    Some(json!(operations))
}

fn is_own(entry: &ManagedFieldsEntry, operation: &str) -> bool {
    entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some(operation)
}
