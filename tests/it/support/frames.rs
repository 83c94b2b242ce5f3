//! HTTP/2 by hand: frames as given, for clients that don't keep to the rules.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{DEADLINE, Proxy};

/// A frame as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(crate) const INITIAL_WINDOW: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The fields of a request for `app.test`: literals, but for what the static table has.
pub(crate) fn fields(method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![if method == "GET" { 0x82 } else { 0x83 }, 0x86];
    literal(&mut block, 0x04, path);
    literal(&mut block, 0x01, "app.test");
    block
}

/// A literal field whose name is `index` of the static table.
fn literal(block: &mut Vec<u8>, index: u8, value: &str) {
    block.push(index);
    string(block, value);
}

/// A literal field with a name of its own, never indexed.
pub(crate) fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x10);
    string(block, name);
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &str) {
    // RFC 7541 §5.1, with a prefix of seven bits.
    match text.len() {
        short @ 0..127 => block.push(u8::try_from(short).unwrap()),
        long => {
            block.push(127);
            let mut left = long - 127;
            while left >= 128 {
                block.push(u8::try_from(left % 128 + 128).unwrap());
                left /= 128;
            }
            block.push(u8::try_from(left).unwrap());
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// The other end neither says anything nor closes.
#[derive(Debug)]
pub(crate) struct Silent;

/// A client that is past its preface.
pub(crate) struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// A client of the listener `http` with these settings.
    pub(crate) fn connect(proxy: &Proxy, settings: &[(u16, u32)]) -> Self {
        Self::to(proxy.address("http"), DEADLINE, settings)
    }

    /// A client of whoever listens there, who is given so long for each of its answers.
    pub(crate) fn to(address: SocketAddr, patience: Duration, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.set_write_timeout(Some(patience)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream,
            buffer: Vec::new(),
        };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        client.send(PREFACE);
        client.send(frame(SETTINGS, 0, 0, &settings));
        client.send(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        client
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sent");
    }

    /// Sends as long as anybody takes it.
    pub(crate) fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        // What the other end made of it shows in what it answers.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Opens a stream with a request that has no body.
    pub(crate) fn get(&mut self, stream: u32, path: &str) {
        let fields = fields("GET", path);
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields));
    }

    /// Opens a stream whose body is to come.
    pub(crate) fn post(&mut self, stream: u32, path: &str) {
        self.send(frame(HEADERS, END_HEADERS, stream, &fields("POST", path)));
    }

    pub(crate) fn reset(&mut self, stream: u32) {
        self.send(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }

    /// Waits until everything sent so far has been looked at.
    pub(crate) fn settle(&mut self) {
        self.send(frame(PING, 0, 0, b"settled?"));
        while {
            let frame = self.next().expect("a PING answered");
            !(frame.kind == PING && frame.flags == ACK && frame.payload == b"settled?")
        } {}
    }

    /// The next frame; `None` at the end, orderly or not.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.try_next().expect("open, and silent")
    }

    /// As [`Self::next`]; an error when nothing comes, and no end either.
    pub(crate) fn try_next(&mut self) -> Result<Option<Frame>, Silent> {
        loop {
            if let Some(frame) = self.buffered() {
                return Ok(Some(frame));
            }
            let mut piece = vec![0; 64 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Silent),
                Err(_) => return Ok(None),
            }
        }
    }

    fn buffered(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if self.buffer.len() < 9 + length {
            return None;
        }
        let frame: Vec<u8> = self.buffer.drain(..9 + length).collect();
        Some(Frame {
            kind: frame[3],
            flags: frame[4],
            stream: u32::from_be_bytes(frame[5..9].try_into().unwrap()),
            payload: frame[9..].to_vec(),
        })
    }

    /// The next frame of this kind on this stream.
    pub(crate) fn await_frame(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().expect("more frames");
            assert!(frame.kind != GOAWAY || kind == GOAWAY, "{frame:?}");
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
        }
    }

    /// The code of the last GOAWAY before the end.
    pub(crate) fn goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = Some(frame.code_of_goaway());
            }
        }
        code
    }
}

impl Frame {
    /// The code of a `RST_STREAM`.
    pub(crate) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// The code of a `GOAWAY`.
    pub(crate) fn code_of_goaway(&self) -> u32 {
        u32::from_be_bytes(self.payload[4..8].try_into().unwrap())
    }

    /// The status of a response's HEADERS: the static table has some, others are literals of three digits.
    pub(crate) fn status(&self) -> u16 {
        // The table may change its size first (RFC 7541 §6.3), by a number of several bytes if the first is full.
        let mut block = self.payload.as_slice();
        while block[0] & 0xe0 == 0x20 {
            let long = block[0] == 0x3f;
            block = &block[1..];
            if long {
                let last = block.iter().position(|byte| byte & 0x80 == 0);
                block = &block[last.unwrap() + 1..];
            }
        }
        match block[0] {
            0x88 => 200,
            0x89 => 204,
            0x8a => 206,
            0x8b => 304,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            0x48 | 0x08 | 0x18 => status_of(&block[1..]),
            other => panic!("not a status: {other:#x}"),
        }
    }
}

/// Three digits, in Huffman code or plain (RFC 7541 §5.2).
fn status_of(string: &[u8]) -> u16 {
    let length = usize::from(string[0] & 0x7f);
    let bytes = &string[1..=length];
    if string[0] & 0x80 == 0 {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    // Digits 0 to 2 take five bits, the others six.
    let bits = bytes
        .iter()
        .fold(String::new(), |bits, byte| bits + &format!("{byte:08b}"));
    let mut status = 0;
    let mut at = 0;
    for _ in 0..3 {
        let five = u16::from_str_radix(&bits[at..at + 5], 2).unwrap();
        let digit = if five < 3 {
            at += 5;
            five
        } else {
            let six = u16::from_str_radix(&bits[at..at + 6], 2).unwrap();
            at += 6;
            six - 0b01_1001 + 3
        };
        status = status * 10 + digit;
    }
    status
}
