//! HTTP/2 towards a client, by hyper: what a connection may hold, and where its streams run.

use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::config::Limits;
use crate::proxy::body::Body;
use crate::transport::deadline::Deadlines;
use crate::transport::io::ClientIo;
use crate::transport::stream::Turn;

use super::tasks::{Job, Tasks, boxed};

/// What one connection may make us hold.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Streams that a client opened and took back before they were looked at.
const PENDING_RESETS: usize = 20;

/// Streams that we had to reset because the client broke the protocol on them, in the life of a connection.
const ERROR_RESETS: usize = 100;

/// Whether an HTTP/2 client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A server connection that can be told to finish what it has begun and take nothing more.
pub(super) trait Drain: Future<Output = hyper::Result<()>> {
    fn drain(self: Pin<&mut Self>);
}

impl<S> Drain for http2::Connection<TokioIo<ClientIo>, S, StreamExecutor>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Runs HTTP/2 streams on the worker's own thread.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    pub(super) tasks: Rc<Tasks<Stream>>,
    pub(super) turn: Rc<Turn>,
    pub(super) clock: Rc<Deadlines>,
    /// How long a client may take nothing of its response.
    pub(super) send: Duration,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let turn = Rc::clone(&self.turn);
        let clock = Rc::clone(&self.clock);
        self.tasks
            .begin(Stream(boxed(|| turn.run(stream, self.send, clock))));
    }
}

/// A stream to its end. Boxed, as what a task does is moved about, and a stream is some kilobytes.
pub(super) struct Stream(Pin<Box<dyn Future<Output = ()>>>);

impl Job for Stream {
    async fn run(self) {
        self.0.await;
    }
}

pub(super) fn builder(limits: &Limits, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
    // h2 takes what is smaller than it is told.
    let list_bytes = limits.max_header_bytes.saturating_add(1);
    let mut builder = http2::Builder::new(executor);
    builder
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(list_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
