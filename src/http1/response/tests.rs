use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn parse(buffer: &mut BytesMut, method: &Method, limits: &Limits) -> Result<Option<Head>, Error> {
    Reader::default().read(buffer, method, limits)
}

fn read(text: impl AsRef<[u8]>) -> Result<Head, Error> {
    read_for(&Method::GET, text)
}

fn read_for(method: &Method, text: impl AsRef<[u8]>) -> Result<Head, Error> {
    let mut buffer = BytesMut::from(text.as_ref());
    parse(&mut buffer, method, &Limits::default()).map(|head| head.expect("a whole head"))
}

fn framing(method: &Method, text: &str) -> Framing {
    read_for(method, text).unwrap().framing
}

#[test]
fn reads_status_fields_and_leaves_the_body() {
    let mut buffer = BytesMut::from(
        &b"HTTP/1.1 201 Created\r\nServer:  x y \r\nX-A: 1\r\nx-a:2\r\nContent-Length: 3\r\n\r\nabcHTTP"[..],
    );
    let head = parse(&mut buffer, &Method::POST, &Limits::default())
        .unwrap()
        .unwrap();
    assert_eq!(head.status, StatusCode::CREATED);
    let fields = head.fields.to_map(|_| true);
    assert_eq!(fields.get("server").unwrap(), "x y");
    let both: Vec<_> = fields.get_all("x-a").iter().collect();
    assert_eq!(both, ["1", "2"]);
    assert_eq!(head.framing, Framing::Length(3));
    assert!(head.keep_alive);
    assert_eq!(&buffer[..], b"abcHTTP");
}

#[test]
fn asks_for_more_at_every_prefix() {
    let whole = b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\nA: b\r\n\r\n";
    for end in 0..whole.len() {
        let mut buffer = BytesMut::from(&whole[..end]);
        let head = parse(&mut buffer, &Method::GET, &Limits::default()).unwrap();
        assert!(head.is_none(), "{end}");
        assert_eq!(&buffer[..], &whole[..end], "nothing may be taken");
    }
}

#[test]
fn frames_by_method_status_and_fields() {
    let cl = "Content-Length: 5\r\n";
    let te = "Transfer-Encoding: chunked\r\n";
    for (method, status, fields, expected) in [
        (Method::GET, "200 OK", cl, Framing::Length(5)),
        (Method::GET, "200 OK", te, Framing::Chunked),
        (
            Method::GET,
            "200 OK",
            "transfer-encoding: CHUNKED\r\n",
            Framing::Chunked,
        ),
        (Method::GET, "200 OK", "", Framing::UntilClose),
        (
            Method::GET,
            "200 OK",
            "Content-Length: 0\r\n",
            Framing::Length(0),
        ),
        (
            Method::GET,
            "200 OK",
            "Content-Length: 007\r\n",
            Framing::Length(7),
        ),
        (Method::GET, "205 Reset", cl, Framing::Length(5)),
        (Method::GET, "404 Not Found", "", Framing::UntilClose),
        (Method::HEAD, "200 OK", cl, Framing::None),
        (Method::HEAD, "200 OK", te, Framing::None),
        (Method::HEAD, "200 OK", "", Framing::None),
        (Method::GET, "304 Not Modified", cl, Framing::None),
        (Method::GET, "204 No Content", "", Framing::None),
        (Method::GET, "204 No Content", cl, Framing::None),
        (Method::GET, "100 Continue", "", Framing::None),
        (
            Method::GET,
            "103 Early Hints",
            "Link: </a>\r\n",
            Framing::None,
        ),
        (
            Method::GET,
            "101 Switching Protocols",
            "Upgrade: websocket\r\n",
            Framing::None,
        ),
    ] {
        let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        assert_eq!(framing(&method, &text), expected, "{method} {text:?}");
    }
}

#[test]
fn keeps_the_connection_by_version_and_connection_field() {
    for (text, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x ,\tClose\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: closed\r\n\r\n",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, close\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true),
        // A body may follow, whatever the standard says: don't read it as the next response.
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(read(text).unwrap().keep_alive, expected, "{text:?}");
    }
}

#[test]
fn transfer_encoding_wins_and_content_length_goes() {
    let head =
        read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(head.framing, Framing::Chunked);
    assert!(!head.fields.contains(&header::CONTENT_LENGTH));
}

#[test]
fn a_204_loses_its_content_length_and_a_304_keeps_it() {
    for (status, expected) in [("204 No Content", None), ("304 Not Modified", Some("5"))] {
        let head = read(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n")).unwrap();
        let length = head.fields.get(&header::CONTENT_LENGTH);
        assert_eq!(length, expected.map(str::as_bytes), "{status}");
    }
}

#[test]
fn refuses_what_is_not_http_1() {
    for text in [
        "<html>HTTP/0.9</html>",
        "HTTP/2 200\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "\0",
        "SSH-2.0-x\r\n",
    ] {
        assert_eq!(read(text).unwrap_err(), Error::Version, "{text:?}");
    }
}

#[test]
fn refuses_bad_status_lines() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 Zero",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\u{7f}K",
    ] {
        let error = read(format!("{line}\r\n\r\n")).unwrap_err();
        assert!(
            matches!(error, Error::Status | Error::Version),
            "{line:?}: {error:?}"
        );
    }
}

#[test]
fn accepts_odd_but_clear_status_lines() {
    for (line, status) in [
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 999 Request denied", 999),
        ("HTTP/1.1 404 nicht g\u{fc}ltig", 404),
    ] {
        let head = read(format!("{line}\r\n\r\n")).unwrap();
        assert_eq!(head.status.as_u16(), status, "{line:?}");
    }
}

#[test]
fn accepts_bare_line_feeds() {
    let head = read("HTTP/1.1 200 OK\nContent-Length: 2\nA: b\n\n").unwrap();
    assert_eq!(head.framing, Framing::Length(2));
    let fields: Vec<_> = head.fields.iter().collect();
    assert_eq!(fields, [(&b"Content-Length"[..], &b"2"[..]), (b"A", b"b")]);
}

#[test]
fn what_is_read_is_written_on_as_it_was_spelt() {
    let head = read(
        "HTTP/1.1 200 OK\r\nX-b: 1\r\nETag:2\r\nx-A: \t \r\nVia:\r\nCookie:\ta \tb\t\nX-b: 3\r\n\r\n",
    );
    let mut out = Vec::new();
    head.unwrap().fields.write(&mut out, |_, _| true);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "X-b: 1\r\nETag: 2\r\nx-A: \r\nVia: \r\nCookie: a \tb\r\nX-b: 3\r\n"
    );
}

#[test]
fn refuses_bad_field_lines() {
    for line in [
        "A : b",
        "A\t: b",
        ": b",
        "A b",
        " A: b",
        "A(: b",
        "\u{e9}: b",
        "A\0: b",
        "A: b\0c",
        "A: b\rc",
        "A: b\u{7f}c",
        "A: b\u{1}c",
        "A: b\r\n c",
        "A: b\r\n\tc",
        "A: \r\n c",
        "A: b\r\r",
    ] {
        let error = read(format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n")).unwrap_err();
        assert_eq!(error, Error::Field, "{line:?}");
    }
}

#[test]
fn refuses_bad_content_lengths_on_any_response() {
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "5,5",
        "5, 5",
        "5 5",
        "5;",
        "5.0",
        "1e3",
        "18446744073709551616",
        "99999999999999999999999",
        "\u{664}",
    ] {
        for status in [
            "200 OK",
            "204 No Content",
            "304 Not Modified",
            "100 Continue",
        ] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {value}\r\n\r\n");
            assert_eq!(read(&text).unwrap_err(), Error::ContentLength, "{text:?}");
        }
    }
    for pair in ["5\r\nContent-Length: 5", "5\r\ncontent-length: 6"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {pair}\r\n\r\n");
        assert_eq!(read(&text).unwrap_err(), Error::ContentLength, "{text:?}");
    }
}

#[test]
fn accepts_the_largest_content_length() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n";
    assert_eq!(framing(&Method::GET, text), Framing::Length(u64::MAX));
}

#[test]
fn refuses_every_transfer_encoding_but_one_chunked() {
    for value in [
        "",
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, identity",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "xchunked",
        "chunked\u{b}",
        "\"chunked\"",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: ",
        "gzip\r\nTransfer-Encoding: chunked",
    ] {
        let error = read(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n"
        ))
        .unwrap_err();
        assert!(
            matches!(error, Error::TransferEncoding | Error::Field),
            "{value:?}: {error:?}"
        );
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old).unwrap_err(), Error::TransferEncoding);
}

#[test]
fn refuses_interim_responses_with_a_body() {
    for field in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        for status in ["100 Continue", "101 Switching Protocols", "103 Early Hints"] {
            let text = format!("HTTP/1.1 {status}\r\n{field}\r\n\r\n");
            assert_eq!(read(&text).unwrap_err(), Error::InterimBody, "{text:?}");
        }
    }
}

#[test]
fn an_interim_response_leaves_the_final_one_in_the_buffer() {
    let mut buffer = BytesMut::from(
        &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..],
    );
    let limits = Limits::default();
    let statuses: Vec<_> = (0..2)
        .map(|_| parse(&mut buffer, &Method::POST, &limits).unwrap().unwrap())
        .map(|head| head.status.as_u16())
        .collect();
    assert_eq!(statuses, [100, 200]);
}

#[test]
fn limits_bytes_to_the_byte() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let head_bytes = whole.len() - 1;
    for (max_bytes, accepted) in [(head_bytes, true), (head_bytes - 1, false), (0, false)] {
        let limits = Limits {
            max_bytes,
            ..Limits::default()
        };
        let mut buffer = BytesMut::from(&whole[..]);
        let result = parse(&mut buffer, &Method::GET, &limits);
        if accepted {
            assert!(result.unwrap().is_some(), "{max_bytes}");
        } else {
            assert_eq!(result.unwrap_err(), Error::TooLarge, "{max_bytes}");
        }
    }
}

#[test]
fn refuses_an_endless_head_once_the_limit_is_read() {
    let mut text = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
    text.resize(64 * 1024 - 1, b'x');
    let mut buffer = BytesMut::from(&text[..]);
    let limits = Limits::default();
    assert!(parse(&mut buffer, &Method::GET, &limits).unwrap().is_none());
    buffer.extend_from_slice(b"x");
    let error = parse(&mut buffer, &Method::GET, &limits).unwrap_err();
    assert_eq!(error, Error::TooLarge);
}

#[test]
fn limits_fields_to_the_field() {
    let head = |fields: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(fields));
    assert_eq!(read(head(200)).unwrap().fields.len(), 200);
    assert_eq!(read(head(201)).unwrap_err(), Error::TooManyFields);
}

#[test]
fn values_share_the_buffer() {
    let mut buffer = BytesMut::from(&b"HTTP/1.1 200 OK\r\nX-Long: 0123456789\r\n\r\n"[..]);
    let span = buffer.as_ptr_range();
    let head = parse(&mut buffer, &Method::GET, &Limits::default())
        .unwrap()
        .unwrap();
    let value = |fields: &Fields| fields.iter().next().unwrap().1.as_ptr();
    assert!(span.contains(&value(&head.fields)));
    let map = head.fields.to_map(|_| true);
    assert!(span.contains(&map.get("x-long").unwrap().as_bytes().as_ptr()));
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        drop(parse(&mut buffer, &Method::GET, &Limits::default()));
    }

    #[test]
    fn never_panics_behind_a_status_line(
        text in "HTTP/1\\.[01] [1-5][0-9]{2} OK(\r?\n[ -~\r\n\t\\x00\\xff]{0,30}){0,6}"
    ) {
        let mut buffer = BytesMut::from(text.as_bytes());
        drop(parse(&mut buffer, &Method::HEAD, &Limits::default()));
    }

    #[test]
    fn reads_back_any_fields_however_the_bytes_are_cut(
        fields in proptest::collection::vec(("x-[a-z]{1,12}", "([!-~]([ -~\t]{0,20}[!-~])?)?"), 0..12),
        sizes in proptest::collection::vec(1_usize..40, 1..60),
    ) {
        let mut text = String::from("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n");
        for (name, value) in &fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        let (mut reader, mut buffer, mut heads) = (Reader::default(), BytesMut::new(), Vec::new());
        let mut rest = text.as_bytes();
        for size in sizes.into_iter().cycle() {
            let (piece, left) = rest.split_at(size.min(rest.len()));
            buffer.extend_from_slice(piece);
            heads.extend(reader.read(&mut buffer, &Method::GET, &Limits::default()).unwrap());
            rest = left;
            if piece.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        let head = heads.pop().unwrap();
        prop_assert_eq!(heads.pop().unwrap().status, 103);
        prop_assert!(heads.is_empty());
        prop_assert_eq!(head.framing, Framing::Length(4));

        let mut expected = HeaderMap::new();
        expected.append("content-length", HeaderValue::from_static("4"));
        for (name, value) in &fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            expected.append(name, HeaderValue::from_str(value).unwrap());
        }
        prop_assert_eq!(head.fields.to_map(|_| true), expected);
    }

    #[test]
    fn content_length_is_what_std_reads_or_an_error(text in "[0-9+ ,x-]{0,22}") {
        let parsed = decimal::parse(text.as_bytes());
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let expected = if plain { text.parse::<u64>().ok() } else { None };
        prop_assert_eq!(parsed, expected);
    }
}
