//! Chunked bodies: a decoder that hands out the buffer's own bytes, and the writer's side.
//!
//! Strict (RFC 9112 §7.1): a size is 1 to 16 hex digits, every line ends in CRLF, extensions are
//! bounded and dropped, trailers are bounded. Fields that must not arrive late (RFC 9110 §6.5.1)
//! are dropped from trailers in both directions. Left out: forwarding fields, whose names depend on
//! configuration; the caller removes those.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Decodes one chunked body, however it is cut into reads.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    max_trailer_bytes: usize,
}

/// What came of the bytes at hand.
#[derive(Debug)]
pub enum Step {
    /// Read more into the buffer. At the end of the stream: the body was cut.
    NeedMore,
    /// A piece of the body, never empty, sharing the buffer's memory.
    Data(Bytes),
    /// The end, with trailers if there were any that may be passed on. What follows in the buffer
    /// isn't part of the message.
    End(Option<HeaderMap>),
}

/// Why a chunked body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A chunk size isn't 1 to 16 hex digits.
    #[error("invalid chunk size")]
    Size,
    /// A line or a chunk doesn't end in CRLF.
    #[error("chunk not ended by CRLF")]
    LineEnd,
    /// A chunk extension holds a control character.
    #[error("invalid chunk extension")]
    Extension,
    /// All extensions of the body together exceed [`MAX_EXTENSION_BYTES`].
    #[error("chunk extensions too large")]
    ExtensionsTooLarge,
    /// A trailer line isn't a field line.
    #[error("invalid trailer")]
    Trailer,
    /// The trailers exceed the limit in bytes, or [`MAX_TRAILERS`].
    #[error("trailers too large")]
    TrailersTooLarge,
}

/// Bytes of chunk extensions a whole body may carry.
pub const MAX_EXTENSION_BYTES: usize = 16 * 1024;

/// Trailer fields a body may carry.
pub const MAX_TRAILERS: usize = 50;

const DEFAULT_MAX_TRAILER_BYTES: usize = 8 * 1024;

/// Hex digits of a chunk size: as many as fit 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    // White space after the size is only legal before an extension.
    BeforeExtension { size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    Trailers,
    Done,
}

const NEXT_CHUNK: State = State::Size {
    value: 0,
    digits: 0,
};

impl Default for Decoder {
    fn default() -> Self {
        Self::with_trailer_limit(DEFAULT_MAX_TRAILER_BYTES)
    }
}

impl Decoder {
    /// A decoder that accepts trailers of at most `max_bytes`.
    pub fn with_trailer_limit(max_bytes: usize) -> Self {
        Self {
            state: NEXT_CHUNK,
            extension_bytes: 0,
            max_trailer_bytes: max_bytes,
        }
    }

    /// Takes what it can off the front of `buffer`.
    ///
    /// Call again after [`Step::Data`] before reading more. After [`Step::End`] it keeps saying so
    /// and takes nothing.
    ///
    /// # Errors
    ///
    /// Where the body ends is unknown then: it must be passed on as cut, and the connection closed.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Step, Error> {
        loop {
            match self.state {
                State::Data { remaining } => {
                    if buffer.is_empty() {
                        return Ok(Step::NeedMore);
                    }
                    let length = usize::try_from(remaining)
                        .map_or(buffer.len(), |remaining| remaining.min(buffer.len()));
                    self.state = match remaining.saturating_sub(length as u64) {
                        0 => State::DataCr,
                        remaining => State::Data { remaining },
                    };
                    return Ok(Step::Data(buffer.split_to(length).freeze()));
                }
                State::Trailers => return self.read_trailers(buffer),
                State::Done => return Ok(Step::End(None)),
                _ => {
                    if !self.read_line(buffer)? {
                        return Ok(Step::NeedMore);
                    }
                }
            }
        }
    }

    /// Reads on to the data or the trailers, byte by byte so that a slow sender costs no rereading.
    /// `false`: the bytes didn't suffice.
    fn read_line(&mut self, buffer: &mut BytesMut) -> Result<bool, Error> {
        let mut taken = 0;
        for &byte in buffer.iter() {
            taken += 1;
            self.state = self.after(byte)?;
            if matches!(self.state, State::Data { .. } | State::Trailers) {
                buffer.advance(taken);
                return Ok(true);
            }
        }
        buffer.advance(taken);
        Ok(false)
    }

    fn after(&mut self, byte: u8) -> Result<State, Error> {
        match (self.state, byte) {
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(NEXT_CHUNK),
            (State::Size { value, digits }, _) => after_size(value, digits, byte),
            (State::BeforeExtension { size }, b' ' | b'\t') => {
                self.count_extension()?;
                Ok(State::BeforeExtension { size })
            }
            (State::BeforeExtension { size }, b';') => Ok(State::Extension { size }),
            (State::BeforeExtension { .. }, _) => Err(Error::Size),
            (State::Extension { size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Extension { size }, _) => {
                self.count_extension()?;
                // RFC 9112 §7.1.1: tokens and quoted strings, which hold no control but HTAB. A
                // bare LF here is how two readers come to see different chunks.
                if byte.is_ascii_control() && byte != b'\t' {
                    return Err(Error::Extension);
                }
                Ok(State::Extension { size })
            }
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { remaining: size }),
            _ => Err(Error::LineEnd),
        }
    }

    fn count_extension(&mut self) -> Result<(), Error> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(Error::ExtensionsTooLarge);
        }
        Ok(())
    }

    fn read_trailers(&mut self, buffer: &mut BytesMut) -> Result<Step, Error> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::Done;
            return Ok(Step::End(None));
        }
        // The empty line behind them is none of them.
        let most = self.max_trailer_bytes.saturating_add(2);
        let window = buffer.get(..most).unwrap_or(buffer);
        let mut storage = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let parsed =
            httparse::parse_headers(window, &mut storage).map_err(|error| match error {
                httparse::Error::TooManyHeaders => Error::TrailersTooLarge,
                _ => Error::Trailer,
            })?;
        let (length, fields) = match parsed {
            httparse::Status::Complete(complete) => complete,
            httparse::Status::Partial if buffer.len() >= most => {
                return Err(Error::TrailersTooLarge);
            }
            httparse::Status::Partial => return Ok(Step::NeedMore),
        };
        if !ends_lines_in_crlf(window.get(..length).unwrap_or_default()) {
            return Err(Error::LineEnd);
        }
        let trailers = collect_trailers(fields)?;
        buffer.advance(length);
        self.state = State::Done;
        Ok(Step::End((!trailers.is_empty()).then_some(trailers)))
    }
}

fn after_size(value: u64, digits: u8, byte: u8) -> Result<State, Error> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        if digits == MAX_SIZE_DIGITS {
            return Err(Error::Size);
        }
        return Ok(State::Size {
            value: value << 4 | u64::from(digit),
            digits: digits + 1,
        });
    }
    match byte {
        _ if digits == 0 => Err(Error::Size),
        b'\r' => Ok(State::SizeLf { size: value }),
        b';' => Ok(State::Extension { size: value }),
        b' ' | b'\t' => Ok(State::BeforeExtension { size: value }),
        b'\n' => Err(Error::LineEnd),
        _ => Err(Error::Size),
    }
}

/// httparse takes a bare LF for a line end; in a chunked body nothing may.
fn ends_lines_in_crlf(section: &[u8]) -> bool {
    let mut lines = section.split(|&byte| byte == b'\n');
    // What follows the last line end is empty.
    lines.next_back();
    lines.all(|line| line.ends_with(b"\r"))
}

fn collect_trailers(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Error> {
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Error::Trailer)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Error::Trailer)?;
        if may_trail(&name) {
            trailers
                .try_append(name, value)
                .map_err(|_| Error::TrailersTooLarge)?;
        }
    }
    Ok(trailers)
}

/// Whether a field may arrive after the body.
///
/// Those that frame or route a message, belong to a connection, authenticate, describe the content
/// or control caching would be believed by a recipient that merges trailers (RFC 9110 §6.5.1).
pub fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "content-length"
            | "transfer-encoding"
            | "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "upgrade"
            | "http2-settings"
            | "expect"
            | "max-forwards"
            | "range"
            | "if-match"
            | "if-none-match"
            | "if-modified-since"
            | "if-unmodified-since"
            | "if-range"
            | "authorization"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "www-authenticate"
            | "cookie"
            | "set-cookie"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "content-location"
            | "content-disposition"
            | "age"
            | "cache-control"
            | "date"
            | "expires"
            | "location"
            | "pragma"
            | "retry-after"
            | "strict-transport-security"
            | "vary"
            | "warning"
    )
}

/// Writes the size line of a chunk of `len` bytes; its data and a CRLF follow.
///
/// An empty piece of a body must be skipped, not written: a chunk of no bytes ends the body.
pub fn write_size(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for position in (0..digits).rev() {
        let nibble = (len >> (position * 4)) & 0xf;
        // A nibble is a hex digit.
        let digit = u32::try_from(nibble)
            .ok()
            .and_then(|nibble| char::from_digit(nibble, 16));
        out.extend(digit.map(|digit| digit as u8));
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and those of `trailers` that [`may_trail`].
pub fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    let fields = trailers.into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| may_trail(name)) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
