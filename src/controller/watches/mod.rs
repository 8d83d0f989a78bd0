//! The three watches, and the integrations that their events trigger.
//!
//! ```text
//!   OAuthIntegration   whole, kept in a store      → itself
//!   Secret, own        reduced to a snapshot       → its owner, and the integrations that reference it
//!   Secret, others     metadata only, not kept     → the integrations that reference it as credentials or target
//! ```
//!
//! A list of the operator's own Secrets contains their data, so that they are not read one by one after a restart;
//! watch events contain only metadata. A version that the operator did not write itself is read when a decision needs
//! it.

pub(crate) mod readmission;
pub(crate) mod restart;
pub(crate) mod share;

use std::collections::{HashMap, HashSet};
use std::future;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};

use crate::api::names::{MANAGER, RENEW_REQUESTED_AT};
use crate::api::spec::OAuthIntegration;
use crate::controller::cache::references;
use crate::controller::cache::references::{SecretFacts, SecretRef};
use crate::controller::cache::targets::Relist;
use crate::controller::context::Context;
use crate::controller::providers::store::ProviderKey;
use crate::controller::queue::{GuardedIntegration, Request};
use crate::controller::watches::restart::{after, api, with_backoff};
use crate::controller::watches::share::Shares;
use crate::kube_api::lenient::{Lenient, WatchedSecret};
use crate::spec::chain;
use crate::spec::expiry::DeclaredExpiry;
use crate::target::annotations::MANAGED_BY;
use crate::target::snapshot::TargetSnapshot;

/// The maximum length of an annotation of an integration; a longer one is ignored.
const MAX_ANNOTATION: usize = 1 << 10;
/// The time between the deletion of a credentials Secret and the reconciliation of its integrations.
const DELETION_GRACE: Duration = Duration::from_secs(2);

/// The names of the watches of a scope, for readiness.
#[must_use]
pub fn names(scope: Option<&str>) -> [String; 3] {
    ["integrations", "target secrets", "credentials secrets"].map(|what| match scope {
        Some(namespace) => format!("{what} in {namespace}"),
        None => what.to_owned(),
    })
}

/// Watches a namespace (`None`: all namespaces), and returns the store of its integrations and the reconcile
/// requests.
pub fn reconcile_requests(
    context: &Arc<Context>,
    scope: Option<&str>,
    selector: Option<&str>,
) -> (Store<GuardedIntegration>, BoxStream<'static, Result<Request, watcher::Error>>) {
    let writer = Writer::default();
    let store = writer.as_reader();
    let [integrations_name, targets_name, credentials_name] = names(scope);
    let config = watcher::Config { label_selector: selector.map(ToOwned::to_owned), ..watcher::Config::default() };
    let (first, second) = (integrations_name.clone(), targets_name.clone());
    let integrations = integrations(context, scope, config, writer, integrations_name);
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let targets = targets(context, scope, ours, targets_name);
    let others = watcher::Config::default().labels(&format!("{MANAGED_BY}!={MANAGER}"));
    let credentials = credentials_with(context, scope, others, credentials_name);
    // The integrations are listed first, because they determine which Secrets are relevant. Sequential lists also
    // need less memory.
    let targets = after(context, first, targets);
    let credentials = after(context, second, credentials);
    let triggers = context.triggers.subscribe(scope).map(Ok).boxed();
    (store, stream::select_all([integrations, targets, credentials, triggers]).boxed())
}

fn integrations(
    context: &Arc<Context>,
    scope: Option<&str>,
    config: watcher::Config,
    writer: Writer<GuardedIntegration>,
    name: String,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    let noting = Arc::clone(context);
    let store = writer.as_reader();
    // An integration that the list no longer contains was deleted while the watch was interrupted.
    let mut unseen: HashMap<ObjectRef<GuardedIntegration>, Arc<GuardedIntegration>> = HashMap::new();
    let api = api::<Lenient<OAuthIntegration>>(&context.client, scope);
    let admitting = Arc::clone(context);
    let watched = with_backoff(watcher(api, config)).map_ok(Update::ByWatch).boxed();
    let again = readmission::readmissible(context, scope).map(|found| Ok(Update::ReadAgain(found))).boxed();
    let mut is_listing = true;
    let updates = stream::select(watched, again)
        .try_filter_map(move |update| future::ready(Ok(admit(&admitting.shares, &mut is_listing, update))));
    let events = updates.inspect_ok(move |event| match event {
        Event::Init => unseen = store.state().into_iter().map(|known| (reference(&known), known)).collect(),
        Event::InitApply(watched) => {
            let known = unseen.remove(&reference(watched));
            if let Some(other) = known.filter(|known| known.uid() != watched.uid()) {
                untrack(&noting, &other);
            }
            track(&noting, watched);
        }
        Event::InitDone => {
            for (_, gone) in unseen.drain() {
                untrack(&noting, &gone);
            }
            noting.cache_sync.done(&name);
        }
        Event::Apply(watched) => track(&noting, watched),
        Event::Delete(watched) => untrack(&noting, watched),
    });
    reflector(writer, events).touched_objects().map_ok(|watched| Request::from(ObjectRef::from_obj(&watched))).boxed()
}

/// An update of the watched integrations.
enum Update {
    /// From their watch.
    ByWatch(Event<Lenient<OAuthIntegration>>),
    /// An integration that was refused for lack of room, and was read again because there is room now.
    ReadAgain(Lenient<OAuthIntegration>),
}

/// The event for the store; `None` if the update is outdated.
fn admit(shares: &Shares, is_listing: &mut bool, update: Update) -> Option<Event<GuardedIntegration>> {
    let event = match update {
        Update::ByWatch(event) => event,
        // A complete list replaces everything that is stored.
        Update::ReadAgain(_) if *is_listing => return None,
        Update::ReadAgain(Lenient(found)) if !shares.is_refused(&found) => return None,
        Update::ReadAgain(found) => Event::Apply(found),
    };
    match &event {
        Event::Init => *is_listing = true,
        Event::InitDone => *is_listing = false,
        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
    }
    Some(shares.follow(strip_unused(event)))
}

/// Removes metadata that no decision needs, and returns memory that is not used.
fn strip_unused(event: Event<Lenient<OAuthIntegration>>) -> Event<GuardedIntegration> {
    let strip_unused = |Lenient(mut watched): Lenient<OAuthIntegration>| {
        let is_read = |name: &str, value: &str| name == RENEW_REQUESTED_AT && value.len() <= MAX_ANNOTATION;
        watched.annotations_mut().retain(|name, value| is_read(name, value));
        match &mut watched {
            DeserializeGuard(Ok(integration)) => {
                integration.status.iter_mut().for_each(|status| status.conditions.shrink_to_fit());
            }
            DeserializeGuard(Err(invalid)) => {
                invalid.metadata = share::known_of_invalid(std::mem::take(&mut invalid.metadata));
            }
        }
        watched
    };
    match event {
        Event::Apply(watched) => Event::Apply(strip_unused(watched)),
        Event::Delete(watched) => Event::Delete(strip_unused(watched)),
        Event::InitApply(watched) => Event::InitApply(strip_unused(watched)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// A reference by namespace and name only.
fn reference(watched: &GuardedIntegration) -> ObjectRef<GuardedIntegration> {
    ObjectRef::new(&watched.name_any()).within(&watched.namespace().unwrap_or_default())
}

fn track(context: &Context, watched: &GuardedIntegration) {
    let uid = watched.uid().unwrap_or_default();
    context.states.begin(&uid);
    context.secret_references.begin(&watched.namespace().unwrap_or_default(), &uid);
    let DeserializeGuard(Ok(integration)) = watched else { return };
    let name = integration.name_any();
    let namespace = integration.namespace().unwrap_or_default();
    let provider = integration.spec.provider_ref.as_ref().map(|provider| ProviderKey::of(provider, &namespace));
    set_provider(context, &namespace, &name, provider);
    let target = integration.spec.target.secret_name.clone().unwrap_or_else(|| name.clone());
    let refresh_token = integration.spec.target.refresh_token_secret_name.clone();
    let credentials = integration.spec.shared.credentials.as_ref().map(|credentials| credentials.secret_name.clone());
    let tokens = chain::dependency(&integration.spec).map(references::tokens_of);
    let names = credentials.into_iter().chain([target]).chain(refresh_token).chain(tokens).collect();
    context.secret_references.set_references(&namespace, &name, names);
}

/// Records the provider of an integration. The status of a provider contains how many there are.
fn set_provider(context: &Context, namespace: &str, name: &str, provider: Option<ProviderKey>) {
    let changed = context.providers.set_user((namespace.to_owned(), name.to_owned()), provider);
    for existing in changed.iter().filter(|key| context.providers.get(key).is_some()) {
        context.provider_checks.request(existing);
    }
}

fn untrack(context: &Context, watched: &GuardedIntegration) {
    context.secret_references.set_references(
        &watched.namespace().unwrap_or_default(),
        &watched.name_any(),
        HashSet::new(),
    );
    set_provider(context, &watched.namespace().unwrap_or_default(), &watched.name_any(), None);
    let uid = watched.uid().unwrap_or_default();
    context.shares.forget(watched);
    context.secret_references.end(&watched.namespace().unwrap_or_default(), &uid);
    context.targets.forget_integration(&watched.namespace().unwrap_or_default(), &uid);
    context.states.forget(&uid);
    context.revoker.forget(&watched.namespace().unwrap_or_default(), &uid);
    context.checks.forget(&uid);
    context.limiter.forget(&uid, &watched.namespace().unwrap_or_default());
    context.responses.forget(&watched.namespace().unwrap_or_default(), &watched.name_any());
    if let Some(slots) = &context.slots {
        slots.forget(&watched.namespace().unwrap_or_default(), &watched.name_any());
    }
}

fn targets(
    context: &Arc<Context>,
    scope: Option<&str>,
    config: watcher::Config,
    name: String,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    let context = Arc::clone(context);
    let own_scope = scope.map(ToOwned::to_owned);
    let mut relist = None;
    let secrets = api::<WatchedSecret>(&context.client, scope);
    with_backoff(watcher(secrets, config))
        .map_ok(move |event| {
            let mut expiry = DeclaredExpiry::None;
            let touched: Vec<Arc<TargetSnapshot>> = match event {
                Event::Init => {
                    relist = Some(Relist::begin(&context.targets, own_scope.as_deref()));
                    vec![]
                }
                Event::InitApply(WatchedSecret { metadata, data }) => {
                    let snapshot = TargetSnapshot::read(&metadata, data.as_ref());
                    expiry = DeclaredExpiry::of(&metadata);
                    if let Some(relist) = &mut relist {
                        relist.seen(&snapshot);
                    }
                    record_target(&context, &snapshot);
                    vec![Arc::new(snapshot)]
                }
                Event::InitDone => {
                    context.cache_sync.done(&name);
                    relist.take().map(|relist| relist.finish(&context.targets)).unwrap_or_default()
                }
                Event::Apply(WatchedSecret { metadata, data }) => {
                    let snapshot = TargetSnapshot::read(&metadata, data.as_ref());
                    expiry = DeclaredExpiry::of(&metadata);
                    record_target(&context, &snapshot);
                    vec![Arc::new(snapshot)]
                }
                Event::Delete(WatchedSecret { metadata, .. }) => {
                    let snapshot = TargetSnapshot::read(&metadata, None);
                    context.targets.remove(&snapshot);
                    vec![Arc::new(snapshot)]
                }
            };
            let requests = touched.iter().flat_map(|snapshot| affected_integrations(&context, snapshot, expiry));
            stream::iter(requests.map(Ok).collect::<Vec<_>>())
        })
        .try_flatten()
        .boxed()
}

/// A Secret with the operator's labels that does not belong to an integration is not cached, because users could
/// create any number of them.
fn record_target(context: &Context, snapshot: &TargetSnapshot) {
    if context.secret_references.has(&snapshot.namespace, &snapshot.integration_uid) {
        context.targets.upsert(snapshot.clone());
    }
}

/// The owner of a Secret, and the integrations that reference it or the tokens of its owner: a target may also be the
/// credentials of others.
fn affected_integrations(context: &Context, snapshot: &TargetSnapshot, expiry: DeclaredExpiry) -> Vec<Request> {
    let secret: SecretRef = (snapshot.namespace.clone(), snapshot.name.clone());
    let facts = SecretFacts { version: snapshot.version, expiry };
    let names = context.secret_references.record_watched(&secret, Some(facts));
    let mut names = without_providers(context, &secret.0, names);
    names.extend(snapshot.owner.as_ref().map(|(owner, _)| owner.clone()));
    names.extend(dependents_of(context, &snapshot.namespace, &names));
    names.sort();
    names.dedup();
    names.into_iter().map(|name| request(&snapshot.namespace, &name)).collect()
}

/// The integrations among those that reference a Secret. A provider is checked, and the integrations that use it, in
/// whatever namespace, are triggered.
fn without_providers(context: &Context, namespace: &str, mut dependents: Vec<String>) -> Vec<String> {
    dependents.retain(|name| {
        let Some(provider) = references::as_provider(name) else { return true };
        let key = ProviderKey::of(&provider, namespace);
        context.provider_checks.request(&key);
        for (namespace, name) in context.providers.users(&key) {
            for dependent in dependents_of(context, &namespace, slice::from_ref(&name)) {
                context.triggers.one(&namespace, &dependent);
            }
            context.triggers.one(&namespace, &name);
        }
        false
    });
    dependents
}

/// The integrations that need the tokens of these.
fn dependents_of(context: &Context, namespace: &str, names: &[String]) -> Vec<String> {
    let tokens = names.iter().map(|name| (namespace.to_owned(), references::tokens_of(name)));
    tokens.flat_map(|tokens| context.secret_references.dependents(&tokens)).collect()
}

pub(crate) fn request(namespace: &str, name: &str) -> Request {
    Request::from(ObjectRef::<GuardedIntegration>::new(name).within(namespace))
}

/// Watches the Secrets in a namespace that integrations and providers name.
pub(crate) fn credentials(
    context: &Arc<Context>,
    scope: Option<&str>,
    name: String,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    credentials_with(context, scope, watcher::Config::default(), name)
}

fn credentials_with(
    context: &Arc<Context>,
    scope: Option<&str>,
    config: watcher::Config,
    name: String,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    let context = Arc::clone(context);
    let own_scope = scope.map(ToOwned::to_owned);
    let mut unseen = HashSet::new();
    let secrets = api::<PartialObjectMeta<Secret>>(&context.client, scope);
    with_backoff(watcher(secrets, config))
        .map_ok(move |event| {
            let seen: Vec<(SecretRef, Option<SecretFacts>)> = match event {
                Event::Init => {
                    unseen = context.secret_references.all(own_scope.as_deref());
                    vec![]
                }
                Event::InitApply(secret) => {
                    let (secret, facts) = reference_and_facts(&secret);
                    unseen.remove(&secret);
                    vec![(secret, Some(facts))]
                }
                Event::InitDone => {
                    context.cache_sync.done(&name);
                    std::mem::take(&mut unseen).into_iter().map(|secret| (secret, None)).collect()
                }
                Event::Apply(secret) => {
                    let (secret, facts) = reference_and_facts(&secret);
                    vec![(secret, Some(facts))]
                }
                Event::Delete(secret) => {
                    let (secret, _) = reference_and_facts(&secret);
                    if context.secret_references.record_deletion(&secret) {
                        tokio::spawn(reconcile_dependents_later(Arc::clone(&context), secret));
                    }
                    vec![]
                }
            };
            let reconcile_requests = seen.into_iter().flat_map(|(secret, facts)| {
                let names = context.secret_references.record_watched(&secret, facts);
                let mut names = without_providers(&context, &secret.0, names);
                // The annotation of the Secret also restricts where the tokens of its integrations may be sent.
                names.extend(dependents_of(&context, &secret.0, &names));
                names.into_iter().map(move |name| request(&secret.0, &name))
            });
            stream::iter(reconcile_requests.map(Ok).collect::<Vec<_>>())
        })
        .try_flatten()
        .boxed()
}

/// `kubectl delete --filename` deletes the Secret before the integration: a warning would be noise.
async fn reconcile_dependents_later(context: Arc<Context>, secret: SecretRef) {
    tokio::time::sleep(DELETION_GRACE).await;
    let names = context.secret_references.end_deletion(&secret);
    for name in without_providers(&context, &secret.0, names) {
        context.triggers.one(&secret.0, &name);
    }
}

fn reference_and_facts(secret: &PartialObjectMeta<Secret>) -> (SecretRef, SecretFacts) {
    ((secret.namespace().unwrap_or_default(), secret.name_any()), SecretFacts::of(&secret.metadata))
}
