//! Why an input of a request could not be read.

use crate::controller::error::Error;
use crate::decision::observed::CredentialsState;

/// Why an input could not be read.
pub(crate) enum ReadError {
    /// It is missing, or access is denied: the state to report.
    Unavailable(CredentialsState),
    /// The call failed.
    Failed(Error),
}

impl ReadError {
    pub(crate) const fn missing(message: String) -> Self {
        Self::Unavailable(CredentialsState::Missing(message))
    }

    pub(crate) const fn invalid(message: String) -> Self {
        Self::Unavailable(CredentialsState::Invalid(message))
    }

    pub(crate) const fn denied(message: String) -> Self {
        Self::Unavailable(CredentialsState::AccessDenied(message))
    }

    pub(crate) const fn dependency_missing(message: String) -> Self {
        Self::Unavailable(CredentialsState::DependencyMissing(message))
    }
}
