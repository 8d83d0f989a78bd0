//! Calls to the API server: each has a timeout.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

use crate::kube_api::client;
use crate::kube_api::errors;

/// Timeout of one call. If the API server takes longer, a retry is better than waiting on a connection that may be
/// dead.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for a call, up to [`TIMEOUT`].
///
/// # Errors
///
/// The error of the API server or of the connection, or a timeout.
pub fn with_timeout<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, ApiError>> {
    within(TIMEOUT, call)
}

/// The same with another timeout.
///
/// # Errors
///
/// The error of the call, or a timeout.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::TimedOut(limit)),
    }
}

/// Zeroizes the data of a Secret, after the required values have been copied.
pub fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flat_map(|data| data.values_mut()).for_each(|value| value.0.zeroize());
}

/// The error of a call to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server rejected the call, or could not be reached.
    #[error(transparent)]
    Call(kube::Error),
    /// The response could not be parsed. The error of the parser is dropped because it quotes the response, which may
    /// be a Secret.
    #[error("failed to parse the API server's response")]
    Unreadable,
    /// The response did not arrive in time.
    #[error("no response from the API server within {0:?}")]
    TimedOut(Duration),
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        if errors::quotes(&error) { Self::Unreadable } else { Self::Call(error) }
    }
}

impl ApiError {
    /// Whether the object exceeds the maximum size.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Call(error) if client::is_too_large(error))
    }

    /// The `Status` that the API server returned, if any.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Call(kube::Error::Api(status)) => Some(status),
            Self::Call(_) | Self::Unreadable | Self::TimedOut(_) => None,
        }
    }
}
