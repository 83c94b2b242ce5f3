//! One end of an HTTP/1.1 connection: writes bytes as given, reads whole messages.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::DEADLINE;

/// A connection and what was read from it but not looked at.
pub(crate) struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
}

/// A request or a response as it stood on the wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names as they were spelled, values as they were written.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// The only line of this name; `None`: there is none.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "several lines of {name}: {values:?}");
        values.first().copied()
    }

    /// All lines of this name.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1);
        code.and_then(|code| code.parse().ok()).expect(&self.start)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Wire<TcpStream> {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    /// Says that no more will be sent, and goes on reading.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Whether anything can be read, now or soon.
    pub(crate) fn arrives_within(&mut self, limit: std::time::Duration) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let arrived = self.stream.peek(&mut [0]).is_ok_and(|length| length > 0);
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        arrived
    }

    /// Asserts that nothing has come yet.
    pub(crate) fn assert_silent(&self) {
        self.stream.set_nonblocking(true).unwrap();
        let came = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match came {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            came => panic!("not silent: {came:?}"),
        }
    }

    /// A second handle, to write from another thread.
    pub(crate) fn sender(&self) -> Self {
        Self::new(self.stream.try_clone().unwrap())
    }

    /// Ends the connection as a crash would.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// What was read and not used yet, and the stream behind it.
    pub(crate) fn into_parts(self) -> (Vec<u8>, TcpStream) {
        (self.buffer, self.stream)
    }
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sent");
        self.stream.flush().expect("flushed");
    }

    /// Sends as long as anybody takes it: the other end may well refuse and close.
    pub(crate) fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        // What the other end made of it shows in what it answers.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// `None` when the other end closes, or resets, instead of sending one.
    pub(crate) fn next_request(&mut self) -> Option<Message> {
        if self.buffer.is_empty() && self.read_more().is_err() {
            return None;
        }
        Some(self.request())
    }

    pub(crate) fn request(&mut self) -> Message {
        let mut message = self.head();
        if message.values("transfer-encoding") == ["chunked"] {
            self.read_chunks(&mut message);
        } else if let Some(length) = message.field("content-length") {
            message.body = self.take(length.parse().unwrap());
        }
        message
    }

    /// A response to anything but HEAD; interim responses come as messages of their own.
    pub(crate) fn response(&mut self) -> Message {
        let mut message = self.head();
        if matches!(message.status(), 100..=199 | 204 | 304) {
            return message;
        }
        if message.values("transfer-encoding") == ["chunked"] {
            self.read_chunks(&mut message);
        } else if let Some(length) = message.field("content-length") {
            message.body = self.take(length.parse().unwrap());
        } else {
            message.body = self.rest();
        }
        message
    }

    /// Sends a request and reads its response.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.response()
    }

    /// The first line and the fields; no body.
    pub(crate) fn head(&mut self) -> Message {
        let head = self.through(b"\r\n\r\n");
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        Message {
            start: lines.next().unwrap_or_default().to_owned(),
            fields: lines.map(split_field).collect(),
            ..Message::default()
        }
    }

    /// The bytes of a head, its empty line included.
    pub(crate) fn raw_head(&mut self) -> Vec<u8> {
        self.through(b"\r\n\r\n")
    }

    /// Everything up to this text.
    pub(crate) fn raw_until(&mut self, end: &str) -> String {
        String::from_utf8_lossy(&self.through(end.as_bytes())).into_owned()
    }

    fn read_chunks(&mut self, message: &mut Message) {
        while let Some(chunk) = self.chunk() {
            message.body.extend(chunk);
        }
        message.trailers = self.trailers();
    }

    /// The next chunk; `None` for the last one, after whose size line the trailers stand.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.through(b"\r\n");
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk size");
        if size == 0 {
            return None;
        }
        let data = self.take(size);
        assert_eq!(self.take(2), b"\r\n");
        Some(data)
    }

    pub(crate) fn trailers(&mut self) -> Vec<(String, String)> {
        let mut trailers = Vec::new();
        loop {
            let line = self.through(b"\r\n");
            let line = String::from_utf8_lossy(&line);
            match line.trim_end_matches("\r\n") {
                "" => return trailers,
                field => trailers.push(split_field(field)),
            }
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.read_more().expect("more bytes");
        }
        self.buffer.drain(..length).collect()
    }

    fn through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|part| part == end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            if let Err(error) = self.read_more() {
                let so_far = String::from_utf8_lossy(&self.buffer);
                panic!("{error} after {so_far:?}");
            }
        }
    }

    /// Everything up to an orderly end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return std::mem::take(&mut self.buffer);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Everything up to the end, orderly or not.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("open after {:?}", String::from_utf8_lossy(&self.buffer))
                }
                Err(_) => return std::mem::take(&mut self.buffer),
            }
        }
    }

    /// Whether the other end says that there is no more: TLS has an end of its own, and a reset is none.
    pub(crate) fn ends_orderly(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(length) => {
                assert_eq!(length, 0, "{byte:?}");
                true
            }
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    ErrorKind::WouldBlock,
                    "neither an end nor a cut"
                );
                false
            }
        }
    }

    /// Asserts that the other end closes without another byte.
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.until_closed();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// What comes first; nothing when that is the end.
    pub(crate) fn until_bytes_or_end(&mut self) -> Vec<u8> {
        // A reset is an end as well.
        let _ = self.read_more();
        std::mem::take(&mut self.buffer)
    }

    fn read_more(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.buffer.extend_from_slice(&piece[..length]);
                Ok(())
            }
            // Nothing is wrong with the stream.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn split_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').expect("a field line");
    (name.to_owned(), value.trim().to_owned())
}
