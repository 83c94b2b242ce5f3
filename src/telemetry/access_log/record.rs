//! What is known about a request.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body::Frame;

use super::LocalLog;
use super::redact;
use crate::client_ip::{Peer, ProxySource, SocketPeer};
use crate::config::RedactQuery;
use crate::telemetry::traces::Trace;

/// What is kept of one value.
pub(super) const MAX_VALUE_BYTES: usize = 256;

/// Forwarding lines that are kept, those nearest to us.
pub const MAX_FORWARDED_LINES: usize = 8;

/// A request in the making of its record; dropped, and so written, at its end.
#[derive(Debug)]
pub struct Record {
    facts: Facts,
    begun: Instant,
    /// What has come of the request's body, counted by who reads it.
    received: Option<Rc<Cell<u64>>>,
    /// Whether a line is written of it.
    is_logged: bool,
    trace: Option<Trace>,
    log: Rc<LocalLog>,
}

/// What a record says.
#[derive(Debug, Default)]
pub struct Facts {
    pub(super) text: Text,
    /// Name and value, as they came.
    pub(super) forwarded: Vec<(Span, Span)>,
    /// The resolved client.
    pub client_ip: Option<IpAddr>,
    /// Why that one: `direct_peer`, `first_untrusted`… Empty: nobody has looked yet.
    pub client_ip_reason: &'static str,
    /// Who connected.
    pub(in crate::telemetry) peer: Option<SocketPeer>,
    /// Whom its PROXY header named.
    pub(super) proxied: Option<ProxySource>,
    /// Forwarding entries that were discarded.
    pub forged: usize,
    /// HTTP's, of the request.
    pub version: Option<Version>,
    /// Sent to the client; `None` when it left before.
    pub status: Option<StatusCode>,
    /// The precise cause of a failure.
    pub error: Option<&'static str>,
    pub(in crate::telemetry) duration: Duration,
    /// From when the request was meant for an upstream to the head of the response.
    pub upstream: Option<Duration>,
    /// Body bytes that came from the client, or through a tunnel.
    pub bytes_in: u64,
    /// Body bytes handed to the client's connection, or to the client through a tunnel.
    pub bytes_out: u64,
}

/// Pieces of text in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Tells the request from all others, in answers and logs.
    RequestId,
    /// The listener's name.
    Listener,
    /// The route's name, once one was found.
    Route,
    /// The upstream's name, once the request was meant for it.
    Upstream,
    /// The endpoint that answered.
    Endpoint,
    /// As received.
    Method,
    /// As received, without the query.
    Path,
    /// Without its question mark.
    Query,
    /// Whom the client wanted to talk to.
    Host,
    /// As received.
    UserAgent,
    /// As received.
    Referer,
    /// Where the client's address was found: `peer`, `header:x-forwarded-for`…
    ClientIpSource,
}

const FIELDS: usize = 12;

/// Everything textual of a record, in one buffer that serves one record after another.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    spans: [Option<Span>; FIELDS],
}

/// Where a piece of text is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
    pub(super) cut: Cut,
}

/// Where a value that was too long has lost something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) enum Cut {
    Nowhere,
    Front,
    Back,
}

impl Record {
    /// Of a request that begins now.
    pub fn begin(log: &Rc<LocalLog>, peer: &Peer) -> Box<Self> {
        Box::new(Self {
            facts: Facts {
                text: log.spare_text(),
                peer: Some(peer.socket),
                proxied: peer.proxied,
                ..Facts::default()
            },
            begun: Instant::now(),
            received: None,
            is_logged: true,
            trace: None,
            log: Rc::clone(log),
        })
    }

    /// Has a span made of it; a line only if `is_logged`.
    pub fn traced(&mut self, trace: Trace, is_logged: bool) {
        self.trace = Some(trace);
        self.is_logged = is_logged;
    }

    /// What it is in its trace, if it is in one.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Notes what was asked for; `query` without its question mark.
    pub fn target(&mut self, path: &str, query: Option<&str>) {
        self.facts.set(Field::Path, path);
        let Some(query) = query else { return };
        match &self.log.config().redact_query {
            RedactQuery::Whole => {}
            RedactQuery::Values(names) if names.is_empty() => self.facts.set(Field::Query, query),
            RedactQuery::Values(names) => {
                let redacted = redact::query(query.as_bytes(), names);
                self.facts.set(Field::Query, redacted);
            }
        }
    }

    /// Notes from where the client came; the query in it is treated as the request's own.
    pub fn referer(&mut self, referer: &[u8]) {
        let question_mark = referer.iter().position(|byte| *byte == b'?');
        let (before, query) = referer
            .split_at_checked(question_mark.unwrap_or(referer.len()))
            .unwrap_or_default();
        let redacted = match &self.log.config().redact_query {
            RedactQuery::Whole => before.to_vec(),
            RedactQuery::Values(names) if !names.is_empty() && !query.is_empty() => {
                let query = query.strip_prefix(b"?").unwrap_or(query);
                [before, b"?", &redact::query(query, names)].concat()
            }
            RedactQuery::Values(_) => return self.facts.set(Field::Referer, referer),
        };
        self.facts.set(Field::Referer, redacted);
    }

    /// Who counts the bytes of the request's body.
    pub fn receive(&mut self) -> Rc<Cell<u64>> {
        Rc::clone(self.received.get_or_insert_default())
    }

    /// Notes that the head of the endpoint's response has come; the request was sent to it at `begun`.
    pub fn answered(&mut self, begun: Instant) {
        self.facts.upstream = Some(begun.elapsed());
    }

    /// Counts a piece of the response body.
    pub fn sent<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>) {
        match frame {
            Some(Ok(frame)) => {
                self.facts.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Some(Err(_)) => self.facts.error = Some("upstream_body"),
            None => {}
        }
    }

    /// Notes that the client has left before it had everything, unless there is a cause for that.
    pub fn abandoned(&mut self) {
        self.facts.error.get_or_insert("client_left");
    }

    /// Makes itself small: it will be around for long.
    pub fn lasts(&mut self) {
        self.facts.text.bytes.shrink_to_fit();
    }

    /// What has gone through a tunnel up to now.
    pub fn tunnelled(&mut self, bytes_in: u64, bytes_out: u64) {
        self.facts.bytes_in = bytes_in;
        self.facts.bytes_out = bytes_out;
    }
}

impl Deref for Record {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.facts.status.is_none() {
            self.abandoned();
        }
        if let Some(received) = &self.received {
            self.facts.bytes_in += received.get();
        }
        self.facts.duration = self.begun.elapsed();
        if self.is_logged {
            self.log.write(&self.facts);
        }
        if let Some(trace) = &self.trace {
            self.log.export(trace, &self.facts);
        }
        self.log.reuse(std::mem::take(&mut self.facts.text));
    }
}

impl Facts {
    /// Keeps the beginning of a value.
    pub fn set(&mut self, field: Field, value: impl AsRef<[u8]>) {
        let span = self.text.append(value.as_ref(), Cut::Back);
        self.text.put(field, span);
    }

    /// As [`Self::set`], for what isn't text yet.
    pub fn show(&mut self, field: Field, value: impl fmt::Display) {
        let span = self.text.show(value);
        self.text.put(field, span);
    }

    /// Keeps a line that names addresses: its end, which was written by those nearest to us.
    pub fn forwarded(&mut self, name: &str, value: &[u8]) {
        let name = match self.forwarded.last() {
            Some((known, _)) if self.text.at(*known) == name.as_bytes() => *known,
            _ => self.text.append(name.as_bytes(), Cut::Back),
        };
        let value = self.text.append(value, Cut::Front);
        if self.forwarded.len() == MAX_FORWARDED_LINES {
            self.forwarded.remove(0);
        }
        self.forwarded.push((name, value));
    }

    /// Whether lines of this name are kept already.
    pub fn has_forwarded(&self, name: &str) -> bool {
        self.forwarded
            .iter()
            .any(|(known, _)| self.text.at(*known) == name.as_bytes())
    }

    pub(in crate::telemetry) fn get(&self, field: Field) -> Option<(&[u8], Cut)> {
        let span = self.text.spans.get(field as usize).copied().flatten()?;
        Some((self.text.at(span), span.cut))
    }

    pub(super) fn at(&self, span: Span) -> &[u8] {
        self.text.at(span)
    }
}

impl Text {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.spans = [None; FIELDS];
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn at(&self, span: Span) -> &[u8] {
        let piece = span.start as usize..span.end as usize;
        self.bytes.get(piece).unwrap_or_default()
    }

    fn put(&mut self, field: Field, span: Span) {
        if let Some(slot) = self.spans.get_mut(field as usize) {
            *slot = Some(span);
        }
    }

    fn append(&mut self, value: &[u8], if_long: Cut) -> Span {
        let excess = value.len().saturating_sub(MAX_VALUE_BYTES);
        let (kept, cut) = match if_long {
            _ if excess == 0 => (value, Cut::Nowhere),
            Cut::Front => (value.get(excess..).unwrap_or_default(), Cut::Front),
            _ => (value.get(..MAX_VALUE_BYTES).unwrap_or_default(), Cut::Back),
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(kept);
        self.since(start, cut)
    }

    fn show(&mut self, value: impl fmt::Display) -> Span {
        let start = self.bytes.len();
        // `Bounded` refuses what is too long, and that is then cut.
        let shown = write!(Bounded(&mut self.bytes, start + MAX_VALUE_BYTES), "{value}");
        let cut = if shown.is_ok() {
            Cut::Nowhere
        } else {
            Cut::Back
        };
        self.since(start, cut)
    }

    fn since(&self, start: usize, cut: Cut) -> Span {
        // A few dozen values of 256 bytes: far from what wouldn't fit.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span {
            start: place(start),
            end: place(self.bytes.len()),
            cut,
        }
    }
}

/// Takes text up to a length of the buffer.
struct Bounded<'a>(&'a mut Vec<u8>, usize);

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.1.saturating_sub(self.0.len());
        let fitting = text.as_bytes().get(..room);
        self.0.extend_from_slice(fitting.unwrap_or(text.as_bytes()));
        match fitting {
            Some(fitting) if fitting.len() < text.len() => Err(fmt::Error),
            _ => Ok(()),
        }
    }
}
