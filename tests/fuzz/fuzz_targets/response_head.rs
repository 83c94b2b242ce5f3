//! A response head: no panic, bounded, answers that more bytes don't change, and framing that nobody can read otherwise.
#![no_main]

use bytes::BytesMut;
use headwater::http1::response::{Framing, Limits, parse};
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
        let parsed = parse(&mut buffer, &method, &limits);
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

    let Ok(Some(head)) = whole else {
        assert!(whole.is_err() || input.len() < limits.max_bytes);
        return;
    };
    assert!(taken <= limits.max_bytes && head.headers.len() <= limits.max_fields);
    for value in head.headers.values() {
        assert!(
            !value
                .as_bytes()
                .iter()
                .any(|byte| matches!(byte, b'\r' | b'\n' | 0))
        );
    }
    let length = head.headers.get(header::CONTENT_LENGTH);
    match head.framing {
        Framing::Length(expected) => {
            assert_eq!(length.unwrap().to_str().unwrap().parse(), Ok(expected))
        }
        Framing::Chunked => assert!(length.is_none()),
        Framing::UntilClose => assert!(length.is_none() && !head.keep_alive),
        Framing::None => {}
    }
});
