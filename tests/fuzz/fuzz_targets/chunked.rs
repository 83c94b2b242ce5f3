//! A chunked body in pieces of any size: the same body, the same end and the same refusal as at once.
//!
//! Input: how many cuts, the length of each piece, the body.
#![no_main]

use bytes::BytesMut;
use headwater::http1::chunked::{Decoder, Error, Step, write_end, write_size};
use headwater_fuzz::pieces;
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
                    trailers: 0
                }
            )
        );
    }
});

#[derive(Debug, PartialEq)]
enum End {
    Cut,
    Complete { left: usize, trailers: usize },
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
                    complete = Some(trailers.map_or(0, |trailers| trailers.len()))
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
