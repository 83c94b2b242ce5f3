//! A response head: no panic, bounded, read as another parser reads it, alike in pieces of any size, and with framing that
//! nobody can read otherwise.
#![no_main]

use bytes::BytesMut;
use headwater::http1::response::{Framing, Head, Limits, Reader};
use http::{Method, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let method = if choice % 2 == 0 {
        Method::GET
    } else {
        Method::HEAD
    };
    let limits = Limits {
        max_bytes: 2048,
        max_fields: 8,
    };
    let parse = |bytes: &[u8]| {
        let mut buffer = BytesMut::from(bytes);
        let parsed = Reader::default().read(&mut buffer, &method, &limits);
        (parsed, bytes.len() - buffer.len())
    };

    let (whole, taken) = parse(input);
    for length in 0..input.len().min(300) {
        match parse(&input[..length]) {
            (Ok(None), early) => assert_eq!(early, 0),
            (Ok(Some(head)), early) => {
                let whole = whole.as_ref().unwrap().as_ref().unwrap();
                assert_eq!(
                    (early, head.status, head.framing),
                    (taken, whole.status, whole.framing)
                );
                break;
            }
            (Err(_), _) => assert!(whole.is_err()),
        }
    }

    let mut reader = Reader::default();
    let mut buffer = BytesMut::new();
    let in_pieces = input.chunks(3).find_map(|piece| {
        buffer.extend_from_slice(piece);
        reader.read(&mut buffer, &method, &limits).transpose()
    });
    match (&whole, in_pieces) {
        (Ok(Some(head)), Some(Ok(other))) => {
            assert_eq!((head.status, head.framing), (other.status, other.framing));
            assert!(head.fields.iter().eq(other.fields.iter()));
        }
        (Ok(None), None) | (Err(_), Some(Err(_))) => {}
        (whole, in_pieces) => panic!("{whole:?}, but in pieces {in_pieces:?}"),
    }

    let Ok(Some(head)) = whole else {
        assert!(whole.is_err() || input.len() < limits.max_bytes);
        return;
    };
    assert!(taken <= limits.max_bytes && head.fields.len() <= limits.max_fields);
    same_as_another(&head, taken, &input[..taken]);
    for (_, value) in head.fields.iter() {
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    let length = head.fields.get(&header::CONTENT_LENGTH);
    match head.framing {
        Framing::Length(expected) => {
            assert_eq!(
                std::str::from_utf8(length.unwrap()).unwrap().parse(),
                Ok(expected)
            )
        }
        Framing::Chunked => assert!(length.is_none()),
        Framing::UntilClose => assert!(length.is_none() && !head.keep_alive),
        Framing::None => {}
    }
});

/// What is accepted, another parser accepts, and reads the same in it.
fn same_as_another(head: &Head, taken: usize, bytes: &[u8]) {
    let mut storage = [httparse::EMPTY_HEADER; 16];
    let mut other = httparse::Response::new(&mut storage);
    assert_eq!(other.parse(bytes), Ok(httparse::Status::Complete(taken)));
    assert_eq!(other.code, Some(head.status.as_u16()));
    // A Content-Length that must not be believed, or not be sent on, is left out.
    let keeps_length = head.fields.contains(&header::CONTENT_LENGTH);
    let expected = other.headers.iter();
    let expected =
        expected.filter(|field| keeps_length || !field.name.eq_ignore_ascii_case("content-length"));
    let expected: Vec<(&[u8], &[u8])> = expected
        .map(|field| (field.name.as_bytes(), field.value))
        .collect();
    let fields: Vec<(&[u8], &[u8])> = head.fields.iter().collect();
    assert_eq!(fields, expected);
    // Whoever needs a map gets all of them.
    assert_eq!(head.fields.to_map(|_| true).len(), expected.len());
}
