//! Why a request is denied.

use std::net::IpAddr;

use crate::oauth::allowed_endpoints::ALLOWED_ENDPOINTS;

/// Why the egress policy, or the owner of a credential, denies a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The endpoint has no TLS.
    #[error(
        "requests without TLS are not allowed: use https, or have an administrator set egress.allowHttp=true (--allow-http)"
    )]
    PlainHttp,
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The host is not one of the allowed hosts.
    #[error("{host} is not an allowed host (--allow-host)")]
    Host {
        /// The host.
        host: String,
    },
    /// The administrator has denied the network.
    #[error("{address} is denied (--deny-cidr)")]
    Network {
        /// The address.
        address: IpAddr,
    },
    /// The address is special.
    #[error("{address} is {kind}, which is denied unless --allow-cidr allows it")]
    Address {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
    /// There are no credentials whose owner could allow the host, and the administrator has not allowed it.
    #[error(
        "an integration without credentials may send requests only to the hosts of --allow-anonymous-host, and {host} is not one of them: use credentials whose annotation {ALLOWED_ENDPOINTS} allows it, or have an administrator add the host"
    )]
    Anonymous {
        /// The host.
        host: String,
        /// Whether it is the host of the proxy.
        is_proxy: bool,
    },
    /// A token of another integration, whose credentials have no annotation.
    #[error(
        "a token is sent to another integration's endpoint only if the annotation {ALLOWED_ENDPOINTS} of its own credentials allows it, and {owner} has none: let its owner set it to all endpoints that it may be sent to, including {origin}"
    )]
    NotForwarded {
        /// The credentials with which the token was obtained.
        owner: String,
        /// The origin of the endpoint.
        origin: String,
    },
    /// The annotation of the credentials allows other endpoints.
    #[error("{owner} may be sent only to {allowed}, as its annotation {ALLOWED_ENDPOINTS} says, and not to {url}")]
    OutsideAllowedEndpoints {
        /// The object with the annotation.
        owner: String,
        /// The endpoints that it allows.
        allowed: String,
        /// The endpoint; without its query unless a query is pinned.
        url: String,
    },
    /// An additional header could make a gateway use another path than the allowed one.
    #[error(
        "{owner} may be sent only below a path ({allowed}), and header {name} could make a gateway use another path"
    )]
    Header {
        /// The object with the annotation.
        owner: String,
        /// The endpoints that it allows.
        allowed: String,
        /// The header.
        name: String,
        /// The origin of the endpoint.
        origin: String,
    },
    /// The CA bundle does not belong to the owner of the credentials.
    #[error("{owner} restricts where it may be sent, and another owner's CA could impersonate the endpoint")]
    ForeignCa {
        /// The object with the annotation.
        owner: String,
    },
    /// The request would be sent to a proxy without encryption.
    #[error(
        "credentials with the annotation allowed-endpoints cannot be sent through a proxy over plain http: the proxy could read them"
    )]
    ProxySeesCredentials,
    /// Only the protected resource names the server, and the credentials have no annotation.
    #[error(
        "{owner} does not restrict where it may be sent, and only the protected resource names {server}, so nothing was sent there"
    )]
    Unconfirmed {
        /// The object without the annotation.
        owner: String,
        /// The issuer or the token endpoint.
        server: String,
        /// Whether it is a token endpoint.
        is_endpoint: bool,
    },
    /// The credentials have no annotation, and the administrator requires one.
    #[error(
        "{owner} does not restrict where it may be sent, and --require-allowed-endpoints is set: add the annotation {ALLOWED_ENDPOINTS} with {origin}"
    )]
    Unrestricted {
        /// The object without the annotation.
        owner: String,
        /// The origin of the endpoint.
        origin: String,
    },
}
