//! Clients that leave while something they sent is still unread: what is done for them ends all the same.

use std::time::{Duration, Instant};

use crate::support::{GET, OK, Proxy, Upstream, Wire};

/// RELIABILITY's second, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(3);

const ONE_AT_A_TIME: &str = ", max_connections_per_endpoint: 1, queue_timeout: 1m";

fn proxy_with(of_upstream: &str, upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"]{of_upstream} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ))
}

fn soon<T>(wait: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = wait();
    let took = began.elapsed();
    assert!(took < SOON, "too late: {took:?}");
    outcome
}

/// As many bytes as anybody takes.
fn fill(client: &mut Wire<std::net::TcpStream>) {
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n");
    let stream = client.stream_mut();
    let patience = Some(Duration::from_millis(500));
    stream.set_write_timeout(patience).unwrap();
    let piece = vec![b'x'; 64 * 1024];
    while std::io::Write::write(stream, &piece).is_ok() {}
}

#[test]
fn a_request_with_a_body_leaves_the_queue() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(ONE_AT_A_TIME, &upstream);
    let mut clients = [0; 3].map(|_| proxy.client());
    clients[0].send(GET);
    let mut connection = upstream.accept();
    connection.request();
    clients[1].send("POST /gone HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi");
    clients[1].finish_sending();
    soon(|| clients[1].assert_closed());
    clients[2].send("GET /here HTTP/1.1\r\nhost: h\r\n\r\n");
    connection.send(OK);
    assert_eq!(connection.request().start, "GET /here HTTP/1.1");
}

#[test]
fn a_request_behind_which_another_came_is_given_up() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", &upstream);
    let mut client = proxy.client();
    client.send([GET, GET].concat());
    let mut connection = upstream.accept();
    connection.request();
    drop(client);
    soon(|| connection.assert_closed());
    upstream.assert_untouched();
}

#[test]
fn an_upload_that_its_endpoint_does_not_take_is_given_up() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(ONE_AT_A_TIME, &upstream);
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"] {
        let mut client = proxy.client();
        fill(&mut client);
        let mut connection = upstream.accept();
        connection.head();
        connection.send(answer);
        if !answer.is_empty() {
            client.head();
        }
        client.reset();
        // Nobody reads what lies in sockets, so only the next in the queue can see that it is over.
        let mut next = proxy.client();
        next.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let (_, served) =
            soon(|| upstream.answer("HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n"));
        assert_eq!(next.response().status(), 204);
        drop((connection, served));
    }
}

/// Its client may have wanted no answer.
#[test]
fn an_upload_goes_on_after_its_client_left_as_long_as_it_moves() {
    let upstream = Upstream::bind();
    let proxy = proxy_with("", &upstream);
    // More than all sockets on the way hold.
    let length = 24_000_000;
    let mut silent = proxy.client();
    let mut client = proxy.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n"
    ));
    let sending = std::thread::spawn(move || {
        client.send(vec![b'x'; length]);
    });
    let mut connection = upstream.accept();
    connection.head();
    for _ in 0..48 {
        connection.take(length / 48);
        // What lies in sockets when the client has left takes longer than two looks at it.
        assert!(!silent.arrives_within(Duration::from_millis(50)));
    }
    sending.join().unwrap();
}
