//! Reads a response head and decides how its body ends.
//!
//! Strict where leniency would let two readers disagree about where a message ends: every doubt is
//! an [`Error`], and the caller answers 502 and drops the connection. Lenient only where nothing
//! depends on it: a line may end in a bare LF (RFC 9112 §2.2), the reason phrase may be missing,
//! and status codes 600 to 999 are passed on.
//!
//! Left out: the reason phrase, which means nothing (RFC 9112 §4), and what a 101 leads to. CONNECT
//! is never sent upstream, so its special framing isn't known here.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::decimal;

/// Bounds on a response head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes from the status line to the empty line, both included.
    pub max_bytes: usize,
    /// Field lines; more than [`MAX_FIELDS`] are refused whatever stands here.
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
    pub headers: HeaderMap,
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

/// More fields than this are refused under any [`Limits`]: it bounds the stack a parse uses.
pub const MAX_FIELDS: usize = 256;

/// Few responses have more. What a parse uses of the stack is cleared for each head.
const USUAL_FIELDS: usize = 32;

/// Takes a whole head off the front of `buffer`; `Ok(None)` asks for more bytes.
///
/// `method` is the request's. The values share the buffer's memory. Garbage is refused at its first
/// bad byte, not when the head is complete.
///
/// # Errors
///
/// Every [`Error`] is the upstream's fault. What it sent after that can't be told apart from the
/// broken head, so the connection can't be used again.
pub fn parse(
    buffer: &mut BytesMut,
    method: &Method,
    limits: &Limits,
) -> Result<Option<Head>, Error> {
    match parse_fields::<USUAL_FIELDS>(buffer, method, limits) {
        Err(Error::TooManyFields) if limits.max_fields > USUAL_FIELDS => {
            parse_fields::<MAX_FIELDS>(buffer, method, limits)
        }
        outcome => outcome,
    }
}

/// [`parse`] for a head of at most `N` fields.
fn parse_fields<const N: usize>(
    buffer: &mut BytesMut,
    method: &Method,
    limits: &Limits,
) -> Result<Option<Head>, Error> {
    let mut spans = [Span::default(); N];
    let Some(found) = read_lines(buffer, limits, &mut spans)? else {
        return Ok(None);
    };
    let head = buffer.split_to(found.length).freeze();
    let status = StatusCode::from_u16(found.code).map_err(|_| Error::Status)?;
    let mut headers = collect_fields(&head, spans.get(..found.fields).unwrap_or_default())?;
    let (framing, unambiguous) = frame(method, status, found.version, &mut headers)?;
    let keep_alive =
        unambiguous && framing != Framing::UntilClose && persists(found.version, &headers);
    Ok(Some(Head {
        status,
        headers,
        framing,
        keep_alive,
    }))
}

/// Writes the status line of an interim response. The fields and an empty line go behind it.
pub fn begin_interim(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

struct Found {
    length: usize,
    version: Version,
    code: u16,
    fields: usize,
}

/// Where a field's name and value stand, so that the borrow of the buffer ends before it is split.
/// 32 bits each: the array of them is cleared for each head.
#[derive(Clone, Copy, Default)]
struct Span {
    name: u32,
    name_len: u32,
    value: u32,
    value_len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn read_lines<const N: usize>(
    buffer: &[u8],
    limits: &Limits,
    spans: &mut [Span; N],
) -> Result<Option<Found>, Error> {
    // httparse skips empty lines before a status line. After a response they are stray bytes.
    if matches!(buffer.first(), Some(b'\r' | b'\n')) {
        return Err(Error::Version);
    }
    let window = buffer.get(..limits.max_bytes).unwrap_or(buffer);
    let mut storage = [const { MaybeUninit::uninit() }; N];
    let storage = storage
        .get_mut(..limits.max_fields.min(N))
        .unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        window,
        storage,
    );
    let length = match parsed.map_err(Error::from)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if buffer.len() >= limits.max_bytes => {
            return Err(Error::TooLarge);
        }
        httparse::Status::Partial => return Ok(None),
    };
    let (Some(minor), Some(code)) = (response.version, response.code) else {
        return Err(Error::Status);
    };
    let base = window.as_ptr().addr();
    for (span, field) in spans.iter_mut().zip(response.headers.iter()) {
        *span = Span {
            name: offset(base, field.name.as_bytes())?,
            name_len: narrow(field.name.len())?,
            value: offset(base, field.value)?,
            value_len: narrow(field.value.len())?,
        };
    }
    Ok(Some(Found {
        length,
        version: if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        },
        code,
        fields: response.headers.len(),
    }))
}

fn offset(base: usize, part: &[u8]) -> Result<u32, Error> {
    narrow(part.as_ptr().addr().wrapping_sub(base))
}

fn narrow(position: usize) -> Result<u32, Error> {
    u32::try_from(position).map_err(|_| Error::TooLarge)
}

fn collect_fields(head: &Bytes, spans: &[Span]) -> Result<HeaderMap, Error> {
    let mut headers =
        HeaderMap::try_with_capacity(spans.len()).map_err(|_| Error::TooManyFields)?;
    for span in spans {
        let name = head
            .get(range(span.name, span.name_len))
            .ok_or(Error::Field)?;
        let name = HeaderName::from_bytes(name).map_err(|_| Error::Field)?;
        let value = head.slice(range(span.value, span.value_len));
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Error::Field)?;
        headers
            .try_append(name, value)
            .map_err(|_| Error::TooManyFields)?;
    }
    Ok(headers)
}

fn range(start: u32, len: u32) -> Range<usize> {
    let start = start as usize;
    start..start + len as usize
}

/// Decides the framing (RFC 9112 §6.3) and whether it leaves no doubt about the body's end.
fn frame(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
) -> Result<(Framing, bool), Error> {
    let chunked = transfer_encoding(version, headers)?;
    let length = content_length(headers)?;
    let announces_body = chunked || length.is_some_and(|length| length > 0);
    if status.is_informational() {
        return if announces_body {
            Err(Error::InterimBody)
        } else {
            Ok((Framing::None, true))
        };
    }
    if chunked && length.is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: not to be sent; one that announces a body may be followed by it.
        headers.remove(header::CONTENT_LENGTH);
        return Ok((Framing::None, !announces_body));
    }
    let unambiguous = !(chunked && length.is_some());
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ok((Framing::None, unambiguous));
    }
    let framing = match (chunked, length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    Ok((framing, unambiguous))
}

/// Whether there is a `Transfer-Encoding`; anything but one `chunked` line is an error.
fn transfer_encoding(version: Version, headers: &HeaderMap) -> Result<bool, Error> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(value) = lines.next() else {
        return Ok(false);
    };
    let only_chunked = lines.next().is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if version == Version::Http11 && only_chunked {
        Ok(true)
    } else {
        Err(Error::TransferEncoding)
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Error::ContentLength);
    }
    decimal::parse(value.as_bytes())
        .map(Some)
        .ok_or(Error::ContentLength)
}

/// Whether version and `Connection` ask to keep the connection (RFC 9112 §9.3).
fn persists(version: Version, headers: &HeaderMap) -> bool {
    let mut keep_alive = version == Version::Http11;
    let tokens = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    for token in tokens.map(<[u8]>::trim_ascii) {
        if token.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
    }
    keep_alive
}

impl From<httparse::Error> for Error {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::Version => Self::Version,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Status => Self::Status,
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Token => Self::Field,
        }
    }
}

#[cfg(test)]
mod tests;
