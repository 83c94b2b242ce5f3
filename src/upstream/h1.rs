//! An HTTP/1.1 exchange over [`crate::http1`]: send a request, relay its body, read the response.
//!
//! Both bodies stream at once: while the response is read, what is left of the upload goes on. A connection returns to
//! its pool only when both messages ended where their framing says, and nothing else arrived. Dropping an exchange
//! closes its connection. Which endpoint, and whether to try again, is decided elsewhere; [`Error`] says what was sent.

mod body;
pub(super) mod upload;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use tokio::io::AsyncWrite;

use crate::fields::Fields;
use crate::http1::response::{self, Framing, Limits};
use crate::transport::buffers;
use crate::transport::client_body;
use crate::transport::deadline::Deadline;
use crate::transport::dial::{Announced, Stream};
use crate::transport::input::{Input, Lately, Room};

use super::endpoint::Permit;
use super::pool::Pool;
use super::websocket;

pub use body::{BodyError, ResponseBody};
pub use upload::{TrailerPolicy, Upload, UploadFraming};

/// Room for the first read of a response: a usual head and 16 KiB of body arrive in one.
const FIRST_READ_BYTES: usize = 20 * 1024;

/// How long a client that asked for 100 Continue is kept waiting for an endpoint that doesn't say it (RFC 9110
/// §10.1.1 forbids to wait forever).
pub(super) const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    read: Input,
    lately: Lately,
    heads: response::Reader,
    /// The head, and chunk framing, not written yet from `written` on. Kept, to be filled again by the next request.
    out: Vec<u8>,
    written: usize,
    deadline: Deadline,
    /// The only client whose requests it may carry, where a PROXY header said so.
    announced: Option<Announced>,
    /// [`Stream::sent`] when the request at hand began.
    sent_before: u64,
    reused: bool,
    /// Counts the connection while it lives. Last, to be dropped when the stream is closed.
    permit: Permit,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint closed or reset the connection before a byte of its response.
    #[error("the upstream closed the connection before its response")]
    Closed(#[source] Option<io::Error>),
    /// A response that can't be believed.
    #[error("malformed response")]
    Malformed(#[from] response::Error),
    /// The connection ended inside the response head, or after an interim response.
    #[error("truncated response head")]
    Truncated,
    /// A 101 that nobody asked for, or that leads to another protocol.
    #[error("unasked 101 response")]
    UnaskedUpgrade,
    /// HTTP/2 that can't be believed.
    #[error("HTTP/2 protocol violated")]
    Protocol(#[source] ::h2::Error),
    /// No response within the limit.
    #[error("no response in time")]
    TimedOut,
    /// The client's body can't be read to its end.
    #[error("the client's request body failed")]
    Downstream(#[source] client_body::Error),
}

/// An exchange that ended without a response.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// Whether a byte of the request may have reached the endpoint.
    pub written: bool,
    /// Whether the connection had served a request before: it may just have been closed for being idle.
    pub reused: bool,
    /// The request body, as far as it is still whole; `None` when a part of it is gone.
    pub upload: Option<Upload>,
}

/// Bounds on one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// On each response head.
    pub head: Limits,
    /// From the end of the request to the response head.
    pub response_header: Duration,
    /// Without progress in either body.
    pub idle: Duration,
    /// Whether the response is put into a queue beside others, as HTTP/2's are: what waits there holds no buffer of the
    /// worker's.
    pub is_queued: bool,
}

/// Who sends a request, as far as it matters to what comes before the final response, or in its place.
pub trait Sender {
    /// Whether a WebSocket was asked for: a 101 that agrees to it is then the response.
    fn asks_for_websocket(&self) -> bool;

    /// Is shown every interim response but 100 and 101.
    fn interim(&self, head: &response::Head);
}

/// A final response head, and its body.
#[derive(Debug)]
pub struct Response {
    /// Of 1xx only 101, where a WebSocket was asked for.
    pub status: StatusCode,
    /// As received, framing fields included.
    pub fields: Fields,
    /// What follows.
    pub body: Incoming,
}

/// A response body, as far as it has come.
#[derive(Debug)]
pub enum Incoming {
    /// There is none.
    Empty,
    /// All of it arrived with the head.
    Whole(Bytes),
    /// More is to come.
    Streaming(Box<ResponseBody>),
    /// More is to come on a stream of an HTTP/2 connection.
    Multiplexed(Box<super::h2::ResponseBody>),
    /// After a 101 the connection speaks another protocol.
    Switched(Box<Connection>),
    /// After a success to extended CONNECT the stream of an HTTP/2 connection does.
    Tunnelled(Box<super::h2::Tunnel>),
}

impl Connection {
    /// A connection that has carried nothing yet.
    pub fn new(stream: Stream, deadline: Deadline, permit: Permit) -> Box<Self> {
        Box::new(Self {
            stream,
            read: Input::default(),
            lately: Lately::default(),
            heads: response::Reader::default(),
            out: Vec::new(),
            written: 0,
            deadline,
            announced: None,
            sent_before: 0,
            reused: false,
            permit,
        })
    }

    /// A connection whose PROXY header said this.
    #[must_use]
    pub(super) fn announced(mut self: Box<Self>, announced: Option<Announced>) -> Box<Self> {
        self.announced = announced;
        self
    }

    /// Whether its PROXY header said this.
    pub(super) fn serves(&self, announced: Option<Announced>) -> bool {
        self.announced == announced
    }

    /// The buffer for the request head, empty.
    pub fn head(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.written = 0;
        self.sent_before = self.stream.sent();
        &mut self.out
    }

    /// Whether nothing has arrived while the connection was idle, not even its end.
    pub fn is_quiet(&mut self) -> bool {
        self.read.is_empty() && self.stream.is_quiet()
    }

    /// As [`Self::is_quiet`], at this very moment.
    pub fn is_surely_quiet(&mut self) -> bool {
        self.read.is_empty() && self.stream.is_surely_quiet()
    }

    /// Gives back what an idle connection doesn't need.
    pub fn rest(&mut self) {
        self.reused = true;
        self.deadline.disarm();
        self.read.rest();
    }

    /// The bare connection, what was read after the response head, the deadline, armed for nothing, and what counts
    /// the connection while it is held.
    pub fn into_parts(self) -> (Stream, BytesMut, Deadline, Permit) {
        self.deadline.disarm();
        (
            self.stream,
            self.read.into_bytes(),
            self.deadline,
            self.permit,
        )
    }

    /// Sends the request whose head was written into [`Self::head`], and reads the response head.
    ///
    /// # Errors
    /// [`Failed`]: the connection is closed. What is left of the upload comes back if nothing of it was lost.
    pub async fn exchange(
        mut self: Box<Self>,
        method: &Method,
        mut upload: Upload,
        bounds: Bounds,
        pool: &Rc<Pool>,
        sender: &impl Sender,
    ) -> Result<Response, Failed> {
        upload.keep_unsent();
        let mut state = Exchange::new(method, sender);
        let outcome = poll_fn(|cx| state.poll_head(&mut self, &mut upload, bounds, cx)).await;
        match outcome {
            Ok(head) => {
                upload.forget();
                Ok(self.respond(head, upload, bounds, pool))
            }
            Err(error) => Err(Failed {
                written: self.has_sent_some(),
                reused: self.reused,
                error,
                upload: upload.restarted(),
            }),
        }
    }

    fn respond(
        mut self: Box<Self>,
        head: response::Head,
        upload: Upload,
        bounds: Bounds,
        pool: &Rc<Pool>,
    ) -> Response {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Response {
                status: head.status,
                fields: head.fields,
                body: Incoming::Switched(self),
            };
        }
        let whole = match head.framing {
            Framing::None => Some(0),
            Framing::Length(len) => Some(len).filter(|len| *len <= self.read.len() as u64),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let body = match whole {
            Some(len) if upload.is_done() => {
                let bytes = self.read.take(len);
                if head.keep_alive && self.read.is_empty() {
                    pool.put_back(self);
                }
                if bytes.is_empty() {
                    Incoming::Empty
                } else {
                    Incoming::Whole(bytes)
                }
            }
            // An endpoint that answered early is owed the rest of the upload: the exchange ends with the response.
            Some(0) => Incoming::Empty,
            _ => Incoming::Streaming(Box::new(ResponseBody::new(
                self,
                &head,
                upload,
                bounds,
                Rc::clone(pool),
            ))),
        };
        Response {
            status: head.status,
            fields: head.fields,
            body,
        }
    }

    /// Whether a byte of the request at hand has left.
    fn has_sent_some(&self) -> bool {
        self.stream.sent() != self.sent_before
    }

    /// Whether nothing of what was put into the buffer is left there.
    fn has_sent_all(&self) -> bool {
        self.written == self.out.len()
    }

    /// Reads what has arrived; `Ok(0)` at the end of the stream.
    fn poll_fill(&mut self, room: Room, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = self.read.poll_fill(Pin::new(&mut self.stream), room, cx);
        if let Poll::Ready(Ok(len)) = read {
            self.lately.note(len);
        }
        read
    }

    /// Writes `out`, then `data`, then `tail`, as far as the socket takes them; ready when all is written.
    fn poll_send(
        &mut self,
        data: &mut Bytes,
        tail: &mut &'static [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let head = self.out.get(self.written..).unwrap_or_default();
            let written = if data.is_empty() && tail.is_empty() {
                if head.is_empty() {
                    // TLS may hold back what the socket didn't take.
                    return Pin::new(&mut self.stream).poll_flush(cx);
                }
                ready!(Pin::new(&mut self.stream).poll_write(cx, head))?
            } else {
                let pieces = [
                    io::IoSlice::new(head),
                    io::IoSlice::new(data),
                    io::IoSlice::new(tail),
                ];
                ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &pieces))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(head.len());
            self.written += of_head;
            let of_data = (written - of_head).min(data.len());
            buffers::consume(data, of_data);
            *tail = tail.get(written - of_head - of_data..).unwrap_or_default();
        }
    }
}

/// Where an exchange stands before its response head.
#[derive(Debug)]
struct Exchange<'a, S> {
    method: &'a Method,
    sender: &'a S,
    begun: bool,
    /// An interim response has come: the endpoint is at work, and the client may know.
    heard: bool,
    write_error: Option<io::Error>,
}

impl<'a, S: Sender> Exchange<'a, S> {
    fn new(method: &'a Method, sender: &'a S) -> Self {
        Self {
            method,
            sender,
            begun: false,
            heard: false,
            write_error: None,
        }
    }

    fn poll_head(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        bounds: Bounds,
        cx: &mut Context<'_>,
    ) -> Poll<Result<response::Head, Error>> {
        if !self.begun {
            self.begun = true;
            connection.deadline.arm(if upload.is_held() {
                CONTINUE_WAIT
            } else {
                bounds.idle
            });
        }
        if connection.deadline.poll_due(cx).is_ready() {
            if upload.is_held() {
                upload.release();
            } else if upload.waits_for_client() && connection.has_sent_all() {
                connection.deadline.arm(bounds.idle);
            } else {
                return Poll::Ready(Err(Error::TimedOut));
            }
        }
        self.poll_upload(connection, upload, bounds, cx)?;
        if self.write_error.is_some() && !connection.has_sent_some() {
            // Whatever may be there to read, a 408 perhaps, answers nothing of ours.
            return Poll::Ready(Err(Error::Closed(self.write_error.take())));
        }
        loop {
            if let Some(head) = self.parse_head(connection, upload, &bounds.head)? {
                return Poll::Ready(Ok(head));
            }
            if upload.take_released() {
                connection.deadline.arm(bounds.idle);
                self.poll_upload(connection, upload, bounds, cx)?;
            }
            let room = if bounds.is_queued {
                Room::Own(FIRST_READ_BYTES)
            } else {
                connection.lately.room(FIRST_READ_BYTES)
            };
            match connection.poll_fill(room, cx) {
                Poll::Pending => return Self::still_waiting(connection, cx),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.ended(connection, None))),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(self.ended(connection, Some(error))));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// A failed write doesn't end the exchange: the endpoint may have answered before it stopped reading.
    fn poll_upload(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        bounds: Bounds,
        cx: &mut Context<'_>,
    ) -> Result<(), Error> {
        if self.write_error.is_some() || upload.is_done() {
            return Ok(());
        }
        let before = upload.progress();
        let outcome = upload.poll(connection, cx);
        if upload.is_done() {
            connection.deadline.arm(bounds.response_header);
        } else if upload.progress() != before && !upload.is_held() {
            connection.deadline.arm(bounds.idle);
        }
        match outcome {
            Poll::Ready(Err(upload::Error::Upstream(error))) => self.write_error = Some(error),
            Poll::Ready(Err(upload::Error::Downstream(error))) => {
                return Err(Error::Downstream(error));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }

    fn parse_head(
        &mut self,
        connection: &mut Connection,
        upload: &mut Upload,
        limits: &Limits,
    ) -> Result<Option<response::Head>, Error> {
        while !connection.read.is_empty() {
            let Connection { read, heads, .. } = connection;
            let Some(head) = heads.read(read.bytes(), self.method, limits)? else {
                return Ok(None);
            };
            self.heard = true;
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS => {
                    let agrees = self.sender.asks_for_websocket()
                        && upload.is_done()
                        && websocket::is_named_alone(&head.fields);
                    return agrees.then_some(Some(head)).ok_or(Error::UnaskedUpgrade);
                }
                StatusCode::CONTINUE => upload.release(),
                status if status.is_informational() => self.sender.interim(&head),
                _ => return Ok(Some(head)),
            }
        }
        Ok(None)
    }

    /// Waits on, even for an endpoint that takes no more bytes: its answer, or its end, is still to be read.
    fn still_waiting(
        connection: &Connection,
        cx: &Context<'_>,
    ) -> Poll<Result<response::Head, Error>> {
        // Armed anew by progress, perhaps: the task must be woken for the new time.
        if connection.deadline.poll_due(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn ended(&mut self, connection: &Connection, error: Option<io::Error>) -> Error {
        if connection.read.is_empty() && !self.heard {
            Error::Closed(self.write_error.take().or(error))
        } else {
            Error::Truncated
        }
    }
}

#[cfg(test)]
mod tests;
