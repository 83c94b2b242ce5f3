//! WebSocket peers: tokio-tungstenite at both ends of the proxy.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::DEADLINE;

/// A WebSocket over HTTP/2.
pub(crate) type OverHttp2 = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Runs both ends of a conversation on one thread, for as long as a test may take.
pub(crate) fn converse<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let within = tokio::time::timeout(DEADLINE, conversation).await;
        within.expect("the conversation ends in time")
    })
}

/// A client's WebSocket, asked for in HTTP/1.1 over this stream.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let connected = tokio_tungstenite::client_async("ws://app.test/chat", stream).await;
    connected.expect("a WebSocket").0
}

/// The endpoint's end of the next WebSocket.
pub(crate) async fn accept(upstream: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = upstream.accept().await.unwrap();
    tokio_tungstenite::accept_async(stream).await.unwrap()
}

/// Both ends of a WebSocket through a proxy.
pub(crate) async fn pair(
    proxy: SocketAddr,
    upstream: &TcpListener,
) -> (WebSocketStream<TcpStream>, WebSocketStream<TcpStream>) {
    let stream = TcpStream::connect(proxy).await.unwrap();
    tokio::join!(connect(stream), accept(upstream))
}

/// A client of HTTP/2 by prior knowledge.
pub(crate) struct Http2(hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>>);

impl Http2 {
    /// Waits until the server has said that it takes extended CONNECT.
    pub(crate) async fn connect(proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, mut connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
        poll_fn(|cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            assert!(ended.is_pending(), "{ended:?}");
            if connection.is_extended_connect_protocol_enabled() {
                Poll::Ready(())
            } else {
                // Nobody else wakes this task when settings arrive.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
        tokio::spawn(connection);
        Self(sender)
    }

    /// An extended CONNECT for this protocol.
    pub(crate) async fn extended_connect(
        &mut self,
        protocol: &'static str,
    ) -> Response<hyper::body::Incoming> {
        self.extended_connect_to("/chat?room=1", protocol).await
    }

    pub(crate) async fn extended_connect_to(
        &mut self,
        target: &str,
        protocol: &'static str,
    ) -> Response<hyper::body::Incoming> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://app.test{target}"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat")
            .header("sec-websocket-key", "bm90IGZvciBodHRwLzIhIQ==")
            .extension(Protocol::from_static(protocol))
            .body(Empty::new())
            .unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Empty<bytes::Bytes>>,
    ) -> Response<hyper::body::Incoming> {
        self.0.ready().await.unwrap();
        self.0.send_request(request).await.unwrap()
    }
}

/// The WebSocket that an answered CONNECT has become.
pub(crate) async fn over_http2(response: Response<hyper::body::Incoming>) -> OverHttp2 {
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}
