//! How connections end over TLS: what is complete is followed by `close_notify`, what was cut isn't.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;

use tempfile::TempDir;

use crate::support::{Certificate, Frame, GET, Proxy, TlsClient, Upstream};

struct Site {
    certificate: Certificate,
    upstream: Upstream,
    proxy: Proxy,
}

impl Site {
    fn new(timeouts: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let certificate = Certificate::for_names(&["site.test"]);
        certificate.write(directory.path(), "site");
        let upstream = Upstream::bind();
        let config = format!(
            "listeners:\n  https:\n    address: \"127.0.0.1:0\"\n    tls: {{ certificates: [{{ cert: site.crt, key: site.key }}] }}\n    \
             timeouts: {{ {timeouts} }}\n{}",
            upstream.as_only_route()
        );
        let proxy = Proxy::start_in(directory, &config);
        Self {
            certificate,
            upstream,
            proxy,
        }
    }

    fn client(&self, alpn: &str) -> TlsClient {
        let stream = TcpStream::connect(self.proxy.address("https")).unwrap();
        let config = Arc::new(self.certificate.client_config(&[alpn]));
        TlsClient::connect(config, "site.test", stream).unwrap()
    }

    /// What a client gets whose endpoint says this and closes.
    fn answer(&self, request: &str, response: &str) -> (String, End) {
        let mut client = self.client("http/1.1");
        client.send(request);
        let mut connection = self.upstream.accept();
        connection.request();
        connection.send(response);
        drop(connection);
        end_of(&mut client)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With `close_notify`.
    Clean,
    Cut,
}

/// Reads to the end.
fn end_of(client: &mut TlsClient) -> (String, End) {
    let mut came = Vec::new();
    let end = match client.stream_mut().read_to_end(&mut came) {
        Ok(_) => End::Clean,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => End::Cut,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Cut,
        Err(error) => panic!("{error}"),
    };
    (String::from_utf8(came).unwrap(), end)
}

const CLOSING: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const HTTP_10: &str = "GET / HTTP/1.0\r\n\r\n";

#[test]
fn a_complete_response_ends_cleanly() {
    let site = Site::new("");
    for (request, response) in [
        (CLOSING, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (
            CLOSING,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        // It ends with the connection, on one side or both.
        (CLOSING, "HTTP/1.1 200 OK\r\n\r\nabc"),
        (HTTP_10, "HTTP/1.1 200 OK\r\n\r\nabc"),
        (
            HTTP_10,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
    ] {
        let (came, end) = site.answer(request, response);
        assert!(came.contains("abc"), "{came}");
        assert_eq!(end, End::Clean, "{request} {response}");
    }
}

#[test]
fn a_response_that_was_cut_does_not_end_cleanly() {
    let site = Site::new("");
    for request in [GET, CLOSING, HTTP_10] {
        for response in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
        ] {
            let (came, end) = site.answer(request, response);
            assert_eq!(end, End::Cut, "{request} {response} {came}");
        }
    }
}

#[test]
fn an_endpoint_that_dies_cuts_the_response() {
    let site = Site::new("");
    for request in [CLOSING, HTTP_10] {
        let mut client = site.client("http/1.1");
        client.send(request);
        let mut connection = site.upstream.accept();
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n\r\nabc");
        client.head();
        assert!(String::from_utf8_lossy(&client.take(3)).contains(['a', '3']));
        connection.reset();
        assert_eq!(end_of(&mut client).1, End::Cut, "{request}");
    }
}

#[test]
fn refusals_end_cleanly() {
    let site = Site::new("request_header: 200ms");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        // Its end never comes.
        ("GET / HTTP/1.1\r\n", 408),
    ] {
        let mut client = site.client("http/1.1");
        client.send(request);
        let (came, end) = end_of(&mut client);
        assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{came}");
        assert_eq!(end, End::Clean, "{request}");
    }
    site.upstream.assert_untouched();
}

#[test]
fn an_idle_connection_ends_cleanly() {
    let site = Site::new("keep_alive: 200ms, request_header: 200ms");
    // Nothing is ever asked.
    let mut silent = site.client("http/1.1");
    assert_eq!(end_of(&mut silent), (String::new(), End::Clean));
    let mut client = site.client("http/1.1");
    client.send(GET);
    let _connection = site.upstream.answer("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.response().status(), 204);
    assert_eq!(end_of(&mut client), (String::new(), End::Clean));
    assert_eq!(frames_of(&mut site.client("h2"), b"").1, End::Clean);
}

/// A request of HTTP/2 by which a stream begins and the client's side of it ends.
const H2_GET: &[u8] = b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x84\x87\x41\x06a.test";

/// Begins an HTTP/2 connection, and takes every frame (kind, flags, payload) up to its end.
fn frames_of(client: &mut TlsClient, request: &[u8]) -> (Vec<(u8, u8, Vec<u8>)>, End) {
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    client.send(request);
    let mut frames = Vec::new();
    let mut head = [0; 9];
    loop {
        match client.stream_mut().read(&mut head[..1]) {
            Ok(0) => return (frames, End::Clean),
            Ok(_) => {}
            Err(_) => return (frames, End::Cut),
        }
        client.stream_mut().read_exact(&mut head[1..]).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.stream_mut().read_exact(&mut payload).unwrap();
        let (kind, flags) = (head[3], head[4]);
        if kind == Frame::PING && flags & Frame::ACK == 0 {
            client.send(
                [
                    &[0, 0, 8, Frame::PING, Frame::ACK, 0, 0, 0, 0],
                    &payload[..],
                ]
                .concat(),
            );
        }
        frames.push((kind, flags, payload));
    }
}

#[test]
fn a_stream_that_was_cut_is_reset_and_its_connection_ends_cleanly() {
    let site = Site::new("keep_alive: 200ms");
    let mut client = site.client("h2");
    let upstream = &site.upstream;
    let (frames, end) = std::thread::scope(|scope| {
        let read = scope.spawn(|| frames_of(&mut client, H2_GET));
        let mut connection = upstream.accept();
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc");
        drop(connection);
        read.join().unwrap()
    });
    let ended = |(kind, flags, _): &(u8, u8, Vec<u8>)| {
        [Frame::DATA, Frame::HEADERS].contains(kind) && flags & Frame::END_STREAM != 0
    };
    assert!(!frames.iter().any(ended), "{frames:?}");
    let reset = frames.iter().find(|(kind, ..)| *kind == Frame::RST_STREAM);
    assert_eq!(reset.unwrap().2, Frame::INTERNAL_ERROR.to_be_bytes());
    assert_eq!(end, End::Clean);
}

#[test]
fn a_drained_connection_ends_cleanly() {
    let site = Site::new("");
    let mut idle = site.client("http/1.1");
    let mut busy = site.client("http/1.1");
    busy.send(GET);
    let mut connection = site.upstream.accept();
    connection.request();
    site.proxy.signal("TERM");
    assert_eq!(end_of(&mut idle), (String::new(), End::Clean));
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
    let (came, end) = end_of(&mut busy);
    assert!(came.ends_with("abc"), "{came}");
    assert_eq!(end, End::Clean);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let site = Site::new("send: 200ms");
    let mut client = site.client("http/1.1");
    client.send(GET);
    let mut connection = site.upstream.accept();
    connection.request();
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n");
    // Until nobody takes any more of it.
    let piece = vec![b'x'; 1 << 16];
    while std::io::Write::write_all(connection.stream_mut(), &piece).is_ok() {}
    let (came, end) = end_of(&mut client);
    assert!(came.len() < 100_000_000);
    assert_eq!(end, End::Cut);
}
