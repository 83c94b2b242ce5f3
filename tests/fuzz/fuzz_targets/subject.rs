//! Any bytes as a distinguished name: no panic, and a text that is fit for a header field and has as many parts.
#![no_main]

use headwater::transport::tls::subject::{MAX_BYTES, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = render(input) else {
        return;
    };
    assert!(text.len() <= MAX_BYTES);
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert_eq!(text.trim(), text);
    assert_eq!(text.is_empty(), input.is_empty());

    let mut escaped = false;
    let mut parts = usize::from(!text.is_empty());
    for byte in text.bytes() {
        parts += usize::from(byte == b',' && !escaped);
        escaped = byte == b'\\' && !escaped;
    }
    assert!(!escaped);
    assert_eq!(parts, elements(input));
});

/// How many elements stand one after the other.
fn elements(mut input: &[u8]) -> usize {
    let mut count = 0;
    while !input.is_empty() {
        let (header, length) = match input[1] {
            0x81 => (3, usize::from(input[2])),
            0x82 => (4, usize::from(input[2]) << 8 | usize::from(input[3])),
            short => (2, usize::from(short)),
        };
        input = &input[header + length..];
        count += 1;
    }
    count
}
