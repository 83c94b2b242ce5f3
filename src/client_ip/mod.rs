//! WHO IS THE CLIENT? The question this program exists for.
//!
//! A proxy sees the address of whoever opened the connection: the [`SocketPeer`], or the source that a PROXY header from an
//! admitted sender names in its place. Together they are the [`Peer`]. Behind other proxies that isn't the client, and the
//! client's address is only hearsay: each proxy appends to a forwarding field whom *it* saw, so that the field reads from the
//! farthest party to the nearest, and everything to the left of what a trusted proxy appended is anybody's invention.
//!
//! # The algorithm
//!
//! 1. The first rule of the [`TrustPolicy`] whose `from` list holds the peer names the one field that this peer may speak
//!    through. No rule: the peer is the client, whatever it sent.
//! 2. The field's elements, over all its lines in their order (RFC 9110 §5.3), are read **from right to left**. White space
//!    and empty elements mean nothing (RFC 9110 §5.6.1).
//! 3. Each element names the party that delivered the statement to its left. The first one that no rule lets speak through
//!    this field is the client ([`Reason::FirstUntrusted`]). When the list ends before, the leftmost is
//!    ([`Reason::AllTrusted`]).
//! 4. An element that isn't an address ends the walk ([`Reason::Malformed`]), and so does more of them than we care to read
//!    ([`Reason::HopLimit`]). The nearest party verified stands in for the client then, but only for display: what grants
//!    something asks [`Resolution::client_for_decision`], which is `None`.
//! 5. A single-address field (`CF-Connecting-IP`) is one line with one element, or malformed. It isn't walked further.
//!
//! `Forwarded` is read by the grammar of RFC 7239 §4: `for=` of each element is its party (§5.2), an address with or
//! without a port (§6), `unknown` (§6.2) or an obfuscated identifier (§6.3); the latter two end the walk. Stricter than the
//! RFC: a comma separates elements even inside quotes. More lenient: IPv6 in brackets and ports may go without quotes.
//!
//! What goes upstream is another question, and `emit`'s: by default, what was believed and the peer, so that a backend
//! which reads the leftmost entry is right too.
//!
//! ```
//! use headwater::client_ip::{
//!     Addr, Depth, ForwardingField, Peer, PeerSet, Reason, SocketPeer, TrustPolicy, TrustRule, resolve,
//! };
//! use headwater::fields::Fields;
//! use http::{HeaderName, HeaderValue};
//!
//! // The balancer at 203.0.113.9 passed the request on; an internal proxy stands before it.
//! let policy = TrustPolicy::by_rules(
//!     vec![TrustRule {
//!         from: PeerSet::parse(&["private", "203.0.113.0/24"])?,
//!         field: ForwardingField::XForwardedFor,
//!     }],
//!     Depth::Full,
//! );
//! let peer = Peer {
//!     socket: SocketPeer::Ip(Addr::from_socket("203.0.113.9:40000".parse()?), 40000),
//!     proxied: None,
//! };
//! let mut fields = Fields::default();
//! let chain = HeaderValue::from_static("6.6.6.6, 198.51.100.7, 10.0.0.5");
//! fields.append(HeaderName::from_static("x-forwarded-for"), chain);
//!
//! let resolution = resolve(&peer, &fields, &policy);
//!
//! // 10.0.0.5 is trusted and says that 198.51.100.7 made the request; who put 6.6.6.6 there, nobody knows.
//! assert_eq!(resolution.client().ip(), Some("198.51.100.7".parse()?));
//! assert_eq!(resolution.reason(), Reason::FirstUntrusted);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This module opens no socket, reads no clock, resolves no name and writes no log. It doesn't decide whether a client may
//! come in; it doesn't read PROXY headers.

pub mod emit;
pub mod explain;
pub mod forwarded;
pub mod ip_set;
pub mod presets;
pub mod resolve;
pub mod x_forwarded;

pub use emit::{
    EmitOptions, EmitPolicy, FieldSink, LocalEnd, Prior, Scheme, SentField, UntrustedPrior,
    UpstreamHost, emit, emit_constant, emit_varying, upstream_host,
};
pub use ip_set::{IpSet, PeerSet};
pub use resolve::{
    Addr, ClientAddr, ClientSource, Depth, ForwardingField, OnMalformed, Peer, ProxySource, Reason,
    Resolution, SocketPeer, TrustPolicy, TrustRule, resolve,
};

#[cfg(test)]
mod tests;
