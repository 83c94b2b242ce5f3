//! A stream that carries bytes both ways: what extended CONNECT leads to (RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{RecvStream, SendStream};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Slot;
use super::session::SEND_BUFFER_BYTES;
use crate::transport::deadline::Deadline;

/// The bytes of a stream. Dropped before both directions have ended, it resets the stream.
#[derive(Debug)]
pub struct Tunnel {
    recv: RecvStream,
    send: SendStream<Bytes>,
    /// Came in one piece with what was read, and is still to be taken.
    ahead: Bytes,
    /// Last, to be given back when the stream is no more.
    slot: Slot,
}

impl Tunnel {
    pub(super) fn new(recv: RecvStream, send: SendStream<Bytes>, slot: Slot) -> Self {
        Self {
            recv,
            send,
            ahead: Bytes::new(),
            slot,
        }
    }

    /// A deadline of the same clock.
    pub fn register_deadline(&self) -> Deadline {
        self.slot.register_deadline()
    }
}

/// RFC 8441 §5: a reset is to a tunnel what it is to a TCP connection.
fn broken(error: ::h2::Error) -> io::Error {
    error
        .into_io()
        .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.ahead = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(taken));
        // Fails when the stream has been reset: the next read says so.
        let _ = self.recv.flow_control().release_capacity(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(buf.len().min(SEND_BUFFER_BYTES));
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let taken = self.send.capacity().min(buf.len());
        let piece = buf.copy_to_bytes(taken);
        let sent = self.send.send_data(piece, false).map_err(broken);
        Poll::Ready(sent.map(|()| taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes what was given to it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(broken))
    }
}
