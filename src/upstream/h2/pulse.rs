//! Whether the other end of a connection is still there.
//!
//! A connection that carries requests and has been silent for half a minute is asked by a PING, and so is one on which a
//! request timed out: it gets no more of them until it has answered. Who doesn't answer in time is dead. While the
//! silence lasts after an answer, the next question comes only after minutes: servers of gRPC end the connections, and
//! all requests on them, of who asks more often (gRPC's keep-alive document calls it `too_many_pings`).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::deadline::{Deadline, TICK};
use crate::transport::dial::Stream;

/// Silence while requests are under way, before a PING asks.
const SILENCE: Duration = Duration::from_secs(30);

/// The same after a PING was answered and nothing else has come: what servers of gRPC allow by default is 5 minutes.
const LONG_SILENCE: Duration = Duration::from_secs(5 * 60 + 5);

/// A connection that doesn't answer a PING for this long is dead.
const PONG_WAIT: Duration = Duration::from_secs(10);

/// What is known of the other end; shared with the task that drives the connection.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Cell<State>,
    /// When something was read last.
    heard: Cell<u64>,
    /// The same when a PING was last answered: what came then was the answer.
    answered: Cell<Option<u64>>,
    streams: Cell<usize>,
    /// Bytes that the kernel has taken.
    sent: Cell<u64>,
    /// Whether somebody looks at the deadline for the sake of streams under way.
    watched: Cell<bool>,
    deadline: Deadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing speaks against it.
    Alive,
    /// A request timed out: it is to be asked.
    Doubted,
    /// It was asked; new requests needn't wait for the answer.
    Asked,
    /// It was asked because it is doubted.
    AskedInDoubt,
}

impl Pulse {
    /// Of a connection that has just been made.
    pub(super) fn new(deadline: Deadline) -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(State::Alive),
            heard: Cell::new(deadline.now()),
            answered: Cell::new(None),
            streams: Cell::new(0),
            sent: Cell::new(0),
            watched: Cell::new(false),
            deadline,
        })
    }

    /// Whether nothing speaks against sending it another request.
    pub(super) fn is_trusted(&self) -> bool {
        matches!(self.state.get(), State::Alive | State::Asked)
    }

    /// Requests under way.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Bytes that the kernel has taken, of all requests together.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// One more.
    pub(super) fn begin_stream(&self) {
        self.streams.set(self.streams.get() + 1);
        if !self.watched.replace(true) && self.state.get() == State::Alive {
            self.deadline.arm(SILENCE);
        }
    }

    /// One less.
    pub(super) fn end_stream(&self) {
        self.streams.set(self.streams.get() - 1);
    }

    /// A request that waited for `waited` timed out. Unless something came meanwhile, for other requests perhaps, the
    /// connection may be dead without anybody having said so.
    pub(super) fn doubt(&self, waited: Duration) {
        let is_silent = self.silence() >= waited / 2;
        match self.state.get() {
            State::Alive if is_silent => {
                self.state.set(State::Doubted);
                // Wakes the driver.
                self.deadline.arm(Duration::ZERO);
            }
            State::Asked if is_silent => self.state.set(State::AskedInDoubt),
            _ => {}
        }
    }

    /// Ready when the other end was asked and didn't answer. Polled by the driver whenever it runs.
    pub(super) fn poll_dead(&self, ping: &mut PingPong, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.get() == State::Doubted {
            self.ask(State::AskedInDoubt, ping);
        }
        if matches!(self.state.get(), State::Asked | State::AskedInDoubt) {
            match ping.poll_pong(cx) {
                Poll::Ready(Ok(_)) => self.note_answer(),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            // Not due, it is polled for the sake of the waker: a doubt may be raised at any time.
            if self.deadline.poll_due(cx).is_pending() {
                return Poll::Pending;
            }
            if self.state.get() != State::Alive {
                return Poll::Ready(());
            }
            self.listen(ping);
        }
    }

    /// Asks if it has been silent for too long; else looks again when that may be so.
    fn listen(&self, ping: &mut PingPong) {
        if self.streams.get() == 0 {
            self.watched.set(false);
            self.deadline.disarm();
            return;
        }
        let patience = if self.answered.get() == Some(self.heard.get()) {
            LONG_SILENCE
        } else {
            SILENCE
        };
        match patience.checked_sub(self.silence()) {
            Some(left) if !left.is_zero() => self.deadline.arm(left),
            _ => self.ask(State::Asked, ping),
        }
    }

    fn ask(&self, state: State, ping: &mut PingPong) {
        self.state.set(state);
        // Fails when the connection ends, or another PING is under way: none of ours is.
        if ping.send_ping(Ping::opaque()).is_ok() {
            self.deadline.arm(PONG_WAIT);
        } else {
            self.deadline.arm(Duration::ZERO);
        }
    }

    fn note_answer(&self) {
        self.state.set(State::Alive);
        self.answered.set(Some(self.heard.get()));
        self.watched.set(true);
        self.deadline.arm(SILENCE);
    }

    fn silence(&self) -> Duration {
        let ticks = self.deadline.now().saturating_sub(self.heard.get());
        TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }
}

/// A stream that notes when something was read from it, and how much was sent.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) stream: Stream,
    pub(super) pulse: Rc<Pulse>,
}

impl Heard {
    /// To be called whenever some may have left: a failed write may have sent a part.
    fn note_sent<T>(&self, outcome: T) -> T {
        self.pulse.sent.set(self.stream.sent());
        outcome
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if outcome.is_ready() {
            self.pulse.heard.set(self.pulse.deadline.now());
        }
        outcome
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_sent(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_sent(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_sent(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
