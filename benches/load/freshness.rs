//! How long Secrets contained expired tokens, according to the endpoint and a watch on the Secrets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

/// The expiry of each token, by its value.
pub type Expiries = Arc<Mutex<HashMap<String, Instant>>>;

#[derive(Default)]
struct Seen {
    /// The expiry of the token in each Secret.
    expiries: HashMap<String, Instant>,
    /// How long each Secret contained an expired token: the total and the longest period.
    expired: HashMap<String, (Duration, Duration)>,
}

impl Seen {
    fn held_until(&mut self, name: &str, now: Instant) {
        let late = self.expiries.get(name).map(|expiry| now.saturating_duration_since(*expiry)).unwrap_or_default();
        if !late.is_zero() {
            let (sum, longest) = self.expired.entry(name.to_owned()).or_default();
            *sum += late;
            *longest = late.max(*longest);
        }
    }
}

/// A watch on the Secrets of a namespace.
pub struct Freshness {
    seen: Arc<Mutex<Seen>>,
    watching: tokio::task::JoinHandle<()>,
}

impl Freshness {
    pub fn watch(client: &Client, namespace: &str, expiries: &Expiries) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (noting, expiries) = (Arc::clone(&seen), Arc::clone(expiries));
        let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=oauth-operator");
        let secrets = watcher(Api::<Secret>::namespaced(client.clone(), namespace), ours);
        let watching = tokio::spawn(async move {
            let watched = secrets.default_backoff().applied_objects().try_for_each(async |secret| {
                let token = secret.data.as_ref().and_then(|data| data.get("access_token")).map(|token| token.0.clone());
                let token = String::from_utf8(token.unwrap_or_default()).unwrap_or_default();
                let until = lock(&expiries).get(&token).copied();
                let mut seen = lock(&noting);
                let name = secret.name_any();
                if let Some(until) = until
                    && seen.expiries.get(&name) != Some(&until)
                {
                    seen.held_until(&name, Instant::now());
                    seen.expiries.insert(name, until);
                }
                Ok(())
            });
            if let Err(error) = watched.await {
                println!("  the watch has failed, and its figures are invalid: {error}");
            }
        });
        Self { seen, watching }
    }

    /// The total seconds with an expired token and the longest such period, over the Secrets whose number `chosen`
    /// selects.
    pub fn expired(self, chosen: impl Fn(usize) -> bool) -> (f64, f64) {
        self.watching.abort();
        let mut seen = lock(&self.seen);
        let now = Instant::now();
        let names: Vec<String> = seen.expiries.keys().cloned().collect();
        for name in names {
            seen.held_until(&name, now);
        }
        let number = |name: &str| name.trim_start_matches("it-").parse().unwrap_or_default();
        let of: Vec<_> = seen.expired.iter().filter(|(name, _)| chosen(number(name))).map(|(_, late)| late).collect();
        // An empty sum of floats is a negative zero.
        let sum = of.iter().map(|(sum, _)| sum.as_secs_f64()).fold(0.0, |sum, late| sum + late);
        (sum, of.iter().map(|(_, longest)| longest.as_secs_f64()).fold(0.0, f64::max))
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
