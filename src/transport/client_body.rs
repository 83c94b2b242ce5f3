//! A request body as a client sends it: bounded in size, and in how long it may stand still.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::activity::Activity;
use super::deadline::{Deadline, Deadlines};
use super::wire::{self, Incomplete, refusal};
use crate::http1::chunked::{self, MAX_TRAILERS};
use crate::http1::refused::Refused;
use crate::http1::request_head::Framing;

/// A request body that isn't empty.
///
/// Its time runs only while it is asked for bytes and has none: a client isn't blamed for a slow endpoint.
#[derive(Debug)]
pub struct ClientBody {
    source: Source,
    /// Bytes that may still come.
    room: u64,
    /// Bytes that fields behind it may have, where nobody else looks.
    trailer_room: usize,
    /// Where somebody counts those that have.
    received: Option<Rc<Cell<u64>>>,
    activity: Rc<Activity>,
    deadline: Deadline,
    waiting: bool,
}

/// Who hands out the pieces.
#[derive(Debug)]
enum Source {
    Http1 {
        wire: wire::Shared,
        message: u64,
    },
    /// hyper, for HTTP/2.
    Http2(Incoming),
}

/// Why a request body can't be read to its end. In each case the client is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was cut.
    #[error("the request body is incomplete")]
    Broken,
    /// Its framing is broken, or it breaks a limit on what isn't data.
    #[error("the request body is malformed")]
    Refused(Refused),
    /// It is larger than allowed.
    #[error("the request body is too large")]
    TooLarge,
    /// Nothing came for too long.
    #[error("the request body came too slowly")]
    TimedOut,
}

impl ClientBody {
    /// The body of HTTP/1 request number `message` on its connection; `None` when it has none, which costs nothing.
    pub fn http1(
        wire: &wire::Shared,
        message: u64,
        framing: Framing,
        activity: &Rc<Activity>,
        clock: &Rc<Deadlines>,
    ) -> Option<Box<Self>> {
        let source = || Source::Http1 {
            wire: Rc::clone(wire),
            message,
        };
        (framing != Framing::None).then(|| Box::new(Self::new(source(), activity, clock)))
    }

    /// The body of an HTTP/2 request; `None` when it has none.
    pub fn http2(
        incoming: Incoming,
        activity: &Rc<Activity>,
        clock: &Rc<Deadlines>,
    ) -> Option<Box<Self>> {
        let ended = incoming.is_end_stream();
        (!ended).then(|| Box::new(Self::new(Source::Http2(incoming), activity, clock)))
    }

    fn new(source: Source, activity: &Rc<Activity>, clock: &Rc<Deadlines>) -> Self {
        activity.body_begun();
        Self {
            source,
            room: u64::MAX,
            trailer_room: usize::MAX,
            received: None,
            activity: Rc::clone(activity),
            deadline: clock.register(),
            waiting: false,
        }
    }

    /// Allows `room` bytes in all. To be called before the first is read.
    pub fn limit(&mut self, room: u64) {
        self.room = room;
    }

    /// Allows `room` bytes of trailers in an HTTP/2 request; in HTTP/1 the connection's decoder bounds them.
    pub fn limit_trailers(&mut self, room: usize) {
        self.trailer_room = room;
    }

    /// Counts its bytes from now on.
    pub fn count(&mut self, received: Rc<Cell<u64>>) {
        self.received = Some(received);
    }

    /// Reads and drops the rest, if it is at most `most` bytes and comes within `limit`. Says whether it did.
    pub async fn discard(mut self: Box<Self>, most: u64, limit: Duration) -> bool {
        if self.source.size_hint().lower() > most {
            return false;
        }
        let source = &mut self.source;
        let rest = async {
            let mut left = most;
            while let Some(frame) = poll_fn(|cx| source.poll_frame(cx)).await {
                let len = frame.ok()?.data_ref().map_or(0, Bytes::len) as u64;
                note(self.received.as_ref(), len);
                left = left.checked_sub(len)?;
            }
            Some(())
        };
        let complete = self.deadline.limit(limit, rest).await.flatten().is_some();
        if complete {
            self.activity.body_ended();
        }
        complete
    }

    fn check(&mut self, frame: &Frame<Bytes>) -> Result<(), Error> {
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        note(self.received.as_ref(), len);
        self.room = self.room.checked_sub(len).ok_or(Error::TooLarge)?;
        match (frame.trailers_ref(), &self.source) {
            (Some(trailers), Source::Http2(_)) => self.check_trailers(trailers),
            _ => Ok(()),
        }
    }

    fn check_trailers(&self, trailers: &HeaderMap) -> Result<(), Error> {
        // As many as the same fields have in HTTP/1.
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + ": ".len() + value.len() + "\r\n".len()
        };
        let bytes: usize = trailers.iter().map(line).sum();
        if trailers.len() > MAX_TRAILERS || bytes > self.trailer_room {
            return Err(Error::Refused(refusal(chunked::Error::TrailersTooLarge)));
        }
        Ok(())
    }
}

fn note(received: Option<&Rc<Cell<u64>>>, len: u64) {
    if let Some(received) = received {
        received.set(received.get() + len);
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        match self {
            Self::Http1 { wire, message } => wire.borrow_mut().poll_body(*message, cx),
            Self::Http2(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(|_| Incomplete(None)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1 { wire, message } => wire.borrow().body_has_ended(*message),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1 { wire, .. } => wire.borrow().body_size(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = self.source.poll_frame(cx) else {
            if !self.waiting {
                self.waiting = true;
                self.deadline.arm(self.activity.body_timeout());
            }
            ready!(self.deadline.poll_due(cx));
            return Poll::Ready(Some(Err(Error::TimedOut)));
        };
        if self.waiting {
            self.waiting = false;
            self.deadline.disarm();
        }
        // Bytes that were counted beforehand end with the last of them, any other with a sign of its own.
        if frame.is_none() || self.source.is_end_stream() {
            self.activity.body_ended();
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(self.check(&frame).map(|()| frame)),
            Some(Err(Incomplete(refused))) => {
                Some(Err(refused.map_or(Error::Broken, Error::Refused)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
