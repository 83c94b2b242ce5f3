//! A response body as it arrives on its stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::super::h1::BodyError;
use super::{Pump, Slot};
use crate::http1::chunked::may_trail;
use crate::transport::deadline::Deadline;

/// A response body under way; holds its stream until the end. Dropping it resets the stream.
#[derive(Debug)]
pub struct ResponseBody {
    /// `None` when the body has ended, one way or the other.
    stream: Option<Stream>,
    /// What is left of the length the endpoint told.
    left: Option<u64>,
    idle: Duration,
    /// Whether the deadline runs: only while we wait for the endpoint, never while the client is slow to take.
    waiting: bool,
}

#[derive(Debug)]
struct Stream {
    recv: RecvStream,
    pump: Pump,
    deadline: Deadline,
    slot: Slot,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Data,
    Trailers,
}

impl ResponseBody {
    pub(super) fn new(
        recv: RecvStream,
        length: Option<u64>,
        pump: Pump,
        deadline: Deadline,
        idle: Duration,
        slot: Slot,
    ) -> Self {
        deadline.disarm();
        Self {
            stream: Some(Stream {
                recv,
                pump,
                deadline,
                slot,
                at: At::Data,
            }),
            left: length,
            idle,
            waiting: false,
        }
    }
}

impl Stream {
    /// The next piece; the window grows again by what is handed on, and not before.
    fn poll_next(
        &mut self,
        left: &mut Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if self.at == At::Data {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails when the stream has been reset: its next piece says so.
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    if let Some(left) = left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Err(cut(error))),
                None => self.at = At::Trailers,
            }
        }
        if left.is_some_and(|left| left > 0) {
            return Poll::Ready(Err(BodyError::Truncated));
        }
        let trailers = ready!(self.recv.poll_trailers(cx)).map_err(cut)?;
        let trailers = trailers.map(passed_on).filter(|kept| !kept.is_empty());
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }
}

fn cut(error: ::h2::Error) -> BodyError {
    if error.is_io() {
        error.into_io().map_or(BodyError::Truncated, BodyError::Io)
    } else if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::CANCEL) {
        BodyError::Cancelled(error)
    } else {
        BodyError::Reset(error)
    }
}

fn passed_on(trailers: HeaderMap) -> HeaderMap {
    let mut last = None;
    trailers
        .into_iter()
        .filter_map(|(name, value)| {
            // A map gives a repeated field's name only the first time.
            last = name.or(last.take());
            let name = last.clone()?;
            may_trail(&name).then_some((name, value))
        })
        .collect()
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        let before = stream.pump.moved;
        if let Poll::Ready(Err(error)) = stream.pump.poll(cx) {
            stream.pump.send.send_reset(Reason::CANCEL);
            this.stream = None;
            return Poll::Ready(Some(Err(BodyError::Downstream(error))));
        }
        if stream.pump.moved != before {
            stream.deadline.arm(this.idle);
        }
        let failed = match stream.poll_next(&mut this.left, cx) {
            Poll::Ready(Ok(Some(frame))) => {
                this.waiting = false;
                if frame.is_trailers() || stream.recv.is_end_stream() {
                    this.stream = None;
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Ok(None)) => {
                this.stream = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Err(error)) => error,
            Poll::Pending => {
                if !std::mem::replace(&mut this.waiting, true) {
                    stream.deadline.arm(this.idle);
                }
                ready!(stream.deadline.poll_due(cx));
                stream.slot.doubt(this.idle);
                BodyError::TimedOut
            }
        };
        this.stream = None;
        Poll::Ready(Some(Err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.stream, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}
