//! The HTTP/1.1 wire: bytes in, values out.
//!
//! Towards an upstream [`request`] writes a request head, and [`response`] reads a response head and decides how its
//! body ends; towards a client [`request_head`] reads, and [`response_head`] writes. [`chunked`] reads and writes chunked
//! bodies. Nothing here opens a socket, waits or logs.
//!
//! Promises:
//! - What is written can't be split: no CR, LF or NUL reaches the wire but our own line ends, and
//!   a head has exactly one `Host`, if it is a request's, and at most one framing field.
//! - What is read is unambiguous or an error. A message that two parsers could cut at different
//!   places (RFC 9112 §11.1) is never passed on.
//!
//! Left out: hop-by-hop fields (`hop_by_hop`), forwarding fields (`client_ip`), the socket, its
//! deadlines and its reuse (`transport`, `upstream`).

pub mod chunked;
pub(crate) mod decimal;
mod fields;
mod lines;
pub mod refused;
pub mod request;
pub mod request_head;
pub mod response;
pub mod response_head;
