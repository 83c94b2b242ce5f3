//! From an accepted socket to a connection that speaks HTTP: the PROXY header if its sender may send one, then TLS, then
//! which version of HTTP.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::BytesMut;
use tokio_rustls::server::TlsStream;

use super::ConnInfo;
use super::deadline::Deadline;
use super::socket::{Socket, Transport};
use super::tls::{self, server::TlsInfo};
use crate::client_ip::{Addr, Peer, ProxySource, Scheme, SocketPeer};
use crate::config::{ListenerTimeouts, Protocols, ProxyProtocol};
use crate::proxy_protocol::{self, Decoded, Header};

/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a listener does to its connections before their first request.
#[derive(Debug)]
pub struct Setup<'a> {
    /// HTTP versions spoken.
    pub protocols: Protocols,
    /// Who may send a PROXY header.
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    /// Present when the listener speaks TLS.
    pub tls: Option<&'a tls::server::Server>,
    /// Deadlines.
    pub timeouts: ListenerTimeouts,
}

/// A connection ready for its first request.
#[derive(Debug)]
pub struct Established {
    /// Its bytes.
    pub transport: Transport,
    /// What is known about it.
    pub info: Box<ConnInfo>,
    /// What is spoken on it.
    pub version: HttpVersion,
    /// Of HTTP/1: read of its next request already.
    pub ahead: BytesMut,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a connection ended before its first request. Each closes it without an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was closed before it said anything: a probe.
    #[error("closed without a byte")]
    Silent,
    /// The preamble, the handshake or the first byte took too long.
    #[error("too slow")]
    TimedOut,
    /// A sender that must begin with a PROXY header didn't.
    #[error("the PROXY header is missing")]
    ProxyHeaderMissing,
    /// Two PROXY headers in a row.
    #[error("two PROXY headers")]
    ProxyHeaderTwice,
    /// A PROXY header that can't be believed.
    #[error("malformed PROXY header")]
    ProxyHeader(#[from] proxy_protocol::DecodeError),
    /// The TLS handshake failed.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// HTTP/2 where only HTTP/1 is spoken, or the reverse.
    #[error("an HTTP version that this listener doesn't speak")]
    Version,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// An accepted socket, and what is known about it.
#[derive(Debug)]
pub struct Arrival {
    socket: Socket,
    /// As yet. Boxed: it outlasts most of what a connection at rest gives up.
    pub info: Box<ConnInfo>,
}

impl Arrival {
    /// Of `peer`, at the listener's own address `local`.
    pub fn new(socket: Socket, peer: SocketPeer, local: Option<SocketAddr>) -> Self {
        Self {
            socket,
            info: Box::new(ConnInfo {
                peer: Peer {
                    socket: peer,
                    proxied: None,
                },
                local,
                destination: None,
                balancer: None,
                scheme: Scheme::Http,
                tls: None,
            }),
        }
    }

    /// Finds out who is at the other end: reads the PROXY header, if there may be one.
    ///
    /// # Errors
    /// [`Error`]: the socket is to be closed.
    pub async fn meet(&mut self, setup: &Setup<'_>, deadline: &Deadline) -> Result<(), Error> {
        if let Some(rule) = setup.proxy_protocol
            && rule.from.contains_peer(&self.info.peer.socket)
        {
            // Boxed: connections without one share this future's type.
            let reading = Box::pin(read_proxy_header(&mut self.socket, rule));
            let header = deadline.limit(rule.timeout, reading).await;
            if let Some(header) = header.ok_or(Error::TimedOut)?? {
                believe(&mut self.info, &header);
            }
        }
        Ok(())
    }

    /// Makes a connection of the socket.
    ///
    /// # Errors
    /// [`Error`]: the socket has been closed.
    pub async fn establish(
        self,
        setup: &Setup<'_>,
        deadline: &Deadline,
    ) -> Result<Established, Error> {
        let Self {
            mut socket,
            mut info,
        } = self;
        let (transport, version, ahead) = if let Some(server) = setup.tls {
            info.scheme = Scheme::Https;
            let (stream, tls) = accept_tls(socket, server, setup, deadline).await?;
            info.tls = tls;
            let version = negotiated(&stream, setup);
            (Transport::Tls(stream), version, BytesMut::new())
        } else {
            let version = sniff(&mut socket, setup, deadline).await?;
            let ahead = match version {
                // Read on in the same room.
                HttpVersion::Http1 => socket.take_ahead(),
                HttpVersion::Http2 => BytesMut::new(),
            };
            (Transport::Plain(socket), version, ahead)
        };
        Ok(Established {
            transport,
            info,
            version,
            ahead,
        })
    }
}

/// Reads the preamble of a sender that may send one; `None` when it doesn't begin with one and need not.
async fn read_proxy_header(
    socket: &mut Socket,
    rule: &ProxyProtocol,
) -> Result<Option<Header>, Error> {
    loop {
        match proxy_protocol::decode(socket.ahead())? {
            Decoded::Complete { header, len } => {
                socket.consume(len);
                // Only a whole second header shows here. The beginning of one may as well be that of a request; if it
                // isn't, the HTTP or TLS parser refuses it.
                return match proxy_protocol::decode(socket.ahead()) {
                    Ok(Decoded::Absent | Decoded::Incomplete) => Ok(Some(header)),
                    Ok(Decoded::Complete { .. }) | Err(_) => Err(Error::ProxyHeaderTwice),
                };
            }
            Decoded::Absent if rule.required => return Err(Error::ProxyHeaderMissing),
            Decoded::Absent => return Ok(None),
            Decoded::Incomplete => {
                let silent = socket.ahead().is_empty();
                if socket.read_ahead().await? == 0 {
                    return Err(if silent {
                        Error::Silent
                    } else {
                        Error::Io(io::ErrorKind::UnexpectedEof.into())
                    });
                }
            }
        }
    }
}

fn believe(info: &mut ConnInfo, header: &Header) {
    let Some(addresses) = header.addresses else {
        return;
    };
    // An unspecified or multicast source names nobody: the socket peer then speaks for itself.
    let Some(addr) = Addr::new(addresses.source.ip()) else {
        return;
    };
    info.peer.proxied = Some(ProxySource {
        addr,
        port: addresses.source.port(),
        version: header.version,
    });
    info.balancer = Some((addresses.destination, header.tlvs.ssl));
}

async fn accept_tls(
    socket: Socket,
    server: &tls::server::Server,
    setup: &Setup<'_>,
    deadline: &Deadline,
) -> Result<(Box<TlsStream<Socket>>, Option<Box<TlsInfo>>), Error> {
    // Boxed: the handshake's state is large, and plain connections share this future's type.
    let handshake = Box::pin(server.accept(socket.in_bulk()));
    let (stream, info) = deadline
        .limit(setup.timeouts.handshake, handshake)
        .await
        .ok_or(Error::TimedOut)?
        .map_err(Error::Tls)?;
    Ok((Box::new(stream), info))
}

fn negotiated(stream: &TlsStream<Socket>, setup: &Setup<'_>) -> HttpVersion {
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => HttpVersion::Http2,
        Some(_) => HttpVersion::Http1,
        None if setup.protocols.http1 => HttpVersion::Http1,
        None => HttpVersion::Http2,
    }
}

/// Tells HTTP/2 with prior knowledge from HTTP/1 by its first bytes.
async fn sniff(
    socket: &mut Socket,
    setup: &Setup<'_>,
    deadline: &Deadline,
) -> Result<HttpVersion, Error> {
    if setup.protocols.http2 {
        let sniffing = pin!(begins_with_preface(socket));
        let is_preface = deadline
            .limit(setup.timeouts.request_header, sniffing)
            .await
            .ok_or(Error::TimedOut)??;
        if is_preface {
            return Ok(HttpVersion::Http2);
        }
        if !setup.protocols.http1 {
            return Err(Error::Version);
        }
    }
    Ok(HttpVersion::Http1)
}

async fn begins_with_preface(socket: &mut Socket) -> Result<bool, Error> {
    loop {
        let ahead = socket.ahead();
        let len = ahead.len().min(PREFACE.len());
        if ahead.get(..len) != PREFACE.get(..len) {
            return Ok(false);
        }
        if len == PREFACE.len() {
            return Ok(true);
        }
        if socket.read_ahead().await? == 0 {
            return Err(if len == 0 {
                Error::Silent
            } else {
                Error::Io(io::ErrorKind::UnexpectedEof.into())
            });
        }
    }
}
