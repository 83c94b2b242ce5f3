//! Writes a response head towards a client.
//!
//! The head frames its message once, whatever fields it is given: framing fields among them are left out, but for a
//! Content-Length that tells of a body which isn't sent.

use http::{Method, StatusCode, Version};

use super::decimal;
pub use super::response::Framing;
use crate::fields::{Fields, is};

/// Few heads are longer.
const USUAL_BYTES: usize = 512;

/// The request that is answered, as far as its response depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Whether it was HEAD.
    pub head: bool,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Whether the client lets its connection go on.
    pub keep_alive: bool,
}

impl Asked {
    /// What matters of a request.
    pub fn new(method: &Method, version: Version, keep_alive: bool) -> Self {
        Self {
            head: *method == Method::HEAD,
            version,
            keep_alive,
        }
    }
}

/// What becomes of message and connection once a head was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// How the body is to be written.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
}

/// Writes the head of a final response, or of a 101, whose body has `length` bytes if that is known.
///
/// Among `fields`, `Connection: close` ends the connection. Where the connection ends, or where HTTP/1.0 has it go on,
/// the head says so.
pub fn write(
    out: &mut Vec<u8>,
    asked: Asked,
    status: StatusCode,
    fields: &Fields,
    length: Option<u64>,
) -> Announced {
    // Of a new connection it is empty, and would grow many times.
    out.reserve(USUAL_BYTES);
    let is_http_11 = asked.version == Version::HTTP_11;
    out.extend_from_slice(if is_http_11 {
        b"HTTP/1.1 "
    } else {
        b"HTTP/1.0 "
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");

    let mut told = Told::default();
    fields.write(out, |name, value| told.goes_on(name, value));
    let framing = write_framing(out, asked, status, told.length, length);
    let keep_alive = asked.keep_alive && !told.close && framing != Framing::UntilClose;
    if !told.connection {
        match (is_http_11, keep_alive) {
            (true, false) => out.extend_from_slice(b"connection: close\r\n"),
            (false, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, true) | (false, false) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    Announced {
        framing,
        keep_alive,
    }
}

/// What fields said.
#[derive(Debug, Default)]
struct Told<'a> {
    length: Option<&'a [u8]>,
    connection: bool,
    close: bool,
}

impl<'a> Told<'a> {
    /// Notes what a field says about the message; whether it is to be written.
    fn goes_on(&mut self, name: &[u8], value: &'a [u8]) -> bool {
        if is(name, "Content-Length") {
            self.length = Some(value);
            return false;
        }
        if is(name, "Connection") {
            self.connection = true;
            self.close |= value.eq_ignore_ascii_case(b"close");
        }
        !is(name, "Transfer-Encoding")
    }
}

/// RFC 9112 §6.
fn write_framing(
    out: &mut Vec<u8>,
    asked: Asked,
    status: StatusCode,
    told: Option<&[u8]>,
    length: Option<u64>,
) -> Framing {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return Framing::None;
    }
    if asked.head || status == StatusCode::NOT_MODIFIED {
        // As the response to a GET would have it (RFC 9110 §8.6).
        match (told, length) {
            (Some(told), _) => write_length(out, told),
            (None, Some(length @ 1..)) => decimal::with(length, |digits| write_length(out, digits)),
            (None, Some(0) | None) => {}
        }
        return Framing::None;
    }
    let told_length = || decimal::parse(told?);
    if let Some(length) = length.or_else(told_length) {
        decimal::with(length, |digits| write_length(out, digits));
        return Framing::Length(length);
    }
    if asked.version == Version::HTTP_11 {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Framing::Chunked
    } else {
        Framing::UntilClose
    }
}

fn write_length(out: &mut Vec<u8>, digits: &[u8]) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
