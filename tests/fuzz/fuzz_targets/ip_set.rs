//! Blocks and a question: the same answer as asking each block.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use headwater::client_ip::IpSet;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut entries = input.chunks(18).filter_map(entry);
    let Some((asked, _)) = entries.next() else {
        return;
    };
    let networks: Vec<IpNet> = entries
        .map(|(ip, prefix)| match ip {
            IpAddr::V4(ip) => Ipv4Net::new(ip, prefix % 33).unwrap().into(),
            IpAddr::V6(ip) => Ipv6Net::new(ip, prefix % 129).unwrap().into(),
        })
        .collect();
    let set = IpSet::from_networks(networks.iter().copied());

    let edges = networks
        .iter()
        .flat_map(|network| [network.network(), network.broadcast()]);
    for ip in edges.chain([asked]) {
        let expected = networks
            .iter()
            .any(|network| holds(*network, ip.to_canonical()));
        assert_eq!(set.contains(ip), expected, "{ip} in {networks:?}");
    }
    assert_eq!(set.is_empty(), networks.is_empty());
});

/// A family, an address of up to 16 bytes and a prefix length.
fn entry(bytes: &[u8]) -> Option<(IpAddr, u8)> {
    let (family, rest) = bytes.split_first()?;
    let (address, prefix) = rest.split_first_chunk::<16>()?;
    let ip = match family % 3 {
        0 => Ipv4Addr::from(*address.first_chunk::<4>()?).into(),
        1 => Ipv6Addr::from(*address).into(),
        _ => Ipv4Addr::from(*address.first_chunk::<4>()?)
            .to_ipv6_mapped()
            .into(),
    };
    Some((ip, *prefix.first()?))
}

/// `ip` is canonical. A block inside `::ffff:0:0/96` is an IPv4 block, every other IPv6 block holds no IPv4.
fn holds(network: IpNet, ip: IpAddr) -> bool {
    let mapped: Ipv6Net = "::ffff:0:0/96".parse().unwrap();
    match (network, ip) {
        (IpNet::V6(block), IpAddr::V4(ip)) => {
            mapped.contains(&block) && block.contains(&ip.to_ipv6_mapped())
        }
        _ => network.contains(&ip),
    }
}
