//! Clients that are too slow: what each deadline ends, and what it leaves alone.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, INITIAL_WINDOW, NO_ERROR, PING,
    RST_STREAM, fields, frame,
};
use crate::support::{GET, OK, Proxy, Upstream};

/// What the deadlines under test are set to.
const SHORT: Duration = Duration::from_millis(300);

/// Longer than any of them takes, shorter than every default.
const SOON: Duration = Duration::from_secs(8);

fn proxy_with(timeouts: &str, upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\", timeouts: {{ {timeouts} }} }} }}\n{}",
        upstream.as_only_route()
    ))
}

/// Runs `wait`, which must take as long as the deadlines under test.
fn timed<T>(wait: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = wait();
    let took = began.elapsed();
    // The clock here starts a moment after the proxy's.
    assert!(
        took + Duration::from_millis(50) >= SHORT,
        "too soon: {took:?}"
    );
    assert!(took < SOON, "too late: {took:?}");
    outcome
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 10\r\n\r\nabc";

#[test]
fn a_body_that_stands_still_is_answered_408_and_cut_upstream() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_body: 300ms", &upstream);
    let mut client = proxy.client();
    let response = timed(|| client.ask(UPLOAD));
    assert_eq!(response.status(), 408);
    assert_eq!(response.field("connection"), Some("close"));
    client.assert_closed();
    let mut connection = upstream.accept();
    assert_eq!(connection.head().field("content-length"), Some("10"));
    assert_eq!(connection.until_closed(), b"abc");
}

#[test]
fn a_body_that_moves_is_waited_for() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_body: 300ms", &upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut connection = upstream.accept();
    connection.head();
    let began = Instant::now();
    while began.elapsed() < 3 * SHORT {
        client.send("1\r\na\r\n");
        assert_eq!(connection.chunk().as_deref(), Some(&b"a"[..]));
    }
    client.send("0\r\n\r\n");
    assert_eq!(connection.chunk(), None);
    connection.trailers();
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_slow_endpoint_is_not_the_clients_fault() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_body: 300ms, request_header: 300ms", &upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\nabc");
    let mut connection = upstream.accept();
    assert_eq!(connection.request().text(), "abc");
    let mut patience = proxy.client();
    timed(|| patience.assert_closed());
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_body_that_stands_still_after_the_response_began_cuts_it() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_body: 300ms", &upstream);
    let mut client = proxy.client();
    client.send(UPLOAD);
    let mut connection = upstream.accept();
    connection.head();
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome");
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert_eq!(head.field("connection"), Some("close"));
    assert_eq!(client.until_closed(), b"some");
}

#[test]
fn a_stream_whose_body_stands_still_is_answered_408() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_body: 300ms", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.post(1, "/");
    client.send(frame(DATA, 0, 1, b"abc"));
    let head = timed(|| client.await_frame(HEADERS, 1));
    assert_eq!(head.status(), 408);
    let mut connection = upstream.accept();
    connection.head();
    connection.until_closed();
    client.settle();
}

#[test]
fn a_head_is_due_in_total_however_it_drips() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_header: 300ms", &upstream);
    let mut client = proxy.client();
    let response = timed(|| {
        client.send("GET / HTTP/1.1\r\nx: ");
        let mut drip = client.sender();
        let until = Instant::now() + 2 * SHORT;
        let mut next = Instant::now();
        while Instant::now() < until {
            // Slowly enough that the head doesn't become too large instead.
            if Instant::now() >= next {
                drip.offer("y");
                next += Duration::from_millis(1);
            }
            std::thread::yield_now();
        }
        client.response()
    });
    assert_eq!(response.status(), 408);
    assert_eq!(response.field("connection"), Some("close"));
    upstream.assert_untouched();
}

#[test]
fn a_client_that_says_nothing_is_told_nothing() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_header: 300ms", &upstream);
    let mut client = proxy.client();
    timed(|| client.assert_closed());
}

#[test]
fn a_head_that_began_behind_another_request_is_due_as_well() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_header: 300ms", &upstream);
    let mut client = proxy.client();
    client.send([GET, "GET /second HT"].concat());
    upstream.answer(OK);
    assert_eq!(client.response().status(), 200);
    let response = timed(|| client.response());
    assert_eq!(response.status(), 408);
    client.assert_closed();
}

#[test]
fn a_request_may_take_longer_than_the_head_behind_it() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_header: 300ms", &upstream);
    let mut client = proxy.client();
    client.send([GET, "GET /second HT"].concat());
    let mut connection = upstream.accept();
    connection.request();
    let mut patience = proxy.client();
    timed(|| patience.assert_closed());
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("keep_alive: 300ms", &upstream);
    let mut client = proxy.client();
    client.send(GET);
    upstream.answer(OK);
    assert_eq!(client.response().status(), 200);
    timed(|| client.assert_closed());
}

#[test]
fn an_idle_http2_connection_is_told_goodbye() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("keep_alive: 300ms, request_header: 1ms", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.settle();
    let frame = timed(|| client.await_frame(GOAWAY, 0));
    assert_eq!(frame.payload[4..8], NO_ERROR.to_be_bytes());
}

#[test]
fn frames_do_not_keep_an_idle_http2_connection() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("keep_alive: 300ms", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    let goodbye = timed(|| {
        let mut last = Instant::now();
        loop {
            if last.elapsed() >= SHORT / 10 {
                last = Instant::now();
                client.offer(frame(PING, 0, 0, &[0; 8]));
                let frame = client.next().expect("more frames");
                if frame.kind == GOAWAY {
                    return frame;
                }
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(goodbye.payload[4..8], NO_ERROR.to_be_bytes());
}

#[test]
fn fields_without_an_end_are_due_as_any_head() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_header: 300ms", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.settle();
    client.get(1, "/");
    let mut connection = upstream.accept();
    connection.request();
    // Another request doesn't excuse it.
    client.send(frame(HEADERS, END_STREAM, 3, &fields("GET", "/")));
    timed(|| client.await_frame(GOAWAY, 0));
}

#[test]
fn fields_that_end_in_time_are_served() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("request_header: 300ms", &upstream);
    let mut client = Frames::connect(&proxy, &[]);
    let fields = fields("GET", "/");
    let (some, rest) = fields.split_at(3);
    client.send(frame(HEADERS, END_STREAM, 1, some));
    client.send(frame(9, END_HEADERS, 1, rest));
    let mut connection = upstream.accept();
    connection.request();
    let mut patience = proxy.client();
    timed(|| patience.assert_closed());
    connection.send(OK);
    assert_eq!(client.await_frame(HEADERS, 1).status(), 200);
}

/// Sends without end, and returns when the other side has had enough.
fn pour(stream: &mut impl Write) {
    let piece = vec![b'x'; 64 * 1024];
    while stream.write_all(&piece).is_ok() {}
}

const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";

#[test]
fn a_client_that_reads_nothing_releases_the_endpoint() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("send: 300ms", &upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, connection) = upstream.answer(ENDLESS);
    timed(|| pour(&mut connection.into_stream()));
}

#[test]
fn a_client_that_reads_slowly_is_waited_for() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("send: 300ms", &upstream);
    let client = proxy.client();
    let mut client = client.into_stream();
    client.write_all(GET.as_bytes()).unwrap();
    let (_, connection) = upstream.answer(ENDLESS);
    let mut connection = connection.into_stream();
    let poured = std::thread::spawn(move || pour(&mut connection));
    let began = Instant::now();
    let mut patience = Instant::now();
    let mut piece = vec![0; 64 * 1024];
    while began.elapsed() < 5 * SHORT {
        if patience.elapsed() >= SHORT / 10 {
            patience = Instant::now();
            assert_ne!(client.read(&mut piece).unwrap(), 0);
        }
        std::thread::yield_now();
    }
    assert!(!poured.is_finished());
    drop(client);
    poured.join().unwrap();
}

#[test]
fn a_stream_with_a_shut_window_releases_the_endpoint() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("send: 300ms", &upstream);
    let mut client = Frames::connect(&proxy, &[(INITIAL_WINDOW, 0)]);
    client.get(1, "/");
    let (_, connection) = upstream.answer(ENDLESS);
    assert_eq!(client.await_frame(HEADERS, 1).status(), 200);
    timed(|| pour(&mut connection.into_stream()));
    assert_eq!(client.await_frame(RST_STREAM, 1).code(), CANCEL);
    client.settle();
}

#[test]
fn a_short_response_behind_a_shut_window_is_given_up() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("send: 300ms", &upstream);
    let mut client = Frames::connect(&proxy, &[(INITIAL_WINDOW, 0)]);
    client.get(1, "/");
    upstream.answer(OK);
    timed(|| assert_eq!(client.await_frame(RST_STREAM, 1).code(), CANCEL));
}
