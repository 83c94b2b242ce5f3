use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    rest: Vec<u8>,
}

/// Decodes `pieces` as they would come from successive reads; `None`: cut before the end.
fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Body>, Error> {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let mut data = Vec::new();
    let mut ended = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while ended.is_none() {
            match decoder.decode(&mut buffer)? {
                Step::NeedMore => break,
                Step::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    data.extend_from_slice(&bytes);
                }
                Step::End(trailers) => ended = Some(trailers),
            }
        }
    }
    Ok(ended.map(|trailers| Body {
        data,
        trailers,
        rest: buffer.to_vec(),
    }))
}

fn decode(text: impl AsRef<[u8]>) -> Result<Option<Body>, Error> {
    decode_pieces([text.as_ref()])
}

fn data(text: impl AsRef<[u8]>) -> String {
    let body = decode(text).unwrap().expect("a whole body");
    String::from_utf8(body.data).unwrap()
}

fn encode(pieces: &[Vec<u8>], trailers: Option<&HeaderMap>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        write_size(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    write_end(&mut out, trailers);
    out
}

#[test]
fn reads_chunks_and_leaves_what_follows() {
    let body = decode("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\nHTTP/1.1").unwrap();
    assert_eq!(
        body,
        Some(Body {
            data: b"Wikipedia".to_vec(),
            trailers: None,
            rest: b"HTTP/1.1".to_vec()
        })
    );
}

#[test]
fn accepts_every_spelling_of_a_size() {
    for text in [
        "a\r\n0123456789\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n00\r\n\r\n",
        "000000000000000A\r\n0123456789\r\n0000000000000000\r\n\r\n",
        "a;x\r\n0123456789\r\n0;y=\"z\"\r\n\r\n",
        "a;x=1;y;;\r\n0123456789\r\n0\r\n\r\n",
        "a \t;x\r\n0123456789\r\n0\r\n\r\n",
        "a;\u{e9}\t=\r\n0123456789\r\n0\r\n\r\n",
    ] {
        assert_eq!(data(text), "0123456789", "{text:?}");
    }
}

#[test]
fn refuses_bad_chunks() {
    for (text, expected) in [
        ("\r\n", Error::Size),
        (";x\r\n", Error::Size),
        ("g\r\n", Error::Size),
        ("0x5\r\n", Error::Size),
        ("+5\r\n", Error::Size),
        ("-5\r\n", Error::Size),
        (" 5\r\n", Error::Size),
        ("5 \r\n", Error::Size),
        ("5 5\r\n", Error::Size),
        ("5\t\r\n", Error::Size),
        ("5_0\r\n", Error::Size),
        ("5,5\r\n", Error::Size),
        ("5\0\r\n", Error::Size),
        ("00000000000000005\r\n", Error::Size),
        ("10000000000000000\r\n", Error::Size),
        ("\u{665}\r\n", Error::Size),
        ("5\nabcde\r\n", Error::LineEnd),
        ("5\rabcde\r\n", Error::LineEnd),
        ("5\r\r\n", Error::LineEnd),
        ("5;a\nb\r\n", Error::Extension),
        ("5;a\0b\r\n", Error::Extension),
        ("5;a\u{7f}b\r\n", Error::Extension),
        ("5;a\rb\r\n", Error::LineEnd),
        ("3\r\nabcd\r\n", Error::LineEnd),
        ("3\r\nabc\n", Error::LineEnd),
        ("3\r\nabc0\r\n\r\n", Error::LineEnd),
        ("3\r\nabc\r0\r\n\r\n", Error::LineEnd),
        ("0\n\n", Error::LineEnd),
        ("0\r\n\n", Error::LineEnd),
        ("0\r\nA: b\n\r\n", Error::LineEnd),
        ("0\r\nA: b\r\n\n", Error::LineEnd),
        ("0\r\nA : b\r\n\r\n", Error::Trailer),
        ("0\r\n: b\r\n\r\n", Error::Trailer),
        ("0\r\n A: b\r\n\r\n", Error::Trailer),
        ("0\r\nA: b\r\n c\r\n\r\n", Error::Trailer),
        ("0\r\nA: b\0\r\n\r\n", Error::Trailer),
        ("0\r\nA: b\rc\r\n\r\n", Error::Trailer),
        ("0\r\nA\r\n\r\n", Error::Trailer),
    ] {
        assert_eq!(decode(text), Err(expected), "{text:?}");
    }
}

#[test]
fn a_cut_body_has_no_end() {
    let whole = b"4\r\nWiki\r\n0\r\nA: b\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(decode(&whole[..end]), Ok(None), "{end}");
    }
}

#[test]
fn bounds_extensions_over_the_whole_body() {
    let body = |bytes_each: usize, chunks: usize| {
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(bytes_each));
        format!("{}0\r\n\r\n", chunk.repeat(chunks))
    };
    assert!(decode(body(MAX_EXTENSION_BYTES, 1)).unwrap().is_some());
    assert!(decode(body(MAX_EXTENSION_BYTES / 4, 4)).unwrap().is_some());
    for text in [
        body(MAX_EXTENSION_BYTES + 1, 1),
        body(MAX_EXTENSION_BYTES / 4 + 1, 4),
        format!("1{};", " ".repeat(MAX_EXTENSION_BYTES + 2)),
    ] {
        assert_eq!(decode(text), Err(Error::ExtensionsTooLarge));
    }
}

#[test]
fn bounds_trailers_by_bytes_and_number() {
    let fields = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    let body = decode(fields(MAX_TRAILERS)).unwrap().unwrap();
    assert_eq!(body.trailers.unwrap().len(), MAX_TRAILERS);
    assert_eq!(
        decode(fields(MAX_TRAILERS + 1)),
        Err(Error::TrailersTooLarge)
    );

    let section = |bytes: usize| format!("0\r\na: {}\r\n\r\n", "b".repeat(bytes - 5));
    assert!(
        decode(section(DEFAULT_MAX_TRAILER_BYTES))
            .unwrap()
            .is_some()
    );
    assert_eq!(
        decode(section(DEFAULT_MAX_TRAILER_BYTES + 1)),
        Err(Error::TrailersTooLarge)
    );

    let mut small = Decoder::with_trailer_limit(6);
    let mut buffer = BytesMut::from("0\r\na: bb\r\n\r\n");
    assert_eq!(
        small.decode(&mut buffer).unwrap_err(),
        Error::TrailersTooLarge
    );
}

#[test]
fn passes_on_trailers_that_may_come_late() {
    let text = "0\r\nGrpc-Status: 0\r\nX-A: 1\r\nx-a: 2\r\n\r\n";
    let trailers = decode(text).unwrap().unwrap().trailers.unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    let both: Vec<_> = trailers.get_all("x-a").iter().collect();
    assert_eq!(both, ["1", "2"]);
}

#[test]
fn drops_trailers_a_recipient_might_believe() {
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Connection",
        "TE",
        "Trailer",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Encoding",
        "Content-Type",
        "Content-Range",
        "Cache-Control",
    ] {
        let body = decode(format!("0\r\n{name}: 1\r\n\r\n")).unwrap().unwrap();
        assert_eq!(body.trailers, None, "{name}");

        let mut trailers = HeaderMap::new();
        trailers.insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_static("1"),
        );
        let mut out = Vec::new();
        write_end(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\n\r\n", "{name}");
    }
}

#[test]
fn stays_at_the_end_without_taking_bytes() {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::from("0\r\n\r\n5\r\nabcde\r\n");
    assert!(matches!(decoder.decode(&mut buffer), Ok(Step::End(None))));
    assert!(matches!(decoder.decode(&mut buffer), Ok(Step::End(None))));
    assert_eq!(&buffer[..], b"5\r\nabcde\r\n");
}

#[test]
fn accepts_the_largest_size() {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::from("ffffffffffffffff\r\nabc");
    assert!(matches!(decoder.decode(&mut buffer), Ok(Step::Data(_))));
    let left = u64::MAX - 3;
    assert!(matches!(decoder.state, State::Data { remaining } if remaining == left));
}

#[test]
fn data_shares_the_buffer() {
    let mut buffer = BytesMut::from(&b"3\r\nabc\r\n"[..]);
    let span = buffer.as_ptr_range();
    let Ok(Step::Data(bytes)) = Decoder::default().decode(&mut buffer) else {
        panic!("data expected");
    };
    assert!(span.contains(&bytes.as_ptr()));
}

#[test]
fn writes_sizes_in_hex() {
    for (len, expected) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0x1f40, "1f40\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        let mut out = Vec::new();
        write_size(&mut out, len);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn writes_trailers_after_the_last_chunk() {
    let mut trailers = HeaderMap::new();
    trailers.append("x-sum", HeaderValue::from_static("1"));
    trailers.append("x-sum", HeaderValue::from_static("2"));
    let mut out = Vec::new();
    write_end(&mut out, Some(&trailers));
    assert_eq!(out, b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n");
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6)
}

fn trailer_fields() -> impl Strategy<Value = HeaderMap> {
    proptest::collection::vec(("x-[a-z]{1,8}", "[!-~]{0,12}"), 0..4).prop_map(|fields| {
        let mut trailers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            trailers.append(name, HeaderValue::from_str(&value).unwrap());
        }
        trailers
    })
}

proptest! {
    #[test]
    fn decodes_what_was_encoded_at_every_split(pieces in bodies(), trailers in trailer_fields()) {
        let mut wire = encode(&pieces, Some(&trailers));
        wire.extend_from_slice(b"next");
        let expected = Body {
            data: pieces.concat(),
            trailers: (!trailers.is_empty()).then_some(trailers),
            rest: b"next".to_vec(),
        };
        for split in 0..=wire.len() {
            let (first, second) = wire.split_at(split);
            let body = decode_pieces([first, second]).unwrap().unwrap();
            prop_assert_eq!(&body, &expected);
        }
        let body = decode_pieces(wire.chunks(1)).unwrap().unwrap();
        prop_assert_eq!(&body, &expected);
    }

    #[test]
    fn never_panics_and_splits_change_nothing(
        text in "([0-9a-fA-F]{0,3}[;\r\n \tx]{0,4}){0,8}(0\r\n\r\n)?"
    ) {
        let whole = decode(&text);
        let bytewise = decode_pieces(text.as_bytes().chunks(1));
        prop_assert_eq!(whole, bytewise);
    }

    #[test]
    fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode(bytes));
    }
}
