//! Where the admin interface listens: what a new configuration asks for and is there already stays.

use std::io;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Address;
use crate::transport::listener::{self, BoundAddress, ListeningSocket, Sharing};

/// The addresses that are listened on.
#[derive(Debug, Default)]
pub(super) struct Doors(Vec<Door>);

/// One of them. Dropping it ends the accepting, and lets its connections finish what they are at.
#[derive(Debug)]
struct Door {
    wanted: Address,
    bound: BoundAddress,
    _open: DropGuard,
}

/// How a configuration would be listened for.
#[derive(Debug)]
pub(super) struct Plan {
    wanted: Vec<Address>,
    new: Vec<New>,
}

/// An address that was bound for a plan.
#[derive(Debug)]
struct New {
    wanted: Address,
    bound: BoundAddress,
    socket: ListeningSocket,
}

/// A socket to accept on, until `end`.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) socket: Socket,
    pub(super) end: CancellationToken,
}

/// A socket the runtime knows.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Doors {
    /// Binds what is wanted and isn't there. What is there stays, until [`Doors::commit`].
    pub(super) fn plan(&self, wanted: &[Address]) -> Result<Plan, listener::Error> {
        let missing = wanted
            .iter()
            .filter(|address| self.0.iter().all(|door| door.wanted != **address));
        let new: Result<_, _> = missing.map(|address| self.bind(address)).collect();
        Ok(Plan {
            wanted: wanted.to_vec(),
            new: new?,
        })
    }

    fn bind(&self, wanted: &Address) -> Result<New, listener::Error> {
        // Another address with the same port: whether somebody else has it was found out when it was bound.
        let is_ours =
            |door: &Door| door.wanted.port().is_some() && door.wanted.port() == wanted.port();
        let sharing = if self.0.iter().any(is_ours) {
            Sharing::Shared
        } else {
            Sharing::Exclusive
        };
        let mut bound = listener::bind(wanted, sharing, 1)?;
        let socket = bound.sockets.pop().ok_or_else(|| listener::Error {
            address: bound.address.to_string(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok(New {
            wanted: wanted.clone(),
            bound: bound.address,
            socket,
        })
    }

    /// The plan's addresses are listened on from now on, and no other: what is new is returned, to be accepted on.
    ///
    /// # Errors
    /// The runtime refuses a socket; the others are taken all the same.
    pub(super) fn commit(&mut self, plan: Plan) -> Vec<io::Result<Accepting>> {
        self.0.retain(|door| plan.wanted.contains(&door.wanted));
        let accepting = plan.new.into_iter().map(|new| {
            let socket = match new.socket {
                ListeningSocket::Tcp(socket) => {
                    Socket::Tcp(tokio::net::TcpListener::from_std(socket)?)
                }
                ListeningSocket::Unix(socket) => {
                    Socket::Unix(tokio::net::UnixListener::from_std(socket)?)
                }
            };
            let end = CancellationToken::new();
            self.0.push(Door {
                wanted: new.wanted,
                bound: new.bound,
                _open: end.clone().drop_guard(),
            });
            Ok(Accepting { socket, end })
        });
        accepting.collect()
    }

    /// In no particular order.
    pub(super) fn bound(&self) -> impl Iterator<Item = &BoundAddress> {
        self.0.iter().map(|door| &door.bound)
    }
}
