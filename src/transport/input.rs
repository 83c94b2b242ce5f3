//! What was read of HTTP/1, and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::buffers::{LARGE, LARGE_BYTES, Lender};

/// As much is in a buffer of the connection's own.
const OWN_BYTES: usize = 8 * 1024;

/// Bytes of one connection. Few are in a buffer of its own; as many as make that worth while in one that the worker lends,
/// so that it is in the processor's cache, and is not held while nothing comes.
#[derive(Debug, Default)]
pub struct Input {
    bytes: BytesMut,
    is_lent: bool,
    /// The connection's own, empty, while `bytes` is lent.
    own: BytesMut,
    lately: ReadSize,
}

/// How much is to be read.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// As much as came lately.
    AsLately,
    /// At most so many bytes, if they are many.
    UpTo(u64),
}

impl Input {
    /// With what was read ahead.
    pub fn new(ahead: BytesMut) -> Self {
        Self {
            bytes: ahead,
            ..Self::default()
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the worker lent the buffer: nothing that lasts should hold a piece of it.
    pub fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// What is left, for a reader to take from; [`Self::settle`] is to follow.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Takes the first bytes, `most` of them.
    pub fn take(&mut self, most: u64) -> Bytes {
        let len = usize::try_from(most).map_or(self.len(), |most| most.min(self.len()));
        let piece = self.bytes.split_to(len).freeze();
        self.settle();
        piece
    }

    /// What is left, in a buffer that nobody wants back.
    #[must_use]
    pub fn into_bytes(mut self) -> BytesMut {
        if self.is_lent {
            self.make_own(0);
        }
        self.bytes
    }

    /// Gives up what a connection at rest doesn't need.
    pub fn rest(&mut self) {
        self.settle();
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * OWN_BYTES {
            self.bytes = BytesMut::new();
        }
    }

    /// Gives back what was lent if few bytes are left in it.
    pub fn settle(&mut self) {
        if self.is_lent && self.bytes.len() <= OWN_BYTES {
            self.make_own(0);
        }
    }

    /// Reads what has arrived behind what is left; 0 at the end of the stream.
    pub fn poll_fill(
        &mut self,
        from: Pin<&mut impl AsyncRead>,
        wanted: Wanted,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let most = match wanted {
            Wanted::AsLately => self.lately.bytes,
            Wanted::UpTo(bytes) => usize::try_from(bytes)
                .unwrap_or(LARGE_BYTES)
                .clamp(OWN_BYTES, LARGE_BYTES),
        };
        self.make_room(most);
        let outcome = poll_read_buf(from, cx, &mut (&mut self.bytes).limit(most));
        self.settle();
        let len = ready!(outcome)?;
        if let Wanted::AsLately = wanted {
            self.lately.note(len);
        }
        Poll::Ready(Ok(len))
    }

    fn make_room(&mut self, most: usize) {
        if most > OWN_BYTES {
            self.make_large_room(most);
            return;
        }
        self.settle();
        // The room of what was read before is used again if nobody holds it any more: it is still in the cache.
        let begins_anew = self.bytes.is_empty() && self.bytes.try_reclaim(most);
        // And so is what is left of it, until that is less than half: many small pieces would each hold a room of their own.
        if !begins_anew && self.room() < most / 2 {
            self.bytes.reserve(most);
        }
    }

    fn make_large_room(&mut self, most: usize) {
        self.settle();
        if self.bytes.len() <= OWN_BYTES {
            let mut buffer = LARGE.with(Lender::lend);
            buffer.extend_from_slice(&self.bytes);
            self.own = std::mem::replace(&mut self.bytes, buffer);
            self.own.clear();
            self.is_lent = true;
        } else if self.room() < OWN_BYTES {
            self.make_more_room(most);
        }
    }

    /// Makes room behind many bytes that can't be used without more: the beginning of a head as large as few are.
    #[cold]
    fn make_more_room(&mut self, most: usize) {
        if self.is_lent {
            self.make_own(most);
        } else {
            self.bytes.reserve(most);
        }
    }

    fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Moves what is left from the buffer that was lent to the connection's own, with so much room behind it.
    fn make_own(&mut self, room: usize) {
        let len = self.bytes.len() + room;
        if len > 0 && !self.own.try_reclaim(len) {
            self.own.reserve(len.max(OWN_BYTES));
        }
        self.own.extend_from_slice(&self.bytes);
        let own = std::mem::take(&mut self.own);
        let lent = std::mem::replace(&mut self.bytes, own);
        self.is_lent = false;
        LARGE.with(|large| large.give_back(lent));
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
            bytes: OWN_BYTES,
            was_small: false,
        }
    }
}

impl ReadSize {
    fn note(&mut self, read: usize) {
        if read >= self.bytes {
            self.bytes = (self.bytes * 2).min(LARGE_BYTES);
            self.was_small = false;
        } else if read < self.bytes / 2 {
            if self.was_small {
                self.bytes = (self.bytes / 2).max(OWN_BYTES);
            }
            self.was_small = !self.was_small;
        } else {
            self.was_small = false;
        }
    }
}

#[cfg(test)]
mod tests;
