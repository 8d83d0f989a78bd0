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
    assert!(is_admitted || reach.judge(&url).is_err(), "a pattern admits more than there is without one");
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

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
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
        || address.to_ipv4().is_some_and(is_forbidden_v4)
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
