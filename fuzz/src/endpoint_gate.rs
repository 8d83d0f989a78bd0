//! Where requests may go. The input: a URL, a host pattern, and a pin, on a line each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use oauth_operator::oauth::pin::Pin;
use oauth_operator::oauth::reach::{HostPattern, Reach};
use url::{Host, Url};

/// Judges a URL.
pub fn endpoint_gate(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let Some(Ok(url)) = lines.next().map(Url::parse) else { return };
    let is_admitted = Reach::default().judge(&url).is_ok();
    if is_admitted {
        assert_eq!(url.scheme(), "https");
        match url.host().expect("what is admitted has a host") {
            Host::Ipv4(address) => check_address(address.into()),
            Host::Ipv6(address) => check_address(address.into()),
            Host::Domain(name) => check_name(name),
        }
    }
    let Some(Ok(pattern)) = lines.next().map(str::parse::<HostPattern>) else { return };
    let reach = Reach { hosts: vec![pattern], ..Reach::default() };
    if reach.judge(&url).is_ok() {
        assert!(is_admitted, "a pattern admits more than there is without one");
        check_pattern(&text.lines().nth(1).unwrap_or_default().to_lowercase(), &url);
    }
    let Some(Ok(pin)) = lines.next().map(|text| Pin::parse("it", None, text, false)) else { return };
    if pin.admits(&url) {
        check_pinned(&pin, &url);
    }
}

/// What the standard library knows of addresses.
fn check_address(address: IpAddr) {
    let is_forbidden = match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => is_forbidden_v6(address),
    };
    assert!(!is_forbidden, "{address} is admitted");
}

/// A host that was admitted is the one of the pattern, or ends with its domain. Of other letters than ASCII the URL has another
/// spelling, which is left alone.
fn check_pattern(pattern: &str, url: &Url) {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let pattern = pattern.trim_end_matches('.');
    if pattern.is_ascii() && url.domain().is_some() {
        let fits = match pattern.strip_prefix("*.") {
            Some(domain) => host.len() > domain.len() + 1 && host.ends_with(&format!(".{domain}")),
            None => host == pattern,
        };
        assert!(fits || pattern.contains(['%', '\t']), "{pattern} admits {host}");
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    /// Azure, Alibaba Cloud, Oracle Cloud.
    const METADATA: [[u8; 4]; 3] = [[168, 63, 129, 16], [100, 100, 100, 200], [192, 0, 0, 192]];
    METADATA.contains(&address.octets())
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
}

fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || matches!(address.to_bits() >> 96, 0xfd00_0ec2 | 0xfd20_00ce)
        || leads_to(address).into_iter().any(is_forbidden_v4)
}

/// The IPv4 addresses inside an IPv6 address, by bits: what is mapped, compatible, translated (RFC 2765), NAT64, 6to4, Teredo.
fn leads_to(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = address.to_bits();
    let v4 = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).expect("32 bits"));
    let last = matches!(bits >> 32, 0 | 0xffff | 0xffff_0000) || matches!(bits >> 96, 0x0064_ff9b);
    let six_to_four = bits >> 112 == 0x2002;
    let teredo = bits >> 96 == 0x2001_0000;
    let found = [last.then(|| v4(bits)), six_to_four.then(|| v4(bits >> 80)), teredo.then(|| v4(!bits))];
    found.into_iter().flatten().collect()
}

/// A name must not be an address in a spelling that the resolver of the system would understand without asking anyone: numbers
/// in decimal, octal or hexadecimal with dots between them.
fn check_name(name: &str) {
    let is_number = |part: &str| {
        let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
        match digits {
            Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
            None => !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()),
        }
    };
    let parts: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    assert!(!(parts.len() <= 4 && parts.iter().all(|part| is_number(part))), "{name} is an address");
}

/// What a server reads that decodes a path twice, takes `\` for `/`, drops parameters after `;` and goes up at `..` is still what
/// was pinned.
fn check_pinned(pin: &Pin, url: &Url) {
    let is_below = pin.endpoints.iter().any(|pinned| {
        let (path, root) = (walked(url.path()), walked(pinned.path().trim_end_matches('/')));
        pinned.origin() == url.origin() && path.starts_with(&root)
    });
    assert!(is_below, "{url} is below none of {}", pin.list());
}

/// The parts of a path, as such a server goes along them.
fn walked(path: &str) -> Vec<String> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let twice = decode(&decode(path)).replace('\\', "/");
    let mut parts = Vec::new();
    for part in twice.split('/') {
        match part.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    parts
}
