//! Any bytes: no panic, bounded reads, answers that more bytes don't change, and a faithful encoder.
#![no_main]

use headwater::proxy_protocol::{Decoded, MAX_PREAMBLE_BYTES, decode, encode_v1, encode_v2};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = decode(input);
    for length in 0..input.len().min(200) {
        let early = decode(&input[..length]);
        assert!(early == Ok(Decoded::Incomplete) || early == whole);
    }
    let most = if input.starts_with(b"PROXY ") {
        107
    } else {
        MAX_PREAMBLE_BYTES
    };
    if input.len() >= most {
        assert_ne!(whole, Ok(Decoded::Incomplete));
    }
    let Ok(Decoded::Complete { header, len }) = whole else {
        return;
    };
    assert!(len <= input.len());
    assert_eq!(decode(&input[..len]), decode(input));

    for encode in [encode_v1, encode_v2] {
        let mut out = Vec::new();
        encode(header.addresses, &mut out);
        let Ok(Decoded::Complete { header: again, len }) = decode(&out) else {
            panic!("{out:?}")
        };
        assert_eq!((again.addresses, len), (header.addresses, out.len()));
    }
});
