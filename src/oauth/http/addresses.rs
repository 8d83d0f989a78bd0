//! Special-purpose addresses: those that no token endpoint uses, and those of private networks. Pure.
//!
//! The tables contain the relevant entries of IANA's registries of special-purpose addresses (RFC 6890), and the
//! documented addresses of instance metadata services. Services at link-local addresses need no entry of their own,
//! because all of 169.254.0.0/16 and fe80::/10 is denied.

#![deny(clippy::disallowed_methods)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// The kind of a special-purpose address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// No token endpoint uses it. The text completes "… is".
    Refused(&'static str),
    /// It belongs to a private network (RFC 1918, RFC 6598, RFC 4193), which may contain an identity provider.
    Private,
}

const METADATA: Special = Special::Refused("a metadata service");
const UNSPECIFIED: Special = Special::Refused("unspecified");
const LOOPBACK: Special = Special::Refused("loopback");
const LINK_LOCAL: Special = Special::Refused("link-local, where metadata services are");
const MULTICAST: Special = Special::Refused("multicast");
const RESERVED: Special = Special::Refused("reserved");

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), length)
}

/// IPv4 networks with their kind and a reference. The first match applies.
const SPECIAL_V4: [(Ipv4Net, Special, &str); 15] = [
    (v4([168, 63, 129, 16], 32), METADATA, "Azure, WireServer: learn.microsoft.com, what-is-ip-address-168-63-129-16"),
    (v4([100, 100, 100, 200], 32), METADATA, "Alibaba Cloud: alibabacloud.com/help/en/ecs, view-instance-metadata"),
    (
        v4([192, 0, 0, 192], 32),
        METADATA,
        "Oracle Cloud Infrastructure Classic: docs.oracle.com, retrieving instance metadata",
    ),
    (v4([0, 0, 0, 0], 8), UNSPECIFIED, "RFC 1122, section 3.2.1.3: this host on this network"),
    (v4([127, 0, 0, 0], 8), LOOPBACK, "RFC 1122, section 3.2.1.3"),
    // 169.254.169.254: AWS, Google Cloud, Azure, Oracle Cloud, IBM Cloud, OpenStack (OVHcloud, Huawei Cloud,
    // T-Systems), DigitalOcean, Hetzner, Exoscale, Akamai (Linode), Vultr, UpCloud, Yandex Cloud. 169.254.42.42:
    // Scaleway. 169.254.0.23: Tencent Cloud. 169.254.170.2 and .23: containers at AWS. 169.254.169.252: Google
    // Kubernetes Engine.
    (v4([169, 254, 0, 0], 16), LINK_LOCAL, "RFC 3927"),
    (v4([192, 0, 0, 0], 24), RESERVED, "RFC 6890, section 2.1: protocol assignments"),
    (v4([224, 0, 0, 0], 4), MULTICAST, "RFC 5771"),
    (v4([240, 0, 0, 0], 4), RESERVED, "RFC 1112, section 4; 255.255.255.255: RFC 919"),
    (v4([10, 0, 0, 0], 8), Special::Private, "RFC 1918"),
    (v4([172, 16, 0, 0], 12), Special::Private, "RFC 1918"),
    (v4([192, 168, 0, 0], 16), Special::Private, "RFC 1918"),
    (v4([100, 64, 0, 0], 10), Special::Private, "RFC 6598: shared address space"),
    (v4([198, 18, 0, 0], 15), Special::Private, "RFC 2544: benchmarks, and used inside of networks"),
    (v4([192, 88, 99, 0], 24), RESERVED, "RFC 7526: the relays of 6to4, deprecated"),
];

/// The same for IPv6. All other addresses are denied unless they are global unicast (2000::/3) or embed an IPv4
/// address.
const SPECIAL_V6: [(Ipv6Net, Special, &str); 14] = [
    (
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32),
        METADATA,
        "AWS, ::254 and others: docs.aws.amazon.com, instancedata-data-retrieval; EKS Pod Identity ::23",
    ),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32), METADATA, "Google Cloud, ::254: cloud.google.com, querying-metadata"),
    (
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
        METADATA,
        "Oracle Cloud: docs.oracle.com, gettingmetadata; the OCI SDKs",
    ),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), METADATA, "Scaleway: docs.cloud-init.io, datasource Scaleway"),
    (
        v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0], 64),
        METADATA,
        "Akamai (Linode), ::1: docs.cloud-init.io, datasource Akamai",
    ),
    (
        v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
        METADATA,
        "Alibaba Cloud: alibabacloud.com/help/en/ecs, view-instance-metadata",
    ),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), UNSPECIFIED, "RFC 4291, section 2.5.2"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), LOOPBACK, "RFC 4291, section 2.5.3"),
    // fe80::a9fe:a9fe: OpenStack.
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), LINK_LOCAL, "RFC 4291, section 2.5.6"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Special::Refused("site-local"), "RFC 3879: deprecated"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), MULTICAST, "RFC 4291, section 2.7"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Special::Private, "RFC 4193: unique local"),
    // The position of the IPv4 address depends on the network, see `embedded`.
    (LOCAL_NAT64, Special::Refused("a translated address of the local network"), "RFC 8215"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), RESERVED, "RFC 9602: segment routing"),
];

/// NAT64 with the well-known prefix: the IPv4 address is the last 32 bits, and the 64 bits before them are zero (RFC
/// 6052, section 2.1). Addresses with other bits there are reserved.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// NAT64 with prefixes of 48, 56, 64 or 96 bits, which each network chooses within this one (RFC 8215, section 5).
const LOCAL_NAT64: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);

/// The kind of an address, if it is special. An IPv6 address that embeds an IPv4 address also has the kind of the
/// embedded address.
pub(crate) fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    SPECIAL_V4.iter().find(|(network, ..)| network.contains(&address)).map(|(_, special, _)| *special)
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    let own = SPECIAL_V6.iter().find(|(network, ..)| network.contains(&address)).map(|(_, special, _)| *special);
    // The last bits are the IPv4 address that nearly all metadata services use, as in Oracle Cloud and OpenStack.
    let is_metadata = own == Some(Special::Private) && address.segments()[6..] == [0xa9fe, 0xa9fe];
    let is_usable = own.is_some() || [GLOBAL_UNICAST, NAT64, MAPPED].iter().any(|network| network.contains(&address));
    let whole =
        [is_metadata.then_some(METADATA), own, (!is_usable).then_some(Special::Refused("no global unicast address"))];
    let all = whole.into_iter().flatten().chain(embedded(address).filter_map(special_v4));
    // Refused takes precedence over private.
    all.reduce(|first, other| if first == Special::Private { other } else { first })
}

/// The IPv4 addresses that an IPv6 address may embed: mapped and compatible (RFC 4291, section 2.5.5), translated
/// (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056), ISATAP (RFC 5214), Teredo (RFC 4380). There are several if the
/// position depends on the network (RFC 8215), or if both the prefix and the interface identifier contain an address.
pub(crate) fn embedded(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    // The 32 bits that are followed by `end` bits.
    #[expect(clippy::cast_possible_truncation, reason = "keeps the lower 32 bits")]
    let at = |end: u32| Ipv4Addr::from_bits((bits >> end) as u32);
    let octets = address.octets();
    let from = |positions: [usize; 4]| Some(Ipv4Addr::from_octets(positions.map(|position| octets[position])));
    let embedded = match address.segments() {
        // For prefixes of 48, 56, 64 and 96 bits; bits 64 to 71 are skipped (RFC 6052, section 2.2).
        _ if LOCAL_NAT64.contains(&address) => {
            [from([6, 7, 9, 10]), from([7, 9, 10, 11]), from([9, 10, 11, 12]), Some(at(0))]
        }
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => [Some(at(0)), None, None, None],
        _ if NAT64.contains(&address) => [Some(at(0)), None, None, None],
        [0x2002, ..] => [Some(at(80)), None, None, None],
        [0x2001, 0, ..] => [Some(Ipv4Addr::from_bits(!at(0).to_bits())), None, None, None],
        _ => [None; 4],
    };
    // The interface identifier of ISATAP may follow any prefix, even one that embeds another address.
    let isatap = matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, ..]).then(|| at(0));
    embedded.into_iter().chain([isatap]).flatten()
}

#[cfg(test)]
#[expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn classified(address: &str) -> Option<Special> {
        special(address.parse().expect("an address"))
    }

    #[test]
    fn metadata_services_of_all_clouds_are_denied() {
        let documented = [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.42.42",
            "169.254.0.23",
            "169.254.169.252",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "fe80::a9fe:a9fe",
            // Not documented, but follows the pattern of the others.
            "fd12:3456:789a::a9fe:a9fe",
        ];
        for address in documented {
            let Some(Special::Refused(what)) = classified(address) else { panic!("{address} is not denied") };
            assert!(what.contains("metadata service"), "{address} is {what}");
        }
    }

    #[test]
    fn private_networks_are_recognized_in_both_address_families() {
        for address in
            ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456:789a::1", "fd00:42::1"]
        {
            assert_eq!(classified(address), Some(Special::Private), "{address}");
        }
        for address in ["172.32.0.1", "100.128.0.1", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"] {
            assert_eq!(classified(address), None, "{address}");
        }
        assert_eq!(classified("64:ff9b::a00:1"), Some(Special::Private), "10.0.0.1 through NAT64");
    }

    /// The examples of RFC 6052, section 2.4; RFC 8215 leaves the length of the prefix to the network.
    #[test]
    fn an_embedded_address_is_found_for_each_prefix_length() {
        let inner = |address: &str| embedded(address.parse().expect("an address")).collect::<Vec<_>>();
        let example = Ipv4Addr::new(192, 0, 2, 33);
        assert_eq!(inner("64:ff9b::192.0.2.33"), [example]);
        for local in
            ["64:ff9b:1:c000:2:2100::", "64:ff9b:1:c0:0:221::", "64:ff9b:1:0:c0:2:2100::", "64:ff9b:1::c000:221"]
        {
            assert!(inner(local).contains(&example), "{local}: {:?}", inner(local));
            assert!(matches!(classified(local), Some(Special::Refused(_))), "{local}");
        }
        for none in ["64:ff9b:64:ff9b::7f00:1", "64:ff9b:0:1::7f00:1", "64:ff9b:2::7f00:1", "2001:db8::7f00:1"] {
            assert!(inner(none).is_empty(), "{none} is not a NAT64 address");
        }
    }

    #[test]
    fn addresses_that_no_public_host_uses_are_denied() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "127.8.9.10",
            "192.0.0.170",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::10.0.0.1",
            "::1.1.1.1",
            "::ffff:127.0.0.1",
            "::ffff:0:1.1.1.1",
            "64:ff9b::7f00:1",
            "64:ff9b:64:ff9b::7f00:1",
            "64:ff9b:1::1.1.1.1",
            "100::1",
            "2001::80ff:fffe",
            "2002:7f00:1::",
            "2001:db8::5efe:7f00:1",
            "2001:db8::200:5efe:7f00:1",
            "2002:808:808::5efe:7f00:1",
            "2002:7f00:1::5efe:808:808",
            "2001:0:808:808:0:5efe:7f00:1",
            "4000::1",
            "5f00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in refused {
            assert!(matches!(classified(address), Some(Special::Refused(_))), "{address} is {:?}", classified(address));
        }
    }
}
