//! An HTTP/2 exchange: one stream of a connection that many share.
//!
//! Over the `h2` crate itself rather than hyper's client: the request body is pulled by the very task that waits for the
//! response, so that dropping an exchange resets its stream at once, whatever the body waits for; and a response that is
//! reset before its end is never taken for a whole one, not even when the reason is `NO_ERROR`.
//!
//! Both bodies stream at once, each within its flow-control window. An exchange of which the endpoint says that it did
//! nothing with it (`REFUSED_STREAM`, or GOAWAY with a lower stream) counts as not written. A WebSocket is asked for by
//! extended CONNECT, and is then a [`Tunnel`].

mod body;
mod pulse;
mod session;
mod tunnel;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::client::ResponseFuture;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, StatusCode};

use super::h1::upload::Piece;
use super::h1::{Bounds, CONTINUE_WAIT, Error, Failed, Incoming, Response, Sender, Upload};
use crate::http1::response;
use crate::transport::client_body;
use crate::transport::deadline::Deadline;

pub use body::ResponseBody;
pub use session::{BeingMade, Sessions, Slot};
pub use tunnel::Tunnel;

use session::SEND_BUFFER_BYTES;

/// Sends a request on a stream of its own, and reads the response head.
///
/// # Errors
/// [`Failed`]: the stream is reset. The upload comes back while it is still whole.
pub async fn exchange(
    slot: Slot,
    request: Request<()>,
    upload: Upload,
    bounds: Bounds,
    sender: &impl Sender,
) -> Result<Response, Failed> {
    let method = request.method().clone();
    let begun = begin(slot, request, upload, bounds, sender).await?;
    Ok(begun.respond(&method, bounds))
}

/// Asks for a WebSocket by extended CONNECT (RFC 8441 §4), and reads the response head.
///
/// # Errors
/// [`Failed`]: the stream is reset.
pub async fn connect(
    slot: Slot,
    request: Request<()>,
    bounds: Bounds,
    sender: &impl Sender,
) -> Result<Response, Failed> {
    let mut begun = begin(slot, request, Upload::none(), bounds, sender).await?;
    if !begun.head.status.is_success() {
        // There is nothing more to say. An error means that the stream takes no more anyway.
        let _ = begun.pump.send.send_data(Bytes::new(), true);
        return Ok(begun.respond(&Method::CONNECT, bounds));
    }
    let tunnel = Tunnel::new(begun.recv, begun.pump.send, begun.slot);
    Ok(Response {
        status: begun.head.status,
        fields: begun.head.headers.into(),
        body: Incoming::Tunnelled(Box::new(tunnel)),
    })
}

/// An exchange whose response has begun.
struct Begun {
    head: http::response::Parts,
    recv: RecvStream,
    pump: Pump,
    deadline: Deadline,
    slot: Slot,
}

async fn begin(
    slot: Slot,
    request: Request<()>,
    mut upload: Upload,
    bounds: Bounds,
    sender: &impl Sender,
) -> Result<Begun, Failed> {
    // A tunnel has no end yet.
    let is_whole = upload.is_at_end() && *request.method() != Method::CONNECT;
    upload.keep();
    let sent_before = slot.sent();
    let (response, send) = match slot.send_request(request, is_whole) {
        Ok(stream) => stream,
        Err(error) => {
            let failure = Failure {
                written: false,
                ..Failure::of(error)
            };
            return Err(failure.with(&slot, upload));
        }
    };
    let mut exchange = Exchange {
        response,
        pump: Pump::new(send, upload),
        deadline: slot.register_deadline(),
        bounds,
        heard: false,
        sender,
    };
    exchange.begin();
    let outcome = poll_fn(|cx| exchange.poll_head(cx)).await;
    let Exchange {
        mut pump, deadline, ..
    } = exchange;
    let outcome = outcome.and_then(|response| {
        let (head, recv) = response.into_parts();
        check(&head, &bounds.head).map(|()| (head, recv))
    });
    match outcome {
        Ok((head, recv)) => Ok(Begun {
            head,
            recv,
            pump,
            deadline,
            slot,
        }),
        Err(failure) => {
            if matches!(failure.error, Error::TimedOut) {
                slot.doubt(bounds.response_header.min(bounds.idle));
            }
            pump.send.send_reset(Reason::CANCEL);
            let failure = Failure {
                // Nothing at all has left between, not of this request either.
                written: failure.written && !(failure.ended && slot.sent() == sent_before),
                ..failure
            };
            Err(failure.with(&slot, pump.upload))
        }
    }
}

/// What two readers could take for different messages is refused, as over HTTP/1.1.
fn check(head: &http::response::Parts, limits: &response::Limits) -> Result<(), Failure> {
    let malformed = |error| Err(Failure::written(Error::Malformed(error)));
    if head.headers.len() > limits.max_fields {
        return malformed(response::Error::TooManyFields);
    }
    // Two that agree are two all the same.
    if head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return malformed(response::Error::ContentLength);
    }
    Ok(())
}

impl Begun {
    fn respond(self, method: &Method, bounds: Bounds) -> Response {
        let status = self.head.status;
        let mut headers = self.head.headers;
        let never_has_content = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_LENGTH);
        }
        let body = if never_has_content || *method == Method::HEAD || self.recv.is_end_stream() {
            Incoming::Empty
        } else {
            // h2 refuses a response whose length isn't a number, or isn't that of its data.
            let length = headers
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let mut pump = self.pump;
            pump.upload.forget();
            Incoming::Multiplexed(Box::new(ResponseBody::new(
                self.recv,
                length,
                pump,
                self.deadline,
                bounds.idle,
                self.slot,
            )))
        };
        Response {
            status,
            fields: headers.into(),
            body,
        }
    }
}

/// Why there is no response, and whether the endpoint may have done something.
#[derive(Debug)]
struct Failure {
    error: Error,
    written: bool,
    /// The connection has ended, and not this stream alone.
    ended: bool,
}

impl Failure {
    fn written(error: Error) -> Self {
        Self {
            error,
            written: true,
            ended: false,
        }
    }

    fn of(error: ::h2::Error) -> Self {
        let is_go_away = error.is_go_away();
        let is_refused = is_go_away || error.reason() == Some(Reason::REFUSED_STREAM);
        Self {
            // RFC 9113 §8.7: the request wasn't processed, and GOAWAY ends only streams beyond its last.
            written: !(error.is_remote() && is_refused),
            ended: is_go_away || error.is_io(),
            error: if error.is_remote() || error.is_io() {
                Error::Closed(error.into_io())
            } else {
                Error::Protocol(error)
            },
        }
    }

    fn with(self, slot: &Slot, upload: Upload) -> Failed {
        Failed {
            error: self.error,
            written: self.written,
            reused: self.ended && slot.is_reused(),
            upload: upload.restarted(),
        }
    }
}

/// A stream before its response head.
struct Exchange<'a, S> {
    response: ResponseFuture,
    pump: Pump,
    deadline: Deadline,
    bounds: Bounds,
    /// An interim response has come: the endpoint is at work, and the client may know.
    heard: bool,
    sender: &'a S,
}

impl<S: Sender> Exchange<'_, S> {
    fn begin(&mut self) {
        self.deadline.arm(if self.pump.is_done() {
            self.bounds.response_header
        } else if self.pump.upload.is_held() {
            CONTINUE_WAIT
        } else {
            self.bounds.idle
        });
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<RecvStream>, Failure>> {
        if self.deadline.poll_due(cx).is_ready() {
            if self.pump.upload.is_held() {
                self.release();
            } else if self.pump.waits_for_client() {
                self.deadline.arm(self.bounds.idle);
            } else {
                return Poll::Ready(Err(Failure::written(Error::TimedOut)));
            }
        }
        self.poll_interim(cx);
        self.poll_pump(cx)?;
        if let Poll::Ready(outcome) = Pin::new(&mut self.response).poll(cx) {
            return Poll::Ready(outcome.map_err(|error| match Failure::of(error) {
                Failure {
                    error: Error::Closed(_),
                    ..
                } if self.heard => Failure::written(Error::Truncated),
                failure => failure,
            }));
        }
        // Armed anew, perhaps: the task must be woken for the new time.
        if self.deadline.poll_due(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            self.heard = true;
            match interim.status() {
                StatusCode::CONTINUE if self.pump.upload.is_held() => self.release(),
                StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS => {}
                status => self.sender.interim(&response::Head {
                    status,
                    fields: interim.into_parts().0.headers.into(),
                    framing: response::Framing::None,
                    keep_alive: true,
                }),
            }
        }
    }

    fn release(&mut self) {
        self.pump.upload.release();
        self.deadline.arm(self.bounds.idle);
    }

    /// An endpoint that has stopped reading may have answered before: what ends the exchange is the response.
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        if self.pump.is_done() || self.pump.upload.is_held() {
            return Ok(());
        }
        let before = self.pump.moved;
        let outcome = self.pump.poll(cx);
        if self.pump.is_done() {
            self.deadline.arm(self.bounds.response_header);
        } else if self.pump.moved != before {
            self.deadline.arm(self.bounds.idle);
        }
        match outcome {
            Poll::Ready(Err(error)) => Err(Failure::written(Error::Downstream(error))),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }
}

/// Moves a request body from the client into a stream.
#[derive(Debug)]
struct Pump {
    send: SendStream<Bytes>,
    upload: Upload,
    /// Taken from the client, and not fit for the window yet.
    data: Bytes,
    /// Bytes given to the stream.
    moved: u64,
    state: PumpState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PumpState {
    Moving,
    /// All of it was given to the stream, or the endpoint takes no more.
    Done,
}

impl Pump {
    fn new(send: SendStream<Bytes>, upload: Upload) -> Self {
        Self {
            send,
            state: if upload.is_at_end() {
                PumpState::Done
            } else {
                PumpState::Moving
            },
            upload,
            data: Bytes::new(),
            moved: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.state == PumpState::Done
    }

    /// Moves what it can; ready when there is no more to move.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), client_body::Error>> {
        while !self.is_done() {
            if self.data.is_empty() {
                match ready!(self.upload.poll_piece(cx)) {
                    Ok(Piece::Data(data)) => self.data = data,
                    Ok(Piece::End(trailers)) => self.finish(trailers),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            } else if ready!(self.poll_window(cx)) == 0 {
                self.state = PumpState::Done;
            } else {
                self.send_data();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the window takes some of `data`; 0 when the stream takes no more at all.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.send
            .reserve_capacity(self.data.len().min(SEND_BUFFER_BYTES));
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(0),
            }
        }
        Poll::Ready(self.send.capacity())
    }

    fn send_data(&mut self) {
        let piece = self
            .data
            .split_to(self.send.capacity().min(self.data.len()));
        self.moved += piece.len() as u64;
        let last = self.data.is_empty() && self.upload.is_at_end();
        let refused = self.send.send_data(piece, last).is_err();
        if last || refused {
            self.state = PumpState::Done;
        }
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) {
        // An error means that the stream takes no more: its response says why.
        let _ = match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
        self.state = PumpState::Done;
    }

    /// Whether it is for the client to move: its body keeps its own time.
    fn waits_for_client(&self) -> bool {
        !self.is_done() && self.data.is_empty()
    }
}

#[cfg(test)]
mod tests;
