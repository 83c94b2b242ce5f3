//! Sets of addresses: [`IpSet`] answers fast, [`PeerSet`] remembers how it was written.
//!
//! IPv4-mapped IPv6 (`::ffff:a.b.c.d`) is IPv4 here, in blocks and in questions alike, so that a dual-stack socket can't
//! carry a peer around a rule. `::/0` therefore holds no IPv4 address. Names are never resolved.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::SocketPeer;
use super::presets::{self, PRESETS};

/// CIDR blocks as merged sorted ranges, IPv4-mapped IPv6 folded to IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl IpSet {
    /// Merges blocks, in any order and overlapping as they like.
    pub fn from_networks(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match fold(network) {
                IpNet::V4(block) => {
                    v4.push((block.network().to_bits(), block.broadcast().to_bits()));
                }
                IpNet::V6(block) => {
                    v6.push((block.network().to_bits(), block.broadcast().to_bits()));
                }
            }
        }
        Self {
            v4: merge(v4, |end| end.checked_add(1)),
            v6: merge(v6, |end| end.checked_add(1)),
        }
    }

    /// Whether `ip` lies in one of the blocks. Binary search; doesn't allocate.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => covers(&self.v4, ip.to_bits(), ip.to_bits()),
            IpAddr::V6(ip) => covers(&self.v6, ip.to_bits(), ip.to_bits()),
        }
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether every address of `other` is in it; all of nothing is in everything.
    pub fn contains_all(&self, other: &Self) -> bool {
        let v4 = other
            .v4
            .iter()
            .all(|(first, last)| covers(&self.v4, *first, *last));
        v4 && other
            .v6
            .iter()
            .all(|(first, last)| covers(&self.v6, *first, *last))
    }

    /// Whether any address is in both.
    pub fn meets(&self, other: &Self) -> bool {
        overlap(&self.v4, &other.v4) || overlap(&self.v6, &other.v6)
    }

    /// What is in either.
    #[must_use]
    fn union(&self, other: &Self) -> Self {
        let (v4, v6) = ([&*self.v4, &*other.v4], [&*self.v6, &*other.v6]);
        Self {
            v4: merge(v4.concat(), |end| end.checked_add(1)),
            v6: merge(v6.concat(), |end| end.checked_add(1)),
        }
    }

    /// Whether every public unicast address of IPv4 or of IPv6 is in it.
    pub fn is_world(&self) -> bool {
        let (first, last) = (Ipv4Addr::new(1, 0, 0, 0), Ipv4Addr::new(223, 255, 255, 255));
        covers(&self.v4, first.to_bits(), last.to_bits())
            || covers(&self.v6, GLOBAL_UNICAST.0, GLOBAL_UNICAST.1)
    }
}

/// A `from` list: addresses, and whether `unix` is in it. Remembers its entries as written, for explain. Copies share
/// their memory: each worker has one of each listener's.
#[derive(Debug, Clone, Default)]
pub struct PeerSet(Arc<List>);

#[derive(Debug, Clone, Default)]
struct List {
    addresses: IpSet,
    unix: bool,
    entries: Vec<Entry>,
}

impl PeerSet {
    /// Reads a list whose entries are each a CIDR block, an address, a preset's name, or `unix`.
    ///
    /// # Errors
    /// The first entry that is none of these, or a block with host bits set.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, ParseError> {
        let mut unix = false;
        let mut parsed = Vec::with_capacity(entries.len());
        let mut networks = Vec::new();
        for (index, text) in entries.iter().map(AsRef::as_ref).enumerate() {
            if text == "unix" {
                unix = true;
                continue;
            }
            let (label, blocks) = parse_entry(text).map_err(|cause| ParseError {
                index,
                text: text.to_owned(),
                cause,
            })?;
            networks.extend_from_slice(&blocks);
            parsed.push(Entry {
                label,
                addresses: IpSet::from_networks(blocks),
            });
        }
        Ok(Self(Arc::new(List {
            addresses: IpSet::from_networks(networks),
            unix,
            entries: parsed,
        })))
    }

    /// Adds the entries of another list behind its own.
    pub fn join(&mut self, other: &Self) {
        let list = Arc::make_mut(&mut self.0);
        list.addresses = list.addresses.union(&other.0.addresses);
        list.unix |= other.0.unix;
        list.entries.extend_from_slice(&other.0.entries);
    }

    /// Whether this socket peer is in the list; a Unix socket is only by the entry `unix`.
    pub fn contains_peer(&self, peer: &SocketPeer) -> bool {
        match peer {
            SocketPeer::Ip(addr, _) => self.0.addresses.contains(addr.ip()),
            SocketPeer::Unix => self.0.unix,
        }
    }

    /// Whether this address is in the list.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.addresses.contains(ip)
    }

    /// Whether the entry `unix` is in the list.
    pub fn contains_unix(&self) -> bool {
        self.0.unix
    }

    /// The first entry that holds `ip`, as written, a preset's as `preset NAME`. For explain: searches every entry.
    pub fn entry_for(&self, ip: IpAddr) -> Option<&str> {
        let holder = self
            .0
            .entries
            .iter()
            .find(|entry| entry.addresses.contains(ip))?;
        Some(&holder.label)
    }

    /// The addresses alone.
    pub fn addresses(&self) -> &IpSet {
        &self.0.addresses
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty() && !self.0.unix
    }

    /// Whether the whole public IPv4 or IPv6 Internet is in it.
    pub fn is_world(&self) -> bool {
        self.0.addresses.is_world()
    }
}

#[derive(Debug, Clone)]
struct Entry {
    label: String,
    addresses: IpSet,
}

/// Why an entry of a `from` list can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {}: `{text}` {cause}", index + 1)]
pub struct ParseError {
    /// Index in the list, from 0.
    pub index: usize,
    /// The entry as written.
    pub text: String,
    /// What is wrong with it.
    pub cause: ParseCause,
}

/// What is wrong with an entry of a `from` list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCause {
    /// Neither a block, an address, a preset nor `unix`.
    #[error(
        "is not a CIDR block, an address, `unix` or a preset ({})",
        preset_names()
    )]
    NotAnEntry,
    /// Bits are set behind the prefix: one address or the whole block may have been meant.
    #[error("has host bits set: write `{0}`, or the address alone")]
    HostBits(IpNet),
}

fn parse_entry(text: &str) -> Result<(String, Vec<IpNet>), ParseCause> {
    if let Some(preset) = presets::preset(text) {
        let blocks = preset.ranges.iter().filter_map(|range| range.parse().ok());
        return Ok((format!("preset {text}"), blocks.collect()));
    }
    Ok((text.to_owned(), vec![block(text)?]))
}

/// Reads a CIDR block, or an address as the block of it alone. IPv4-mapped IPv6 is the IPv4 it stands for.
///
/// # Errors
/// It is neither, or has host bits set.
pub fn block(text: &str) -> Result<IpNet, ParseCause> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let network = network(text).ok_or(ParseCause::NotAnEntry)?;
    if network != network.trunc() {
        return Err(ParseCause::HostBits(network.trunc()));
    }
    Ok(fold(network))
}

/// By the grammar of the standard library: with leading zeroes others read octal numbers.
fn network(text: &str) -> Option<IpNet> {
    let (ip, prefix) = text.split_once('/')?;
    let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || prefix.len() > 1 && prefix.starts_with('0') {
        return None;
    }
    IpNet::new(ip.parse().ok()?, prefix.parse().ok()?).ok()
}

fn preset_names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    names.join(", ")
}

/// A block inside `::ffff:0:0/96` as the IPv4 block it stands for.
fn fold(network: IpNet) -> IpNet {
    let IpNet::V6(block) = network else {
        return network;
    };
    let (Some(ip), Some(prefix)) = (
        block.network().to_ipv4_mapped(),
        block.prefix_len().checked_sub(96),
    ) else {
        return network;
    };
    Ipv4Net::new(ip, prefix).map_or(network, IpNet::V4)
}

/// Sorts ranges and joins those that overlap or touch; `after` is the next address, `None` behind the last.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if after(last.1).is_none_or(|next| start <= next) => {
                last.1 = last.1.max(end);
            }
            _ => merged.push((start, end)),
        }
    }
    merged.into_boxed_slice()
}

/// Whether one range holds everything from `first` to `last`.
fn covers<T: Copy + Ord>(ranges: &[(T, T)], first: T, last: T) -> bool {
    let following = ranges.partition_point(|(start, _)| *start <= first);
    let candidate = following.checked_sub(1).and_then(|index| ranges.get(index));
    candidate.is_some_and(|(_, end)| last <= *end)
}

/// Whether two sorted lists of ranges have anything in common.
fn overlap<T: Copy + Ord>(ranges: &[(T, T)], others: &[(T, T)]) -> bool {
    others.iter().any(|(first, last)| {
        let following = ranges.partition_point(|(start, _)| start <= last);
        let candidate = following.checked_sub(1).and_then(|index| ranges.get(index));
        candidate.is_some_and(|(_, end)| first <= end)
    })
}

/// `2000::/3`, the only part of IPv6 that is public unicast so far (RFC 4291 §2.4, IANA).
const GLOBAL_UNICAST: (u128, u128) = (0x2 << 124, (0x4 << 124) - 1);

#[cfg(test)]
mod tests;
