use proptest::prelude::*;

use super::*;

fn addr(text: &str) -> Addr {
    Addr::new(text.parse().expect(text)).expect(text)
}

#[test]
fn nodes_are_read_by_rfc_7239_and_as_commonly_written() {
    for (text, expected, port) in [
        ("for=203.0.113.7", "203.0.113.7", None),
        ("For=203.0.113.7;Proto=http", "203.0.113.7", None),
        ("by=10.0.0.1;for=203.0.113.7", "203.0.113.7", None),
        ("proto=https ; for=203.0.113.7 ;", "203.0.113.7", None),
        (";;for=203.0.113.7", "203.0.113.7", None),
        ("for=\"203.0.113.7:4711\"", "203.0.113.7", Some(4711)),
        ("for=203.0.113.7:4711", "203.0.113.7", Some(4711)),
        ("for=\"203.0.113.7:_port\"", "203.0.113.7", None),
        ("for=\"[2001:db8::1]\"", "2001:db8::1", None),
        ("for=\"[2001:db8::1]:4711\"", "2001:db8::1", Some(4711)),
        ("for=[2001:db8::1]:4711", "2001:db8::1", Some(4711)),
        ("for=\"[::ffff:203.0.113.7]\"", "203.0.113.7", None),
        ("for=\"\\203.0.113.7\"", "203.0.113.7", None),
        ("for=203.0.113.7;secret=\"a;b=\\\"c\"", "203.0.113.7", None),
    ] {
        assert_eq!(
            node(text.as_bytes()),
            Node::Addr(addr(expected), port),
            "{text}"
        );
    }
}

#[test]
fn parties_may_hide() {
    for text in [
        "for=unknown",
        "for=\"UNKNOWN\"",
        "for=\"unknown:47011\"",
        "proto=https",
        "",
    ] {
        assert_eq!(node(text.as_bytes()), Node::Unknown, "{text}");
    }
    assert_eq!(node(b"for=_secret"), Node::Obfuscated(b"_secret"));
    assert_eq!(node(b"for=\"_a.b-c:_d\""), Node::Obfuscated(b"_a.b-c:_d"));
}

#[test]
fn unreadable_elements_say_nothing() {
    for text in [
        "for=203.0.113.7;for=6.6.6.6",
        "for=203.0.113.7;FOR=203.0.113.7",
        "for=203.0.113.7;proto=http;proto=https",
        "for=\"203.0.113.7",
        "203.0.113.7",
        "for",
        "for=",
        "=203.0.113.7",
        "for =203.0.113.7",
        "for= 203.0.113.7",
        "for=203.0.113.7 proto=http",
        "for=\"203.0.113.7\"x",
        "for=203.0.113.7;\"",
        "f(r=1;for=203.0.113.7",
        "for=203.0.113.7;x=\u{1}",
        "for=203.0.113.7;x=\"\u{1}\"",
    ] {
        assert!(element(text.as_bytes()).is_err(), "{text}");
        assert_eq!(
            node(text.as_bytes()),
            Node::Malformed(text.as_bytes()),
            "{text}"
        );
    }
}

#[test]
fn nodes_that_are_no_address_are_malformed() {
    for text in [
        "",
        "2001:db8::1",
        "[2001:db8::1]:0",
        "203.0.113.7:123456",
        "203.0.113.7:",
        "[203.0.113.7]",
        "[fe80::1%eth0]",
        "203.000.113.007",
        "0.0.0.0",
        "example.test",
        "_",
        "_a b",
        "unknown:x",
        "[[2001:db8::1]]",
    ] {
        let element = format!("for=\"{text}\"");
        assert_eq!(
            node(element.as_bytes()),
            Node::Malformed(text.as_bytes()),
            "{text}"
        );
    }
}

#[test]
fn a_node_of_any_length_is_read_in_bounded_space() {
    let long = format!("for=\"{}203.0.113.7\"", "\\0".repeat(500));
    assert!(matches!(node(long.as_bytes()), Node::Malformed(_)));
}

#[test]
fn proto_and_host_are_told_apart_from_their_quotes() {
    let element = element(b"proto=https;host=\"example.test:8443\"").expect("legal");
    assert_eq!(element.proto, Some(b"https".as_slice()));
    assert_eq!(element.host, Some(b"example.test:8443".as_slice()));
}

fn written(statement: Statement<'_>) -> String {
    let mut out = Vec::new();
    statement.write(&mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn elements_are_written_with_quotes_where_the_grammar_needs_them() {
    for (node, by, host, expected) in [
        (Some(("203.0.113.7", None)), None, None, "for=203.0.113.7"),
        (
            Some(("203.0.113.7", Some(80))),
            None,
            None,
            "for=\"203.0.113.7:80\"",
        ),
        (
            Some(("2001:db8::1", None)),
            Some("10.0.0.1"),
            None,
            "for=\"[2001:db8::1]\";by=10.0.0.1",
        ),
        (
            Some(("2001:db8::1", Some(80))),
            Some("::1"),
            None,
            "for=\"[2001:db8::1]:80\";by=\"[::1]\"",
        ),
        (None, None, Some("a.test"), "for=unknown;host=a.test"),
        (
            None,
            None,
            Some("a.test:80"),
            "for=unknown;host=\"a.test:80\"",
        ),
        (
            None,
            None,
            Some("a\"b\\"),
            "for=unknown;host=\"a\\\"b\\\\\"",
        ),
    ] {
        let statement = Statement {
            node: node.map(|(ip, port)| (addr(ip), port)),
            by: by.map(addr),
            host: host.map(str::as_bytes),
            proto: None,
        };
        assert_eq!(written(statement), expected);
    }
}

proptest! {
    #[test]
    fn an_element_written_reads_back(ip: std::net::IpAddr, port in proptest::option::of(1u16..), host in "[ -+\\--~]{1,20}") {
        prop_assume!(Addr::new(ip).is_some());
        let node = (Addr::new(ip).expect("assumed"), port);
        let statement = Statement { node: Some(node), by: Some(node.0), host: Some(host.as_bytes()), proto: Some("https") };
        let text = written(statement);
        let read = element(text.as_bytes()).expect("we write what we read");
        prop_assert_eq!(read.node, Node::Addr(node.0, node.1));
        prop_assert_eq!(read.proto, Some(b"https".as_slice()));
    }

    #[test]
    fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _outcome = element(&text);
    }
}
