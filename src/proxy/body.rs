//! The response body a client gets: whatever its source, with what must happen when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::telemetry::access_log::Record;
use crate::telemetry::metrics::Measured;
use crate::transport::activity::InFlight;
use crate::upstream::endpoint::Serving;
use crate::upstream::h1::{BodyError, Incoming, ResponseBody};
use crate::upstream::h2;
use crate::upstream::whoami::Answer;

use super::upgrade::Tunnel;

/// A response body.
#[derive(Debug)]
pub struct Body {
    source: Source,
    end: End,
}

/// What lives as long as the response does: dropped with its last byte, or when the client has gone.
#[derive(Debug, Default)]
pub struct End {
    pub(super) serving: Option<Serving>,
    pub(super) record: Option<Box<Record>>,
    pub(super) measured: Option<Measured>,
    pub(super) in_flight: Option<InFlight>,
    /// What follows instead of a body.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    Upstream(Box<ResponseBody>),
    Multiplexed(Box<h2::ResponseBody>),
    Echo(Box<Answer>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::from(Source::Empty)
    }

    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self::from(Source::Full(bytes))
    }

    /// An answer of the built-in echo service.
    pub fn echo(answer: Answer) -> Self {
        Self::from(Source::Echo(Box::new(answer)))
    }

    /// Takes the bytes of an endpoint's response.
    pub(super) fn fill(&mut self, body: Incoming) {
        self.source = match body {
            // What an agreement to change the protocol leads to is no body.
            Incoming::Empty | Incoming::Switched(_) | Incoming::Tunnelled(_) => Source::Empty,
            Incoming::Whole(bytes) if bytes.is_empty() => Source::Empty,
            Incoming::Whole(bytes) => Source::Full(bytes),
            Incoming::Streaming(body) => Source::Upstream(body),
            Incoming::Multiplexed(body) => Source::Multiplexed(body),
        };
    }

    /// Attaches what must be dropped at the end.
    pub(super) fn end(&mut self) -> &mut End {
        &mut self.end
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let is_cut = match &self.source {
            Source::Upstream(body) => !body.is_end_stream(),
            Source::Multiplexed(body) => !body.is_end_stream(),
            // A client that asked by HEAD wants nothing of these.
            Source::Empty | Source::Full(_) | Source::Echo(_) => false,
        };
        if let Some(record) = &mut self.end.record
            && is_cut
        {
            record.abandoned();
        }
    }
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self {
            source,
            end: End::default(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Upstream(body) => Pin::new(body).poll_frame(cx),
            Source::Multiplexed(body) => Pin::new(body).poll_frame(cx),
            Source::Echo(answer) => {
                Poll::Ready(answer.next_piece().map(|piece| Ok(Frame::data(piece))))
            }
        };
        if let Some(in_flight) = &this.end.in_flight {
            match &frame {
                Poll::Ready(Some(Ok(_))) => in_flight.turn().gave(),
                Poll::Ready(_) => {}
                Poll::Pending => in_flight.turn().waits(),
            }
        }
        if let Some(record) = &mut this.end.record
            && let Poll::Ready(frame) = &frame
        {
            record.sent(frame.as_ref());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(_) => false,
            Source::Upstream(body) => body.is_end_stream(),
            Source::Multiplexed(body) => body.is_end_stream(),
            Source::Echo(answer) => answer.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(body) => body.size_hint(),
            Source::Multiplexed(body) => body.size_hint(),
            Source::Echo(answer) => SizeHint::with_exact(answer.remaining()),
        }
    }
}
