//! Tracks which caches are synced.

use tokio::sync::watch;

/// The watches that have not received their initial list.
#[derive(Debug)]
pub struct CacheSync {
    missing: watch::Sender<Vec<String>>,
}

impl CacheSync {
    /// Waits for these watches, by name.
    #[must_use]
    pub fn new(all: Vec<String>) -> Self {
        Self { missing: watch::Sender::new(all) }
    }

    /// Records that a watch has received its initial list.
    pub fn done(&self, name: &str) {
        self.missing.send_if_modified(|missing| {
            let before = missing.len();
            missing.retain(|known| known != name);
            missing.len() != before
        });
    }

    /// The watches that have not received their initial list.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.borrow().clone()
    }

    /// Waits until the initial list of one watch is received.
    pub async fn wait_for(&self, name: &str) {
        self.until(|missing| missing.iter().all(|known| known != name)).await;
    }

    /// Waits until the initial lists of all watches are received.
    pub async fn wait_for_all(&self) {
        self.until(<[String]>::is_empty).await;
    }

    async fn until(&self, enough: impl Fn(&[String]) -> bool) {
        // An error means that the sender was dropped, and `self` with it.
        let _ = self.missing.subscribe().wait_for(|missing| enough(missing)).await;
    }
}
