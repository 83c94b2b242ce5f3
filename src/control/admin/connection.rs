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
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
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
