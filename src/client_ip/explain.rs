//! Why this is the client: one value that says of each hop where it was named and whether it was believed.
//!
//! For people and for JSON alike; not for the request path: it counts and copies. Text that a client chose is escaped and
//! cut, so that it can be printed and logged. What the value says was decided by `resolve` and `emit`: nothing is decided
//! here.

use std::fmt;
use std::num::NonZeroU8;

use super::x_forwarded::Node;
use super::{
    Addr, EmitPolicy, FieldSink, ForwardingField, LocalEnd, Peer, Reason, Resolution, Scheme,
    SocketPeer, TrustPolicy, emit,
};

/// Explains a resolution, and what `policy` sends upstream because of it.
///
/// `connection` is the authority asked for and our end of the connection; without it only the fields that carry addresses
/// are shown as sent, for a request in the clear.
pub fn explain(
    resolution: &Resolution<'_>,
    policy: &EmitPolicy,
    connection: Option<(Option<&[u8]>, &LocalEnd)>,
) -> Explanation {
    let entries = resolution.entries().count();
    Explanation {
        client: resolution.client().ip().map(|ip| ip.to_string()),
        reason: resolution.reason(),
        source: resolution.source().to_string(),
        place: place(resolution, entries),
        summary: summary(resolution),
        unlisted: entries.saturating_sub(resolution.verified() + MAX_IGNORED),
        hops: hops(resolution),
        rejected: resolution.must_reject(),
        forged: policy
            .forged(resolution)
            .into_iter()
            .map(|name| printable(&name.to_ascii_lowercase()))
            .collect(),
        sent: sent(resolution, policy, connection),
    }
}

/// The parties of a request, nearest first; entries that weren't believed last, not all of them when there are many.
pub fn hops(resolution: &Resolution<'_>) -> Vec<Hop> {
    let mut hops = peer_hops(resolution);
    hops.extend(entry_hops(resolution));
    hops
}

/// Who the client is, and why; `Display` is a page for people, without a line end behind its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The client; `None` for one on a Unix socket.
    pub client: Option<String>,
    /// Why the walk stopped.
    pub reason: Reason,
    /// As in logs: `peer`, `proxy_protocol`, `header:x-forwarded-for`.
    pub source: String,
    /// Where the client's address was found.
    pub place: Place,
    /// The reason in a few words.
    pub summary: &'static str,
    /// As [`hops()`] has them.
    pub hops: Vec<Hop>,
    /// How many ignored entries aren't among `hops`.
    pub unlisted: usize,
    /// Names of fields removed because the peer isn't trusted.
    pub forged: Vec<String>,
    /// The policy wants a 400 for this: nothing goes upstream.
    pub rejected: bool,
    /// Fields written for the upstream.
    pub sent: Vec<(&'static str, String)>,
}

/// Where the client's address was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is the peer's.
    Connection,
    /// In the PROXY header, of this version.
    ProxyHeader(u8),
    /// In a list field: entry `number` of `total`, counted from the left, from 1.
    Entry {
        /// The field's usual name.
        field: String,
        /// From 1.
        number: usize,
        /// Entries in all.
        total: usize,
    },
    /// It is all that this field holds.
    SingleAddress(String),
    /// Nowhere: a Unix socket has no address.
    Nowhere,
}

/// One party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Its address, or the text that stands for it: escaped, at most 64 characters.
    pub party: String,
    /// Who named it.
    pub origin: Origin,
    /// What came of it.
    pub verdict: Verdict,
}

/// Who named a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The kernel.
    Connection,
    /// The kernel, but a Unix socket has no address to name.
    UnixSocket,
    /// A PROXY header of this version.
    ProxyHeader(u8),
    /// Entry `number`, by a party that was believed.
    Entry {
        /// From 1, counted from the left.
        number: usize,
        /// Its address.
        added_by: String,
    },
    /// An entry by nobody who is believed.
    Claim(usize),
    /// An entry left of one that can't be read.
    BehindUnreadable(usize),
    /// An entry beyond what is read.
    BeyondLimit(usize),
}

/// What came of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may speak for others; the entry of the `from` list that says so.
    Trusted(String),
    /// The same, but it named nobody, or nobody asked: it is the client.
    TrustedClient(String),
    /// It may not speak for others: it is the client.
    Client,
    /// It may speak for others, but only through this other field: it is the client.
    ClientOfOtherField(String),
    /// Its PROXY header was accepted.
    NamedSource,
    /// It hides: the walk stops at it.
    Hidden,
    /// It isn't an address: the walk stops at it.
    Malformed,
    /// There may be only one in a single-address field.
    NotSingle,
    /// Nobody trusted vouches for it.
    Unvouched,
    /// Nobody read it.
    Unread,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_deref().unwrap_or("unknown");
        let width = client.len().max(LONGEST_IPV4) + 3;
        writeln!(f, "client address   {client:<width$}{}", self.summary)?;
        writeln!(f, "found in         {}\n", self.place)?;
        self.fmt_hops(f)?;
        if !self.forged.is_empty() {
            writeln!(
                f,
                "\nremoved          {}: the peer is not trusted",
                self.forged.join(", ")
            )?;
        }
        let mut label = "\nsent upstream    ";
        if self.sent.is_empty() {
            let answer = if self.rejected {
                ": answered with 400"
            } else {
                " about the client"
            };
            write!(f, "{label}nothing{answer}")?;
        }
        for (name, value) in &self.sent {
            write!(f, "{label}{name}: {value}")?;
            label = "\n                 ";
        }
        Ok(())
    }
}

impl Explanation {
    /// On one line of visible ASCII and spaces, at most 1024 characters: the client, and what came of each party.
    pub fn line(&self) -> String {
        let client = self.client.as_deref().unwrap_or("unknown");
        let (reason, source) = (self.reason.as_str(), &self.source);
        let mut line = format!("{client} ({reason}, {source})");
        for hop in &self.hops {
            let [party, origin, verdict] = hop.columns();
            let next = format!("; {party}: {origin}, {verdict}");
            if line.len() + next.len() + ELLIPSIS.len() > MAX_LINE {
                line.push_str(ELLIPSIS);
                break;
            }
            line.push_str(&next);
        }
        line
    }

    /// With every address of a client or a proxy as `show` writes it; what the configuration says stays.
    #[must_use]
    pub fn with_addresses(mut self, show: impl Fn(&str) -> String) -> Self {
        let change = |text: &mut String| *text = show(text);
        self.client.as_mut().map(change);
        for hop in &mut self.hops {
            change(&mut hop.party);
            if let Origin::Entry { added_by, .. } = &mut hop.origin {
                change(added_by);
            }
        }
        self.sent.iter_mut().for_each(|(_, value)| change(value));
        self
    }

    fn fmt_hops(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; 3]> = self.hops.iter().map(Hop::columns).collect();
        let longest = |of: fn(&[String; 3]) -> &String| {
            lines
                .iter()
                .map(of)
                .map(String::len)
                .max()
                .unwrap_or_default()
        };
        let parties = longest(|[party, ..]| party).max(12) + 3;
        let origins = longest(|[_, origin, _]| origin) + 2;
        for [party, origin, verdict] in &lines {
            writeln!(f, "  {party:<parties$}{origin:<origins$}{verdict}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more entries further left"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("the TCP connection"),
            Self::ProxyHeader(version) => write!(f, "the PROXY header, version {version}"),
            Self::Entry {
                field,
                number,
                total,
            } => write!(f, "{field}, entry {number} of {total}"),
            Self::SingleAddress(field) => f.write_str(field),
            Self::Nowhere => f.write_str("nothing: a Unix socket has no address"),
        }
    }
}

impl Hop {
    fn columns(&self) -> [String; 3] {
        [
            self.party.clone(),
            self.origin.to_string(),
            self.verdict.to_string(),
        ]
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("peer of the TCP connection"),
            Self::UnixSocket => f.write_str("peer on a Unix socket"),
            Self::ProxyHeader(version) => write!(f, "source in its PROXY header, v{version}"),
            Self::Entry { number, added_by } => write!(f, "entry {number}, added by {added_by}"),
            Self::Claim(number) => write!(f, "entry {number}, claimed by the client"),
            Self::BehindUnreadable(number) => {
                write!(f, "entry {number}, left of an unreadable one")
            }
            Self::BeyondLimit(number) => write!(f, "entry {number}, beyond the limits"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted(entry) => write!(f, "trusted: {entry}"),
            Self::TrustedClient(entry) => {
                write!(f, "trusted: {entry} -> outermost hop, taken for the client")
            }
            Self::Client => f.write_str("not trusted -> this is the client"),
            Self::ClientOfOtherField(field) => {
                write!(f, "trusted for {field} only -> this is the client")
            }
            Self::NamedSource => f.write_str("its PROXY header was accepted"),
            Self::Hidden => f.write_str("hides its address -> the walk stops here"),
            Self::Malformed => f.write_str("not an address -> the walk stops here"),
            Self::NotSingle => f.write_str("not the only value -> the walk stops here"),
            Self::Unvouched => f.write_str("ignored: nobody trusted vouches for it"),
            Self::Unread => f.write_str("ignored: not read"),
        }
    }
}

/// Client-chosen text as it may be shown: ASCII, escaped, at most 64 characters.
pub fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    for byte in text {
        let escaped = byte.escape_ascii();
        if shown.len() + escaped.len() > MAX_TEXT {
            shown.truncate(MAX_TEXT - ELLIPSIS.len());
            shown.push_str(ELLIPSIS);
            break;
        }
        shown.extend(escaped.map(char::from));
    }
    shown
}

/// The socket peer, and the source it named.
fn peer_hops(resolution: &Resolution<'_>) -> Vec<Hop> {
    let peer = resolution.peer();
    let (party, origin) = match peer.socket {
        SocketPeer::Ip(addr, _) => (addr.ip().to_string(), Origin::Connection),
        SocketPeer::Unix => ("unknown".to_owned(), Origin::UnixSocket),
    };
    let verdict = peer_verdict(resolution);
    let Some(source) = peer.proxied else {
        return vec![Hop {
            party,
            origin,
            verdict,
        }];
    };
    let sender = Hop {
        party,
        origin,
        verdict: Verdict::NamedSource,
    };
    let named = Hop {
        party: source.addr.ip().to_string(),
        origin: Origin::ProxyHeader(source.version),
        verdict,
    };
    vec![sender, named]
}

fn peer_verdict(resolution: &Resolution<'_>) -> Verdict {
    if !resolution.peer_is_trusted() {
        return Verdict::Client;
    }
    let why = match resolution.peer().addr() {
        _ if resolution.policy().trusted_hops().is_some() => trusted_hop(1, resolution.policy()),
        Some(addr) => rule_entry(addr, resolution.policy()),
        None => "unix".to_owned(),
    };
    match (resolution.reason(), resolution.verified()) {
        (Reason::AllTrusted, 0) => Verdict::TrustedClient(why),
        _ => Verdict::Trusted(why),
    }
}

/// The entries of the field, right to left.
fn entry_hops(resolution: &Resolution<'_>) -> Vec<Hop> {
    let Some(field) = resolution.field() else {
        return Vec::new();
    };
    let entries: Vec<&[u8]> = resolution.entries().collect();
    let verified = resolution.verified();
    let mut teller = match resolution.peer().addr() {
        Some(addr) => addr.ip().to_string(),
        None => "the peer".to_owned(),
    };
    let mut hops = Vec::new();
    let listed = entries
        .iter()
        .enumerate()
        .rev()
        .take(verified + MAX_IGNORED);
    for (step, (index, text)) in listed.enumerate() {
        let (number, entry) = (index + 1, field.read(text));
        let by_teller = || Origin::Entry {
            number,
            added_by: teller.clone(),
        };
        let (party, origin, verdict) = match (entry, resolution.reason()) {
            (Node::Addr(addr, _), _) if step < verified => (
                addr.ip().to_string(),
                by_teller(),
                entry_verdict(addr, step + 1, resolution),
            ),
            (_, Reason::Malformed) if step == verified => {
                (printable(text), by_teller(), stop_verdict(entry))
            }
            (_, Reason::Malformed) => (
                printable(text),
                Origin::BehindUnreadable(number),
                Verdict::Unvouched,
            ),
            (_, Reason::HopLimit) => (
                printable(text),
                Origin::BeyondLimit(number),
                Verdict::Unread,
            ),
            (_, Reason::AllTrusted) => (printable(text), by_teller(), Verdict::Unread),
            (_, Reason::FirstUntrusted | Reason::DirectPeer) => {
                (printable(text), Origin::Claim(number), Verdict::Unvouched)
            }
        };
        if step < verified {
            teller.clone_from(&party);
        }
        hops.push(Hop {
            party,
            origin,
            verdict,
        });
    }
    hops
}

/// What came of the `nth` believed entry.
fn entry_verdict(addr: Addr, nth: usize, resolution: &Resolution<'_>) -> Verdict {
    let policy = resolution.policy();
    let is_last = nth == resolution.verified();
    if is_last && resolution.reason() == Reason::FirstUntrusted {
        let other = policy
            .rules()
            .iter()
            .find(|rule| rule.from.contains(addr.ip()));
        return other.map_or(Verdict::Client, |rule| {
            Verdict::ClientOfOtherField(rule.field.title().to_owned())
        });
    }
    let why = match policy.trusted_hops() {
        Some(_) => trusted_hop(nth + 1, policy),
        None => rule_entry(addr, policy),
    };
    match resolution.reason() {
        Reason::AllTrusted if is_last => Verdict::TrustedClient(why),
        _ => Verdict::Trusted(why),
    }
}

fn stop_verdict(entry: Node<'_>) -> Verdict {
    match entry {
        // A readable address stops the walk only where it isn't alone.
        Node::Addr(..) => Verdict::NotSingle,
        Node::Unknown | Node::Obfuscated(_) => Verdict::Hidden,
        Node::Malformed(_) => Verdict::Malformed,
    }
}

fn rule_entry(addr: Addr, policy: &TrustPolicy) -> String {
    let entry = policy
        .rules()
        .iter()
        .find_map(|rule| rule.from.entry_for(addr.ip()));
    entry.unwrap_or_default().to_owned()
}

fn trusted_hop(nth: usize, policy: &TrustPolicy) -> String {
    let count = policy.trusted_hops().map_or(0, NonZeroU8::get);
    format!("hop {nth} of {count}")
}

fn place(resolution: &Resolution<'_>, total: usize) -> Place {
    let Peer { socket, proxied } = resolution.peer();
    match (resolution.field(), proxied, socket) {
        (Some(ForwardingField::SingleAddress(_)), ..) if resolution.verified() > 0 => {
            Place::SingleAddress(
                resolution
                    .field()
                    .map_or("", ForwardingField::title)
                    .to_owned(),
            )
        }
        (Some(field), ..) if resolution.verified() > 0 => Place::Entry {
            field: field.title().to_owned(),
            number: total.saturating_sub(resolution.verified()) + 1,
            total,
        },
        (_, Some(source), _) => Place::ProxyHeader(source.version),
        (_, None, SocketPeer::Ip(..)) => Place::Connection,
        (_, None, SocketPeer::Unix) => Place::Nowhere,
    }
}

fn summary(resolution: &Resolution<'_>) -> &'static str {
    match (resolution.reason(), resolution.verified()) {
        (Reason::DirectPeer, _) if resolution.policy().trusted_hops().is_some() => {
            "the peer itself: fewer entries than trusted hops"
        }
        (Reason::DirectPeer, _) => "the peer itself: no rule trusts it",
        (Reason::FirstUntrusted, _) => "first untrusted hop",
        (Reason::AllTrusted, 0) => "the peer itself: it is trusted, but named nobody",
        (Reason::AllTrusted, _) => "outermost hop: all of them are trusted",
        (Reason::Malformed, _) => {
            "nearest verified hop, not the client: the next entry can't be read"
        }
        (Reason::HopLimit, _) => {
            "nearest verified hop, not the client: more entries than the limits allow"
        }
    }
}

fn sent(
    resolution: &Resolution<'_>,
    policy: &EmitPolicy,
    connection: Option<(Option<&[u8]>, &LocalEnd)>,
) -> Vec<(&'static str, String)> {
    if resolution.must_reject() {
        return Vec::new();
    }
    let in_the_clear = LocalEnd {
        scheme: Scheme::Http,
        port: None,
        address: None,
    };
    let (host, local) = connection.unwrap_or((None, &in_the_clear));
    let mut fields = Fields(Vec::new());
    emit(
        resolution,
        resolution.fields(),
        host,
        local,
        policy,
        &mut fields,
    );
    if connection.is_none() {
        fields
            .0
            .retain(|(name, _)| matches!(*name, "X-Forwarded-For" | "X-Real-IP" | "Forwarded"));
    }
    fields.0
}

struct Fields(Vec<(&'static str, String)>);

impl FieldSink for Fields {
    fn field(&mut self, name: &'static str, value: &[u8]) {
        // Element by element: a long chain of addresses is shown whole, a long invention isn't.
        let elements: Vec<String> = value
            .split(|byte| *byte == b',')
            .map(|text| printable(text.trim_ascii()))
            .collect();
        self.0.push((name, elements.join(", ")));
    }
}

/// Entries listed beyond those that were believed.
const MAX_IGNORED: usize = 16;
const MAX_TEXT: usize = 64;
const MAX_LINE: usize = 1024;
const ELLIPSIS: &str = "...";
const LONGEST_IPV4: usize = 15;

#[cfg(test)]
mod tests;
