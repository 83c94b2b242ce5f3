//! Request heads in pieces of any size: read as at once, and as a naive reader of the specification would.
//!
//! Input: how many cuts, the length of each piece, the bytes of the connection.
#![no_main]

use bytes::BytesMut;
use headwater::http1::request_head::{Framing, Head, Limits, Reader};
use headwater_fuzz::pieces;
use http::{StatusCode, Uri, Version};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_bytes: 2048,
    max_fields: 8,
    max_target_bytes: 200,
};

fuzz_target!(|input: &[u8]| {
    let Some((cuts, rest)) = input.split_first() else {
        return;
    };
    let Some((choices, connection)) = rest.split_at_checked(usize::from(cuts % 16)) else {
        return;
    };

    let (whole, left) = read(&[connection]);
    let (in_pieces, _) = read(&pieces(connection, choices));
    same(&whole, &in_pieces);
    if connection.len() < 200 {
        same(&whole, &read(&connection.chunks(1).collect::<Vec<_>>()).0);
    }

    match (whole, naive(connection)) {
        (Ok(Some(head)), Some(request)) => {
            assert_eq!(head.request.method.as_str().as_bytes(), request.method);
            assert_eq!(head.request.uri, request.uri);
            assert_eq!(head.request.version, request.version);
            assert_eq!(head.framing, request.framing);
            let fields: Vec<(&[u8], &[u8])> = head.request.fields.iter().collect();
            assert_eq!(fields, request.fields);
            assert_eq!(left, request.rest);
        }
        (Ok(None) | Err(_), None) => {}
        (Ok(Some(head)), None) => panic!("read as {head:?}"),
        (Ok(None) | Err(_), Some(_)) => panic!("not read: {}", connection.escape_ascii()),
    }
});

type Verdict = Result<Option<Head>, StatusCode>;

fn read(reads: &[&[u8]]) -> (Verdict, Vec<u8>) {
    let mut reader = Reader::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut reads = reads.iter();
    while let Some(read) = reads.next() {
        buffer.extend_from_slice(read);
        match reader.read(&mut buffer, false) {
            Ok(None) => {}
            Ok(head) => {
                reads.for_each(|read| buffer.extend_from_slice(read));
                return (Ok(head), buffer.into());
            }
            Err(refused) => return (Err(refused.status), Vec::new()),
        }
    }
    (Ok(None), Vec::new())
}

fn same(one: &Verdict, other: &Verdict) {
    assert_eq!(one.is_err(), other.is_err());
    if let (Ok(one), Ok(other)) = (one, other) {
        assert_eq!(one.is_some(), other.is_some());
    }
}

struct Request<'a> {
    method: &'a [u8],
    uri: Uri,
    version: Version,
    fields: Vec<(&'a [u8], &'a [u8])>,
    framing: Framing,
    rest: &'a [u8],
}

/// A whole request head, as RFC 9112 has it, within the limits.
fn naive(mut input: &[u8]) -> Option<Request<'_>> {
    while let Some(rest) = input.strip_prefix(b"\r\n").or(input.strip_prefix(b"\n")) {
        input = rest;
    }
    let begin = input;
    let mut next_line = || {
        let end = input.iter().position(|byte| *byte == b'\n')?;
        let line = &input[..end];
        input = &input[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let words: Vec<&[u8]> = next_line()?.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return None;
    };
    let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
    loop {
        let line = next_line()?;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // ASCII white space is more than that of HTTP, and none of the rest may be in a value.
        if name.is_empty() || !name.iter().all(is_token) || line.iter().any(is_control) {
            return None;
        }
        fields.push((name, value));
    }
    let is_target = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    let fits = begin.len() - input.len() <= LIMITS.max_bytes
        && fields.len() <= LIMITS.max_fields
        && target.len() <= LIMITS.max_target_bytes;
    if !fits || method.is_empty() || !method.iter().all(is_token) || !target.iter().all(is_target) {
        return None;
    }
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return None,
    };
    Some(Request {
        method,
        uri: Uri::try_from(target).ok()?,
        version,
        framing: framing(&fields, version)?,
        fields,
        rest: input,
    })
}

fn framing(fields: &[(&[u8], &[u8])], version: Version) -> Option<Framing> {
    let named = |wanted: &[u8]| -> Vec<&[u8]> {
        let named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| *value).collect()
    };
    match (
        &named(b"content-length")[..],
        &named(b"transfer-encoding")[..],
    ) {
        ([], []) => Some(Framing::None),
        ([length], []) => {
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                return None;
            }
            match std::str::from_utf8(length).ok()?.parse().ok()? {
                0 => Some(Framing::None),
                length => Some(Framing::Length(length)),
            }
        }
        ([], [coding]) => (coding.eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11)
            .then_some(Framing::Chunked),
        _ => None,
    }
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}
