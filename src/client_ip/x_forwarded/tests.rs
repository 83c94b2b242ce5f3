use proptest::prelude::*;

use super::*;
use crate::fields::Fields;
use crate::fields::tests::received;

fn addr(text: &str) -> Addr {
    Addr::new(text.parse().expect(text)).expect(text)
}

#[test]
fn addresses_are_read_with_or_without_port_and_brackets() {
    for (text, expected, port) in [
        ("203.0.113.7", "203.0.113.7", None),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("203.0.113.7:4711", "203.0.113.7", Some(4711)),
        ("203.0.113.7:00080", "203.0.113.7", Some(80)),
        ("203.0.113.7:65535", "203.0.113.7", Some(65535)),
        ("[2001:db8::1]:4711", "2001:db8::1", Some(4711)),
        ("2001:db8::1:4711", "2001:db8::1:4711", None),
        ("::ffff:203.0.113.7", "203.0.113.7", None),
        ("::ffff:cb00:7107", "203.0.113.7", None),
        ("[::ffff:203.0.113.7]:99", "203.0.113.7", Some(99)),
        ("2001:0DB8:0:0:0:0:0:0001", "2001:db8::1", None),
        ("::203.0.113.7", "::203.0.113.7", None),
        ("64:ff9b::203.0.113.7", "64:ff9b::203.0.113.7", None),
        ("127.0.0.1", "127.0.0.1", None),
        ("::1", "::1", None),
    ] {
        assert_eq!(
            node(text.as_bytes()),
            Node::Addr(addr(expected), port),
            "{text}"
        );
    }
}

#[test]
fn whatever_two_readers_could_understand_differently_is_malformed() {
    for text in [
        "203.0.113.7:0",
        "203.0.113.7:99999",
        "203.0.113.7:123456",
        "203.0.113.7:",
        "203.0.113.7:http",
        "203.0.113.7:+80",
        "[2001:db8::1]:0",
        "[2001:db8::1]:99999",
        "[2001:db8::1]:",
        "[2001:db8::1]x",
        "[2001:db8::1",
        "2001:db8::1]",
        "[203.0.113.7]:80",
        "[]",
        "203.000.113.007",
        "012.1.2.3",
        "::ffff:012.1.2.3",
        "203..113.7",
        "...",
        "256.1.1.1",
        "203.0.113.7.",
        "10.1",
        "3405803783",
        "0xcb.0.113.7",
        "2001:::1",
        ":",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "255.255.255.255",
        "::ffff:255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "[fe80::1%eth0]:80",
        "203.0.113.7/32",
        "localhost",
        "client.example.test",
        "\"203.0.113.7\"",
        "for=203.0.113.7",
        "6.6.6.6 203.0.113.7",
        "6.6.6.6\t203.0.113.7",
        "6.6.6.6; 203.0.113.7",
        "_hidden",
        "-",
        "203.0.113.7\u{e9}",
        "<script>alert(1)</script>",
        "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:655350000000000000000",
    ] {
        assert_eq!(
            node(text.as_bytes()),
            Node::Malformed(text.as_bytes()),
            "{text}"
        );
    }
}

#[test]
fn the_word_unknown_hides_a_party() {
    assert_eq!(node(b"unknown"), Node::Unknown);
    assert_eq!(node(b"Unknown"), Node::Unknown);
}

fn lines(values: &[&str]) -> Fields {
    received(values.iter().map(|value| ("X-Forwarded-For", *value)))
}

fn right_to_left(headers: &Fields, limits: Limits) -> (Vec<String>, Step<()>) {
    let mut elements = Elements::new(headers.get_all(&X_FORWARDED_FOR), limits);
    let mut seen = Vec::new();
    loop {
        match elements.step() {
            Step::Element(text) => seen.push(String::from_utf8_lossy(text).into_owned()),
            Step::End => return (seen, Step::End),
            Step::OverLimit => return (seen, Step::OverLimit),
        }
    }
}

#[test]
fn all_lines_are_one_list_read_right_to_left() {
    for (values, expected) in [
        (&["a,b , c"] as &[&str], "c b a"),
        (&["a", "b,\tc"], "c b a"),
        (&["a,,b", "", ", ,c,"], "c b a"),
        (&["", ","], ""),
        (&[], ""),
    ] {
        let (seen, end) = right_to_left(&lines(values), Limits::HEAD);
        assert_eq!(
            (seen.join(" ").as_str(), end),
            (expected, Step::End),
            "{values:?}"
        );
    }
}

#[test]
fn limits_count_from_the_right() {
    let headers = lines(&["far,near", "nearest"]);
    for (bytes, expected) in [
        (8, "nearest"),
        (12, "nearest"),
        (13, "nearest near"),
        (16, "nearest near far"),
    ] {
        let (seen, _) = right_to_left(&headers, Limits { bytes, empty: 9 });
        assert_eq!(seen.join(" "), expected, "{bytes} bytes");
    }
    assert_eq!(
        right_to_left(
            &headers,
            Limits {
                bytes: 15,
                empty: 9
            }
        )
        .1,
        Step::OverLimit
    );
    assert_eq!(
        right_to_left(
            &lines(&["a,,,"]),
            Limits {
                bytes: 99,
                empty: 3
            }
        )
        .1,
        Step::End
    );
    assert_eq!(
        right_to_left(
            &lines(&["a,,,"]),
            Limits {
                bytes: 99,
                empty: 2
            }
        )
        .1,
        Step::OverLimit
    );
}

#[test]
fn a_place_can_be_read_again_from_left_to_right() {
    let headers = lines(&["a", "b, c,", "", "d, e"]);
    let all = headers.get_all(&X_FORWARDED_FOR);
    for (steps, expected) in [
        (1, "e"),
        (2, "d e"),
        (3, "c d e"),
        (4, "b c d e"),
        (5, "a b c d e"),
    ] {
        let mut elements = Elements::new(all.clone(), Limits::HEAD);
        for _ in 0..steps {
            elements.step();
        }
        let again: Vec<_> = elements
            .place()
            .elements(all.clone())
            .map(|text| String::from_utf8_lossy(text))
            .collect();
        assert_eq!(again.join(" "), expected);
    }
}

#[test]
fn hosts_are_names_or_addresses_with_or_without_port() {
    for host in [
        "example.test",
        "a_b.example.test:8443",
        "203.0.113.7",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
    ] {
        assert!(is_host(host.as_bytes()), "{host}");
    }
    for host in [
        "",
        ":80",
        "a b",
        "a/b",
        "user@host",
        "a:0",
        "a:99999",
        "a:b:c",
        "[::1",
        "a\"b",
        "b\u{e9}",
    ] {
        assert!(!is_host(host.as_bytes()), "{host}");
    }
}

#[test]
fn schemes_are_few_and_lower_case() {
    assert_eq!(scheme(b"HTTPS"), Some("https"));
    assert_eq!(scheme(b"wss"), Some("wss"));
    for text in ["", "gopher", "https,http", "http "] {
        assert_eq!(scheme(text.as_bytes()), None, "{text}");
    }
}

proptest! {
    #[test]
    fn decimals_are_written_as_the_standard_library_does(number: u16) {
        let mut out = Vec::new();
        write_decimal(&mut out, number);
        prop_assert_eq!(out, number.to_string().into_bytes());
    }

    #[test]
    fn an_address_written_reads_back(ip: IpAddr) {
        prop_assume!(Addr::new(ip).is_some());
        let mut out = Vec::new();
        write_ip(&mut out, ip.to_canonical());
        prop_assert_eq!(&out, &ip.to_canonical().to_string().into_bytes());
        prop_assert_eq!(node(&out), Node::Addr(Addr::new(ip).expect("assumed"), None));
    }

    #[test]
    fn what_is_read_as_an_address_is_one_for_the_standard_library_too(text in "[0-9a-f:.\\[\\]]{1,40}") {
        if let Node::Addr(addr, port) = node(text.as_bytes()) {
            let ip = text.parse().or_else(|_| text.parse().map(|socket: std::net::SocketAddr| socket.ip()));
            let ip = ip.or_else(|_| text.trim_matches(['[', ']']).parse());
            prop_assert_eq!(Addr::new(ip.expect("an address")), Some(addr));
            prop_assert_ne!(port, Some(0));
        }
    }
}
