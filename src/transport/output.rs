//! What waits to be written to an HTTP/1 client: small pieces put together, a large one beside them, uncopied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::AsyncWrite;

use super::buffers;
use crate::http1::chunked;

/// Output of this size is put together: one write, and a short one.
const FLATTEN_BYTES: usize = 4096;

/// A buffer that has grown beyond this isn't kept.
const MOST_KEPT_BYTES: usize = 16 * 1024;

/// Less than this is copied out of the buffer it is a piece of, where it has to wait.
const MOST_COPIED_BYTES: usize = 32 * 1024;

/// Written in this order: `front` from `written` on, then `data`, then `tail`.
#[derive(Debug, Default)]
pub(super) struct Output {
    front: Vec<u8>,
    written: usize,
    data: Bytes,
    /// Whether `data` holds no more than its bytes.
    is_copied: bool,
    tail: &'static [u8],
}

impl Output {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.unwritten() == 0 && !self.holds_a_piece()
    }

    /// Whether more can be put in: not behind a piece that isn't copied, of which even the end may be left.
    pub(super) fn has_room(&self) -> bool {
        !self.holds_a_piece() && self.unwritten() < FLATTEN_BYTES
    }

    /// Where heads are written. To be asked for while there [is room](Self::has_room).
    pub(super) fn front(&mut self) -> &mut Vec<u8> {
        debug_assert!(!self.holds_a_piece(), "it would overtake the piece");
        &mut self.front
    }

    /// Puts in a piece of a body. To be called while there [is room](Self::has_room), as [`Self::put_chunk`].
    pub(super) fn put(&mut self, data: Bytes) {
        if self.unwritten() + data.len() <= FLATTEN_BYTES {
            self.front().extend_from_slice(&data);
        } else {
            self.data = data;
            self.is_copied = false;
        }
    }

    /// Puts in a chunk; no bytes are no chunk, as such a one would end the body.
    pub(super) fn put_chunk(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        chunked::write_size(self.front(), data.len());
        self.put(data);
        if self.data.is_empty() {
            self.front.extend_from_slice(b"\r\n");
        } else {
            self.tail = b"\r\n";
        }
    }

    /// Puts in the end of a chunked body, if it can be put behind what waits.
    pub(super) fn put_last_chunk(&mut self, trailers: Option<&HeaderMap>) -> bool {
        if !self.holds_a_piece() {
            chunked::write_end(&mut self.front, trailers);
            return true;
        }
        let fits = trailers.is_none() && !self.data.is_empty();
        if fits {
            self.tail = b"\r\n0\r\n\r\n";
        }
        fits
    }

    /// Writes all of it; ready when `to` has it, and holds nothing back.
    pub(super) fn poll_write(
        &mut self,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let front = self.front.get(self.written..).unwrap_or_default();
            let written = if self.holds_a_piece() {
                let pieces = [front, &self.data, self.tail].map(IoSlice::new);
                to.as_mut().poll_write_vectored(cx, &pieces)
            } else {
                to.as_mut().poll_write(cx, front)
            };
            let Poll::Ready(written) = written else {
                self.hold_less();
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_front = written.min(front.len());
            self.written += of_front;
            let of_data = (written - of_front).min(self.data.len());
            buffers::consume(&mut self.data, of_data);
            let of_tail = written - of_front - of_data;
            self.tail = self.tail.get(of_tail..).unwrap_or_default();
        }
        self.front.clear();
        self.front.shrink_to(MOST_KEPT_BYTES);
        self.written = 0;
        // TLS may hold back what the socket didn't take.
        to.poll_flush(cx)
    }

    /// Whoever is slow to take a piece that isn't large doesn't hold the buffer it is of meanwhile.
    #[cold]
    fn hold_less(&mut self) {
        if !self.is_copied && self.data.len() <= MOST_COPIED_BYTES {
            self.data = Bytes::copy_from_slice(&self.data);
            self.is_copied = true;
        }
    }

    fn holds_a_piece(&self) -> bool {
        !(self.data.is_empty() && self.tail.is_empty())
    }

    /// Bytes that wait in front of a piece.
    pub(super) fn unwritten(&self) -> usize {
        self.front.len() - self.written
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::http1::chunked::{Decoder, Step};

    /// Takes as many bytes at a time as it is told, and none when it is told nothing.
    #[derive(Default)]
    struct Narrow {
        taken: Vec<u8>,
        allowed: Vec<usize>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.as_mut().poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let Some(allowed) = self.allowed.pop() else {
                return Poll::Pending;
            };
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
            let written = allowed.clamp(1, all.len());
            self.taken.extend_from_slice(&all[..written]);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Narrow {
        /// Lets it take pieces of these sizes; says whether all was written.
        fn take(&mut self, output: &mut Output, sizes: &[usize]) -> bool {
            self.allowed = sizes.iter().rev().copied().collect();
            let cx = &mut Context::from_waker(Waker::noop());
            output.poll_write(Pin::new(self), cx).is_ready()
        }
    }

    #[test]
    fn nothing_is_put_between_a_piece_and_its_end() {
        let mut output = Output::default();
        let mut to = Narrow::default();
        let chunk = Bytes::from(vec![b'x'; 5000]);
        output.put_chunk(chunk.clone());
        assert!(!output.has_room());
        // All but the line end behind the data.
        assert!(!to.take(&mut output, &["1388\r\n".len() + chunk.len()]));
        assert!(!output.has_room() && !output.put_last_chunk(None));
        assert!(to.take(&mut output, &[usize::MAX]));
        assert!(output.put_last_chunk(None));
        assert!(to.take(&mut output, &[usize::MAX]));
        assert!(to.taken.ends_with(b"xx\r\n0\r\n\r\n"));
    }

    #[test]
    fn what_waits_does_not_hold_the_buffer_it_is_of() {
        for (len, holds) in [(5000, false), (MOST_COPIED_BYTES + 1, true)] {
            let mut output = Output::default();
            let mut to = Narrow::default();
            let mut buffer = BytesMut::from(&vec![b'x'; len][..]);
            output.put(buffer.split().freeze());
            assert!(!to.take(&mut output, &[]));
            assert_eq!(!buffer.try_reclaim(len), holds, "{len}");
            assert!(to.take(&mut output, &[usize::MAX]));
            assert_eq!(to.taken, vec![b'x'; len]);
        }
    }

    #[test]
    fn an_end_without_trailers_leaves_with_the_last_piece() {
        let mut output = Output::default();
        let mut to = Narrow::default();
        output.put_chunk(Bytes::from(vec![b'x'; 5000]));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-a", http::HeaderValue::from_static("1"));
        assert!(!output.put_last_chunk(Some(&trailers)));
        assert!(output.put_last_chunk(None));
        assert!(to.take(&mut output, &[usize::MAX]));
        assert!(to.taken.ends_with(b"xx\r\n0\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn chunks_arrive_as_they_were_put_in_however_little_is_taken_at_a_time(
            chunks in prop::collection::vec(1..6_000_usize, 0..6),
            sizes in prop::collection::vec(prop::collection::vec(1..7_000_usize, 0..3), 0..20),
        ) {
            let mut output = Output::default();
            let mut to = Narrow::default();
            let mut sizes = sizes.into_iter();
            let mut next = || sizes.next().unwrap_or_else(|| vec![usize::MAX]);
            let body = |letter: u8, len: usize| Bytes::from(vec![letter; len]);
            for (letter, len) in (b'a'..).zip(&chunks) {
                while !output.has_room() {
                    to.take(&mut output, &next());
                }
                output.put_chunk(body(letter, *len));
            }
            while !output.put_last_chunk(None) {
                to.take(&mut output, &next());
            }
            while !to.take(&mut output, &next()) {}

            let mut input = BytesMut::from(&to.taken[..]);
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            while let Step::Data(data) = decoder.decode(&mut input).unwrap() {
                read.extend_from_slice(&data);
            }
            let expected: Vec<u8> =
                (b'a'..).zip(&chunks).flat_map(|(letter, len)| body(letter, *len)).collect();
            prop_assert!(input.is_empty());
            prop_assert_eq!(read, expected);
        }
    }
}
