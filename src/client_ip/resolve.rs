//! Who the client is: [`resolve()`] and what it needs to know.
//!
//! Promises: reads one field, the one that the peer's rule names; reads it lazily from the nearest hop outwards, within
//! bounds; doesn't allocate. Says nothing about what is sent upstream: that is `emit`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};

use http::header::{HeaderName, InvalidHeaderName};

use super::x_forwarded::{Elements, Limits, Node, Place, Step};
use super::{PeerSet, forwarded, x_forwarded};
use crate::fields::Fields;

/// Resolves the client's address from the peer, the fields it sent, and the policy of the listener.
///
/// Starts at `peer`; while the party at hand may speak through the rule's field, steps to the one it names. An untrusted
/// `peer` is the client, whatever its fields say. `fields` are those received, before anything is stripped.
pub fn resolve<'a>(peer: &'a Peer, fields: &'a Fields, policy: &'a TrustPolicy) -> Resolution<'a> {
    let peer = policy.judged(peer);
    let direct = Resolution::direct(peer, fields, policy);
    let Some(field) = policy.field_for(&peer) else {
        return direct;
    };
    let mut chain = Chain::new(field, fields, policy.max_hops);
    let mut found = Resolution {
        field: Some(field),
        ..direct
    };
    loop {
        match chain.step() {
            Step::Element(Node::Addr(addr, port)) => found.believe(addr, port, chain.place()),
            Step::Element(_) => return found.stop(Reason::Malformed),
            Step::OverLimit => return found.stop(Reason::HopLimit),
            // Whoever came around the balancers that were counted is believed nothing.
            Step::End if policy.counts_hops() => return direct,
            Step::End => return found.stop(Reason::AllTrusted),
        }
        match policy.standing(&found, field) {
            Standing::Untrusted => return found.stop(Reason::FirstUntrusted),
            Standing::Last => return found.stop(Reason::AllTrusted),
            Standing::Trusted => {}
        }
    }
}

/// An address in canonical form: IPv4-mapped IPv6 folded to IPv4, no zone, never unspecified, multicast or broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addr(IpAddr);

impl Addr {
    /// From header text or a PROXY header; `None` for an address that can't be anybody's.
    pub fn new(ip: IpAddr) -> Option<Self> {
        let ip = ip.to_canonical();
        let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        (!ip.is_unspecified() && !ip.is_multicast() && !is_broadcast).then_some(Self(ip))
    }

    /// From the kernel, which names only addresses that somebody has: folds mapped ones, drops the zone.
    pub fn from_socket(address: SocketAddr) -> Self {
        Self(address.ip().to_canonical())
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// Who opened the TCP connection, per the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketPeer {
    /// TCP: address and port.
    Ip(Addr, u16),
    /// A Unix socket: it has no address.
    Unix,
}

/// The source named by an accepted PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxySource {
    /// Source address.
    pub addr: Addr,
    /// Source port.
    pub port: u16,
    /// 1 or 2.
    pub version: u8,
}

/// The socket peer, and the source in a PROXY header from a sender that may send one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Per the kernel.
    pub socket: SocketPeer,
    /// When an accepted PROXY header named one; `None` for LOCAL, UNKNOWN and UNSPEC.
    pub proxied: Option<ProxySource>,
}

impl Peer {
    /// The PROXY source if there is one, else the socket peer's address; `None` on a Unix socket.
    pub fn addr(&self) -> Option<Addr> {
        match (self.proxied, self.socket) {
            (Some(source), _) => Some(source.addr),
            (None, SocketPeer::Ip(addr, _)) => Some(addr),
            (None, SocketPeer::Unix) => None,
        }
    }

    /// As a `from` list sees it.
    fn is_in(&self, set: &PeerSet) -> bool {
        match self.proxied {
            Some(source) => set.contains(source.addr.ip()),
            None => set.contains_peer(&self.socket),
        }
    }
}

/// Which peers may speak for others, through which field, how far, and what becomes of chains that can't be read.
///
/// Each rule names one field; there is no preference among fields, for a client would send the preferred one.
#[derive(Debug, Clone)]
pub struct TrustPolicy {
    trusted: Trusted,
    max_hops: NonZeroU16,
    on_malformed: OnMalformed,
}

#[derive(Debug, Clone)]
enum Trusted {
    /// Nobody, and the PROXY source doesn't count either.
    SocketOnly,
    Rules {
        rules: Vec<TrustRule>,
        depth: Depth,
    },
    Hops {
        count: NonZeroU8,
        field: ForwardingField,
    },
}

impl TrustPolicy {
    /// No rules: every peer is its own client; a PROXY source is the peer. This is `source: proxy_protocol`.
    pub fn nobody() -> Self {
        Self::by_rules(Vec::new(), Depth::Full)
    }

    /// The client is who opened the connection, even where a PROXY header names another. This is `source: peer`.
    pub fn socket_only() -> Self {
        Self {
            trusted: Trusted::SocketOnly,
            ..Self::nobody()
        }
    }

    /// The first rule whose `from` holds the party that delivers a statement decides which field it may use.
    pub fn by_rules(rules: Vec<TrustRule>, depth: Depth) -> Self {
        Self {
            trusted: Trusted::Rules { rules, depth },
            max_hops: DEFAULT_MAX_HOPS,
            on_malformed: OnMalformed::Nearest,
        }
    }

    /// The peer and the next `count - 1` hops are proxies of unknown address: the client is the `count`th entry from the
    /// right. A shorter chain came around them: its peer is the client. A single-address field has one entry.
    pub fn by_hops(count: NonZeroU8, field: ForwardingField) -> Self {
        Self {
            trusted: Trusted::Hops { count, field },
            ..Self::nobody()
        }
    }

    /// At most this many entries are read (64 by default), and four times as many empty ones.
    #[must_use]
    pub fn with_max_hops(self, max_hops: NonZeroU16) -> Self {
        Self { max_hops, ..self }
    }

    /// What becomes of a request whose chain can't be read to its end.
    #[must_use]
    pub fn with_on_malformed(self, on_malformed: OnMalformed) -> Self {
        Self {
            on_malformed,
            ..self
        }
    }

    /// More who may speak by the first rule. Where there is none, nobody may.
    pub fn join(&mut self, more: &PeerSet) {
        if let Trusted::Rules { rules, .. } = &mut self.trusted
            && let Some(first) = rules.first_mut()
        {
            first.from.join(more);
        }
    }

    /// The fields that somebody may speak through, in the order of the rules.
    pub fn fields(&self) -> impl Iterator<Item = &ForwardingField> {
        let (rules, counted) = match &self.trusted {
            Trusted::SocketOnly => (&[] as &[TrustRule], None),
            Trusted::Rules { rules, .. } => (rules.as_slice(), None),
            Trusted::Hops { field, .. } => (&[] as &[TrustRule], Some(field)),
        };
        rules.iter().map(|rule| &rule.field).chain(counted)
    }

    /// The `from` lists of the rules.
    pub fn rules(&self) -> &[TrustRule] {
        match &self.trusted {
            Trusted::Rules { rules, .. } => rules,
            Trusted::SocketOnly | Trusted::Hops { .. } => &[],
        }
    }

    /// How many hops are trusted whatever their address.
    pub fn trusted_hops(&self) -> Option<NonZeroU8> {
        match &self.trusted {
            Trusted::Hops { count, .. } => Some(*count),
            Trusted::SocketOnly | Trusted::Rules { .. } => None,
        }
    }

    /// The address by which a peer is counted, as it speaks for nobody but itself; `None` for one that may speak for
    /// others, and for one that has no address.
    pub fn stranger(&self, peer: &Peer) -> Option<Addr> {
        let peer = self.judged(peer);
        match self.field_for(&peer) {
            Some(_) => None,
            None => peer.addr(),
        }
    }

    /// Whether this peer may speak for others at all. With counted hops anybody may, as far as that can be known here.
    pub fn believes(&self, peer: &Peer) -> bool {
        self.field_for(&self.judged(peer)).is_some()
    }

    /// The peer that this policy looks at.
    fn judged(&self, peer: &Peer) -> Peer {
        match self.trusted {
            Trusted::SocketOnly => Peer {
                proxied: None,
                ..*peer
            },
            Trusted::Rules { .. } | Trusted::Hops { .. } => *peer,
        }
    }

    /// The field that this peer may speak through.
    fn field_for(&self, peer: &Peer) -> Option<&ForwardingField> {
        match &self.trusted {
            Trusted::SocketOnly => None,
            Trusted::Rules { rules, .. } => {
                Some(&rules.iter().find(|rule| peer.is_in(&rule.from))?.field)
            }
            Trusted::Hops { field, .. } => Some(field),
        }
    }

    /// The rule by which an address named in `field` may say in `field` who came before it.
    pub(super) fn rule_for(&self, addr: Addr, field: &ForwardingField) -> Option<&TrustRule> {
        // A rule for another field vouches for nothing here: that proxy may pass this field on as it came.
        let rule = self
            .rules()
            .iter()
            .find(|rule| rule.from.contains(addr.ip()))?;
        (rule.field == *field).then_some(rule)
    }

    fn counts_hops(&self) -> bool {
        self.trusted_hops().is_some()
    }

    /// What is thought of the party believed last.
    fn standing(&self, found: &Resolution<'_>, field: &ForwardingField) -> Standing {
        match &self.trusted {
            Trusted::Hops { count, .. } if found.verified < usize::from(count.get()) => {
                Standing::Trusted
            }
            Trusted::SocketOnly | Trusted::Hops { .. } => Standing::Untrusted,
            Trusted::Rules { depth, .. } => {
                match found.client.0.and_then(|addr| self.rule_for(addr, field)) {
                    None => Standing::Untrusted,
                    Some(_) if *depth == Depth::One => Standing::Last,
                    Some(_) => Standing::Trusted,
                }
            }
        }
    }
}

impl Default for TrustPolicy {
    fn default() -> Self {
        Self::nobody()
    }
}

enum Standing {
    Trusted,
    Untrusted,
    /// Trusted, but nothing further is read.
    Last,
}

/// Who may speak through one field.
#[derive(Debug, Clone)]
pub struct TrustRule {
    /// The parties.
    pub from: PeerSet,
    /// The one field that is read from them.
    pub field: ForwardingField,
}

/// A field that names addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardingField {
    /// `X-Forwarded-For`: a list, each proxy appends its peer.
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list.
    Forwarded,
    /// A field that holds the client's address and nothing else: `X-Real-IP`, `CF-Connecting-IP`.
    SingleAddress(SingleAddressField),
}

/// A field that holds one address.
#[derive(Debug, Clone)]
pub struct SingleAddressField {
    name: HeaderName,
    /// As the operator wrote it, for messages.
    written: Box<str>,
}

impl PartialEq for SingleAddressField {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for SingleAddressField {}

impl ForwardingField {
    /// The field of this name, in any case.
    ///
    /// # Errors
    /// Not a field name: a list of names, for one.
    pub fn parse(name: &str) -> Result<Self, InvalidHeaderName> {
        let parsed = HeaderName::from_bytes(name.as_bytes())?;
        Ok(match parsed.as_str() {
            "x-forwarded-for" => Self::XForwardedFor,
            "forwarded" => Self::Forwarded,
            _ => Self::SingleAddress(SingleAddressField {
                name: parsed,
                written: name.into(),
            }),
        })
    }

    /// Its name for lookups.
    pub fn name(&self) -> &HeaderName {
        match self {
            Self::XForwardedFor => &x_forwarded::X_FORWARDED_FOR,
            Self::Forwarded => &http::header::FORWARDED,
            Self::SingleAddress(field) => &field.name,
        }
    }

    /// Its name for people.
    pub fn title(&self) -> &str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
            Self::SingleAddress(field) => &field.written,
        }
    }

    pub(super) fn read<'a>(&self, element: &'a [u8]) -> Node<'a> {
        match self {
            Self::Forwarded => forwarded::node(element),
            Self::XForwardedFor | Self::SingleAddress(_) => x_forwarded::node(element),
        }
    }
}

/// How far rules are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Past every trusted hop.
    Full,
    /// One entry, whoever it names.
    One,
}

/// What becomes of a request whose chain can't be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMalformed {
    /// It goes on under the nearest address that was verified.
    Nearest,
    /// 400.
    Reject,
}

/// The client's address; only [`resolve()`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(Option<Addr>);

impl ClientAddr {
    /// `None`: a client on a Unix socket nobody told us more about.
    pub fn ip(self) -> Option<IpAddr> {
        self.0.map(Addr::ip)
    }

    pub(super) fn addr(self) -> Option<Addr> {
        self.0
    }
}

/// Why the walk stopped where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No rule lets the peer speak for others.
    DirectPeer,
    /// A trusted hop named a party that isn't one.
    FirstUntrusted,
    /// The chain ended before an untrusted party was named.
    AllTrusted,
    /// The next entry can't be read, hides the address or isn't one.
    Malformed,
    /// There is more than the limits let us read.
    HopLimit,
}

impl Reason {
    /// As logs and metrics name it: `first_untrusted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DirectPeer => "direct_peer",
            Self::FirstUntrusted => "first_untrusted",
            Self::AllTrusted => "all_trusted",
            Self::Malformed => "malformed",
            Self::HopLimit => "hop_limit",
        }
    }
}

/// The outcome: the client, why, and which part of the chain was believed.
#[derive(Debug, Clone, Copy)]
pub struct Resolution<'a> {
    peer: Peer,
    fields: &'a Fields,
    policy: &'a TrustPolicy,
    /// What the peer may speak through; `None`: nothing.
    field: Option<&'a ForwardingField>,
    client: ClientAddr,
    client_port: Option<u16>,
    reason: Reason,
    /// How many entries of the chain were believed, counted from the right.
    verified: usize,
    /// Where the leftmost of them begins.
    place: Place<'a>,
}

impl<'a> Resolution<'a> {
    /// The client, for display and header fields. After `Malformed` and `HopLimit` it is the nearest party verified: a
    /// trusted proxy.
    pub fn client(&self) -> ClientAddr {
        self.client
    }

    /// The client, for what grants something: `None` after `Malformed` and `HopLimit`.
    pub fn client_for_decision(&self) -> Option<ClientAddr> {
        (!self.is_cut_short()).then_some(self.client)
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The peer as the policy judged it: without its PROXY source under `source: peer`.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Whether the peer may speak for others: then its statements about scheme, host and port are believed too.
    pub fn peer_is_trusted(&self) -> bool {
        self.field.is_some()
    }

    /// Whether the policy wants a 400 for this.
    pub fn must_reject(&self) -> bool {
        self.policy.on_malformed == OnMalformed::Reject && self.is_cut_short()
    }

    /// Where the client's address was found.
    pub fn source(&self) -> ClientSource<'a> {
        match (self.field, self.peer.proxied) {
            (Some(field), _) if self.verified > 0 => ClientSource::Field(field),
            (_, Some(_)) => ClientSource::ProxyProtocol,
            (_, None) => ClientSource::Peer,
        }
    }

    /// The believed entries with their ports, the client first, the nearest last; the peer isn't one of them. Reads the
    /// field again; doesn't allocate.
    pub fn believed(&self) -> impl Iterator<Item = (Addr, Option<u16>)> + use<'a> {
        let field = self.field;
        let entries = field.map(|field| self.place.elements(self.fields.get_all(field.name())));
        let entries = entries.into_iter().flatten().take(self.verified);
        entries.filter_map(move |entry| match field?.read(entry) {
            Node::Addr(addr, port) => Some((addr, port)),
            Node::Unknown | Node::Obfuscated(_) | Node::Malformed(_) => None,
        })
    }

    /// How many entries of a trusted peer's field nobody trusted vouches for. Counts them: for logs.
    pub fn discarded(&self) -> usize {
        self.entries().count().saturating_sub(self.verified)
    }

    /// All entries of the rule's field as they came, left to right; none for an untrusted peer.
    pub(super) fn entries(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let lines = self.field.map(|field| self.fields.get_all(field.name()));
        x_forwarded::elements(lines.into_iter().flatten())
    }

    pub(super) fn fields(&self) -> &'a Fields {
        self.fields
    }

    pub(super) fn policy(&self) -> &'a TrustPolicy {
        self.policy
    }

    pub(super) fn field(&self) -> Option<&'a ForwardingField> {
        self.field
    }

    /// The port stated with the client's address in the field.
    pub(super) fn client_port(&self) -> Option<u16> {
        self.client_port
    }

    pub(super) fn verified(&self) -> usize {
        self.verified
    }

    fn direct(peer: Peer, fields: &'a Fields, policy: &'a TrustPolicy) -> Self {
        Self {
            peer,
            fields,
            policy,
            field: None,
            client: ClientAddr(peer.addr()),
            client_port: None,
            reason: Reason::DirectPeer,
            verified: 0,
            place: Place::default(),
        }
    }

    fn believe(&mut self, addr: Addr, port: Option<u16>, place: Place<'a>) {
        self.client = ClientAddr(Some(addr));
        self.client_port = port;
        self.verified += 1;
        self.place = place;
    }

    fn stop(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    fn is_cut_short(&self) -> bool {
        matches!(self.reason, Reason::Malformed | Reason::HopLimit)
    }
}

/// Where the client's address was found; `Display` as in logs: `peer`, `proxy_protocol`, `header:x-forwarded-for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSource<'a> {
    /// The connection itself.
    Peer,
    /// The PROXY header before it.
    ProxyProtocol,
    /// An entry of this field.
    Field(&'a ForwardingField),
}

impl fmt::Display for ClientSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("peer"),
            Self::ProxyProtocol => f.write_str("proxy_protocol"),
            Self::Field(field) => write!(f, "header:{}", field.name()),
        }
    }
}

/// The parties a field names, nearest first, as far as the limits go.
struct Chain<'a> {
    field: &'a ForwardingField,
    fields: &'a Fields,
    elements: Elements<'a>,
    place: Place<'a>,
    hops_left: usize,
    /// Nothing follows the one entry of a single-address field.
    ended: bool,
}

impl<'a> Chain<'a> {
    fn new(field: &'a ForwardingField, fields: &'a Fields, max_hops: NonZeroU16) -> Self {
        let max_hops = usize::from(max_hops.get());
        let limits = Limits {
            bytes: MAX_CHAIN_BYTES,
            empty: 4 * max_hops,
        };
        Self {
            field,
            fields,
            elements: Elements::new(fields.get_all(field.name()), limits),
            place: Place::default(),
            hops_left: max_hops,
            ended: false,
        }
    }

    fn step(&mut self) -> Step<Node<'a>> {
        match self.field {
            ForwardingField::XForwardedFor | ForwardingField::Forwarded => self.next_entry(),
            ForwardingField::SingleAddress(_) => self.only_entry(),
        }
    }

    /// Where the entry given last begins.
    fn place(&self) -> Place<'a> {
        self.place
    }

    fn next_entry(&mut self) -> Step<Node<'a>> {
        let element = match self.elements.step() {
            Step::Element(element) => element,
            Step::End => return Step::End,
            Step::OverLimit => return Step::OverLimit,
        };
        let Some(left) = self.hops_left.checked_sub(1) else {
            return Step::OverLimit;
        };
        self.hops_left = left;
        self.place = self.elements.place();
        Step::Element(self.field.read(element))
    }

    /// One line with one element; anything else that is there at all is malformed.
    fn only_entry(&mut self) -> Step<Node<'a>> {
        let lines = || self.fields.get_all(self.field.name());
        if self.ended || lines().next().is_none() {
            return Step::End;
        }
        self.ended = true;
        if lines().nth(1).is_some() {
            return Step::Element(Node::Malformed(b""));
        }
        match self.next_entry() {
            Step::End => Step::Element(Node::Malformed(b"")),
            // Whatever precedes it, an entry that can't be read is where the walk ends.
            entry @ (Step::Element(Node::Malformed(_) | Node::Unknown | Node::Obfuscated(_))
            | Step::OverLimit) => entry,
            entry @ Step::Element(Node::Addr(..)) => match self.elements.step() {
                Step::End => entry,
                Step::Element(text) => Step::Element(Node::Malformed(text)),
                Step::OverLimit => Step::OverLimit,
            },
        }
    }
}

/// Entries read of one chain, unless the operator says otherwise.
pub const DEFAULT_MAX_HOPS: NonZeroU16 = NonZeroU16::new(64).unwrap();

/// Bytes of a chain considered, counted from the right.
const MAX_CHAIN_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests;
