//! What a client is told when there is no answer from an upstream.

use crate::support::{GET, Message, Proxy, Upstream, closed_port};

fn assert_is_ours(answer: &Message, status: u16) {
    assert_eq!(answer.status(), status);
    let id = answer.field("x-request-id").expect("a request id");
    let text = answer.text();
    assert!(text.starts_with(&status.to_string()), "{text:?}");
    assert!(text.contains(id), "{text:?}");
    assert!(
        text.ends_with('\n') && text.lines().count() == 1,
        "{text:?}"
    );
    assert!(text.len() < 120, "{text:?}");
    assert!(!text.contains("127.0.0.1"), "{text:?}");
    assert!(!text.contains(env!("CARGO_PKG_VERSION")), "{text:?}");
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(answer.field("date").is_some());
}

#[test]
fn no_route_is_404_and_the_connection_stays() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         routes: [{ match: { hosts: [other.test] }, respond: { status: 200, body: \"here\" } }]\n",
    );
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_is_ours(&client.ask(GET), 404);
    }
    let answer = client.ask("GET / HTTP/1.1\r\nhost: other.test\r\n\r\n");
    assert_eq!((answer.status(), answer.text()), (200, "here"));
}

#[test]
fn a_malformed_request_is_400_and_the_connection_ends() {
    let proxy = Proxy::to_whoami();
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\na : b\r\n\r\n",
    ] {
        let mut client = proxy.client();
        let answer = client.ask(head);
        assert_is_ours(&answer, 400);
        assert_eq!(answer.field("connection"), Some("close"));
        client.assert_closed();
    }
}

#[test]
fn an_upstream_that_refuses_is_502_and_the_connection_stays() {
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
        closed_port()
    ));
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_is_ours(&client.ask(GET), 502);
    }
}

#[test]
fn an_upstream_that_says_nothing_is_504_and_not_asked_twice() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], timeouts: {{ response_header: 200ms }} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    assert_is_ours(&client.response(), 504);
    connection.assert_closed();
    upstream.assert_untouched();
}

#[test]
fn a_route_may_wait_for_another_time() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], timeouts: {{ response_header: 200ms }} }} }}\n\
         routes:\n\
         - {{ match: {{ path: /slow }}, upstream: app, timeouts: {{ response_header: 1m }} }}\n\
         - {{ upstream: app }}\n",
        upstream.address()
    ));
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nhost: app.test\r\n\r\n");
    let mut patient = upstream.accept();
    patient.request();
    // As long as another route waits, and longer.
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(GET);
        let mut connection = upstream.accept();
        connection.request();
        assert_is_ours(&client.response(), 504);
    }
    patient.send(crate::support::OK);
    assert_eq!(slow.response().status(), 200);
}

#[test]
fn an_upstream_that_stops_in_its_body_is_cut() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], timeouts: {{ idle: 200ms }} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = upstream.answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello");
    client.head();
    assert_eq!(client.until_closed(), b"hello");
    connection.assert_closed();
}

#[test]
fn a_slow_head_is_ended() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\", timeouts: { request_header: 200ms } } }\n\
         routes: [{ respond: { status: 200 } }]\n",
    );
    for beginning in [
        "",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nx-a: ",
    ] {
        let mut client = proxy.client();
        client.send(beginning);
        let answer = String::from_utf8(client.until_closed()).unwrap();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{beginning:?}: {answer:?}"
        );
    }
}

#[test]
fn an_idle_connection_is_ended() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\", timeouts: { keep_alive: 200ms } } }\n\
         routes: [{ respond: { status: 200, body: x } }]\n",
    );
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).text(), "x");
    client.assert_closed();
}

#[test]
fn a_denied_client_is_403() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         routes: [{ respond: { status: 200, body: x }, access: { deny: [127.66.0.0/16] } }]\n",
    );
    assert_eq!(proxy.client().ask(GET).text(), "x");
    let mut denied = proxy.client_from("127.66.0.9".parse().unwrap());
    assert_is_ours(&denied.ask(GET), 403);
}

#[test]
fn a_peer_that_may_not_connect_gets_nothing() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\", deny_peers: [127.66.0.0/16] } }\n\
         routes: [{ respond: { status: 200, body: x } }]\n",
    );
    assert_eq!(proxy.client().ask(GET).text(), "x");
    let mut denied = proxy.client_from("127.66.0.9".parse().unwrap());
    denied.offer(GET);
    denied.assert_closed();
}
