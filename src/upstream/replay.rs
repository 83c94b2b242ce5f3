//! The beginning of a request body, kept so that it can be sent again.

use bytes::Bytes;

/// A longer body can't be sent again.
const LIMIT_BYTES: u64 = 64 * 1024;

/// Nor can one in more pieces: each takes room of its own, however short it is.
const LIMIT_PIECES: usize = 1024;

/// What was kept, and how far it has been sent again.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pieces: Vec<Bytes>,
    kept: u64,
    next: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Off,
    /// For as long as nothing of the request was sent.
    KeepingUnsent,
    Keeping,
    /// It grew too long; nothing is kept any more.
    Lost,
}

impl Replay {
    /// Keeps from now on.
    pub(super) fn begin(&mut self) {
        if matches!(self.state, State::Off | State::KeepingUnsent) {
            self.state = State::Keeping;
        }
    }

    /// Keeps until [`Self::sent`], unless it is to keep for longer.
    pub(super) fn begin_unsent(&mut self) {
        if self.state == State::Off {
            self.state = State::KeepingUnsent;
        }
    }

    /// A byte of the request may have left: what was kept for a request of which none has isn't needed any more.
    pub(super) fn sent(&mut self) {
        if self.state == State::KeepingUnsent {
            self.forget();
        }
    }

    /// Keeps a piece, unless all of them are too much together.
    pub(super) fn keep(&mut self, piece: &Bytes) {
        if !self.is_keeping() {
            return;
        }
        self.kept += piece.len() as u64;
        if self.kept > LIMIT_BYTES || self.pieces.len() == LIMIT_PIECES {
            self.forget();
            return;
        }
        self.pieces.push(match self.state {
            // Till the answer comes: it may be a small piece of a large buffer.
            State::Keeping => Bytes::copy_from_slice(piece),
            _ => piece.clone(),
        });
        self.next = self.pieces.len();
    }

    /// Keeps nothing any more but what is still to be sent again: without it the request would have a gap.
    pub(super) fn forget(&mut self) {
        self.state = State::Lost;
        self.pieces.drain(..self.next.min(self.pieces.len()));
        self.next = 0;
    }

    /// Whether this many bytes, all there were, can be sent again.
    pub(super) fn holds(&self, taken: u64) -> bool {
        self.state != State::Lost && self.kept == taken
    }

    /// Whether it keeps what it is shown.
    pub(super) fn is_keeping(&self) -> bool {
        matches!(self.state, State::KeepingUnsent | State::Keeping)
    }

    /// Goes back to the first piece.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// The next piece to be sent again.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.get(self.next)?.clone();
        self.next += 1;
        Some(piece)
    }

    /// Whether all pieces have been sent again, or none needs to be.
    pub(super) fn is_at_end(&self) -> bool {
        self.next >= self.pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(sizes: &[usize]) -> Replay {
        let mut replay = Replay::default();
        replay.begin();
        for size in sizes {
            replay.keep(&vec![b'x'; *size].into());
        }
        replay
    }

    #[test]
    fn gives_back_what_it_was_shown_as_often_as_asked() {
        let mut replay = kept(&[3, 5]);
        assert!(replay.is_at_end());
        for _ in 0..2 {
            replay.rewind();
            let pieces: Vec<_> = std::iter::from_fn(|| replay.next())
                .map(|piece| piece.len())
                .collect();
            assert_eq!(pieces, [3, 5]);
            assert!(replay.is_at_end());
        }
        assert!(replay.holds(8));
    }

    #[test]
    fn keeps_up_to_the_limit_and_nothing_beyond() {
        let half = 32 * 1024;
        assert!(kept(&[half, half]).holds(64 * 1024));
        let mut lost = kept(&[half, half, 1]);
        assert!(!lost.holds(64 * 1024 + 1));
        lost.rewind();
        assert!(lost.next().is_none());
    }

    #[test]
    fn tiny_pieces_are_no_way_to_occupy_memory() {
        assert!(kept(&[1; 1024]).holds(1024));
        assert!(!kept(&[1; 1025]).holds(1025));
    }

    #[test]
    fn forgetting_leaves_what_is_still_to_be_sent_again() {
        let mut replay = kept(&[3, 5]);
        replay.rewind();
        assert_eq!(replay.next().map(|piece| piece.len()), Some(3));
        replay.forget();
        assert!(!replay.holds(8) && !replay.is_at_end());
        assert_eq!(replay.next().map(|piece| piece.len()), Some(5));
        assert!(replay.is_at_end() && replay.next().is_none());
    }

    #[test]
    fn what_is_kept_until_it_is_sent_is_then_forgotten() {
        let mut replay = Replay::default();
        replay.begin_unsent();
        replay.keep(&"abc".into());
        assert!(replay.holds(3));
        replay.sent();
        assert!(!replay.holds(3));
        replay.rewind();
        assert!(replay.next().is_none());
    }

    #[test]
    fn what_is_to_be_kept_for_longer_outlives_its_being_sent() {
        for unsent_first in [true, false] {
            let mut replay = Replay::default();
            if unsent_first {
                replay.begin_unsent();
            }
            replay.begin();
            replay.begin_unsent();
            replay.keep(&"abc".into());
            replay.sent();
            assert!(replay.holds(3), "{unsent_first}");
        }
    }

    #[test]
    fn holds_nothing_that_it_was_not_asked_to_keep() {
        let mut replay = Replay::default();
        replay.keep(&"abc".into());
        assert!(replay.holds(0) && !replay.holds(3));
    }
}
