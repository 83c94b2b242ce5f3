//! Connections that have nothing to do for a while: they cost little, and go on as if nothing had been.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Certificate, GET, OK, Proxy, Upstream, Wire};

/// After this a connection has given up what it needs only when it is busy.
const RESTED: Duration = Duration::from_millis(2_500);

const RESPOND: &str = "routes: [{ respond: { status: 200, body: \"ok\" } }]\n";

fn proxy_with(timeouts: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\", timeouts: {{ {timeouts} }} }} }}\n{RESPOND}"
    ))
}

/// Waits until the connection has rested, and asserts that nothing came meanwhile: not even its end.
fn rest(quiet: impl FnOnce(Duration) -> bool) {
    assert!(
        !quiet(RESTED),
        "the connection was closed, or said something"
    );
}

#[test]
fn a_connection_that_rested_serves_on() {
    let proxy = proxy_with("keep_alive: 60s");
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.ask(GET).status(), 200);
        rest(|limit| client.arrives_within(limit));
    }
    assert_eq!(client.ask(GET).status(), 200);
}

#[test]
fn a_request_that_began_before_the_rest_goes_on_after_it() {
    let proxy = proxy_with("keep_alive: 60s");
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 200);
    // An empty line before a request is nobody's, and may stand there for long.
    client.send("\r\n");
    rest(|limit| client.arrives_within(limit));
    assert_eq!(client.ask(GET).status(), 200);
}

#[test]
fn a_rest_ends_with_the_keep_alive_timeout() {
    let proxy = proxy_with("keep_alive: 4s");
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 200);
    let answered = Instant::now();
    client.assert_closed();
    let took = answered.elapsed();
    assert!(
        (Duration::from_millis(3_950)..Duration::from_secs(12)).contains(&took),
        "{took:?}"
    );
}

#[test]
fn a_head_that_begins_after_a_rest_is_due_as_any_other() {
    let proxy = proxy_with("keep_alive: 60s, request_header: 300ms");
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 200);
    rest(|limit| client.arrives_within(limit));
    client.send("GET / HTTP/1.1\r\nhost: app.");
    assert_eq!(client.response().status(), 408);
    client.assert_closed();
}

#[test]
fn who_the_client_is_outlasts_a_rest() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\", \
         proxy_protocol: {{ mode: required, from: [loopback] }} }} }}\n{}",
        upstream.as_only_route()
    ));
    let mut client = proxy.client();
    client.send("PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n");
    for round in 0..2 {
        client.send(GET);
        let mut connection = upstream.accept();
        let request = connection.request();
        assert_eq!(request.field("x-real-ip"), Some("203.0.113.7"), "{round}");
        connection.send(OK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
        rest(|limit| client.arrives_within(limit));
    }
}

#[test]
fn a_connection_at_rest_takes_a_last_request_when_the_process_ends() {
    let mut proxy = proxy_with("keep_alive: 60s");
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 200);
    rest(|limit| client.arrives_within(limit));
    proxy.signal("TERM");
    // The signal takes its time; no request is lost meanwhile.
    let last = std::iter::repeat_with(|| client.ask(GET))
        .inspect(|response| assert_eq!(response.status(), 200))
        .find(|response| response.field("connection") == Some("close"));
    assert!(last.is_some());
    client.assert_closed();
    assert!(proxy.ended().success());
}

#[test]
fn a_tls_connection_rests_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_names(&["app.test"]);
    certificate.write(directory.path(), "site");
    let listener = "address: \"127.0.0.1:0\", timeouts: { keep_alive: 4s }, \
                    tls: { certificates: [{ cert: site.crt, key: site.key }] }";
    let config = format!("listeners: {{ https: {{ {listener} }} }}\n{RESPOND}");
    let proxy = Proxy::start_in(directory, &config);
    let stream = TcpStream::connect(proxy.address("https")).unwrap();
    let mut beneath = Wire::tcp(stream.try_clone().unwrap());
    let mut client = certificate.client("app.test", &[], stream);
    for _ in 0..2 {
        assert_eq!(client.ask(GET).status(), 200);
        rest(|limit| beneath.arrives_within(limit));
    }
    // Told that it ends, not just cut.
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn connections_at_rest_take_little_memory() {
    // Of so many most are parked as soon as they are idle. Awake they take 20 KiB.
    const CONNECTIONS: usize = 1500;
    const MOST_KIB_EACH: usize = 12;

    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nruntime: {{ worker_threads: 1 }}\n\
         limits: {{ max_connections_per_client: {CONNECTIONS} }}\n{RESPOND}"
    ));
    let before = proxy.resident_kib();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(GET).status(), 200);
    }
    let last = clients.last_mut().unwrap();
    rest(|limit| last.arrives_within(limit));
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(
        grown <= CONNECTIONS * MOST_KIB_EACH,
        "{grown} KiB for {CONNECTIONS} connections"
    );
}
