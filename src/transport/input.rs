//! What was read of HTTP/1, and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::buffers::{LARGE, Lender};

/// As many bytes are moved to a buffer of the connection's own.
const FEW_BYTES: usize = 8 * 1024;

/// Bytes of one connection: in a buffer of its own, or in one that the worker lends, which is larger, and in the processor's
/// cache. A few bytes never hold that one for longer than it takes to read them, but a piece of many may.
#[derive(Debug, Default)]
pub struct Input {
    bytes: BytesMut,
    is_lent: bool,
    /// The connection's own, empty, while `bytes` is lent.
    own: BytesMut,
}

/// Where the next bytes are read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The connection's own buffer, in which there is to be room for so many bytes.
    Own(usize),
    /// A buffer that the worker lends.
    Lent,
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

    /// Takes the first bytes, at most `most` of them.
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
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * FEW_BYTES {
            self.bytes = BytesMut::new();
        }
    }

    /// Gives back what was lent if few bytes are left in it.
    pub fn settle(&mut self) {
        if self.is_lent && self.bytes.len() <= FEW_BYTES {
            self.make_own(0);
        }
    }

    /// Reads what has arrived behind what is left; 0 at the end of the stream.
    pub fn poll_fill(
        &mut self,
        from: Pin<&mut impl AsyncRead>,
        room: Room,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.settle();
        match room {
            Room::Lent if self.bytes.len() <= FEW_BYTES => self.borrow(),
            // Part of a head that is larger than few are, as a rule.
            _ if self.is_lent => self.make_own(FEW_BYTES),
            Room::Lent => self.make_room(FEW_BYTES),
            Room::Own(wanted) => self.make_room(wanted),
        }
        let outcome = poll_read_buf(from, cx, &mut self.bytes);
        self.settle();
        outcome
    }

    fn borrow(&mut self) {
        let mut buffer = LARGE.with(Lender::lend);
        buffer.extend_from_slice(&self.bytes);
        self.own = std::mem::replace(&mut self.bytes, buffer);
        self.own.clear();
        self.is_lent = true;
    }

    /// Makes room in the connection's own buffer.
    fn make_room(&mut self, wanted: usize) {
        // What was read before makes room if nobody holds it any more: that is still in the cache.
        let begins_anew = self.bytes.is_empty() && self.bytes.try_reclaim(wanted);
        // And so does what is left of it, until that is less than half: many small pieces would each hold a room of their own.
        if !begins_anew && self.bytes.capacity() - self.bytes.len() < wanted / 2 {
            self.bytes.reserve(wanted);
        }
    }

    /// Moves what is left from the buffer that was lent to the connection's own, with so much room behind it.
    fn make_own(&mut self, room: usize) {
        let len = self.bytes.len() + room;
        if len > 0 && !self.own.try_reclaim(len) {
            self.own.reserve(len.max(FEW_BYTES));
        }
        self.own.extend_from_slice(&self.bytes);
        let own = std::mem::take(&mut self.own);
        let lent = std::mem::replace(&mut self.bytes, own);
        self.is_lent = false;
        LARGE.with(|large| large.give_back(lent));
    }
}

/// How much has come at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lately {
    /// Few bytes.
    #[default]
    Few,
    /// Many.
    Many,
    /// Many, but for the last time.
    ManyButOnce,
}

impl Lately {
    /// Where the next are read to, if there is room for `own` bytes in the connection's buffer.
    pub fn room(self, own: usize) -> Room {
        match self {
            Self::Few => Room::Own(own),
            Self::Many | Self::ManyButOnce => Room::Lent,
        }
    }

    /// So many have come.
    pub fn note(&mut self, len: usize) {
        *self = match self {
            _ if len >= FEW_BYTES => Self::Many,
            Self::Many => Self::ManyButOnce,
            Self::ManyButOnce | Self::Few => Self::Few,
        };
    }
}

#[cfg(test)]
mod tests;
