//! WebSockets to endpoints that speak HTTP/2: asked for by extended CONNECT (RFC 8441), whatever the client speaks.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::websocket::{Http2, OverHttp2, connect, converse, over_http2};
use crate::support::{Authority, Frame, GET, Http2Wire, Proxy, Upstream};

/// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 8441 §3).
const ENABLE_CONNECT: (u16, u32) = (8, 1);

/// The key of RFC 6455 §1.3, whose answer it gives as well.
const ASK: &str = "GET /chat HTTP/1.1\r\nhost: app.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn proxy_with(upstream: &Upstream, settings: &str) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], protocol: h2c, {settings} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ))
}

fn proxy(upstream: &Upstream) -> Proxy {
    proxy_with(upstream, "timeouts: {}")
}

/// An endpoint that takes extended CONNECT and answers with these fields; each WebSocket comes out of the channel.
async fn serve<S>(stream: S, fields: HeaderMap, sockets: mpsc::UnboundedSender<OverHttp2>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let fields = fields.clone();
        let sockets = sockets.clone();
        async move {
            assert_eq!(request.method(), Method::CONNECT);
            let protocol = request.extensions().get::<Protocol>().unwrap();
            assert_eq!(protocol.as_str(), "websocket");
            for name in [
                "sec-websocket-key",
                "connection",
                "upgrade",
                "content-length",
            ] {
                assert!(!request.headers().contains_key(name), "{name}");
            }
            assert_eq!(request.headers()["sec-websocket-version"], "13");
            assert_eq!(request.headers()["x-forwarded-for"], "127.0.0.1");
            assert_eq!(request.uri().path(), "/chat");
            assert_eq!(request.uri().authority().unwrap(), "app.test");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let stream = TokioIo::new(upgrade.await.unwrap());
                let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                // The test may have what it wanted.
                let _ = sockets.send(socket);
            });
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.headers_mut() = fields;
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.enable_connect_protocol();
    // Ends when the proxy does.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// As [`serve`], for the next connection.
fn serve_next(upstream: TcpListener, fields: HeaderMap) -> mpsc::UnboundedReceiver<OverHttp2> {
    let (sockets, opened) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = upstream.accept().await.unwrap();
        serve(stream, fields, sockets).await;
    });
    opened
}

/// Messages both ways, and an end that both sides hear of.
async fn assert_works<C, E>(mut client: WebSocketStream<C>, mut endpoint: WebSocketStream<E>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let large: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::binary(large),
    ] {
        let (sent, received) = tokio::join!(client.send(message.clone()), endpoint.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message);
        let (sent, received) = tokio::join!(endpoint.send(message.clone()), client.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message);
    }
    client.close(None).await.unwrap();
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
fn an_http_1_client_gets_one() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    converse(async {
        let mut opened = serve_next(upstream.into_async(), HeaderMap::new());
        // One after the other on the same connection.
        for _ in 0..2 {
            let stream = TcpStream::connect(proxy.address("http")).await.unwrap();
            let (client, endpoint) = tokio::join!(connect(stream), opened.recv());
            assert_works(client, endpoint.unwrap()).await;
        }
    });
}

#[test]
fn an_http_2_client_gets_one() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    converse(async {
        let mut opened = serve_next(upstream.into_async(), HeaderMap::new());
        let mut http = Http2::connect(proxy.address("http")).await;
        for _ in 0..2 {
            let response = http.extended_connect_to("/chat", "websocket").await;
            assert_eq!(response.status(), StatusCode::OK);
            let client = over_http2(response).await;
            assert_works(client, opened.recv().await.unwrap()).await;
        }
    });
}

#[test]
fn the_handshake_of_http_1_is_ours() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(ASK);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[ENABLE_CONNECT]);
    let request = endpoint.next(Frame::HEADERS);
    assert!(!request.ends_stream());
    let fields = [
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-accept", "not-his-to-say"),
    ];
    endpoint.respond(request.stream, 0, &fields);
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    for (name, expected) in [
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-accept", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        ("sec-websocket-protocol", Some("chat")),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(answer.field(name), expected, "{name}");
    }
    client.send("up\n\0");
    assert_eq!(endpoint.next(Frame::DATA).payload, b"up\n\0");
    endpoint.data(request.stream, 0, b"down");
    assert_eq!(client.take(4), b"down");
    // Each direction ends by itself.
    client.finish_sending();
    assert!(endpoint.next(Frame::DATA).ends_stream());
    endpoint.data(request.stream, Frame::END_STREAM, b"last");
    assert_eq!(client.until_closed(), b"last");
}

#[test]
fn a_key_that_cannot_be_answered_is_refused() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    // There is a connection, so that it is known what the endpoint takes.
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[ENABLE_CONNECT]);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for bad in ["", "sec-websocket-key: short\r\n", &key.repeat(2)] {
        let answer = proxy.client().ask(ASK.replace(key, bad));
        assert_eq!(answer.status(), 400, "{bad}");
    }
}

#[test]
fn a_refusal_is_passed_on_and_leaves_both_connections_usable() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(ASK);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[ENABLE_CONNECT]);
    let stream = endpoint.next(Frame::HEADERS).stream;
    // Entry 13 of the static table: 404.
    endpoint.send(Frame::HEADERS, Frame::END_HEADERS, stream, &[0x8d]);
    endpoint.data(stream, Frame::END_STREAM, b"no");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text()), (404, "no"));
    assert!(endpoint.next(Frame::DATA).ends_stream());
    client.send(GET);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_endpoint_that_takes_none_is_a_bad_gateway() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(ASK);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
    let answer = client.response();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("takes no WebSockets"), "{answer:?}");
    // It isn't asked in vain again, and serves other requests.
    assert_eq!(client.ask(ASK).status(), 502);
    client.send(GET);
    let stream = endpoint.next(Frame::HEADERS).stream;
    assert_eq!(stream, 1);
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
    converse(async {
        let mut http = Http2::connect(proxy.address("http")).await;
        let answer = http.extended_connect("websocket").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    });
    upstream.assert_untouched();
}

#[test]
fn a_tunnel_that_breaks_at_one_end_breaks_at_the_other() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(ASK);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[ENABLE_CONNECT]);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    assert_eq!(client.response().status(), 101);
    endpoint.reset(stream, Frame::CANCEL);
    client.assert_closed();
    let mut client = proxy.client();
    client.send(ASK);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    assert_eq!(client.response().status(), 101);
    client.reset();
    let reset = endpoint.next(Frame::RST_STREAM);
    assert_eq!((reset.stream, reset.reason()), (stream, Frame::CANCEL));
}

#[test]
fn a_silent_tunnel_is_cut_and_leaves_the_connection() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(
        &upstream,
        "timeouts: { tunnel: 300ms, idle: 100ms, response_header: 5s }",
    );
    let mut client = proxy.client();
    client.send(ASK);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[ENABLE_CONNECT]);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    assert_eq!(client.response().status(), 101);
    client.assert_closed();
    assert_eq!(endpoint.next(Frame::RST_STREAM).stream, stream);
    let mut client = proxy.client();
    client.send(GET);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
}

/// An endpoint whose TLS prefers HTTP/2, and what it does with each of its connections.
struct Choosy {
    upstream: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Choosy {
    fn start() -> (Self, Proxy) {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new();
        authority.write(directory.path(), "ca.pem");
        let upstream = Upstream::bind();
        let proxy = Proxy::start_in(
            directory,
            &format!(
                "runtime: {{ worker_threads: 1 }}\n\
                 listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
                 upstreams: {{ app: {{ endpoints: [\"{}\"], tls: {{ ca: ca.pem }} }} }}\n\
                 routes: [{{ upstream: app }}]\n",
                upstream.address()
            ),
        );
        let server = authority.issue(&["127.0.0.1"]).server(&["h2", "http/1.1"]);
        let choosy = Self {
            upstream: upstream.into_async(),
            acceptor: Arc::new(server).into(),
        };
        (choosy, proxy)
    }

    async fn accept(&self) -> (tokio_rustls::server::TlsStream<TcpStream>, bool) {
        let (stream, _) = self.upstream.accept().await.unwrap();
        let stream = self.acceptor.accept(stream).await.unwrap();
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        (stream, is_http2)
    }
}

#[test]
fn an_endpoint_that_may_choose_is_asked_in_http_2_if_it_takes_them_there() {
    converse(async {
        let (choosy, proxy) = Choosy::start();
        let (sockets, mut opened) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let (stream, is_http2) = choosy.accept().await;
            assert!(is_http2);
            serve(stream, HeaderMap::new(), sockets).await;
        });
        let stream = TcpStream::connect(proxy.address("http")).await.unwrap();
        let (client, endpoint) = tokio::join!(connect(stream), opened.recv());
        assert_works(client, endpoint.unwrap()).await;
    });
}

#[test]
fn an_endpoint_that_may_choose_is_asked_in_http_1_if_it_takes_none_in_http_2() {
    converse(async {
        let (choosy, proxy) = Choosy::start();
        let address = proxy.address("http");
        for round in 0..2 {
            let client = async { connect(TcpStream::connect(address).await.unwrap()).await };
            let endpoint = async {
                if round == 0 {
                    let (stream, is_http2) = choosy.accept().await;
                    assert!(is_http2);
                    tokio::spawn(async move {
                        let mut http = h2::server::handshake(stream).await.unwrap();
                        assert!(http.accept().await.is_none_or(|request| request.is_err()));
                    });
                }
                let (stream, is_http2) = choosy.accept().await;
                assert!(!is_http2);
                tokio_tungstenite::accept_async(stream).await.unwrap()
            };
            let (client, endpoint) = tokio::join!(client, endpoint);
            assert_works(client, endpoint).await;
        }
    });
}

#[test]
fn an_endpoint_that_says_no_over_tls_is_heard() {
    converse(async {
        let (choosy, proxy) = Choosy::start();
        let address = proxy.address("http");
        let client = async {
            let stream = TcpStream::connect(address).await.unwrap();
            tokio_tungstenite::client_async("ws://app.test/chat", stream).await
        };
        let endpoint = async {
            let (stream, _) = choosy.accept().await;
            let mut builder = h2::server::Builder::new();
            builder.enable_connect_protocol();
            let mut http = builder.handshake::<_, Bytes>(stream).await.unwrap();
            let (_, mut respond) = http.accept().await.unwrap().unwrap();
            let no = Response::builder().status(403).body(()).unwrap();
            respond.send_response(no, true).unwrap();
            tokio::spawn(async move { while http.accept().await.is_some() {} });
        };
        let (client, ()) = tokio::join!(client, endpoint);
        match client.unwrap_err() {
            Error::Http(answer) => assert_eq!(answer.status(), 403),
            other => panic!("{other}"),
        }
    });
}
