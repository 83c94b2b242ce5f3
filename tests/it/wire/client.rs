//! The client of a row: sends what it says, and tells what came back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::case::{Answer, Broken, Case, Seen, Then};
use super::message::{self, End};
use super::script::{NEXT, NEXT_BODY, Script};
use crate::support::frames::{self, Frames};

/// What the client saw.
#[derive(Debug)]
pub(crate) struct Saw {
    pub(crate) answer: Answer,
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
    /// What came after the answer, and isn't the answer to the next request.
    pub(crate) surplus: Vec<u8>,
}

/// A proxy under test.
#[derive(Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    /// Whoever is silent for so long won't say anything.
    pub(crate) patience: Duration,
}

/// Sends the bytes of a row that speaks HTTP/1.
pub(crate) fn over_http1(case: &Case, seen: Option<Seen>, doors: Doors, script: &Script) -> Saw {
    let mut client = Client::connect(doors);
    let mut sends = case.sends.bytes();
    let to_head = sends.starts_with(b"HEAD ");
    if seen == Some(Seen::Nothing) {
        // Where the refused request ends is for nobody to guess: a next one must not be found in it.
        sends.extend_from_slice(NEXT.as_bytes());
    }
    client.offer(&sends);
    if case.leaves {
        script.await_bytes(doors.patience);
        return Saw {
            answer: Answer::Broken(Broken::Cut),
            bytes: Vec::new(),
            then: Then::Close,
            surplus: Vec::new(),
        };
    }
    let answer = client.answer(to_head);
    let bytes = std::mem::take(&mut client.read);
    let then = if case.early {
        // Whatever comes next would be the rest of the request.
        Then::Hang
    } else if seen == Some(Seen::Nothing) || client.over.is_some() {
        client.goes_on()
    } else {
        client.offer(NEXT.as_bytes());
        client.goes_on()
    };
    Saw {
        answer,
        bytes,
        then,
        surplus: client.buffer,
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The messages that came.
    read: Vec<u8>,
    over: Option<Then>,
}

impl Client {
    fn connect(doors: Doors) -> Self {
        let stream = TcpStream::connect(doors.http1).unwrap();
        stream.set_read_timeout(Some(doors.patience)).unwrap();
        stream.set_write_timeout(Some(doors.patience)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
            read: Vec::new(),
            over: None,
        }
    }

    /// Sends as long as anybody takes it.
    fn offer(&mut self, bytes: &[u8]) {
        // What the other end made of it shows in what it answers.
        let _ = self.stream.write_all(bytes);
    }

    /// Whether the end was an orderly one.
    fn read_more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => self.over = Some(Then::Close),
            Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.over = Some(Then::Hang),
            Err(_) => {
                self.over = Some(Then::Close);
                return false;
            }
        }
        true
    }

    /// The final answer, after the interim ones.
    fn answer(&mut self, to_head: bool) -> Answer {
        loop {
            let response = message::response(&self.buffer, to_head);
            let status = response.as_ref().map(|response| response.status);
            if let Some(response) = &response
                && let End::At(end) = response.end
            {
                self.read.extend(self.buffer.drain(..end));
                match response.status {
                    100 | 102..=199 => continue,
                    status => return Answer::Whole(status),
                }
            }
            let orderly = self.read_more();
            let Some(over) = self.over else { continue };
            let until_close = response.is_some_and(|response| response.end == End::Close);
            self.read.append(&mut self.buffer);
            return match (over, status) {
                (Then::Close, Some(status)) if until_close && orderly => Answer::Whole(status),
                (Then::Hang, _) => Answer::Broken(Broken::Hangs),
                _ => Answer::Broken(Broken::Cut),
            };
        }
    }

    /// Whichever is first: the answer to the next request, or the end.
    fn goes_on(&mut self) -> Then {
        loop {
            if let Some(over) = self.over {
                return over;
            }
            self.read_more();
            if self.takes_next() {
                return Then::Keep;
            }
        }
    }

    /// Takes the answer to the next request from what came.
    fn takes_next(&mut self) -> bool {
        let Some(response) = message::response(&self.buffer, false) else {
            return false;
        };
        let is_next = self.buffer[response.body].ends_with(NEXT_BODY.as_bytes());
        if is_next {
            self.buffer.clear();
        }
        is_next
    }
}

/// Sends the fields of a row, and its body, as a stream of HTTP/2.
pub(crate) fn over_http2(case: &Case, fields: &[(String, String)], doors: Doors) -> Saw {
    let mut client = Frames::to(doors.http2, doors.patience, &[]);
    let data = case.sends.bytes();
    let ends = |last: bool| if last { frames::END_STREAM } else { 0 };
    let bare = data.is_empty() && case.trailers.is_empty();
    let head = frames::END_HEADERS | ends(bare);
    client.offer(frames::frame(frames::HEADERS, head, 1, &block(fields)));
    if !data.is_empty() {
        let flags = ends(case.trailers.is_empty());
        client.offer(frames::frame(frames::DATA, flags, 1, &data));
    }
    if !case.trailers.is_empty() {
        let trailers = block(&case.trailers);
        let flags = frames::END_HEADERS | frames::END_STREAM;
        client.offer(frames::frame(frames::HEADERS, flags, 1, &trailers));
    }
    let mut saw = Saw {
        answer: Answer::Broken(Broken::Hangs),
        bytes: Vec::new(),
        then: Then::Hang,
        surplus: Vec::new(),
    };
    saw.answer = stream_end(&mut client, 1, &mut None, &mut saw.bytes);
    client.offer(frames::frame(
        frames::HEADERS,
        frames::END_HEADERS | frames::END_STREAM,
        3,
        &frames::fields("GET", "/next"),
    ));
    let mut next = Vec::new();
    saw.then = match stream_end(&mut client, 3, &mut None, &mut next) {
        Answer::Whole(200) if next == NEXT_BODY.as_bytes() => Then::Keep,
        Answer::Broken(Broken::Hangs) => Then::Hang,
        _ => Then::Close,
    };
    saw
}

fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        frames::field(&mut block, name, value);
    }
    block
}

/// Reads until a stream is over, or the connection.
fn stream_end(
    client: &mut Frames,
    stream: u32,
    status: &mut Option<u16>,
    body: &mut Vec<u8>,
) -> Answer {
    loop {
        let frame = match client.try_next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Answer::Broken(Broken::Cut),
            Err(_) => return Answer::Broken(Broken::Hangs),
        };
        if frame.kind == frames::GOAWAY && frame.code_of_goaway() != frames::NO_ERROR {
            return Answer::Broken(Broken::Cut);
        }
        if frame.stream != stream {
            continue;
        }
        match frame.kind {
            frames::RST_STREAM => return Answer::Broken(Broken::Reset),
            frames::HEADERS if status.is_none_or(|status| status < 200) => {
                *status = Some(frame.status());
            }
            frames::DATA => body.extend_from_slice(&frame.payload),
            _ => {}
        }
        if matches!(frame.kind, frames::HEADERS | frames::DATA)
            && frame.flags & frames::END_STREAM != 0
        {
            return status.map_or(Answer::Broken(Broken::Cut), Answer::Whole);
        }
    }
}
