//! An HTTP/1 client connection as messages: request heads and bodies in, what answers them out.
//!
//! The bytes of one request are read by whoever serves it, one piece at a time, and nothing is read that nobody asked
//! for: a client that sends faster than an endpoint takes is held up by its own socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio_util::io::poll_read_buf;

use super::activity::Activity;
use super::buffers::{LARGE, LARGE_BYTES, Lender};
use super::output::Output;
use super::socket::Transport;
use crate::fields::Fields;
use crate::http1::chunked::{self, Decoder, Step};
use crate::http1::refused::{Place, Refused};
use crate::http1::request_head::{self, Framing, Head};
use crate::http1::response_head;

/// What is read at once: more when a client fills it, less when it doesn't.
const LEAST_READ_BYTES: usize = 8 * 1024;
const MOST_READ_BYTES: usize = LARGE_BYTES;

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
    input: BytesMut,
    /// Whether the worker lent `input`.
    is_lent: bool,
    next_read: ReadSize,
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
            input: ahead,
            is_lent: false,
            next_read: ReadSize::default(),
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
        (self.transport, self.input, self.refused)
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
            let head = self.heads.read(&mut self.input);
            let head = head.map_err(|refused| {
                self.refused = Some(refused);
                Unreadable::Refused
            })?;
            if let Some(head) = head {
                self.give_back();
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
            match self.next_piece() {
                Ok(Piece::Frame(frame)) => {
                    self.give_back();
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
                let len = usize::try_from(*left)
                    .map_or(self.input.len(), |left| left.min(self.input.len()));
                *left -= len as u64;
                if *left == 0 {
                    self.body = Body::Ended;
                }
                let data = self.input.split_to(len).freeze();
                Ok(Piece::Frame(Frame::data(data)))
            }
            Body::Chunked(decoder) => match decoder.decode(&mut self.input).map_err(refusal)? {
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
        let wanted = self.make_room();
        let transport = Pin::new(&mut self.transport);
        let outcome = poll_read_buf(transport, cx, &mut (&mut self.input).limit(wanted));
        self.give_back();
        let len = ready!(outcome)?;
        if matches!(self.body, Body::Ended) {
            self.next_read.note(len);
        }
        self.ended |= len == 0;
        Poll::Ready(Ok(len))
    }

    /// Makes room for the next read, and says how much is to be read.
    fn make_room(&mut self) -> usize {
        let wanted = match self.body {
            Body::Ended => self.next_read.bytes,
            Body::Length(left) => usize::try_from(left).unwrap_or(MOST_READ_BYTES),
            Body::Chunked(_) => MOST_READ_BYTES,
        };
        let wanted = wanted.clamp(LEAST_READ_BYTES, MOST_READ_BYTES);
        if !self.input.is_empty() {
            // What is left of the room is used, until that is less than half.
            if self.input.capacity() - self.input.len() < wanted / 2 {
                self.input.reserve(wanted);
            }
        } else if wanted > LEAST_READ_BYTES {
            self.input = LARGE.with(Lender::lend);
            self.is_lent = true;
        } else if !self.input.try_reclaim(wanted) && self.input.capacity() < wanted / 2 {
            // The room of what was read before was used again otherwise: it is still in the cache.
            self.input.reserve(wanted);
        }
        wanted
    }

    /// Gives back what was lent if nothing is left in it.
    fn give_back(&mut self) {
        if self.is_lent && self.input.is_empty() {
            self.is_lent = false;
            let buffer = std::mem::take(&mut self.input);
            LARGE.with(|large| large.give_back(buffer));
        }
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

/// How much is read next: twice as much after a read that was filled, half after two that wouldn't have filled half.
#[derive(Debug)]
struct ReadSize {
    bytes: usize,
    was_small: bool,
}

impl Default for ReadSize {
    fn default() -> Self {
        Self {
            bytes: LEAST_READ_BYTES,
            was_small: false,
        }
    }
}

impl ReadSize {
    fn note(&mut self, read: usize) {
        if read >= self.bytes {
            self.bytes = (self.bytes * 2).min(MOST_READ_BYTES);
            self.was_small = false;
        } else if read < self.bytes / 2 {
            if self.was_small {
                self.bytes = (self.bytes / 2).max(LEAST_READ_BYTES);
            }
            self.was_small = !self.was_small;
        } else {
            self.was_small = false;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
