//! The three watches, and which integration each of their events is about.
//!
//! ```text
//!   OAuthIntegration   whole, kept in a store      → itself
//!   Secret, ours       reduced to facts at once    → its owner, and whoever names it
//!   Secret, others'    metadata only, not kept     → whoever names it as credentials or target
//! ```

use std::collections::{HashMap, HashSet};
use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::{MANAGER, OAuthIntegration};
use crate::cache::{Relist, SecretRef};
use crate::context::Context;
use crate::target::{self, Facts, MANAGED_BY};

/// The first pause before a watch that failed is begun again, doubled for each further one...
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// ...up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// A failure so long after the last one is a first one again.
const QUIET: Duration = Duration::from_secs(30);

/// An integration as it is watched: one that cannot be understood does not stop the watch of the others.
pub type Watched = DeserializeGuard<OAuthIntegration>;
/// A request for a look at an integration.
pub type Request = ReconcileRequest<Watched>;

/// The names of the watches of a scope, for readiness.
#[must_use]
pub fn names(scope: Option<&str>) -> [String; 3] {
    ["integrations", "target secrets", "credentials secrets"].map(|what| match scope {
        Some(namespace) => format!("{what} in {namespace}"),
        None => what.to_owned(),
    })
}

/// Whether a watch failed since the API server knows no such objects. Secrets it always knows.
#[must_use]
pub fn lacks_crd(error: &watcher::Error) -> bool {
    // The code alone: of a path that it does not know, the API server speaks in plain text, which has no reason.
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

/// Watches a namespace (all of them, without one): the store of its integrations, and the requests for looks.
pub fn requests(
    context: &Arc<Context>,
    scope: Option<&str>,
    selector: Option<&str>,
) -> (Store<Watched>, BoxStream<'static, Result<Request, watcher::Error>>) {
    let writer = Writer::default();
    let store = writer.as_reader();
    let [integrations_name, targets_name, credentials_name] = names(scope);
    let config = watcher::Config { label_selector: selector.map(ToOwned::to_owned), ..watcher::Config::default() };
    let first = integrations_name.clone();
    let integrations = integrations(context, scope, config, writer, integrations_name);
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let targets = targets(context, scope, ours, targets_name);
    let others = watcher::Config::default().labels(&format!("{MANAGED_BY}!={MANAGER}"));
    let credentials = credentials(context, scope, others, credentials_name);
    // The integrations come first: which Secrets are of interest is known from them.
    let waiting = Arc::clone(context);
    let after =
        stream::once(async move { waiting.synced.until_done(&first).await }).filter_map(|()| future::ready(None));
    let credentials = after.chain(credentials);
    let nudges = context.nudges.subscribe(scope).map(Ok).boxed();
    (store, stream::select_all([integrations, targets, credentials.boxed(), nudges]).boxed())
}

fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watch<K>(
    context: &Context,
    scope: Option<&str>,
    config: watcher::Config,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + use<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    watcher(api::<K>(&context.client, scope), config).backoff(ResetTimerBackoff::new(Pauses::default(), QUIET))
}

/// The pauses before a watch that failed is begun again. Those of `kube` grow to 30 s; so long after a bad time of the API
/// server nobody should have to wait for three watches.
#[derive(Debug, Default)]
struct Pauses {
    next: Option<Duration>,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next.unwrap_or(FIRST_PAUSE);
        self.next = Some(pause.saturating_mul(2).min(LONGEST_PAUSE));
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.next = None;
    }
}

fn integrations(
    context: &Arc<Context>,
    scope: Option<&str>,
    config: watcher::Config,
    writer: Writer<Watched>,
    name: String,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    let noting = Arc::clone(context);
    let store = writer.as_reader();
    // What a list does not name any more was deleted while nobody watched.
    let mut unseen: HashMap<ObjectRef<Watched>, Arc<Watched>> = HashMap::new();
    let events = watch::<Watched>(context, scope, config).map_ok(lean).inspect_ok(move |event| match event {
        Event::Init => unseen = store.state().into_iter().map(|known| (reference(&known), known)).collect(),
        Event::InitApply(watched) => {
            let known = unseen.remove(&reference(watched));
            if let Some(other) = known.filter(|known| known.uid() != watched.uid()) {
                forget(&noting, &other);
            }
            learn(&noting, watched);
        }
        Event::InitDone => {
            for (_, gone) in unseen.drain() {
                forget(&noting, &gone);
            }
            noting.synced.done(&name);
        }
        Event::Apply(watched) => learn(&noting, watched),
        Event::Delete(watched) => forget(&noting, watched),
    });
    reflector(writer, events).touched_objects().map_ok(|watched| Request::from(ObjectRef::from_obj(&watched))).boxed()
}

/// What no decision needs is not kept.
fn lean(mut event: Event<Watched>) -> Event<Watched> {
    if let Event::Apply(DeserializeGuard(Ok(integration))) | Event::InitApply(DeserializeGuard(Ok(integration))) =
        &mut event
    {
        integration.metadata.managed_fields = None;
        integration.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    event
}

/// By namespace and name alone.
fn reference(watched: &Watched) -> ObjectRef<Watched> {
    ObjectRef::new(&watched.name_any()).within(&watched.namespace().unwrap_or_default())
}

fn learn(context: &Context, watched: &Watched) {
    context.notes.begin(&watched.uid().unwrap_or_default());
    let DeserializeGuard(Ok(integration)) = watched else { return };
    let name = integration.name_any();
    let target = integration.spec.target.secret_name.clone().unwrap_or_else(|| name.clone());
    let credentials = integration.spec.credentials.as_ref().map(|credentials| credentials.secret_name.clone());
    let names = credentials.into_iter().chain([target]).collect();
    context.named.learn(&integration.namespace().unwrap_or_default(), &name, names);
}

fn forget(context: &Context, watched: &Watched) {
    context.named.learn(&watched.namespace().unwrap_or_default(), &watched.name_any(), HashSet::new());
    let uid = watched.uid().unwrap_or_default();
    context.notes.forget(&uid);
    context.gate.leave(&uid);
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
    watch::<Secret>(&Arc::clone(&context), scope, config)
        .map_ok(move |event| {
            let touched: Vec<Arc<Facts>> = match event {
                Event::Init => {
                    relist = Some(Relist::begin(&context.targets, own_scope.as_deref()));
                    vec![]
                }
                Event::InitApply(secret) => {
                    let facts = Facts::of(&secret);
                    if let Some(relist) = &mut relist {
                        relist.seen(&facts);
                    }
                    context.targets.learn(facts.clone());
                    vec![Arc::new(facts)]
                }
                Event::InitDone => {
                    context.synced.done(&name);
                    relist.take().map(|relist| relist.finish(&context.targets)).unwrap_or_default()
                }
                Event::Apply(secret) => {
                    let facts = Facts::of(&secret);
                    context.targets.learn(facts.clone());
                    vec![Arc::new(facts)]
                }
                Event::Delete(secret) => {
                    let facts = Facts::of(&secret);
                    context.targets.forget(&facts);
                    vec![Arc::new(facts)]
                }
            };
            stream::iter(touched.into_iter().flat_map(|facts| concerned(&context, &facts)).map(Ok).collect::<Vec<_>>())
        })
        .try_flatten()
        .boxed()
}

/// The owner of a Secret, and the integrations that name it.
fn concerned(context: &Context, facts: &Facts) -> Vec<Request> {
    let secret: SecretRef = (facts.namespace.clone(), facts.name.clone());
    let mut names = context.named.seen(&secret, Some(facts.version));
    names.extend(facts.owner.as_ref().map(|(owner, _)| owner.clone()));
    names.sort();
    names.dedup();
    names.into_iter().map(|name| request(&facts.namespace, &name)).collect()
}

fn request(namespace: &str, name: &str) -> Request {
    Request::from(ObjectRef::<Watched>::new(name).within(namespace))
}

fn credentials(
    context: &Arc<Context>,
    scope: Option<&str>,
    config: watcher::Config,
    name: String,
) -> BoxStream<'static, Result<Request, watcher::Error>> {
    let context = Arc::clone(context);
    let own_scope = scope.map(ToOwned::to_owned);
    let mut unseen = HashSet::new();
    watch::<PartialObjectMeta<Secret>>(&Arc::clone(&context), scope, config)
        .map_ok(move |event| {
            let seen: Vec<(SecretRef, Option<u64>)> = match event {
                Event::Init => {
                    unseen = context.named.all(own_scope.as_deref());
                    vec![]
                }
                Event::InitApply(secret) => {
                    let (secret, version) = identity(&secret);
                    unseen.remove(&secret);
                    vec![(secret, Some(version))]
                }
                Event::InitDone => {
                    context.synced.done(&name);
                    std::mem::take(&mut unseen).into_iter().map(|secret| (secret, None)).collect()
                }
                Event::Apply(secret) => {
                    let (secret, version) = identity(&secret);
                    vec![(secret, Some(version))]
                }
                Event::Delete(secret) => vec![(identity(&secret).0, None)],
            };
            let requests = seen.into_iter().flat_map(|(secret, version)| {
                let names = context.named.seen(&secret, version);
                names.into_iter().map(move |name| request(&secret.0, &name))
            });
            stream::iter(requests.map(Ok).collect::<Vec<_>>())
        })
        .try_flatten()
        .boxed()
}

fn identity(secret: &PartialObjectMeta<Secret>) -> (SecretRef, u64) {
    ((secret.namespace().unwrap_or_default(), secret.name_any()), target::version(&secret.metadata))
}
