//! Reads a request head, and decides how its body ends.
//!
//! Strict where leniency would let two readers disagree about a request: its line, its framing, its field lines.
//! Lenient only where nothing depends on it: a line may end in a bare LF, and empty lines before a request are passed
//! over (RFC 9112 §2.2). Each doubt is a [`Refused`]: the client is told, and its connection ends.
//!
//! Left out: what a Host, a target or a method means, which is for those who route.

use bytes::{Buf, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};

use super::decimal;
use super::fields::{self, Persistence, members};
use super::lines::Lines;
use super::refused::{Place, Refused};
use crate::fields::{Fields, is, is_token};
use crate::request::Request;

/// Bounds on a request head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes from the request line to the empty line, both included.
    pub max_bytes: usize,
    /// Field lines.
    pub max_fields: usize,
    /// Of the request target, in bytes.
    pub max_target_bytes: usize,
}

/// A request head.
#[derive(Debug)]
pub struct Head {
    /// As received.
    pub request: Request,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the client lets the connection carry another request (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client may wait for 100 Continue before it sends the body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// Whether the client takes trailers (RFC 9110 §6.5.1).
    pub accepts_trailers: bool,
}

/// How a request body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, or one of no bytes.
    None,
    /// After so many bytes, more than none.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// Reads the heads of one connection, each from however many reads it comes in.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    /// Of the head at hand.
    lines: Lines,
    /// Whether its request line has been found to be one.
    line_checked: bool,
}

type Check<T> = Result<T, Refused>;

#[cold]
const fn refused(status: StatusCode, reason: &'static str) -> Refused {
    Refused {
        status,
        reason,
        place: Place::Head,
    }
}

#[cold]
const fn bad(reason: &'static str) -> Refused {
    refused(StatusCode::BAD_REQUEST, reason)
}

const TOO_LARGE: Refused = refused(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
);
const TOO_MANY_FIELDS: Refused = refused(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too_many_fields",
);
const TARGET_TOO_LONG: Refused = refused(StatusCode::URI_TOO_LONG, "target_too_long");

impl Reader {
    /// For a connection whose first byte is to come.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: Lines::default(),
            line_checked: false,
        }
    }

    /// Takes a whole head off the front of `buffer`; `Ok(None)` asks for more bytes, and leaves those of a head that has
    /// begun. The values share the buffer's memory, unless that `is_lent`: a request may last.
    ///
    /// # Errors
    /// [`Refused`]: the connection must not carry another request.
    pub fn read(&mut self, buffer: &mut BytesMut, is_lent: bool) -> Result<Option<Head>, Refused> {
        if self.lines.is_untouched() {
            skip_empty_lines(buffer);
            if matches!(buffer.as_ref(), [] | [b'\r']) {
                return Ok(None);
            }
        }
        let window = buffer.get(..self.limits.max_bytes).unwrap_or(buffer);
        match self.lines.find_end(window) {
            Ok(length) => {
                self.line_checked = false;
                let head = buffer.split_to(length).freeze();
                let head = if is_lent {
                    Bytes::copy_from_slice(&head)
                } else {
                    head
                };
                self.parse(head).map(Some)
            }
            Err(_) if buffer.len() >= self.limits.max_bytes => Err(TOO_LARGE),
            Err(new) => {
                self.check_partial(buffer, new)?;
                Ok(None)
            }
        }
    }

    /// What is refused before it is complete: what can't become a request line, and control characters.
    fn check_partial(&mut self, buffer: &[u8], new: &[u8]) -> Check<()> {
        if new.iter().copied().any(fields::is_out_of_place) {
            return Err(bad("head"));
        }
        if self.line_checked {
            return Ok(());
        }
        if let Some(line) = self.lines.first(buffer) {
            RequestLine::parse(line, &self.limits)?;
            self.line_checked = true;
            return Ok(());
        }
        let mut words = buffer.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        // However little of it comes at a time, no byte is judged twice.
        let seen = buffer.len() - new.len();
        if !method.iter().skip(seen).copied().all(is_token) {
            return Err(bad("request_line"));
        }
        match words.next() {
            Some(target) if target.len() > self.limits.max_target_bytes => Err(TARGET_TOO_LONG),
            _ => Ok(()),
        }
    }

    fn parse(&self, head: Bytes) -> Check<Head> {
        let line = self.lines.first(&head).unwrap_or_default();
        let line = RequestLine::parse(line, &self.limits)?;
        let method = Method::from_bytes(line.method).map_err(|_| bad("method"))?;
        let target = head.slice_ref(line.target);
        let uri = Uri::from_maybe_shared(target).map_err(|_| bad("target"))?;
        let uri = with_path(uri).ok_or_else(|| bad("target"))?;
        let version = line.version;

        let lines = self.lines.fields();
        if lines.len() > self.limits.max_fields {
            return Err(TOO_MANY_FIELDS);
        }
        if !fields::is_text(&head) {
            return Err(bad("field"));
        }
        let mut found = Vec::with_capacity(lines.len());
        let mut notes = Notes::new(version);
        for line in lines {
            let line = fields::find(&head, line).ok_or_else(|| bad("field"))?;
            let (name, value) = line.read(&head);
            notes.note(name, value)?;
            found.push(line);
        }
        Ok(notes.into_head(Request {
            method,
            uri,
            version,
            connects_websocket: false,
            fields: Fields::received(head, found),
        }))
    }
}

/// An absolute target may leave its path out, in front of a query too (RFC 3986 §3.3, RFC 9112 §3.2.2).
fn with_path(uri: Uri) -> Option<Uri> {
    match uri.path_and_query() {
        Some(query) if query.as_str().starts_with('?') && uri.authority().is_some() => {
            let target = PathAndQuery::try_from(format!("/{}", query.as_str())).ok()?;
            let mut parts = uri.into_parts();
            parts.path_and_query = Some(target);
            Uri::from_parts(parts).ok()
        }
        _ => Some(uri),
    }
}

fn skip_empty_lines(buffer: &mut BytesMut) {
    loop {
        let len = match buffer.as_ref() {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => return,
        };
        buffer.advance(len);
    }
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// RFC 9112 §3. One space on either side of the target; the version is one we speak.
    fn parse(line: &'a [u8], limits: &Limits) -> Check<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad("request_line"));
        };
        if target.len() > limits.max_target_bytes {
            return Err(TARGET_TOO_LONG);
        }
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(bad("method"));
        }
        // A fragment never belongs in a request, and would be cut off unseen.
        if !target
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b'#')
        {
            return Err(bad("target"));
        }
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            _ => return Err(unknown_version(version)),
        };
        Ok(Self {
            method,
            target,
            version,
        })
    }
}

fn unknown_version(version: &[u8]) -> Refused {
    match version {
        // A version we don't speak, as against something that isn't one (RFC 9110 §15.6.6).
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'0' | b'2'..=b'9',
            b'.',
            minor,
        ] if minor.is_ascii_digit() => refused(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version"),
        _ => bad("version"),
    }
}

/// What fields say about the message they belong to.
#[derive(Debug)]
struct Notes {
    version: Version,
    length: Option<u64>,
    chunked: bool,
    persistence: Persistence,
    expects_continue: bool,
    accepts_trailers: bool,
}

impl Notes {
    fn new(version: Version) -> Self {
        Self {
            version,
            length: None,
            chunked: false,
            persistence: Persistence::default(),
            expects_continue: false,
            accepts_trailers: false,
        }
    }

    fn note(&mut self, name: &[u8], value: &[u8]) -> Check<()> {
        if is(name, "Content-Length") {
            if self.length.is_some() || self.chunked {
                return Err(bad("content_length"));
            }
            self.length = Some(decimal::parse(value).ok_or_else(|| bad("content_length"))?);
        } else if is(name, "Transfer-Encoding") {
            let unambiguous = self.length.is_none()
                && !self.chunked
                && self.version == Version::HTTP_11
                && value.eq_ignore_ascii_case(b"chunked");
            if !unambiguous {
                return Err(bad("transfer_encoding"));
            }
            self.chunked = true;
        } else if is(name, "Connection") {
            self.persistence.note(value);
        } else if is(name, "Expect") {
            self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        } else if is(name, "TE") {
            self.accepts_trailers |=
                members(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        }
        Ok(())
    }

    fn into_head(self, request: Request) -> Head {
        let is_http_11 = self.version == Version::HTTP_11;
        let framing = match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length @ 1..) => Framing::Length(length),
            Some(0) | None => Framing::None,
        };
        Head {
            request,
            framing,
            keep_alive: self.persistence.holds(is_http_11),
            expects_continue: self.expects_continue && is_http_11 && framing != Framing::None,
            accepts_trailers: self.accepts_trailers && is_http_11,
        }
    }
}

#[cfg(test)]
mod tests;
