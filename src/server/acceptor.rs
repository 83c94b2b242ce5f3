//! One listening socket of one worker: accepts for as long as it is wanted, and is closed so that nobody is turned away
//! who was connected.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net;
use std::os::unix;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::client_ip::{Addr, SocketPeer};
use crate::transport::deadline::Deadlines;
use crate::transport::listener::{self, ListeningSocket};
use crate::transport::socket::Socket;

use super::admission::{Rarely, Seat};
use super::listening::{Farewell, SocketId};
use super::serving::Listener;
use super::worker::Accepting;

/// Between two attempts to accept when the process is out of descriptors or memory.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How long a queue is kept for whose clients there are no descriptors: connections that rest are ending, and give theirs
/// back.
const DESCRIPTORS_TIME: Duration = Duration::from_secs(3);

/// How long handshakes that had begun may take to end before a socket is closed of which another process has a twin.
/// A client that is slower is reset, and one that comes meanwhile tries again after a second.
const HANDSHAKE_TIME: Duration = Duration::from_millis(300);

/// Accepts connections, and has them treated as the settings of the moment say.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) id: SocketId,
    /// Its connections are to end.
    pub(super) draining: Rc<Cell<bool>>,
    /// `None`: closed.
    socket: RefCell<Option<Accept>>,
    listener: RefCell<Option<Rc<Listener>>>,
    farewell: Cell<Farewell>,
}

#[derive(Debug)]
enum Accept {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Doesn't accept yet.
    ///
    /// # Errors
    /// The socket can't be watched.
    pub(super) fn new(socket: ListeningSocket, accepting: &Accepting) -> io::Result<Rc<Self>> {
        let socket = match socket {
            ListeningSocket::Tcp(socket) => Accept::Tcp(TcpListener::from_std(socket)?),
            ListeningSocket::Unix(socket) => Accept::Unix(UnixListener::from_std(socket)?),
        };
        Ok(Rc::new(Self {
            id: accepting.id,
            draining: Rc::default(),
            socket: RefCell::new(Some(socket)),
            listener: RefCell::default(),
            farewell: Cell::new(accepting.farewell),
        }))
    }

    /// Connections accepted from now on are `listener`'s.
    pub(super) fn treat_by(&self, listener: Listener, farewell: Farewell) {
        self.farewell.set(farewell);
        let listener = Rc::new(listener);
        self.listener.replace(Some(Rc::clone(&listener)));
        // Whoever waits for a seat may have one by these settings.
        listener.wake_waiting();
    }

    /// Accepts until the socket is closed.
    pub(super) async fn accept_all(self: Rc<Self>) {
        let failing = Rarely::default();
        while let Some(accepted) = poll_fn(|cx| self.poll_accept(cx)).await {
            match accepted {
                Ok((socket, peer)) => {
                    // Whoever comes next waits in the kernel's queue meanwhile.
                    if let Some(listener) = self.listener() {
                        let open = listener.open();
                        if let Some((listener, seat)) = poll_fn(|cx| self.poll_seat(cx)).await {
                            listener.begin(socket, peer, open, seat);
                        }
                    }
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if failing.may_be_told() {
                        tracing::warn!(%error, "can't accept connections: trying again");
                    }
                    if let Some(listener) = self.listener() {
                        listener.want_descriptor();
                    }
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    /// By the settings of the moment.
    fn poll_seat(&self, cx: &Context<'_>) -> Poll<Option<(Rc<Listener>, Seat)>> {
        match self.listener() {
            Some(listener) => listener.poll_seat(cx).map(|seat| Some((listener, seat))),
            None => Poll::Ready(None),
        }
    }

    fn listener(&self) -> Option<Rc<Listener>> {
        self.listener.borrow().clone()
    }

    /// `None` when the socket is closed.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<(Socket, SocketPeer)>>> {
        match &*self.socket.borrow() {
            Some(socket) => socket.poll_accept(cx).map(Some),
            None => Poll::Ready(None),
        }
    }

    /// Sees to it that no handshake begins any more; whether that was possible.
    fn turn_away(&self) -> bool {
        match &*self.socket.borrow() {
            Some(Accept::Tcp(socket)) => listener::turn_away(socket).is_ok(),
            _ => false,
        }
    }

    /// Takes what the kernel has accepted already, for closing the socket would reset it; and closes the socket. Where
    /// descriptors lack it waits for some, and not beyond `patience`.
    async fn close(&self, patience: Instant) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        if self.farewell.get() == Farewell::LeaveQueue {
            return;
        }
        // Not as usual: the runtime tries only sockets of which it has been told, and may not have been yet.
        let Ok(mut queue) = Queue::of(socket) else {
            return;
        };
        loop {
            match queue.next() {
                Ok((socket, peer)) => {
                    if let Some(listener) = self.listener() {
                        let open = listener.open();
                        listener.begin(socket, peer, open, listener.spare_seat());
                    }
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) if Instant::now() < patience => {
                    if let Some(listener) = self.listener() {
                        listener.want_descriptor();
                    }
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept what waits at a socket that closes");
                    return;
                }
            }
        }
    }
}

impl Accept {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketPeer)>> {
        match self {
            Self::Tcp(socket) => socket.poll_accept(cx).map_ok(|(stream, address)| {
                let peer = SocketPeer::Ip(Addr::from_socket(address), address.port());
                (Socket::from(stream), peer)
            }),
            Self::Unix(socket) => socket
                .poll_accept(cx)
                .map_ok(|(stream, _)| (Socket::from(stream), SocketPeer::Unix)),
        }
    }
}

/// A listening socket the runtime knows no more.
enum Queue {
    Tcp(net::TcpListener),
    Unix(unix::net::UnixListener),
}

impl Queue {
    fn of(socket: Accept) -> io::Result<Self> {
        Ok(match socket {
            Accept::Tcp(socket) => Self::Tcp(socket.into_std()?),
            Accept::Unix(socket) => Self::Unix(socket.into_std()?),
        })
    }

    fn next(&mut self) -> io::Result<(Socket, SocketPeer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept()?;
                stream.set_nonblocking(true)?;
                let peer = SocketPeer::Ip(Addr::from_socket(address), address.port());
                Ok((Socket::from(TcpStream::from_std(stream)?), peer))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((
                    Socket::from(UnixStream::from_std(stream)?),
                    SocketPeer::Unix,
                ))
            }
        }
    }
}

/// Closes listening sockets, and has their connections end when they have finished what they are about.
pub(super) async fn close(acceptors: Vec<Rc<Acceptor>>, clock: &Deadlines) {
    for acceptor in &acceptors {
        acceptor.draining.set(true);
        if let Some(listener) = acceptor.listener() {
            listener.wake_waiting();
        }
    }
    clock.wake_all();
    let patience = Instant::now() + DESCRIPTORS_TIME;
    let (shared, own): (Vec<_>, Vec<_>) = acceptors.into_iter().partition(|acceptor| {
        acceptor.farewell.get() == Farewell::HandOver && acceptor.turn_away()
    });
    for acceptor in own {
        acceptor.close(patience).await;
    }
    if !shared.is_empty() {
        tokio::time::sleep(HANDSHAKE_TIME).await;
        for acceptor in shared {
            acceptor.close(patience).await;
        }
    }
}

/// Whether the error concerns the connection that was being accepted, and not the listening socket or the process.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
