//! Where requests may go. The operator sends what tenants describe, from a place in the network that tenants do not have, so each
//! address is judged: as it is written, and again after its name was resolved, on the very addresses that are connected to.

#![deny(clippy::disallowed_methods)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// What is allowed, and what is not.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Whether endpoints may be asked without TLS.
    pub allow_http: bool,
    /// Addresses that may be asked although they would not be.
    pub allow: Vec<IpNet>,
    /// Addresses that may not be asked, whatever else is said.
    pub deny: Vec<IpNet>,
    /// Hosts that may be asked; empty: all.
    pub hosts: Vec<HostPattern>,
    /// Addresses of the cluster's own API server.
    pub api_server: Addresses,
    /// Whether credentials have to say where they may be sent.
    pub require_pin: bool,
    /// Whether nothing is judged: for people who try a manifest on their own machine.
    pub everywhere: bool,
}

/// Addresses that become more while they are looked at. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<RwLock<Vec<IpAddr>>>);

impl Addresses {
    /// Whether an address is one of them.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// Adds those that are not known yet; none is ever taken out.
    pub fn add(&self, addresses: Vec<IpAddr>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            if !known.contains(&address) {
                known.push(address);
            }
        }
    }
}

/// A host, or with `*.` before it all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl std::str::FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("{text} is not a host, nor *. and a domain");
        let name = text.strip_prefix("*.").unwrap_or(text);
        // The URL parser would leave out what stands before a host, and a port that is the usual one.
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

/// Without the dot at the end, which says that a name is whole.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Why something may not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub String);

impl Reach {
    /// Nothing is judged.
    #[must_use]
    pub fn everywhere() -> Self {
        Self { allow_http: true, everywhere: true, ..Self::default() }
    }

    /// Judges an endpoint as it is written.
    ///
    /// # Errors
    ///
    /// Why it may not be asked.
    pub fn judge(&self, url: &Url) -> Result<(), Forbidden> {
        if url.scheme() != "https" && !self.allow_http {
            return Err(Forbidden("without TLS nothing is sent (--allow-http): use https".to_owned()));
        }
        self.judge_host(url)
    }

    /// Judges a proxy, which may be spoken to without TLS: what goes through it to an https endpoint is encrypted.
    ///
    /// # Errors
    ///
    /// Why it may not be asked.
    pub fn judge_host(&self, url: &Url) -> Result<(), Forbidden> {
        let text = url.host_str().unwrap_or_default();
        let host = bare(text);
        if !self.hosts.is_empty() && !self.hosts.iter().any(|pattern| pattern.admits(host)) {
            return Err(Forbidden(format!("{host} is none of the hosts that may be asked (--allow-host)")));
        }
        match url.host() {
            // The URL parser has made an address of every way to write one: octal, short, hexadecimal, with a dot behind.
            Some(Host::Ipv4(address)) => self.judge_address(address.into()),
            Some(Host::Ipv6(address)) => self.judge_address(address.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(Forbidden("there is no host".to_owned())),
        }
    }

    /// Judges an address.
    ///
    /// # Errors
    ///
    /// Why it may not be asked.
    pub fn judge_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        if self.everywhere {
            return Ok(());
        }
        // An address inside another is judged as what it leads to.
        let all = [Some(address), inner(address).map(IpAddr::V4)];
        let is_in = |nets: &[IpNet]| all.iter().flatten().any(|address| nets.iter().any(|net| net.contains(address)));
        if is_in(&self.deny) {
            return Err(Forbidden(format!("{address} is not to be asked (--deny-cidr)")));
        }
        if is_in(&self.allow) {
            return Ok(());
        }
        let own = all.iter().flatten().any(|address| self.api_server.has(*address));
        let what =
            if own { Some("the cluster's own API server") } else { all.iter().flatten().find_map(|ip| kind(*ip)) };
        match what {
            Some(what) => {
                Err(Forbidden(format!("{address} is {what}, which is not asked unless --allow-cidr names it")))
            }
            None => Ok(()),
        }
    }
}

/// What an address is that no token endpoint has.
fn kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<&'static str> {
    /// Metadata services outside of what is link-local: Azure, Alibaba Cloud, Oracle Cloud.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    match address.octets() {
        _ if METADATA.contains(&address) => Some("a metadata service"),
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local, where metadata services are"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        // AWS with all its services of this kind, Google Cloud.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => Some("a metadata service"),
        // RFC 8215: where in it the other address stands is a matter of the network.
        [0x64, 0xff9b, 1, ..] => Some("a translated address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfe80..=0xfebf, ..] => Some("link-local, where metadata services are"),
        [0xfec0..=0xfeff, ..] => Some("site-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        _ => None,
    }
}

/// The IPv4 address to which an IPv6 address leads: mapped, compatible (RFC 4291, 2.5.5), by NAT64 (RFC 6052, RFC 8215), 6to4
/// (RFC 3056) or Teredo (RFC 4380).
fn inner(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0 | 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

/// Resolves names, and lets out only the addresses that may be asked: what is judged is what is connected to, so a name that
/// changes between two looks gains nothing.
#[derive(Clone, Debug)]
pub struct Resolver(pub Arc<Reach>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let mut forbidden = None;
            let admitted: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| match reach.judge_address(address.ip()) {
                    Ok(()) => true,
                    Err(why) => {
                        forbidden = Some(why);
                        false
                    }
                })
                .collect();
            match forbidden {
                Some(why) if admitted.is_empty() => Err(why.into()),
                _ => Ok(Box::new(admitted.into_iter()) as Addrs),
            }
        })
    }
}
