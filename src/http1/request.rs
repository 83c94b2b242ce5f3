//! Writes a request head into a buffer the caller keeps for the next one.
//!
//! [`begin`], then [`fields()`] and [`field`] for what goes upstream, then [`finish`]. The three together
//! make a head that can't be split or framed twice: see each function for what it refuses to
//! write. None of them allocates once the buffer has grown to the size of a usual head.

use http::{HeaderName, HeaderValue, Method};

use super::decimal;
use crate::fields::{self, Fields, is};

/// How the body that follows the head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body and no framing field: what a GET without one looks like.
    None,
    /// `Content-Length`, zero included.
    Length(u64),
    /// `Transfer-Encoding: chunked`; the body goes through [`super::chunked::write_size`].
    Chunked,
}

/// Writes the request line in origin form and the `Host` field.
///
/// `target` is a path with its query, or `*`; one that doesn't begin with a slash gets one
/// (RFC 9112 §3.2.1), so that an absolute form can't reach the upstream. Bytes that have no place
/// in a target or an authority (controls, space, anything beyond ASCII) are percent-encoded:
/// neither can end the line early.
pub fn begin(out: &mut Vec<u8>, method: &Method, target: &str, host: &[u8]) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    if !target.starts_with('/') && target != "*" {
        out.push(b'/');
    }
    write_visible(out, target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    write_visible(out, host);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field.
///
/// `Host`, `Content-Length` and `Transfer-Encoding` belong to [`begin`] and [`finish`] and are left
/// out here, so that a head never carries two of them, whatever the client sent.
pub fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let name = name.as_str().as_bytes();
    if !is_own(name) {
        fields::write(out, name, value.as_bytes());
    }
}

/// Writes the fields that are wanted; [`field`]'s exceptions hold.
pub fn fields(out: &mut Vec<u8>, fields: &Fields, mut wants: impl FnMut(&[u8]) -> bool) {
    fields.write(out, |name, _| !is_own(name) && wants(name));
}

/// Whether this field is written by [`begin`] and [`finish`] alone.
pub fn is_own(name: &[u8]) -> bool {
    is(name, "Host") || is(name, "Content-Length") || is(name, "Transfer-Encoding")
}

/// Writes the framing field, if there is one, and the empty line.
pub fn finish(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal::with(length, |digits| out.extend_from_slice(digits));
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn write_visible(out: &mut Vec<u8>, text: &[u8]) {
    // Looks at all of it: that takes many bytes at a time.
    if text
        .iter()
        .fold(true, |all, byte| all & byte.is_ascii_graphic())
    {
        out.extend_from_slice(text);
        return;
    }
    for &byte in text {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', hex_digit(byte >> 4), hex_digit(byte)]);
        }
    }
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble & 0xf {
        digit @ 0..=9 => b'0' + digit,
        letter => b'A' + letter - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::received;
    use http::header;
    use proptest::prelude::*;

    fn begun(target: &str, host: &[u8]) -> String {
        let mut out = Vec::new();
        begin(&mut out, &Method::GET, target, host);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_a_whole_head() {
        let mut out = Vec::new();
        begin(&mut out, &Method::POST, "/a?b=c", b"example.com:8080");
        field(
            &mut out,
            &header::ACCEPT,
            &HeaderValue::from_static("text/*"),
        );
        finish(&mut out, Framing::Length(12));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /a?b=c HTTP/1.1\r\nhost: example.com:8080\r\naccept: text/*\r\n\
             content-length: 12\r\n\r\n"
        );
    }

    #[test]
    fn writes_the_framing_asked_for() {
        for (framing, expected) in [
            (Framing::None, "\r\n"),
            (Framing::Length(0), "content-length: 0\r\n\r\n"),
            (
                Framing::Length(u64::MAX),
                "content-length: 18446744073709551615\r\n\r\n",
            ),
            (Framing::Chunked, "transfer-encoding: chunked\r\n\r\n"),
        ] {
            let mut out = Vec::new();
            finish(&mut out, framing);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{framing:?}");
        }
    }

    #[test]
    fn writes_every_target_in_origin_form() {
        for (target, line) in [
            ("/", "GET / "),
            ("*", "GET * "),
            ("", "GET / "),
            ("?q", "GET /?q "),
            ("http://other/x", "GET /http://other/x "),
            ("/a\r\nX: y", "GET /a%0D%0AX:%20y "),
            ("/\u{e9}\0\u{7f}", "GET /%C3%A9%00%7F "),
            ("/%41%2f", "GET /%41%2f "),
        ] {
            assert_eq!(
                begun(target, b"h"),
                format!("{line}HTTP/1.1\r\nhost: h\r\n"),
                "{target:?}"
            );
        }
    }

    #[test]
    fn host_cannot_end_its_line() {
        assert_eq!(
            begun("/", b"a\r\nb: c"),
            "GET / HTTP/1.1\r\nhost: a%0D%0Ab:%20c\r\n"
        );
    }

    #[test]
    fn leaves_out_fields_that_frame_or_route() {
        let mut out = Vec::new();
        for name in [
            header::HOST,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ] {
            field(&mut out, &name, &HeaderValue::from_static("1"));
        }
        let mut theirs = received([
            ("HOST", "1"),
            ("content-Length", "1"),
            ("Transfer-Encoding", "1"),
        ]);
        theirs.append(header::HOST, HeaderValue::from_static("1"));
        fields(&mut out, &theirs, |_| true);
        assert!(out.is_empty());
    }

    #[test]
    fn keeps_obs_text_in_values_as_it_came() {
        let mut out = Vec::new();
        let value = HeaderValue::from_bytes(b"caf\xe9\tx").unwrap();
        field(&mut out, &HeaderName::from_static("x-a"), &value);
        assert_eq!(out, b"x-a: caf\xe9\tx\r\n");
    }

    proptest! {
        #[test]
        fn a_head_parses_back_to_what_was_written(
            target in "/[!-~]{0,40}",
            host in "[a-z0-9.:-]{1,30}",
            fields in proptest::collection::vec(("x-[a-z]{1,10}", "[!-~]([ -~]{0,20}[!-~])?"), 0..8),
            length in any::<u64>(),
        ) {
            let mut out = Vec::new();
            begin(&mut out, &Method::PUT, &target, host.as_bytes());
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                field(&mut out, &name, &HeaderValue::from_str(value).unwrap());
            }
            finish(&mut out, Framing::Length(length));

            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut headers);
            prop_assert_eq!(request.parse(&out), Ok(httparse::Status::Complete(out.len())));
            prop_assert_eq!(request.path, Some(target.as_str()));
            let read: Vec<_> = request
                .headers
                .iter()
                .map(|h| (h.name.to_owned(), String::from_utf8(h.value.to_vec()).unwrap()))
                .collect();
            let mut expected = vec![("host".to_owned(), host)];
            expected.extend(fields);
            expected.push(("content-length".to_owned(), length.to_string()));
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_target_and_host_make_exactly_two_lines(
            target in any::<String>(),
            host in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut out = Vec::new();
            begin(&mut out, &Method::GET, &target, &host);
            let text = String::from_utf8(out).unwrap();
            let mut lines = text.split("\r\n");
            prop_assert!(lines.next().is_some_and(|line| line.ends_with(" HTTP/1.1")));
            prop_assert!(lines.next().is_some_and(|line| line.starts_with("host: ")));
            prop_assert_eq!(lines.next(), Some(""));
            prop_assert_eq!(lines.next(), None);
            prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']));
        }
    }
}
