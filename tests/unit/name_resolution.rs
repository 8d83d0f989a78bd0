//! Guarantee: names whose resolution hangs occupy only threads of their own namespace, and a request never waits for
//! them forever.

use std::collections::HashSet;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use oauth_operator::oauth::http::name_resolution::{NameResolution, ResolveError, current_namespace, on_behalf_of};

/// Name servers, some of which are silent until they are released.
#[derive(Clone, Default)]
struct NameServers(Arc<Servers>);

#[derive(Default)]
struct Servers {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// Prefixes of names whose servers respond.
    released: Vec<&'static str>,
    lookups: Vec<String>,
}

impl NameServers {
    fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let Servers { state, released } = &*self.0;
        let mut state = state.lock().expect("a state");
        state.lookups.push(name.to_owned());
        if name.ends_with("unknown") {
            return Err(io::Error::other("Name or service not known"));
        }
        while name.contains("silent") && !state.released.iter().any(|prefix| name.starts_with(prefix)) {
            state = released.wait(state).expect("a state");
        }
        Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))])
    }

    fn release(&self) {
        self.release_prefix("");
    }

    /// Lets the servers of all names with this prefix respond.
    fn release_prefix(&self, prefix: &'static str) {
        self.0.state.lock().expect("a state").released.push(prefix);
        self.0.released.notify_all();
    }

    fn lookups(&self) -> Vec<String> {
        self.0.state.lock().expect("a state").lookups.clone()
    }

    fn resolution(&self, threads: usize, timeout: Duration) -> NameResolution {
        let own = self.clone();
        NameResolution::new(threads, timeout, Arc::new(move |name| own.lookup(name)))
    }
}

type Resolving = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, ResolveError>>>>;

/// Starts to resolve a name: when this returns, the name has a thread or is queued.
async fn begin(resolution: &NameResolution, namespace: &'static str, name: String) -> Resolving {
    let resolution = resolution.clone();
    let resolving = async move { resolution.resolve(namespace, &name).await };
    let mut resolving: Resolving = Box::pin(resolving);
    match futures::poll!(&mut resolving) {
        Poll::Ready(resolved) => Box::pin(future::ready(resolved)),
        Poll::Pending => resolving,
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn silent_names_of_one_namespace_occupy_half_of_the_threads_and_another_is_served_at_once() {
    let servers = NameServers::default();
    let resolution = servers.resolution(8, Duration::from_secs(3));
    let mut attack = vec![];
    for number in 0..100 {
        attack.push(begin(&resolution, "mallory", format!("silent-{number}")).await);
    }
    let begun = Instant::now();
    for number in 0..20 {
        let found = resolution.resolve("bob", &format!("login-{number}")).await;
        assert!(found.is_ok(), "{found:?}");
        assert!(resolution.threads_in_use() <= 5, "{}", resolution.threads_in_use());
    }
    // None of bob's names waited for the timeout of a silent one.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    for resolved in attack {
        let resolved = resolved.await;
        assert!(matches!(resolved, Err(ResolveError::TimedOut { .. })), "{resolved:?}");
    }
    assert_eq!(resolution.threads_in_use(), 4, "a lookup cannot be canceled, and counts until it returns");
    servers.release();
    let lookups: HashSet<String> = servers.lookups().into_iter().filter(|name| name.contains("silent")).collect();
    assert_eq!(lookups.len(), 4, "the other names are no longer looked up: {lookups:?}");
}

#[tokio::test]
async fn a_name_that_many_integrations_of_a_namespace_need_occupies_one_thread() {
    let servers = NameServers::default();
    let resolution = servers.resolution(8, LONG);
    let mut waiting = vec![begin(&resolution, "bob", "silent".to_owned()).await];
    for _ in 0..50 {
        waiting.push(begin(&resolution, "mallory", "silent".to_owned()).await);
    }
    assert_eq!(resolution.threads_in_use(), 2, "one lookup per namespace: namespaces share no results");
    servers.release();
    for resolved in waiting {
        assert!(resolved.await.is_ok());
    }
}

#[tokio::test]
async fn too_many_names_of_a_namespace_are_rejected_and_queued_ones_are_resolved_round_robin() {
    let servers = NameServers::default();
    let resolution = servers.resolution(2, LONG);
    let (mut mallory, mut alice) = (vec![], vec![]);
    for number in 0..300 {
        mallory.push(begin(&resolution, "mallory", format!("silent-m{number}")).await);
    }
    for number in 0..2 {
        alice.push(begin(&resolution, "alice", format!("silent-a{number}")).await);
    }
    // Mallory's first name occupies one thread; alice's names use the other one, one after another.
    servers.release_prefix("silent-a");
    for resolved in alice {
        assert!(resolved.await.is_ok());
    }
    let before: Vec<String> = servers.lookups().into_iter().filter(|name| name.contains("-m")).collect();
    assert!(before.len() <= 1, "alice does not wait for mallory's names: {before:?}");
    servers.release();
    let mut rejected = 0;
    for resolved in mallory {
        rejected += usize::from(resolved.await == Err(ResolveError::TooMany));
    }
    assert_eq!(rejected, 300 - 1 - 128);
    assert_eq!(servers.lookups().len(), 2 + 1 + 128);
}

#[tokio::test]
async fn failures_are_reported_and_not_cached() {
    let servers = NameServers::default();
    let resolution = servers.resolution(2, LONG);
    for _ in 0..2 {
        let failed = resolution.resolve("bob", "unknown").await;
        assert_eq!(failed, Err(ResolveError::Failed("Name or service not known".to_owned())));
    }
    assert_eq!(servers.lookups().len(), 2);
}

#[tokio::test]
async fn a_lookup_is_charged_to_the_namespace_of_its_request() {
    assert_eq!(on_behalf_of("bob", async { current_namespace() }).await, "bob");
    assert_eq!(current_namespace(), "");
}
