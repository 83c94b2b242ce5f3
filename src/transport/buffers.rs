//! Large buffers that a worker lends for reading: the few that are at work stay in the processor's cache.

use std::cell::{Cell, RefCell};

use bytes::{Buf, Bytes, BytesMut};

/// The size of each.
pub const LARGE_BYTES: usize = 128 * 1024;

thread_local! {
    /// The worker's.
    pub static LARGE: Lender = const { Lender::new(LARGE_BYTES, 256) };
}

/// Lends buffers of one size.
#[derive(Debug)]
pub struct Lender {
    bytes: usize,
    /// So many are kept, those included of which somebody still holds a piece.
    most: usize,
    spare: RefCell<Vec<BytesMut>>,
    /// The fewest that were spare since the last [`Self::shrink`].
    unused: Cell<usize>,
}

impl Lender {
    const fn new(bytes: usize, most: usize) -> Self {
        Self {
            bytes,
            most,
            spare: RefCell::new(Vec::new()),
            unused: Cell::new(0),
        }
    }

    /// An empty buffer: of those that nobody holds a piece of, the one that came back last.
    pub fn lend(&self) -> BytesMut {
        let mut spare = self.spare.borrow_mut();
        let free = spare
            .iter_mut()
            .rposition(|buffer| buffer.try_reclaim(self.bytes));
        let buffer = free.map(|place| spare.remove(place));
        self.unused.set(self.unused.get().min(spare.len()));
        buffer.unwrap_or_else(|| BytesMut::with_capacity(self.bytes))
    }

    /// Takes back a buffer that was lent. Pieces of it may still be held; what else is in it is dropped.
    pub fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.len() == self.most {
            spare.remove(0);
        }
        spare.push(buffer);
    }

    /// Lets go of what nobody has needed since the last time.
    pub fn shrink(&self) {
        let mut spare = self.spare.borrow_mut();
        spare.drain(..self.unused.get());
        self.unused.set(spare.len());
    }
}

/// Drops the first bytes of a piece; one that is used up no longer holds its buffer.
pub fn consume(piece: &mut Bytes, len: usize) {
    if len == piece.len() {
        *piece = Bytes::new();
    } else {
        piece.advance(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lender() -> Lender {
        Lender::new(1000, 3)
    }

    #[test]
    fn the_one_given_back_last_is_lent_first() {
        let lender = lender();
        let (one, other) = (lender.lend(), lender.lend());
        let place = one.as_ptr();
        lender.give_back(other);
        lender.give_back(one);
        assert_eq!(lender.lend().as_ptr(), place);
    }

    #[test]
    fn what_was_read_is_not_lent_with_it() {
        let lender = lender();
        let mut buffer = lender.lend();
        buffer.extend_from_slice(b"of another");
        lender.give_back(buffer);
        assert!(lender.lend().is_empty());
    }

    #[test]
    fn one_of_which_a_piece_is_held_waits_for_it() {
        let lender = lender();
        let mut buffer = lender.lend();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[b'x'; 400]);
        let piece = buffer.split_to(300).freeze();
        lender.give_back(buffer);
        let other = lender.lend();
        assert_eq!(&piece[..], [b'x'; 300]);
        drop(piece);
        let buffer = lender.lend();
        assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, 1000));
        assert_eq!(other.capacity(), 1000);
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let lender = lender();
        for _ in 0..4 {
            lender.give_back(BytesMut::with_capacity(1000));
        }
        assert_eq!(lender.spare.borrow().len(), 3);
    }

    #[test]
    fn those_that_nobody_needed_are_let_go() {
        let lender = lender();
        let three: Vec<_> = (0..3).map(|_| lender.lend()).collect();
        for buffer in three {
            lender.give_back(buffer);
        }
        lender.shrink();
        assert_eq!(lender.spare.borrow().len(), 3, "all were needed");
        let one = lender.lend();
        lender.give_back(one);
        lender.shrink();
        assert_eq!(lender.spare.borrow().len(), 1);
        lender.shrink();
        assert!(lender.spare.borrow().is_empty());
    }
}
