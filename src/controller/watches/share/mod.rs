//! Limits the memory for the integrations of each namespace, and of all namespaces.
//!
//! Integrations are stored completely, and there may be as many as the API server stores. Therefore each namespace
//! has a share; of an integration beyond the share, only the name is stored, and its status reports this. An admitted
//! integration stays admitted unless its spec grows: it is displaced neither by other integrations nor by a new list.
//! A refused one is read again when there is room for it (`readmission`).

use std::collections::HashMap;
use std::io;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::api::names::FINALIZER;
use crate::controller::memory::MemoryBound;
use crate::controller::queue::GuardedIntegration;
use crate::target::annotations;

/// The fixed memory use of an integration, in bytes: its metadata, and its state.
const BASE: usize = 3 << 10;
/// The memory use of an integration of which only the name is stored, in bytes.
const REFUSED: usize = 1 << 10;
/// The memory use of two bytes of JSON, in bytes.
const FACTOR: usize = 3;
/// A status up to this length does not displace an admitted integration.
const USUAL_STATUS: usize = 16 << 10;

/// The memory use of the integrations of each namespace.
#[derive(Debug)]
pub struct Shares {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    bound: MemoryBound,
    namespaces: HashMap<String, Namespace>,
    total: usize,
}

#[derive(Debug, Default)]
struct Namespace {
    integrations: HashMap<String, Taken>,
    total: usize,
}

/// The memory use of one integration.
#[derive(Debug)]
struct Taken {
    uid: String,
    /// Its memory use, in bytes.
    size: usize,
    /// The length of the parts that users write; `None` if it was not admitted.
    written: Option<usize>,
    /// Its memory use and its version, if there was no room for it.
    refused: Option<(usize, u64)>,
}

impl Shares {
    /// No integrations yet.
    #[must_use]
    pub fn new(bound: MemoryBound) -> Self {
        Self { inner: Mutex::new(Inner { bound, namespaces: HashMap::new(), total: 0 }) }
    }

    /// Follows a watch, and removes integrations beyond the share.
    pub fn follow(&self, event: Event<GuardedIntegration>) -> Event<GuardedIntegration> {
        match event {
            Event::Apply(watched) => Event::Apply(self.lock().admit(watched)),
            Event::InitApply(watched) => Event::InitApply(self.lock().admit(watched)),
            Event::Delete(watched) => {
                self.forget(&watched);
                Event::Delete(watched)
            }
            // Integrations that the list does not contain are dropped when it is complete.
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        }
    }

    /// Drops a deleted integration.
    pub fn forget(&self, watched: &GuardedIntegration) {
        let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
        let mut inner = self.lock();
        let own = inner.namespaces.get(&namespace).and_then(|own| own.integrations.get(&name));
        // There may already be a new one with the same name.
        if own.is_some_and(|own| own.uid == watched.uid().unwrap_or_default()) {
            inner.remove(&namespace, &name);
        }
    }

    /// Up to `max` refused integrations of a namespace (`None`: of all namespaces) for which there is room now, by
    /// namespace and name; namespaces take turns.
    pub(crate) fn admissible(&self, scope: Option<&str>, max: usize) -> Vec<(String, String)> {
        let inner = self.lock();
        let in_scope = inner.namespaces.iter().filter(|(name, _)| scope.is_none_or(|scope| scope == name.as_str()));
        let mut found: Vec<(usize, String, String)> = in_scope
            .flat_map(|(namespace, own)| {
                let fits = own.integrations.iter().filter(|(_, taken)| inner.fits_now(own, taken));
                let fits = fits.take(max).enumerate();
                fits.map(|(turn, (name, _))| (turn, namespace.clone(), name.clone()))
            })
            .collect();
        found.sort_unstable();
        found.truncate(max);
        found.into_iter().map(|(_, namespace, name)| (namespace, name)).collect()
    }

    /// Whether there is still room for a refused integration.
    pub(crate) fn is_admissible(&self, namespace: &str, name: &str) -> bool {
        let inner = self.lock();
        let own = inner.namespaces.get(namespace);
        own.is_some_and(|own| own.integrations.get(name).is_some_and(|taken| inner.fits_now(own, taken)))
    }

    /// Whether an integration that was read is a refused one, and not older than the latest watch event about it,
    /// which may be its deletion.
    pub(crate) fn is_refused(&self, watched: &GuardedIntegration) -> bool {
        let inner = self.lock();
        let own = inner.namespaces.get(&watched.namespace().unwrap_or_default());
        let known = own.and_then(|own| own.integrations.get(&watched.name_any()));
        known.is_some_and(|known| {
            let is_current = known.refused.is_some_and(|(_, version)| version <= annotations::version(watched.meta()));
            is_current && known.uid == watched.uid().unwrap_or_default()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn admit(&mut self, watched: GuardedIntegration) -> GuardedIntegration {
        let (namespace, name) = (watched.namespace().unwrap_or_default(), watched.name_any());
        let uid = watched.uid().unwrap_or_default();
        let before = self.remove(&namespace, &name).filter(|before| before.uid == uid);
        let size = Size::of(&watched);
        let (bound, total) = (self.bound, self.total);
        let own = self.namespaces.entry(namespace).or_default();
        let has_room = own.total + size.total() <= bound.namespace && total + size.total() <= bound.total;
        let stays = size.status <= USUAL_STATUS
            && before.and_then(|before| before.written).is_some_and(|written| size.written <= written);
        let is_valid = matches!(watched, DeserializeGuard(Ok(_)));
        let fits = is_valid && (has_room || stays);
        let taken = if fits { size.total() } else { REFUSED };
        own.total += taken;
        self.total += taken;
        let refused = (is_valid && !fits).then(|| (size.total(), annotations::version(watched.meta())));
        own.integrations.insert(name, Taken { uid, size: taken, written: fits.then_some(size.written), refused });
        match watched {
            DeserializeGuard(Ok(integration)) if !fits => DeserializeGuard(Err(InvalidObject {
                error: refusal(bound),
                metadata: known_of_invalid(integration.metadata),
            })),
            watched => watched,
        }
    }

    /// Whether there is room for a refused integration.
    fn fits_now(&self, own: &Namespace, taken: &Taken) -> bool {
        taken.refused.is_some_and(|(wanted, _)| {
            let more = wanted.saturating_sub(taken.size);
            own.total + more <= self.bound.namespace && self.total + more <= self.bound.total
        })
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Taken> {
        let own = self.namespaces.get_mut(namespace)?;
        let taken = own.integrations.remove(name)?;
        own.total -= taken.size;
        self.total -= taken.size;
        if own.integrations.is_empty() {
            self.namespaces.remove(namespace);
        }
        Some(taken)
    }
}

/// The message of a refusal. It contains no changing numbers, so that it is reported only once.
fn refusal(bound: MemoryBound) -> String {
    format!(
        "the integrations of this namespace take more than {} MiB of memory, or those of all namespaces more than {} MiB: delete some, or have an administrator raise the memory limit of the operator (resources.limits.memory, --memory-limit); then this one is reconciled",
        bound.namespace >> 20,
        bound.total >> 20
    )
}

/// The metadata that is kept of an integration that cannot be used: only the fields that its conditions and its
/// deletion need, since the number of such integrations is unbounded.
pub(crate) fn known_of_invalid(metadata: ObjectMeta) -> ObjectMeta {
    let waits = metadata.finalizers.is_some_and(|names| names.iter().any(|name| name == FINALIZER));
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        generation: metadata.generation,
        deletion_timestamp: metadata.deletion_timestamp,
        finalizers: waits.then(|| vec![FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    }
}

/// The lengths of an integration's parts as JSON.
#[derive(Default)]
struct Size {
    written: usize,
    status: usize,
}

impl Size {
    fn of(watched: &GuardedIntegration) -> Self {
        let DeserializeGuard(Ok(integration)) = watched else { return Self::default() };
        let metadata = &integration.metadata;
        let written = length(&integration.spec)
            + length(&metadata.finalizers)
            + length(&metadata.annotations)
            + length(&metadata.name);
        Self { written, status: length(&integration.status) }
    }

    /// The memory use, in bytes.
    fn total(&self) -> usize {
        BASE + (self.written + self.status) * FACTOR / 2
    }
}

/// The length of a value as JSON, in bytes.
pub(crate) fn length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0 += text.len();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests;
