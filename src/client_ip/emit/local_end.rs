//! Our own end of a connection.

use std::net::SocketAddr;
use std::num::NonZeroU16;

/// The scheme of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Our own end of the connection: what forwarding fields say when no trusted peer said better.
#[derive(Debug, Clone, Copy)]
pub struct LocalEnd {
    /// Our own connection's scheme, or that of the PROXY TLV SSL.
    pub scheme: Scheme,
    /// PROXY destination port, else `public_port`, else the local port; `None` on a Unix socket.
    pub port: Option<u16>,
    /// For `by=`: our own address; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
}

impl LocalEnd {
    /// As the listener knows it: `public_port` is the port by which the outside knows this one.
    pub fn new(
        scheme: Scheme,
        address: Option<SocketAddr>,
        public_port: Option<NonZeroU16>,
    ) -> Self {
        Self {
            scheme,
            port: public_port
                .map(NonZeroU16::get)
                .or(address.map(|address| address.port())),
            address,
        }
    }

    /// As the balancer that sent a PROXY header knows it: `destination` is where the client connected, `tls` whether it
    /// spoke TLS there, when the balancer said so. Port 443 speaks for itself: balancers that end TLS seldom send the TLV.
    #[must_use]
    pub fn behind_balancer(self, destination: SocketAddr, tls: Option<bool>) -> Self {
        let is_https = tls.unwrap_or(destination.port() == HTTPS_PORT);
        Self {
            scheme: if is_https { Scheme::Https } else { self.scheme },
            port: Some(destination.port())
                .filter(|port| *port != 0)
                .or(self.port),
            ..self
        }
    }
}

const HTTPS_PORT: u16 = 443;
