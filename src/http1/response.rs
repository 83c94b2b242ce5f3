//! Reads a response head and decides how its body ends.
//!
//! Strict where leniency would let two readers disagree about where a message ends: every doubt is
//! an [`Error`], and the caller answers 502 and drops the connection. Lenient only where nothing
//! depends on it: a line may end in a bare LF (RFC 9112 §2.2), the reason phrase may be missing,
//! and status codes 600 to 999 are passed on.
//!
//! Left out: the reason phrase, which means nothing (RFC 9112 §4), and what a 101 leads to. CONNECT
//! is never sent upstream, so its special framing isn't known here.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};

use super::decimal;
use super::fields::{self, Persistence};
use super::lines::Lines;
use crate::fields::{Fields, is};

/// Bounds on a response head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes from the status line to the empty line, both included.
    pub max_bytes: usize,
    /// Field lines.
    pub max_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024,
            max_fields: 200,
        }
    }
}

/// A response head.
#[derive(Debug)]
pub struct Head {
    /// The status; interim responses (1xx) come as heads of their own.
    pub status: StatusCode,
    /// The fields. `Content-Length` is gone where it must not be believed (beside
    /// `Transfer-Encoding`) or not be sent on (204); hop-by-hop fields are still there.
    pub fields: Fields,
    /// How the body ends, with the request's method and the status already considered.
    pub framing: Framing,
    /// Whether the connection may carry another request once the body has been read.
    pub keep_alive: bool,
}

/// How a response body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body: a response to HEAD, a 1xx, 204 or 304.
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk: see [`super::chunked::Decoder`].
    Chunked,
    /// When the upstream closes; a cut can't be told from the end.
    UntilClose,
}

/// Why a response head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not HTTP/1.0 or HTTP/1.1; HTTP/0.9 text and leading empty lines too.
    #[error("not an HTTP/1 response")]
    Version,
    /// The status line isn't one, or its code isn't three digits from 100.
    #[error("invalid status line")]
    Status,
    /// A field line isn't one: bad name, folded line, control character, bare CR.
    #[error("invalid field line")]
    Field,
    /// The head doesn't end within [`Limits::max_bytes`].
    #[error("head too large")]
    TooLarge,
    /// More than [`Limits::max_fields`].
    #[error("too many fields")]
    TooManyFields,
    /// `Content-Length` isn't one decimal number, or is there twice.
    #[error("invalid content-length")]
    ContentLength,
    /// `Transfer-Encoding` isn't exactly one `chunked`, or came with HTTP/1.0.
    #[error("invalid transfer-encoding")]
    TransferEncoding,
    /// An interim response announces a body (RFC 9112 §6.3).
    #[error("interim response with a body")]
    InterimBody,
}

/// Reads the heads of one connection, each from however many reads it comes in.
#[derive(Debug, Default)]
pub struct Reader {
    /// Of the head at hand.
    lines: Lines,
    /// Whether its status line has been found to be one.
    line_checked: bool,
}

impl Reader {
    /// Takes a whole head off the front of `buffer`; `Ok(None)` asks for more bytes, and leaves those of a head that has
    /// begun.
    ///
    /// `method` is the request's. The values share the buffer's memory. What can't become a status line is refused at
    /// its first bad byte, and so is a control character; the rest of a field is looked at when the head is complete.
    ///
    /// # Errors
    /// Every [`Error`] is the upstream's fault. What it sent after that can't be told apart from the broken head, so the
    /// connection can't be used again.
    pub fn read(
        &mut self,
        buffer: &mut BytesMut,
        method: &Method,
        limits: &Limits,
    ) -> Result<Option<Head>, Error> {
        let window = buffer.get(..limits.max_bytes).unwrap_or(buffer);
        match self.lines.find_end(window) {
            Ok(length) => {
                self.line_checked = false;
                let head = buffer.split_to(length).freeze();
                self.parse(head, method, limits).map(Some)
            }
            Err(_) if buffer.len() >= limits.max_bytes => Err(Error::TooLarge),
            Err(new) => {
                self.check_partial(buffer, new)?;
                Ok(None)
            }
        }
    }

    fn check_partial(&mut self, buffer: &[u8], new: &[u8]) -> Result<(), Error> {
        if !self.line_checked {
            match self.lines.first(buffer) {
                Some(line) => {
                    StatusLine::parse(line)?;
                    self.line_checked = true;
                }
                None => StatusLine::check_beginning(buffer)?,
            }
        }
        let misplaced = new.iter().copied().any(fields::is_out_of_place);
        match (misplaced, self.line_checked) {
            (false, _) => Ok(()),
            (true, true) => Err(Error::Field),
            (true, false) => Err(Error::Status),
        }
    }

    fn parse(&self, head: Bytes, method: &Method, limits: &Limits) -> Result<Head, Error> {
        let line = StatusLine::parse(self.lines.first(&head).unwrap_or_default())?;
        let lines = self.lines.fields();
        if lines.len() > limits.max_fields {
            return Err(Error::TooManyFields);
        }
        if !fields::is_text(&head) {
            return Err(Error::Field);
        }
        let mut found = Vec::with_capacity(lines.len());
        let mut notes = Notes::default();
        for line in lines {
            let line = fields::find(&head, line).ok_or(Error::Field)?;
            let (name, value) = line.read(&head);
            notes.note(name, value)?;
            found.push(line);
        }
        notes.into_head(method, line, Fields::received(head, found))
    }
}

/// Writes the status line of an interim response. The fields and an empty line go behind it.
pub fn begin_interim(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[derive(Debug, Clone, Copy)]
struct StatusLine {
    is_http_11: bool,
    status: StatusCode,
}

impl StatusLine {
    /// RFC 9112 §4. The reason phrase may be missing, with its space or without.
    fn parse(line: &[u8]) -> Result<Self, Error> {
        let (version, rest) = line
            .split_at_checked(VERSIONS[0].len())
            .ok_or(Error::Version)?;
        if !VERSIONS.contains(&version) {
            return Err(Error::Version);
        }
        let (code, reason) = rest.split_at_checked(3).ok_or(Error::Status)?;
        let status = StatusCode::from_bytes(code).map_err(|_| Error::Status)?;
        let is_reason = |reason: &[u8]| !reason.iter().any(|byte| is_control(*byte));
        match reason {
            [] => {}
            [b' ', reason @ ..] if is_reason(reason) => {}
            _ => return Err(Error::Status),
        }
        Ok(Self {
            is_http_11: version == VERSIONS[1],
            status,
        })
    }

    /// Whether `line` can go on to be one.
    fn check_beginning(line: &[u8]) -> Result<(), Error> {
        let len = line.len().min(VERSIONS[0].len());
        let (version, rest) = line.split_at_checked(len).ok_or(Error::Version)?;
        if !VERSIONS.iter().any(|known| known.starts_with(version)) {
            return Err(Error::Version);
        }
        let mut code = rest.iter().take(3);
        if !code.all(u8::is_ascii_digit) {
            return Err(Error::Status);
        }
        Ok(())
    }
}

const VERSIONS: [&[u8]; 2] = [b"HTTP/1.0 ", b"HTTP/1.1 "];

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// What fields say about the message they belong to.
#[derive(Debug, Default)]
struct Notes {
    length: Option<u64>,
    chunked: bool,
    persistence: Persistence,
}

impl Notes {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        if is(name, "Content-Length") {
            if self.length.is_some() {
                return Err(Error::ContentLength);
            }
            self.length = Some(decimal::parse(value).ok_or(Error::ContentLength)?);
        } else if is(name, "Transfer-Encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Error::TransferEncoding);
            }
            self.chunked = true;
        } else if is(name, "Connection") {
            self.persistence.note(value);
        }
        Ok(())
    }

    fn into_head(
        self,
        method: &Method,
        line: StatusLine,
        mut fields: Fields,
    ) -> Result<Head, Error> {
        if self.chunked && !line.is_http_11 {
            return Err(Error::TransferEncoding);
        }
        let (framing, unambiguous) = self.frame(method, line.status)?;
        // RFC 9112 §6.3 and RFC 9110 §8.6: neither to be believed nor to be sent on.
        if self.length.is_some() && (self.chunked || line.status == StatusCode::NO_CONTENT) {
            fields.remove(&header::CONTENT_LENGTH);
        }
        Ok(Head {
            status: line.status,
            fields,
            framing,
            keep_alive: unambiguous
                && framing != Framing::UntilClose
                && self.persistence.holds(line.is_http_11),
        })
    }

    /// Decides the framing (RFC 9112 §6.3) and whether it leaves no doubt about the body's end.
    fn frame(&self, method: &Method, status: StatusCode) -> Result<(Framing, bool), Error> {
        let announces_body = self.chunked || self.length.is_some_and(|length| length > 0);
        if status.is_informational() {
            return if announces_body {
                Err(Error::InterimBody)
            } else {
                Ok((Framing::None, true))
            };
        }
        if status == StatusCode::NO_CONTENT {
            // One that announces a body may be followed by it.
            return Ok((Framing::None, !announces_body));
        }
        let unambiguous = !(self.chunked && self.length.is_some());
        if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            return Ok((Framing::None, unambiguous));
        }
        let framing = match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        Ok((framing, unambiguous))
    }
}

#[cfg(test)]
mod tests;
