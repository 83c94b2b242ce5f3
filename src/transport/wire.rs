//! An HTTP/1 client connection as messages: request heads and bodies in, what answers them out.
//!
//! The bytes of one request are read by whoever serves it, one piece at a time, and nothing is read that nobody asked
//! for: a client that sends faster than an endpoint takes is held up by its own socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};

use super::activity::Activity;
use super::input::{Input, Lately, Room};
use super::output::Output;
use super::socket::Transport;
use crate::fields::Fields;
use crate::http1::chunked::{self, Decoder, Step};
use crate::http1::refused::{Place, Refused};
use crate::http1::request_head::{self, Framing, Head};
use crate::http1::response_head;

/// What a connection has room for on its own.
const OWN_BYTES: usize = 8 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bounds on what a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// On each request head.
    pub head: request_head::Limits,
    /// Of all trailer lines of one body, in bytes.
    pub max_trailer_bytes: usize,
}

/// A connection that a request body and whoever writes its response share.
pub type Shared = Rc<RefCell<Wire>>;

/// One client connection.
#[derive(Debug)]
pub struct Wire {
    transport: Transport,
    activity: Rc<Activity>,
    heads: request_head::Reader,
    max_trailer_bytes: usize,
    input: Input,
    lately: Lately,
    /// The client has finished.
    ended: bool,
    /// Of the request that came last.
    body: Body,
    /// Counts requests: who reads the body of one must not read that of the next.
    message: u64,
    /// Some of that body was taken since [`Wire::is_abandoned`] was last asked.
    moved: bool,
    /// That request's client waits to be told to send its body.
    owes_continue: bool,
    refused: Option<Refused>,
    output: Output,
}

/// What is left of a request body.
#[derive(Debug)]
enum Body {
    Ended,
    Length(u64),
    Chunked(Box<Decoder>),
}

/// What comes next of it.
enum Piece {
    Frame(Frame<Bytes>),
    End,
    NeedMore,
}

/// A request body that can't be read to its end: it was cut, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incomplete(pub(super) Option<Refused>);

impl Wire {
    /// A connection between two requests; `ahead` was read of the next.
    pub fn new(
        transport: Transport,
        ahead: BytesMut,
        activity: Rc<Activity>,
        limits: Limits,
    ) -> Self {
        Self {
            transport,
            activity,
            heads: request_head::Reader::new(limits.head),
            max_trailer_bytes: limits.max_trailer_bytes,
            input: Input::new(ahead),
            lately: Lately::default(),
            ended: false,
            body: Body::Ended,
            message: 0,
            moved: false,
            owes_continue: false,
            refused: None,
            output: Output::default(),
        }
    }

    /// The connection underneath, what was read and not used, and why it can't go on if the client is to blame.
    pub fn into_parts(self) -> (Transport, BytesMut, Option<Refused>) {
        (self.transport, self.input.into_bytes(), self.refused)
    }

    /// Whether the client goes on beyond what was read for its requests, as far as that has been heard. To close the
    /// connection over bytes that nobody read would reset it, and destroy the answer (RFC 9112 §9.6).
    pub fn has_surplus(&self) -> bool {
        !self.ended && (!self.input.is_empty() || self.transport.is_readable())
    }

    /// The next request, whose body is to be read by this number; `None` when the client has finished.
    ///
    /// # Errors
    /// [`Unreadable`]: nothing more can be read.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(Head, u64)>, Unreadable>> {
        if !matches!(self.body, Body::Ended) {
            // What comes is the rest of a body that nobody read: never a request.
            return Poll::Ready(Ok(None));
        }
        let mut came = !self.input.is_empty();
        loop {
            let is_lent = self.input.is_lent();
            let head = self.heads.read(self.input.bytes(), is_lent);
            self.input.settle();
            let head = head.map_err(|refused| {
                self.refused = Some(refused);
                Unreadable::Refused
            })?;
            if let Some(head) = head {
                self.activity.head_ended();
                self.message += 1;
                self.owes_continue = head.expects_continue;
                self.body = match head.framing {
                    Framing::None => Body::Ended,
                    Framing::Length(length) => Body::Length(length),
                    Framing::Chunked => {
                        let decoder = Decoder::with_trailer_limit(self.max_trailer_bytes);
                        Body::Chunked(Box::new(decoder))
                    }
                };
                return Poll::Ready(Ok(Some((head, self.message))));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            if came {
                self.activity.bytes_arrived(!self.input.is_empty());
            }
            came = ready!(self.poll_fill(cx))? > 0;
        }
    }

    /// A piece of the body of request number `message`.
    pub(super) fn poll_body(
        &mut self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        if message != self.message || self.refused.is_some() {
            return Poll::Ready(Some(Err(Incomplete(self.refused))));
        }
        loop {
            let piece = self.next_piece();
            self.input.settle();
            match piece {
                Ok(Piece::Frame(frame)) => {
                    self.moved = true;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::NeedMore) => {}
                Err(refused) => {
                    self.refused = Some(refused);
                    return Poll::Ready(Some(Err(Incomplete(Some(refused)))));
                }
            }
            if std::mem::take(&mut self.owes_continue) {
                self.activity.send_interim(CONTINUE);
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Incomplete(None)))),
            }
        }
    }

    /// Takes from what was read.
    fn next_piece(&mut self) -> Result<Piece, Refused> {
        match &mut self.body {
            Body::Ended => Ok(Piece::End),
            Body::Length(left) => {
                if self.input.is_empty() {
                    return Ok(Piece::NeedMore);
                }
                let data = self.input.take(*left);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.body = Body::Ended;
                }
                Ok(Piece::Frame(Frame::data(data)))
            }
            Body::Chunked(decoder) => match decoder.decode(self.input.bytes()).map_err(refusal)? {
                Step::NeedMore => Ok(Piece::NeedMore),
                Step::Data(data) => Ok(Piece::Frame(Frame::data(data))),
                Step::End(trailers) => {
                    self.body = Body::Ended;
                    let trailers = trailers.map(Frame::trailers);
                    Ok(trailers.map_or(Piece::End, Piece::Frame))
                }
            },
        }
    }

    /// Whether nothing of the body of request number `message` is left to read.
    pub(super) fn body_has_ended(&self, message: u64) -> bool {
        message != self.message || matches!(self.body, Body::Ended)
    }

    /// What is known of its length.
    pub(super) fn body_size(&self) -> SizeHint {
        match self.body {
            Body::Ended => SizeHint::with_exact(0),
            Body::Length(left) => SizeHint::with_exact(left),
            Body::Chunked(_) => SizeHint::new(),
        }
    }

    /// Ready when the client has gone, as far as that can be seen while it waits for its answer: not while something of
    /// its own is still to be read.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.hides_its_end() && !self.ended {
            ready!(self.transport.poll_readable(cx));
            if !matches!(ready!(self.poll_fill(cx)), Ok(1..)) {
                self.ended = true;
            }
        }
        if self.ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Reads what has come by now, unless something that came before is still to be used; whether the client has finished.
    /// Under TLS something may have come that no readiness tells of.
    pub fn read_on(&mut self, cx: &mut Context<'_>) -> bool {
        if self.input.is_empty() && !self.ended {
            self.ended = matches!(self.poll_fill(cx), Poll::Ready(Ok(0) | Err(_)));
        }
        self.ended
    }

    /// Whether the client may go without [`Self::poll_gone`] noticing: something of its own is still to be read.
    pub fn hides_its_end(&self) -> bool {
        !self.input.is_empty() || !matches!(self.body, Body::Ended)
    }

    /// Whether the client has gone and left something that nobody reads. It may have wanted no answer to a body, which
    /// goes on as long as it moves: to be asked now and then.
    pub fn is_abandoned(&mut self) -> bool {
        !std::mem::take(&mut self.moved) && self.transport.has_hung_up()
    }

    /// Reads what has arrived; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match self.body {
            Body::Length(left) if left > OWN_BYTES as u64 => Room::Lent,
            Body::Length(_) => Room::Own(OWN_BYTES),
            Body::Ended | Body::Chunked(_) => self.lately.room(OWN_BYTES),
        };
        let transport = Pin::new(&mut self.transport);
        let len = ready!(self.input.poll_fill(transport, room, cx))?;
        self.lately.note(len);
        self.ended |= len == 0;
        Poll::Ready(Ok(len))
    }

    /// The head of a response, to be written with what comes first of its body.
    pub fn begin_response(
        &mut self,
        asked: response_head::Asked,
        status: StatusCode,
        fields: &Fields,
        length: Option<u64>,
    ) -> response_head::Announced {
        self.owes_continue = false;
        let out = self.output.front();
        self.activity.take_interim(out);
        self.activity.answer();
        response_head::write(out, asked, status, fields, length)
    }

    /// Whether more can be put in before it is written.
    pub fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// Puts in a piece of a body, for which there must be room.
    pub fn put(&mut self, data: Bytes) {
        self.output.put(data);
    }

    /// Puts in a chunk of a body, for which there must be room.
    pub fn put_chunk(&mut self, data: Bytes) {
        self.output.put_chunk(data);
    }

    /// Puts in the end of a chunked body; `false`: something is to be written first.
    pub fn put_last_chunk(&mut self, trailers: Option<&HeaderMap>) -> bool {
        self.output.put_last_chunk(trailers)
    }

    /// Writes what was put in; ready when the kernel has all of it.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = Pin::new(&mut self.transport);
        let outcome = self.output.poll_write(transport, cx);
        if outcome.is_pending() {
            self.activity.send_blocked(self.transport.sent());
        } else {
            self.activity.send_complete();
        }
        outcome
    }

    /// Writes interim responses that wait.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // No more than fits: a client that takes none of them doesn't pile them up.
            if self.output.is_empty() {
                self.activity.take_interim(self.output.front());
            }
            if self.output.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write(cx))?;
        }
    }
}

/// Why there is no next request.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// What came is none, and is the client's fault.
    #[error("no request")]
    Refused,
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

pub(super) fn refusal(error: chunked::Error) -> Refused {
    let (status, reason) = match error {
        chunked::Error::TrailersTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "trailers")
        }
        chunked::Error::Trailer => (StatusCode::BAD_REQUEST, "trailer"),
        chunked::Error::ExtensionsTooLarge => (StatusCode::BAD_REQUEST, "chunk_extension"),
        chunked::Error::Size | chunked::Error::LineEnd | chunked::Error::Extension => {
            (StatusCode::BAD_REQUEST, "chunk")
        }
    };
    Refused {
        status,
        reason,
        place: Place::Body,
    }
}

#[cfg(test)]
pub(crate) mod tests;
