//! What the upstream is told: which forwarding fields are removed from a request, and which are written.
//!
//! Works on the fields as they were received, so that what `Connection` nominates or another step strips changes nothing.
//! A managed name never passes through: what the upstream reads under it is ours or absent. Neither `Host` nor
//! `X-Original-URI` is written here, only whether they are wanted is known.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use http::header::{GetAll, HeaderMap, HeaderName, HeaderValue};

use super::forwarded::{self, Statement};
use super::x_forwarded::{
    self, Elements, Limits, Node, Step, X_FORWARDED_FOR, write_decimal, write_ip,
};
use super::{Addr, ForwardingField, Peer, Resolution, TrustPolicy};

mod names;

use names::NameSet;

/// Writes every forwarding field of a request; for a direct peer what [`emit_constant`] and [`emit_varying`] write.
///
/// `headers` are those that were resolved; `host` is the authority the client asked for.
pub fn emit(
    resolution: &Resolution<'_>,
    headers: &HeaderMap,
    host: Option<&[u8]>,
    local: &LocalEnd,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    let peer = resolution.peer();
    let Some(field) = resolution.field() else {
        emit_constant(&peer, local, policy, sink);
        emit_varying(&peer, headers, host, local, policy, sink);
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
            write_chain(full_chain(field, headers).chain(to_peer), sink);
        }
        XForwardedFor::Replace => write_chain(client.map(Entry::Addr).into_iter(), sink),
        XForwardedFor::Preserve => {
            write_chain(received(&X_FORWARDED_FOR, headers).map(Entry::Text), sink);
        }
        XForwardedFor::Off => {}
    }
    let stated = Stated::by_trusted_peer(resolution, headers, policy);
    let scheme = stated.scheme.unwrap_or(local.scheme.as_str());
    write_constants(client, scheme, stated.port.or(local.port), policy, sink);
    write_host(stated.host.or(host), policy, sink);
    write_originals(field.name(), headers, policy, sink);

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
    headers: &HeaderMap,
    host: Option<&[u8]>,
    local: &LocalEnd,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    if policy.keeps_untrusted() {
        let prior = received(&X_FORWARDED_FOR, headers).map(Entry::Text);
        write_chain(prior.chain(peer.addr().map(Entry::Addr)), sink);
    }
    write_host(host, policy, sink);
    write_originals(&policy.original_field, headers, policy, sink);
    if policy.forwarded != Forwarded::Off {
        write_forwarded([Statement::ours(peer, host, local)].into_iter(), sink);
    }
}

/// Which forwarding fields go upstream, and which are removed.
#[derive(Debug, Clone)]
pub struct EmitPolicy {
    x_forwarded_for: XForwardedFor,
    forwarded: Forwarded,
    sent: Vec<SentField>,
    upstream_host: UpstreamHost,
    removed: NameSet,
    /// Managed, and nobody's claim about a client.
    renewed: Option<HeaderName>,
    /// What `X-Original-Forwarded-For` repeats for a peer that no rule names.
    original_field: HeaderName,
}

impl EmitPolicy {
    /// Puts an operator's choices together with the trust policies of all listeners: what a rule names as its field must
    /// not come from anybody else.
    pub fn new<'t>(options: EmitOptions, trust: impl IntoIterator<Item = &'t TrustPolicy>) -> Self {
        let fields: Vec<&HeaderName> = trust
            .into_iter()
            .flat_map(TrustPolicy::fields)
            .map(ForwardingField::name)
            .collect();
        let sent = options.sent.iter().map(|field| field.title());
        let ours = options.managed.iter().chain(&options.renewed);
        let ours = ours.map(HeaderName::as_str);
        let strip = options.strip.iter().chain(fields.iter().copied());
        Self {
            removed: NameSet::new(sent.chain(ours), strip.map(HeaderName::as_str)),
            original_field: fields.first().copied().unwrap_or(&X_FORWARDED_FOR).clone(),
            x_forwarded_for: options.x_forwarded_for,
            forwarded: options.forwarded,
            sent: options.sent,
            renewed: options.renewed,
            upstream_host: options.upstream_host,
        }
    }

    /// Whether the client's copy of this field must not reach the upstream, in a request's head or in its trailers.
    ///
    /// Managed names always go, and so does a name that differs from a managed or stripped one only by `_` or `.` in the
    /// place of `-`; stripped names go when the peer is untrusted. Doesn't allocate.
    pub fn removes(&self, name: &HeaderName, from_trusted_peer: bool) -> bool {
        self.removed.removes(name.as_str(), from_trusted_peer)
    }

    /// The fields that an untrusted peer sent in vain; none for a trusted one. For logs and `whoami`.
    pub fn forged<'h>(&self, resolution: &Resolution<'h>) -> impl Iterator<Item = &'h HeaderName> {
        let judged = (!resolution.peer_is_trusted()).then(|| resolution.headers().keys());
        judged
            .into_iter()
            .flatten()
            .filter(|name| self.removes(name, false) && self.renewed.as_ref() != Some(name))
    }

    /// Whether the upstream gets this field. [`SentField::XOriginalUri`] is the caller's to write: only it has the target.
    pub fn sends(&self, field: SentField) -> bool {
        self.sent.contains(&field)
    }

    /// Whether an untrusted peer's chain is passed on.
    fn keeps_untrusted(&self) -> bool {
        self.x_forwarded_for == XForwardedFor::Append(Prior::Full(UntrustedPrior::Keep))
    }

    fn needs_scheme(&self) -> bool {
        use SentField::{XForwardedProto, XForwardedScheme, XScheme};
        let mut carriers = [XForwardedProto, XForwardedScheme, XScheme].into_iter();
        self.forwarded != Forwarded::Off || carriers.any(|field| self.sends(field))
    }

    fn needs_host(&self) -> bool {
        self.forwarded != Forwarded::Off || self.sends(SentField::XForwardedHost)
    }
}

impl Default for EmitPolicy {
    fn default() -> Self {
        Self::new(EmitOptions::default(), [])
    }
}

/// An operator's choices about forwarding fields; the default is the safe one.
#[derive(Debug, Clone)]
pub struct EmitOptions {
    /// `X-Forwarded-For`.
    pub x_forwarded_for: XForwardedFor,
    /// `Forwarded`.
    pub forwarded: Forwarded,
    /// The other fields to write.
    pub sent: Vec<SentField>,
    /// Names removed when the peer is untrusted, beside the managed ones and those that trust rules name.
    pub strip: Vec<HeaderName>,
    /// More names that nobody else may use, for fields written elsewhere.
    pub managed: Vec<HeaderName>,
    /// One that everybody may send for purposes of their own: to do so isn't forgery.
    pub renewed: Option<HeaderName>,
    /// What `Host` says upstream.
    pub upstream_host: UpstreamHost,
}

impl Default for EmitOptions {
    fn default() -> Self {
        Self {
            x_forwarded_for: XForwardedFor::Append(Prior::Verified),
            forwarded: Forwarded::Off,
            sent: vec![
                SentField::XRealIp,
                SentField::XForwardedProto,
                SentField::XForwardedHost,
                SentField::XForwardedPort,
            ],
            strip: names::STRIPPED
                .iter()
                .copied()
                .map(HeaderName::from_static)
                .collect(),
            managed: Vec::new(),
            renewed: None,
            upstream_host: UpstreamHost::AsReceived,
        }
    }
}

/// What `X-Forwarded-For` says upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XForwardedFor {
    /// Earlier entries and the peer.
    Append(Prior),
    /// The client alone.
    Replace,
    /// What a trusted peer sent, on one line; nothing from others.
    Preserve,
    /// Nothing.
    Off,
}

/// Which earlier entries stand before the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prior {
    /// Those that were believed: the leftmost is the client.
    Verified,
    /// All that a trusted peer sent; those in front of the client are an attacker's to choose.
    Full(UntrustedPrior),
}

/// What becomes of an untrusted peer's `X-Forwarded-For`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrustedPrior {
    /// It is dropped.
    Drop,
    /// It is passed on, as ingress-nginx does.
    Keep,
}

/// What `Forwarded` (RFC 7239) says upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing.
    Off,
    /// The entries that were believed, then our own element.
    Append,
    /// One element, about the client.
    Replace,
}

/// What `Host` says upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client asked for.
    AsReceived,
    /// What a trusted peer's X-Forwarded-Host says, as in the X-Forwarded-Host we send; else what the client asked for.
    Forwarded,
}

/// A field that `forwarded.headers` may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentField {
    /// The client's address.
    XRealIp,
    /// The scheme the client used.
    XForwardedProto,
    /// The authority the client asked for.
    XForwardedHost,
    /// The port the client connected to.
    XForwardedPort,
    /// As `X-Forwarded-Proto`.
    XForwardedScheme,
    /// As `X-Forwarded-Proto`.
    XScheme,
    /// The field that is walked, as received: unverified.
    XOriginalForwardedFor,
    /// `X-Forwarded-Host` as received: unverified.
    XOriginalForwardedHost,
    /// The request's target as received.
    XOriginalUri,
}

impl SentField {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::XRealIp,
        Self::XForwardedProto,
        Self::XForwardedHost,
        Self::XForwardedPort,
        Self::XForwardedScheme,
        Self::XScheme,
        Self::XOriginalForwardedFor,
        Self::XOriginalForwardedHost,
        Self::XOriginalUri,
    ];

    /// The one of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.title().eq_ignore_ascii_case(name))
    }

    /// Its name in the usual case.
    pub fn title(self) -> &'static str {
        match self {
            Self::XRealIp => "X-Real-IP",
            Self::XForwardedProto => "X-Forwarded-Proto",
            Self::XForwardedHost => "X-Forwarded-Host",
            Self::XForwardedPort => "X-Forwarded-Port",
            Self::XForwardedScheme => "X-Forwarded-Scheme",
            Self::XScheme => "X-Scheme",
            Self::XOriginalForwardedFor => "X-Original-Forwarded-For",
            Self::XOriginalForwardedHost => "X-Original-Forwarded-Host",
            Self::XOriginalUri => "X-Original-URI",
        }
    }
}

/// The scheme of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Our own end of the connection: what forwarding fields say when no trusted peer said better.
#[derive(Debug, Clone, Copy)]
pub struct LocalEnd {
    /// Our own connection's scheme, or that of the PROXY TLV SSL.
    pub scheme: Scheme,
    /// PROXY destination port, else `public_port`, else the local port; `None` on a Unix socket.
    pub port: Option<u16>,
    /// For `by=`: our own address; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
}

impl LocalEnd {
    /// As the listener knows it: `public_port` is the port by which the outside knows this one.
    pub fn new(
        scheme: Scheme,
        address: Option<SocketAddr>,
        public_port: Option<NonZeroU16>,
    ) -> Self {
        Self {
            scheme,
            port: public_port
                .map(NonZeroU16::get)
                .or(address.map(|address| address.port())),
            address,
        }
    }

    /// As the balancer that sent a PROXY header knows it: `destination` is where the client connected, `tls` whether it
    /// spoke TLS there, when the balancer said so. Port 443 speaks for itself: balancers that end TLS seldom send the TLV.
    #[must_use]
    pub fn behind_balancer(self, destination: SocketAddr, tls: Option<bool>) -> Self {
        let is_https = tls.unwrap_or(destination.port() == HTTPS_PORT);
        Self {
            scheme: if is_https { Scheme::Https } else { self.scheme },
            port: Some(destination.port())
                .filter(|port| *port != 0)
                .or(self.port),
            ..self
        }
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
    headers: &'a HeaderMap,
    host: Option<&'a [u8]>,
    policy: &EmitPolicy,
) -> Option<&'a [u8]> {
    let rewritten = policy.upstream_host == UpstreamHost::Forwarded && resolution.peer_is_trusted();
    let stated = rewritten.then(|| Stated::host(resolution, headers));
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
        headers: &'a HeaderMap,
        policy: &EmitPolicy,
    ) -> Self {
        let element = client_element(resolution, headers);
        let proto = |element: forwarded::Element<'a>| x_forwarded::scheme(element.proto?);
        let mut stated = Self::default();
        if policy.needs_scheme() {
            let text = || x_forwarded::scheme(aligned(&X_FORWARDED_PROTO, resolution, headers)?);
            stated.scheme = element.and_then(proto).or_else(text);
        }
        if policy.needs_host() {
            stated.host = Self::host(resolution, headers);
        }
        if policy.sends(SentField::XForwardedPort) {
            stated.port =
                aligned(&X_FORWARDED_PORT, resolution, headers).and_then(x_forwarded::port_number);
        }
        stated
    }

    fn host(resolution: &Resolution<'_>, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let in_element = client_element(resolution, headers).and_then(|element| element.host);
        in_element
            .filter(|host| x_forwarded::is_host(host))
            .or_else(|| {
                aligned(&X_FORWARDED_HOST, resolution, headers)
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
    headers: &'a HeaderMap,
) -> impl Iterator<Item = Entry<'a>> {
    let name = match field {
        ForwardingField::Forwarded => field.name(),
        ForwardingField::XForwardedFor | ForwardingField::SingleAddress(_) => &X_FORWARDED_FOR,
    };
    received(name, headers).map(move |text| match (field, forwarded::node(text)) {
        (ForwardingField::Forwarded, Node::Addr(addr, _)) => Entry::Addr(addr),
        (ForwardingField::Forwarded, _) => Entry::Text(b"unknown"),
        (ForwardingField::XForwardedFor | ForwardingField::SingleAddress(_), _) => {
            Entry::Text(text)
        }
    })
}

/// The elements of a list field as they came.
fn received<'a>(
    name: &HeaderName,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    elements(&headers.get_all(name))
}

fn elements<'a>(lines: &GetAll<'a, HeaderValue>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    x_forwarded::elements(lines.iter().map(HeaderValue::as_bytes))
}

/// The element that names the client, when the chain is a `Forwarded` one.
fn client_element<'a>(
    resolution: &Resolution<'_>,
    headers: &'a HeaderMap,
) -> Option<forwarded::Element<'a>> {
    if resolution.field() != Some(&ForwardingField::Forwarded) {
        return None;
    }
    let nth = resolution.verified().checked_sub(1)?;
    let lines = headers.get_all(http::header::FORWARDED);
    forwarded::element(nth_from_right(&lines, nth)?).ok()
}

/// The value of a field beside the chain: where it has as many elements as the chain, the one that stands where the
/// client does, else the last.
fn aligned<'a>(
    name: &HeaderName,
    resolution: &Resolution<'_>,
    headers: &'a HeaderMap,
) -> Option<&'a [u8]> {
    let lines = headers.get_all(name);
    let has_one_for_each = || {
        let elements = elements(&lines).count();
        elements > 1 && elements == resolution.entries().count()
    };
    let from_right = match resolution.verified() {
        verified @ 2.. if has_one_for_each() => verified - 1,
        _ => 0,
    };
    nth_from_right(&lines, from_right)
}

fn nth_from_right<'a>(lines: &GetAll<'a, HeaderValue>, nth: usize) -> Option<&'a [u8]> {
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
    headers: &HeaderMap,
    policy: &EmitPolicy,
    sink: &mut impl FieldSink,
) {
    for (field, name) in [
        (SentField::XOriginalForwardedFor, walked),
        (SentField::XOriginalForwardedHost, &X_FORWARDED_HOST),
    ] {
        if policy.sends(field) && headers.get_all(name).iter().any(|line| !line.is_empty()) {
            sink.field_with(field.title(), &mut |out| write_raw(out, name, headers));
        }
    }
}

/// All lines of a field, joined, as far as the limit goes: its end, which the nearest hops wrote.
fn write_raw(out: &mut Vec<u8>, name: &HeaderName, headers: &HeaderMap) {
    let begin = out.len();
    let mut lines = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|line| !line.is_empty());
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

const HTTPS_PORT: u16 = 443;

/// Bytes of a field repeated as received.
const MAX_ORIGINAL_BYTES: usize = 2 * 1024;

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

#[cfg(test)]
mod tests;
