//! Each limit at its very bound, and one step beyond. What else becomes of those who exceed one is tested beside it.

use std::time::{Duration, Instant};

use crate::support::frames::{
    END_HEADERS, END_STREAM, Frames, HEADERS, REFUSED_STREAM, RST_STREAM, field, fields, frame,
};
use crate::support::{GET, OK, Proxy, Upstream};

/// One worker, so that all of its deadlines and connections have the same clock and place.
fn proxy_with(keys: &str, of_upstream: &str, upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{keys}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"]{of_upstream} }} }}\n\
         routes:\n\
         - {{ match: {{ path: /small }}, upstream: app, max_request_body: 5B }}\n\
         - {{ match: {{ path: /here }}, respond: {{ status: 403 }} }}\n\
         - {{ upstream: app }}\n",
        upstream.address()
    ))
}

/// Runs `wait`, which must take at least this long.
fn at_least<T>(time: Duration, wait: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = wait();
    let took = began.elapsed();
    // The clock here starts a moment after the proxy's.
    assert!(took + Duration::from_millis(50) >= time, "{took:?}");
    outcome
}

#[test]
fn a_head_of_all_bytes_it_may_have_passes() {
    let upstream = Upstream::bind();
    let head = |length: usize| {
        let rest = "GET /here HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n".len();
        let value = "y".repeat(length - rest);
        format!("GET /here HTTP/1.1\r\nhost: a\r\nx: {value}\r\n\r\n")
    };
    for (limits, most) in [
        ("", 32 * 1024),
        ("limits: { max_header_bytes: 8KiB }", 8 * 1024),
    ] {
        let proxy = proxy_with(limits, "", &upstream);
        assert_eq!(proxy.client().ask(head(most)).status(), 403);
        assert_eq!(proxy.client().ask(head(most + 1)).status(), 431);
    }
}

/// As RFC 9113 §6.5.2 counts them: 32 more for each.
#[test]
fn a_list_of_fields_of_all_bytes_it_may_have_passes() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("limits: { max_header_bytes: 8KiB }", "", &upstream);
    let own = ":methodGET:schemehttp:path/here:authorityapp.testx".len() + 5 * 32;
    for (length, status) in [(8 * 1024, 403), (8 * 1024 + 1, 431)] {
        let mut block = fields("GET", "/here");
        field(&mut block, "x", &"y".repeat(length - own));
        let mut client = Frames::connect(&proxy, &[]);
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        assert_eq!(client.await_frame(HEADERS, 1).status(), status);
    }
}

#[test]
fn a_body_of_all_bytes_its_route_allows_passes() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", "", &upstream);
    let upload = |length: usize| {
        let body = "x".repeat(length);
        format!("POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let mut client = proxy.client();
    client.send(upload(5));
    assert_eq!(upstream.answer(OK).0.text(), "xxxxx");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.ask(upload(6)).status(), 413);
    upstream.assert_untouched();
}

#[test]
fn trailers_of_a_response_are_bounded_in_bytes_and_in_number() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", "", &upstream);
    let asked = |trailers: &str| {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n");
        let (_, connection) = upstream.answer(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n"
        ));
        (client, connection)
    };
    let of_length = |length: usize| format!("x: {}\r\n", "y".repeat(length - "x: \r\n".len()));
    let of_number = |number: usize| "x: y\r\n".repeat(number);
    for (trailers, number) in [(of_length(8 * 1024), 1), (of_number(50), 50)] {
        let (mut client, _connection) = asked(&trailers);
        assert_eq!(client.response().trailers.len(), number);
    }
    for trailers in [of_length(8 * 1024 + 1), of_number(51)] {
        let (mut client, _connection) = asked(&trailers);
        assert_eq!(client.head().status(), 200);
        // Nothing looks like an end.
        let before = client.until_closed();
        assert!(matches!(&before[..], b"" | b"2\r\nok\r\n"), "{before:?}");
    }
}

#[test]
fn one_stream_more_than_a_connection_may_have_is_refused() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("limits: { max_concurrent_streams: 3 }", "", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.settle();
    let held = [1, 3, 5].map(|stream| {
        client.get(stream, "/");
        let mut connection = upstream.accept();
        connection.request();
        connection
    });
    client.get(7, "/");
    assert_eq!(client.await_frame(RST_STREAM, 7).code(), REFUSED_STREAM);
    upstream.assert_untouched();
    for (mut connection, stream) in held.into_iter().zip([1, 3, 5]) {
        connection.send(OK);
        assert_eq!(client.await_frame(HEADERS, stream).status(), 200);
    }
    // There is room again.
    client.get(9, "/here");
    assert_eq!(client.await_frame(HEADERS, 9).status(), 403);
}

#[test]
fn one_request_more_than_an_endpoint_may_have_waits_within_its_time() {
    let upstream = Upstream::bind();
    let keys = ", max_connections_per_endpoint: 2, queue_timeout: 1s";
    let proxy = proxy_with("", keys, &upstream);
    let mut clients = [0; 3].map(|_| proxy.client());
    let mut held = [0, 1].map(|index| {
        clients[index].send(GET);
        let mut connection = upstream.accept();
        connection.request();
        connection
    });
    clients[2].send(GET);
    // Half its time passes.
    assert!(!clients[2].arrives_within(Duration::from_millis(500)));
    upstream.assert_untouched();
    held[0].send(OK);
    held[0].request();
    held[0].send(OK);
    for index in [0, 2] {
        assert_eq!(clients[index].response().status(), 200);
    }
    // Both are in use again, and nothing comes free.
    clients[0].send(GET);
    held[0].request();
    let late = at_least(Duration::from_secs(1), || clients[2].ask(GET));
    assert_eq!(late.status(), 503);
}

#[test]
fn an_idle_upstream_connection_is_used_until_its_time_is_over() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", ", pool: { idle_timeout: 1s }", &upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = upstream.answer(OK);
    client.response();
    for _ in 0..2 {
        // Half its time passes.
        assert!(!connection.arrives_within(Duration::from_millis(500)));
        client.send(GET);
        connection.request();
        connection.send(OK);
        client.response();
    }
    at_least(Duration::from_secs(1), || connection.assert_closed());
    client.send(GET);
    let (_, _fresh) = upstream.answer(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_tunnel_may_be_silent_until_its_time_is_over() {
    const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let upstream = Upstream::bind();
    let proxy = proxy_with("", ", timeouts: { tunnel: 1s }", &upstream);
    let mut client = proxy.client();
    client.send(ASK);
    let (_, mut connection) = upstream.answer(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    assert_eq!(client.response().status(), 101);
    for _ in 0..2 {
        // Half its time passes.
        assert!(!connection.arrives_within(Duration::from_millis(500)));
        client.send("x");
        assert_eq!(connection.take(1), b"x");
    }
    at_least(Duration::from_secs(1), || client.assert_closed());
    connection.assert_closed();
}
