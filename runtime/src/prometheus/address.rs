//! Addresses that a server named by a tenant may not have.
//!
//! This machine's own ports, its link and the metadata services of clouds answer whoever is on the
//! machine: a tenant's server must not lead there. Names are checked where they become addresses,
//! so that a name whose address changes between check and connection is no way around.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Metadata services outside the link-local ranges: Alibaba Cloud, Azure's host, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The first 32 bits of the metadata service of AWS, `fd00:ec2::254`.
const METADATA_V6: [u16; 2] = [0xfd00, 0x0ec2];
/// The first 96 bits of IPv4 addresses behind NAT64 (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Whether `address` belongs to this machine, its link, or a metadata service.
pub(super) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => is_local_v6(address),
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
        || METADATA_V4.contains(&address)
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [.., high, low] = segments;
    let last = Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    // Among these are `::1`, which is no mapped address, and `::`.
    let embeds = segments[..6] == NAT64 || segments[..5] == [0; 5];
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || segments[..2] == METADATA_V6
        || embeds && is_local_v4(last)
}

/// Resolves names as the system does, and refuses those that lead to a local address.
#[derive(Debug)]
pub(super) struct RemoteOnly;

impl Resolve for RemoteOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            if addresses.iter().any(|address| is_local(address.ip())) {
                return Err(io::Error::other("its name leads to a local address").into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1")]
    #[case("127.9.8.7")]
    #[case("0.0.0.0")]
    #[case("0.1.2.3")]
    #[case("169.254.169.254")]
    #[case("100.100.100.200")]
    #[case("168.63.129.16")]
    #[case("224.0.0.1")]
    #[case("255.255.255.255")]
    #[case("::1")]
    #[case("::")]
    #[case("fe80::1")]
    #[case("ff02::1")]
    #[case("fd00:ec2::254")]
    #[case("::ffff:127.0.0.1")]
    #[case("::ffff:169.254.169.254")]
    #[case("::127.0.0.1")]
    #[case("64:ff9b::a9fe:a9fe")]
    fn local_addresses_are_known(#[case] address: IpAddr) {
        assert!(is_local(address));
    }

    #[rstest]
    #[case("10.0.0.1")]
    #[case("172.16.0.1")]
    #[case("192.168.1.1")]
    #[case("100.64.0.1")]
    #[case("8.8.8.8")]
    #[case("fd00::1")]
    #[case("2001:db8::1")]
    #[case("::ffff:10.0.0.1")]
    #[case("64:ff9b::0a00:1")]
    fn addresses_of_clusters_are_not_local(#[case] address: IpAddr) {
        assert!(!is_local(address));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused() {
        let name: Name = "localhost".parse().unwrap();
        assert!(RemoteOnly.resolve(name).await.is_err());
    }
}
