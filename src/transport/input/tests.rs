use std::task::Waker;

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
fn fill(input: &mut Input, wanted: Wanted, letter: u8, len: usize) {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut from = Pieces(vec![vec![letter; len]]);
    let read = input.poll_fill(Pin::new(&mut from), wanted, cx);
    assert!(matches!(read, Poll::Ready(Ok(read)) if read == len));
}

fn waits(input: &mut Input, wanted: Wanted) {
    let cx = &mut Context::from_waker(Waker::noop());
    let nothing = &mut Pieces(Vec::new());
    assert!(input.poll_fill(Pin::new(nothing), wanted, cx).is_pending());
}

const MUCH: Wanted = Wanted::UpTo(u64::MAX);

#[test]
fn many_bytes_are_in_a_buffer_that_is_back_as_soon_as_they_are_taken() {
    let mut input = Input::default();
    fill(&mut input, MUCH, b'x', 50_000);
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
    for left in [1, OWN_BYTES] {
        fill(&mut input, MUCH, b'x', left);
        assert!(!input.is_lent());
        assert_eq!(input.take(u64::MAX), vec![b'x'; left]);
    }
    fill(&mut input, MUCH, b'x', 50_000);
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
        fill(&mut input, MUCH, b'x', 1);
        pieces.push(input.take(1));
    }
    let adjoin = |pair: &[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
    assert!(pieces.windows(2).all(adjoin));
}

#[test]
fn who_waits_holds_no_large_buffer() {
    let mut input = Input::default();
    waits(&mut input, MUCH);
    assert!(!input.is_lent());
    fill(&mut input, MUCH, b'x', 10);
    waits(&mut input, MUCH);
    assert!(!input.is_lent());
    assert_eq!(input.take(u64::MAX), vec![b'x'; 10]);
}

#[test]
fn what_is_left_stays_in_front_of_what_comes() {
    for first in [3, OWN_BYTES, OWN_BYTES + 1, LARGE_BYTES - 5, LARGE_BYTES] {
        for wanted in [Wanted::AsLately, MUCH, Wanted::UpTo(1)] {
            let mut input = Input::default();
            fill(&mut input, MUCH, b'x', first);
            fill(&mut input, wanted, b'y', 10);
            assert_eq!(input.len(), first + 10, "{first}, {wanted:?}");
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
        fill(&mut input, Wanted::AsLately, b'x', OWN_BYTES);
    }
    assert_eq!(input.len(), 100 * OWN_BYTES);
    assert!(input.take(u64::MAX).iter().all(|byte| *byte == b'x'));
}

#[test]
fn its_own_buffer_is_used_again() {
    let mut input = Input::default();
    fill(&mut input, Wanted::AsLately, b'x', 100);
    let place = input.take(u64::MAX).as_ptr();
    fill(&mut input, Wanted::AsLately, b'y', 100);
    assert_eq!(input.take(u64::MAX).as_ptr(), place);
}

fn after(reads: &[usize]) -> usize {
    let mut size = ReadSize::default();
    for read in reads {
        size.note(*read);
    }
    size.bytes
}

#[test]
fn reads_grow_with_what_comes_and_shrink_slowly() {
    const KIB: usize = 1024;
    for (reads, expected) in [
        (&[][..], 8 * KIB),
        (&[100, 100, 100], 8 * KIB),
        (&[8 * KIB], 16 * KIB),
        (
            &[8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 128 * KIB],
            128 * KIB,
        ),
        // One that is small says little.
        (&[8 * KIB, 100], 16 * KIB),
        (&[8 * KIB, 100, 16 * KIB, 100], 32 * KIB),
        (&[8 * KIB, 100, 12 * KIB, 100], 16 * KIB),
        (&[8 * KIB, 100, 100], 8 * KIB),
    ] {
        assert_eq!(after(reads), expected, "{reads:?}");
    }
}
