//! A chunked body in pieces of any size: the same body, the same end and the same refusal as at once, and as a naive
//! reader of the whole finds.
//!
//! Input: how many cuts, the length of each piece, the body.
#![no_main]

use bytes::BytesMut;
use headwater::http1::chunked::{
    Decoder, Error, MAX_EXTENSION_BYTES, MAX_TRAILERS, Step, may_trail, write_end, write_size,
};
use headwater_fuzz::chunked::{self, Body, Bounds, Field};
use headwater_fuzz::pieces;
use http::{HeaderMap, HeaderName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((cuts, rest)) = input.split_first() else {
        return;
    };
    let Some((choices, body)) = rest.split_at_checked(usize::from(cuts % 16)) else {
        return;
    };

    let whole = decode(&[body]);
    let cut = decode(&pieces(body, choices));
    assert_eq!(cut, whole);
    if body.len() < 200 {
        assert_eq!(decode(&body.chunks(1).collect::<Vec<_>>()), whole);
    }

    compare(&whole, chunked::read(body, BOUNDS));

    let (data, end) = whole;
    if matches!(end, End::Complete { .. }) {
        let mut written = Vec::new();
        for chunk in data.chunks(100) {
            write_size(&mut written, chunk.len());
            written.extend_from_slice(chunk);
            written.extend_from_slice(b"\r\n");
        }
        write_end(&mut written, None);
        assert_eq!(
            decode(&[&written]),
            (
                data,
                End::Complete {
                    left: 0,
                    trailers: Vec::new()
                }
            )
        );
    }
});

/// Those of [`Decoder::default`].
const BOUNDS: Bounds = Bounds {
    extension_bytes: MAX_EXTENSION_BYTES,
    trailer_bytes: 8 * 1024,
    trailers: MAX_TRAILERS,
};

/// Panics unless both found the same.
fn compare((data, end): &(Vec<u8>, End), (expected, body): (Vec<u8>, Body)) {
    assert_eq!(*data, expected);
    match (end, body) {
        (
            End::Complete { left, trailers },
            Body::Complete {
                left: expected,
                trailers: fields,
            },
        ) => {
            assert_eq!((*left, trailers), (expected, &passed_on(fields)));
        }
        (End::Cut, Body::Cut | Body::Undecided)
        | (End::Refused(_), Body::Refused | Body::Undecided) => {}
        (end, body) => panic!("{end:?}, but {body:?}"),
    }
}

/// In the order of names, which is the only one that two lists of fields have in common.
fn passed_on(mut fields: Vec<Field>) -> Vec<Field> {
    fields.retain(|(name, _)| may_trail(&HeaderName::from_bytes(name.as_bytes()).unwrap()));
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn listed(fields: &HeaderMap) -> Vec<Field> {
    let field = |(name, value): (&HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    passed_on(fields.iter().map(field).collect())
}

#[derive(Debug, PartialEq)]
enum End {
    Cut,
    Complete { left: usize, trailers: Vec<Field> },
    Refused(Error),
}

fn decode(reads: &[&[u8]]) -> (Vec<u8>, End) {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let mut data = Vec::new();
    let mut complete = None;
    for read in reads {
        buffer.extend_from_slice(read);
        while complete.is_none() {
            match decoder.decode(&mut buffer) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Data(piece)) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Ok(Step::End(trailers)) => {
                    complete = Some(trailers.as_ref().map_or_else(Vec::new, listed))
                }
                Err(error) => return (data, End::Refused(error)),
            }
        }
    }
    let end = complete.map_or(End::Cut, |trailers| End::Complete {
        left: buffer.len(),
        trailers,
    });
    (data, end)
}
