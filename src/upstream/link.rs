//! How an endpoint is reached: which HTTP version, whether over TLS, and whether a PROXY header says who the client is.
//!
//! A [`Channel`] is for one exchange: `LocalEndpoint::kept` gives an idle connection or a stream of one that is shared,
//! `LocalEndpoint::connect` a new one. Nothing of a request has been sent when that fails.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use rustls::pki_types::ServerName;

use crate::config::{ProxyHeader, UpstreamProtocol};
use crate::transport::deadline::TICK;
use crate::transport::dial::{self, Announced, Preamble, Stream};
use crate::transport::tls::client::Client;

use super::endpoint::Permit;
use super::h2::BeingMade;
use super::{LocalEndpoint, h1, h2};

/// How an endpoint is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which HTTP version.
    pub protocol: UpstreamProtocol,
    /// TLS, and the name its certificate must be valid for.
    pub tls: Option<(Arc<Client>, ServerName<'static>)>,
    /// What goes ahead of each connection.
    pub proxy_header: Option<ProxyHeader>,
}

impl Link {
    /// HTTP/1.1, and nothing before it.
    fn is_plain(&self) -> bool {
        self.protocol == UpstreamProtocol::Http1
            && self.tls.is_none()
            && self.proxy_header.is_none()
    }

    /// Which version is spoken on a connection that was to speak `protocol`.
    ///
    /// # Errors
    /// [`dial::Error::NoCommonProtocol`].
    pub fn version(
        &self,
        protocol: UpstreamProtocol,
        stream: &Stream,
    ) -> Result<Version, dial::Error> {
        let chose_http2 = stream.alpn() == Some(b"h2");
        match protocol {
            UpstreamProtocol::Http1 => Ok(Version::HTTP_11),
            UpstreamProtocol::Negotiated if !chose_http2 => Ok(Version::HTTP_11),
            // RFC 9113 §3.2: over TLS it isn't HTTP/2 unless both said so.
            UpstreamProtocol::Http2 if self.tls.is_some() && !chose_http2 => {
                Err(dial::Error::NoCommonProtocol)
            }
            UpstreamProtocol::Negotiated | UpstreamProtocol::Http2 => Ok(Version::HTTP_2),
        }
    }

    /// What comes before HTTP on a connection that is to speak `protocol`.
    pub fn preamble(
        &self,
        protocol: UpstreamProtocol,
        announced: Option<Announced>,
    ) -> Preamble<'_> {
        let tls = self.tls.as_ref();
        Preamble {
            proxy_header: self.proxy_header.map(|version| (version, announced)),
            tls: tls.map(|(client, name)| (client.config(protocol), name)),
        }
    }
}

/// A way to exchange one message with an endpoint.
#[derive(Debug)]
pub enum Channel {
    /// A connection of its own.
    Http1(Box<h1::Connection>),
    /// A stream of a connection that others use as well.
    Http2(h2::Slot),
}

/// What a request wants of its channel.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What for.
    pub purpose: Purpose,
    /// Whether a connection that has been idle will do.
    pub reuse: Reuse,
    /// Whose request it is, where a PROXY header is sent.
    pub announced: Option<Announced>,
    /// Bound on response heads, of which HTTP/2 is told when a connection begins.
    pub max_head_bytes: usize,
}

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A request and its response.
    Exchange,
    /// Perhaps a tunnel: over HTTP/2 only where the endpoint takes extended CONNECT (RFC 8441).
    WebSocket,
}

/// Whether a connection that has been idle will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Yes.
    Welcome,
    /// Yes, if it is found open at this very moment: what is lost with it can't be sent again.
    IfOpen,
    /// No: one like it has just turned out to be closed. HTTP/2 connections are known to be open, and are shared anyway.
    Avoided,
}

/// A connection that couldn't be made.
#[derive(Debug)]
pub(super) struct Unreached {
    /// Why.
    pub(super) error: dial::Error,
    /// Whose attempt it was.
    pub(super) attempt: Attempt,
}

/// Whose attempt at a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The request's own.
    Own,
    /// That of another request, for which this one waited.
    Shared,
}

impl Unreached {
    fn own(error: dial::Error) -> Self {
        Self {
            error,
            attempt: Attempt::Own,
        }
    }

    fn shared(error: dial::Error) -> Self {
        Self {
            error,
            attempt: Attempt::Shared,
        }
    }
}

impl LocalEndpoint {
    /// A channel that needs no new connection.
    pub(super) fn kept(&self, wanted: Wanted) -> Option<Channel> {
        let protocol = self.protocol(wanted.purpose);
        if protocol != UpstreamProtocol::Http2 && wanted.reuse != Reuse::Avoided {
            let pooled = match self.endpoint.link.proxy_header {
                None => self.pool.checkout(wanted.reuse),
                Some(_) => self.pool.checkout_for(wanted.announced, wanted.reuse),
            };
            if let Some(connection) = pooled {
                return Some(Channel::Http1(connection));
            }
        }
        if protocol == UpstreamProtocol::Http1 {
            return None;
        }
        self.sessions.checkout(wanted).map(Channel::Http2)
    }

    /// A connection that somebody else is making, and that will do.
    pub(super) fn being_made(&self, wanted: Wanted) -> Option<Rc<BeingMade>> {
        self.is_shared(self.protocol(wanted.purpose))
            .then(|| self.sessions.join(wanted.announced))
            .flatten()
    }

    /// Waits for a connection that somebody else is making. `None` when it won't do after all.
    ///
    /// # Errors
    /// [`Unreached`]: there is none.
    pub(super) async fn join(
        &self,
        made: &BeingMade,
        wanted: Wanted,
    ) -> Result<Option<Channel>, Unreached> {
        made.over().await.map_err(Unreached::shared)?;
        Ok(self.sessions.checkout(wanted).map(Channel::Http2))
    }

    /// Makes a connection within `limit`. `None` when it turned out to be one for others: there is a way now that was
    /// not known before.
    ///
    /// # Errors
    /// [`Unreached`]: nothing was sent.
    pub(super) async fn connect(
        &self,
        permit: Permit,
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Option<Channel>, Unreached> {
        if self.endpoint.link.is_plain() {
            let connection = self.dial(permit, limit).await.map_err(Unreached::own)?;
            return Ok(Some(Channel::Http1(connection)));
        }
        // Boxed: TLS' state is large, and plain requests share this future's type.
        let outcome = Box::pin(self.dial_for(permit, wanted, limit)).await;
        outcome.map_err(Unreached::own)
    }

    async fn dial_for(
        &self,
        permit: Permit,
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Option<Channel>, dial::Error> {
        let protocol = self.protocol(wanted.purpose);
        let is_hopeless = wanted.purpose == Purpose::WebSocket
            && protocol == UpstreamProtocol::Http2
            && self.sessions.refuses_websockets();
        if is_hopeless && !self.sessions.is_empty() {
            return Err(dial::Error::NoWebSockets);
        }
        let making = self
            .is_shared(protocol)
            .then(|| self.sessions.make(wanted.announced));
        let outcome = self.dial_through(permit, protocol, wanted, limit).await;
        if let (Err(error), Some(making)) = (&outcome, making) {
            making.fail(error);
        }
        match outcome? {
            Channel::Http2(slot)
                if wanted.purpose == Purpose::WebSocket && !slot.takes_websockets() =>
            {
                match protocol {
                    // In HTTP/1.1 it may well take them.
                    UpstreamProtocol::Negotiated => Ok(None),
                    _ => Err(dial::Error::NoWebSockets),
                }
            }
            channel => Ok(Some(channel)),
        }
    }

    /// What a connection for this purpose is to speak.
    fn protocol(&self, purpose: Purpose) -> UpstreamProtocol {
        match (self.endpoint.link.protocol, purpose) {
            (UpstreamProtocol::Negotiated, Purpose::WebSocket)
                if self.sessions.refuses_websockets() =>
            {
                UpstreamProtocol::Http1
            }
            (protocol, _) => protocol,
        }
    }

    /// Whether a new connection would carry many requests, as far as we know.
    fn is_shared(&self, protocol: UpstreamProtocol) -> bool {
        match protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Negotiated => !self.chose_http1.get(),
        }
    }

    async fn dial_through(
        &self,
        permit: Permit,
        protocol: UpstreamProtocol,
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Channel, dial::Error> {
        let link = &self.endpoint.link;
        let deadline = self.clock.register();
        let begun = self.clock.now();
        let to = self.endpoint.address.as_destination();
        let preamble = link.preamble(protocol, wanted.announced);
        let stream = dial::with_preamble(to, preamble, limit, &deadline).await?;
        let version = link.version(protocol, &stream)?;
        if protocol == UpstreamProtocol::Negotiated {
            self.chose_http1.set(version == Version::HTTP_11);
        }
        if version == Version::HTTP_2 {
            // SETTINGS are part of the connection, and have what is left of its time.
            let ticks = u32::try_from(self.clock.now() - begun).unwrap_or(u32::MAX);
            let left = limit.saturating_sub(TICK.saturating_mul(ticks));
            let slot = self.sessions.begin(stream, permit, wanted, left, deadline);
            slot.await.map(Channel::Http2)
        } else {
            let connection = h1::Connection::new(stream, deadline, permit);
            Ok(Channel::Http1(connection.announced(wanted.announced)))
        }
    }
}
