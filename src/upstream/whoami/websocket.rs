//! A WebSocket peer in memory that sends every message back, frame by frame (RFC 6455 §5).
//!
//! Holds a bounded piece of what it is to send, never a message: a frame goes back while it comes. A peer that breaks
//! the protocol gets Close 1002. Text isn't checked for being UTF-8, as the original doesn't.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What waits to be read from the peer.
const BUFFER_BYTES: usize = 64 * 1024;

/// The longest head of a frame: two bytes, a 64-bit length, a mask.
const MAX_HEAD_BYTES: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a client's WebSocket is connected to: written to and read from as if it were a socket.
#[derive(Debug, Default)]
pub struct EchoPeer {
    state: State,
    /// Whether a message has begun whose last fragment is to come.
    fragmented: bool,
    out: BytesMut,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum State {
    /// Between two frames, or in the head of one.
    Head(Vec<u8>),
    Payload(Payload),
    /// After a Close. What comes now is dropped.
    Ended,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

#[derive(Debug, Clone, Copy)]
struct Payload {
    opcode: u8,
    left: u64,
    mask: u32,
}

/// The head of a frame as a client sends it.
#[derive(Debug, Clone, Copy)]
struct Head {
    first: u8,
    length: u64,
    mask: u32,
}

impl EchoPeer {
    /// Takes as much of `input` as there is room to answer for, and says how much that was.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut rest = input;
        while !rest.is_empty() && self.out.len() + MAX_HEAD_BYTES < BUFFER_BYTES {
            match &mut self.state {
                State::Ended => return input.len(),
                State::Head(bytes) => {
                    bytes.push(rest.get_u8());
                    let bytes = std::mem::take(bytes);
                    self.state = match parse(&bytes) {
                        Some(head) => self.begin(head),
                        None => State::Head(bytes),
                    };
                }
                State::Payload(payload) => {
                    let room = BUFFER_BYTES - self.out.len();
                    let left = usize::try_from(payload.left).unwrap_or(usize::MAX);
                    let len = rest.len().min(room).min(left);
                    let (piece, behind) = rest.split_at_checked(len).unwrap_or_default();
                    rest = behind;
                    for byte in piece {
                        payload.mask = payload.mask.rotate_left(8);
                        if payload.opcode != PONG {
                            self.out.put_u8(byte ^ payload.mask.to_be_bytes()[3]);
                        }
                    }
                    payload.left -= len as u64;
                    if payload.left == 0 {
                        self.state = after(payload.opcode);
                    }
                }
            }
        }
        input.len() - rest.len()
    }

    /// Answers the head of a frame with that of the frame that goes back.
    fn begin(&mut self, head: Head) -> State {
        let opcode = head.first & 0x0f;
        let last = head.first & FIN != 0;
        let is_lawful = head.first & RESERVED == 0
            && match opcode {
                TEXT | BINARY => !self.fragmented,
                CONTINUATION => self.fragmented,
                CLOSE | PING | PONG => last && head.length <= 125,
                _ => false,
            };
        if !is_lawful {
            return self.fail();
        }
        match opcode {
            PONG => {}
            PING => self.put_head(FIN | PONG, head.length),
            CLOSE => self.put_head(head.first, head.length),
            _ => {
                self.fragmented = !last;
                self.put_head(head.first, head.length);
            }
        }
        if head.length == 0 {
            return after(opcode);
        }
        State::Payload(Payload {
            opcode,
            left: head.length,
            mask: head.mask,
        })
    }

    /// Protocol error: RFC 6455 §7.4.1.
    fn fail(&mut self) -> State {
        self.put_head(FIN | CLOSE, 2);
        self.out.put_u16(1002);
        State::Ended
    }

    fn put_head(&mut self, first: u8, length: u64) {
        self.out.put_u8(first);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ 0..=125), _) => self.out.put_u8(length),
            (_, Ok(length)) => {
                self.out.put_u8(126);
                self.out.put_u16(length);
            }
            _ => {
                self.out.put_u8(127);
                self.out.put_u64(length);
            }
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

fn after(opcode: u8) -> State {
    if opcode == CLOSE {
        State::Ended
    } else {
        State::default()
    }
}

/// `None` asks for another byte. A frame without a mask, or longer than there are numbers for, is a broken one: it comes
/// back with reserved bits.
fn parse(bytes: &[u8]) -> Option<Head> {
    let broken = Some(Head {
        first: RESERVED,
        length: 0,
        mask: 0,
    });
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    if second & MASKED == 0 {
        return broken;
    }
    let (length, rest) = match second & !MASKED {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length), rest)
        }
        length => (u64::from(length), rest),
    };
    if length > i64::MAX.unsigned_abs() {
        return broken;
    }
    let (mask, _) = rest.split_first_chunk()?;
    Some(Head {
        first,
        length,
        mask: u32::from_be_bytes(*mask),
    })
}

impl AsyncRead for EchoPeer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.out.is_empty() && !matches!(self.state, State::Ended) {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = self.out.len().min(buf.remaining());
        buf.put_slice(&self.out.split_to(len));
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EchoPeer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = self.take(buf);
        self.wake_reader();
        if taken == 0 && !buf.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state = State::Ended;
        self.wake_reader();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(MASKED | u8::try_from(len).unwrap()),
            len @ 126..=0xffff => {
                bytes.push(MASKED + 126);
                bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                bytes.push(MASKED + 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// What comes back, with the bytes handed over in pieces of this size.
    fn answer(input: &[u8], piece: usize) -> Vec<u8> {
        let mut peer = EchoPeer::default();
        let mut answer = Vec::new();
        for mut piece in input.chunks(piece) {
            while !piece.is_empty() {
                let taken = peer.take(piece);
                assert!(peer.out.len() <= BUFFER_BYTES);
                answer.extend(peer.out.split());
                piece = &piece[taken..];
            }
        }
        answer
    }

    #[test]
    fn frames_come_back_unmasked() {
        for (input, output) in [
            (frame(FIN | TEXT, b"Hello"), &b"\x81\x05Hello"[..]),
            (frame(FIN | BINARY, b""), b"\x82\x00"),
            (frame(FIN | PING, b"Hello"), b"\x8a\x05Hello"),
            (frame(FIN | PONG, b"Hello"), b""),
            (frame(FIN | CLOSE, b"\x03\xe8bye"), b"\x88\x05\x03\xe8bye"),
            (frame(FIN | CLOSE, b""), b"\x88\x00"),
            (
                [frame(TEXT, b"a"), frame(FIN | PING, b"b"), frame(FIN, b"c")].concat(),
                b"\x01\x01a\x8a\x01b\x80\x01c",
            ),
        ] {
            for piece in [1, 3, 100] {
                assert_eq!(answer(&input, piece), output, "{input:?} by {piece}");
            }
        }
    }

    #[test]
    fn long_frames_come_back_whole() {
        for len in [125, 126, 0xffff, 0x10000, 200_000] {
            let payload: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
            let back = answer(&frame(FIN | BINARY, &payload), 10_000);
            assert_eq!(&back[back.len() - payload.len()..], payload, "{len}");
            assert_eq!(
                back.len() - payload.len(),
                match len {
                    0..=125 => 2,
                    126..=0xffff => 4,
                    _ => 10,
                }
            );
        }
    }

    #[test]
    fn broken_frames_are_answered_with_a_close() {
        for input in [
            b"\x81\x05Hello".to_vec(),
            frame(FIN | 0x40 | TEXT, b""),
            frame(FIN | 0x3, b""),
            frame(FIN | 0xb, b""),
            frame(PING, b""),
            frame(FIN | CLOSE, &[0; 126]),
            frame(FIN, b"continues nothing"),
            [frame(TEXT, b""), frame(FIN | TEXT, b"")].concat(),
            [&[0x82, 0xff][..], &[0xff; 8], &MASK].concat(),
        ] {
            let back = answer(&input, 1000);
            assert!(back.ends_with(b"\x88\x02\x03\xea"), "{input:?}: {back:?}");
        }
    }

    #[test]
    fn nothing_is_answered_after_a_close() {
        let input = [frame(FIN | CLOSE, b""), frame(FIN | TEXT, b"more")].concat();
        assert_eq!(answer(&input, 100), b"\x88\x00");
    }
}
