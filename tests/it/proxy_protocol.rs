//! PROXY headers: believed from listed senders, anybody else's are a bad request.

use std::net::IpAddr;

use crate::support::{GET, Proxy, Wire};

const BALANCER: &str = "127.10.0.1";
const STRANGER: &str = "127.66.0.9";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";

/// Version 2, PROXY, TCP over IPv4: 203.0.113.7:4711 to 192.0.2.1:443.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x12\x67\x01\xbb";
/// Version 2, LOCAL.
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn proxy(mode: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n  http:\n    address: \"127.0.0.1:0\"\n    \
         proxy_protocol: {{ mode: {mode}, from: [127.10.0.0/16], timeout: 300ms }}\n\
         upstreams: {{ whoami: {{ builtin: whoami }} }}\nroutes: [{{ upstream: whoami }}]\n"
    ))
}

fn from(proxy: &Proxy, source: &str) -> Wire<std::net::TcpStream> {
    proxy.client_from(source.parse::<IpAddr>().unwrap())
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_listed_sender_names_the_client() {
    for mode in ["optional", "required"] {
        let proxy = proxy(mode);
        for preamble in [V1, V2] {
            let mut client = from(&proxy, BALANCER);
            client.send([preamble, GET.as_bytes()].concat());
            let answer = client.response();
            assert_eq!(line(answer.text(), "ClientIP"), "203.0.113.7");
            assert_eq!(line(answer.text(), "ClientIPSource"), "proxy_protocol");
            assert_eq!(line(answer.text(), "X-Forwarded-For"), "203.0.113.7");
            assert_eq!(line(answer.text(), "X-Forwarded-Port"), "443");
            assert!(line(answer.text(), "RemoteAddr").starts_with("127.10.0.1:"));
        }
    }
}

#[test]
fn a_preamble_may_come_byte_by_byte() {
    let proxy = proxy("required");
    for preamble in [V1, V2] {
        let mut client = from(&proxy, BALANCER);
        for byte in preamble {
            client.send([*byte]);
        }
        let answer = client.ask(GET);
        assert_eq!(line(answer.text(), "ClientIP"), "203.0.113.7");
    }
}

#[test]
fn a_preamble_without_a_source_means_the_sender() {
    let proxy = proxy("required");
    for preamble in [&b"PROXY UNKNOWN ffff::1 whatever\r\n"[..], V2_LOCAL] {
        let mut client = from(&proxy, BALANCER);
        client.send([preamble, GET.as_bytes()].concat());
        let answer = client.response();
        assert_eq!(line(answer.text(), "ClientIP"), BALANCER);
        assert_eq!(line(answer.text(), "ClientIPSource"), "peer");
    }
}

#[test]
fn a_listed_sender_may_speak_without_one_where_it_is_optional() {
    let proxy = proxy("optional");
    let answer = from(&proxy, BALANCER).ask(GET);
    assert_eq!(line(answer.text(), "ClientIP"), BALANCER);
}

#[test]
fn a_listed_sender_without_one_is_closed_where_it_is_required() {
    let proxy = proxy("required");
    let mut client = from(&proxy, BALANCER);
    client.offer(GET);
    client.assert_closed();
}

#[test]
fn a_strangers_preamble_is_a_bad_request() {
    for mode in ["optional", "required"] {
        let proxy = proxy(mode);
        for preamble in [V1, V2] {
            let mut client = from(&proxy, STRANGER);
            client.offer([preamble, GET.as_bytes()].concat());
            let answer = String::from_utf8_lossy(&client.until_closed()).into_owned();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
            assert!(!answer.contains("203.0.113.7"), "{answer:?}");
        }
        let answer = from(&proxy, STRANGER).ask(GET);
        assert_eq!(line(answer.text(), "ClientIP"), STRANGER);
    }
}

#[test]
fn a_broken_preamble_ends_the_connection() {
    let proxy = proxy("required");
    for preamble in [
        &b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 70000\r\n"[..],
        b"PROXY TCP4 203.0.113.300 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 04711 443\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\n",
        b"PROXY TCP5 203.0.113.7 192.0.2.1 4711 443\r\n",
        b"proxy TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x12\x67\x01\xbb",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xcb\0\x71\x07",
        &[V1, V1].concat(),
        &[V2, V2].concat(),
    ] {
        let mut client = from(&proxy, BALANCER);
        client.offer([preamble, GET.as_bytes()].concat());
        let answer = String::from_utf8_lossy(&client.until_closed()).into_owned();
        assert!(!answer.contains("200 OK"), "{preamble:?}: {answer:?}");
    }
}

#[test]
fn a_preamble_that_does_not_come_in_time_ends_the_connection() {
    let proxy = proxy("required");
    for beginning in [&b""[..], b"PROXY TCP4 203.0"] {
        let mut client = from(&proxy, BALANCER);
        client.send(beginning);
        client.assert_closed();
    }
}

#[test]
fn header_trust_is_judged_on_the_named_source() {
    let proxy = Proxy::start(
        "listeners:\n  http:\n    address: \"127.0.0.1:0\"\n    \
         proxy_protocol: { mode: required, from: [127.10.0.0/16] }\n\
         client_ip: { trusted_proxies: [127.10.0.0/16, 198.51.100.0/24] }\n\
         upstreams: { whoami: { builtin: whoami } }\nroutes: [{ upstream: whoami }]\n",
    );
    for (source, client) in [
        ("198.51.100.9", "192.0.2.77"),
        ("203.0.113.7", "203.0.113.7"),
    ] {
        let mut wire = from(&proxy, BALANCER);
        wire.send(format!(
            "PROXY TCP4 {source} 192.0.2.1 4711 443\r\n\
             GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 192.0.2.77\r\n\r\n"
        ));
        let answer = wire.response();
        assert_eq!(line(answer.text(), "ClientIP"), client, "{source}");
    }
}
