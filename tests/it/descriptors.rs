//! A process that runs out of file descriptors: whoever needs one waits for it.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{GET, Manner, OK, Proxy, Service, Upstream, Wire};

/// Answered by the proxy itself.
const OWN: &str = "GET / HTTP/1.1\r\nhost: none.test\r\n\r\n";

fn proxy_to(upstream: &Upstream, queue_timeout: &str) -> Proxy {
    proxy_with(1, upstream.address(), queue_timeout)
}

fn proxy_with(workers: usize, upstream: SocketAddr, queue_timeout: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         runtime: {{ worker_threads: {workers} }}\nreload: {{ watch: false }}\n\
         upstreams: {{ app: {{ endpoints: [\"{upstream}\"], queue_timeout: {queue_timeout} }} }}\n\
         routes: [{{ match: {{ hosts: [app.test] }}, upstream: app }}]\n"
    ))
}

/// Clients whose connections have been accepted.
fn accepted<const N: usize>(proxy: &Proxy) -> [Wire<TcpStream>; N] {
    let mut clients = [(); N].map(|()| proxy.client());
    for client in &mut clients {
        assert_eq!(client.ask(OWN).status(), 404);
    }
    clients
}

#[test]
fn requests_wait_for_a_descriptor() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&upstream, "20s");
    let mut clients = accepted::<10>(&proxy);
    proxy.leave_descriptors(2);
    for client in &mut clients {
        client.send(GET);
    }
    let (mut first, mut second) = (upstream.accept(), upstream.accept());
    // Whoever waits takes the connection that has become idle.
    for _ in 0..9 {
        first.request();
        first.send(OK);
    }
    second.request();
    second.send(OK);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    upstream.assert_untouched();
}

#[test]
fn a_descriptor_that_is_given_back_is_taken() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&upstream, "20s");
    let [mut client, other] = accepted(&proxy);
    proxy.leave_descriptors(0);
    // A request with a body can't be sent twice: it must not have been tried.
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 2\r\n\r\nhi");
    client.assert_silent();
    drop(other);
    assert_eq!(upstream.answer(OK).0.body, b"hi");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn workers_share_the_descriptors_there_are() {
    let service = Service::start(Manner::KeepAlive);
    let proxy = proxy_with(4, service.address(), "20s");
    let mut clients = accepted::<12>(&proxy);
    proxy.leave_descriptors(1);
    for client in &mut clients {
        assert_eq!(client.ask(GET).status(), 200);
    }
}

#[test]
fn who_waits_for_a_descriptor_in_vain_is_told_to_come_back() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&upstream, "200ms");
    let [mut client] = accepted(&proxy);
    proxy.leave_descriptors(0);
    let response = client.ask(GET);
    assert_eq!(response.status(), 503);
    assert!(response.field("retry-after").is_some());
    // It has nothing to do with the endpoint.
    proxy.leave_descriptors(1);
    client.send(GET);
    upstream.answer(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn connections_wait_for_a_descriptor() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&upstream, "20s");
    let [first] = accepted(&proxy);
    proxy.leave_descriptors(0);
    let mut next = proxy.client();
    next.send(OWN);
    next.assert_silent();
    drop(first);
    assert_eq!(next.response().status(), 404);
}

#[test]
fn waiting_for_a_descriptor_takes_no_processor() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&upstream, "20s");
    let [first] = accepted(&proxy);
    proxy.leave_descriptors(0);
    // A connection that nobody can accept stays readable all the time.
    let mut next = proxy.client();
    next.send(OWN);
    let before = proxy.processor_time();
    let began = Instant::now();
    next.assert_silent();
    while began.elapsed() < Duration::from_secs(2) {
        next.assert_silent();
    }
    let used = proxy.processor_time().saturating_sub(before);
    assert!(used < began.elapsed() / 4, "{used:?}");
    drop(first);
    assert_eq!(next.response().status(), 404);
}

#[test]
fn a_file_that_could_not_be_read_for_want_of_one_is_looked_at_again() {
    let with = |status: u16| {
        format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
             reload: {{ debounce: 0s }}\nroutes: [{{ respond: {{ status: {status} }} }}]\n"
        )
    };
    let mut proxy = Proxy::start(&with(404));
    let [mut client] = accepted(&proxy);
    proxy.leave_descriptors(0);
    proxy.reconfigure(&with(204));
    // For several looks.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(client.ask(GET).status(), 404);
    }
    proxy.leave_descriptors(100);
    proxy.says("reload applied");
    assert_eq!(client.ask(GET).status(), 204);
}

/// The process ends, and connections that rest give theirs back soon.
#[test]
fn who_waits_for_a_descriptor_when_the_process_ends_is_served() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_to(&upstream, "20s");
    let mut resting: [_; 3] = accepted(&proxy);
    proxy.leave_descriptors(0);
    let mut waiting = [(); 2].map(|()| proxy.client());
    for client in &mut waiting {
        client.send(OWN);
        client.assert_silent();
    }
    proxy.signal("TERM");
    for client in &mut waiting {
        assert_eq!(client.response().status(), 404);
    }
    for client in &mut resting {
        client.assert_closed();
    }
    assert_eq!(proxy.ended().code(), Some(0));
}

/// Whoever needs a descriptor has that of a connection at rest, whose upstream's ever it is.
#[test]
fn an_idle_upstream_connection_is_given_up_for_another_upstream_and_for_clients() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         runtime: {{ worker_threads: 2 }}\nreload: {{ watch: false }}\n\
         upstreams:\n  first: {{ endpoints: [\"{}\"], queue_timeout: 20s, pool: {{ idle_timeout: 1h }} }}\n  \
         second: {{ endpoints: [\"{}\"], queue_timeout: 20s, pool: {{ idle_timeout: 1h }} }}\n\
         routes: [{{ match: {{ hosts: [app.test] }}, upstream: first }}, \
         {{ match: {{ hosts: [second.test] }}, upstream: second }}]\n",
        first.address(),
        second.address()
    ));
    // Some with either worker.
    let mut clients: [_; 8] = accepted(&proxy);
    proxy.leave_descriptors(1);
    for client in &mut clients {
        client.send(GET);
        let (_, mut idle) = first.answer(OK);
        assert_eq!(client.response().status(), 200);
        client.send("GET / HTTP/1.1\r\nhost: second.test\r\n\r\n");
        let (_, mut other) = second.answer(OK);
        assert_eq!(client.response().status(), 200);
        idle.assert_closed();
        client.send(GET);
        let (_, _idle) = first.answer(OK);
        assert_eq!(client.response().status(), 200);
        other.assert_closed();
        let mut new = proxy.client();
        assert_eq!(new.ask(OWN).status(), 404);
    }
}
