use std::task::Waker;

use super::super::buffers::LARGE_BYTES;
use super::*;

/// Gives what it was told to, one piece for each read, and then nothing.
struct Pieces(Vec<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let piece = self.0.remove(0);
        assert!(
            piece.len() <= buf.remaining(),
            "no room for {}",
            piece.len()
        );
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

/// Has `input` read a piece of so many bytes, each of them `letter`.
fn fill(input: &mut Input, room: Room, letter: u8, len: usize) {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut from = Pieces(vec![vec![letter; len]]);
    let read = input.poll_fill(Pin::new(&mut from), room, cx);
    assert!(matches!(read, Poll::Ready(Ok(read)) if read == len));
}

fn waits(input: &mut Input, room: Room) {
    let cx = &mut Context::from_waker(Waker::noop());
    let nothing = &mut Pieces(Vec::new());
    assert!(input.poll_fill(Pin::new(nothing), room, cx).is_pending());
}

const OWN: Room = Room::Own(FEW_BYTES);

#[test]
fn many_bytes_are_in_a_buffer_that_is_back_as_soon_as_they_are_taken() {
    let mut input = Input::default();
    fill(&mut input, Room::Lent, b'x', 50_000);
    assert!(input.is_lent());
    let place = input.bytes().as_ptr();
    let piece = input.take(50_000);
    assert!(!input.is_lent());
    assert_eq!(piece.as_ptr(), place);
    drop(piece);
    assert_eq!(LARGE.with(Lender::lend).as_ptr(), place);
}

#[test]
fn few_bytes_hold_no_large_buffer() {
    let mut input = Input::default();
    for left in [1, FEW_BYTES] {
        fill(&mut input, Room::Lent, b'x', left);
        assert!(!input.is_lent());
        assert_eq!(input.take(u64::MAX), vec![b'x'; left]);
    }
    fill(&mut input, Room::Lent, b'x', 50_000);
    let piece = input.take(49_990);
    assert!(
        !input.is_lent() && input.len() == 10,
        "what is left of many"
    );
    assert!(
        piece
            .iter()
            .chain(&input.take(10))
            .all(|byte| *byte == b'x')
    );
}

#[test]
fn small_pieces_share_their_room() {
    let mut input = Input::default();
    let mut pieces = Vec::new();
    for _ in 0..1000 {
        fill(&mut input, Room::Lent, b'x', 1);
        pieces.push(input.take(1));
    }
    let adjoin = |pair: &[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
    assert!(pieces.windows(2).all(adjoin));
}

#[test]
fn who_waits_holds_no_large_buffer() {
    let mut input = Input::default();
    waits(&mut input, Room::Lent);
    assert!(!input.is_lent());
    fill(&mut input, Room::Lent, b'x', 10);
    waits(&mut input, Room::Lent);
    assert!(!input.is_lent());
    assert_eq!(input.take(u64::MAX), vec![b'x'; 10]);
}

#[test]
fn what_is_left_stays_in_front_of_what_comes() {
    for first in [3, FEW_BYTES, FEW_BYTES + 1, LARGE_BYTES - 5, LARGE_BYTES] {
        for room in [OWN, Room::Lent] {
            let mut input = Input::default();
            fill(&mut input, Room::Lent, b'x', first);
            fill(&mut input, room, b'y', 10);
            assert_eq!(input.len(), first + 10, "{first}, {room:?}");
            let bytes = input.into_bytes();
            let (before, after) = bytes.split_at(first);
            assert!(before.iter().all(|byte| *byte == b'x') && after == [b'y'; 10]);
        }
    }
}

#[test]
fn a_large_head_is_read_to_its_end() {
    let mut input = Input::default();
    for _ in 0..100 {
        fill(&mut input, OWN, b'x', FEW_BYTES);
    }
    assert_eq!(input.len(), 100 * FEW_BYTES);
    assert!(input.take(u64::MAX).iter().all(|byte| *byte == b'x'));
}

#[test]
fn its_own_buffer_is_used_again() {
    let mut input = Input::default();
    fill(&mut input, OWN, b'x', 100);
    let place = input.take(u64::MAX).as_ptr();
    fill(&mut input, OWN, b'y', 100);
    assert_eq!(input.take(u64::MAX).as_ptr(), place);
}

#[test]
fn a_buffer_is_lent_to_who_has_sent_much_lately() {
    const FULL: usize = FEW_BYTES;
    for (reads, room) in [
        (&[][..], OWN),
        (&[100, FULL - 1], OWN),
        (&[FULL], Room::Lent),
        // Once is no sign.
        (&[FULL, 100], Room::Lent),
        (&[FULL, 100, FULL, 100], Room::Lent),
        (&[FULL, 100, 100], OWN),
    ] {
        let mut lately = Lately::default();
        for len in reads {
            lately.note(*len);
        }
        assert_eq!(lately.room(FULL), room, "{reads:?}");
    }
}
