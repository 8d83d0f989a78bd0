//! Errors in the operator's own steps.
//!
//! A [`RequestError`] is a failed token request: an outcome that `settle` turns into status, event and delay. An
//! [`Error`] is a failed step of the operator itself; it results in a log line and a retry by the work queue, never
//! in a decision.

use crate::kube_api::call::ApiError;
use crate::oauth::error::BuildError;

/// A step of the operator that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The credentials Secret could not be read.
    #[error("failed to read credentials Secret {name}")]
    ReadCredentials {
        /// Name of the Secret.
        name: String,
        /// The error of the API server, or of the connection to it.
        source: Box<ApiError>,
    },
    /// The target Secret could not be read.
    #[error("failed to read target Secret {name}")]
    ReadTarget {
        /// Name of the Secret.
        name: String,
        /// The error of the API server, or of the connection to it.
        source: Box<ApiError>,
    },
    /// A Secret that is no longer the target could not be deleted.
    #[error("failed to delete previous target Secret {name}")]
    DeletePreviousTarget {
        /// Name of the Secret.
        name: String,
        /// The error of the API server, or of the connection to it.
        source: Box<ApiError>,
    },
    /// The custom CA bundle could not be read.
    #[error("failed to read {name}, referenced by spec.connection.caBundle")]
    ReadCaBundle {
        /// Name of the ConfigMap or Secret.
        name: String,
        /// The error of the API server, or of the connection to it.
        source: Box<ApiError>,
    },
    /// The API server did not issue a ServiceAccount token.
    #[error("failed to request a token for ServiceAccount {name}")]
    RequestToken {
        /// Name of the ServiceAccount.
        name: String,
        /// The error of the API server, or of the connection to it.
        source: Box<ApiError>,
    },
    /// The finalizer could not be added or removed.
    #[error("failed to write finalizers")]
    WriteFinalizers(#[source] Box<ApiError>),
    /// The status could not be written.
    #[error("failed to write status")]
    WriteStatus(#[source] Box<ApiError>),
    /// The configuration of the connection to the API server could not be found.
    #[error("failed to find the Kubernetes configuration")]
    InferKubeConfig(#[source] Box<kube::config::InferConfigError>),
    /// The client for the API server could not be created.
    #[error("failed to create the Kubernetes client")]
    MakeKubeClient(#[source] Box<kube::Error>),
    /// The HTTP client for token endpoints could not be created.
    #[error(transparent)]
    MakeHttpClient(#[from] BuildError),
    /// The address for health or metrics could not be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The configured address.
        address: std::net::SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The certificate for metrics cannot be used.
    #[error("failed to load the TLS certificate for metrics: {0}")]
    MetricsCertificate(String),
    /// The thread for probes, metrics and the lease could not be started.
    #[error("failed to start the control runtime")]
    StartRuntime(#[source] std::io::Error),
    /// Traces cannot be exported.
    #[error("failed to export traces (--otlp-endpoint): {0}")]
    StartTraces(String),
    /// The handlers of SIGTERM and SIGINT could not be installed.
    #[error("failed to listen for signals")]
    ListenForSignals(#[source] std::io::Error),
    /// A reconciliation panicked, which is a bug in the operator.
    #[error("the reconciliation panicked: please report this")]
    Panicked,
    /// The label selector is invalid.
    #[error("--selector {0:?} is not a label selector, such as team=erp or team in (erp, crm): {1}")]
    InvalidSelector(String, String),
    /// The manifests could not be used.
    #[error("{0}")]
    Manifest(String),
}

impl Error {
    /// Whether the API server is unreachable or unavailable, as opposed to rejecting the request.
    #[must_use]
    pub fn is_api_server_unavailable(&self) -> bool {
        match self {
            Self::ReadCredentials { source, .. }
            | Self::ReadTarget { source, .. }
            | Self::DeletePreviousTarget { source, .. }
            | Self::ReadCaBundle { source, .. }
            | Self::RequestToken { source, .. }
            | Self::WriteFinalizers(source)
            | Self::WriteStatus(source) => {
                !source.is_too_large() && source.status().is_none_or(|status| status.code >= 500 || status.code == 429)
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
            Self::DeletePreviousTarget { .. } => "delete_previous_target",
            Self::ReadCaBundle { .. } => "read_ca_bundle",
            Self::RequestToken { .. } => "request_token",
            Self::WriteFinalizers(_) => "write_finalizers",
            Self::WriteStatus(_) => "write_status",
            Self::InferKubeConfig(_) => "infer_kube_config",
            Self::MakeKubeClient(_) => "make_kube_client",
            Self::MakeHttpClient(_) => "make_http_client",
            Self::Listen { .. } => "listen",
            Self::MetricsCertificate(_) => "metrics_certificate",
            Self::StartRuntime(_) => "start_runtime",
            Self::StartTraces(_) => "start_traces",
            Self::ListenForSignals(_) => "listen_for_signals",
            Self::Panicked => "panicked",
            Self::InvalidSelector(..) => "invalid_selector",
            Self::Manifest(_) => "manifest",
        }
    }
}
