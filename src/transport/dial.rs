//! Connecting to an endpoint, under a deadline: the socket, a PROXY header if one is wanted, and TLS.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::deadline::Deadline;
use crate::config::ProxyHeader;
use crate::proxy_protocol::{self, Addresses};

/// A silent connection is asked after this time, and so often again.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Between two attempts to get into the queue of a Unix socket.
const FULL_QUEUE_BACK_OFF: Duration = Duration::from_millis(10);

/// Why an endpoint couldn't be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was heard within the limit.
    #[error("connect timed out")]
    TimedOut,
    /// Refused, or unreachable.
    #[error("connect failed")]
    Failed(#[source] io::Error),
    /// This process is out of descriptors or memory. It says nothing of the endpoint.
    #[error("out of descriptors or memory")]
    Exhausted(#[source] io::Error),
    /// The connection was made, and its TLS handshake didn't end within the limit.
    #[error("TLS handshake timed out")]
    HandshakeTimedOut,
    /// A certificate that no known authority issued, or not for this time or this use.
    #[error("certificate not accepted")]
    Certificate(#[source] io::Error),
    /// A certificate for other names.
    #[error("certificate for another name")]
    CertificateName(#[source] io::Error),
    /// TLS failed in any other way.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The endpoint speaks no HTTP version that we may use.
    #[error("no common HTTP version")]
    NoCommonProtocol,
    /// The endpoint speaks HTTP/2 and takes no WebSockets there (RFC 8441).
    #[error("no WebSockets over HTTP/2")]
    NoWebSockets,
}

/// What goes ahead of a connection, to say whose requests it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// The client; port 0 when nobody knows it.
    pub source: SocketAddr,
    /// Our address that the client connected to; `None`: that of the connection to the endpoint.
    pub destination: Option<SocketAddr>,
}

/// Where to connect.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(&'a Path),
}

/// What comes before HTTP on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Preamble<'a> {
    /// A PROXY header in this version; without addresses it says that nobody knows the client.
    pub proxy_header: Option<(ProxyHeader, Option<Announced>)>,
    /// TLS, and the name the certificate must be valid for.
    pub tls: Option<(&'a Arc<ClientConfig>, &'a ServerName<'static>)>,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
    /// Bytes that the kernel has taken; under TLS it is the inner one that counts.
    sent: u64,
}

#[derive(Debug)]
enum Kind {
    /// Without Nagle's delay.
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Over one of the other two. Boxed: its state is large.
    Tls(Box<TlsStream<Stream>>),
}

impl From<Kind> for Stream {
    fn from(kind: Kind) -> Self {
        Self { kind, sent: 0 }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Kind::Tcp(stream).into()
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Kind::Unix(stream).into()
    }
}

/// Connects to `address` within `limit`.
///
/// # Errors
/// [`Error`]: no byte has been sent in either case.
pub async fn tcp(
    address: SocketAddr,
    limit: Duration,
    deadline: &Deadline,
) -> Result<Stream, Error> {
    within(limit, deadline, connect_tcp(address)).await
}

async fn connect_tcp(address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

/// Connects to the Unix socket at `path` within `limit`.
///
/// # Errors
/// [`Error`]: no byte has been sent in either case.
pub async fn unix(path: &Path, limit: Duration, deadline: &Deadline) -> Result<Stream, Error> {
    within(limit, deadline, connect_unix(path)).await
}

/// A Unix socket whose queue is full says so at once, where TCP would wait.
async fn connect_unix(path: &Path) -> io::Result<Stream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_BACK_OFF).await;
            }
            outcome => return outcome.map(Stream::from),
        }
    }
}

async fn within<T>(
    limit: Duration,
    deadline: &Deadline,
    connect: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    deadline
        .limit(limit, connect)
        .await
        .ok_or(Error::TimedOut)?
        .map_err(Error::of_connect)
}

/// Connects, and says what comes before HTTP, all within `limit`.
///
/// # Errors
/// [`Error`]: no byte of HTTP has been sent in any case.
pub async fn with_preamble(
    to: To<'_>,
    preamble: Preamble<'_>,
    limit: Duration,
    deadline: &Deadline,
) -> Result<Stream, Error> {
    let connected = Cell::new(false);
    let work = async {
        let stream = connect(to).await?;
        connected.set(true);
        prepare(stream, preamble).await
    };
    let outcome = deadline.limit(limit, work).await;
    outcome.unwrap_or_else(|| {
        Err(if connected.get() {
            Error::HandshakeTimedOut
        } else {
            Error::TimedOut
        })
    })
}

/// Connects, for as long as it takes: the caller has a bound of its own.
///
/// # Errors
/// [`Error::Failed`], [`Error::Exhausted`].
pub async fn connect(to: To<'_>) -> Result<Stream, Error> {
    match to {
        To::Ip(address) => connect_tcp(address).await,
        To::Unix(path) => connect_unix(path).await,
    }
    .map_err(Error::of_connect)
}

/// Says what comes before HTTP on a connection just made, for as long as it takes.
///
/// # Errors
/// [`Error`]: no byte of HTTP has been sent in any case.
pub async fn prepare(mut stream: Stream, preamble: Preamble<'_>) -> Result<Stream, Error> {
    if let Some((version, announced)) = preamble.proxy_header {
        let header = proxy_header(version, announced, &stream);
        stream.write_all(&header).await.map_err(Error::Failed)?;
    }
    let Some((config, name)) = preamble.tls else {
        return Ok(stream);
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name.clone(), stream).await;
    stream
        .map(|stream| Kind::Tls(Box::new(stream)).into())
        .map_err(Error::of_handshake)
}

fn proxy_header(version: ProxyHeader, announced: Option<Announced>, stream: &Stream) -> Vec<u8> {
    let addresses = announced.map(|announced| Addresses {
        source: announced.source,
        destination: announced
            .destination
            .or_else(|| stream.local_addr())
            // Between two Unix sockets: the header wants some address, and this one is nobody's.
            .unwrap_or_else(|| SocketAddr::from(([0; 4], 0))),
    });
    let mut header = Vec::with_capacity(64);
    match version {
        ProxyHeader::V1 => proxy_protocol::encode_v1(addresses, &mut header),
        ProxyHeader::V2 => proxy_protocol::encode_v2(addresses, &mut header),
    }
    header
}

impl Error {
    fn of_connect(error: io::Error) -> Self {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ENOBUFS: i32 = 105;
        if error.kind() == io::ErrorKind::OutOfMemory
            || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
        {
            Self::Exhausted(error)
        } else {
            Self::Failed(error)
        }
    }

    fn of_handshake(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::CertificateName(error),
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate(error),
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                Self::NoCommonProtocol
            }
            _ => Self::Handshake(error),
        }
    }
}

/// For everybody who waited for one attempt. What the operating system said shrinks to its kind.
impl Clone for Error {
    fn clone(&self) -> Self {
        let kind = |error: &io::Error| io::Error::from(error.kind());
        match self {
            Self::TimedOut => Self::TimedOut,
            Self::Failed(error) => Self::Failed(kind(error)),
            Self::Exhausted(error) => Self::Exhausted(kind(error)),
            Self::HandshakeTimedOut => Self::HandshakeTimedOut,
            Self::Certificate(error) => Self::Certificate(kind(error)),
            Self::CertificateName(error) => Self::CertificateName(kind(error)),
            Self::Handshake(error) => Self::Handshake(kind(error)),
            Self::NoCommonProtocol => Self::NoCommonProtocol,
            Self::NoWebSockets => Self::NoWebSockets,
        }
    }
}

impl Stream {
    /// Bytes that the kernel has taken, those before HTTP included: a write that fails may have sent some.
    pub fn sent(&self) -> u64 {
        match &self.kind {
            Kind::Tls(stream) => stream.get_ref().0.sent(),
            Kind::Tcp(_) | Kind::Unix(_) => self.sent,
        }
    }

    /// Counts what was written. Under TLS nobody asks for it.
    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(len)) = written {
            self.sent = self.sent.wrapping_add(*len as u64);
        }
    }

    /// The protocol chosen by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Kind::Tcp(_) | Kind::Unix(_) => None,
        }
    }

    /// Has the operating system ask whether the other machine is still there, on a connection that may be silent for
    /// long.
    pub fn keep_alive(&self) {
        match &self.kind {
            Kind::Tcp(stream) => {
                let often = TcpKeepalive::new()
                    .with_time(KEEP_ALIVE_IDLE)
                    .with_interval(KEEP_ALIVE_INTERVAL)
                    .with_retries(3);
                // Without it a machine that has vanished is noticed later.
                let _ = SockRef::from(stream).set_tcp_keepalive(&often);
            }
            Kind::Unix(_) => {}
            Kind::Tls(stream) => stream.get_ref().0.keep_alive(),
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream) => stream.local_addr().ok(),
            Kind::Unix(_) => None,
            Kind::Tls(stream) => stream.get_ref().0.local_addr(),
        }
    }

    /// Whether an idle connection can still be used: nothing has arrived on it, not even its end.
    ///
    /// Costs no system call as a rule: the runtime knows which sockets became readable. Only a socket it takes for
    /// readable (the last read may have filled its buffer to the byte) is asked once. Under TLS whatever isn't data
    /// (tickets come when they like) is taken care of here.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let asked = match &mut self.kind {
            Kind::Tcp(stream) => stream.try_read(&mut byte),
            Kind::Unix(stream) => stream.try_read(&mut byte),
            Kind::Tls(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                let read = Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte));
                return read.is_pending();
            }
        };
        matches!(asked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`Self::is_quiet`], at this very moment: costs a system call, as the runtime may not have heard yet.
    pub fn is_surely_quiet(&mut self) -> bool {
        self.is_quiet() && self.has_nothing_to_read()
    }

    fn has_nothing_to_read(&self) -> bool {
        let socket = match &self.kind {
            Kind::Tcp(stream) => SockRef::from(stream),
            Kind::Unix(stream) => SockRef::from(stream),
            Kind::Tls(stream) => return stream.get_ref().0.has_nothing_to_read(),
        };
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        this.note(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(_) | Kind::Unix(_) => Poll::Ready(Ok(())),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
