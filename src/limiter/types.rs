//! Input and output types of the limiter.

use std::time::Duration;

use jiff::Timestamp;
use url::Url;

/// An integration that wants to send a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Requests with the same key share permits and circuit breakers. It consists of the origin and the connection
/// settings.
///
/// A tenant with its own proxy, CA bundle or client certificate may see, or cause, failures that other tenants do not
/// see. They are tracked separately, because they do not show the state of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    origin: String,
    settings: Option<PrivateSettings>,
}

/// Connection settings that a tenant provides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrivateSettings {
    /// The namespace to which the names in the settings refer.
    pub namespace: String,
    /// Hash of the references: CA bundle, proxy, client certificate.
    pub fingerprint: String,
    /// Whether several namespaces have them: those of a provider.
    pub is_shared: bool,
}

/// The maximum length of a host name (RFC 1035, section 2.3.4); a longer one cannot be resolved.
const MAX_HOST_LENGTH: usize = 253;

impl HostKey {
    /// The key of a URL. Letter case, a default port and a trailing dot of the host are ignored. All hosts with names
    /// too long to be resolved have the same key, so that keys stay short, because they are compared often.
    #[must_use]
    pub fn new(url: &Url, settings: Option<PrivateSettings>) -> Self {
        // The URL parser has converted the host to lower case and removed default ports.
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let host = if host.len() > MAX_HOST_LENGTH { "name-too-long.invalid" } else { host };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Self { origin: format!("{}://{host}{port}", url.scheme()), settings }
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether integrations of several namespaces can have this key.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.settings.as_ref().is_none_or(|settings| settings.is_shared)
    }
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in flight to one host.
    pub per_host: usize,
    /// Requests in flight to all hosts.
    pub total: usize,
    /// Whether there may be several namespaces. If so, none of them can hold more than half of the permits, so that a
    /// permit is immediately available for another one.
    pub several_namespaces: bool,
}

/// Why a request must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// The limit of requests in flight is reached.
    LimitReached,
    /// There is no memory for the response.
    NoMemory,
    /// The circuit is open because the host keeps failing; one probe at a time is sent.
    CircuitOpen {
        /// The time of the first failure since the last response.
        since: Timestamp,
        /// The scope of the open circuit.
        scope: CircuitScope,
    },
}

/// The scope of an open circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitScope {
    /// The integrations of one namespace: only their own requests have failed.
    Namespace,
    /// All: requests of several namespaces have failed.
    Host,
}

/// The result of a request, as far as it concerns the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOutcome {
    /// It responded, possibly with an error that concerns only the client.
    Responded,
    /// It did not respond, or responded that it is unavailable.
    Failed {
        /// `Retry-After` of the response.
        retry_after: Option<Duration>,
    },
}

/// The state of the limiter as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimiterStats {
    /// Requests in flight, including the reads before them.
    pub in_flight: usize,
    /// Integrations that wait for a permit.
    pub queued: usize,
    /// Origins with a circuit that is open for all: for several namespaces, or for the only one. At most
    /// [`LimiterStats::MAX_HOSTS`].
    pub failing_hosts: Vec<String>,
    /// Circuits that are open for one namespace only.
    pub namespace_circuits: usize,
}

impl LimiterStats {
    /// The maximum number of hosts that are named.
    pub const MAX_HOSTS: usize = 32;
}
