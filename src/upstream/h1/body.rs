//! A response body as it arrives.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::http1::chunked::{self, Decoder, Step};
use crate::http1::response::{Framing, Head};
use crate::transport::client_body;
use crate::transport::input::Room;

use super::super::pool::Pool;
use super::{Bounds, Connection, FIRST_READ_BYTES, Upload, upload};

/// Room for further reads of one that is queued.
const READ_BYTES: usize = 64 * 1024;

/// Why a response body can't be finished. The client's copy must be cut, too: it mustn't look complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The endpoint closed the connection before the end of the body.
    #[error("the upstream's response is truncated")]
    Truncated,
    /// The connection failed.
    #[error("the upstream connection failed")]
    Io(#[from] std::io::Error),
    /// Chunks that can't be read.
    #[error("malformed chunk")]
    Chunk(#[from] chunked::Error),
    /// The endpoint reset the stream before the end of the body. Not a source: hyper would pass its reason on, and a
    /// client that saw `NO_ERROR` would take what it has for the whole.
    #[error("the upstream reset its response: {0}")]
    Reset(::h2::Error),
    /// The endpoint gave its response up. A source, unlike any other reset: the client is told the same, since gRPC takes
    /// it for the end of a deadline or a call taken back.
    #[error("the upstream cancelled its response")]
    Cancelled(#[source] ::h2::Error),
    /// Nothing came for too long.
    #[error("the upstream stalled in its response")]
    TimedOut,
    /// The client's own body failed while the response was under way.
    #[error("the client's request body failed")]
    Downstream(#[source] client_body::Error),
}

/// A response body under way; holds the connection until its end.
#[derive(Debug)]
pub struct ResponseBody {
    connection: Option<Box<Connection>>,
    state: State,
    keep_alive: bool,
    upload: Option<Box<Upload>>,
    bounds: Bounds,
    /// Whether the deadline runs: only while we wait for the endpoint, never while the client is slow to take.
    waiting: bool,
    pool: Rc<Pool>,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
    Trailers(Option<HeaderMap>),
}

impl ResponseBody {
    pub(super) fn new(
        connection: Box<Connection>,
        head: &Head,
        upload: Upload,
        bounds: Bounds,
        pool: Rc<Pool>,
    ) -> Self {
        connection.deadline.disarm();
        Self {
            connection: Some(connection),
            state: match head.framing {
                Framing::None | Framing::Length(0) => State::Length(0),
                Framing::Length(len) => State::Length(len),
                Framing::Chunked => State::Chunked(Box::default()),
                Framing::UntilClose => State::UntilClose,
            },
            keep_alive: head.keep_alive,
            upload: (!upload.is_done()).then(|| Box::new(upload)),
            bounds,
            waiting: false,
            pool,
        }
    }

    /// The rest of the upload moves whenever the response is read.
    fn poll_upload(
        connection: &mut Connection,
        upload: &mut Option<Box<Upload>>,
        idle: Duration,
        cx: &mut Context<'_>,
    ) -> Result<(), BodyError> {
        let Some(rest) = upload else {
            return Ok(());
        };
        let before = rest.progress();
        match rest.poll(connection, cx) {
            Poll::Ready(Ok(())) => *upload = None,
            Poll::Ready(Err(upload::Error::Downstream(error))) => {
                return Err(BodyError::Downstream(error));
            }
            Poll::Pending if rest.progress() != before => connection.deadline.arm(idle),
            // An endpoint that has stopped reading goes on with its response; the connection is closed after it.
            Poll::Ready(Err(upload::Error::Upstream(_))) | Poll::Pending => {}
        }
        Ok(())
    }

    /// The next piece; `None` at the end. Sets `state` to `Trailers` when chunks ended.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Ok(None));
        };
        Self::poll_upload(connection, &mut self.upload, self.bounds.idle, cx)?;
        loop {
            match &mut self.state {
                State::Trailers(_) | State::Length(0) => return Poll::Ready(Ok(None)),
                State::Length(left) => {
                    if !connection.read.is_empty() {
                        let data = connection.read.take(*left);
                        *left -= data.len() as u64;
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                State::UntilClose => {
                    if !connection.read.is_empty() {
                        return Poll::Ready(Ok(Some(connection.read.take(u64::MAX))));
                    }
                }
                State::Chunked(decoder) => match decoder.decode(connection.read.bytes())? {
                    Step::Data(data) => {
                        connection.read.settle();
                        return Poll::Ready(Ok(Some(data)));
                    }
                    Step::End(trailers) => {
                        self.state = State::Trailers(trailers);
                        return Poll::Ready(Ok(None));
                    }
                    Step::NeedMore => {}
                },
            }
            let room = match (self.bounds.is_queued, &self.state) {
                (true, _) => Room::Own(READ_BYTES),
                (false, State::Length(left)) if *left > FIRST_READ_BYTES as u64 => Room::Lent,
                (false, _) => connection.lately.room(FIRST_READ_BYTES),
            };
            match connection.poll_fill(room, cx) {
                Poll::Ready(Ok(0)) if matches!(self.state, State::UntilClose) => {
                    self.state = State::Length(0);
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(BodyError::Truncated)),
                Poll::Ready(Ok(_)) => self.waiting = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    if !std::mem::replace(&mut self.waiting, true) {
                        connection.deadline.arm(self.bounds.idle);
                    }
                    ready!(connection.deadline.poll_due(cx));
                    return Poll::Ready(Err(BodyError::TimedOut));
                }
            }
        }
    }

    /// The response is complete: the connection goes back to its pool, or is closed.
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.keep_alive
            && self.upload.is_none()
            && connection.read.is_empty()
        {
            self.pool.put_back(connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(self.poll_data(cx)) {
            Ok(Some(data)) => {
                if matches!(self.state, State::Length(0)) {
                    self.finish();
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(None) => {
                self.finish();
                match std::mem::replace(&mut self.state, State::Length(0)) {
                    State::Trailers(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
                    _ => None,
                }
            }
            Err(error) => {
                self.connection = None;
                Some(Err(error))
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Length(0))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Length(left) => SizeHint::with_exact(*left),
            State::Chunked(_) | State::UntilClose => SizeHint::default(),
            State::Trailers(_) => SizeHint::with_exact(0),
        }
    }
}
