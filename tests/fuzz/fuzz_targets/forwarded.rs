//! One element of `Forwarded`: no panic, and what doesn't matter to the grammar doesn't matter.
#![no_main]

use headwater::client_ip::forwarded::{element, node};
use headwater::client_ip::x_forwarded::Node;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Elements never hold a comma, and values neither CR, LF nor NUL.
    if input
        .iter()
        .any(|byte| matches!(byte, b',' | b'\r' | b'\n' | 0))
    {
        return;
    }
    let read = element(input);

    let spaced = [b"\t ", input, b" \t"].concat();
    assert_eq!(element(&spaced), read);

    let shouted = input.to_ascii_uppercase();
    match (node(input), node(&shouted)) {
        (Node::Addr(one, port), Node::Addr(other, other_port)) => {
            assert_eq!((one, port), (other, other_port));
        }
        (one, other) => {
            assert_eq!(std::mem::discriminant(&one), std::mem::discriminant(&other));
        }
    }

    let Ok(read) = read else { return };
    let extended = [input, b";x-own=1"].concat();
    assert_eq!(element(&extended), Ok(read));
    if let Node::Addr(addr, _) = read.node {
        let written = match addr.ip() {
            std::net::IpAddr::V4(ip) => format!("for={ip}"),
            std::net::IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        assert_eq!(node(written.as_bytes()), Node::Addr(addr, None));
        assert!(
            element(&[input, b";for=192.0.2.1"].concat()).is_err(),
            "`for` twice"
        );
    }
});
