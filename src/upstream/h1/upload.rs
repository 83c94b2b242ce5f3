//! A request body on its way to an endpoint.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::Body;

use crate::client_ip::EmitPolicy;
use crate::config::UnderscoreHeaders;
use crate::http1::chunked;
use crate::transport::client_body::{self, ClientBody};

use super::super::replay::Replay;
use super::Connection;

/// A body that arrived with its head is copied behind it up to this size: one write, and a short one.
const FLATTEN_BYTES: usize = 4096;

/// How a request body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFraming {
    /// As many bytes as Content-Length says; the server side made sure of it.
    Length,
    /// In chunks.
    Chunked,
}

/// A request, as far as it isn't written: the head, which is its connection's, and the body, or what is left of it.
#[derive(Debug)]
pub struct Upload {
    /// `None`: there is no body at all.
    body: Option<Box<Rest>>,
    /// Whether everything, the head included, has been written.
    finished: bool,
}

/// What is left of a body. Boxed within [`Upload`]: most requests have none.
#[derive(Debug)]
struct Rest {
    /// `None` when it was read to its end.
    client: Option<Box<ClientBody>>,
    framing: UploadFraming,
    data: Bytes,
    tail: &'static [u8],
    trailers: Option<HeaderMap>,
    policy: Option<TrailerPolicy>,
    hold: Hold,
    /// Bytes taken from the client.
    taken: u64,
    replay: Replay,
    /// Whether the end was handed on.
    ended: bool,
}

/// What comes next of a body, not framed yet.
#[derive(Debug)]
pub(in super::super) enum Piece {
    /// Never empty.
    Data(Bytes),
    /// With trailers, if there were any that may be passed on.
    End(Option<HeaderMap>),
}

/// Whether the body waits for 100 Continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Never,
    Held,
    Released,
}

/// Which request trailers must not reach an endpoint.
#[derive(Debug, Clone)]
pub struct TrailerPolicy {
    /// As for the head.
    pub emit: Arc<EmitPolicy>,
    /// Whether the peer may speak for others.
    pub from_trusted_peer: bool,
    /// Whether names with `_` go on.
    pub underscores: UnderscoreHeaders,
}

impl TrailerPolicy {
    fn removes(&self, name: &HeaderName) -> bool {
        self.emit.removes(name, self.from_trusted_peer)
            || (self.underscores != UnderscoreHeaders::Allow && name.as_str().contains('_'))
    }
}

#[derive(Debug)]
pub(in super::super) enum Error {
    Upstream(io::Error),
    Downstream(client_body::Error),
}

impl Upload {
    /// No body.
    pub fn none() -> Self {
        Self {
            body: None,
            finished: false,
        }
    }

    /// A body to be relayed as it comes.
    pub fn new(client: Box<ClientBody>, framing: UploadFraming) -> Self {
        let body = Rest {
            client: Some(client),
            framing,
            data: Bytes::new(),
            tail: b"",
            trailers: None,
            policy: None,
            hold: Hold::Never,
            taken: 0,
            replay: Replay::default(),
            ended: false,
        };
        Self {
            body: Some(Box::new(body)),
            finished: false,
        }
    }

    /// Removes from the trailers what the policy says: they could name the client as well as any head.
    #[must_use]
    pub fn with_trailers(mut self, policy: TrailerPolicy) -> Self {
        if let Some(body) = &mut self.body {
            body.policy = Some(policy);
        }
        self
    }

    /// Holds the body back until the endpoint asks for it (RFC 9110 §10.1.1).
    #[must_use]
    pub fn held(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body.hold = Hold::Held;
        }
        self
    }

    /// Keeps what is taken from the client, as far as that is allowed, so that it can be sent again.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.keep();
        self
    }

    /// As [`Self::kept`], from now on.
    pub(in super::super) fn keep(&mut self) {
        if let Some(body) = &mut self.body {
            body.replay.begin();
        }
    }

    /// Keeps it for as long as no byte of the request was sent.
    pub(super) fn keep_unsent(&mut self) {
        if let Some(body) = &mut self.body {
            body.replay.begin_unsent();
        }
    }

    /// It won't be sent again.
    pub(in super::super) fn forget(&mut self) {
        if let Some(body) = &mut self.body {
            body.replay.forget();
        }
    }

    pub(in super::super) fn is_held(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.is_held())
    }

    /// Whether the body was let go since the last call.
    pub(super) fn take_released(&mut self) -> bool {
        let Some(body) = &mut self.body else {
            return false;
        };
        let released = body.hold == Hold::Released;
        if released {
            body.hold = Hold::Never;
        }
        released
    }

    pub(in super::super) fn release(&mut self) {
        if let Some(body) = &mut self.body
            && body.is_held()
        {
            body.hold = Hold::Released;
        }
    }

    /// Whether everything, the request head included, has been written.
    pub(super) fn is_done(&self) -> bool {
        self.finished
    }

    /// The same upload for another try, if every byte taken from the client is still here.
    pub(in super::super) fn restarted(mut self) -> Option<Self> {
        self.finished = false;
        let whole = self.body.as_mut().is_none_or(|body| body.restart());
        whole.then_some(self)
    }

    /// Whether nothing is left to hand on, trailers neither.
    pub(in super::super) fn is_at_end(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_at_end())
    }

    /// Changes whenever something moved.
    pub(super) fn progress(&self) -> (u64, usize) {
        let body = self.body.as_ref();
        body.map_or((0, 0), |body| (body.taken, body.data.len()))
    }

    /// Whether it is for the client to move: its body keeps its own time.
    pub(super) fn waits_for_client(&self) -> bool {
        self.body
            .as_ref()
            .is_some_and(|body| !body.ended && body.data.is_empty() && body.tail.is_empty())
    }

    /// Moves what it can from the client to the endpoint; ready when the request is written as a whole.
    pub(super) fn poll(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let outcome = match &mut self.body {
            None => connection
                .poll_send(&mut Bytes::new(), &mut &b""[..], cx)
                .map_err(Error::Upstream),
            Some(body) => body.poll(connection, cx),
        };
        self.finished |= matches!(outcome, Poll::Ready(Ok(())));
        outcome
    }

    /// What comes next, from the client or again; the end comes once.
    pub(in super::super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Piece, client_body::Error>> {
        match &mut self.body {
            None => Poll::Ready(Ok(Piece::End(None))),
            Some(body) => body.poll_piece(cx),
        }
    }
}

impl Rest {
    fn is_held(&self) -> bool {
        self.hold == Hold::Held
    }

    /// Begins anew, if every byte taken from the client is still here.
    fn restart(&mut self) -> bool {
        let whole =
            self.replay.holds(self.taken) && (self.trailers.is_none() || self.replay.is_keeping());
        self.replay.rewind();
        self.data = Bytes::new();
        self.tail = b"";
        self.ended = false;
        whole
    }

    fn is_at_end(&self) -> bool {
        let replayed = self.trailers.is_none() && self.replay.is_at_end();
        let client = self.client.as_ref();
        replayed && client.is_none_or(Body::is_end_stream)
    }

    fn poll(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let starved = self.data.is_empty()
                && self.tail.is_empty()
                && !self.is_held()
                && !self.ended
                && self.poll_client(connection, cx)?.is_pending();
            let sending = connection.poll_send(&mut self.data, &mut self.tail, cx);
            if connection.has_sent_some() {
                self.replay.sent();
            }
            ready!(sending).map_err(Error::Upstream)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if starved || self.is_held() {
                return Poll::Pending;
            }
        }
    }

    /// Takes one piece from the client.
    fn poll_client(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Error> {
        match self.poll_piece(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Err(error)) => return Err(Error::Downstream(error)),
            Poll::Ready(Ok(Piece::Data(data))) => self.take(data, connection),
            Poll::Ready(Ok(Piece::End(trailers))) => {
                if self.framing == UploadFraming::Chunked {
                    chunked::write_end(connection.unwritten(), trailers.as_ref());
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, client_body::Error>> {
        loop {
            if let Some(data) = self.replay.next() {
                return Poll::Ready(Ok(Piece::Data(data)));
            }
            let Some(client) = &mut self.client else {
                self.ended = true;
                return Poll::Ready(Ok(Piece::End(self.trailers.clone())));
            };
            match ready!(Pin::new(client).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    // An empty chunk would end the body.
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.taken += data.len() as u64;
                        self.replay.keep(&data);
                        return Poll::Ready(Ok(Piece::Data(data)));
                    }
                    Err(frame) => self.take_trailers(frame.into_trailers().ok()),
                },
                None => self.client = None,
            }
        }
    }

    fn take_trailers(&mut self, trailers: Option<HeaderMap>) {
        let kept = trailers.into_iter().flatten();
        let mut last = None;
        let kept = kept.filter_map(|(name, value)| {
            // A map gives a repeated field's name only the first time.
            last = name.or(last.take());
            let name = last.clone()?;
            let removed = self
                .policy
                .as_ref()
                .is_none_or(|policy| policy.removes(&name));
            (!removed).then_some((name, value))
        });
        self.trailers = Some(kept.collect());
    }

    fn take(&mut self, data: Bytes, connection: &mut Connection) {
        let out = connection.unwritten();
        let chunked = self.framing == UploadFraming::Chunked;
        if chunked {
            chunked::write_size(out, data.len());
        }
        if out.len() + data.len() <= FLATTEN_BYTES {
            out.extend_from_slice(&data);
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
        } else {
            self.data = data;
            if chunked {
                self.tail = b"\r\n";
            }
        }
    }
}

impl Connection {
    /// The output buffer, with what was written already removed if that was all of it.
    fn unwritten(&mut self) -> &mut Vec<u8> {
        if self.written == self.out.len() && self.written > 0 {
            self.out.clear();
            self.written = 0;
        }
        &mut self.out
    }
}
