//! One element: the same answer as the standard library's parsers, and the address survives rewriting.
#![no_main]

use headwater::client_ip::x_forwarded::{Node, node};
use headwater_fuzz::x_forwarded_element;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|element: &[u8]| {
    let expected = x_forwarded_element(element);
    match node(element) {
        Node::Addr(addr, port) => {
            assert_eq!(Some((addr.ip(), port)), expected);
            assert_eq!(
                node(addr.ip().to_string().as_bytes()),
                Node::Addr(addr, None)
            );
        }
        Node::Unknown => assert!(element.eq_ignore_ascii_case(b"unknown")),
        Node::Obfuscated(_) => panic!("{element:?}: X-Forwarded-For has no obfuscated names"),
        Node::Malformed(text) => assert_eq!((text, expected), (element, None)),
    }
});
