//! `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and single-address fields: reading and writing.
//!
//! No RFC defines these fields; the rules are RFC 9110's for lists (§5.3, §5.6.1): all lines are one list, white space around
//! elements means nothing, empty elements are skipped. Addresses are read strictly: whatever two readers could understand
//! differently is malformed.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use http::HeaderName;

use super::Addr;
use crate::fields::{Values, is_in_name};

/// One party named by a forwarding field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// An address, with the port when one was stated.
    Addr(Addr, Option<u16>),
    /// The word `unknown`, or a `Forwarded` element that names nobody.
    Unknown,
    /// An obfuscated identifier (RFC 7239 §6.3), its leading `_` included.
    Obfuscated(&'a [u8]),
    /// Anything else.
    Malformed(&'a [u8]),
}

/// Reads one element of `X-Forwarded-For`, or the value of a single-address field.
pub fn node(text: &[u8]) -> Node<'_> {
    match address(text) {
        Some((addr, port)) => Node::Addr(addr, port),
        None if text.eq_ignore_ascii_case(b"unknown") => Node::Unknown,
        None => Node::Malformed(text),
    }
}

/// `v4`, `v4:port`, `v6`, `[v6]` or `[v6]:port`.
fn address(text: &[u8]) -> Option<(Addr, Option<u16>)> {
    if text.len() > LONGEST_ADDRESS {
        return None;
    }
    let mut pieces = text.splitn(3, |byte| *byte == b':');
    let text = str::from_utf8(text).ok()?;
    match (pieces.next(), pieces.next(), pieces.next()) {
        (_, None, _) => Some((v4(text)?, None)),
        (Some(ip), Some(port), None) => {
            Some((v4(str::from_utf8(ip).ok()?)?, Some(port_number(port)?)))
        }
        _ if text.starts_with('[') => bracketed(text),
        _ => Some((Addr::new(text.parse::<Ipv6Addr>().ok()?.into())?, None)),
    }
}

fn v4(text: &str) -> Option<Addr> {
    Addr::new(text.parse::<Ipv4Addr>().ok()?.into())
}

/// `[v6]` or `[v6]:port`.
pub(super) fn bracketed(text: &str) -> Option<(Addr, Option<u16>)> {
    let (ip, rest) = text.strip_prefix('[')?.split_once(']')?;
    let addr = Addr::new(ip.parse::<Ipv6Addr>().ok()?.into())?;
    if rest.is_empty() {
        return Some((addr, None));
    }
    Some((addr, Some(port_number(rest.strip_prefix(':')?.as_bytes())?)))
}

/// A port from 1 to 65535, in one to five digits.
pub(super) fn port_number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let number = digits.iter().try_fold(0u32, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u32::from(byte - b'0'))
    })?;
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// The scheme stated by an `X-Forwarded-Proto` element, in lower case.
pub(super) fn scheme(text: &[u8]) -> Option<&'static str> {
    ["http", "https", "ws", "wss"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether this is a host name, an IPv4 address or `[v6]`, each with or without a port.
pub(super) fn is_host(text: &[u8]) -> bool {
    if text.starts_with(b"[") {
        return str::from_utf8(text).is_ok_and(|text| bracketed(text).is_some());
    }
    let mut parts = text.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let is_name = !name.is_empty() && name.len() <= 253 && name.iter().copied().all(is_in_name);
    is_name && parts.next().is_none_or(|port| port_number(port).is_some())
}

/// The elements of a list field from right to left, over all its lines, without empty ones and surrounding white space.
///
/// Reads no further than asked, and no more than its limits allow.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    lines: Values<'a, 'a>,
    limits: Limits,
    line: &'a [u8],
    lines_begun: usize,
    /// Where the element at hand begins in `line`.
    start: usize,
    /// How much of `line` is still unread.
    unread: Option<usize>,
}

impl<'a> Elements<'a> {
    pub(super) fn new(lines: Values<'a, 'a>, limits: Limits) -> Self {
        Self {
            lines,
            limits,
            line: &[],
            lines_begun: 0,
            start: 0,
            unread: None,
        }
    }

    pub(super) fn step(&mut self) -> Step<&'a [u8]> {
        loop {
            let piece = match self.piece() {
                Step::Element(piece) => trim(piece),
                stop => return stop,
            };
            if !piece.is_empty() {
                return Step::Element(piece);
            }
            let Some(left) = self.limits.empty.checked_sub(1) else {
                return Step::OverLimit;
            };
            self.limits.empty = left;
        }
    }

    /// Where the element given last begins.
    pub(super) fn place(&self) -> Place<'a> {
        Place {
            tail: self.line.get(self.start..).unwrap_or_default(),
            lines_after: self.lines_begun.saturating_sub(1),
        }
    }

    /// The text between two commas, or a comma and an end of the line.
    fn piece(&mut self) -> Step<&'a [u8]> {
        let end = if let Some(end) = self.unread {
            end
        } else {
            let Some(line) = self.lines.next_back() else {
                return Step::End;
            };
            self.line = line;
            self.lines_begun += 1;
            self.line.len()
        };
        let floor = end.saturating_sub(self.limits.bytes);
        let window = self.line.get(floor..end).unwrap_or_default();
        self.start = match window.iter().rposition(|byte| *byte == b',') {
            Some(comma) => floor + comma + 1,
            None if floor > 0 => return Step::OverLimit,
            None => 0,
        };
        self.unread = self.start.checked_sub(1);
        // An end of a line costs as much as a comma: splitting a field into lines changes nothing.
        self.limits.bytes = self.limits.bytes.saturating_sub(end - self.start + 1);
        Step::Element(self.line.get(self.start..end).unwrap_or_default())
    }
}

/// What [`Elements`] may still read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) empty: usize,
}

impl Limits {
    /// For a field that the size of the request head bounds well enough.
    pub(super) const HEAD: Self = Self {
        bytes: usize::MAX,
        empty: usize::MAX,
    };
}

/// What comes next in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<T> {
    Element(T),
    End,
    OverLimit,
}

/// Where an element begins: what stands there and behind it can be read again, from left to right.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place<'a> {
    tail: &'a [u8],
    lines_after: usize,
}

impl<'a> Place<'a> {
    /// The elements from this place on, left to right.
    pub(super) fn elements(
        self,
        lines: Values<'a, 'a>,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let lines_before = lines.clone().count().saturating_sub(self.lines_after);
        let following = lines.skip(lines_before);
        elements(std::iter::once(self.tail).chain(following))
    }
}

/// All elements of these lines, left to right.
pub(super) fn elements<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Without white space around it (RFC 9110 §5.6.3: space and tab).
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Writes an address as it is canonically spelled (RFC 5952 for IPv6), without brackets.
pub(super) fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [first, rest @ ..] = ip.octets();
            write_decimal(out, first.into());
            for octet in rest {
                out.push(b'.');
                write_decimal(out, octet.into());
            }
        }
        // A `Vec` takes every byte: this can't fail.
        IpAddr::V6(ip) => write!(out, "{ip}").unwrap_or_default(),
    }
}

/// Writes a number in decimal.
pub(super) fn write_decimal(out: &mut Vec<u8>, number: u16) {
    // What is left of a remainder by ten fits a digit.
    let digit = |divisor: u16| b'0' + (number / divisor % 10) as u8;
    // Divisors are constants, as a real division takes longer than all the rest.
    match number {
        0..=9 => out.push(digit(1)),
        10..=99 => out.extend_from_slice(&[digit(10), digit(1)]),
        100..=999 => out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        1000..=9999 => {
            out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]);
        }
        10_000.. => {
            out.extend_from_slice(&[digit(10_000), digit(1000), digit(100), digit(10), digit(1)]);
        }
    }
}

/// `[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535`
const LONGEST_ADDRESS: usize = 53;

pub(super) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests;
