//! WebSockets: which requests ask for one, what both ends are told, and the tunnel after that.
//!
//! No byte of a tunnel moves before the endpoint has agreed to it, and only a WebSocket makes one: by `Upgrade` in
//! HTTP/1.1, or by extended CONNECT in HTTP/2 (RFC 8441); each leads to either at the endpoint. A tunnel has a deadline of
//! its own, which every byte pushes back; those of requests and bodies don't reach it.
//!
//! Left out: frames, which nobody here reads, and telling WebSocket peers why a tunnel was cut.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{Method, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio_util::io::poll_read_buf;

use crate::fields::{Fields, is};
use crate::hop_by_hop::HopByHop;
use crate::request::Request;
use crate::transport::deadline::Deadline;
use crate::upstream::endpoint::Permit;
use crate::upstream::websocket::{self, Key};
use crate::upstream::whoami::websocket::EchoPeer;
use crate::upstream::{h1, h2};

use super::body::End;
use super::error::Error;
use super::response::Response;

/// What one direction of a tunnel holds at most.
const BUFFER_BYTES: usize = 64 * 1024;

/// A read makes room for so much. An idle direction holds nothing.
const READ_BYTES: usize = 16 * 1024;

/// hyper copies what is written into an HTTP/2 stream, and holds three such pieces.
const HTTP2_WRITE_BYTES: usize = 16 * 1024;

/// Once one side has finished, the other may be silent for so long: nothing of a WebSocket is due then but its end.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(30);

/// A request for a WebSocket, by the way the client asks.
#[derive(Debug)]
pub(super) enum Asked {
    /// With `Upgrade`: the handshake is the client's and the endpoint's own, and passes through.
    Upgrade,
    /// With extended CONNECT, which knows no key: towards the endpoint the handshake is ours.
    Connect(Key),
}

impl Asked {
    /// Whether a request asks for a WebSocket in a way that may be passed on. Any other wish to change the protocol is
    /// as good as not there: its fields are removed with those of the connection.
    pub(super) fn of(request: &Request, hop_by_hop: &HopByHop<'_>, has_body: bool) -> Option<Self> {
        if request.connects_websocket {
            return Some(Self::Connect(Key::random()));
        }
        let asks = request.version == Version::HTTP_11
            && hop_by_hop.upgrade()
            && request.method == Method::GET
            && !has_body
            && websocket::is_named(&request.fields);
        asks.then_some(Self::Upgrade)
    }

    /// Writes the fields that ask the endpoint for the same.
    pub(super) fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
        if let Self::Connect(key) = self {
            out.extend_from_slice(b"sec-websocket-key: ");
            out.extend_from_slice(key.as_str().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Whether the endpoint mustn't get this field from the client: [`Self::write_fields`] writes it.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        matches!(self, Self::Connect(_)) && is(name, "Sec-WebSocket-Key")
    }

    /// Makes an answer of the endpoint's 101: what the client waits for, with the tunnel that follows it in its body's
    /// [`End`].
    pub(super) fn agree(&self, mut response: Response, tunnel: Tunnel) -> Result<Response, Error> {
        let fields = &mut response.fields;
        match self {
            Self::Upgrade => {
                fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                fields.insert(UPGRADE, HeaderValue::from_static(websocket::PROTOCOL));
            }
            Self::Connect(key) if key.is_answered_by(fields) => {
                fields.remove(&SEC_WEBSOCKET_ACCEPT);
                fields.remove(&CONTENT_LENGTH);
                response.status = StatusCode::OK;
            }
            Self::Connect(_) => return Err(Error::handshake()),
        }
        response.body.end().tunnel = Some(Box::new(tunnel));
        Ok(response)
    }

    /// Makes an answer of the endpoint's success to extended CONNECT: `request` are the fields the client asked with.
    pub(super) fn agree_over_http2(
        &self,
        mut response: Response,
        request: &Fields,
        tunnel: Tunnel,
    ) -> Result<Response, Error> {
        let fields = &mut response.fields;
        fields.remove(&SEC_WEBSOCKET_ACCEPT);
        fields.remove(&CONTENT_LENGTH);
        match self {
            Self::Connect(_) => response.status = StatusCode::OK,
            Self::Upgrade => {
                let accept = websocket::accept(self.key(request));
                let accept = HeaderValue::try_from(accept).map_err(|_| Error::handshake())?;
                fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
                fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                fields.insert(UPGRADE, HeaderValue::from_static(websocket::PROTOCOL));
                response.status = StatusCode::SWITCHING_PROTOCOLS;
            }
        }
        response.body.end().tunnel = Some(Box::new(tunnel));
        Ok(response)
    }

    /// The key that the endpoint is asked with.
    pub(super) fn key<'a>(&'a self, fields: &'a Fields) -> &'a [u8] {
        match self {
            Self::Upgrade => fields.get(&SEC_WEBSOCKET_KEY).unwrap_or_default(),
            Self::Connect(key) => key.as_str().as_bytes(),
        }
    }
}

/// RFC 8441 §4: a CONNECT that names a protocol, and has a target as any other request.
pub(super) fn is_extended_connect<B>(request: &http::Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    *request.method() == Method::CONNECT
        && request.version() == Version::HTTP_2
        && protocol.is_some_and(|protocol| protocol.as_str() == websocket::PROTOCOL)
}

/// The stream that a CONNECT in HTTP/2 becomes when it is answered with success.
pub(super) fn stream_of<B>(request: &mut http::Request<B>) -> Option<OnUpgrade> {
    let becomes_one = request.version() == Version::HTTP_2 && *request.method() == Method::CONNECT;
    becomes_one.then(|| hyper::upgrade::on(request))
}

/// Checks an answer to a CONNECT that hyper will make a stream of: any success says that a tunnel begins (RFC 8441 §5).
pub(super) fn check(mut response: Response) -> Result<Response, Error> {
    let begins = response.body.end().tunnel.is_some();
    if response.status.is_success() && !begins {
        return Err(Error::handshake());
    }
    Ok(response)
}

/// An endpoint's connection that has switched to WebSocket, or what takes its place.
#[derive(Debug)]
pub(super) struct Tunnel {
    far: Box<dyn Far>,
    /// Read behind the 101.
    ahead: BytesMut,
    deadline: Deadline,
    idle: Duration,
    /// Counts the connection to the endpoint.
    permit: Option<Permit>,
}

/// The far end of a tunnel.
trait Far: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug> Far for T {}

impl Tunnel {
    /// To the endpoint whose 101 was read from `connection`.
    pub(super) fn to_endpoint(connection: h1::Connection, idle: Duration) -> Self {
        let (stream, ahead, deadline, permit) = connection.into_parts();
        stream.keep_alive();
        Self {
            far: Box::new(stream),
            ahead,
            deadline,
            idle,
            permit: Some(permit),
        }
    }

    /// To the endpoint at the other end of a stream.
    pub(super) fn over_http2(stream: h2::Tunnel, idle: Duration) -> Self {
        Self {
            deadline: stream.register_deadline(),
            far: Box::new(stream),
            ahead: BytesMut::new(),
            idle,
            permit: None,
        }
    }

    /// To the echo service.
    pub(super) fn to_echo(deadline: Deadline, idle: Duration) -> Self {
        Self {
            far: Box::new(EchoPeer::default()),
            ahead: BytesMut::new(),
            deadline,
            idle,
            permit: None,
        }
    }
}

/// A tunnel whose client has been told, or is about to be.
#[derive(Debug)]
pub struct Opened {
    tunnel: Box<Tunnel>,
    end: End,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Both sides have finished.
    Closed,
    /// One of them failed.
    Broken,
    /// Nothing moved for too long.
    Idle,
}

impl Opened {
    /// Takes the tunnel out of a response that has one, and makes it the owner of whatever ends with it.
    pub(super) fn take(end: &mut End) -> Option<Self> {
        let tunnel = end.tunnel.take()?;
        let mut end = std::mem::take(end);
        if let Some(in_flight) = &mut end.in_flight {
            in_flight.tunnel();
        }
        if let Some(record) = &mut end.record {
            record.lasts();
        }
        Some(Self { tunnel, end })
    }

    /// Carries bytes both ways until both sides have finished, one fails, or neither says anything for too long.
    /// Dropping it ends the tunnel.
    pub async fn run(self, client: impl AsyncRead + AsyncWrite + Unpin) {
        self.carry(client, BUFFER_BYTES).await;
    }

    /// Runs in a task of its own once hyper has answered the CONNECT.
    pub(super) fn spawn(self, stream: OnUpgrade) {
        spawn_local(async move {
            // Fails when the client has left before its answer.
            if let Ok(client) = stream.await {
                self.carry(TokioIo::new(client), HTTP2_WRITE_BYTES).await;
            }
        });
    }

    async fn carry(self, mut client: impl AsyncRead + AsyncWrite + Unpin, client_takes: usize) {
        let Self { tunnel, mut end } = self;
        let Tunnel {
            // First, to be dropped last.
            permit: _permit,
            mut far,
            ahead,
            deadline,
            idle,
        } = *tunnel;
        let mut to_client = Direction::new(ahead, client_takes);
        let mut to_endpoint = Direction::new(BytesMut::new(), BUFFER_BYTES);
        let mut moved = None;
        let ending = poll_fn(|cx| {
            let down = to_client.poll(&mut far, &mut client, cx);
            let up = to_endpoint.poll(&mut client, &mut far, cx);
            if let Some(record) = &mut end.record {
                record.tunnelled(to_endpoint.written, to_client.written);
            }
            match (down, up) {
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ending::Closed),
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                    return Poll::Ready(Ending::Broken);
                }
                (down, up) => {
                    let now = Some((to_client.moved(), to_endpoint.moved()));
                    if moved != now {
                        moved = now;
                        deadline.arm(if down.is_ready() || up.is_ready() {
                            idle.min(HALF_CLOSED_IDLE)
                        } else {
                            idle
                        });
                    }
                }
            }
            deadline.poll_due(cx).map(|()| Ending::Idle)
        })
        .await;
        if let Some(record) = &mut end.record {
            record.error = match ending {
                Ending::Closed => None,
                Ending::Broken => Some("tunnel_broken"),
                Ending::Idle => Some("tunnel_idle"),
            };
        }
    }
}

/// One direction of a tunnel.
#[derive(Debug)]
struct Direction {
    buffer: BytesMut,
    state: State,
    /// Whether the destination may hold back what was written.
    unflushed: bool,
    write_at_most: usize,
    read: u64,
    written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has finished; the destination is to be told when it has everything.
    Finishing,
    Finished,
}

impl Direction {
    fn new(ahead: BytesMut, write_at_most: usize) -> Self {
        Self {
            read: ahead.len() as u64,
            buffer: ahead,
            state: State::Open,
            unflushed: false,
            write_at_most,
            written: 0,
        }
    }

    /// Changes with whatever happens.
    fn moved(&self) -> (u64, u64, State) {
        (self.read, self.written, self.state)
    }

    /// Moves what can be moved; ready when the source has finished and the destination knows.
    fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        destination: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let blocked = self.poll_write(destination, cx)?.is_pending();
            match self.state {
                State::Finished => return Poll::Ready(Ok(())),
                State::Finishing if blocked => return Poll::Pending,
                State::Finishing => {
                    ready!(Pin::new(&mut *destination).poll_shutdown(cx))?;
                    self.state = State::Finished;
                }
                State::Open if self.buffer.len() >= BUFFER_BYTES => return Poll::Pending,
                State::Open => {
                    if self.poll_read(source, cx)?.is_pending() {
                        return self.poll_rest(destination, cx);
                    }
                }
            }
        }
    }

    /// Writes what there is.
    fn poll_write(
        &mut self,
        destination: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let piece = self.buffer.get(..self.write_at_most);
            let piece = piece.unwrap_or(&self.buffer);
            let written = ready!(Pin::new(&mut *destination).poll_write(cx, piece))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
            self.written += written as u64;
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let room = READ_BYTES.min(BUFFER_BYTES - self.buffer.len());
        self.buffer.reserve(room);
        let mut room = (&mut self.buffer).limit(room);
        match ready!(poll_read_buf(Pin::new(source), cx, &mut room))? {
            0 => self.state = State::Finishing,
            len => self.read += len as u64,
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more comes for now.
    fn poll_rest(
        &mut self,
        destination: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.unflushed {
            ready!(Pin::new(destination).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
