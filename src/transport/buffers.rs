//! Buffers that a worker lends for reading: the few that are at work stay in the processor's cache, and who waits for
//! bytes holds none.

use std::cell::{Cell, RefCell};

use bytes::{Buf, Bytes, BytesMut};

/// A head of usual size, or a PROXY header and a TLS hello.
pub const SMALL_BYTES: usize = 8 * 1024;

/// A piece of a body.
pub const LARGE_BYTES: usize = 128 * 1024;

thread_local! {
    /// For the first bytes of a connection.
    pub static SMALL: Lender = const { Lender::new(SMALL_BYTES, 32) };

    /// For whatever can be large.
    pub static LARGE: Lender = const { Lender::new(LARGE_BYTES, 32) };
}

/// Lends buffers of one size. The one that came back last is lent first.
#[derive(Debug)]
pub struct Lender {
    bytes: usize,
    /// So many are kept.
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

    /// An empty buffer, with room for half of this size at least: of one that was lent before, a piece may still be held.
    pub fn lend(&self) -> BytesMut {
        let mut spare = self.spare.borrow_mut();
        let fit = spare.iter_mut().rposition(|buffer| self.makes_room(buffer));
        let buffer = fit.map(|place| spare.remove(place));
        self.unused.set(self.unused.get().min(spare.len()));
        buffer.unwrap_or_else(|| BytesMut::with_capacity(self.bytes))
    }

    /// Takes back a buffer that was lent. What was read into it is dropped, but for pieces that somebody holds.
    pub fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        if buffer.capacity() >= 2 * self.bytes {
            return; // has grown
        }
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

    /// Whether there is room for half of the size: from the beginning, which is still in the cache, if nobody holds a piece.
    fn makes_room(&self, buffer: &mut BytesMut) -> bool {
        let begins_anew = buffer.try_reclaim(self.bytes);
        begins_anew || buffer.capacity() >= self.bytes / 2
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

    const LENDER: Lender = Lender::new(1000, 3);

    #[test]
    fn the_one_given_back_last_is_lent_first() {
        let lender = LENDER;
        let (one, other) = (lender.lend(), lender.lend());
        let place = one.as_ptr();
        lender.give_back(other);
        lender.give_back(one);
        assert_eq!(lender.lend().as_ptr(), place);
    }

    #[test]
    fn what_was_read_is_not_lent_with_it() {
        let lender = LENDER;
        let mut buffer = lender.lend();
        buffer.extend_from_slice(b"of another");
        lender.give_back(buffer);
        assert!(lender.lend().is_empty());
    }

    #[test]
    fn there_is_room_behind_a_piece_that_is_held_until_half_of_it_is_gone() {
        let lender = LENDER;
        let mut buffer = lender.lend();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[b'x'; 400]);
        let piece = buffer.split().freeze();
        lender.give_back(buffer);
        let mut buffer = lender.lend();
        assert_eq!(buffer.as_ptr(), place.wrapping_add(400));
        buffer.extend_from_slice(&[b'y'; 101]);
        let other = buffer.split().freeze();
        lender.give_back(buffer);
        let new = lender.lend();
        assert!(new.capacity() >= 1000);
        assert_eq!(
            (&piece[..], &other[..]),
            (&[b'x'; 400][..], &[b'y'; 101][..])
        );
    }

    #[test]
    fn all_of_it_is_room_again_when_nobody_holds_a_piece() {
        let lender = LENDER;
        let mut buffer = lender.lend();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[b'x'; 900]);
        let piece = buffer.split().freeze();
        lender.give_back(buffer);
        drop(piece);
        let buffer = lender.lend();
        assert_eq!(buffer.as_ptr(), place);
        assert!(buffer.capacity() >= 1000);
    }

    #[test]
    fn one_that_has_grown_is_not_kept() {
        let lender = LENDER;
        lender.give_back(BytesMut::with_capacity(2000));
        assert!(lender.spare.borrow().is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let lender = LENDER;
        for _ in 0..4 {
            lender.give_back(BytesMut::with_capacity(1000));
        }
        assert_eq!(lender.spare.borrow().len(), 3);
    }

    #[test]
    fn those_that_nobody_needed_are_let_go() {
        let lender = LENDER;
        let three: Vec<_> = (0..3).map(|_| lender.lend()).collect();
        three
            .into_iter()
            .for_each(|buffer| lender.give_back(buffer));
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
