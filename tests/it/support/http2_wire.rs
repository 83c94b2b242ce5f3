//! One end of an HTTP/2 connection, frame by frame: an endpoint that does what no library would.

use std::net::TcpStream;
use std::time::Duration;

use super::{DEADLINE, Wire};

/// What a frame is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;

    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;

    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const INTERNAL_ERROR: u32 = 2;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;

    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & Self::END_STREAM != 0
    }

    /// Why the stream was reset.
    pub(crate) fn reason(&self) -> u32 {
        assert_eq!(self.kind, Self::RST_STREAM, "{self:?}");
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

/// An endpoint's end of a connection whose preface was read and answered.
pub(crate) struct Http2Wire(Wire<TcpStream>);

impl Http2Wire {
    /// Takes the part of the server; `settings` are identifiers with their values.
    pub(crate) fn accept(mut wire: Wire<TcpStream>, settings: &[(u16, u32)]) -> Self {
        assert_eq!(wire.take(24), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut connection = Self(wire);
        let mut payload = Vec::new();
        for (identifier, value) in settings {
            payload.extend(identifier.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        connection.send(Frame::SETTINGS, 0, 0, &payload);
        connection
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.send(frame);
    }

    /// The next frame, whatever it is.
    pub(crate) fn frame(&mut self) -> Frame {
        let head = self.0.take(9);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff,
            payload: self.0.take(length as usize),
        }
    }

    /// The next frame, if it begins to arrive in time.
    pub(crate) fn frame_within(&mut self, limit: Duration) -> Option<Frame> {
        let begins = self.0.arrives_within(limit);
        begins.then(|| self.frame())
    }

    /// The next frame of this kind; what comes before it is read over.
    pub(crate) fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame();
            if frame.kind == Frame::SETTINGS && frame.flags & Frame::ACK == 0 {
                self.send(Frame::SETTINGS, Frame::ACK, 0, b"");
            }
            if frame.kind == kind && (kind != Frame::SETTINGS || frame.flags & Frame::ACK == 0) {
                return frame;
            }
            assert_ne!(frame.kind, Frame::GOAWAY, "{frame:?}");
        }
    }

    /// The beginning of a 200, with the rest of its field block; `:status: 200` is entry 8 of the static table.
    pub(crate) fn respond(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let mut block = vec![0x88];
        block.extend(literals(fields));
        self.send(Frame::HEADERS, flags | Frame::END_HEADERS, stream, &block);
    }

    /// A head before the response. `:status` is entry 8 of the static table, its value a literal.
    pub(crate) fn interim(&mut self, stream: u32, status: &str) {
        let block = [&[0x08, 3], status.as_bytes()].concat();
        self.send(Frame::HEADERS, Frame::END_HEADERS, stream, &block);
    }

    /// Fields behind the body; they end the stream.
    pub(crate) fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let flags = Frame::END_HEADERS | Frame::END_STREAM;
        self.send(Frame::HEADERS, flags, stream, &literals(fields));
    }

    pub(crate) fn data(&mut self, stream: u32, flags: u8, data: &[u8]) {
        self.send(Frame::DATA, flags, stream, data);
    }

    pub(crate) fn reset(&mut self, stream: u32, reason: u32) {
        self.send(Frame::RST_STREAM, 0, stream, &reason.to_be_bytes());
    }

    pub(crate) fn go_away(&mut self, last_stream: u32, reason: u32) {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend(reason.to_be_bytes());
        self.send(Frame::GOAWAY, 0, 0, &payload);
    }

    /// Answers every request, for as long as there are any.
    pub(crate) fn serve_until_closed(mut self) {
        while self.0.arrives_within(DEADLINE) {
            let frame = self.frame();
            match frame.kind {
                Frame::HEADERS => self.respond(frame.stream, Frame::END_STREAM, &[]),
                Frame::SETTINGS if frame.flags & Frame::ACK == 0 => {
                    self.send(Frame::SETTINGS, Frame::ACK, 0, b"");
                }
                Frame::GOAWAY => return,
                _ => {}
            }
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        self.0.until_closed()
    }
}

/// RFC 7541 §6.2.2: new names, not indexed, not compressed.
fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}
