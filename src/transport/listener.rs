//! Binding: one `SO_REUSEPORT` socket per worker and address, so that the kernel spreads connections without a lock.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};

use crate::config::Address;

/// Connections the kernel completes before we accept them; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What the kernel may hold for a client that isn't on its way yet. By itself it takes up to megabytes, and asks for more
/// only when a third of them is gone: a slow client would seem to take nothing for a long time.
const NOT_SENT_BYTES: u32 = 128 * 1024;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {address}")]
pub struct Error {
    /// As a person writes it.
    pub address: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A bound address: one listening socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// With the real port where port 0 was asked for.
    pub address: BoundAddress,
    /// As many as there are workers.
    pub sockets: Vec<ListeningSocket>,
}

/// Where a listener really listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundAddress {
    /// An address of this machine, or a wildcard.
    Ip(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl std::fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket in the listening state, not yet known to any runtime.
#[derive(Debug)]
pub enum ListeningSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix stream socket, shared by the workers.
    Unix(std::os::unix::net::UnixListener),
}

/// What a second process may do with the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It gets "address in use".
    Exclusive,
    /// It may bind too, if it asks to share as well: a handover.
    Shared,
}

/// Binds `address` once for each of `workers` workers.
///
/// # Errors
/// When the address is in use, not ours, or not permitted.
pub fn bind(address: &Address, sharing: Sharing, workers: usize) -> Result<Bound, Error> {
    match address {
        Address::Unix(path) => bind_unix(path, workers),
        Address::Ip(address) => bind_tcp(*address, Family::One, sharing, workers),
        Address::Dual(port) => {
            let dual = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
            match bind_tcp(dual, Family::Dual, sharing, workers) {
                // A machine without IPv6: every interface then means IPv4.
                Err(error) if lacks_ipv6(&error.source) => {
                    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port));
                    bind_tcp(any, Family::One, sharing, workers)
                }
                outcome => outcome,
            }
        }
    }
}

/// Has the kernel drop requests for connections to `socket`, while handshakes that have begun go on: the client asks
/// again, and another socket of the same address may answer.
///
/// # Errors
/// The kernel refuses the filter.
pub fn turn_away(socket: &impl AsFd) -> io::Result<()> {
    // A filter of the classic machine: drop a segment whose flags (byte 13 of the TCP header) hold SYN without ACK,
    // keep all of any other.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Whether the kernel moves connections that a closed socket hasn't handed out, and handshakes, to other sockets of the
/// same address: `net.ipv4.tcp_migrate_req`, off unless somebody turned it on.
pub fn kernel_migrates() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req")
        .is_ok_and(|setting| setting.trim() == "1")
}

/// A listening socket that somebody else has bound, for each of `workers` workers: they take turns.
///
/// # Errors
/// The socket can't be used, or not be shared.
pub fn adopt(socket: &ListeningSocket, workers: usize) -> io::Result<Bound> {
    let address = match socket {
        ListeningSocket::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            SockRef::from(socket).set_tcp_nodelay(true)?;
            BoundAddress::Ip(socket.local_addr()?)
        }
        ListeningSocket::Unix(socket) => {
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            BoundAddress::Unix(
                address
                    .as_pathname()
                    .map_or_else(PathBuf::new, Path::to_owned),
            )
        }
    };
    let sockets = (0..workers).map(|_| match socket {
        ListeningSocket::Tcp(socket) => socket.try_clone().map(ListeningSocket::Tcp),
        ListeningSocket::Unix(socket) => socket.try_clone().map(ListeningSocket::Unix),
    });
    Ok(Bound {
        address,
        sockets: sockets.collect::<io::Result<_>>()?,
    })
}

/// Which families a socket takes connections of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    One,
    Dual,
}

fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn bind_tcp(
    wanted: SocketAddr,
    family: Family,
    sharing: Sharing,
    workers: usize,
) -> Result<Bound, Error> {
    let failed = |source| Error {
        address: wanted.to_string(),
        source,
    };
    // With SO_REUSEPORT alone a second process of the same user would share the port unnoticed.
    if sharing == Sharing::Exclusive && wanted.port() != 0 {
        tcp_socket(wanted, family)
            .and_then(|probe| probe.bind(&wanted.into()))
            .map_err(failed)?;
    }
    let mut address = wanted;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = listen(address, family).map_err(failed)?;
        address = listener.local_addr().map_err(failed)?;
        sockets.push(ListeningSocket::Tcp(listener));
    }
    Ok(Bound {
        address: BoundAddress::Ip(address),
        sockets,
    })
}

fn listen(address: SocketAddr, family: Family) -> io::Result<std::net::TcpListener> {
    let socket = tcp_socket(address, family)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit these, which saves system calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn tcp_socket(address: SocketAddr, family: Family) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(family == Family::One)?;
    }
    Ok(socket)
}

fn bind_unix(path: &Path, workers: usize) -> Result<Bound, Error> {
    let failed = |source| Error {
        address: format!("unix:{}", path.display()),
        source,
    };
    remove_stale(path).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    socket.bind(&address).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let listener: std::os::unix::net::UnixListener = socket.into();
    let sockets = (0..workers)
        .map(|_| listener.try_clone().map(ListeningSocket::Unix))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    Ok(Bound {
        address: BoundAddress::Unix(path.to_owned()),
        sockets,
    })
}

/// Removes the socket file of a process that is gone; one that still answers is in use.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket",
        )),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: Address = Address::Ip(SocketAddr::V4(std::net::SocketAddrV4::new(
        Ipv4Addr::LOCALHOST,
        0,
    )));

    fn port(bound: &Bound) -> u16 {
        match &bound.address {
            BoundAddress::Ip(address) => address.port(),
            BoundAddress::Unix(_) => panic!("not an IP address"),
        }
    }

    #[test]
    fn every_worker_listens_on_the_same_port() {
        let bound = bind(&LOOPBACK, Sharing::Exclusive, 3).unwrap();
        let ports: Vec<u16> = bound
            .sockets
            .iter()
            .map(|socket| match socket {
                ListeningSocket::Tcp(listener) => listener.local_addr().unwrap().port(),
                ListeningSocket::Unix(_) => panic!("not TCP"),
            })
            .collect();
        assert_eq!(ports, vec![port(&bound); 3]);
    }

    #[test]
    fn an_exclusive_address_is_refused_to_a_second_binder() {
        let first = bind(&LOOPBACK, Sharing::Exclusive, 2).unwrap();
        let same = Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, port(&first))));
        let error = bind(&same, Sharing::Exclusive, 2).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        bind(&same, Sharing::Shared, 2).unwrap();
    }

    #[test]
    fn a_dual_listener_takes_both_families() {
        let bound = bind(&Address::Dual(0), Sharing::Exclusive, 1).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port(&bound))).unwrap();
        if let BoundAddress::Ip(SocketAddr::V6(_)) = bound.address {
            std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port(&bound))).unwrap();
        }
    }

    #[test]
    fn an_explicit_ipv6_wildcard_leaves_ipv4_alone() {
        let v6 = Address::Ip(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
        // Somebody else may have the port that the kernel chose for IPv6; not every time.
        let both = |_| {
            let Ok(bound) = bind(&v6, Sharing::Exclusive, 1) else {
                return true; // a machine without IPv6 has nothing to separate
            };
            let v4 = Address::Ip(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port(&bound))));
            bind(&v4, Sharing::Exclusive, 1).is_ok()
        };
        assert!((0..20).any(both));
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(dir.path().join("s"));
        let first = bind(&address, Sharing::Exclusive, 2).unwrap();
        let error = bind(&address, Sharing::Exclusive, 2).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(&address, Sharing::Exclusive, 2).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        bind(&Address::Unix(path.clone()), Sharing::Exclusive, 1).unwrap_err();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "x");
    }

    #[test]
    fn who_is_turned_away_hears_nothing_and_who_is_in_stays() {
        use std::io::{Read, Write};
        let mut bound = bind(&LOOPBACK, Sharing::Shared, 1).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&bound)));
        let Some(ListeningSocket::Tcp(socket)) = bound.sockets.pop() else {
            panic!("not TCP")
        };
        let mut inside = std::net::TcpStream::connect(address).unwrap();
        turn_away(&socket).unwrap();
        let patience = std::time::Duration::from_millis(100);
        let turned_away = std::net::TcpStream::connect_timeout(&address, patience).unwrap_err();
        assert_eq!(turned_away.kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _) = socket.accept().unwrap();
        accepted.set_nonblocking(false).unwrap();
        inside.write_all(b"in").unwrap();
        let mut read = [0; 2];
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"in");
    }
}
