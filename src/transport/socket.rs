//! Client connections as bytes: read ahead come first, small writes leave in one piece.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use super::buffers::{LARGE, Lender};

/// Vectored writes up to this size are copied into one buffer: `send` costs less than `writev`.
const FLATTEN_BYTES: usize = 4096;

/// What is read ahead at most: a head of usual size, or a PROXY header and a TLS hello.
const READ_AHEAD_BYTES: usize = 8 * 1024;

/// Read-ahead buffers that a worker keeps for its next connections.
const MOST_SPARE: usize = 32;

thread_local! {
    /// Read-ahead buffers of connections that have ended.
    static SPARE: RefCell<Vec<BytesMut>> = RefCell::default();

    /// Where small pieces are put together: one for all connections of a worker, so that it stays in the cache.
    static FLAT: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(FLATTEN_BYTES));
}

/// Bytes of a client that must learn why its connection ends, read and dropped in pieces of this size.
const SCRATCH_BYTES: usize = 16 * 1024;

/// An accepted socket, and what was read from it to find out what it speaks.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// Read in larger pieces than it is asked for.
    in_bulk: bool,
    read_ahead: BytesMut,
    /// Whether the worker lent that. It is back at once, unless what the bytes are read for can't keep up.
    is_lent: bool,
    /// Bytes that the kernel has taken.
    sent: u64,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::new(Stream::Tcp(stream))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::new(Stream::Unix(stream))
    }
}

impl Socket {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            in_bulk: false,
            read_ahead: BytesMut::new(),
            is_lent: false,
            sent: 0,
        }
    }

    /// For a reader that asks for a few kilobytes at a time, as rustls does: much is read at once, and it is given that
    /// piece by piece, without a system call for each.
    #[must_use]
    pub fn in_bulk(self) -> Self {
        Self {
            in_bulk: true,
            ..self
        }
    }

    /// Reads much into a buffer that the worker lends, which takes the place of the empty read-ahead buffer; ready with how
    /// many bytes came.
    fn poll_bulk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = LARGE.with(Lender::lend);
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => poll_read_buf(Pin::new(stream), cx, &mut room),
            Stream::Unix(stream) => poll_read_buf(Pin::new(stream), cx, &mut room),
        };
        if let Poll::Ready(Ok(1..)) = outcome {
            self.read_ahead = room;
            self.is_lent = true;
        } else {
            LARGE.with(|large| large.give_back(room));
        }
        outcome
    }

    /// Gives from the read-ahead buffer, and gives that up when it is empty.
    fn give_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(self.read_ahead.get(..len).unwrap_or_default());
        self.read_ahead.advance(len);
        if self.read_ahead.is_empty() {
            let room = std::mem::take(&mut self.read_ahead);
            if std::mem::take(&mut self.is_lent) {
                LARGE.with(|large| large.give_back(room));
            }
        }
    }

    /// Reads more into the read-ahead buffer, up to 8 KiB in all there, and returns how many bytes came: 0 at the end of the
    /// stream.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub async fn read_ahead(&mut self) -> io::Result<usize> {
        use tokio::io::AsyncReadExt;
        if self.read_ahead.capacity() == 0 {
            self.read_ahead = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        let room = READ_AHEAD_BYTES.saturating_sub(self.read_ahead.len());
        self.read_ahead.reserve(room);
        let buffer = &mut self.read_ahead;
        match &mut self.stream {
            Stream::Tcp(stream) => stream.take(room as u64).read_buf(buffer).await,
            Stream::Unix(stream) => stream.take(room as u64).read_buf(buffer).await,
        }
    }

    /// What was read ahead and not consumed yet.
    pub fn ahead(&self) -> &[u8] {
        &self.read_ahead
    }

    /// The read-ahead buffer, with what was read ahead and not consumed yet.
    #[must_use]
    pub fn take_ahead(&mut self) -> BytesMut {
        std::mem::take(&mut self.read_ahead)
    }

    /// Drops the first `len` bytes read ahead.
    pub fn consume(&mut self, len: usize) {
        self.read_ahead.advance(len.min(self.read_ahead.len()));
    }

    /// Ready when a read wouldn't wait.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.read_ahead.is_empty() {
            return Poll::Ready(());
        }
        // An error shows with the read.
        let ready = match &self.stream {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        };
        ready.map(|_| ())
    }

    /// Whether the other end has finished or reset the connection, as far as the runtime has heard. Seen even while what
    /// came before is still to be read.
    fn has_hung_up(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // Readiness that is known already is told at once.
        let ready = match &self.stream {
            Stream::Tcp(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            Stream::Unix(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Our own address, when the socket has one.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }
}

/// Keeps the read-ahead buffer of a connection that has ended for another of the worker, if nobody holds a piece of it
/// and it hasn't grown.
pub fn give_back(mut buffer: BytesMut) {
    buffer.clear();
    let fits = buffer.try_reclaim(READ_AHEAD_BYTES) && buffer.capacity() < 2 * READ_AHEAD_BYTES;
    SPARE.with_borrow_mut(|spare| {
        if fits && spare.len() < MOST_SPARE {
            spare.push(buffer);
        }
    });
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.in_bulk && self.read_ahead.is_empty() {
            ready!(self.poll_bulk(cx))?;
        }
        if self.in_bulk || !self.read_ahead.is_empty() {
            self.give_ahead(buf);
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        })?;
        self.sent = self.sent.wrapping_add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total <= FLATTEN_BYTES && bufs.len() > 1 {
            return FLAT.with_borrow_mut(|flat| {
                flat.clear();
                for buf in bufs {
                    flat.extend_from_slice(buf);
                }
                self.poll_write(cx, flat)
            });
        }
        let written = ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        })?;
        self.sent = self.sent.wrapping_add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection's plain or encrypted bytes.
#[derive(Debug)]
pub enum Transport {
    /// As they are on the wire.
    Plain(Socket),
    /// Through rustls. Boxed: TLS state is large, and most listeners have only one of the two.
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    /// Bytes that the kernel has taken, the handshake's included. Wraps around.
    pub(super) fn sent(&self) -> u64 {
        match self {
            Self::Plain(socket) => socket.sent,
            Self::Tls(stream) => stream.get_ref().0.sent,
        }
    }

    /// Ready when bytes have arrived, or their end; whether they make a byte of HTTP is another matter under TLS.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Tls(stream) => stream.get_ref().0.poll_readable(cx),
        }
    }

    /// Whether bytes have arrived, or their end, as far as that has been heard. Nobody is woken for what comes later.
    pub(super) fn is_readable(&self) -> bool {
        self.poll_readable(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    /// Whether the client has finished or reset the connection, as far as that has been heard.
    pub(super) fn has_hung_up(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.has_hung_up(),
            Self::Tls(stream) => stream.get_ref().0.has_hung_up(),
        }
    }

    /// Tells the client that nothing more comes, where that takes a byte.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub async fn say_goodbye(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()), // closing the socket says all there is to say
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Has the end of the connection be a reset, which nobody takes for the end of a message.
    pub fn reset_at_end(&self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        if let Stream::Tcp(stream) = &socket.stream {
            // Fails when it has ended already.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads and drops what still comes; ready at its end.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn spare() -> Vec<BytesMut> {
        SPARE.take()
    }

    #[tokio::test]
    async fn bytes_are_read_ahead_into_the_buffer_given_back_last() {
        let given = BytesMut::with_capacity(READ_AHEAD_BYTES);
        let place = given.as_ptr();
        give_back(given);
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"GET").await.unwrap();
        let mut socket = Socket::from(server);
        assert_eq!(socket.read_ahead().await.unwrap(), 3);
        let ahead = socket.take_ahead();
        assert_eq!((&ahead[..], ahead.as_ptr()), (&b"GET"[..], place));
        assert!(spare().is_empty());
    }

    #[test]
    fn a_buffer_is_kept_when_all_of_it_is_free() {
        let mut buffer = BytesMut::with_capacity(READ_AHEAD_BYTES);
        buffer.extend_from_slice(b"GET / HTTP/1.1");
        let head = buffer.split_to(5).freeze();
        give_back(buffer.clone());
        assert!(spare().is_empty(), "too small");
        let held = buffer.split();
        give_back(buffer);
        assert!(spare().is_empty(), "somebody holds a piece");
        drop(head);
        give_back(held);
        assert_eq!(spare().len(), 1);
        give_back(BytesMut::with_capacity(2 * READ_AHEAD_BYTES));
        assert!(spare().is_empty(), "grown");
    }

    #[test]
    fn so_many_buffers_are_kept() {
        for _ in 0..=MOST_SPARE {
            give_back(BytesMut::with_capacity(READ_AHEAD_BYTES));
        }
        assert_eq!(spare().len(), MOST_SPARE);
    }
}
