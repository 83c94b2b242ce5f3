//! WebSockets: who gets one, and what goes through.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::websocket::{Http2, accept, connect, converse, over_http2, pair};
use crate::support::{Certificate, GET, OK, Proxy, Upstream, Wire};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: app.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// One worker, so that all of its deadlines have the same clock.
fn proxy_with(upstream: &Upstream, timeouts: &str) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         shutdown: {{ grace_period: 300ms }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], timeouts: {{ {timeouts} }} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ))
}

/// Both ends of a tunnel, the handshake done.
fn tunnel(
    proxy: &Proxy,
    upstream: &Upstream,
) -> (Wire<std::net::TcpStream>, Wire<std::net::TcpStream>) {
    let mut client = proxy.client();
    client.send(ASK);
    let (_, connection) = upstream.answer(AGREED);
    assert_eq!(client.response().status(), 101);
    (client, connection)
}

/// Bytes pass in both directions.
fn assert_carries(
    client: &mut Wire<std::net::TcpStream>,
    endpoint: &mut Wire<std::net::TcpStream>,
) {
    client.send("up\n\0");
    assert_eq!(endpoint.take(4), b"up\n\0");
    endpoint.send("down");
    assert_eq!(client.take(4), b"down");
}

/// Messages of every kind, small and large, both ways.
async fn assert_converses<C, E>(client: &mut WebSocketStream<C>, endpoint: &mut WebSocketStream<E>)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    E: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let large: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    for message in [
        Message::text("hello"),
        Message::binary(vec![0, 255, 10, 13]),
        Message::text(""),
        Message::Ping(Bytes::from_static(b"are you there")),
        Message::binary(large),
    ] {
        let (sent, received) = tokio::join!(client.send(message.clone()), endpoint.next());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), message);
        let (sent, received) = tokio::join!(endpoint.send(message.clone()), client.next());
        sent.unwrap();
        let mut received = received.unwrap().unwrap();
        if received == Message::Pong(Bytes::from_static(b"are you there")) {
            // The answer to the ping a moment ago.
            received = client.next().await.unwrap().unwrap();
        }
        assert_eq!(received, message);
    }
}

/// A closing handshake that has begun comes to its end, and so does the stream: the endpoint ends it (RFC 6455 §7.1.1).
async fn assert_ends<C, E>(mut client: WebSocketStream<C>, mut endpoint: WebSocketStream<E>)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    E: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    tokio::join!(
        async {
            while let Some(message) = client.next().await {
                message.expect("an orderly end");
            }
        },
        async {
            while let Some(message) = endpoint.next().await {
                message.expect("an orderly end");
            }
            drop(endpoint);
        }
    );
}

#[test]
fn messages_pass_both_ways() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    converse(async {
        let upstream = upstream.into_async();
        let (mut client, mut endpoint) = pair(proxy.address("http"), &upstream).await;
        assert_converses(&mut client, &mut endpoint).await;
    });
}

fn proxy_over_tls(upstream: &Upstream) -> (Certificate, Proxy) {
    let certificate = Certificate::for_names(&["app.test"]);
    let directory = TempDir::new().unwrap();
    certificate.write(directory.path(), "app");
    let proxy = Proxy::start_in(
        directory,
        &format!(
            "listeners: {{ https: {{ address: \"127.0.0.1:0\", \
             tls: {{ certificates: [{{ cert: app.crt, key: app.key }}] }} }} }}\n{}",
            upstream.as_only_route()
        ),
    );
    (certificate, proxy)
}

#[test]
fn messages_pass_through_tls() {
    let upstream = Upstream::bind();
    let (certificate, proxy) = proxy_over_tls(&upstream);
    converse(async {
        let config = std::sync::Arc::new(certificate.client_config(&["http/1.1"]));
        let name = rustls::pki_types::ServerName::try_from("app.test").unwrap();
        let stream = TcpStream::connect(proxy.address("https")).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(name, stream).await.unwrap();
        let upstream = upstream.into_async();
        let (mut client, mut endpoint) = tokio::join!(connect(stream), accept(&upstream));
        assert_converses(&mut client, &mut endpoint).await;
        endpoint.close(None).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(None));
        assert_ends(client, endpoint).await;
    });
}

#[test]
fn either_side_may_close() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    converse(async {
        let upstream = upstream.into_async();
        let reason = CloseFrame {
            code: CloseCode::Away,
            reason: "done".into(),
        };
        for client_first in [true, false] {
            let (mut client, mut endpoint) = pair(proxy.address("http"), &upstream).await;
            let (first, second) = if client_first {
                (&mut client, &mut endpoint)
            } else {
                (&mut endpoint, &mut client)
            };
            first.close(Some(reason.clone())).await.unwrap();
            let heard = second.next().await.unwrap().unwrap();
            assert_eq!(heard, Message::Close(Some(reason.clone())));
            assert_ends(client, endpoint).await;
        }
    });
}

#[test]
fn the_handshake_passes_and_the_upgrade_is_written_anew() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(ASK.replace(
        "upgrade: websocket",
        "upgrade: h2c, WebSocket\r\nhttp2-settings: AAA",
    ));
    let mut connection = upstream.accept();
    let request = connection.request();
    assert_eq!(request.start, "GET /chat HTTP/1.1");
    assert_eq!(request.field("connection"), Some("upgrade"));
    assert_eq!(request.field("upgrade"), Some("websocket"));
    assert_eq!(request.field("http2-settings"), None);
    assert_eq!(
        request.field("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    assert_eq!(request.field("sec-websocket-version"), Some("13"));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    // The endpoint may begin at once.
    connection.send(format!("{AGREED}first words"));
    let response = client.response();
    assert_eq!(response.status(), 101);
    assert_eq!(response.field("connection"), Some("upgrade"));
    assert_eq!(response.field("upgrade"), Some("websocket"));
    assert_eq!(
        response.field("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(response.field("content-length"), None);
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(client.take(11), b"first words");
    assert_carries(&mut client, &mut connection);
}

#[test]
fn anything_but_a_websocket_is_a_plain_request() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let start = "GET / HTTP/1.1";
    for (start, fields, body) in [
        (
            start,
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA",
            "",
        ),
        (start, "connection: upgrade\r\nupgrade: tls/1.2", ""),
        (start, "connection: upgrade\r\nupgrade: websocket/13", ""),
        (start, "connection: upgrade", ""),
        (start, "upgrade: websocket", ""),
        (start, "connection: keep-alive\r\nupgrade: websocket", ""),
        (
            "POST / HTTP/1.1",
            "connection: upgrade\r\nupgrade: websocket",
            "",
        ),
        (
            "HEAD / HTTP/1.1",
            "connection: upgrade\r\nupgrade: websocket",
            "",
        ),
        (
            start,
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2",
            "hi",
        ),
        (
            start,
            "connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked",
            "0\r\n\r\n",
        ),
        (
            "GET / HTTP/1.0",
            "connection: upgrade\r\nupgrade: websocket",
            "",
        ),
    ] {
        let mut client = proxy.client();
        client.send(format!(
            "{start}\r\nhost: app.test\r\n{fields}\r\n\r\n{body}"
        ));
        let (request, _connection) =
            upstream.answer("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        for name in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(request.field(name), None, "{start} {fields}");
        }
        assert_eq!(client.response().status(), 204, "{start} {fields}");
    }
}

#[test]
fn a_switch_that_was_not_asked_for_is_refused() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let h2c = AGREED.replace("upgrade: websocket", "upgrade: h2c");
    let nothing = AGREED.replace("upgrade: websocket\r\n", "");
    let both = AGREED.replace("upgrade: websocket", "upgrade: websocket, h2c");
    let body = AGREED.replace(
        "upgrade: websocket",
        "upgrade: websocket\r\ncontent-length: 5",
    );
    for (request, answer) in [
        (GET, AGREED),
        (ASK, &h2c),
        (ASK, &nothing),
        (ASK, &both),
        (ASK, &body),
    ] {
        let mut client = proxy.client();
        client.send(request);
        let (_, mut connection) = upstream.answer(format!("{answer}bytes"));
        let response = client.response();
        assert_eq!(response.status(), 502, "{answer}");
        assert!(!response.text().contains("bytes"), "{answer}");
        connection.until_closed();
    }
}

#[test]
fn an_endpoint_that_declines_leaves_both_connections_usable() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(ASK);
    let (_, mut connection) = upstream
        .answer("HTTP/1.1 403 Forbidden\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nno");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (403, "no"));
    assert_eq!(response.field("upgrade"), None);
    for request in [ASK, GET] {
        client.send(request);
        connection.request();
        connection.send(OK);
        let response = client.response();
        assert_eq!((response.status(), response.text()), (200, "ok"));
    }
    client.send(ASK);
    connection.request();
    connection.send(AGREED);
    assert_eq!(client.response().status(), 101);
    assert_carries(&mut client, &mut connection);
}

#[test]
fn nothing_passes_before_the_switch() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for early in [
        "early",
        "early\r\n",
        "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut client = proxy.client();
        client.send(format!("{ASK}{early}"));
        let mut connection = upstream.accept();
        connection.request();
        connection.send(AGREED);
        // Who speaks before its turn loses the connection, and the endpoint hears nothing of it.
        client.until_closed();
        assert_eq!(connection.until_closed(), b"", "{early}");
    }
}

#[test]
fn nothing_passes_that_came_just_before_the_switch() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for _ in 0..100 {
        let mut client = proxy.client();
        client.send(ASK);
        let mut connection = upstream.accept();
        connection.request();
        client.send("early");
        connection.send(AGREED);
        client.until_closed();
        assert_eq!(connection.until_closed(), b"");
    }
}

#[test]
fn nothing_passes_that_came_behind_a_head_as_large_as_a_read() {
    const READ: usize = 8 * 1024;
    let upstream = Upstream::bind();
    let head = ASK.trim_end_matches("\r\n");
    let pad = "x".repeat(READ - head.len() - "\r\nx-pad: \r\n\r\n".len());
    let ask = format!("{head}\r\nx-pad: {pad}\r\n\r\n");
    assert_eq!(ask.len(), READ);
    let refused = || {
        let mut connection = upstream.accept();
        connection.request();
        connection.send(AGREED);
        assert_eq!(connection.until_closed(), b"");
    };
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(format!("{ask}early"));
    refused();
    let (certificate, proxy) = proxy_over_tls(&upstream);
    let stream = std::net::TcpStream::connect(proxy.address("https")).unwrap();
    let mut client = certificate.client("app.test", &["http/1.1"], stream);
    client.send(format!("{ask}early"));
    refused();
}

#[test]
fn a_silent_tunnel_is_cut() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "tunnel: 300ms");
    let (mut client, mut connection) = tunnel(&proxy, &upstream);
    let began = Instant::now();
    client.assert_closed();
    connection.assert_closed();
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[test]
fn a_byte_in_either_direction_keeps_a_tunnel() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "tunnel: 300ms");
    for up in [true, false] {
        let (mut client, mut connection) = tunnel(&proxy, &upstream);
        let (from, to) = if up {
            (&mut client, &mut connection)
        } else {
            (&mut connection, &mut client)
        };
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(900) {
            from.send("x");
            assert_eq!(to.take(1), b"x");
        }
        assert_carries(&mut client, &mut connection);
    }
}

#[test]
fn deadlines_of_responses_do_not_reach_a_tunnel() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "response_header: 200ms, idle: 200ms");
    let (mut client, mut connection) = tunnel(&proxy, &upstream);
    // Twice the time in which either deadline comes.
    for _ in 0..2 {
        let mut other = proxy.client();
        other.send(GET);
        let mut silent = upstream.accept();
        silent.request();
        assert_eq!(other.response().status(), 504);
    }
    assert_carries(&mut client, &mut connection);
}

#[test]
fn the_end_of_one_direction_leaves_the_other() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for client_first in [true, false] {
        let (mut client, mut connection) = tunnel(&proxy, &upstream);
        let (first, second) = if client_first {
            (&mut client, &mut connection)
        } else {
            (&mut connection, &mut client)
        };
        first.send("last");
        first.finish_sending();
        assert_eq!(second.until_closed(), b"last");
        second.send("answer");
        second.finish_sending();
        assert_eq!(first.until_closed(), b"answer");
    }
}

#[test]
fn a_megabyte_waits_for_a_slow_reader() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let (mut client, mut connection) = tunnel(&proxy, &upstream);
    let bytes: Vec<u8> = (0..8 << 20).map(|at: u32| (at % 253) as u8).collect();
    let mut sender = connection.sender();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(&bytes));
        // The other direction is open meanwhile.
        client.send("up");
        assert_eq!(connection.take(2), b"up");
        assert!(client.take(bytes.len()) == bytes);
    });
}

#[test]
fn who_vanishes_ends_the_tunnel() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let (client, mut connection) = tunnel(&proxy, &upstream);
    client.reset();
    connection.until_closed();
    let (mut client, connection) = tunnel(&proxy, &upstream);
    connection.reset();
    client.until_closed();
}

#[test]
fn a_stop_waits_for_tunnels_and_cutting_one_is_no_failure() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_with(&upstream, "");
    let (mut client, mut connection) = tunnel(&proxy, &upstream);
    let began = Instant::now();
    proxy.signal("TERM");
    // Longer than it would live if nobody waited for it.
    while began.elapsed() < Duration::from_millis(150) {
        assert_carries(&mut client, &mut connection);
    }
    assert_eq!(proxy.ended().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_millis(290));
    client.until_closed();
    connection.until_closed();
}

#[test]
fn a_stop_ends_with_the_last_tunnel() {
    let upstream = Upstream::bind();
    let mut proxy = Proxy::to(&upstream);
    let (mut client, mut connection) = tunnel(&proxy, &upstream);
    proxy.signal("TERM");
    assert_carries(&mut client, &mut connection);
    client.finish_sending();
    connection.assert_closed();
    drop(connection);
    client.assert_closed();
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn http_2_clients_get_a_websocket_by_extended_connect() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    converse(async {
        let upstream = upstream.into_async();
        let mut http = Http2::connect(proxy.address("http")).await;
        let (response, mut endpoint) =
            tokio::join!(http.extended_connect("websocket"), accept(&upstream));
        assert_eq!(response.status(), StatusCode::OK);
        for name in [
            "sec-websocket-accept",
            "content-length",
            "upgrade",
            "connection",
        ] {
            assert!(response.headers().get(name).is_none(), "{name}");
        }
        let mut client = over_http2(response).await;
        assert_converses(&mut client, &mut endpoint).await;
        client.close(None).await.unwrap();
        assert_ends(client, endpoint).await;
    });
}

#[test]
fn an_extended_connect_goes_up_as_an_upgrade() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let address = proxy.address("http");
    for (answer, status) in [
        // Whatever says success without a WebSocket would look like one.
        (OK, 502),
        // An answer to another key.
        (AGREED, 502),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403),
        (
            "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
            302,
        ),
    ] {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                converse(async {
                    let mut http = Http2::connect(address).await;
                    http.extended_connect("websocket").await.status().as_u16()
                })
            });
            let (request, _connection) = upstream.answer(answer.replacen(
                "\r\n\r\n",
                "\r\nconnection: upgrade, close\r\n\r\n",
                1,
            ));
            assert_eq!(request.start, "GET /chat?room=1 HTTP/1.1");
            assert_eq!(request.field("host"), Some("app.test"));
            assert_eq!(request.field("connection"), Some("upgrade"));
            assert_eq!(request.field("upgrade"), Some("websocket"));
            assert_eq!(request.field("sec-websocket-protocol"), Some("chat"));
            let key = request.field("sec-websocket-key").unwrap();
            assert_eq!(key.len(), 24);
            assert_ne!(key, "bm90IGZvciBodHRwLzIhIQ==", "a key of ours");
            assert_eq!(asked.join().unwrap(), status, "{answer}");
        });
    }
}

#[test]
fn other_connects_are_not_served_in_http_2() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    converse(async {
        let mut http = Http2::connect(proxy.address("http")).await;
        let plain = Request::builder()
            .method(Method::CONNECT)
            .uri("app.test:443")
            .body(Empty::new())
            .unwrap();
        assert_eq!(http.send(plain).await.status(), 405);
        for protocol in ["connect-udp", "h2c", "websockets"] {
            assert_eq!(
                http.extended_connect(protocol).await.status(),
                405,
                "{protocol}"
            );
        }
    });
    upstream.assert_untouched();
}

#[test]
fn a_tunnel_in_http_2_is_cut_when_silent_and_leaves_the_connection() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "tunnel: 300ms");
    converse(async {
        let upstream = upstream.into_async();
        let mut http = Http2::connect(proxy.address("http")).await;
        for _ in 0..2 {
            let (response, mut endpoint) =
                tokio::join!(http.extended_connect("websocket"), accept(&upstream));
            let mut client = over_http2(response).await;
            assert!(!matches!(client.next().await, Some(Ok(_))));
            assert!(!matches!(endpoint.next().await, Some(Ok(_))));
        }
    });
}

#[test]
fn a_stop_waits_for_tunnels_in_http_2() {
    let upstream = Upstream::bind();
    let mut proxy = proxy_with(&upstream, "");
    converse(async {
        let upstream = upstream.into_async();
        let mut http = Http2::connect(proxy.address("http")).await;
        let (response, mut endpoint) =
            tokio::join!(http.extended_connect("websocket"), accept(&upstream));
        let mut client = over_http2(response).await;
        proxy.signal("TERM");
        let message = Message::text("still here");
        client.send(message.clone()).await.unwrap();
        assert_eq!(endpoint.next().await.unwrap().unwrap(), message);
        // Until the grace period ends it.
        assert!(!matches!(endpoint.next().await, Some(Ok(_))));
    });
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn the_echo_service_sends_messages_back() {
    let proxy = Proxy::to_whoami();
    let large = Message::binary(vec![7; 1 << 20]);
    let messages = [Message::text("hello"), large, Message::binary(vec![])];
    converse(async {
        let stream = TcpStream::connect(proxy.address("http")).await.unwrap();
        let asked = tokio_tungstenite::client_async("ws://app.test/echo", stream).await;
        assert_echoes(asked.unwrap().0, &messages).await;
        let mut http = Http2::connect(proxy.address("http")).await;
        let response = http.extended_connect_to("/echo", "websocket").await;
        assert_echoes(over_http2(response).await, &messages).await;
        // Nowhere else.
        let declined = http.extended_connect("websocket").await;
        assert_eq!(declined.status(), 502);
    });
    assert_eq!(proxy.client().ask(ASK).status(), 200);
    let elsewhere = ASK.replace("/chat", "/echo");
    let unversioned = elsewhere.replace("sec-websocket-version: 13", "sec-websocket-version: 12");
    assert_eq!(proxy.client().ask(unversioned).status(), 400);
}

/// Sends and reads at the same time: a frame comes back while it goes.
async fn assert_echoes<S>(socket: WebSocketStream<S>, messages: &[Message])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut to, mut from) = socket.split();
    for message in messages {
        let (sent, received) = tokio::join!(to.send(message.clone()), from.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == *message);
    }
    to.send(Message::Ping(Bytes::from_static(b"?")))
        .await
        .unwrap();
    assert_eq!(
        from.next().await.unwrap().unwrap(),
        Message::Pong(Bytes::from_static(b"?"))
    );
    to.send(Message::Close(None)).await.unwrap();
    assert_eq!(from.next().await.unwrap().unwrap(), Message::Close(None));
    assert!(from.next().await.is_none());
}
