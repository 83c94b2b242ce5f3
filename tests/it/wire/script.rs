//! The upstream of a row: answers as it says, and keeps every byte it got.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use socket2::SockRef;

use super::case::Ends;
use super::message;
use crate::support::DEADLINE;

/// The request that shows whether a connection goes on, and its answer.
pub(crate) const NEXT: &str = "GET /next HTTP/1.1\r\nhost: app.test\r\n\r\n";
const NEXT_START: &[u8] = b"GET /next ";
pub(crate) const NEXT_BODY: &str = "the answer to the next";

/// What to do with a request.
#[derive(Clone, Default)]
pub(crate) struct Play {
    pub(crate) answer: Vec<u8>,
    pub(crate) early: bool,
    pub(crate) ends: Ends,
}

/// What came, beside [`NEXT`].
#[derive(Clone, Default, Debug)]
pub(crate) struct Got {
    pub(crate) whole: usize,
    pub(crate) bytes: Vec<u8>,
    /// [`NEXT`] came on a connection that had another request before.
    pub(crate) reused: bool,
    arrived: bool,
}

#[derive(Default)]
struct State {
    play: Play,
    got: Got,
    live: Vec<(usize, TcpStream)>,
    taken: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Listens until the process ends.
pub(crate) struct Script(Arc<Shared>);

impl Script {
    pub(crate) fn listen(address: &str) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_listener = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_listener);
                let number = shared.take(&stream);
                std::thread::spawn(move || {
                    shared.serve(stream, number);
                    shared.forget(number);
                });
            }
        });
        (Self(shared), address)
    }

    pub(crate) fn begin(&self, play: Play) {
        let mut state = self.0.state.lock().unwrap();
        state.play = play;
        state.got = Got::default();
    }

    /// Waits until something came.
    pub(crate) fn await_bytes(&self, patience: Duration) {
        let state = self.0.state.lock().unwrap();
        let wait = |state: &mut State| !state.got.arrived;
        drop(self.0.changed.wait_timeout_while(state, patience, wait));
    }

    /// Closes what is open, waits for the other side to do so too, and tells what came.
    pub(crate) fn end(&self) -> Got {
        let state = self.0.state.lock().unwrap();
        for (_, stream) in &state.live {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let wait = |state: &mut State| !state.live.is_empty();
        let waited = self.0.changed.wait_timeout_while(state, DEADLINE, wait);
        let (mut state, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "a connection outlives its upstream");
        std::mem::take(&mut state.got)
    }
}

impl Shared {
    fn take(&self, stream: &TcpStream) -> usize {
        let mut state = self.state.lock().unwrap();
        state.taken += 1;
        let number = state.taken;
        state.live.push((number, stream.try_clone().unwrap()));
        number
    }

    fn forget(&self, number: usize) {
        let mut state = self.state.lock().unwrap();
        state.live.retain(|(live, _)| *live != number);
        self.changed.notify_all();
    }

    fn serve(&self, mut stream: TcpStream, number: usize) {
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 16 * 1024];
        let mut answered = false;
        let mut used = false;
        // Whatever ends it, the proxy's behaviour shows in what came.
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            request.extend_from_slice(&piece[..length]);
            self.arrived();
            while let Some(length) = message::request_length(&request) {
                let rest = request.split_off(length);
                let one = std::mem::replace(&mut request, rest);
                if one.starts_with(NEXT_START) {
                    self.state.lock().unwrap().got.reused |= used;
                    let length = NEXT_BODY.len();
                    // The proxy may take its time to find a connection closed that it keeps.
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                    );
                    let _ = stream.write_all((head + NEXT_BODY).as_bytes());
                    continue;
                }
                used = true;
                self.keep(&one, 1);
                if !std::mem::take(&mut answered) && !self.answer(&mut stream, number) {
                    return;
                }
            }
            let begun = message::head_length(&request).is_some();
            if begun && !answered && self.state.lock().unwrap().play.early {
                answered = true;
                if !self.answer(&mut stream, number) {
                    break;
                }
            }
        }
        if !request.starts_with(NEXT_START) {
            self.keep(&request, 0);
        }
    }

    /// Whether the connection goes on.
    fn answer(&self, stream: &mut TcpStream, number: usize) -> bool {
        let play = self.state.lock().unwrap().play.clone();
        // Its head may be refused before it is whole.
        let _ = stream.write_all(&play.answer);
        match play.ends {
            Ends::Keeps => true,
            Ends::Closes => {
                let _ = stream.shutdown(Shutdown::Both);
                false
            }
            Ends::Resets => {
                let socket = SockRef::from(&*stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                // The other handle would keep it open.
                self.forget(number);
                false
            }
        }
    }

    fn arrived(&self) {
        self.state.lock().unwrap().got.arrived = true;
        self.changed.notify_all();
    }

    fn keep(&self, bytes: &[u8], whole: usize) {
        let mut state = self.state.lock().unwrap();
        state.got.whole += whole;
        state.got.bytes.extend_from_slice(bytes);
    }
}
