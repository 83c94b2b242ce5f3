//! Connections to the admin interface: few, short of patience, and never in the way of a probe.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::doors::{Accepting, Socket};

/// Of one address. One more takes the place of the oldest: whoever holds many can't keep a probe out.
const MAX_CONNECTIONS: usize = 64;

/// For a request head, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// A request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Without a descriptor left, or another that the machine lacks.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the end.
pub(super) async fn accept(accepting: Accepting, shared: Arc<Shared>) {
    let Accepting { socket, end } = accepting;
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let task = tokio::select! {
            () = end.cancelled() => return,
            task = next(&socket, &shared, &end) => task,
        };
        match task {
            Ok(task) => {
                open.retain(|task| !task.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(task);
            }
            Err(error) => {
                tracing::debug!(%error, "an admin connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn next(
    socket: &Socket,
    shared: &Arc<Shared>,
    end: &CancellationToken,
) -> io::Result<AbortHandle> {
    let (shared, end) = (Arc::clone(shared), end.clone());
    let task = match socket {
        Socket::Tcp(socket) => {
            let (stream, _) = socket.accept().await?;
            tokio::spawn(serve(stream, shared, end))
        }
        Socket::Unix(socket) => {
            let (stream, _) = socket.accept().await?;
            tokio::spawn(serve(stream, shared, end))
        }
    };
    Ok(task.abort_handle())
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    end: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let mut connection = pin!(http().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection");
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES);
    http
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Sends the beginning of a head, the rest after so long, and reads to the end.
    async fn ask(rest_after: Duration) -> String {
        let (mut client, server) = duplex(4096);
        let ok = service_fn(|_| async { Ok::<_, Infallible>(Response::new("ok".to_owned())) });
        let served = tokio::spawn(http().serve_connection(TokioIo::new(server), ok));
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        tokio::time::sleep(rest_after).await;
        // Nobody may be there any more.
        let rest = b"host: a\r\nconnection: close\r\n\r\n";
        let _ = client.write_all(rest).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(served.await.unwrap());
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_a_minute() {
        let almost = HEAD_TIME.mul_f32(0.98);
        let answer = ask(almost).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let answer = ask(HEAD_TIME.mul_f32(1.02)).await;
        assert!(!answer.contains("200"), "{answer}");
    }
}
