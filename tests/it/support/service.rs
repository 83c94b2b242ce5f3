//! An endpoint that serves on its own: many connections at once, counted, until it is killed.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::Wire;

/// What a service does with a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers every request.
    KeepAlive,
    /// Closes after an answer that didn't say so.
    CloseAfterAnswer,
    /// Reads a request and closes.
    CloseUnanswered,
}

/// A running service; killed when dropped.
pub(crate) struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    /// Bound to its port once it has been killed: else another test might listen there.
    successor: Option<Socket>,
}

struct Shared {
    manner: Manner,
    healthy: AtomicBool,
    dead: AtomicBool,
    requests: AtomicUsize,
    most_open: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Service {
    pub(crate) fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), manner)
    }

    pub(crate) fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            manner,
            healthy: AtomicBool::new(true),
            dead: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        Self {
            address: listener.local_addr().unwrap(),
            accepting: Some(std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || accept(&listener, &shared)
            })),
            successor: None,
            shared,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its answers' text.
    pub(crate) fn name(&self) -> String {
        self.address.port().to_string()
    }

    /// What it says to checks of `/healthz`.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, SeqCst);
    }

    /// Without those of `/healthz`.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(SeqCst)
    }

    pub(crate) fn most_open_at_once(&self) -> usize {
        self.shared.most_open.load(SeqCst)
    }

    /// Stops listening and resets every connection, as the end of a process does.
    pub(crate) fn kill(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.dead.store(true, SeqCst);
        // Ends the wait in `accept`.
        drop(TcpStream::connect(self.address));
        accepting.join().unwrap();
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        self.successor = Some(socket);
        for stream in self.shared.open().drain(..) {
            reset(&stream);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap()
    }
}

fn reset(stream: &TcpStream) {
    // Fails when the other end was faster.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Whether the other end hasn't closed, though the thread that serves it may not know yet.
fn is_open(stream: &TcpStream) -> bool {
    const MSG_PEEK: i32 = 0x2;
    const MSG_DONTWAIT: i32 = 0x40;
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(stream).recv_with_flags(&mut byte, MSG_PEEK | MSG_DONTWAIT);
    match peeked {
        Ok(length) => length > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        if shared.dead.load(SeqCst) {
            return;
        }
        let mut open = shared.open();
        open.retain(is_open);
        open.push(stream.try_clone().unwrap());
        shared.most_open.fetch_max(open.len(), SeqCst);
        drop(open);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            serve(&stream, &shared);
            let port = stream.peer_addr();
            let is_this = |other: &TcpStream| other.peer_addr().ok() == port.as_ref().ok().copied();
            shared.open().retain(|other| !is_this(other));
        });
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let name = stream.local_addr().unwrap().port().to_string();
    let answer = |status: &str, text: &str| {
        let length = text.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{text}")
    };
    let mut wire = Wire::tcp(stream.try_clone().unwrap());
    while let Some(request) = wire.next_request() {
        if request.start.starts_with("GET /healthz ") {
            let healthy = shared.healthy.load(SeqCst);
            let status = if healthy { "200 OK" } else { "500 Sick" };
            wire.offer(answer(status, ""));
            return;
        }
        shared.requests.fetch_add(1, SeqCst);
        if shared.manner == Manner::CloseUnanswered {
            return;
        }
        wire.offer(answer("200 OK", &name));
        if shared.manner == Manner::CloseAfterAnswer {
            return;
        }
    }
}
