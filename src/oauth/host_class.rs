//! Whether a host is in the cluster, for metrics: hosts themselves would be labels that tenants choose.

#![deny(clippy::disallowed_methods)]

use url::{Host, Url};

/// Where a host is, as far as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostClass {
    /// A Service of the cluster: a name without a dot, `name.namespace.svc`, or that with the usual domain of clusters. A name in
    /// another domain, and `name.namespace`, cannot be told from others.
    Cluster,
    /// Any other name or address.
    External,
}

impl HostClass {
    /// The class of the host of a URL.
    #[must_use]
    pub fn of(url: Option<&Url>) -> Self {
        let Some(Host::Domain(name)) = url.and_then(Url::host) else { return Self::External };
        let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
        let is_in_cluster = match labels.as_slice() {
            [name] => *name != "localhost",
            [_, _, "svc"] | [_, _, "svc", "cluster", "local"] => true,
            _ => false,
        };
        if is_in_cluster { Self::Cluster } else { Self::External }
    }

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::External => "external",
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn services_of_the_cluster_are_recognized_by_their_names() {
        for (url, class) in [
            ("http://keycloak/token", HostClass::Cluster),
            ("http://keycloak.identity.svc/token", HostClass::Cluster),
            ("http://keycloak.identity.svc.cluster.local:8080/token", HostClass::Cluster),
            ("https://login.example.com/token", HostClass::External),
            ("https://svc.example.com/token", HostClass::External),
            ("https://a.b.svc.example.com/token", HostClass::External),
            ("http://localhost/token", HostClass::External),
            ("http://10.0.0.1/token", HostClass::External),
            ("http://[fd00::1]/token", HostClass::External),
        ] {
            assert_eq!(HostClass::of(Some(&url.parse().expect("a URL"))), class, "{url}");
        }
    }
}
