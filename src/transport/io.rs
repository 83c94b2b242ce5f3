//! The client-side IO type under hyper, for HTTP/2.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::frames::{self, Frames};
use super::socket::Transport;

/// What hyper reads and writes on HTTP/2: a [`Transport`] that tells its [`Activity`] when bytes arrive, and keeps back
/// what follows a flood of [`Frames`].
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    activity: Rc<Activity>,
    watch: Watch,
    said_goodbye: bool,
}

/// Who looks at what a client sends before hyper does.
#[derive(Debug)]
enum Watch {
    Frames(Frames),
    /// After a flood: what hyper reads instead of what the client sent.
    Calm(Bytes),
}

impl ClientIo {
    /// For a connection whose first byte is to come.
    pub fn new(transport: Transport, activity: Rc<Activity>) -> Self {
        Self {
            transport,
            activity,
            watch: Watch::Frames(Frames::new()),
            said_goodbye: false,
        }
    }

    /// Looks at what was read from `before` on, and takes back what must not be read.
    fn inspect(&mut self, before: usize, buf: &mut ReadBuf<'_>) {
        let read = buf.filled().get(before..).unwrap_or_default();
        let Watch::Frames(frames) = &mut self.watch else {
            return;
        };
        if read.is_empty() {
            return;
        }
        match frames.feed(read, self.activity.now()) {
            Ok(()) => self.activity.frames_arrived(frames),
            Err(flood) => {
                buf.set_filled(before + flood.fine);
                self.watch = Watch::Calm(frames::calm_down().into());
            }
        }
    }

    /// Notes how far what is sent got with `outcome`.
    fn note_progress<T>(&self, outcome: &Poll<T>) {
        // While nothing is blocked a write that succeeds needs no note.
        if outcome.is_pending() || self.activity.is_blocked() {
            self.activity.send_blocked(self.transport.sent());
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.watch, Watch::Frames(_)) {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
            this.inspect(before, buf);
        }
        if let Watch::Calm(instead) = &mut this.watch {
            let len = instead.len().min(buf.remaining());
            buf.put_slice(&instead.split_to(len));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.note_progress(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.note_progress(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper comes here when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.transport).poll_flush(cx);
        if outcome.is_ready() {
            self.activity.send_complete();
        } else {
            self.note_progress(&outcome);
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.watch {
            Watch::Frames(_) => Pin::new(&mut self.transport).poll_shutdown(cx),
            // Whoever floods is told why, which takes reading what it sends until it has noticed.
            Watch::Calm(_) => {
                if !self.said_goodbye {
                    ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
                    self.said_goodbye = true;
                    self.activity.say_goodbye();
                }
                self.transport.poll_discard(cx)
            }
        }
    }
}
