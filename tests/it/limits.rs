//! Bounds on what a client may send, and on how many may come.

use std::io::Write;
use std::net::{IpAddr, TcpStream};

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, frame};
use crate::support::{Certificate, GET, OK, Proxy, Upstream, Wire};

fn proxy_with(limits: &str, upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         limits: {{ {limits} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n\
         routes:\n\
         - {{ match: {{ path: /small }}, upstream: app, max_request_body: 5B }}\n\
         - {{ match: {{ path: /here }}, respond: {{ status: 403 }} }}\n\
         - {{ upstream: app }}\n",
        upstream.address()
    ))
}

fn upload(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: app.test\r\ncontent-length: {length}\r\n\r\n{}",
        "x".repeat(length)
    )
}

#[test]
fn a_body_as_large_as_the_limit_passes() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_request_body: 10B", &upstream);
    let mut client = proxy.client();
    client.send(upload("/", 10));
    assert_eq!(upstream.answer(OK).0.body.len(), 10);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_body_that_says_it_is_larger_is_refused_at_once() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_request_body: 10B", &upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 11\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 413);
    assert_eq!(response.field("connection"), Some("close"));
    upstream.assert_untouched();
}

#[test]
fn a_body_of_unknown_length_is_counted() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_request_body: 10B", &upstream);
    for (chunks, status) in [
        ("a\r\n0123456789\r\n", 200),
        ("a\r\n0123456789\r\n1\r\nx\r\n", 413),
    ] {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(chunks);
        let mut connection = upstream.accept();
        connection.head();
        assert_eq!(connection.chunk().unwrap(), b"0123456789");
        if status == 200 {
            client.send("0\r\n\r\n");
            assert_eq!(connection.chunk(), None);
            connection.send(OK);
        } else {
            // Nothing of it looks like an end.
            assert!(!connection.until_closed().starts_with(b"0"));
        }
        assert_eq!(client.response().status(), status);
    }
}

#[test]
fn a_streams_body_is_counted() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_request_body: 10B", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.post(1, "/");
    client.send(frame(DATA, 0, 1, b"0123456789"));
    let mut connection = upstream.accept();
    connection.head();
    assert_eq!(connection.chunk().unwrap(), b"0123456789");
    client.send(frame(DATA, END_STREAM, 1, b"x"));
    assert_eq!(client.await_frame(HEADERS, 1).status(), 413);
    connection.until_closed();
    client.settle();
}

#[test]
fn a_route_may_have_a_limit_of_its_own() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_request_body: 10B", &upstream);
    assert_eq!(proxy.client().ask(upload("/small", 6)).status(), 413);
    upstream.assert_untouched();
}

#[test]
fn whoever_sends_much_too_much_still_learns_why() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_request_body: 10B", &upstream);
    let mut client = proxy.client();
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || {
        sender.offer("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 50000000\r\n\r\n");
        let piece = vec![b'x'; 1_000_000];
        for _ in 0..50 {
            sender.offer(&piece);
        }
    });
    sending.join().unwrap();
    assert_eq!(client.response().status(), 413);
}

#[test]
fn a_short_body_that_nobody_wants_is_read() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", &upstream);
    let mut client = proxy.client();
    for length in [1, 1_000, 256 * 1024] {
        let response = client.ask(upload("/here", length));
        assert_eq!(response.status(), 403);
        assert_eq!(response.field("connection"), None, "{length}");
    }
    client.send("POST /here HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("1\r\nx\r\n0\r\n\r\n");
    assert_eq!(client.response().field("connection"), None);
    assert_eq!(client.ask(upload("/here", 1)).status(), 403);
}

#[test]
fn a_long_or_late_body_that_nobody_wants_ends_the_connection() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", &upstream);
    for request in [
        upload("/here", 256 * 1024 + 1),
        "POST /here HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nx".to_owned(),
        "POST /here HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nx".to_owned(),
    ] {
        let mut client = proxy.client();
        let response = client.ask(request);
        assert_eq!(response.status(), 403);
        assert_eq!(response.field("connection"), Some("close"));
        client.assert_closed();
    }
}

#[test]
fn a_body_that_nobody_wants_is_not_asked_for() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", &upstream);
    let mut client = proxy.client();
    client.send(
        "POST /here HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status(), 403);
    assert_eq!(response.field("connection"), Some("close"));
}

#[test]
fn a_target_as_long_as_the_limit_passes() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_target_bytes: 100B", &upstream);
    for (length, status) in [(100, 403), (101, 414)] {
        let target = format!("/here/{}", "x".repeat(length - 6));
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(proxy.client().ask(request).status(), status);
        let mut client = Frames::connect(&proxy, &[]);
        client.get(1, &target);
        assert_eq!(client.await_frame(HEADERS, 1).status(), status);
    }
}

#[test]
fn trailers_above_the_limit_are_refused() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_trailer_bytes: 100B", &upstream);
    let request = |target: &str, length: usize| {
        format!(
            "POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             0\r\nx: {}\r\n\r\n",
            "y".repeat(length - 5)
        )
    };
    let mut client = proxy.client();
    assert_eq!(client.ask(request("/here", 100)).status(), 403);
    // Whoever is answered without regard to its body, and whose body breaks a limit, has nothing more to say.
    let answer = client.ask(request("/here", 101));
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(proxy.client().ask(request("/", 101)).status(), 431);
}

#[test]
fn a_streams_trailers_above_the_limit_are_refused() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_trailer_bytes: 400B", &upstream);
    let one = "x: \r\n".len();
    // How many, of how many bytes each.
    for (count, length, status) in [
        (1, 400, 200),
        (1, 401, 431),
        (2, 200, 200),
        (2, 201, 431),
        (50, 8, 200),
        (51, one, 431),
    ] {
        let mut fields = Vec::new();
        for _ in 0..count {
            crate::support::frames::field(&mut fields, "x", &"y".repeat(length - one));
        }
        let mut client = Frames::connect(&proxy, &[]);
        client.post(1, "/");
        client.send(frame(DATA, 0, 1, b"a"));
        let mut connection = upstream.accept();
        connection.head();
        assert_eq!(connection.chunk().unwrap(), b"a");
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
        if status == 200 {
            assert_eq!(connection.chunk(), None);
            connection.send(OK);
        } else {
            // Nothing of it looks like an end.
            assert!(connection.until_closed().is_empty());
        }
        assert_eq!(client.await_frame(HEADERS, 1).status(), status, "{count}");
        // The connection goes on.
        client.settle();
    }
}

#[test]
fn more_fields_than_the_limit_are_refused() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_headers: 10", &upstream);
    for (count, status) in [(9, 403), (10, 431)] {
        let request = format!(
            "GET /here HTTP/1.1\r\nhost: a\r\n{}\r\n",
            "x: y\r\n".repeat(count)
        );
        assert_eq!(proxy.client().ask(request).status(), status);
    }
    for (count, status) in [(10, 403), (11, 431)] {
        let mut fields = crate::support::frames::fields("GET", "/here");
        for _ in 0..count {
            crate::support::frames::field(&mut fields, "x", "y");
        }
        let mut client = Frames::connect(&proxy, &[]);
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
        assert_eq!(client.await_frame(HEADERS, 1).status(), status);
    }
}

#[test]
fn a_response_head_above_the_limit_is_not_passed_on() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_response_header_bytes: 2KiB", &upstream);
    let head = |length: usize| {
        let rest = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: \r\n\r\n".len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n",
            "y".repeat(length - rest)
        )
    };
    for (length, status) in [(2048, 200), (2049, 502)] {
        let mut client = proxy.client();
        client.send(GET);
        let _connection = upstream.answer(head(length));
        assert_eq!(client.response().status(), status, "{length}");
    }
}

#[test]
fn a_response_with_too_many_fields_is_not_passed_on() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", &upstream);
    for (count, status) in [(200, 200), (201, 502)] {
        let mut client = proxy.client();
        client.send(GET);
        let _connection = upstream.answer(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n",
            "x: y\r\n".repeat(count - 1)
        ));
        assert_eq!(client.response().status(), status, "{count}");
    }
}

#[test]
fn clients_are_told_how_many_streams_they_may_open() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_concurrent_streams: 7", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    let settings = client.await_frame(SETTINGS, 0).payload;
    assert!(
        settings
            .chunks(6)
            .any(|setting| setting == [0, 3, 0, 0, 0, 7])
    );
}

#[test]
fn whoever_is_one_too_many_waits() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_connections: 2", &upstream);
    let here = "GET /here HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = proxy.client();
    let mut second = proxy.client();
    assert_eq!(first.ask(here).status(), 403);
    assert_eq!(second.ask(here).status(), 403);
    let mut third = proxy.client();
    third.send(here);
    // Both are still served, the third isn't.
    for _ in 0..10 {
        assert_eq!(first.ask(here).status(), 403);
        assert_eq!(second.ask(here).status(), 403);
    }
    third.assert_silent();
    drop(first);
    assert_eq!(third.response().status(), 403);
}

fn from(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

#[test]
fn a_client_with_too_many_connections_is_turned_away() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("max_connections_per_client: 2", &upstream);
    let here = "GET /here HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = proxy.client_from(from(2));
    let mut second = proxy.client_from(from(2));
    assert_eq!(first.ask(here).status(), 403);
    assert_eq!(second.ask(here).status(), 403);
    proxy.client_from(from(2)).assert_closed();
    assert_eq!(proxy.client_from(from(3)).ask(here).status(), 403);
    drop(first);
    // The proxy may learn of the end after it learns of a new connection.
    loop {
        let mut again = proxy.client_from(from(2));
        again.offer(here);
        if !again.until_bytes_or_end().is_empty() {
            break;
        }
    }
}

#[test]
fn trusted_proxies_are_not_counted() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         client_ip: { trusted_proxies: [127.0.0.2] }\n\
         limits: { max_connections_per_client: 1 }\n\
         routes: [{ respond: {} }]\n",
    );
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client_from(from(2))).collect();
    for client in &mut clients {
        assert_eq!(client.ask(GET).status(), 200);
    }
}

#[test]
fn whoever_a_balancer_names_is_counted() {
    let proxy = Proxy::start(
        "listeners:\n  http:\n    address: \"127.0.0.1:0\"\n    \
         proxy_protocol: { mode: required, from: [127.0.0.0/8] }\n\
         client_ip: { source: proxy_protocol }\n\
         limits: { max_connections_per_client: 1 }\n\
         routes: [{ respond: {} }]\n",
    );
    let named = |source: &str| {
        let mut client = proxy.client();
        client.send(format!("PROXY TCP4 {source} 192.0.2.9 1 2\r\n"));
        client
    };
    let mut first = named("192.0.2.1");
    let mut second = named("192.0.2.2");
    assert_eq!(first.ask(GET).status(), 200);
    assert_eq!(second.ask(GET).status(), 200);
    named("192.0.2.1").assert_closed();
}

#[test]
fn a_client_with_too_many_handshakes_is_turned_away() {
    let directory = tempfile::TempDir::new().unwrap();
    let certificate = Certificate::for_names(&["app.test"]);
    certificate.write(directory.path(), "app");
    let proxy = Proxy::start_in(
        directory,
        "listeners:\n  http:\n    address: \"127.0.0.1:0\"\n    \
         tls: { certificates: [{ cert: app.crt, key: app.key }] }\n\
         limits: { max_handshakes_per_client: 2 }\n\
         routes: [{ respond: {} }]\n",
    );
    let connect = || TcpStream::connect(proxy.address("http")).unwrap();
    // One that is done is no longer counted.
    let mut served = certificate.client("app.test", &["http/1.1"], connect());
    assert_eq!(served.ask(GET).status(), 200);
    // The first bytes of a hello, so that it is known to have come.
    let begun: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(&[22, 3, 1]).unwrap();
            stream
        })
        .collect();
    Wire::tcp(connect()).assert_closed();
    drop(begun);
    assert_eq!(served.ask(GET).status(), 200);
}
