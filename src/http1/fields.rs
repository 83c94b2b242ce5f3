//! Reads field lines (RFC 9112 §5), which requests and responses have alike.

use std::ops::Range;

use super::lines::without_end;
use crate::fields::{Line, is, is_token};

/// What [`http::HeaderName`] takes.
const MOST_NAME_BYTES: usize = 65_535;

/// Where name and value are in these bytes of `head`; `None` if they aren't a field line. There is no space before the colon
/// and no folded line: neither makes a name. The bytes of the value are [`is_text`]'s to look at, for the whole head.
pub(super) fn find(head: &[u8], line: Range<usize>) -> Option<Line> {
    let bytes = head.get(line.clone())?;
    let name = token_len(bytes);
    let value = bytes.get(name..)?.strip_prefix(b":")?;
    if name == 0 || name > MOST_NAME_BYTES {
        return None;
    }
    let begin = line.start + name + 1;
    let (text, is_usual) = text_in(value);
    Some(Line {
        name: line.start..line.start + name,
        value: begin + text.start..begin + text.end,
        is_usual,
    })
}

/// How many bytes at the front make a token. Looks at four at a time, which takes a third of the time.
fn token_len(bytes: &[u8]) -> usize {
    let (fours, rest) = bytes.as_chunks::<4>();
    let other_in = |bytes: &[u8]| bytes.iter().position(|byte| !is_token(*byte));
    for (at, four) in fours.iter().enumerate() {
        if let Some(within) = other_in(four) {
            return at * 4 + within;
        }
    }
    fours.len() * 4 + other_in(rest).unwrap_or(rest.len())
}

/// Whether a whole head holds nothing but text between its line ends (RFC 9110 §5.5, RFC 9112 §2.2): no CR is without its LF.
/// Looks at all of it: that takes many bytes at a time.
pub(super) fn is_text(head: &[u8]) -> bool {
    let is_wrong = |byte: u8, next: u8| is_out_of_place(byte) || (byte == b'\r' && next != b'\n');
    let pairs = head.iter().zip(head.iter().skip(1));
    let any_is_wrong = pairs.fold(false, |any, (byte, next)| any | is_wrong(*byte, *next));
    !any_is_wrong && head.ends_with(b"\n")
}

/// Whether this can't be in a head, wherever it stands.
pub(super) fn is_out_of_place(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t')
}

/// The members of a comma-separated value, empty ones too (RFC 9110 §5.6.1).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// What `Connection` says about the time after the message (RFC 9112 §9.3).
#[derive(Debug, Default)]
pub(super) struct Persistence {
    closes: bool,
    keeps_alive: bool,
}

impl Persistence {
    /// Reads one line of `Connection`.
    pub(super) fn note(&mut self, value: &[u8]) {
        for option in members(value) {
            self.closes |= is(option, "close");
            self.keeps_alive |= is(option, "keep-alive");
        }
    }

    /// Whether the connection goes on, where the message is HTTP/1.1, or else HTTP/1.0.
    pub(super) fn holds(&self, is_http_11: bool) -> bool {
        !self.closes && (is_http_11 || self.keeps_alive)
    }
}

/// Where a value is without the white space around it (RFC 9110 §5.5) and the end of its line, and whether there is
/// nothing but a space and a CRLF of these.
fn text_in(line: &[u8]) -> (Range<usize>, bool) {
    if let [b' ', b'!'..=b'~', .., b'!'..=b'~', b'\r', b'\n'] = line {
        return (1..line.len() - 2, true);
    }
    (trimmed(line), false)
}

#[cold]
fn trimmed(line: &[u8]) -> Range<usize> {
    let mut value = without_end(line);
    let mut begin = 0;
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
        begin += 1;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    begin..begin + value.len()
}
