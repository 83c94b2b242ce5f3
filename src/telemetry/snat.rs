//! Notices when the addresses of clients are lost before they get here, or are told in a way that nobody believes.
//!
//! Somebody in front who translates addresses makes all clients look like one: a node of the cluster, a gateway, this
//! machine. A balancer that nobody trusts names them in vain. Workers count their [`Peers`], the control thread has a
//! [`Detector`] judge the last minute; no client decides how often anything is said about it.

mod gateways;
mod peers;
mod probes;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::config::{Network, code};

use super::frequent;

pub use gateways::is_gateway;
pub use peers::{Claims, Counted, Field, Peers, Sender};
pub use probes::Probes;

/// What is judged at a time.
const WINDOW: Duration = Duration::from_secs(60);

/// Fewer say nothing.
const MIN_REQUESTS: u64 = 100;

/// Of all requests, or of all those of a sender.
const MIN_PERCENT: u64 = 90;

/// Whoever translates has few addresses, however few nodes are known.
const FEW: usize = 4;

/// Between two warnings about a listener; and as long is believed what too few requests speak against.
const QUIET: Duration = Duration::from_secs(60 * 60);

/// What addresses mean where the process runs.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The cluster's.
    pub network: &'a Network,
    /// Whether this is a gateway of the machine; asked only when all requests come from one address.
    pub is_gateway: &'a dyn Fn(IpAddr) -> bool,
}

impl std::fmt::Debug for Ground<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground")
            .field("network", self.network)
            .finish_non_exhaustive()
    }
}

/// What stands in front, by what its addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nodes of the cluster translate.
    Node,
    /// The gateway of this machine or container does.
    Gateway,
    /// Something on this machine connects for everybody.
    Loopback,
    /// A peer names clients, and nobody trusts it.
    UntrustedHeader,
}

impl Cause {
    /// Those that lose the clients' addresses.
    pub const TRANSLATED: [Self; 3] = [Self::Node, Self::Gateway, Self::Loopback];

    /// As labels and JSON have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
            Self::Loopback => "loopback",
            Self::UntrustedHeader => "untrusted_header",
        }
    }

    /// By which `headwater error` explains it.
    pub fn code(self) -> &'static str {
        match self {
            Self::UntrustedHeader => code::UNTRUSTED_HEADER,
            _ => code::TRANSLATED,
        }
    }

    /// What to do about it: one of these.
    pub fn remedies(self) -> &'static [&'static str] {
        match self {
            Self::Node => &[LOCAL_POLICY, PROXY_PROTOCOL, HOST_PORT, TRUST_BALANCER],
            Self::Gateway => &[
                HOST_NETWORK,
                SYSTEMD,
                LOCAL_POLICY,
                PROXY_PROTOCOL,
                TRUST_BALANCER,
            ],
            Self::Loopback => &[TRUST_LOOPBACK, PROXY_PROTOCOL, HOST_NETWORK, SYSTEMD],
            Self::UntrustedHeader => &[TRUST_PEER],
        }
    }
}

const LOCAL_POLICY: &str = "externalTrafficPolicy: Local on the Service, and a proxy on every node that the balancer targets";
const PROXY_PROTOCOL: &str = "PROXY protocol on the balancer and here (listeners.*.proxy_protocol)";
const HOST_PORT: &str = "hostNetwork or hostPort, so that clients connect to the node itself";
const TRUST_BALANCER: &str = "if an HTTP balancer is in front, trust its header (client_ip.trust)";
const HOST_NETWORK: &str =
    "host networking for the container, or no userland proxy of the container engine";
const SYSTEMD: &str = "let systemd listen and pass the socket (LISTEN_FDS)";
const TRUST_LOOPBACK: &str =
    "trust the header of the proxy on this machine (client_ip.trust, from: [loopback])";
const TRUST_PEER: &str = "if that is your balancer, add it to client_ip.trust";

/// What was noticed about a listener, in the last minute that had enough requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its name.
    pub listener: String,
    /// Why the clients are lost.
    pub cause: Cause,
    /// In that minute: of the listener, or of the one peer that isn't trusted.
    pub requests: u64,
    /// How many of them speak for it.
    pub suspect: u64,
    /// Who sent those, the most frequent first.
    pub peers: Vec<IpAddr>,
    /// The field that isn't believed.
    pub field: Option<Field>,
}

impl Finding {
    /// In a line for people, who see addresses as `shown` does.
    pub fn message(&self, shown: impl Fn(IpAddr) -> String) -> String {
        let peers: Vec<_> = self.peers.iter().take(FEW).map(|ip| shown(*ip)).collect();
        let mut peers = peers.join(", ");
        if self.peers.len() > FEW {
            peers.push_str(" and others");
        }
        let percent = percent(self.suspect, self.requests);
        let who = match self.cause {
            Cause::Node if self.peers.len() == 1 => "a node of this cluster",
            Cause::Node => "nodes of this cluster",
            Cause::Gateway => "the gateway of this machine's network",
            Cause::Loopback => "this machine itself",
            Cause::UntrustedHeader => {
                let field = self.field.map_or("", Field::title);
                return format!(
                    "{field} arrives from {peers} on {percent} % of requests and is not trusted"
                );
            }
        };
        format!(
            "{percent} % of {} requests in a minute came from {peers}, {who}: the visitors' addresses are lost before headwater",
            self.requests
        )
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100)
        .checked_div(whole)
        .unwrap_or_default()
}

/// Judges the last minute of every listener.
#[derive(Debug, Default)]
pub struct Detector {
    listeners: BTreeMap<String, Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    slices: VecDeque<(Instant, Slice)>,
    translated: Alarm,
    untrusted: Alarm,
}

/// What all workers counted between two looks, or a minute of that.
#[derive(Debug, Default)]
struct Slice {
    requests: u64,
    senders: BTreeMap<Sender, (u64, Claims)>,
}

impl Detector {
    /// Takes what the workers counted until `now`, and returns what is to be said about it: at most one warning of a kind
    /// an hour and listener. Listeners that aren't in `known` are forgotten.
    pub fn observe(
        &mut self,
        now: Instant,
        counted: Vec<Counted>,
        known: &[&str],
        ground: Ground<'_>,
    ) -> Vec<Finding> {
        self.listeners.retain(|name, _| known.contains(&&**name));
        let mut slices: BTreeMap<String, Slice> = BTreeMap::new();
        for counted in counted {
            if known.contains(&&*counted.listener) {
                slices
                    .entry(counted.listener)
                    .or_default()
                    .add(counted.requests, counted.senders);
            }
        }
        for (listener, slice) in slices {
            let watched = self.listeners.entry(listener).or_default();
            watched.slices.push_back((now, slice.bounded()));
        }
        let listeners = self.listeners.iter_mut();
        let warnings = listeners.flat_map(|(name, watched)| watched.judge(now, name, ground));
        warnings.collect()
    }

    /// All that is so, as far as is known.
    pub fn findings(&self) -> Vec<Finding> {
        let alarms = self.listeners.values();
        let alarms = alarms.flat_map(|watched| [&watched.translated, &watched.untrusted]);
        alarms.filter_map(|alarm| alarm.found.clone()).collect()
    }
}

impl Watched {
    fn judge(&mut self, now: Instant, listener: &str, ground: Ground<'_>) -> Vec<Finding> {
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
        while self.slices.front().is_some_and(|(at, _)| is_over(at)) {
            self.slices.pop_front();
        }
        let mut minute = Slice::default();
        for (_, slice) in &self.slices {
            let senders = slice.senders.iter();
            let senders = senders.map(|(sender, (count, claims))| (*sender, *count, *claims));
            minute.add(slice.requests, senders);
        }
        let is_enough = minute.requests >= MIN_REQUESTS;
        let judge = |alarm: &mut Alarm, found: Option<Verdict>| {
            alarm.judge(now, is_enough, found.map(|verdict| verdict.about(listener)))
        };
        let translated = judge(&mut self.translated, minute.translated(ground));
        let untrusted = judge(&mut self.untrusted, minute.untrusted(ground));
        translated.into_iter().chain(untrusted).collect()
    }
}

impl Slice {
    fn add(&mut self, requests: u64, senders: impl IntoIterator<Item = (Sender, u64, Claims)>) {
        self.requests += requests;
        for (sender, more, claimed) in senders {
            let (count, claims) = self.senders.entry(sender).or_default();
            *count += more;
            claims.requests += claimed.requests;
            claims.field = claims.field.into_iter().chain(claimed.field).min();
        }
    }

    /// With the most frequent senders alone, as many as one worker knows.
    fn bounded(mut self) -> Self {
        if self.senders.len() > frequent::MOST {
            let mut senders: Vec<_> = self.senders.into_iter().collect();
            senders.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
            senders.truncate(frequent::MOST);
            self.senders = senders.into_iter().collect();
        }
        self
    }

    /// Whether most requests come from few addresses of somebody who has no requests of its own.
    fn translated(&self, ground: Ground<'_>) -> Option<Verdict> {
        let direct = self.senders.iter().filter(|(sender, _)| !sender.is_proxied);
        let direct: Vec<_> = direct
            .map(|(sender, (count, _))| (sender.ip, *count))
            .collect();
        let of = |cause, is_suspect: &dyn Fn(IpAddr) -> bool| {
            let suspects = direct.iter().copied().filter(|(ip, _)| is_suspect(*ip));
            Verdict::new(cause, self.requests, suspects.collect())
        };
        let nodes = of(Cause::Node, &|ip| ground.network.is_node(ip));
        if nodes.suspect > 0
            && nodes.is_most()
            && nodes.peers.len() <= FEW.max(ground.network.most_nodes())
        {
            return Some(nodes);
        }
        let loopback = of(Cause::Loopback, &is_this_machine);
        if loopback.is_all() {
            return Some(loopback);
        }
        let everybody = of(Cause::Gateway, &|_| true);
        let is_gateway =
            matches!(*everybody.peers, [one] if everybody.is_all() && (ground.is_gateway)(one));
        is_gateway.then_some(everybody)
    }

    /// Whether whoever sends most names others, and isn't believed. Not a node: who translates for a balancer does so for
    /// everybody, and must not be trusted.
    fn untrusted(&self, ground: Ground<'_>) -> Option<Verdict> {
        let busiest = self.senders.iter().max_by_key(|(_, (count, _))| *count);
        let (sender, (count, claims)) =
            busiest.filter(|(sender, _)| !ground.network.is_node(sender.ip))?;
        let mut verdict = Verdict::new(
            Cause::UntrustedHeader,
            *count,
            vec![(sender.ip, claims.requests)],
        );
        verdict.field = claims.field;
        (*count >= MIN_REQUESTS && verdict.is_most()).then_some(verdict)
    }
}

/// Where somebody on this machine connects from who doesn't choose an address.
fn is_this_machine(ip: IpAddr) -> bool {
    ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
}

/// A finding in the making.
#[derive(Debug)]
struct Verdict {
    cause: Cause,
    requests: u64,
    suspect: u64,
    peers: Vec<IpAddr>,
    field: Option<Field>,
}

impl Verdict {
    fn new(cause: Cause, requests: u64, mut suspects: Vec<(IpAddr, u64)>) -> Self {
        suspects.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self {
            cause,
            requests,
            suspect: suspects.iter().map(|(_, count)| count).sum(),
            peers: suspects.into_iter().map(|(ip, _)| ip).collect(),
            field: None,
        }
    }

    fn is_most(&self) -> bool {
        self.suspect.saturating_mul(100) >= self.requests.saturating_mul(MIN_PERCENT)
    }

    fn is_all(&self) -> bool {
        self.suspect == self.requests && self.requests > 0
    }

    fn about(self, listener: &str) -> Finding {
        Finding {
            listener: listener.to_owned(),
            cause: self.cause,
            requests: self.requests,
            suspect: self.suspect,
            peers: self.peers,
            field: self.field,
        }
    }
}

/// What is so, and when it was last said.
#[derive(Debug, Default)]
struct Alarm {
    found: Option<Finding>,
    seen: Option<Instant>,
    warned: Option<Instant>,
}

impl Alarm {
    /// Returns what is to be said. Too few requests prove nothing, but nothing is believed for ever.
    fn judge(&mut self, now: Instant, is_enough: bool, found: Option<Finding>) -> Option<Finding> {
        let is_past =
            |at: Option<Instant>| at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        if !is_enough {
            if is_past(self.seen) {
                self.found = None;
            }
            return None;
        }
        self.found = found;
        let found = self.found.as_ref()?;
        self.seen = Some(now);
        if !is_past(self.warned) {
            return None;
        }
        self.warned = Some(now);
        Some(found.clone())
    }
}

#[cfg(test)]
mod tests;
