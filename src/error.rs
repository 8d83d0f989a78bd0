//! What can go wrong, by class and with fixed words.
//!
//! A [`Failure`] is an attempt that did not bring a token: an outcome that `settle` turns into status, event and
//! waiting time. An [`Error`] is a step of the operator itself that failed; it reaches the log and the retry of
//! the work queue, never a decision.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::api::Reason;

/// An attempt that did not bring a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in one word, and with it the class that decides about the retry.
    pub reason: Reason,
    /// Why, in a sentence that says what to change. Holds nothing secret.
    pub message: String,
    /// How long the endpoint asked to be left alone (RFC 9110, section 10.2.3).
    pub retry_after: Option<Duration>,
    /// A new refresh token that came with an answer which is of no use otherwise. The one that was sent may be worth
    /// nothing by now, so this one has to be kept.
    pub refresh_token: Option<KeptToken>,
    /// Whether the endpoint said `invalid_grant` (RFC 6749, section 5.2): what was sent as a grant is worth nothing any more.
    pub invalid_grant: bool,
}

/// A token that can be compared, for those who compare failures. `Debug` does not print it.
#[derive(Clone, Debug)]
pub struct KeptToken(pub SecretString);

impl PartialEq for KeptToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for KeptToken {}

impl Failure {
    /// A failure that says nothing about when to come back.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None, refresh_token: None, invalid_grant: false }
    }
}

/// A step of the operator that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The credentials Secret could not be read.
    #[error("failed to read credentials Secret {name}")]
    ReadCredentials {
        /// Name of the Secret.
        name: String,
        /// What the API server or the way to it said.
        source: Box<ApiError>,
    },
    /// The target Secret could not be read.
    #[error("failed to read target Secret {name}")]
    ReadTarget {
        /// Name of the Secret.
        name: String,
        /// What the API server or the way to it said.
        source: Box<ApiError>,
    },
    /// A Secret that is no longer the target could not be deleted.
    #[error("failed to delete former target Secret {name}")]
    DeleteFormerTarget {
        /// Name of the Secret.
        name: String,
        /// What the API server or the way to it said.
        source: Box<ApiError>,
    },
    /// The certificates of trusted authorities could not be read.
    #[error("failed to read {name} of spec.connection.caBundle")]
    ReadCaBundle {
        /// Name of the ConfigMap or Secret.
        name: String,
        /// What the API server or the way to it said.
        source: Box<ApiError>,
    },
    /// The API server gave no token of a ServiceAccount.
    #[error("failed to request a token of ServiceAccount {name}")]
    RequestToken {
        /// Name of the ServiceAccount.
        name: String,
        /// What the API server or the way to it said.
        source: Box<ApiError>,
    },
    /// The finalizer could not be set or taken away.
    #[error("failed to write finalizers")]
    WriteFinalizers(#[source] Box<ApiError>),
    /// The status could not be written.
    #[error("failed to write status")]
    WriteStatus(#[source] Box<ApiError>),
    /// The object in the API server is not an `OAuthIntegration` of this version.
    #[error("failed to understand the integration: {0}")]
    Malformed(String),
    /// The configuration for the API server could not be found.
    #[error("failed to find the Kubernetes configuration")]
    InferKubeConfig(#[source] Box<kube::config::InferConfigError>),
    /// The client for the API server could not be made.
    #[error("failed to make the Kubernetes client")]
    MakeKubeClient(#[source] Box<kube::Error>),
    /// The HTTP client for token endpoints could not be made.
    #[error("failed to make the HTTP client")]
    MakeHttpClient(#[source] reqwest::Error),
    /// The address for health and metrics could not be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The signals that end the process could not be listened for.
    #[error("failed to listen for signals")]
    ListenForSignals(#[source] std::io::Error),
    /// The work on an integration panicked, which is a defect of the operator.
    #[error("the work panicked: please report this")]
    Panicked,
    /// The manifests could not be used.
    #[error("{0}")]
    Manifest(String),
}

impl Error {
    /// Whether the API server was not reached, or cannot do what it should just now; it did not refuse.
    #[must_use]
    pub fn is_bad_time(&self) -> bool {
        match self {
            Self::ReadCredentials { source, .. }
            | Self::ReadTarget { source, .. }
            | Self::DeleteFormerTarget { source, .. }
            | Self::ReadCaBundle { source, .. }
            | Self::RequestToken { source, .. }
            | Self::WriteFinalizers(source)
            | Self::WriteStatus(source) => {
                source.status().is_none_or(|status| status.code >= 500 || status.code == 429)
            }
            _ => false,
        }
    }

    /// A fixed label for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ReadCredentials { .. } => "read_credentials",
            Self::ReadTarget { .. } => "read_target",
            Self::DeleteFormerTarget { .. } => "delete_former_target",
            Self::ReadCaBundle { .. } => "read_ca_bundle",
            Self::RequestToken { .. } => "request_token",
            Self::WriteFinalizers(_) => "write_finalizers",
            Self::WriteStatus(_) => "write_status",
            Self::Malformed(_) => "malformed",
            Self::InferKubeConfig(_) => "infer_kube_config",
            Self::MakeKubeClient(_) => "make_kube_client",
            Self::MakeHttpClient(_) => "make_http_client",
            Self::Listen { .. } => "listen",
            Self::ListenForSignals(_) => "listen_for_signals",
            Self::Panicked => "panicked",
            Self::Manifest(_) => "manifest",
        }
    }
}

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server refused it, or it was not reached.
    #[error(transparent)]
    Call(#[from] kube::Error),
    /// There was no answer in time.
    #[error("no answer from the API server within {0:?}")]
    TimedOut(Duration),
}

impl ApiError {
    /// The API server's own answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Call(kube::Error::Api(status)) => Some(status),
            Self::Call(_) | Self::TimedOut(_) => None,
        }
    }
}

/// An error with all its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The exit code of a command; what went wrong is printed.
#[must_use]
pub fn exit(result: Result<(), Error>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}
