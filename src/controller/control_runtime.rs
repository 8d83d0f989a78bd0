//! A runtime on its own thread for work that must not wait for the main loop: probes, metrics and the lease, or the export of
//! traces.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::controller::error::Error;

/// The runtime. Dropping it aborts everything that runs on it.
#[derive(Debug)]
pub struct ControlRuntime {
    handle: Handle,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl ControlRuntime {
    /// Starts it with one thread, and up to two more for blocking work.
    ///
    /// # Errors
    ///
    /// When no thread can be created.
    pub fn start() -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(Error::StartRuntime)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// The handle of the runtime.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs a future on it. Connections that the future opens belong to this runtime.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}

impl Drop for ControlRuntime {
    fn drop(&mut self) {
        // A runtime must not block on the shutdown of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
