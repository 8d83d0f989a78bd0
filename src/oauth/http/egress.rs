//! Restricts where requests may be sent. Tenants describe the requests, and the operator sends them from its own
//! position in the network. Each URL is therefore checked as written, and after its name is resolved, exactly those
//! addresses are checked that are then connected to.

#![deny(clippy::disallowed_methods)]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use url::{Host, Url};

use crate::fingerprint;
use crate::oauth::http::addresses::{Special, embedded, special};
use crate::oauth::http::denied::Denied;
use crate::oauth::http::errors::SendError;
use crate::oauth::http::name_resolution;

/// The allowed and the denied destinations.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Whether requests may be sent without TLS.
    pub allow_http: bool,
    /// Addresses that are allowed although they are special.
    pub allow: Vec<IpNet>,
    /// Addresses that are denied; takes precedence over `allow`.
    pub deny: Vec<IpNet>,
    /// Hosts that are allowed; empty: all.
    pub hosts: Vec<HostPattern>,
    /// Addresses of the cluster's own API server.
    pub api_server: Addresses,
    /// Whether credentials must have the annotation with their allowed endpoints.
    pub require_pin: bool,
    /// Hosts to which integrations without any credentials may send requests if `require_pin` is set; empty: none.
    pub anonymous_hosts: Vec<HostPattern>,
    /// Whether addresses of private networks are denied unless `allow` contains them.
    pub deny_private: bool,
}

/// A set of addresses that grows. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<RwLock<Vec<IpAddr>>>);

impl Addresses {
    /// Whether the set contains an address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// Adds addresses; none is ever removed.
    pub fn add(&self, addresses: Vec<IpAddr>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            if !known.contains(&address) {
                known.push(address);
            }
        }
    }
}

/// A host, or `*.` and a domain for all hosts below that domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

/// The text is not a host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither a host nor *. and a domain")]
pub struct InvalidHostPattern(String);

impl std::str::FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let problem = || InvalidHostPattern(text.to_owned());
        let name = text.strip_prefix("*.").unwrap_or(text);
        // The URL parser would drop user information before a host, and the default port after it.
        let is_foreign = |c: char| c.is_whitespace() || c.is_control() || "/\\@?#*".contains(c);
        let has_port = name.rsplit(']').next().is_some_and(|end| end.contains(':'));
        if has_port || name.contains(is_foreign) {
            return Err(problem());
        }
        let url = Url::parse(&format!("https://{name}/")).map_err(|_| problem())?;
        let host = url.host().ok_or_else(problem)?.to_string();
        Ok(Self(format!("{}{}", &text[..text.len() - name.len()], bare(&host))))
    }
}

impl HostPattern {
    fn admits(&self, host: &str) -> bool {
        match self.0.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => self.0 == host,
        }
    }
}

/// Removes the trailing dot of a fully qualified name.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

impl EgressPolicy {
    /// Hash of the settings of the administrator. The addresses of the API server are not among them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self { allow_http, allow, deny, hosts, api_server: _, require_pin, anonymous_hosts, deny_private } = self;
        let names = |patterns: &[HostPattern]| patterns.iter().map(|pattern| pattern.0.clone()).collect::<Vec<_>>();
        let networks = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
        fingerprint::unsalted(&serde_json::json!([
            allow_http,
            networks(allow),
            networks(deny),
            names(hosts),
            require_pin,
            names(anonymous_hosts),
            deny_private,
        ]))
    }

    /// Checks the URL of an endpoint as written.
    ///
    /// # Errors
    ///
    /// Why it is denied.
    pub fn check_url(&self, url: &Url) -> Result<(), Denied> {
        if url.scheme() != "https" && !self.allow_http {
            return Err(Denied::PlainHttp);
        }
        self.check_host(url)
    }

    /// Checks the host of a URL, but not its scheme: a proxy does not need TLS, because requests through it to an
    /// https endpoint are encrypted.
    ///
    /// # Errors
    ///
    /// Why it is denied.
    pub fn check_host(&self, url: &Url) -> Result<(), Denied> {
        let text = url.host_str().unwrap_or_default();
        let host = bare(text);
        if !self.hosts.is_empty() && !self.hosts.iter().any(|pattern| pattern.admits(host)) {
            return Err(Denied::Host { host: host.to_owned() });
        }
        match url.host() {
            // The URL parser has recognized all forms of an address: octal, hexadecimal, short, and with a trailing
            // dot.
            Some(Host::Ipv4(address)) => self.check_ip(address.into()),
            Some(Host::Ipv6(address)) => self.check_ip(address.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(Denied::NoHost),
        }
    }

    /// Checks an address.
    ///
    /// # Errors
    ///
    /// Why it is denied.
    pub fn check_ip(&self, address: IpAddr) -> Result<(), Denied> {
        // Embedded addresses are also checked, because connections may be routed to them.
        let inner: Vec<IpAddr> = match address {
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4).collect(),
            IpAddr::V4(_) => vec![],
        };
        let all = || std::iter::once(&address).chain(&inner);
        let is_in = |nets: &[IpNet], address: &IpAddr| nets.iter().any(|net| net.contains(address));
        if all().any(|address| is_in(&self.deny, address)) {
            return Err(Denied::Network { address });
        }
        // If several embedded addresses are possible, allowing one of them must not allow the others.
        let single = inner.first().filter(|_| inner.len() == 1);
        if std::iter::once(&address).chain(single).any(|address| is_in(&self.allow, address)) {
            return Ok(());
        }
        let kind = if all().any(|address| self.api_server.has(*address)) {
            "the cluster's own API server"
        } else {
            match special(address) {
                Some(Special::Refused(kind)) => kind,
                Some(Special::Private) if self.deny_private => "an address of a private network (--deny-private)",
                Some(Special::Private) | None => return Ok(()),
            }
        };
        Err(Denied::Address { address, kind })
    }

    /// Checks whether an integration without any credentials may send requests to a URL. It has no Secret whose owner
    /// could decide, so the administrator decides. Otherwise, users who may write integrations could read data from
    /// servers that only the operator can reach.
    ///
    /// # Errors
    ///
    /// Why it is denied, with the flag to set.
    pub(crate) fn check_anonymous(&self, url: &Url, is_proxy: bool) -> Result<(), Denied> {
        let host = bare(url.host_str().unwrap_or_default());
        if !self.require_pin || self.anonymous_hosts.iter().any(|pattern| pattern.admits(host)) {
            return Ok(());
        }
        Err(Denied::Anonymous { host: host.to_owned(), is_proxy })
    }
}

impl EgressPolicy {
    /// Resolves a name, and returns only the addresses that are allowed. The checked addresses are those that are
    /// connected to, so a name that changes between two lookups (DNS rebinding) cannot bypass the check.
    ///
    /// # Errors
    ///
    /// When the name has no address, or no allowed one.
    pub async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, SendError> {
        let found = name_resolution::SYSTEM.resolve(&name_resolution::current_namespace(), name).await?;
        let mut denied = None;
        let mut allowed = vec![];
        for address in found {
            match self.check_ip(address.ip()) {
                Ok(()) => allowed.push(SocketAddr::new(address.ip(), port)),
                Err(why) => denied = Some(why),
            }
        }
        match denied {
            Some(why) if allowed.is_empty() => Err(why.into()),
            _ => Ok(allowed),
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn is_allowed(egress: &EgressPolicy, address: &str) -> bool {
        egress.check_ip(address.parse().expect("an address")).is_ok()
    }

    #[test]
    fn private_networks_are_allowed_unless_the_administrator_denies_them() {
        let open = EgressPolicy::default();
        let allow = vec!["10.1.0.0/16".parse().expect("a network"), "fd12::/16".parse().expect("a network")];
        let closed = EgressPolicy { deny_private: true, allow, ..EgressPolicy::default() };
        for address in ["10.2.3.4", "192.168.0.1", "100.64.0.1", "fc00::1", "64:ff9b::a02:304"] {
            assert!(is_allowed(&open, address) && !is_allowed(&closed, address), "{address}");
        }
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1", "1.1.1.1", "2606:4700::1111"] {
            assert!(is_allowed(&closed, address), "{address}");
        }
    }

    #[test]
    fn an_allowed_ipv4_address_does_not_allow_similar_ipv6_addresses() {
        let allow = vec!["10.1.0.0/16".parse().expect("a network")];
        let egress = EgressPolicy { allow, ..EgressPolicy::default() };
        // With a prefix of 64 bits, 127.0.0.1 is embedded in it, regardless of the last bits.
        assert!(!is_allowed(&egress, "64:ff9b:1:0:7f:0:10a:102"));
        assert!(!is_allowed(&egress, "64:ff9b:1::10.1.2.3"));
        let allow = vec!["64:ff9b:1::/96".parse().expect("a network")];
        let deny = vec!["10.0.0.0/8".parse().expect("a network")];
        let egress = EgressPolicy { allow, deny, ..EgressPolicy::default() };
        assert!(is_allowed(&egress, "64:ff9b:1::1.1.1.1") && !is_allowed(&egress, "64:ff9b:1::10.1.2.3"));
    }

    #[test]
    fn without_credentials_only_hosts_that_the_administrator_allows_can_be_used() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let host = |text: &str| text.parse::<HostPattern>().expect("a host");
        let none = EgressPolicy { require_pin: true, ..EgressPolicy::default() };
        assert!(none.check_anonymous(&url("https://login.example.com/token"), false).is_err());
        let some = EgressPolicy { anonymous_hosts: vec![host("login.example.com"), host("*.sts.example.com")], ..none };
        for text in
            ["https://login.example.com./token", "https://LOGIN.example.com:8443/", "https://eu.sts.example.com/"]
        {
            assert_eq!(some.check_anonymous(&url(text), false), Ok(()), "{text}");
        }
        for text in ["https://sts.example.com/", "https://login.example.com.evil.example/", "https://10.0.0.1/"] {
            let why = some.check_anonymous(&url(text), false).expect_err(text).to_string();
            assert!(why.contains("--allow-anonymous-host"), "{why}");
        }
        assert_eq!(
            EgressPolicy::default().check_anonymous(&url("https://10.0.0.1/"), false),
            Ok(()),
            "if no pins are required"
        );
    }
}
