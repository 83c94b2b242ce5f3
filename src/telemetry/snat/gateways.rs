//! The gateways of this machine's networks, or of this container's: where others translate addresses.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More isn't read: whoever has so many routes is no container behind a gateway.
const MAX_BYTES: u64 = 64 * 1024;

/// Whether this is the address of a gateway. Reads the kernel's routes; where there are none to read, nothing is.
pub fn is_gateway(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => v4(&read("/proc/net/route")).any(|gateway| gateway == ip),
        IpAddr::V6(ip) => v6(&read("/proc/net/ipv6_route")).any(|gateway| gateway == ip),
    }
}

fn read(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is as good as what a limit leaves.
        let _ = file.take(MAX_BYTES).read_to_string(&mut text);
    }
    text
}

/// `Iface Destination Gateway …`, numbers in hexadecimal and the machine's byte order.
fn v4(routes: &str) -> impl Iterator<Item = Ipv4Addr> {
    let rows = routes.lines().skip(1);
    let gateways = rows.filter_map(|row| {
        let field = row.split_ascii_whitespace().nth(2)?;
        let bits = u32::from_str_radix(field, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    });
    gateways.filter(|gateway| !gateway.is_unspecified())
}

/// Destination, source and next hop, each with 32 digits, the first two with a prefix length behind them.
fn v6(routes: &str) -> impl Iterator<Item = Ipv6Addr> {
    let gateways = routes.lines().filter_map(|row| {
        let field = row.split_ascii_whitespace().nth(4)?;
        u128::from_str_radix(field, 16)
            .ok()
            .map(Ipv6Addr::from_bits)
    });
    gateways.filter(|gateway| !gateway.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_read_from_routes() {
        let gateway = u32::from_ne_bytes([172, 17, 0, 1]);
        let routes = format!(
            "Iface\tDestination\tGateway \tFlags\n\
             eth0\t00000000\t{gateway:08X}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
             eth0\tbroken\n"
        );
        let found: Vec<_> = v4(&routes).collect();
        assert_eq!(found, [Ipv4Addr::new(172, 17, 0, 1)]);
        assert_eq!(v4("").count(), 0);
    }

    #[test]
    fn gateways_are_read_from_ipv6_routes() {
        let zeros = "0".repeat(32);
        let routes = format!(
            "{zeros} 00 {zeros} 00 fd000042000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             fd000042000000000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001     eth0\n"
        );
        let found: Vec<_> = v6(&routes).collect();
        assert_eq!(found, ["fd00:42::1".parse::<Ipv6Addr>().unwrap()]);
    }
}
