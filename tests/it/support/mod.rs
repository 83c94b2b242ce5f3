//! What the tests share: a running proxy, both ends of it, and certificates.

mod authority;
mod certificate;
pub(crate) mod frames;
mod http2;
mod http2_wire;
mod load;
mod proxy;
mod service;
mod upstream;
pub(crate) mod websocket;
mod wire;

use std::time::Duration;

pub(crate) use authority::{Authority, Issued, TlsWire, for_client};
pub(crate) use certificate::{Certificate, TlsClient, refusal};
pub(crate) use http2::{exchange, requests};
pub(crate) use http2_wire::{Frame, Http2Wire};
pub(crate) use load::{Load, Origin};
pub(crate) use proxy::{EXECUTABLE, Proxy, connect, headwater, program};
pub(crate) use service::{Manner, Service};
pub(crate) use upstream::{Upstream, closed_port};
pub(crate) use wire::{Message, Wire};

/// Nothing here takes longer on a busy machine; what does has hung.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The smallest response there is.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A request that every route matches.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";
