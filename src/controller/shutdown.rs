//! The signals that start a graceful shutdown.

use crate::controller::error::Error;

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// When no signal handler can be installed.
pub fn shutdown_signal() -> Result<impl Future<Output = ()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::ListenForSignals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::ListenForSignals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
