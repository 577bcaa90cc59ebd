//! Which hosts a URL may name that came over the network.
//!
//! Whoever writes such a URL could make this client call machines that only it can reach: itself,
//! its network, the metadata service of its cloud ([RFC 9728 §7.7]).
//!
//! [RFC 9728 §7.7]: https://www.rfc-editor.org/rfc/rfc9728#section-7.7

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Checks a host as it stands in a URL. What a name resolves to is for the resolver to check.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn screen_host(host: &str) -> Result<(), &'static str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match literal.parse::<Ipv6Addr>() {
            Ok(address) if is_public(address.into()) => Ok(()),
            Ok(_) => Err(NOT_PUBLIC),
            Err(_) => Err("its host is not an address"),
        };
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return if is_public(address.into()) { Ok(()) } else { Err(NOT_PUBLIC) };
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    // Clients read 2130706433, 0x7f.1 and 0177.0.0.1 as IPv4 addresses, each in its own way.
    if last.bytes().all(|b| b.is_ascii_digit()) || last.get(..2).is_some_and(is_hex_mark) {
        return Err("its host is a number, not a name or a plain address");
    }
    // RFC 6761 §6.3: all names below it are this machine too.
    if last.eq_ignore_ascii_case("localhost") {
        return Err(NOT_PUBLIC);
    }
    Ok(())
}

fn is_hex_mark(start: &str) -> bool {
    start.eq_ignore_ascii_case("0x")
}

/// Whether an address belongs to the public Internet: not to this machine, its network, a group, or
/// the provider of the machine. An IPv4 address within an IPv6 one counts as itself.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // RFC 6598: a provider's own network
        || ([a, b, c] == [192, 0, 0]) // RFC 6890
        || ([a, b, c] == [192, 88, 99]) // RFC 7526: relays of 6to4, withdrawn
        || (a == 198 && (18..20).contains(&b)) // RFC 2544: benchmarks
        || a >= 224 // groups, reserved, broadcast
        || address == AZURE_PLATFORM)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        // IPv4-mapped, -compatible and -translated, with unspecified and loopback among them; RFC
        // 6052: NAT64; RFC 3056: 6to4.
        [0, 0, 0, 0, _, 0 | 0xFFFF, high, low]
        | [0x64, 0xFF9B, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // RFC 4380: Teredo; its IPv4 addresses are in it in disguise. RFC 3849 and RFC 9637:
        // documentation. RFC 5180: benchmarks. RFC 4843 and RFC 7343: ORCHID, which are names and no
        // places.
        [0x2001, 0 | 0xDB8 | 0x10..=0x2F, ..] | [0x2001, 2, 0, ..] | [0x3FFF, 0..=0x0FFF, ..] => {
            false
        }
        // RFC 4291 §2.4: global unicast. All else is local, a group, or not in use.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// The host of virtual machines in Azure, which gives out their secrets. It looks like any other.
const AZURE_PLATFORM: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
const NOT_PUBLIC: &str = "its host is this machine or one in a network of its own";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dsc_08_only_public_addresses_pass() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:2:0:ffff::1",
            "2001:10::1",
            "2001:1f:ffff::1",
            "2001:20::1",
            "2001:2f:ffff::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "223.255.255.254",
            "192.88.98.1",
            "2606:4700:4700::1111",
            "2001:2:1::1",
            "2001:3::1",
            "2001:30::1",
            "3fff:1000::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn dsc_08_addresses_are_found_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.01",
            "0x7f000001",
            "0x7f.0.0.1",
            "127.0.0.0x1",
            "0X7F.1",
            "10.0.0.256",
            "1.2.3.4.5",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "localhost",
            "LocalHost.",
            "a.localhost",
            "",
            ".",
        ] {
            assert!(screen_host(host).is_err(), "{host}");
        }
        for host in ["idp.example", "idp.example.", "1.1.1.1", "[2606:4700:4700::1111]", "a0x1.0x"]
        {
            let numeric = host == "a0x1.0x";
            assert_eq!(screen_host(host).is_ok(), !numeric, "{host}");
        }
        assert!(screen_host("3com.example").is_ok() && screen_host("localhost.example").is_ok());
    }

    proptest! {
        /// What a URL parser makes of a host is what reqwest connects to.
        #[cfg(feature = "reqwest")]
        #[test]
        fn dsc_08_no_host_that_passes_is_a_private_address_to_a_url_parser(
            host in "(0x|0X|0)?[0-9a-fA-F]{1,11}(\\.(0x|0)?[0-9]{1,4}){0,4}\\.?",
        ) {
            if screen_host(&host).is_ok()
                && let Ok(url) = reqwest::Url::parse(&format!("https://{host}/"))
            {
                let parsed = url.host_str().and_then(|host| host.parse::<Ipv4Addr>().ok());
                prop_assert!(parsed.is_none_or(is_public_v4), "{host} is {parsed:?}");
            }
        }

        #[test]
        fn dsc_08_no_host_makes_the_screen_panic(host in "\\PC{0,20}") {
            let _ = screen_host(&host);
        }
    }
}
