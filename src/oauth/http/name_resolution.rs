//! Resolves host names for requests in a bounded number of threads, which namespaces share fairly.
//!
//! The system's own resolver (`getaddrinfo`) is used, so that a name resolves as for every other program in the
//! container: `/etc/hosts`, search domains, `ndots`, and the extensions of the image's libc. It blocks a thread while
//! a name server does not respond (for a minute or more, with search domains), and cannot be canceled. It therefore
//! runs in a limited number of dedicated threads: a namespace whose lookups hang occupies at most half of them, and
//! the others remain for other namespaces. Nothing is cached; concurrent lookups of the same name for the same
//! namespace are merged.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::limiter::share::Shares;

/// The maximum number of threads that resolve names at the same time, for all clients of the process.
const MAX_THREADS: usize = 32;
/// The stack size of such a thread: the system's resolver keeps its buffers on it.
const STACK_BYTES: usize = 512 << 10;
/// The maximum number of names of one namespace that wait for a thread; more than its requests in flight.
const MAX_QUEUED_PER_NAMESPACE: usize = 128;
/// How long a request waits for a name: the system's resolver repeats a lost query after 5 s.
const TIMEOUT: Duration = Duration::from_secs(10);

tokio::task_local! {
    static NAMESPACE: String;
}

/// The resolver of the process.
pub static SYSTEM: LazyLock<NameResolution> = LazyLock::new(|| {
    NameResolution::new(MAX_THREADS, TIMEOUT, Arc::new(|name| Ok((name, 0).to_socket_addrs()?.collect())))
});

/// Returns the addresses of a name; may block.
pub type LookupFn = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Runs a request of a namespace: its lookups count towards that namespace.
pub async fn on_behalf_of<T>(namespace: &str, request: impl Future<Output = T>) -> T {
    NAMESPACE.scope(namespace.to_owned(), request).await
}

/// The namespace whose request is being sent; empty outside of [`on_behalf_of`].
#[must_use]
pub fn current_namespace() -> String {
    NAMESPACE.try_with(Clone::clone).unwrap_or_default()
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The error of the system.
    #[error("{0}")]
    Failed(String),
    /// No response arrived in time.
    #[error("{name} was not resolved within {timeout:?}: check the name, or its name servers")]
    TimedOut {
        /// The name.
        name: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The namespace has too many lookups waiting.
    #[error("too many names of this namespace wait to be resolved")]
    TooMany,
}

type Resolved = Result<Vec<SocketAddr>, ResolveError>;

/// Resolves names. Clones share the threads.
#[derive(Clone)]
pub struct NameResolution {
    state: Arc<Mutex<State>>,
    timeout: Duration,
    lookup: LookupFn,
}

struct State {
    threads: Shares,
    lookups: HashMap<Key, Vec<oneshot::Sender<Resolved>>>,
    /// Names that wait for a thread, by namespace.
    queues: HashMap<String, VecDeque<String>>,
    /// The namespaces that wait, in round-robin order: the first one is next.
    turns: VecDeque<String>,
}

/// A name that is resolved for a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    name: String,
}

impl std::fmt::Debug for NameResolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameResolution").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl NameResolution {
    /// A resolver with this number of threads, which call `lookup`.
    #[must_use]
    pub fn new(threads: usize, timeout: Duration, lookup: LookupFn) -> Self {
        let state = State {
            threads: Shares::new(threads, true),
            lookups: HashMap::new(),
            queues: HashMap::new(),
            turns: VecDeque::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), timeout, lookup }
    }

    /// The addresses of a name, for a request of a namespace.
    ///
    /// # Errors
    ///
    /// When the system finds no address, or not in time.
    pub async fn resolve(&self, namespace: &str, name: &str) -> Resolved {
        let (sender, receiver) = oneshot::channel();
        self.begin(Key { namespace: namespace.to_owned(), name: name.to_owned() }, sender)?;
        match tokio::time::timeout(self.timeout, receiver).await {
            Ok(Ok(resolved)) => resolved,
            // The sender was dropped: the thread has panicked.
            Ok(Err(_)) => Err(ResolveError::Failed("the lookup was aborted".to_owned())),
            Err(_) => Err(ResolveError::TimedOut { name: name.to_owned(), timeout: self.timeout }),
        }
    }

    /// How many threads are in use.
    #[must_use]
    pub fn threads_in_use(&self) -> usize {
        self.state().threads.in_use()
    }

    fn begin(&self, key: Key, sender: oneshot::Sender<Resolved>) -> Result<(), ResolveError> {
        let mut state = self.state();
        if let Entry::Occupied(mut known) = state.lookups.entry(key.clone()) {
            known.get_mut().retain(|waiting| !waiting.is_closed());
            known.get_mut().push(sender);
            return Ok(());
        }
        if state.threads.headroom(&key.namespace) > 0 {
            state.threads.take(&key.namespace);
            state.lookups.insert(key.clone(), vec![sender]);
            drop(state);
            self.start(key);
            return Ok(());
        }
        state.enqueue(&key)?;
        state.lookups.insert(key, vec![sender]);
        Ok(())
    }

    fn start(&self, key: Key) {
        let mut running = Running { resolution: self.clone(), key, resolved: None };
        let thread = std::thread::Builder::new().name("resolve".to_owned()).stack_size(STACK_BYTES);
        // When no thread can be started, the closure is dropped, and `Drop` reports that.
        let _ = thread.spawn(move || running.run());
    }

    fn finish(&self, key: &Key, resolved: &Resolved) {
        let mut state = self.state();
        state.threads.release(&key.namespace);
        let waiting = state.lookups.remove(key).unwrap_or_default();
        let next = state.next();
        drop(state);
        for sender in waiting {
            // The receiver may have timed out.
            let _ = sender.send(resolved.clone());
        }
        for key in next {
            self.start(key);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lookup in its thread. `Drop` notifies the waiting requests and starts the next lookup, even after a panic.
struct Running {
    resolution: NameResolution,
    key: Key,
    resolved: Option<Resolved>,
}

impl Running {
    fn run(&mut self) {
        let resolved = (self.resolution.lookup)(&self.key.name);
        self.resolved = Some(resolved.map_err(|error| ResolveError::Failed(error.to_string())));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let failed = || Err(ResolveError::Failed("no thread could be started to resolve the name".to_owned()));
        let resolved = self.resolved.take().unwrap_or_else(failed);
        self.resolution.finish(&self.key, &resolved);
    }
}

impl State {
    fn enqueue(&mut self, key: &Key) -> Result<(), ResolveError> {
        let queue = self.queues.entry(key.namespace.clone()).or_default();
        if queue.len() >= MAX_QUEUED_PER_NAMESPACE {
            return Err(ResolveError::TooMany);
        }
        if queue.is_empty() {
            self.turns.push_back(key.namespace.clone());
        }
        queue.push_back(key.name.clone());
        Ok(())
    }

    /// Takes threads for the next lookups, round-robin by namespace. One release may allow two lookups: a thread is
    /// free, and the namespace that released it occupies one less.
    fn next(&mut self) -> Vec<Key> {
        let mut next = vec![];
        while let Some(position) = self.turns.iter().position(|namespace| self.threads.headroom(namespace) > 0) {
            let Some(namespace) = self.turns.remove(position) else { break };
            let Some(queue) = self.queues.get_mut(&namespace) else { continue };
            let name = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&namespace);
            } else {
                self.turns.push_back(namespace.clone());
            }
            let Some(name) = name else { continue };
            let key = Key { namespace, name };
            // All requests for this name have timed out.
            if self.lookups.get(&key).is_none_or(|waiting| waiting.iter().all(oneshot::Sender::is_closed)) {
                self.lookups.remove(&key);
                continue;
            }
            self.threads.take(&key.namespace);
            next.push(key);
        }
        next
    }
}
