//! PROXY headers to upstreams: what they say, and that a connection never serves a second client.

use std::net::SocketAddr;

use headwater::proxy_protocol::{Decoded, decode};
use tempfile::TempDir;

use crate::support::{Authority, Frame, GET, Http2Wire, OK, Proxy, Upstream, Wire};

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A proxy that believes X-Forwarded-For from this machine.
fn config(upstream: &Upstream, settings: &str) -> String {
    format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners:\n  http: {{ address: \"0.0.0.0:0\" }}\n  unix: {{ address: \"unix:in.sock\" }}\n\
         client_ip: {{ trusted_proxies: [loopback] }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], {settings} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    )
}

fn start(upstream: &Upstream, settings: &str) -> Proxy {
    Proxy::start(&config(upstream, settings))
}

fn from(client: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\n\r\n")
}

/// Reads a version 2 header: what it says of source and destination, if anything.
fn v2<S: std::io::Read + std::io::Write>(wire: &mut Wire<S>) -> Option<(SocketAddr, SocketAddr)> {
    let mut header = wire.take(16);
    assert_eq!(&header[..12], V2_SIGNATURE);
    let length = u16::from_be_bytes([header[14], header[15]]);
    header.extend(wire.take(length.into()));
    match decode(&header).unwrap() {
        Decoded::Complete { header, .. } => header
            .addresses
            .map(|addresses| (addresses.source, addresses.destination)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn version_1_is_a_line_before_the_request() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "send_proxy_protocol: v1");
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = upstream.accept();
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET / HTTP/1.1\r\n",
        client.local_port(),
        proxy.address("http").port()
    );
    let first = endpoint.take(expected.len());
    assert_eq!(String::from_utf8(first).unwrap(), expected);
}

#[test]
fn version_2_says_the_same() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "send_proxy_protocol: v2");
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = upstream.accept();
    let source = SocketAddr::from(([127, 0, 0, 1], client.local_port()));
    let destination = SocketAddr::from(([127, 0, 0, 1], proxy.address("http").port()));
    assert_eq!(v2(&mut endpoint), Some((source, destination)));
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn the_client_is_the_one_that_was_found() {
    for (forwarded_for, expected) in [
        ("6.6.6.6, 198.51.100.7", "198.51.100.7:0"),
        ("198.51.100.7:4711", "198.51.100.7:4711"),
        ("2001:db8::7", "[2001:db8::7]:0"),
        ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
    ] {
        let upstream = Upstream::bind();
        let proxy = start(&upstream, "send_proxy_protocol: v2");
        let mut client = proxy.client();
        client.send(from(forwarded_for));
        let (source, _) = v2(&mut upstream.accept()).unwrap();
        assert_eq!(source, expected.parse().unwrap(), "{forwarded_for}");
    }
}

#[test]
fn families_are_made_equal() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "send_proxy_protocol: v1");
    let mut client = proxy.client();
    client.send(from("2001:db8::7"));
    let expected = "PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 0 ";
    let first = upstream.accept().take(expected.len());
    assert_eq!(String::from_utf8(first).unwrap(), expected);
}

#[test]
fn a_client_that_nobody_knows_is_not_made_up() {
    for (version, expected) in [
        ("v1", &b"PROXY UNKNOWN\r\nGET"[..]),
        ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET"),
    ] {
        let upstream = Upstream::bind();
        let proxy = start(&upstream, &format!("send_proxy_protocol: {version}"));
        let mut client = Wire::unix(&proxy.path("in.sock"));
        client.send(GET);
        let mut endpoint = upstream.accept();
        assert_eq!(endpoint.take(expected.len()), expected);
    }
}

#[test]
fn two_clients_never_share_a_connection() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "send_proxy_protocol: v2");
    let mut client = proxy.client();
    let mut connections = Vec::new();
    for name in ["198.51.100.1", "198.51.100.2"] {
        client.send(from(name));
        let mut endpoint = upstream.accept();
        assert_eq!(v2(&mut endpoint).unwrap().0.ip().to_string(), name);
        endpoint.request();
        endpoint.send(OK);
        assert_eq!(client.response().status(), 200);
        connections.push(endpoint);
    }
    // Each of them finds its own again.
    for (name, endpoint) in ["198.51.100.1", "198.51.100.2"]
        .iter()
        .zip(&mut connections)
    {
        client.send(from(name));
        assert_eq!(endpoint.request().field("x-real-ip"), Some(*name));
        endpoint.send(OK);
        assert_eq!(client.response().status(), 200);
    }
    upstream.assert_untouched();
}

#[test]
fn the_oldest_connection_makes_room_for_the_next_client() {
    let upstream = Upstream::bind();
    let proxy = start(
        &upstream,
        "send_proxy_protocol: v2, pool: { max_idle_per_endpoint: 1 }",
    );
    let mut client = proxy.client();
    let mut serve = |name: &str| {
        client.send(from(name));
        let mut endpoint = upstream.accept();
        v2(&mut endpoint);
        endpoint.request();
        endpoint.send(OK);
        assert_eq!(client.response().status(), 200);
        endpoint
    };
    let mut first = serve("198.51.100.1");
    let mut second = serve("198.51.100.2");
    first.assert_closed();
    client.send(from("198.51.100.2"));
    second.request();
}

#[test]
fn streams_of_two_clients_never_share_a_connection() {
    let upstream = Upstream::bind();
    let proxy = start(&upstream, "send_proxy_protocol: v2, protocol: h2c");
    let mut client = proxy.client();
    let mut connections = Vec::new();
    for name in ["198.51.100.1", "198.51.100.2"] {
        client.send(from(name));
        let mut endpoint = upstream.accept();
        assert_eq!(v2(&mut endpoint).unwrap().0.ip().to_string(), name);
        let mut endpoint = Http2Wire::accept(endpoint, &[]);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, Frame::END_STREAM, &[]);
        assert_eq!(client.response().status(), 200);
        connections.push(endpoint);
    }
    client.send(from("198.51.100.1"));
    let request = connections[0].next(Frame::HEADERS);
    assert_eq!(request.stream, 3);
    upstream.assert_untouched();
}

#[test]
fn it_goes_before_the_handshake_of_tls() {
    let upstream = Upstream::bind();
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    authority.write(directory.path(), "ca.pem");
    let settings = "send_proxy_protocol: v1, tls: { ca: ca.pem }";
    let proxy = Proxy::start_in(directory, &config(&upstream, settings));
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = upstream.accept();
    let port = client.local_port();
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} ");
    assert!(endpoint.raw_until("\r\n").starts_with(&line));
    let server = authority.issue(&["127.0.0.1"]).server(&[]);
    let mut endpoint = endpoint.accept_tls(server).unwrap();
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
}
