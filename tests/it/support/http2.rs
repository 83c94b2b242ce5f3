//! An HTTP/2 client: hyper's, on a runtime of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::DEADLINE;

/// What a client made of its requests.
pub(crate) type Responses = Vec<Response<Collected<Bytes>>>;

/// Sends all requests at once on one connection; the responses come in the order of the requests.
///
/// With a configuration of TLS, which must negotiate `h2`, and the name of the server, the connection is encrypted.
pub(crate) fn exchange(
    address: SocketAddr,
    tls: Option<(ClientConfig, &str)>,
    requests: Vec<Request<Full<Bytes>>>,
) -> Responses {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let work = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let Some((config, server_name)) = tls else {
            return send_all(stream, requests).await;
        };
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        send_all(stream, requests).await
    };
    runtime.block_on(async {
        let within = tokio::time::timeout(DEADLINE, work).await;
        within.expect("answers in time")
    })
}

async fn send_all(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    requests: Vec<Request<Full<Bytes>>>,
) -> Responses {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let mut pending = Vec::new();
    for request in requests {
        sender.ready().await.unwrap();
        pending.push(tokio::spawn(sender.send_request(request)));
    }
    let mut responses = Vec::new();
    for response in pending {
        let (parts, body) = response.await.unwrap().unwrap().into_parts();
        let body = body.collect().await.unwrap();
        responses.push(Response::from_parts(parts, body));
    }
    drop(sender);
    driver.abort();
    responses
}

/// GET requests for these URLs.
pub(crate) fn requests(urls: &[&str]) -> Vec<Request<Full<Bytes>>> {
    urls.iter()
        .map(|url| Request::get(*url).body(Full::default()).unwrap())
        .collect()
}
