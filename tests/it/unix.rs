//! Unix sockets on either side.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::support::{DEADLINE, GET, OK, Proxy, Upstream, Wire};

#[test]
fn a_listener_on_a_unix_socket_serves_without_a_client_address() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ local: {{ address: \"unix:in.sock\" }} }}\n{}",
        upstream.as_only_route()
    ));
    let mut client = Wire::unix(&proxy.path("in.sock"));
    client.send("GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 6.6.6.6\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.field("x-forwarded-for"), None);
    assert_eq!(request.field("x-real-ip"), None);
    assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_trusted_unix_peer_names_the_client() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ local: {{ address: \"unix:in.sock\" }} }}\n\
         client_ip: {{ trusted_proxies: [unix] }}\n{}",
        upstream.as_only_route()
    ));
    let mut client = Wire::unix(&proxy.path("in.sock"));
    client.send("GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 203.0.113.7\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.field("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(request.field("x-real-ip"), Some("203.0.113.7"));
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn an_endpoint_on_a_unix_socket_is_reached() {
    let directory = TempDir::new().unwrap();
    let listener = UnixListener::bind(directory.path().join("out.sock")).unwrap();
    let proxy = Proxy::start_in(
        directory,
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         upstreams: { app: { endpoints: [\"unix:out.sock\"] } }\nroutes: [{ upstream: app }]\n",
    );
    let mut client = proxy.client();
    client.send(GET);
    socket2::SockRef::from(&listener)
        .set_read_timeout(Some(DEADLINE))
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut connection = Wire::new(stream);
    let request = connection.request();
    assert_eq!(request.field("host"), Some("app.test"));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_socket_file_left_behind_does_not_stop_a_start() {
    let directory = TempDir::new().unwrap();
    drop(UnixListener::bind(directory.path().join("in.sock")).unwrap());
    let proxy = Proxy::start_in(
        directory,
        "listeners: { local: { address: \"unix:in.sock\" } }\n\
         routes: [{ respond: { status: 200, body: x } }]\n",
    );
    let mut client = Wire::unix(&proxy.path("in.sock"));
    assert_eq!(client.ask(GET).text(), "x");
}

/// TCP waits for room by itself.
#[test]
fn an_endpoint_with_a_full_queue_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("app.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(&path).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut ahead = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&address) {
            Ok(()) => ahead.push(socket),
            Err(_) => break,
        }
    }
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"unix:{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
        path.display()
    ));
    let mut client = proxy.client();
    client.send(GET);
    assert!(!client.arrives_within(Duration::from_millis(300)));
    let listener = UnixListener::from(OwnedFd::from(listener));
    for _ in &ahead {
        drop(listener.accept().unwrap());
    }
    socket2::SockRef::from(&listener)
        .set_read_timeout(Some(DEADLINE))
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut connection = Wire::new(stream);
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}
