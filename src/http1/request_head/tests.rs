use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    max_bytes: 2000,
    max_fields: 20,
    max_target_bytes: 100,
};

type Verdict = Result<Option<Head>, (u16, &'static str)>;

/// Reads one head from what comes in these pieces.
fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Verdict, BytesMut) {
    let mut reader = Reader::new(LIMITS);
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match reader.read(&mut buffer, false) {
            Ok(None) => {}
            Ok(head) => return (Ok(head), buffer),
            Err(refused) => return (Err((refused.status.as_u16(), refused.reason)), buffer),
        }
    }
    (Ok(None), buffer)
}

/// Reads a head at once, and byte by byte; both must come to the same end.
fn read(bytes: &[u8]) -> Verdict {
    let whole = read_pieces([bytes]).0;
    let pieces = read_pieces(bytes.chunks(1)).0;
    let status = |verdict: &Verdict| match verdict {
        Ok(head) => Ok(head.is_some()),
        Err((status, _)) => Err(*status),
    };
    assert_eq!(status(&whole), status(&pieces), "{}", bytes.escape_ascii());
    whole
}

fn head(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn accepted(bytes: &[u8]) -> Head {
    read(bytes).unwrap().unwrap()
}

fn reason(bytes: &[u8]) -> &'static str {
    read(bytes).unwrap_err().1
}

#[test]
fn a_head_is_read_as_it_was_sent() {
    let bytes =
        b"PATCH /a?b=%20 HTTP/1.1\r\nHost: a:1\r\nX-Two: 1\r\nx-two:\t2 \r\nEmpty:\r\n\r\nbody";
    let (head, rest) = read_pieces([&bytes[..]]);
    let request = head.unwrap().unwrap().request;
    assert_eq!(request.method, Method::PATCH);
    assert_eq!(request.uri, "/a?b=%20");
    assert_eq!(request.version, Version::HTTP_11);
    let fields: Vec<_> = request.fields.iter().collect();
    assert_eq!(
        fields,
        [
            (&b"Host"[..], &b"a:1"[..]),
            (b"X-Two", b"1"),
            (b"x-two", b"2"),
            (b"Empty", b"")
        ]
    );
    assert_eq!(rest, "body");
}

#[test]
fn requests_that_can_be_read_in_one_way_pass() {
    for (request, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        ("\r\n\n\r\nGET / HTTP/1.0\r\n\r\n", Framing::None),
        ("GET / HTTP/1.1\nHost: a\n\n", Framing::None),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        (
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            Framing::None,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 03\r\n\r\n",
            Framing::Length(3),
        ),
        (
            "POST / HTTP/1.1\r\ntransfer-encoding:Chunked \r\n\r\n",
            Framing::Chunked,
        ),
    ] {
        assert_eq!(accepted(request.as_bytes()).framing, framing, "{request:?}");
    }
}

#[test]
fn framing_that_two_parsers_could_read_differently_is_refused() {
    for (fields, expected) in [
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "transfer_encoding",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "content_length",
        ),
        (
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "content_length",
        ),
        (
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "content_length",
        ),
        ("Content-Length: 3, 3\r\n", "content_length"),
        ("Content-Length: +3\r\n", "content_length"),
        ("Content-Length: 0x3\r\n", "content_length"),
        ("Content-Length: 3 3\r\n", "content_length"),
        ("Content-Length:\r\n", "content_length"),
        ("Content-Length: 18446744073709551616\r\n", "content_length"),
        ("content-length : 3\r\n", "field"),
        ("Transfer-Encoding: gzip, chunked\r\n", "transfer_encoding"),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            "transfer_encoding",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "transfer_encoding",
        ),
        ("Transfer-Encoding: identity\r\n", "transfer_encoding"),
        ("Transfer-Encoding:\r\n", "transfer_encoding"),
    ] {
        assert_eq!(reason(&head(fields)), expected, "{fields:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(reason(old), "transfer_encoding");
}

#[test]
fn request_lines_that_are_not_quite_one_are_refused() {
    for (line, status) in [
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        (" GET / HTTP/1.1", 400),
        ("GET /", 400),
        ("GET", 400),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /\u{e9} HTTP/1.1", 400),
        ("GET /\t HTTP/1.1", 400),
        ("GET /\r HTTP/1.1", 400),
        ("G@T / HTTP/1.1", 400),
        ("GET / HTTP/1.2", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2", 400),
    ] {
        let verdict = read(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!(verdict.unwrap_err().0, status, "{line:?}");
    }
}

#[test]
fn lines_that_are_not_quite_a_field_are_refused() {
    for line in [
        "x",
        ": y",
        "x : y",
        "x\t: y",
        " x: y",
        "a: b\r\n c",
        "a: b\r\n\tc",
        "x(: y",
        "x\u{e9}: y",
        "x: a\rb",
        "x: y\r",
    ] {
        assert_eq!(reason(&head(&format!("{line}\r\n"))), "field", "{line:?}");
    }
    for line in ["x: a\0b", "x: a\u{1}b", "x: \u{7f}"] {
        let status = read(&head(&format!("{line}\r\n"))).unwrap_err().0;
        assert_eq!(status, 400, "{line:?}");
    }
}

#[test]
fn what_cannot_become_a_request_is_refused_before_it_ends() {
    for (beginning, status) in [
        // A TLS hello.
        (&b"\x16\x03\x01\x02\x00"[..], 400),
        (b"G\xffT", 400),
        (b"G@T / HTTP/1.1\r\n", 400),
        (b" / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.2\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a", 505),
        (b"GET / HTTP/1.1\r\nHost: a\0", 400),
    ] {
        assert_eq!(read(beginning).unwrap_err().0, status, "{beginning:?}");
    }
    let long = format!("GET /{}", "a".repeat(LIMITS.max_target_bytes));
    assert_eq!(read(long.as_bytes()).unwrap_err(), (414, "target_too_long"));
}

#[test]
fn limits_hold_to_the_byte() {
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(len - 1));
    accepted(target(100).as_bytes());
    assert_eq!(
        read(target(101).as_bytes()).unwrap_err(),
        (414, "target_too_long")
    );

    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(accepted(fields(20).as_bytes()).request.fields.len(), 20);
    assert_eq!(
        read(fields(21).as_bytes()).unwrap_err(),
        (431, "too_many_fields")
    );

    let bytes = |len: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(len - 23));
    accepted(bytes(2000).as_bytes());
    assert_eq!(
        read(bytes(2001).as_bytes()).unwrap_err(),
        (431, "head_too_large")
    );
    // However much more came with it.
    let more = bytes(2001) + &"z".repeat(5000);
    assert_eq!(
        read_pieces([more.as_bytes()]).0.unwrap_err(),
        (431, "head_too_large")
    );
}

#[test]
fn requests_behind_one_another_are_read_in_turn() {
    let mut buffer =
        BytesMut::from("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HT");
    let mut reader = Reader::new(LIMITS);
    let mut next = |buffer: &mut BytesMut| {
        let head = reader.read(buffer, false).unwrap();
        head.map(|head| head.request.uri.to_string())
    };
    assert_eq!(next(&mut buffer).as_deref(), Some("/1"));
    assert_eq!(next(&mut buffer).as_deref(), Some("/2"));
    assert_eq!(next(&mut buffer), None);
    buffer.extend_from_slice(b"TP/1.1\r\n\r\n");
    assert_eq!(next(&mut buffer).as_deref(), Some("/3"));
    assert!(buffer.is_empty());
}

#[test]
fn what_fields_say_about_the_connection_is_noted() {
    let noted = |version: &str, fields: &str| {
        let head = accepted(format!("POST / HTTP/{version}\r\n{fields}\r\n").as_bytes());
        (
            head.keep_alive,
            head.expects_continue,
            head.accepts_trailers,
        )
    };
    for (version, fields, expected) in [
        ("1.1", "", (true, false, false)),
        ("1.0", "", (false, false, false)),
        ("1.0", "Connection: Keep-Alive\r\n", (true, false, false)),
        ("1.1", "Connection: x, CLOSE\r\n", (false, false, false)),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            (false, false, false),
        ),
        (
            "1.1",
            "Expect: 100-Continue\r\nContent-Length: 1\r\n",
            (true, true, false),
        ),
        // There is nothing to wait for.
        ("1.1", "Expect: 100-continue\r\n", (true, false, false)),
        (
            "1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            (false, false, false),
        ),
        ("1.1", "TE: gzip, Trailers\r\n", (true, false, true)),
        ("1.0", "TE: trailers\r\n", (false, false, false)),
    ] {
        assert_eq!(noted(version, fields), expected, "{version} {fields:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived_and_pieces_change_nothing(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()],
            0..200,
        ),
        cut in 0_usize..200,
    ) {
        let (left, right) = bytes.split_at(cut.min(bytes.len()));
        let whole = read_pieces([&bytes[..]]).0;
        let pieces = read_pieces([left, right]).0;
        prop_assert_eq!(whole.is_err(), pieces.is_err());
        prop_assert_eq!(whole.is_ok_and(|h| h.is_some()), pieces.is_ok_and(|h| h.is_some()));
    }

    #[test]
    fn what_is_accepted_is_what_another_parser_reads(
        method in "[A-Z]{1,8}",
        target in "/[!\"$-~]{0,30}",
        fields in proptest::collection::vec(("[a-zA-Z-]{1,12}", "[ -~\t]{0,20}"), 0..8),
        line_end in prop_oneof![Just("\r\n"), Just("\n")],
    ) {
        let mut text = format!("{method} {target} HTTP/1.1{line_end}");
        for (name, value) in &fields {
            text.extend([name, ":", value, line_end]);
        }
        text += line_end;
        let mut storage = [httparse::EMPTY_HEADER; 8];
        let mut other = httparse::Request::new(&mut storage);
        let complete = other.parse(text.as_bytes()).is_ok_and(|status| status.is_complete());
        if let Ok(Some(head)) = read(text.as_bytes()) {
            prop_assert!(complete);
            prop_assert_eq!(head.request.method.as_str(), method);
            prop_assert_eq!(head.request.uri.to_string(), target);
            let read: Vec<_> = head.request.fields.iter().collect();
            let expected: Vec<_> = other.headers.iter()
                .map(|field| (field.name.as_bytes(), field.value))
                .collect();
            prop_assert_eq!(read, expected);
        }
    }
}
