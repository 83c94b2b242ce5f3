//! Who a worker's requests came from, since somebody last asked.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::fields::is;
use crate::telemetry::frequent::Frequent;

/// What one worker counts by listener and peer: without a lock, and in the same memory whatever clients do.
#[derive(Debug)]
pub struct Peers {
    listeners: Vec<Rc<str>>,
    counts: RefCell<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By listener.
    requests: Vec<u64>,
    peers: Frequent<Option<Key>, Claims>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// Its index.
    listener: u16,
    sender: Sender,
}

/// Who sent a request that nobody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    /// Its address.
    pub ip: IpAddr,
    /// Named by a PROXY header, instead of having connected itself.
    pub is_proxied: bool,
}

/// What a sender said in vain about its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claims {
    /// Requests with a claim.
    pub requests: u64,
    /// In the field that is the most usual for it.
    pub field: Option<Field>,
}

/// A field that names a client: those that are more usual for it come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(u8);

/// As people write them.
const FIELDS: [&str; 10] = [
    "X-Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Azure-ClientIP",
    "Fly-Client-IP",
];

impl Field {
    /// The most usual one among these; `None` when none of them names a client.
    pub fn most_usual(names: &[&[u8]]) -> Option<Self> {
        let is_there = |field: &&'static str| names.iter().any(|name| is(name, field));
        let first = FIELDS.iter().position(is_there)?;
        u8::try_from(first).ok().map(Self)
    }

    /// As people write it.
    pub fn title(self) -> &'static str {
        FIELDS.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

/// What was counted for one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its name.
    pub listener: String,
    /// Requests in all.
    pub requests: u64,
    /// Those that nobody vouches for, by their most frequent senders.
    pub senders: Vec<(Sender, u64, Claims)>,
}

impl Peers {
    /// For listeners of these names.
    pub fn new<'a>(listeners: impl IntoIterator<Item = &'a str>) -> Self {
        let listeners: Vec<_> = listeners.into_iter().map(Rc::from).collect();
        Self {
            counts: RefCell::new(Counts {
                requests: vec![0; listeners.len()],
                peers: Frequent::default(),
            }),
            listeners,
        }
    }

    /// Whether it is for listeners of these names, in this order.
    pub fn is_for<'a>(&self, listeners: impl IntoIterator<Item = &'a str>) -> bool {
        self.listeners.iter().map(|name| &**name).eq(listeners)
    }

    /// Counts a request that somebody vouches for, or that came through a Unix socket.
    pub fn vouched(&self, listener: usize) {
        if let Some(requests) = self.counts.borrow_mut().requests.get_mut(listener) {
            *requests += 1;
        }
    }

    /// Counts a request whose sender is the client as far as anybody knows, with what it claimed in vain.
    pub fn came_from(&self, listener: usize, sender: Sender, claim: Option<Field>) {
        self.vouched(listener);
        let Ok(number) = u16::try_from(listener) else {
            return;
        };
        let key = Key {
            listener: number,
            sender,
        };
        let counts = &mut *self.counts.borrow_mut();
        if let Some(claims) = counts.peers.count(Some(key), key.digest())
            && let Some(field) = claim
        {
            claims.requests += 1;
            claims.field = Some(claims.field.map_or(field, |known| known.min(field)));
        }
    }

    /// What was counted, by listener, and begins anew.
    pub fn take(&self) -> Vec<Counted> {
        let counts = &mut *self.counts.borrow_mut();
        let listeners = self.listeners.iter().zip(&mut counts.requests);
        let mut all: Vec<_> = listeners
            .map(|(listener, requests)| Counted {
                listener: String::from(&**listener),
                requests: std::mem::take(requests),
                senders: Vec::new(),
            })
            .collect();
        for (key, count, claims) in counts.peers.all() {
            if let Some(key) = key
                && let Some(counted) = all.get_mut(usize::from(key.listener))
            {
                counted.senders.push((key.sender, count, claims));
            }
        }
        counts.peers.clear();
        all.retain(|counted| counted.requests > 0);
        all
    }
}

impl Key {
    fn digest(self) -> u64 {
        let ip = match self.sender.ip {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
                half(bits >> 64) ^ half(bits).rotate_left(29)
            }
        };
        let rest = u64::from(self.listener) << 1 | u64::from(self.sender.is_proxied);
        ip ^ rest.rotate_left(42)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(ip: &str) -> Sender {
        Sender {
            ip: ip.parse().unwrap(),
            is_proxied: false,
        }
    }

    fn field(names: &[&'static str]) -> Option<Field> {
        let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
        Field::most_usual(&names)
    }

    #[test]
    fn requests_are_counted_by_listener_and_sender_until_they_are_taken() {
        let peers = Peers::new(["http", "https", "idle"]);
        assert!(peers.is_for(["http", "https", "idle"]) && !peers.is_for(["http", "idle"]));
        let near = sender("10.0.0.5");
        peers.came_from(0, near, field(&["x-real-ip", "cookie"]));
        peers.came_from(0, near, None);
        peers.came_from(0, near, field(&["x-real-ip", "x-forwarded-for"]));
        peers.came_from(1, near, None);
        peers.came_from(
            1,
            Sender {
                is_proxied: true,
                ..near
            },
            None,
        );
        peers.vouched(1);
        // One that was removed.
        peers.came_from(3, near, None);
        let mut all = peers.take();
        for counted in &mut all {
            counted.senders.sort_by_key(|(sender, ..)| *sender);
        }
        let claims = Claims {
            requests: 2,
            field: field(&["x-forwarded-for"]),
        };
        let none = Claims::default();
        let proxied = Sender {
            is_proxied: true,
            ..near
        };
        let counted = |listener: &str, requests, senders| Counted {
            listener: listener.to_owned(),
            requests,
            senders,
        };
        assert_eq!(
            all,
            [
                counted("http", 3, vec![(near, 3, claims)]),
                counted("https", 3, vec![(near, 1, none), (proxied, 1, none)]),
            ]
        );
        assert_eq!(peers.take(), []);
    }

    #[test]
    fn the_most_usual_field_is_named() {
        assert_eq!(
            field(&["forwarded", "x-real-ip"]).unwrap().title(),
            "Forwarded"
        );
        assert_eq!(
            field(&["cf-connecting-ip"]).unwrap().title(),
            "CF-Connecting-IP"
        );
        assert_eq!(field(&["x-forwarded-proto", "via"]), None);
    }

    #[test]
    fn a_flood_of_peers_takes_no_room_and_hides_nobody() {
        let peers = Peers::new(["http"]);
        for number in 0..20_000_u32 {
            peers.came_from(0, sender("10.0.0.5"), None);
            let [_, a, b, c] = number.to_be_bytes();
            peers.came_from(0, sender(&format!("2001:db8:{a:x}:{b:x}::{c:x}")), None);
        }
        let counted = peers.take().remove(0);
        assert_eq!(counted.requests, 40_000);
        assert!(counted.senders.len() <= crate::telemetry::frequent::MOST);
        let known = counted
            .senders
            .iter()
            .find(|(known, ..)| *known == sender("10.0.0.5"));
        assert_eq!(known.unwrap().1, 20_000);
    }
}
