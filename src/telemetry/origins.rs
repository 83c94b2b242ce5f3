//! Where a worker's requests come from, by network, and how much of that is verified: for operators who look in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::client_ip::{Peer, SocketPeer};

use super::frequent::Frequent;
use super::recent::Source;

/// What requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Of the client.
    pub client: Option<IpAddr>,
    /// Of who connected.
    pub peer: Option<IpAddr>,
    /// Where the client's address was found.
    pub source: Source,
    /// What it is worth.
    pub verdict: Verdict,
}

/// What the address of a client is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Somebody trusted named it.
    Verified,
    /// It is that of who connected.
    Unverified,
    /// It is, too, and it said in vain that it is another.
    Forged,
}

impl Verdict {
    /// Of an address that was found in `source`, while `forged` fields were sent in vain.
    pub fn of(source: &Source, forged: usize) -> Self {
        match (source, forged) {
            (_, 1..) => Self::Forged,
            (Source::Peer, 0) => Self::Unverified,
            (_, 0) => Self::Verified,
        }
    }

    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Forged => "forged",
        }
    }
}

/// How often each was seen.
#[derive(Debug, Default)]
pub(super) struct Origins {
    counts: Frequent<Key>,
    /// Those that were seen so far, of which there are as many as the configuration has fields, and two.
    sources: Vec<Source>,
}

/// An origin in few words: one is looked for at every request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Key {
    client: u64,
    peer: u64,
    /// Which of the sources, and the verdict.
    source_and_verdict: u64,
}

impl Key {
    fn digest(self) -> u64 {
        self.client ^ self.peer.rotate_left(21) ^ self.source_and_verdict.rotate_left(42)
    }
}

const VERDICTS: [Verdict; 3] = [Verdict::Verified, Verdict::Unverified, Verdict::Forged];

impl Origins {
    /// Counts a request, of which `forged` fields were sent in vain.
    pub(super) fn count(
        &mut self,
        client: Option<IpAddr>,
        peer: &Peer,
        source: &Source,
        forged: usize,
    ) {
        let verdict = Verdict::of(source, forged);
        let key = Key {
            client: client.map_or(0, network),
            peer: match peer.socket {
                SocketPeer::Ip(addr, _) => network(addr.ip()),
                SocketPeer::Unix => 0,
            },
            source_and_verdict: (self.number_of(source) as u64) << 8 | verdict as u64,
        };
        self.counts.count(key, key.digest());
    }

    pub(super) fn all(&self) -> Vec<(Origin, u64)> {
        let counted = self.counts.all();
        let all = counted.filter_map(|(key, count, ())| Some((self.origin(key)?, count)));
        all.collect()
    }

    fn number_of(&mut self, source: &Source) -> usize {
        let known = self.sources.iter().position(|known| known == source);
        known.unwrap_or_else(|| {
            self.sources.push(source.clone());
            self.sources.len() - 1
        })
    }

    fn origin(&self, key: Key) -> Option<Origin> {
        let index = |number: u64| usize::try_from(number).ok();
        Some(Origin {
            client: address(key.client),
            peer: address(key.peer),
            source: self
                .sources
                .get(index(key.source_and_verdict >> 8)?)?
                .clone(),
            verdict: *VERDICTS.get(index(key.source_and_verdict & 0xff)?)?,
        })
    }
}

/// The first address of the network that an address is counted with.
pub fn network_of(ip: IpAddr) -> Option<IpAddr> {
    address(network(ip))
}

/// Marks a number as the network of an IPv4 address, or of an IPv6 address: 0 is that of nobody.
const V4: u64 = 1 << 60;
const V6: u64 = 2 << 60;

/// What an address is counted with: 24 bits of IPv4, 48 of IPv6.
fn network(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => V4 | u64::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            V6 | u64::from(a) << 32 | u64::from(b) << 16 | u64::from(c)
        }
    }
}

/// The first address of a network.
fn address(network: u64) -> Option<IpAddr> {
    let bits = network & (V4 - 1);
    match network - bits {
        V4 => Some(Ipv4Addr::from_bits(u32::try_from(bits << 8).ok()?).into()),
        V6 => Some(Ipv6Addr::from_bits(u128::from(bits) << 80).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_ip::Addr;

    fn count(origins: &mut Origins, client: &str, peer: &str, source: &Source, forged: usize) {
        let peer = Peer {
            socket: SocketPeer::Ip(Addr::new(peer.parse().unwrap()).unwrap(), 1),
            proxied: None,
        };
        origins.count(Some(client.parse().unwrap()), &peer, source, forged);
    }

    #[test]
    fn requests_are_counted_by_network_source_and_verdict() {
        let header = Source::Field(http::HeaderName::from_static("x-forwarded-for"));
        let mut origins = Origins::default();
        for (client, peer, source, forged) in [
            ("192.0.2.1", "10.0.0.5", &header, 0),
            ("192.0.2.9", "10.0.0.6", &header, 0),
            ("2001:db8:1:2::3", "2001:db8:1:2::3", &Source::Peer, 1),
            ("192.0.2.1", "192.0.2.1", &Source::Peer, 0),
        ] {
            count(&mut origins, client, peer, source, forged);
        }
        let mut rows: Vec<_> = origins
            .all()
            .into_iter()
            .map(|(origin, count)| {
                (
                    origin.client.unwrap().to_string(),
                    origin.verdict.as_str(),
                    count,
                )
            })
            .collect();
        rows.sort();
        let row = |client: &str, verdict, count| (client.to_owned(), verdict, count);
        assert_eq!(
            rows,
            [
                row("192.0.2.0", "unverified", 1),
                row("192.0.2.0", "verified", 2),
                row("2001:db8:1::", "forged", 1),
            ]
        );
    }

    #[test]
    fn nobody_has_no_network() {
        let mut origins = Origins::default();
        let peer = Peer {
            socket: SocketPeer::Unix,
            proxied: None,
        };
        origins.count(None, &peer, &Source::Peer, 0);
        let (origin, _) = origins.all().pop().unwrap();
        assert_eq!((origin.client, origin.peer), (None, None));
    }
}
