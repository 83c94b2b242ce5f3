//! The built-in echo upstream: answers with what reached it, and with who the client was.
//!
//! Paths, text lines and JSON keys are those of traefik/whoami, so that whatever reads its answers
//! reads these; `ClientIP`, `ClientIPSource`, `Hop` and `Forged` lines (JSON: `clientIP`,
//! `clientIPSource`, `hops`, `forged`) are ours.
//!
//! | path | answer |
//! | --- | --- |
//! | `/data?size=N&unit=KB&attachment=true` | exactly that many bytes; units KB, MB, GB, TB |
//! | `/bench` | `1` |
//! | `/api` | JSON, readable from any web page (CORS) |
//! | `/health` | the status last set by `POST /health` with a number for a body, 200 at first |
//! | `/echo` | to a WebSocket, every message it sends; to anything else 400 |
//! | any other | text; `?wait=DURATION` delays it ([`delay`]) |
//!
//! Different from traefik/whoami on purpose: `?env=true` is ignored, because the environment holds
//! secrets; no `User-Agent` is made up where none was sent; an HTTP/2 request says so in its
//! request line; `/data` sends `Content-Length`, serves no ranges, and sends as many bytes as asked
//! for, where the original drops one now and then; JSON isn't escaped for HTML.
//!
//! Left out: reading the request's body, waiting, and the connection. Those are the caller's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;

use crate::fields::{Fields, is};

pub mod websocket;

/// A request as an upstream would have seen it.
#[derive(Debug)]
pub struct Echo<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target; only path and query are used.
    pub uri: &'a Uri,
    /// The version the request came with.
    pub version: Version,
    /// The fields, forwarding fields included and hop-by-hop fields gone. `Host` isn't printed from
    /// here.
    pub fields: &'a Fields,
    /// The authority of the request.
    pub host: &'a str,
    /// Who connected, with the port.
    pub remote_addr: &'a str,
    /// The body's beginning: at most [`MAX_BODY_BYTES`]; what came after isn't echoed.
    pub body: &'a [u8],
    /// Who the client is.
    pub client: ClientFacts,
}

/// How much of a request body is worth collecting for [`Echo::body`].
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What was found out about the client, as it is to be shown.
#[derive(Debug, Clone, Default)]
pub struct ClientFacts {
    /// The client's address.
    pub ip: String,
    /// Where it was found: `peer`, `proxy_protocol`, `header:x-forwarded-for`.
    pub source: String,
    /// The hops that were believed, one line each.
    pub hops: Vec<String>,
    /// What was removed from the request, and why.
    pub forged: Option<String>,
}

/// Who answers: found out once, because the data plane reads no files.
#[derive(Debug)]
pub struct Identity {
    hostname: String,
    addresses: Vec<IpAddr>,
    name: Option<String>,
    health: AtomicU16,
}

impl Identity {
    /// Asks the system for the host's name and its addresses.
    ///
    /// Reads a few files under /proc; where there are none, the name comes from the environment and
    /// the addresses are the loopback ones. `name` is printed as it stands.
    pub fn collect(name: Option<String>) -> Self {
        Self::new(hostname(), local_addresses(), name)
    }

    /// An identity with everything given.
    pub fn new(hostname: String, addresses: Vec<IpAddr>, name: Option<String>) -> Self {
        Self {
            hostname,
            addresses,
            name,
            health: AtomicU16::new(StatusCode::OK.as_u16()),
        }
    }
}

/// What `/echo` says to a WebSocket handshake: yes, with the key's answer, before an [`websocket::EchoPeer`] takes over.
/// `None` when it isn't one that this version of the protocol knows, or goes elsewhere.
pub fn agree(uri: &Uri, fields: &Fields, key: &[u8]) -> Option<HeaderValue> {
    let version = fields.get(&header::SEC_WEBSOCKET_VERSION)?;
    let fits = uri.path() == "/echo" && version == b"13" && key.len() == 24;
    fits.then(|| HeaderValue::try_from(super::websocket::accept(key)).ok())
        .flatten()
}

/// Answers one request. `POST /health` changes what `identity` answers later; nothing else does.
///
/// The answer to HEAD has the fields of the answer to GET and no body.
pub fn answer(request: &Echo<'_>, identity: &Identity) -> Response<Answer> {
    let mut response = match request.uri.path() {
        "/data" => data(request),
        "/bench" => text("1"),
        "/api" => api(request, identity),
        "/health" => health(request, identity),
        "/echo" => not_a_websocket(),
        _ => echo(request, identity),
    };
    let length = HeaderValue::from(response.body().remaining());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    if *request.method == Method::HEAD {
        *response.body_mut() = Answer::Full(Bytes::new());
    }
    response
}

/// How long `?wait=` asks to wait before the answer: a Go duration such as `1.5s` or `1m30s`.
///
/// Nothing for other paths, unreadable or negative durations; never more than [`MAX_DELAY`].
pub fn delay(uri: &Uri) -> Option<Duration> {
    if matches!(
        uri.path(),
        "/data" | "/bench" | "/api" | "/health" | "/echo"
    ) {
        return None;
    }
    let delay = duration(parameter(uri, "wait")?)?;
    (!delay.is_zero()).then_some(delay.min(MAX_DELAY))
}

/// The longest a client can have an answer delayed.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// All of it.
    Full(Bytes),
    /// A generated pattern of any length, in constant memory.
    Pattern(Pattern),
}

/// `|ABCD…|`: generated piece by piece.
#[derive(Debug, Clone)]
pub struct Pattern {
    at: u64,
    length: u64,
}

impl Answer {
    /// The next piece, never empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        match self {
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then_some(bytes)
            }
            Self::Pattern(pattern) => pattern.next_piece(),
        }
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> u64 {
        match self {
            Self::Full(bytes) => bytes.len() as u64,
            Self::Pattern(pattern) => pattern.length - pattern.at,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.get_mut().next_piece();
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

impl Pattern {
    fn next_piece(&mut self) -> Option<Bytes> {
        let last = self.length.checked_sub(1)?;
        let piece = if self.at > last {
            return None;
        } else if self.at == 0 || self.at == last {
            Bytes::from_static(b"|")
        } else {
            let start = usize::try_from(self.at % ALPHABET.len() as u64).unwrap_or_default();
            let run = TILES.get(start..).unwrap_or_default();
            let wanted = usize::try_from(last - self.at).unwrap_or(usize::MAX);
            Bytes::from_static(run.get(..wanted).unwrap_or(run))
        };
        self.at += piece.len() as u64;
        Some(piece)
    }
}

const ALPHABET: &[u8; 27] = b"-ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The alphabet over and over: large enough that a piece of it is worth a write.
static TILES: [u8; 27 * 1200] = {
    let mut tiles = [0; 27 * 1200];
    let mut at = 0;
    while at < tiles.len() {
        #[expect(
            clippy::indexing_slicing,
            reason = "both are in bounds, at compile time"
        )]
        {
            tiles[at] = ALPHABET[at % ALPHABET.len()];
        }
        at += 1;
    }
    tiles
};

fn echo(request: &Echo<'_>, identity: &Identity) -> Response<Answer> {
    let mut out = Vec::with_capacity(1024 + request.body.len());
    if let Some(name) = &identity.name {
        line(&mut out, "Name", name);
    }
    line(&mut out, "Hostname", &identity.hostname);
    for address in &identity.addresses {
        line(&mut out, "IP", &address.to_string());
    }
    line(&mut out, "ClientIP", &request.client.ip);
    line(&mut out, "ClientIPSource", &request.client.source);
    for hop in &request.client.hops {
        line(&mut out, "Hop", hop);
    }
    if let Some(forged) = &request.client.forged {
        line(&mut out, "Forged", forged);
    }
    line(&mut out, "RemoteAddr", request.remote_addr);
    write_request(&mut out, request);
    text(out)
}

fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// The request as Go's `Request.Write` prints one: a few fields first, the others sorted.
fn write_request(out: &mut Vec<u8>, request: &Echo<'_>) {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target(request.uri).as_bytes());
    out.extend_from_slice(format!(" {:?}\r\n", request.version).as_bytes());
    write_field(out, "Host", request.host.as_bytes());
    let mut fields = sorted_fields(request.fields);
    let first = FIRST_FIELDS.map(|name| fields.remove_entry(name));
    for (name, values) in first.into_iter().flatten().chain(fields) {
        for value in values {
            write_field(out, &name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(request.body);
}

const FIRST_FIELDS: [&str; 4] = [
    "User-Agent",
    "Content-Length",
    "Transfer-Encoding",
    "Trailer",
];

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// All fields but `Host`, by canonical name.
fn sorted_fields(fields: &Fields) -> BTreeMap<String, Vec<&[u8]>> {
    let mut sorted = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in fields.iter().filter(|(name, _)| !is(name, "Host")) {
        sorted.entry(canonical(name)).or_default().push(value);
    }
    sorted
}

/// `x-real-IP` → `X-Real-Ip`.
fn canonical(name: &[u8]) -> String {
    let mut previous = b'-';
    name.iter()
        .map(|byte| {
            let begins_word = previous == b'-';
            previous = *byte;
            char::from(if begins_word {
                byte.to_ascii_uppercase()
            } else {
                byte.to_ascii_lowercase()
            })
        })
        .collect()
}

fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The answer of `/api`, in the original's key order, ours at the end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Api<'a> {
    hostname: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ip: &'a [IpAddr],
    headers: BTreeMap<String, Vec<Cow<'a, str>>>,
    url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    remote_addr: &'a str,
    #[serde(rename = "clientIP")]
    client_ip: &'a str,
    #[serde(rename = "clientIPSource")]
    client_ip_source: &'a str,
    hops: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    forged: Option<&'a str>,
}

fn api(request: &Echo<'_>, identity: &Identity) -> Response<Answer> {
    let headers = sorted_fields(request.fields)
        .into_iter()
        .map(|(name, values)| {
            let values = values.into_iter().map(String::from_utf8_lossy);
            (name, values.collect())
        })
        .collect();
    let facts = Api {
        hostname: &identity.hostname,
        ip: &identity.addresses,
        headers,
        url: target(request.uri),
        host: request.host,
        method: request.method.as_str(),
        name: identity.name.as_deref(),
        remote_addr: request.remote_addr,
        client_ip: &request.client.ip,
        client_ip_source: &request.client.source,
        hops: &request.client.hops,
        forged: request.client.forged.as_deref(),
    };
    // Maps keyed by strings and lists of strings: nothing here fails to serialize.
    let mut json = serde_json::to_vec(&facts).unwrap_or_default();
    json.push(b'\n');
    let mut response = Response::new(Answer::Full(json.into()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("*"),
    );
    response
}

fn health(request: &Echo<'_>, identity: &Identity) -> Response<Answer> {
    if *request.method != Method::POST {
        let status = StatusCode::from_u16(identity.health.load(Ordering::Relaxed));
        let mut response = Response::new(Answer::Full(Bytes::new()));
        *response.status_mut() = status.unwrap_or_default();
        return response;
    }
    match final_status(request.body) {
        Some(status) => {
            identity.health.store(status.as_u16(), Ordering::Relaxed);
            Response::new(Answer::Full(Bytes::new()))
        }
        None => with_status(
            StatusCode::BAD_REQUEST,
            "the body must be a status code from 200 to 999\n",
        ),
    }
}

/// An interim status can't be an answer.
fn final_status(body: &[u8]) -> Option<StatusCode> {
    let digits = body.trim_ascii();
    StatusCode::from_bytes(digits)
        .ok()
        .filter(|status| !status.is_informational())
}

fn not_a_websocket() -> Response<Answer> {
    let mut response = with_status(StatusCode::BAD_REQUEST, "Bad Request\n");
    response.headers_mut().insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    response
}

fn data(request: &Echo<'_>) -> Response<Answer> {
    let size = parameter(request.uri, "size").and_then(|size| size.parse::<i64>().ok());
    // A negative size is an empty answer; none, or one that is no number, a byte.
    let size = size.map_or(1, |size| u64::try_from(size).unwrap_or(0));
    let unit = parameter(request.uri, "unit").unwrap_or_default();
    let shift = ["kb", "mb", "gb", "tb"]
        .iter()
        .position(|name| unit.eq_ignore_ascii_case(name))
        .map_or(0, |power| 10 * (power + 1));
    let length = size.saturating_mul(1 << shift);
    let mut response = text("");
    *response.body_mut() = Answer::Pattern(Pattern { at: 0, length });
    if parameter(request.uri, "attachment").is_some_and(is_true) {
        response.headers_mut().insert(
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("Attachment"),
        );
    }
    response
}

/// What Go's `ParseBool` takes for true.
fn is_true(word: &str) -> bool {
    matches!(word, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn text(body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Full(body.into()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    // The answer repeats what the client sent: it must never be taken for a page.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn with_status(status: StatusCode, body: &'static str) -> Response<Answer> {
    let mut response = text(body);
    *response.status_mut() = status;
    response
}

/// The first value of a query parameter, as written: no option here needs percent-encoding.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// Reads a Go duration: one or more of a decimal number and a unit. Negative ones are nothing.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    loop {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let next = tail
            .find(|char: char| char.is_ascii_digit() || char == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at_checked(next)?;
        let seconds = number.parse::<f64>().ok()? * seconds_of(unit)?;
        let part = Duration::try_from_secs_f64(seconds).ok()?;
        total = total.checked_add(part)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The addresses of all interfaces, IPv4 first; the kernel's tables, because std knows none.
fn local_addresses() -> Vec<IpAddr> {
    let routes = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let v4 = ipv4_in_routes(&routes).into_iter().map(IpAddr::V4);
    let v6 = ipv6_in_interfaces(&interfaces).map(IpAddr::V6);
    let addresses: Vec<_> = v4.chain(v6).collect();
    if addresses.is_empty() {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    addresses
}

/// An address of ours is a leaf followed by `/32 host LOCAL`; each stands in several tables.
fn ipv4_in_routes(table: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut leaf = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if let Some(address) = leaf.filter(|_| line == "/32 host LOCAL")
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Lines of 32 hex digits, then interface details.
fn ipv6_in_interfaces(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let digits = line.split_ascii_whitespace().next()?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(Ipv6Addr::from(bits))
    })
}

#[cfg(test)]
mod tests;
