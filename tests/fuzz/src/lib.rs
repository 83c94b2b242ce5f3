//! What the fuzz targets share: naive second opinions, written from the specification alone.

pub mod chunked;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address that can be a party's: canonical, not unspecified, multicast or broadcast.
pub fn usable(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST;
    (!nobody).then_some(ip)
}

/// Reads one element of `X-Forwarded-For` with the standard library's parsers.
pub fn x_forwarded_element(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    if text.contains('%') {
        return None;
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((usable(ip)?, None));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        let digits = text.len() - text.rfind(':')? - 1;
        let port = (1..=5)
            .contains(&digits)
            .then_some(addr.port())
            .filter(|port| *port != 0)?;
        return Some((usable(addr.ip())?, Some(port)));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some((usable(IpAddr::V6(inner.parse().ok()?))?, None))
}

/// Splits `input` at positions taken from `choices`, which are used up one for each piece.
pub fn pieces<'a>(mut input: &'a [u8], choices: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for choice in choices {
        let (piece, rest) = input.split_at(usize::from(*choice).min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces.push(input);
    pieces
}
