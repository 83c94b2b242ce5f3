//! SIGTERM: what is under way is finished, then the process ends.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{GET, OK, Proxy, Upstream, Wire, websocket};

/// Longer than any linger, shorter than every deadline for a client to speak.
const SOON: Duration = Duration::from_secs(5);

/// Answered from here, while an upstream keeps others waiting.
const OWN: &str = "GET / HTTP/1.1\r\nhost: none.test\r\n\r\n";

fn proxy_to(upstream: &Upstream, grace_period: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         shutdown: {{ grace_period: {grace_period} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n\
         routes: [{{ match: {{ hosts: [app.test] }}, upstream: app }}]\n",
        upstream.address()
    ))
}

#[test]
fn ends_at_once_when_nothing_is_under_way() {
    let proxy = Proxy::to_whoami();
    assert_eq!(proxy.client().ask(GET).status(), 200);
    assert_eq!(proxy.terminate().code(), Some(0));
}

#[test]
fn finishes_what_is_under_way() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "30s");
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    let mut idle = proxy.client();
    assert_eq!(idle.ask(OWN).status(), 404);
    proxy.signal("TERM");
    // The idle connection is let go once the signal has been seen.
    idle.assert_closed();
    connection.send(OK);
    let response = client.response();
    assert_eq!(response.text(), "ok");
    assert_eq!(response.field("connection"), Some("close"));
    client.assert_closed();
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn cuts_what_outlasts_the_grace_period_and_says_so() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "200ms");
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    proxy.signal("TERM");
    assert_eq!(proxy.ended().code(), Some(1));
    client.until_closed();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "30s");
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    let mut idle = proxy.client();
    assert_eq!(idle.ask(OWN).status(), 404);
    proxy.signal("TERM");
    idle.assert_closed();
    proxy.signal("INT");
    assert_eq!(proxy.ended().code(), Some(1));
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    for spoke in [true, false] {
        let proxy = Proxy::to_whoami();
        let mut idle = proxy.client();
        if spoke {
            assert_eq!(idle.ask(GET).status(), 200);
        }
        let began = Instant::now();
        assert_eq!(proxy.terminate().code(), Some(0));
        assert!(began.elapsed() < SOON, "spoke: {spoke}");
        idle.until_closed();
    }
}

/// Reads a request on each of these connections.
fn take_requests(upstream: &Upstream, count: usize) -> Vec<Wire<TcpStream>> {
    let connections = (0..count).map(|_| {
        let mut connection = upstream.accept();
        connection.request();
        connection
    });
    connections.collect()
}

#[test]
fn a_thousand_requests_in_flight_are_answered() {
    const ROUNDS: usize = 5;
    const CLIENTS: usize = 100;
    let mut answered = 0;
    for _ in 0..ROUNDS {
        let upstream = Upstream::bind();
        let mut proxy = proxy_to(&upstream, "30s");
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
        // Half of them have been here before.
        for client in &mut clients {
            assert_eq!(client.ask(OWN).status(), 404);
        }
        clients.extend((0..CLIENTS).map(|_| proxy.client()));
        for client in &mut clients {
            client.send(GET);
        }
        let connections = take_requests(&upstream, clients.len());
        proxy.signal("TERM");
        for mut connection in connections {
            connection.send(OK);
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "ok");
            client.assert_closed();
            answered += 1;
        }
        assert_eq!(proxy.ended().code(), Some(0));
    }
    assert_eq!(answered, 1000);
}

#[test]
fn a_request_that_crosses_the_end_is_answered() {
    let mut proxy = Proxy::to_whoami();
    let mut clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(GET).status(), 200);
    }
    proxy.signal("TERM");
    proxy.says("draining");
    // They don't know yet.
    for client in &mut clients {
        client.send(GET);
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
        client.assert_closed();
    }
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn a_response_that_could_not_say_so_is_followed_by_one_more() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "30s");
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha");
    // The head has been sent, and promises that the connection stays.
    assert_eq!(client.head().field("connection"), None);
    let mut idle = proxy.client();
    assert_eq!(idle.ask(OWN).status(), 404);
    proxy.signal("TERM");
    idle.assert_closed();
    connection.send("lf");
    assert_eq!(client.take(4), b"half");
    assert_eq!(client.ask(OWN).field("connection"), Some("close"));
    client.assert_closed();
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn an_upload_is_taken_to_its_end() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "30s");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 4\r\n\r\nha");
    let mut connection = upstream.accept();
    let head = connection.head();
    assert_eq!(head.field("content-length"), Some("4"));
    assert_eq!(connection.take(2), b"ha");
    proxy.signal("TERM");
    proxy.says("draining");
    client.send("lf");
    assert_eq!(connection.take(2), b"lf");
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn what_is_cut_is_counted() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "200ms");
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    let _connections = take_requests(&upstream, clients.len());
    proxy.signal("TERM");
    let said = proxy.says("drained");
    assert!(said.contains("requests_cut=3"), "{said}");
    assert_eq!(proxy.ended().code(), Some(1));
}

#[test]
fn listeners_stay_open_for_the_readiness_delay() {
    let mut proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         shutdown: { readiness_delay: 1s }\nroutes: [{ respond: { status: 204 } }]\n",
    );
    let began = Instant::now();
    proxy.signal("TERM");
    proxy.says("draining");
    // The connection is nothing special yet.
    let response = proxy.client().ask(GET);
    assert_eq!(
        (response.status(), response.field("connection")),
        (204, None)
    );
    assert_eq!(proxy.ended().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_second_signal_cuts_the_readiness_delay_short() {
    let mut proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         shutdown: { readiness_delay: 1h }\nroutes: [{ respond: { status: 204 } }]\n",
    );
    proxy.signal("TERM");
    proxy.says("draining");
    proxy.signal("INT");
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn who_waits_to_be_accepted_is_answered() {
    let mut proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         runtime: { worker_threads: 2 }\nroutes: [{ respond: { status: 204 } }]\n",
    );
    // The kernel completes what the process doesn't take.
    proxy.signal("STOP");
    // Fewer than a client may have in the making at a time.
    let mut clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    proxy.signal("TERM");
    proxy.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.response().status(), 204);
    }
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn http_2_streams_are_answered_and_their_connection_ends() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "30s");
    websocket::converse(async {
        let stream = tokio::net::TcpStream::connect(proxy.address("http")).await;
        let io = TokioIo::new(stream.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = handshake.await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::get("http://app.test/").body(Empty::<Bytes>::new());
        let pending = tokio::spawn(sender.send_request(request.unwrap()));
        let taken = tokio::task::spawn_blocking(move || take_requests(&upstream, 1));
        let mut connection = taken.await.unwrap().remove(0);
        proxy.signal("TERM");
        proxy.says("draining");
        connection.send(OK);
        let response = pending.await.unwrap().unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
        // An orderly end, although the client would go on.
        driver.await.unwrap().unwrap();
        assert!(sender.ready().await.is_err());
    });
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn idle_http_2_connections_do_not_delay_the_end() {
    // A client that never answers the question whether it has seen the end announced.
    let proxy = Proxy::to_whoami();
    let mut idle = proxy.client();
    idle.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // The server's SETTINGS: it speaks HTTP/2.
    assert_eq!(idle.take(9)[3], 4);
    let began = Instant::now();
    assert_eq!(proxy.terminate().code(), Some(0));
    assert!(began.elapsed() < SOON);
}

#[test]
fn an_idle_connection_has_a_second_to_speak() {
    let mut proxy = Proxy::to_whoami();
    let mut idle = proxy.client();
    assert_eq!(idle.ask(GET).status(), 200);
    let began = Instant::now();
    proxy.signal("TERM");
    idle.assert_closed();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn a_request_that_has_begun_to_come_is_waited_for() {
    let mut proxy = Proxy::to_whoami();
    let (mut slow, mut idle) = (proxy.client(), proxy.client());
    for client in [&mut slow, &mut idle] {
        assert_eq!(client.ask(GET).status(), 200);
    }
    let (begin, end) = GET.split_at(20);
    slow.send(begin);
    proxy.signal("TERM");
    idle.assert_closed();
    let response = slow.ask(end);
    assert_eq!(response.status(), 200);
    assert_eq!(response.field("connection"), Some("close"));
    slow.assert_closed();
    assert_eq!(proxy.ended().code(), Some(0));
}

/// Their connections were made: nobody else can serve them.
#[test]
fn clients_that_wait_to_be_served_are_served() {
    let upstream = Upstream::bind();
    let mut proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nruntime: {{ worker_threads: 1 }}\n\
         limits: {{ max_connections: 1 }}\nshutdown: {{ grace_period: 30s }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n\
         routes: [{{ match: {{ hosts: [app.test] }}, upstream: app }}]\n",
        upstream.address()
    ));
    let mut busy = proxy.client();
    busy.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    let mut waiting = [0; 2].map(|_| proxy.client());
    for client in &mut waiting {
        client.send(OWN);
        client.assert_silent();
    }
    proxy.signal("TERM");
    for client in &mut waiting {
        assert_eq!(client.response().status(), 404);
    }
    connection.send(OK);
    assert_eq!(busy.response().text(), "ok");
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn sigusr2_says_how_things_stand() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "30s");
    let mut client = proxy.client();
    client.send(GET);
    let (_, _connection) = upstream.answer(OK);
    client.response();
    proxy.signal("USR2");
    let listener = proxy.says("state listener=");
    assert!(listener.contains("connections=1"), "{listener}");
    let endpoint = proxy.says("state upstream=");
    for says in [
        &*upstream.address().to_string(),
        "healthy=true",
        "connections=1",
        "requests=1",
    ] {
        assert!(endpoint.contains(says), "{endpoint}");
    }
    client.send(GET);
}
