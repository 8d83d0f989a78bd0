//! The egress policy. The input: a URL, a host pattern, and a pin, on one line each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use oauth_operator::oauth::allowed_endpoints::AllowedEndpoints;
use oauth_operator::oauth::http::authorization::{Destination, Restrictions};
use oauth_operator::oauth::http::egress::{EgressPolicy, HostPattern};
use url::{Host, Url};

/// Checks a URL.
pub fn egress_policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let Some(Ok(url)) = lines.next().map(Url::parse) else { return };
    let is_admitted = EgressPolicy::default().check_url(&url).is_ok();
    if is_admitted {
        assert_eq!(url.scheme(), "https");
        match url.host().expect("an allowed URL has a host") {
            Host::Ipv4(address) => check_address(address.into()),
            Host::Ipv6(address) => check_address(address.into()),
            Host::Domain(name) => check_name(name),
        }
    }
    let Some(Ok(pattern)) = lines.next().map(str::parse::<HostPattern>) else { return };
    let egress = EgressPolicy { hosts: vec![pattern], ..EgressPolicy::default() };
    if egress.check_url(&url).is_ok() {
        assert!(is_admitted, "a URL is allowed with a pattern and not without");
        check_pattern(&text.lines().nth(1).unwrap_or_default().to_lowercase(), &url);
    }
    let Some(Ok(pin)) = lines.next().map(|text| AllowedEndpoints::parse("it", None, text, false)) else { return };
    if pin.admits(&url) {
        check_pinned(&pin, &url);
    }
    check_decision(&url, pin, is_admitted);
}

/// The decision about a request is never more permissive than one of its parts, whatever the combination.
fn check_decision(url: &Url, pin: AllowedEndpoints, is_admitted: bool) {
    let proxy = Url::parse("http://proxy.example.com/").expect("a URL");
    let is_pinned = pin.admits(url);
    let (pins, unpinned, headers) = ([pin], ["Secret other".to_owned()], BTreeMap::new());
    let pins_query = pins[0].pins_query(url);
    for bits in 0..64_u8 {
        let [has_proxy, has_custom_ca, has_unpinned, require_pin, extends_query, is_foreign_token] =
            [1, 2, 4, 8, 16, 32].map(|bit| bits & bit != 0);
        let policy = EgressPolicy { require_pin, ..EgressPolicy::default() };
        let to = Destination {
            url,
            proxy: has_proxy.then_some(&proxy),
            headers: &headers,
            secret_headers: &headers,
            has_custom_ca,
            extends_query,
        };
        let not_forwarded = is_foreign_token.then_some("Secret other");
        let unpinned = if has_unpinned { &unpinned[..] } else { &[] };
        let decision = policy.authorize(&to, &Restrictions { pins: &pins, unpinned, not_forwarded, ca_owner: None });
        let is_denied = has_custom_ca || is_foreign_token || has_unpinned && require_pin;
        let expected = is_admitted && is_pinned && !is_denied && !(extends_query && pins_query);
        assert_eq!(decision.is_ok(), expected, "{url}: {decision:?} by {bits:06b}");
    }
}

/// Checks an allowed address against the classification of the standard library.
fn check_address(address: IpAddr) {
    let is_forbidden = match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => is_forbidden_v6(address),
    };
    assert!(!is_forbidden, "{address} is allowed");
}

/// An allowed host is the host of the pattern, or a subdomain of its domain. Patterns with non-ASCII letters are
/// skipped, because the URL contains them in another encoding.
fn check_pattern(pattern: &str, url: &Url) {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let pattern = pattern.trim_end_matches('.');
    if pattern.is_ascii() && url.domain().is_some() {
        let fits = match pattern.strip_prefix("*.") {
            Some(domain) => host.len() > domain.len() + 1 && host.ends_with(&format!(".{domain}")),
            None => host == pattern,
        };
        assert!(fits || pattern.contains(['%', '\t']), "{pattern} matches {host}");
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
        || address.octets()[0] >= 240
}

/// Only addresses that can belong to a host are allowed: global unicast (RFC 4291, section 2.4), unique local (RFC
/// 4193), and the two that represent an IPv4 address: mapped, and NAT64 with the well-known prefix (RFC 6052, section
/// 2.1: all 96 bits of it).
fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    /// Oracle Cloud, Scaleway, Alibaba Cloud, Akamai.
    const METADATA: [&str; 4] = ["fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:100::100:200", "fd00:a9fe:a9fe::1"];
    let bits = address.to_bits();
    let is_usable = bits >> 125 == 1 || bits >> 121 == 0xfc >> 1 || matches!(bits >> 32, 0xffff | NAT64);
    !is_usable
        || matches!(bits >> 96, 0xfd00_0ec2 | 0xfd20_00ce)
        || METADATA.iter().any(|known| known.parse() == Ok(address))
        || leads_to(address).into_iter().any(is_forbidden_v4)
}

/// The 96 bits of 64:ff9b::/96.
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;

/// The IPv4 addresses embedded in an IPv6 address: mapped, NAT64, 6to4, Teredo, ISATAP.
fn leads_to(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = address.to_bits();
    let v4 = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).expect("32 bits"));
    let last = matches!(bits >> 32, 0xffff | NAT64);
    let six_to_four = bits >> 112 == 0x2002;
    let teredo = bits >> 96 == 0x2001_0000;
    let isatap = matches!((bits >> 32) & 0xffff_ffff, 0x5efe | 0x0200_5efe);
    let found = [(last || isatap).then(|| v4(bits)), six_to_four.then(|| v4(bits >> 80)), teredo.then(|| v4(!bits))];
    found.into_iter().flatten().collect()
}

/// A name must not be an address in a notation that the system's resolver parses without a query: decimal, octal or
/// hexadecimal numbers separated by dots.
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

/// A server that decodes a path twice, treats `\` as `/`, ends a segment at `;`, NUL, `?` or `#`, drops spaces and
/// resolves dots still reads the pinned path; and the query is the pinned one.
fn check_pinned(pin: &AllowedEndpoints, url: &Url) {
    let is_below = pin.endpoints.iter().any(|pinned| {
        let (path, root) = (walked(url.path()), walked(pinned.path().trim_end_matches('/')));
        let query = pinned.query().is_none_or(|query| url.query() == Some(query));
        pinned.origin() == url.origin() && query && path.starts_with(&root)
    });
    assert!(is_below, "{url} is not below any of {}", pin.list());
}

/// The segments of a path, as such a server resolves them.
fn walked(path: &str) -> Vec<String> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let twice = decode(&decode(path)).replace('\\', "/");
    let mut parts = Vec::new();
    for part in twice.split('/') {
        let part = part.split([';', '\0', '?', '#']).next().unwrap_or_default();
        match part.trim() {
            "" | "." => {}
            part if part.starts_with("..") => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    parts
}
