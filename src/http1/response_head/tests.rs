use http::header::{CONNECTION, CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::*;

const GET: Asked = Asked {
    head: false,
    version: Version::HTTP_11,
    keep_alive: true,
};

fn written(
    asked: Asked,
    status: u16,
    fields: &[(http::HeaderName, &'static str)],
    length: Option<u64>,
) -> (String, Announced) {
    let fields: HeaderMap = fields
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
        .collect();
    let mut out = Vec::new();
    let status = StatusCode::from_u16(status).unwrap();
    let announced = write(&mut out, asked, status, &fields.into(), length);
    (String::from_utf8(out).unwrap(), announced)
}

#[test]
fn a_head_is_written_as_a_whole() {
    let fields = [(ETAG, "\"x\""), (ETAG, "\"y\"")];
    let (head, announced) = written(GET, 200, &fields, Some(5));
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\netag: \"x\"\r\netag: \"y\"\r\ncontent-length: 5\r\n\r\n"
    );
    let expected = Announced {
        framing: Framing::Length(5),
        keep_alive: true,
    };
    assert_eq!(announced, expected);
    assert_eq!(
        written(GET, 599, &[], Some(0)).0,
        "HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n"
    );
}

#[test]
fn framing_fields_are_left_out_however_they_are_spelt() {
    let text = "HTTP/1.1 200 OK\r\nCONTENT-length: 2\r\nX-Own: 1\r\n\r\n";
    let read = |text: &str| {
        let limits = crate::http1::response::Limits::default();
        let head =
            crate::http1::response::Reader::default().read(&mut text.into(), &Method::GET, &limits);
        head.unwrap().unwrap().fields
    };
    let written = |fields: &Fields, length| {
        let mut out = Vec::new();
        write(&mut out, GET, StatusCode::OK, fields, length);
        String::from_utf8(out).unwrap()
    };
    let expected = "HTTP/1.1 200 OK\r\nX-Own: 1\r\ncontent-length: 2\r\n\r\n";
    assert_eq!(written(&read(text), None), expected);
    let text = text.replace("CONTENT-length: 2", "tRANSFER-Encoding: chunked");
    assert_eq!(written(&read(&text), Some(2)), expected);
    let text = text.replace("tRANSFER-Encoding: chunked", "CONNECTION: Close");
    assert_eq!(
        written(&read(&text), Some(2)),
        "HTTP/1.1 200 OK\r\nCONNECTION: Close\r\nX-Own: 1\r\ncontent-length: 2\r\n\r\n"
    );
}

/// The framing fields of a head, and how its body is framed.
fn framed(
    asked: Asked,
    status: u16,
    fields: &[(http::HeaderName, &'static str)],
    length: Option<u64>,
) -> (String, Framing) {
    let (text, announced) = written(asked, status, fields, length);
    let framing = text
        .split_inclusive("\r\n")
        .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-"));
    (framing.collect(), announced.framing)
}

#[test]
fn a_body_is_framed_once() {
    let http10 = Asked {
        version: Version::HTTP_10,
        ..GET
    };
    let length = &[(CONTENT_LENGTH, "7")][..];
    let coding = &[(TRANSFER_ENCODING, "gzip")][..];
    let (seven, nine) = ("content-length: 7\r\n", "content-length: 9\r\n");
    let chunks = "transfer-encoding: chunked\r\n";
    for (asked, fields, known, framing, expected) in [
        (GET, &[][..], None, Framing::Chunked, chunks),
        (GET, coding, None, Framing::Chunked, chunks),
        (GET, length, None, Framing::Length(7), seven),
        // What is sent counts, not what is said.
        (GET, length, Some(9), Framing::Length(9), nine),
        (http10, &[], None, Framing::UntilClose, ""),
    ] {
        let framed = framed(asked, 200, fields, known);
        assert_eq!(
            framed,
            (expected.to_owned(), framing),
            "{fields:?} {known:?}"
        );
    }
}

#[test]
fn a_head_without_a_body_may_tell_of_one() {
    let head = Asked { head: true, ..GET };
    let length = &[(CONTENT_LENGTH, "7")][..];
    for (asked, status, fields, known, expected) in [
        (GET, 204, length, None, ""),
        (GET, 101, length, None, ""),
        (GET, 304, length, Some(0), "content-length: 7\r\n"),
        (GET, 304, &[], Some(0), ""),
        (head, 200, length, Some(0), "content-length: 7\r\n"),
        (head, 200, &[], Some(4), "content-length: 4\r\n"),
        (head, 200, &[], None, ""),
    ] {
        let framed = framed(asked, status, fields, known);
        assert_eq!(
            framed,
            (expected.to_owned(), Framing::None),
            "{status} {fields:?}"
        );
    }
}

#[test]
fn the_end_of_a_connection_is_announced() {
    let close = (CONNECTION, "close");
    let upgrade = (CONNECTION, "upgrade");
    let asked = |version, keep_alive| Asked {
        head: false,
        version,
        keep_alive,
    };
    let (old, new) = (Version::HTTP_10, Version::HTTP_11);
    for (asked, fields, length, keep_alive, expected) in [
        (asked(new, true), &[][..], Some(1), true, None),
        (
            asked(new, false),
            &[],
            Some(1),
            false,
            Some("connection: close"),
        ),
        (
            asked(new, true),
            std::slice::from_ref(&close),
            Some(1),
            false,
            Some("connection: close"),
        ),
        (
            asked(old, true),
            &[],
            Some(1),
            true,
            Some("connection: keep-alive"),
        ),
        (asked(old, false), &[], Some(1), false, None),
        (asked(old, true), &[], None, false, None),
        (
            asked(old, true),
            std::slice::from_ref(&close),
            Some(1),
            false,
            Some("connection: close"),
        ),
        (
            asked(new, true),
            &[upgrade],
            Some(1),
            true,
            Some("connection: upgrade"),
        ),
    ] {
        let (text, announced) = written(asked, 200, fields, length);
        let said = text.lines().find(|line| line.starts_with("connection"));
        assert_eq!(said, expected, "{asked:?} {fields:?}");
        assert_eq!(announced.keep_alive, keep_alive, "{asked:?} {fields:?}");
    }
}
