//! Bytes: listening, accepting, TLS, PROXY headers, deadlines, and dialling endpoints.
//!
//! Promises that nothing above this floor touches a socket option, and that every wait here has a deadline.
//! Of HTTP it knows how an HTTP/1 client's bytes become messages ([`wire`]), and HTTP/2's frames by their headers.

pub mod activity;
pub mod buffers;
pub mod client_body;
pub mod deadline;
pub mod dial;
pub mod establish;
pub mod frames;
pub mod input;
pub mod io;
pub mod listener;
mod output;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod wire;

use std::net::SocketAddr;

use crate::client_ip::{Peer, Scheme};

use tls::server::TlsInfo;

/// What is known about an established connection before its first request.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// The socket peer, and the source in its PROXY header if it was allowed to send one.
    pub peer: Peer,
    /// Our own address, as far as forwarding fields need it; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// Our address that this very connection was made to; known where a PROXY header is sent to any endpoint.
    pub destination: Option<SocketAddr>,
    /// Where the client connected, and whether it spoke TLS there, as the PROXY header of a balancer says.
    pub balancer: Option<(SocketAddr, Option<bool>)>,
    /// Of our own connection.
    pub scheme: Scheme,
    /// What its TLS handshake told, if that is of use to requests.
    pub tls: Option<Box<TlsInfo>>,
}
