//! What the upstream is told: which forwarding fields are removed from a request, and which are written.
//!
//! Works on the fields as they were received, so that what `Connection` nominates or another step strips changes nothing.
//! A managed name never passes through: what the upstream reads under it is ours or absent. Neither `Host` nor
//! `X-Original-URI` is written here, only whether they are wanted is known.

use http::HeaderName;

use super::forwarded::{self, Statement};
use super::x_forwarded::{
    self, Elements, Limits, Node, Step, X_FORWARDED_FOR, write_decimal, write_ip,
};
use super::{Addr, ForwardingField, Peer, Resolution};
use crate::fields::{Fields, Values};

mod local_end;
mod names;
mod policy;

pub use local_end::{LocalEnd, Scheme};
pub use policy::{
    EmitOptions, EmitPolicy, Forwarded, Prior, SentField, UntrustedPrior, UpstreamHost,
    XForwardedFor,
};

/// Writes every forwarding field of a request; for a direct peer what [`emit_constant`] and [`emit_varying`] write.
///
/// `fields` are those that were resolved; `host` is the authority the client asked for.
#[inline(never)]
pub fn emit(
    resolution: &Resolution<'_>,
    fields: &Fields,
    host: Option<&[u8]>,
    local: &LocalEnd,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    let peer = resolution.peer();
    let Some(field) = resolution.field() else {
        emit_constant(&peer, local, policy, sink);
        emit_varying(&peer, fields, host, local, policy, sink);
        return;
    };
    let client = resolution.client().addr();
    let to_peer = peer.addr().map(Entry::Addr);
    match policy.x_forwarded_for {
        XForwardedFor::Append(Prior::Verified) => {
            let believed = resolution.believed().map(|(addr, _)| Entry::Addr(addr));
            write_chain(believed.chain(to_peer), sink);
        }
        XForwardedFor::Append(Prior::Full(_)) => {
            write_chain(full_chain(field, fields).chain(to_peer), sink);
        }
        XForwardedFor::Replace => write_chain(client.map(Entry::Addr).into_iter(), sink),
        XForwardedFor::Preserve => {
            write_chain(received(&X_FORWARDED_FOR, fields).map(Entry::Text), sink);
        }
        XForwardedFor::Off => {}
    }
    let stated = Stated::by_trusted_peer(resolution, fields, policy);
    let scheme = stated.scheme.unwrap_or(local.scheme.as_str());
    write_constants(client, scheme, stated.port.or(local.port), policy, sink);
    write_host(stated.host.or(host), policy, sink);
    write_originals(field.name(), fields, policy, sink);

    let ours = Statement::ours(&peer, host, local);
    match policy.forwarded {
        Forwarded::Off => {}
        Forwarded::Append => {
            let mut believed = resolution.believed();
            let client = believed.next().map(|node| stated.about(node));
            let between = believed.map(Statement::of);
            write_forwarded(client.into_iter().chain(between).chain([ours]), sink);
        }
        Forwarded::Replace => {
            let statement = Statement {
                node: client.map(|addr| (addr, resolution.client_port())),
                host: stated.host.or(ours.host),
                proto: stated.scheme.or(ours.proto),
                ..ours
            };
            write_forwarded([statement].into_iter(), sink);
        }
    }
}

/// Writes what is the same for every request of a connection whose peer isn't believed ([`Reason::DirectPeer`]), so that
/// it can be kept with the connection. `peer` is [`Resolution::peer`].
///
/// [`Reason::DirectPeer`]: super::Reason::DirectPeer
pub fn emit_constant(
    peer: &Peer,
    local: &LocalEnd,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    let client = peer.addr();
    if matches!(
        policy.x_forwarded_for,
        XForwardedFor::Append(_) | XForwardedFor::Replace
    ) && !policy.keeps_untrusted()
    {
        write_chain(client.map(Entry::Addr).into_iter(), sink);
    }
    write_constants(client, local.scheme.as_str(), local.port, policy, sink);
}

/// Writes the rest for such a peer: what depends on the request.
pub fn emit_varying(
    peer: &Peer,
    fields: &Fields,
    host: Option<&[u8]>,
    local: &LocalEnd,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    if policy.keeps_untrusted() {
        let prior = received(&X_FORWARDED_FOR, fields).map(Entry::Text);
        write_chain(prior.chain(peer.addr().map(Entry::Addr)), sink);
    }
    write_host(host, policy, sink);
    write_originals(&policy.original_field, fields, policy, sink);
    if policy.forwarded != Forwarded::Off {
        write_forwarded([Statement::ours(peer, host, local)].into_iter(), sink);
    }
}

/// Takes the fields written. HTTP/1 implements it by appending `name: value CRLF` to a head, HTTP/2 by a `HeaderMap`.
pub trait FieldSink {
    /// `name` is in the field's usual case (`X-Forwarded-For`); `value` isn't empty and holds no CR, LF or NUL.
    fn field(&mut self, name: &'static str, value: &[u8]);

    /// A field whose value is written in pieces, by one call of `write`. The default collects and calls `field`.
    fn field_with(&mut self, name: &'static str, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        self.field(name, &value);
    }
}

/// What `Host` says upstream: `host`, the authority the client asked for, or under `rewrite_host` the one a trusted peer's
/// X-Forwarded-Host names.
pub fn upstream_host<'a>(
    resolution: &Resolution<'_>,
    fields: &'a Fields,
    host: Option<&'a [u8]>,
    policy: &EmitPolicy,
) -> Option<&'a [u8]> {
    let rewritten = policy.upstream_host == UpstreamHost::Forwarded && resolution.peer_is_trusted();
    let stated = rewritten.then(|| Stated::host(resolution, fields));
    stated.flatten().or(host)
}

/// What a trusted peer says about the client's request.
#[derive(Debug, Clone, Copy, Default)]
struct Stated<'a> {
    scheme: Option<&'static str>,
    host: Option<&'a [u8]>,
    port: Option<u16>,
}

impl<'a> Stated<'a> {
    /// Reads what `policy` has a use for.
    fn by_trusted_peer(
        resolution: &Resolution<'_>,
        fields: &'a Fields,
        policy: &EmitPolicy,
    ) -> Self {
        let element = client_element(resolution, fields);
        let proto = |element: forwarded::Element<'a>| x_forwarded::scheme(element.proto?);
        let mut stated = Self::default();
        if policy.needs_scheme() {
            let text = || x_forwarded::scheme(aligned(&X_FORWARDED_PROTO, resolution, fields)?);
            stated.scheme = element.and_then(proto).or_else(text);
        }
        if policy.needs_host() {
            stated.host = Self::host(resolution, fields);
        }
        if policy.sends(SentField::XForwardedPort) {
            stated.port =
                aligned(&X_FORWARDED_PORT, resolution, fields).and_then(x_forwarded::port_number);
        }
        stated
    }

    fn host(resolution: &Resolution<'_>, fields: &'a Fields) -> Option<&'a [u8]> {
        let in_element = client_element(resolution, fields).and_then(|element| element.host);
        in_element
            .filter(|host| x_forwarded::is_host(host))
            .or_else(|| {
                aligned(&X_FORWARDED_HOST, resolution, fields)
                    .filter(|host| x_forwarded::is_host(host))
            })
    }

    /// An element of `Forwarded` about the client's own request.
    fn about(&self, node: (Addr, Option<u16>)) -> Statement<'a> {
        Statement {
            host: self.host,
            proto: self.scheme,
            ..Statement::of(node)
        }
    }
}

impl<'a> Statement<'a> {
    fn of(node: (Addr, Option<u16>)) -> Self {
        Self {
            node: Some(node),
            ..Self::default()
        }
    }

    /// The element about the connection that reached us.
    fn ours(peer: &Peer, host: Option<&'a [u8]>, local: &LocalEnd) -> Self {
        Self {
            node: peer.addr().map(|addr| (addr, None)),
            by: local.address.map(Addr::from_socket),
            host,
            proto: Some(local.scheme.as_str()),
        }
    }
}

/// One entry of `X-Forwarded-For` to write.
#[derive(Debug, Clone, Copy)]
enum Entry<'a> {
    Addr(Addr),
    Text(&'a [u8]),
}

/// `unknown` stands for whatever isn't an address in a `Forwarded` chain.
fn full_chain<'a>(
    field: &'a ForwardingField,
    fields: &'a Fields,
) -> impl Iterator<Item = Entry<'a>> {
    let name = match field {
        ForwardingField::Forwarded => field.name(),
        ForwardingField::XForwardedFor | ForwardingField::SingleAddress(_) => &X_FORWARDED_FOR,
    };
    received(name, fields).map(move |text| match (field, forwarded::node(text)) {
        (ForwardingField::Forwarded, Node::Addr(addr, _)) => Entry::Addr(addr),
        (ForwardingField::Forwarded, _) => Entry::Text(b"unknown"),
        (ForwardingField::XForwardedFor | ForwardingField::SingleAddress(_), _) => {
            Entry::Text(text)
        }
    })
}

/// The elements of a list field as they came.
fn received<'a>(name: &'a HeaderName, fields: &'a Fields) -> impl Iterator<Item = &'a [u8]> {
    x_forwarded::elements(fields.get_all(name))
}

/// The element that names the client, when the chain is a `Forwarded` one.
fn client_element<'a>(
    resolution: &Resolution<'_>,
    fields: &'a Fields,
) -> Option<forwarded::Element<'a>> {
    if resolution.field() != Some(&ForwardingField::Forwarded) {
        return None;
    }
    let nth = resolution.verified().checked_sub(1)?;
    let lines = fields.get_all(ForwardingField::Forwarded.name());
    forwarded::element(nth_from_right(lines, nth)?).ok()
}

/// The value of a field beside the chain: where it has as many elements as the chain, the one that stands where the
/// client does, else the last.
fn aligned<'a>(
    name: &'a HeaderName,
    resolution: &Resolution<'_>,
    fields: &'a Fields,
) -> Option<&'a [u8]> {
    let lines = fields.get_all(name);
    let has_one_for_each = || {
        let elements = x_forwarded::elements(lines.clone()).count();
        elements > 1 && elements == resolution.entries().count()
    };
    let from_right = match resolution.verified() {
        verified @ 2.. if has_one_for_each() => verified - 1,
        _ => 0,
    };
    nth_from_right(lines, from_right)
}

fn nth_from_right<'a>(lines: Values<'a, 'a>, nth: usize) -> Option<&'a [u8]> {
    let mut elements = Elements::new(lines, Limits::HEAD);
    for _ in 0..nth {
        elements.step();
    }
    match elements.step() {
        Step::Element(element) => Some(element),
        Step::End | Step::OverLimit => None,
    }
}

fn write_chain<'a>(entries: impl Iterator<Item = Entry<'a>>, sink: &mut impl FieldSink) {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return;
    }
    sink.field_with("X-Forwarded-For", &mut |out| {
        join(out, &mut entries, |out, entry| match entry {
            Entry::Addr(addr) => write_ip(out, addr.ip()),
            Entry::Text(text) => out.extend_from_slice(text),
        });
    });
}

fn write_forwarded<'a>(
    mut statements: impl Iterator<Item = Statement<'a>>,
    sink: &mut impl FieldSink,
) {
    sink.field_with("Forwarded", &mut |out| {
        join(out, &mut statements, |out, statement| statement.write(out));
    });
}

/// Writes a list as one line.
fn join<T>(
    out: &mut Vec<u8>,
    items: &mut impl Iterator<Item = T>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    let mut separator: &[u8] = b"";
    for item in items {
        out.extend_from_slice(separator);
        write(out, item);
        separator = b", ";
    }
}

/// The fields that stay the same while client, scheme and port do.
fn write_constants(
    client: Option<Addr>,
    scheme: &str,
    port: Option<u16>,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    for field in &policy.sent {
        match field {
            SentField::XRealIp => {
                if let Some(addr) = client {
                    sink.field_with(field.title(), &mut |out| write_ip(out, addr.ip()));
                }
            }
            SentField::XForwardedProto | SentField::XForwardedScheme | SentField::XScheme => {
                sink.field(field.title(), scheme.as_bytes());
            }
            SentField::XForwardedPort => {
                if let Some(port) = port {
                    sink.field_with(field.title(), &mut |out| write_decimal(out, port));
                }
            }
            SentField::XForwardedHost
            | SentField::XOriginalForwardedFor
            | SentField::XOriginalForwardedHost
            | SentField::XOriginalUri => {}
        }
    }
}

fn write_host(host: Option<&[u8]>, policy: &EmitPolicy, sink: &mut impl FieldSink) {
    if let Some(host) =
        host.filter(|host| !host.is_empty() && policy.sends(SentField::XForwardedHost))
    {
        sink.field(SentField::XForwardedHost.title(), host);
    }
}

/// Repeats fields as they came, for those who must see what was claimed.
fn write_originals(
    walked: &HeaderName,
    fields: &Fields,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    for (field, name) in [
        (SentField::XOriginalForwardedFor, walked),
        (SentField::XOriginalForwardedHost, &X_FORWARDED_HOST),
    ] {
        if policy.sends(field) && fields.get_all(name).any(|line| !line.is_empty()) {
            sink.field_with(field.title(), &mut |out| write_raw(out, name, fields));
        }
    }
}

/// All lines of a field, joined, as far as the limit goes: its end, which the nearest hops wrote.
fn write_raw(out: &mut Vec<u8>, name: &HeaderName, fields: &Fields) {
    let begin = out.len();
    let mut lines = fields.get_all(name).filter(|line| !line.is_empty());
    join(out, &mut lines, Vec::extend_from_slice);
    let Some(excess @ 1..) = out.len().checked_sub(begin + MAX_ORIGINAL_BYTES) else {
        return;
    };
    let kept = out.get(begin + excess..).unwrap_or_default();
    let half_an_element = kept
        .iter()
        .position(|byte| *byte == b',')
        .map_or(0, |comma| comma + 1);
    out.drain(begin..begin + excess + half_an_element);
}

/// Bytes of a field repeated as received.
const MAX_ORIGINAL_BYTES: usize = 2 * 1024;

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

#[cfg(test)]
mod tests;
